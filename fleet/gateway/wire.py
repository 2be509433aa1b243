"""What the gateway must understand of the providers' APIs: the limits in a request, the usage in an answer. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from fleet.core.errors import UsageError
from fleet.core.spend import Refusal, Usage

# Without a limit of its own a call could answer anything, so it gets one: a reservation must have an end.
MOST_OUTPUT = 16_384


class Api(Enum):
    """Wire formats, by the path below the provider."""

    MESSAGES = "anthropic/messages"
    RESPONSES = "openai/responses"
    CHAT = "openai/chat/completions"


_LIMITS = {
    Api.MESSAGES: ("max_tokens",),
    Api.RESPONSES: ("max_output_tokens",),
    Api.CHAT: ("max_completion_tokens", "max_tokens"),
}


@dataclass(frozen=True, slots=True)
class Route:
    """``upstream`` is the path below the provider's base URL. ``api`` says how to read request and answer."""

    provider: str
    api: Api
    upstream: str


def route(path: str) -> Route | None:
    """``/anthropic/v1/messages``, ``/openai/v1/responses``, ``/openai/v1/chat/completions``, or the same below
    ``/rehearsal``; None for anything else."""
    parts = path.strip("/").split("/")
    provider = parts[0]
    if provider == "rehearsal":
        parts = parts[1:]
    if len(parts) < 3 or parts[1] != "v1":
        return None
    known = {f"{parts[0]}/{'/'.join(parts[2:])}"}
    api = next((one for one in Api if one.value in known), None)
    if api is None:
        return None
    below = "/".join(parts[1:])
    return Route(provider, api, f"{parts[0]}/{below}" if provider == "rehearsal" else below)


@dataclass(frozen=True, slots=True)
class Call:
    """A request as it will be sent. ``most_output`` in tokens."""

    model: str
    most_output: int
    stream: bool
    body: bytes


def read_call(api: Api, body: bytes) -> Call:
    """The call with a limit on its output, and with its usage in the stream. Raises UsageError for what is none."""
    try:
        asked = json.loads(body)
    except ValueError as error:
        raise UsageError("The body of the call is no JSON.") from error
    if not isinstance(asked, dict) or not isinstance(asked.get("model"), str) or not asked["model"]:
        raise UsageError("The call names no model.")
    limits = [asked[name] for name in _LIMITS[api] if asked.get(name) is not None]
    if any(not isinstance(limit, int) or isinstance(limit, bool) or limit < 1 for limit in limits):
        raise UsageError(f"{_LIMITS[api][0]} must be a whole number above 0.")
    most = min(limits) if limits else MOST_OUTPUT
    if not limits:
        asked[_LIMITS[api][0]] = most
    stream = asked.get("stream") is True
    if api is Api.CHAT and stream:
        asked["stream_options"] = {**(asked.get("stream_options") or {}), "include_usage": True}
    n = asked.get("n", 1)
    if api is Api.CHAT and n != 1:
        raise UsageError("n must be 1: each answer would be paid for.")
    return Call(asked["model"], most, stream, json.dumps(asked, separators=(",", ":")).encode())


def usage_of(api: Api, answer: Any) -> Usage:
    """The usage that an answer, or one event of a stream, tells; all zero when it tells none."""
    if not isinstance(answer, Mapping):
        return Usage()
    for inner in (answer, answer.get("message"), answer.get("response")):
        told = inner.get("usage") if isinstance(inner, Mapping) else None
        if isinstance(told, Mapping):
            return _anthropic(told) if api is Api.MESSAGES else _openai(told)
    return Usage()


def _anthropic(told: Mapping[str, Any]) -> Usage:
    return Usage(
        input_tokens=_count(told, "input_tokens"),
        output_tokens=_count(told, "output_tokens"),
        cached_tokens=_count(told, "cache_read_input_tokens"),
        written_tokens=_count(told, "cache_creation_input_tokens"),
    )


def _openai(told: Mapping[str, Any]) -> Usage:
    """Both APIs count cached tokens among the input; here they are apart."""
    every = _count(told, "input_tokens") or _count(told, "prompt_tokens")
    details = told.get("input_tokens_details") or told.get("prompt_tokens_details") or {}
    cached = min(every, _count(details, "cached_tokens")) if isinstance(details, Mapping) else 0
    return Usage(every - cached, _count(told, "output_tokens") or _count(told, "completion_tokens"), cached)


def _count(told: Mapping[str, Any], name: str) -> int:
    value = told.get(name)
    return value if isinstance(value, int) and value > 0 else 0


class StreamReader:
    """Follows a stream of server-sent events as it passes by, whatever the chunks are cut like."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._rest = b""
        self._said = 0
        self.usage = Usage()

    def feed(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:].strip())

    def settled(self) -> Usage:
        """What was used as far as can be known: what was told, and never less than what was seen to arrive."""
        return self.usage.most(Usage(output_tokens=-(-self._said // 3)))

    def _event(self, raw: bytes) -> None:
        try:
            event = json.loads(raw)
        except ValueError:
            return
        self.usage = self.usage.most(usage_of(self._api, event))
        if isinstance(event, Mapping):
            self._said += _text_bytes(event)


def _text_bytes(event: Mapping[str, Any]) -> int:
    """Bytes of text, thought or tool input that one event brought."""
    delta = event.get("delta")
    if isinstance(delta, str):
        return len(delta.encode())
    parts: list[Any] = [delta]
    choices = event.get("choices")
    if isinstance(choices, list):
        parts += [choice.get("delta") for choice in choices if isinstance(choice, Mapping)]
    return sum(_strings(part) for part in parts)


def _strings(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, Mapping):
        return sum(_strings(one) for name, one in value.items() if name not in ("type", "id", "role", "index"))
    if isinstance(value, list):
        return sum(_strings(one) for one in value)
    return 0


_STATUS = {Refusal.PARKED: 429, Refusal.NO_KEY: 401, Refusal.CLOSED: 403, Refusal.BYTES: 413}
_KINDS = {401: "authentication_error", 403: "permission_error", 413: "request_too_large", 429: "rate_limit_error"}


def refusal_status(refusal: Refusal) -> int:
    return _STATUS.get(refusal, 402)


def error_body(api: Api, status: int, message: str) -> dict[str, Any]:
    """An error in the provider's own shape, so that its SDK reads it."""
    kind = _KINDS.get(status, "invalid_request_error" if status < 500 else "api_error")
    inner: dict[str, Any] = {"type": kind, "message": message}
    if api is Api.MESSAGES:
        return {"type": "error", "error": inner}
    return {"error": {**inner, "param": None, "code": kind}}
