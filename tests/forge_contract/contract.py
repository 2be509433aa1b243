"""Requests held against GitHub's published description of its API.

``Contract.against`` is the check; ``Checked`` puts it in front of a forge server, so that every request of the real
adapter in the suite passes it, whichever process it comes from.
"""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

from openapi_schema_validator import OAS30Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FILE = Path(__file__).parents[1] / "data" / "github-openapi.json.gz"
ROOT = "/api/v3"
USER_AGENT = "ticketfleet"
# GitHub's page also describes the bare list, which the library sends; the published schema is only of the object.
BARE_LISTS = frozenset({"issues/add-labels"})


@dataclass(frozen=True)
class Operation:
    name: str
    method: str
    pattern: re.Pattern[str]
    parameters: tuple[dict[str, Any], ...]
    body: dict[str, Any] | None


class Contract:
    """A description with the operations that may be used."""

    def __init__(self, description: dict[str, Any]) -> None:
        self._description = description
        resource = Resource.from_contents({"components": description["components"]}, default_specification=DRAFT202012)
        self._registry: Registry[Any] = Registry().with_resource("", resource)
        # The longest pattern first: {path} may hold slashes. Of two as long the plainer one: `comments` is no number.
        self._operations = sorted(
            self._all(), key=lambda one: (-one.pattern.pattern.replace("[^/]", "").count("/"), one.pattern.groups)
        )

    def against(self, method: str, path: str, query: str, body: bytes) -> list[str]:
        """What GitHub would not understand in this request; ``path`` below the API's root."""
        found = ((one, one.pattern.fullmatch(path)) for one in self._operations if one.method == method.lower())
        operation, match = next(((one, match) for one, match in found if match), (None, None))
        if operation is None or match is None:
            return [f"{method} {path}: no such operation is in the slice"]
        where = f"{operation.name} ({method} {path})"
        parts = {name: unquote(value) for name, value in match.groupdict().items()}
        asked = dict(parse_qsl(query, keep_blank_values=True))
        return [
            f"{where}: {text}" for text in (*self._parameters(operation, parts, asked), *self._body(operation, body))
        ]

    def _parameters(self, operation: Operation, parts: dict[str, str], asked: dict[str, str]) -> list[str]:
        known = {one["name"]: one for one in operation.parameters if one["in"] == "query"}
        said = [f"unknown query {name}={value}" for name, value in asked.items() if name not in known]
        for one in operation.parameters:
            given = (parts if one["in"] == "path" else asked).get(one["name"])
            if one["in"] not in ("path", "query"):
                continue
            if given is None:
                said += [f"{one['name']} is missing"] if one.get("required") else []
            else:
                said += self._errors(one["schema"], _typed(given, self._type(one["schema"])), one["name"])
        return said

    def _body(self, operation: Operation, body: bytes) -> list[str]:
        if operation.body is None:
            return ["a body where none belongs"] if body and body != b"null" else []
        if not body:
            return ["the body is missing"] if operation.body.get("required") else []
        schema = operation.body["content"]["application/json"]["schema"]
        data = json.loads(body)
        if isinstance(data, list) and operation.name in BARE_LISTS:
            return [] if all(isinstance(item, str) for item in data) else ["labels are names"]
        said = self._errors(schema, data, "body")
        if isinstance(data, dict) and "properties" in schema:
            # The schema is open; a name that GitHub does not know would be ignored there without a word.
            said += [f"body has the unknown {name}" for name in data if name not in schema["properties"]]
        return said

    def _errors(self, schema: dict[str, Any], value: Any, name: str) -> list[str]:
        validator = OAS30Validator(schema, registry=self._registry)
        return [f"{name}{error.json_path[1:]}: {error.message}" for error in validator.iter_errors(value)]

    def _type(self, schema: dict[str, Any]) -> str:
        return str(self._resolved(schema).get("type", "string"))

    def _resolved(self, node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            _, _, kind, name = node["$ref"].split("/")
            node = self._description["components"][kind][name]
        return node

    def _all(self) -> list[Operation]:
        made = []
        for path, methods in self._description["paths"].items():
            for method, about in methods.items():
                parameters = tuple(self._resolved(one) for one in about.get("parameters", ()))
                body = self._resolved(about["requestBody"]) if "requestBody" in about else None
                made.append(Operation(about["operationId"], method, _pattern(path, parameters), parameters, body))
        return made


def _pattern(path: str, parameters: tuple[dict[str, Any], ...]) -> re.Pattern[str]:
    long = {one["name"] for one in parameters if one.get("x-multi-segment")}
    return re.compile(re.sub(r"\{(\w+)\}", lambda m: f"(?P<{m[1]}>{'.+' if m[1] in long else '[^/]+'})", path))


def _typed(text: str, kind: str) -> Any:
    if kind == "integer" and text.lstrip("-").isdigit():
        return int(text)
    if kind == "boolean" and text in ("true", "false"):
        return text == "true"
    return text


@cache
def github() -> Contract:
    return Contract(json.loads(gzip.decompress(FILE.read_bytes())))


class Checked:
    """An ASGI application behind the check. Requests of the fleet's own client only; ``wrong`` grows, nothing fails."""

    def __init__(self, app: ASGIApp, wrong: list[str], counts: dict[str, int] | None = None) -> None:
        self._app = app
        self._wrong = wrong
        self._counts = counts if counts is not None else {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(f"{ROOT}/"):
            await self._app(scope, receive, send)
            return
        agent = dict(scope["headers"]).get(b"user-agent", b"").decode("latin-1")
        if not agent.startswith(USER_AGENT):
            await self._app(scope, receive, send)
            return
        body = b""
        heard: list[Message] = []
        while True:
            message = await receive()
            heard.append(message)
            body += message.get("body", b"")
            if message["type"] != "http.request" or not message.get("more_body"):
                break
        path = scope.get("raw_path", scope["path"].encode()).decode("latin-1").split("?")[0].removeprefix(ROOT)
        self._wrong += github().against(scope["method"], path, scope["query_string"].decode("latin-1"), body)
        self._counts[scope["method"]] = self._counts.get(scope["method"], 0) + 1

        async def again() -> Message:
            return heard.pop(0) if heard else await receive()

        await self._app(scope, again, send)
