"""The pages' routes: sessions, forms and errors around the views."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from fleet.forge.body import read_body
from fleet.forge.errors import ApiError
from fleet.forge.settings import ForgeSettings, VerbSeen
from fleet.forge.web import actions, views
from fleet.forge.web.markdown import render
from fleet.forge.web.session import Reader, Sessions
from fleet.forge.web.view import Page, View
from fleet.forge.web.visible import marked, plain

_HERE = Path(__file__).resolve().parent.parent
SECURITY = {
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_PAGES: tuple[tuple[str, Callable[[View], Page]], ...] = (
    ("/", views.home),
    ("/{owner}/{repo}", views.repo),
    ("/{owner}/{repo}/issues", views.issues),
    ("/{owner}/{repo}/issues/new", views.new_issue),
    ("/{owner}/{repo}/issues/{number}", views.issue),
    ("/{owner}/{repo}/pulls", views.pulls),
    ("/{owner}/{repo}/pull/{number}", views.pull),
    ("/{owner}/{repo}/pull/{number}/{tab}", views.pull),
    ("/{owner}/{repo}/commit/{sha}", views.commit),
)


def environment() -> Environment:
    """Templates with everything escaped."""
    env = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update(
        marked=marked, plain=plain, markdown=render, when=views.when, url=lambda text: quote(text, safe="")
    )
    return env


class Site:
    """All pages for people."""

    def __init__(self, settings: ForgeSettings) -> None:
        self._settings = settings
        self._sessions = Sessions(settings)
        self._env = environment()
        self._css = (_HERE / "static" / "forge.css").read_bytes()

    def routes(self) -> list[Route]:
        pages = [Route(path, self._page(view), methods=["GET", "POST"]) for path, view in _PAGES]
        return [Route("/static/forge.css", self._style, methods=["GET"]), *pages]

    async def _style(self, _: Request) -> Response:
        return Response(self._css, 200, SECURITY | {"cache-control": "max-age=300"}, "text/css")

    def _page(self, view: Callable[[View], Page]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            try:
                form = await self._form(request)
                return await run_in_threadpool(self._answer, view, request, form)
            except ApiError as error:
                return self._problem(error.status, _sentence(error))

        return endpoint

    async def _form(self, request: Request) -> dict[str, str]:
        if request.method != "POST":
            return {}
        body = (await read_body(request, self._settings.max_body)).decode("utf-8", "replace")
        return {name: values[-1] for name, values in parse_qs(body, keep_blank_values=True, max_num_fields=50).items()}

    def _answer(self, view: Callable[[View], Page], request: Request, form: dict[str, str]) -> Response:
        if request.method == "GET" and "token" in request.query_params:
            return self._enter(request)
        acting = request.method == "POST"
        store = self._settings.store
        with store.write() if acting else store.read() as tx:
            reader = self._sessions.reader(tx, request)
            if reader is None:
                return self._problem(401, "Run `fleet open` to get a link with a token for these pages.")
            asked = View(tx, reader.caller, dict(request.path_params), dict(request.query_params))
            if acting:
                self._sessions.check_form(request, reader, form.get("csrf", ""))
                where = actions.act(asked, form)
                self._log(reader, request, form)
                return RedirectResponse(where, 303, SECURITY)
            return self._show(view(asked), reader)

    def _log(self, reader: Reader, request: Request, form: dict[str, str]) -> None:
        if self._settings.verb_log is not None:
            name = f"{request.path_params.get('owner', '')}/{request.path_params.get('repo', '')}"
            self._settings.verb_log(VerbSeen(reader.caller.login, f"page.{form.get('action', '')}", name, 303))

    def _enter(self, request: Request) -> Response:
        secret = self._sessions.enter(request.query_params["token"])
        if secret is None:
            return self._problem(401, "This link is not valid any more. Run `fleet open` to get a new one.")
        rest = [(name, value) for name, value in request.query_params.multi_items() if name != "token"]
        # A path that began with two slashes would be another site's address.
        where = "/" + request.url.path.lstrip("/") + (f"?{urlencode(rest)}" if rest else "")
        response = RedirectResponse(where, 303, SECURITY)
        self._sessions.set_cookie(response, secret)
        return response

    def _show(self, page: Page, reader: Reader) -> Response:
        if page.redirect:
            return RedirectResponse(page.redirect, 303, SECURITY)
        html = self._env.get_template(page.template).render(**page.data, me=reader.caller.login, csrf=reader.csrf)
        return Response(html.encode("utf-8", "replace"), 200, SECURITY, "text/html")

    def _problem(self, status: int, message: str) -> Response:
        html = self._env.get_template("problem.html").render(status=status, message=message, me="", title="Forge")
        return Response(html.encode("utf-8", "replace"), status, SECURITY, "text/html")


def _sentence(error: ApiError) -> str:
    details = [str(one["message"]) for one in error.errors or () if "message" in one]
    fields = [f"{one['field']} is {one['code']}" for one in error.errors or () if "field" in one]
    return ". ".join([error.message, *details, *fields])
