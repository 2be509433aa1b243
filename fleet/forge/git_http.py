"""Git over smart HTTP: upload-pack and receive-pack as git itself provides them, behind the forge's tokens."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fleet.adapters.git_http import stream_git
from fleet.forge import refs
from fleet.forge.access import READ, WRITE, Caller
from fleet.forge.errors import ApiError, forbidden
from fleet.forge.rest.dispatch import caller, visible_repo
from fleet.forge.settings import ForgeSettings, VerbSeen
from fleet.forge.store import Repo

SERVICES = ("git-upload-pack", "git-receive-pack")
_NO_CACHE = {"cache-control": "no-cache, max-age=0, must-revalidate", "expires": "Fri, 01 Jan 1980 00:00:00 GMT"}


@dataclass(frozen=True, slots=True)
class _Access:
    repo: Repo
    who: Caller


def admit(settings: ForgeSettings, owner: str, name: str, service: str, headers: Mapping[str, str]) -> _Access:
    """Who may use ``service`` on a repository. Raises 401, 404 (also for what may not be seen) or 403."""
    wanted = WRITE if service == "git-receive-pack" else READ
    with settings.store.read() as tx:
        who = caller(tx, headers, settings.anonymous and wanted == READ)
        repo, level = visible_repo(tx, who, owner, name)
    if min(who.scope("contents"), level) < wanted:
        raise forbidden()
    return _Access(repo, who)


class GitEndpoint:
    """ASGI endpoints of ``/<owner>/<name>.git/…``."""

    def __init__(self, settings: ForgeSettings) -> None:
        self._settings = settings

    async def advertise(self, scope: Scope, receive: Receive, send: Send) -> None:
        """``info/refs``: what the repository has."""
        request = Request(scope, receive)
        service = request.query_params.get("service", "")
        if service not in SERVICES:
            await _refuse(ApiError(403, "Please upgrade your git client."))(scope, receive, send)
            return
        access = await self._admitted(request, service, send)
        if access is None:
            return
        head = b"" if "version=2" in _protocol(request) and service == SERVICES[0] else _announce(service)
        argv = self._argv(access, service, "--http-backend-info-refs")
        body = self._run(request, access, argv, _empty())
        await _stream(send, f"application/x-{service}-advertisement", head, body)

    async def rpc(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request of the protocol. After a push, the record follows before the client hears the end."""
        request = Request(scope, receive)
        service = scope["path"].rsplit("/", 1)[-1]
        access = await self._admitted(request, service, send)
        if access is None:
            return
        if request.headers.get("content-type") != f"application/x-{service}-request":
            await _refuse(ApiError(415, "This is not a git request."))(scope, receive, send)
            return
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > self._settings.max_push:
            await _refuse(_too_large())(scope, receive, send)
            return
        incoming = _decoded(request, self._settings.max_push)
        body = self._run(request, access, self._argv(access, service, "--stateless-rpc"), incoming)
        if service == "git-receive-pack":
            body = self._then_sync(access, body)
        try:
            await _stream(send, f"application/x-{service}-result", b"", body)
        except ClientDisconnect:
            return

    async def _admitted(self, request: Request, service: str, send: Send) -> _Access | None:
        parts = request.path_params
        headers = dict(request.headers)
        status, login = 200, ""
        try:
            access = await run_in_threadpool(admit, self._settings, parts["owner"], parts["repo"], service, headers)
            login = access.who.login
            return access
        except ApiError as error:
            status = error.status
            await _refuse(error)(request.scope, request.receive, send)
            return None
        finally:
            if self._settings.verb_log is not None and request.method == "POST":
                verb = "git.push" if service == "git-receive-pack" else "git.fetch"
                self._settings.verb_log(VerbSeen(login, verb, f"{parts['owner']}/{parts['repo']}", status))

    def _argv(self, access: _Access, service: str, mode: str) -> tuple[str, ...]:
        git = self._settings.store.git
        path = self._settings.store.bare(access.repo).path
        # The hook refuses changed workflow files, so it runs exactly for the tokens that may not change them.
        hooks = service == "git-receive-pack" and access.who.scope("workflows") < WRITE
        return git.server_argv(service.removeprefix("git-"), mode, str(path), hooks=hooks)

    def _run(
        self, request: Request, access: _Access, argv: tuple[str, ...], body: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        who = access.who
        extra = {"GIT_COMMITTER_NAME": who.name, "GIT_COMMITTER_EMAIL": who.email, "GIT_HTTP_EXPORT_ALL": "1"}
        if protocol := _protocol(request):
            extra["GIT_PROTOCOL"] = protocol
        env = self._settings.store.git.env(extra)
        return stream_git(argv, cwd=self._settings.store.root, env=env, body=body)

    async def _then_sync(self, access: _Access, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            async with aclosing(body) as chunks:  # type: ignore[type-var]
                async for chunk in chunks:
                    yield chunk
        finally:
            await run_in_threadpool(self._sync, access)

    def _sync(self, access: _Access) -> None:
        with self._settings.store.write() as tx:
            refs.sync(tx, access.repo, access.who.user_id)


def _protocol(request: Request) -> str:
    asked = request.headers.get("git-protocol", "")
    return asked if len(asked) < 100 and all(c.isalnum() or c in "=:._-" for c in asked) else ""


def _announce(service: str) -> bytes:
    line = f"# service={service}\n".encode()
    return b"%04x" % (len(line) + 4) + line + b"0000"


def _refuse(error: ApiError) -> Response:
    headers = {"www-authenticate": 'Basic realm="forge"'} if error.status == 401 else {}
    said = "Repository not found." if error.status == 404 else error.message
    return Response(f"{said}\n", error.status, headers, "text/plain")


def _too_large() -> ApiError:
    return ApiError(413, "The push is too large for this forge.")


async def _empty() -> AsyncIterator[bytes]:
    nothing: tuple[bytes, ...] = ()
    for chunk in nothing:
        yield chunk


async def _decoded(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The request body; gzip is undone piece by piece. Raises ApiError 413 past ``limit`` bytes."""
    unzip = zlib.decompressobj(31) if request.headers.get("content-encoding") in ("gzip", "x-gzip") else None
    size = 0
    async for chunk in request.stream():
        for piece in _inflate(unzip, chunk) if unzip else (chunk,):
            size += len(piece)
            if size > limit:
                raise _too_large()
            yield piece


def _inflate(unzip: zlib._Decompress, chunk: bytes) -> list[bytes]:
    pieces = []
    while chunk:
        pieces.append(unzip.decompress(chunk, 1 << 20))
        chunk = unzip.unconsumed_tail
    return pieces


async def _stream(send: Send, kind: str, head: bytes, body: AsyncIterator[bytes]) -> None:
    headers = {"content-type": kind, **_NO_CACHE}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 200, "headers": raw})
    if head:
        await send({"type": "http.response.body", "body": head, "more_body": True})
    async with aclosing(body) as chunks:  # type: ignore[type-var]
        async for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
