"""Where a repository lives, and with which token it is reached: the local forge, or GitHub.

Repositories of the owner ``local`` lie on the local forge, everything else on the GitHub of the settings.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fleet.adapters.git import HttpToken
from fleet.core.errors import UsageError
from fleet.local import keys

if TYPE_CHECKING:
    from fleet.adapters.forge_client import HubClient
    from fleet.local.wiring import Wiring

LOCAL = "local"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9_.-]{1,100}")


def is_local(repo: str) -> bool:
    return repo.partition("/")[0].lower() == LOCAL


class Forges:
    """Clients, addresses and tokens by repository. Tokens are looked up each time: a later command may bring one."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._clients: dict[tuple[bool, str], HubClient] = {}

    @property
    def web_url(self) -> str:
        """GitHub's address for people, without a final slash."""
        return self._wiring.settings.github.web_url.rstrip("/")

    def token(self, purpose: str) -> str:
        """GitHub's token for ``read`` or ``write``; empty when there is none."""
        return keys.github(self._wiring.home, purpose)

    def client(self, repo: str, purpose: str) -> HubClient:
        """``purpose``: ``read`` or ``write``. Without a token GitHub shows what everybody may read."""
        wiring, local = self._wiring, is_local(repo)
        token = wiring.tokens()[purpose] if local else self.token(purpose)
        key = (local, token)
        if key not in self._clients:
            from fleet.adapters.forge_client import HubClient  # noqa: PLC0415 - most commands never ask a forge
            from fleet.adapters.forge_throttle import Throttle  # noqa: PLC0415

            base = f"{wiring.forge_url}/api/v3" if local else wiring.settings.github.api_url
            # GitHub's limit on writes is one for the whole installation, so all processes share the pace.
            gap = wiring.settings.github.seconds_between_writes
            pace = Throttle(wiring.clock, None if local else wiring.layout.runtime / "github.pace", gap)
            self._clients[key] = HubClient(base, token, wiring.clock, pace)
        return self._clients[key]

    def git_url(self, repo: str) -> str:
        base = self._wiring.forge_url if is_local(repo) else self.web_url
        return f"{base}/{repo}.git"

    def auth(self, repo: str, purpose: str) -> HttpToken | None:
        """What git may send to that forge and nowhere else; None when there is no token."""
        wiring = self._wiring
        if is_local(repo):
            return HttpToken(wiring.forge_url, wiring.tokens()[purpose])
        token = self.token(purpose)
        return HttpToken(f"{self.web_url}/", token) if token else None

    # --- what a person names ---------------------------------------------------------------------------------------
    def named(self, text: str) -> tuple[str, int] | None:
        """(owner/name, issue number or 0) of a URL below GitHub's address, or of ``owner/name``; None for others.

        Raises UsageError for a page of GitHub that is neither a repository nor an issue.
        """
        plain = text.strip().removesuffix("/")
        if plain.startswith(f"{self.web_url}/"):
            path = plain.removeprefix(f"{self.web_url}/").split("#")[0].split("?")[0]
            return self._parts(text, path)
        if "://" not in plain and _NAME.fullmatch(plain) and not plain.startswith("."):
            return self._usable(plain), 0
        return None

    def _parts(self, text: str, path: str) -> tuple[str, int]:
        parts = path.removesuffix(".git").split("/")
        repo = "/".join(parts[:2])
        if len(parts) < 2 or not _NAME.fullmatch(repo):
            raise UsageError(f"{text} is no repository.", f"Give {self.web_url}/OWNER/NAME, or an issue of it.")
        if len(parts) == 2:
            return self._usable(repo), 0
        if len(parts) == 4 and parts[2] == "issues" and parts[3].isdigit():
            return self._usable(repo), int(parts[3])
        what = "a pull request" if parts[2:3] == ["pull"] else "no issue"
        raise UsageError(f"{text} is {what}.", f"Give an issue: {self.web_url}/{repo}/issues/NUMBER.")

    def _usable(self, repo: str) -> str:
        if is_local(repo):
            raise UsageError(
                f"{repo}: the owner “{LOCAL}” stands for the local forge here.",
                "Clone the repository and give the path of the clone.",
            )
        return repo
