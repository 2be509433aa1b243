"""The forge as one ASGI app: API, git and pages behind one check of Host and Origin."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet.core.errors import TemporaryError
from fleet.forge import refs
from fleet.forge.body import read_body
from fleet.forge.deliver import Deliverer
from fleet.forge.errors import ApiError
from fleet.forge.git_http import GitEndpoint
from fleet.forge.rest.dispatch import GRAPHQL_PATH, ROOT, Asked, Reply, serve
from fleet.forge.settings import DROP, ForgeSettings, VerbSeen
from fleet.forge.store import ForgeStore
from fleet.forge.web.site import Site


def create_app(settings: ForgeSettings) -> ASGIApp:
    """The whole forge. Starting it records the base URL, catches up with git, and sends waiting webhooks."""
    deliverer = Deliverer(settings.store)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await run_in_threadpool(_prepare, settings)
        if settings.deliver:
            deliverer.start()
        try:
            yield
        finally:
            if settings.deliver:
                await run_in_threadpool(deliverer.stop)

    api, git, site = _Api(settings), GitEndpoint(settings), Site(settings)
    routes = [
        Route(f"{ROOT}/{{rest:path}}", api.endpoint, methods=["GET", "POST", "PATCH", "PUT", "DELETE"]),
        Route(GRAPHQL_PATH, api.endpoint, methods=["POST"]),
        Route("/{owner}/{repo}.git/info/refs", _Raw(git.advertise), methods=["GET"]),
        Route("/{owner}/{repo}.git/git-upload-pack", _Raw(git.rpc), methods=["POST"]),
        Route("/{owner}/{repo}.git/git-receive-pack", _Raw(git.rpc), methods=["POST"]),
        *site.routes(),
    ]
    inner = Starlette(routes=routes, lifespan=lifespan, exception_handlers={TemporaryError: _unavailable})
    return _Guard(_Wake(_Faulty(inner, settings), deliverer), settings)


def _prepare(settings: ForgeSettings) -> None:
    store: ForgeStore = settings.store
    store.set_base_url(settings.base_url)
    with store.write() as tx:
        for repo in tx.repos():
            owner = tx.user(repo.owner)
            assert owner is not None
            store.bare(repo).ensure(repo.default_branch)
            refs.sync(tx, repo, owner["id"])


async def _unavailable(_: Request, error: Exception) -> Response:
    return PlainTextResponse(f"{error}\n", 503, {"retry-after": "5"})


class _Raw:
    """Marks a plain ASGI function as an endpoint, so that its answer is streamed as it comes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


class _Api:
    """REST and GraphQL over HTTP."""

    def __init__(self, settings: ForgeSettings) -> None:
        self._settings = settings

    async def endpoint(self, request: Request) -> Response:
        try:
            body = await read_body(request, self._settings.max_body)
        except ApiError as error:
            return PlainTextResponse(error.message, error.status)
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = Asked(request.method, request.url.path, dict(request.query_params), headers, body)
        reply: Reply = await run_in_threadpool(serve, self._settings.store, asked, self._settings.anonymous)
        if self._settings.verb_log is not None and reply.verb:
            self._settings.verb_log(VerbSeen(reply.login, reply.verb, reply.repo, reply.status))
        return Response(reply.body, reply.status, reply.headers)


class _Guard:
    """Refuses every request that was not addressed to this forge by its own name, or that another site sent.

    A page of the web can make a browser ask 127.0.0.1 (or a name that resolves to it); the browser then says so in
    Host or Origin. The forge is reached by loopback only.
    """

    def __init__(self, app: ASGIApp, settings: ForgeSettings) -> None:
        self._app = app
        base = urlsplit(settings.base_url)
        port = f":{base.port}" if base.port else ""
        self.hosts = {f"{base.hostname}{port}", f"127.0.0.1{port}", f"localhost{port}"}
        self.origins = {f"{base.scheme}://{host}" for host in self.hosts}

    def refusal(self, headers: dict[bytes, bytes]) -> str:
        """Why a request is refused, or an empty text."""
        if headers.get(b"host", b"").decode("latin-1").lower() not in self.hosts:
            return "This forge does not answer to that Host."
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1").lower() not in self.origins:
            return "This forge does not answer to other sites."
        return ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (why := self.refusal(dict(scope["headers"]))):
            await PlainTextResponse(f"{why}\n", 403)(scope, receive, send)
            return
        await self._app(scope, receive, send)


class _Wake:
    """Lets webhooks go out as soon as a request that may have caused them is answered."""

    def __init__(self, app: ASGIApp, deliverer: Deliverer) -> None:
        self._app = app
        self._deliverer = deliverer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except ClientDisconnect:
            return  # nobody is left to be answered
        finally:
            if scope["type"] == "http" and scope["method"] != "GET":
                self._deliverer.wake()


class _Faulty:
    """Makes requests fail as a test asks: before anything was done, or after all of it is on disk."""

    def __init__(self, app: ASGIApp, settings: ForgeSettings) -> None:
        self._app = app
        self._faults = settings.faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._faults is None:
            await self._app(scope, receive, send)
            return
        before = self._faults("before", scope["method"], scope["path"])
        if before is not None:
            await _fail(before, scope, receive, send)
            return
        sent: list[Message] = []

        async def hold(message: Message) -> None:
            sent.append(message)

        await self._app(scope, receive, hold)
        after = self._faults("after", scope["method"], scope["path"])
        if after is not None:
            await _fail(after, scope, receive, send)
            return
        for message in sent:
            await send(message)


async def _fail(status: int, scope: Scope, receive: Receive, send: Send) -> None:
    if status == DROP:
        # A promised length that never comes: the server closes the connection in the middle of the answer.
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        return
    await PlainTextResponse("fault\n", status)(scope, receive, send)
