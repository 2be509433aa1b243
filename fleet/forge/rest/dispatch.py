"""From an HTTP request below the API's root to an HTTP answer: token, permission, transaction, paging, ETag."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from fleet.forge.access import Caller, caller_of, digest, level_of, nobody
from fleet.forge.errors import ApiError, bad_token, custom, forbidden, no_token, not_found
from fleet.forge.rest import pulls
from fleet.forge.rest.call import Answer, Call, Listing
from fleet.forge.rest.table import ALSO_PULLS, GRAPHQL, Verb, find
from fleet.forge.store import ForgeStore, Repo, Tx

ROOT = "/api/v3"
GRAPHQL_PATH = "/api/graphql"
_PER_PAGE = 30
_MOST_PER_PAGE = 100


@dataclass(frozen=True, slots=True)
class Asked:
    """An HTTP request, without the HTTP. Header names are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    verb: str = ""
    login: str = ""
    repo: str = ""


def token_of(headers: Mapping[str, str]) -> str | None:
    """The secret of ``Authorization``: token, Bearer, or the password of Basic. Raises 401 on anything else."""
    kind, _, value = headers.get("authorization", "").strip().partition(" ")
    if not kind:
        return None
    if kind.lower() in ("token", "bearer"):
        return value.strip()
    if kind.lower() == "basic":
        try:
            user, _, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise bad_token() from None
        return password if password and password != "x-oauth-basic" else user
    raise bad_token()


def caller(tx: Tx, headers: Mapping[str, str], anonymous: bool = False) -> Caller:
    """Who asks. Raises 401; without a token only unless ``anonymous``."""
    secret = token_of(headers)
    if secret is None and anonymous:
        return nobody()
    if secret is None:
        raise no_token()
    found = caller_of(tx.rows, digest(secret))
    if found is None:
        raise bad_token()
    return found


def visible_repo(tx: Tx, who: Caller, owner: str, name: str) -> tuple[Repo, int]:
    """The repository and the caller's level on it. Raises 404 also for what it may not see."""
    repo = tx.repo(owner, name)
    level = 0 if repo is None else level_of(tx.rows, repo.id, repo.full_name, who)
    if repo is None or level == 0:
        raise not_found()
    return repo, level


def serve(store: ForgeStore, asked: Asked, anonymous: bool = False) -> Reply:
    """Answers one call. A write is on disk before this returns."""
    known: dict[str, str] = {}
    try:
        if asked.path == GRAPHQL_PATH and asked.method == "POST":
            verb, parts = GRAPHQL, dict[str, str]()
        else:
            found = find(asked.method, asked.path.removeprefix(ROOT))
            if found is None:
                _authenticated_only(store, asked)
                raise not_found()
            verb, parts = found
        known["verb"] = verb.name
        with store.read() if asked.method == "GET" else store.write() as tx:
            return _answer(tx, verb, parts, asked, known, anonymous)
    except ApiError as error:
        return _reply(asked, error.status, error.body(), known)
    except sqlite3.IntegrityError:
        # The tables' own rules are the last guard of uniqueness; the handlers' checks only give better words.
        return _reply(asked, 422, custom("Resource", "It already exists.").body(), known)


def _authenticated_only(store: ForgeStore, asked: Asked) -> None:
    with store.read() as tx:
        caller(tx, asked.headers)


def _answer(tx: Tx, verb: Verb, parts: dict[str, str], asked: Asked, known: dict[str, str], anonymous: bool) -> Reply:
    # What is nobody's repository is somebody's account: that needs to know whose.
    who = caller(tx, asked.headers, anonymous and "owner" in parts)
    known["login"] = who.login
    repo, level = None, 0
    if "owner" in parts:
        repo, level = visible_repo(tx, who, parts["owner"], parts["repo"])
        known["repo"] = repo.full_name
        _check_scope(tx, verb, parts, repo, who)
        if level < verb.role:
            raise forbidden()
    body = _json(asked.body)
    if verb is GRAPHQL:
        known["verb"] = f"graphql.{pulls.mutation_name(body) or 'unknown'}"
    resource = verb.name.partition(".")[0].capitalize().replace("Pull", "PullRequest")
    call = Call(tx, who, parts, asked.query, body, level, repo, resource)
    result = verb.handler(call)
    if isinstance(result, Listing):
        return _page(tx, asked, result, known)
    if isinstance(result, Answer):
        return _reply(asked, result.status, result.data, known)
    return _reply(asked, 200, result, known)


def _check_scope(tx: Tx, verb: Verb, parts: dict[str, str], repo: Repo, who: Caller) -> None:
    if who.scope(verb.scope) >= verb.needs:
        return
    if verb.name in ALSO_PULLS and who.scope("pull_requests") >= verb.needs and _about_pull(tx, parts, repo):
        return
    raise forbidden()


def _about_pull(tx: Tx, parts: dict[str, str], repo: Repo) -> bool:
    if "number" in parts:
        sql, key = "SELECT is_pull FROM issues WHERE repo_id = ? AND CAST(number AS TEXT) = ?", parts["number"]
    elif "id" in parts:
        sql = (
            "SELECT i.is_pull FROM comments c JOIN issues i ON i.id = c.issue_id"
            " WHERE i.repo_id = ? AND CAST(c.id AS TEXT) = ?"
        )
        key = parts["id"]
    else:
        return True
    row = tx.rows.one(sql, repo.id, key)
    return row is not None and bool(row["is_pull"])


def _json(body: bytes) -> Any:
    if not body.strip():
        return None
    try:
        data = json.loads(body)
        json.dumps(data, ensure_ascii=False).encode()  # a lone surrogate is no text and could not be stored
        return data
    except (ValueError, RecursionError):
        raise ApiError(400, "Problems parsing JSON") from None


def _int(text: str, default: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else default


def _page(tx: Tx, asked: Asked, listing: Listing, known: dict[str, str]) -> Reply:
    size = min(max(_int(asked.query.get("per_page", ""), _PER_PAGE), 1), _MOST_PER_PAGE)
    page = max(_int(asked.query.get("page", ""), 1), 1)
    total = len(listing.rows)
    last = max(1, -(-total // size))
    data: Any = [listing.render(row) for row in listing.rows[(page - 1) * size : page * size]]
    if listing.wrap:
        data = {"total_count": total, listing.wrap: data}
    links = {"prev": page - 1, "first": 1} if page > 1 else {}
    links |= {"next": page + 1, "last": last} if page < last else {}

    def link(number: int) -> str:
        return f"{tx.base}{asked.path}?{urlencode({**asked.query, 'per_page': size, 'page': number})}"

    joined = ", ".join(f'<{link(number)}>; rel="{rel}"' for rel, number in links.items())
    return _reply(asked, 200, data, known, {"link": joined} if joined else {})


def _reply(
    asked: Asked, status: int, data: Any, known: Mapping[str, str], headers: Mapping[str, str] | None = None
) -> Reply:
    body = b"" if status in (204, 304) else json.dumps(data, separators=(",", ":")).encode()
    out = {"content-type": "application/json; charset=utf-8", "x-github-media-type": "github.v3", **(headers or {})}
    if status == 401:
        out["www-authenticate"] = 'Basic realm="forge"'
    if asked.method == "GET" and status == 200:
        out["etag"] = f'W/"{hashlib.sha256(body).hexdigest()}"'
        out["cache-control"] = "private, max-age=0"
        if asked.headers.get("if-none-match") == out["etag"]:
            status, body = 304, b""
    return Reply(status, body, out, known.get("verb", ""), known.get("login", ""), known.get("repo", ""))
