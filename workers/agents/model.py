"""What a built-in agent needs of a model: one call at a time through the gateway, in one vendor's format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

import httpx2

from fleet.core.budget import Cost
from fleet.core.retry import FailureClass
from workers.agents.conversation import Entry, Reply

# The gateway gives up first, with a sentence; this is only the last resort.
CALL_S = 1200.0
HOST = "http://gateway"


class Trouble(Enum):
    """Why a call failed, by what to do about it."""

    AGAIN = "again"  # the same call may succeed soon
    WAIT = "wait"  # the provider asked for a pause
    TOO_LONG = "too_long"  # the conversation does not fit
    END = "end"  # this attempt cannot go on


class ModelError(Exception):
    """``failure`` is what the attempt ends with when nothing helps; ``retry_after`` in seconds."""

    def __init__(self, trouble: Trouble, failure: FailureClass, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.trouble = trouble
        self.failure = failure
        self.message = message
        self.retry_after = retry_after


class Model(Protocol):
    """One vendor's API. ``ask`` blocks; it is called from one thread at a time."""

    name: str

    def ask(self, entries: Sequence[Entry], client: httpx2.Client, key: str) -> Reply:
        """Raises ModelError."""
        ...


@dataclass(frozen=True, slots=True)
class Access:
    """The way to the gateway. A client holds one connection, so that closing it ends the call under way."""

    socket: Path
    key: str

    def client(self) -> httpx2.Client:
        transport = httpx2.HTTPTransport(uds=str(self.socket))
        return httpx2.Client(transport=transport, timeout=httpx2.Timeout(CALL_S, connect=10.0), trust_env=False)

    def spent(self) -> Cost | None:
        """What this attempt has spent, as the gateway counts; None when it does not answer."""
        try:
            with self.client() as client:
                answer = client.get(f"{HOST}/spend", headers={"x-api-key": self.key}, timeout=20.0)
            if answer.status_code != 200:
                return None
            told: Mapping[str, Any] = answer.json()["attempt"]
        except (httpx2.HTTPError, ValueError, KeyError):
            return None
        return Cost(
            usd=float(told["usd"]),
            input_tokens=int(told["input_tokens"]) + int(told["cached_tokens"]),
            output_tokens=int(told["output_tokens"]),
            model_calls=int(told["model_calls"]),
            unknown=bool(told["unknown"]),
        )


def difference(now: Cost, before: Cost) -> Cost:
    """What was spent since ``before``."""
    return Cost(
        max(0.0, now.usd - before.usd),
        max(0, now.input_tokens - before.input_tokens),
        max(0, now.output_tokens - before.output_tokens),
        max(0, now.model_calls - before.model_calls),
        now.unknown,
    )


# The gateway's own refusals, by its header.
_REFUSED = {
    "budget": FailureClass.BUDGET,
    "calls": FailureClass.BUDGET,
    "tokens": FailureClass.BUDGET,
    "soft": FailureClass.BUDGET,
    "tenant": FailureClass.PROVIDER_LIMIT,
    "day": FailureClass.PROVIDER_LIMIT,
    "fleet": FailureClass.BUDGET,
    "no_key": FailureClass.CONFIG,
    "unknown_price": FailureClass.CONFIG,
    "closed": FailureClass.CANCELLED,
}
_BUSY = frozenset({429, 529})
_CONFIG = frozenset({401, 403, 404})
_LONG = ("too long", "context length", "context window", "maximum context", "too many tokens")


def error_of(status: int, headers: Mapping[str, str], message: str) -> ModelError:
    """What an answer with an error status means; 0 for no answer at all."""
    refused = headers.get("x-fleet-refused", "")
    message = " ".join(message.split())[:500]
    if refused in _REFUSED:
        return ModelError(Trouble.END, _REFUSED[refused], message, _seconds(headers))
    if status in _BUSY:
        return ModelError(Trouble.WAIT, FailureClass.PROVIDER_LIMIT, message, _seconds(headers))
    if refused == "bytes" or status == 413 or (status == 400 and any(word in message.lower() for word in _LONG)):
        return ModelError(Trouble.TOO_LONG, FailureClass.AGENT_ERROR, message)
    if status in _CONFIG:
        hints = {401: "Check the key.", 403: "Check what the key may do.", 404: "Check the name of the model."}
        return ModelError(Trouble.END, FailureClass.CONFIG, f"The provider refused the call: {message} {hints[status]}")
    if 400 <= status < 500 and status not in (408, 409):
        return ModelError(Trouble.END, FailureClass.AGENT_ERROR, f"The provider refused the call: {message}")
    sentence = f"The model did not answer: {message.rstrip('.')}. If it stays so, check the network and the address."
    return ModelError(Trouble.AGAIN, FailureClass.TRANSIENT, sentence, _seconds(headers))


def said(body: object, otherwise: str) -> str:
    """The sentence in an error's body, which both vendors shape alike; ``otherwise`` when there is none."""
    inner = body.get("error", body) if isinstance(body, Mapping) else None
    message = inner.get("message") if isinstance(inner, Mapping) else None
    return message if isinstance(message, str) and message else otherwise


def unreadable(error: Exception) -> ModelError:
    """For what came instead of an answer: a stream that was cut, or something that is no answer of a model."""
    return error_of(0, {}, f"what came is cut off, or no answer of a model ({type(error).__name__}: {error})")


def _seconds(headers: Mapping[str, str]) -> float | None:
    try:
        return max(0.0, float(headers.get("retry-after", "")))
    except ValueError:
        return None
