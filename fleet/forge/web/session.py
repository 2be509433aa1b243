"""Who reads the pages: a token printed in a link becomes a session cookie; forms carry a token against forgery."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from fleet.forge.access import READ, Caller, caller_of, digest
from fleet.forge.errors import ApiError
from fleet.forge.settings import ForgeSettings
from fleet.forge.store import Tx


@dataclass(frozen=True, slots=True)
class Reader:
    """A person with a session. ``csrf`` must come back with every form."""

    caller: Caller
    csrf: str


class Sessions:
    """Sessions live in the store, as digests; they end when their token is revoked."""

    def __init__(self, settings: ForgeSettings) -> None:
        self._settings = settings
        # Cookies do not know ports: without it two forges on one machine would share one name.
        self._cookie = f"forge_{urlsplit(settings.base_url).port or 80}"

    def enter(self, token: str) -> str | None:
        """A new session for a token with the pages scope; None for any other."""
        with self._settings.store.write() as tx:
            caller = caller_of(tx.rows, digest(token))
            if caller is None or caller.scope("pages") < READ:
                return None
            secret = self._settings.store.ids.token(24)
            tx.rows.run("INSERT INTO sessions VALUES (?, ?, ?)", digest(secret), caller.token, tx.now)
        return secret

    def set_cookie(self, response: Response, secret: str) -> None:
        response.set_cookie(self._cookie, secret, path="/", httponly=True, samesite="strict")

    def reader(self, tx: Tx, request: Request) -> Reader | None:
        """Who holds the cookie of this request."""
        secret = request.cookies.get(self._cookie, "")
        row = tx.rows.one("SELECT token FROM sessions WHERE digest = ?", digest(secret)) if secret else None
        caller = None if row is None else caller_of(tx.rows, row["token"])
        if caller is None or caller.scope("pages") < READ:
            return None
        return Reader(caller, hashlib.sha256(f"csrf:{secret}".encode()).hexdigest())

    def check_form(self, request: Request, reader: Reader, sent: str) -> None:
        """Raises 403 unless the form came from one of the forge's own pages of this session."""
        if request.headers.get("origin") is None or not hmac.compare_digest(sent.encode(), reader.csrf.encode()):
            raise ApiError(403, "This form is not from a page of this forge. Reload the page and try again.")
