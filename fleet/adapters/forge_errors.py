"""What an error of the forge means for the caller: wait, mend the set-up, or change the request. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleet.core.errors import ConflictError, FleetError, InternalError, ParkError, TemporaryError, UsageError

_MOST = 300


def error_for(status: int, data: Any, headers: Mapping[str, str] | None, what: str, now: float) -> FleetError:
    """The error for an answer with ``status``. ``what`` completes "The forge … while <what>". ``now``: Unix seconds."""
    said = _message(data)
    low = {key.lower(): value for key, value in (headers or {}).items()}
    if status == 429 or (status == 403 and ("rate limit" in said.lower() or "retry-after" in low)):
        return TemporaryError(f"The forge asks for a pause while {what}: {said}", retry_after=_pause(low, now))
    if status == 401:
        return ParkError(
            "config", f"The forge does not accept the fleet's token while {what}: {said}", "Give it a valid token."
        )
    if status == 403:
        return ParkError(
            "config", f"The fleet's token may not do this while {what}: {said}", "Give the token this permission."
        )
    if status == 404:
        return UsageError(
            f"The forge found nothing while {what}: it does not exist, or the token may not see it.",
            "Check the name and the token's access.",
        )
    if status == 409:
        return ConflictError(f"The forge was changed by somebody else while {what}: {said}")
    if status in (400, 405, 410, 422):
        return UsageError(f"The forge refused the request while {what}: {said}")
    if status >= 500:
        return TemporaryError(f"The forge failed with status {status} while {what}.", retry_after=_retry_after(low))
    return InternalError(f"The forge answered with the unknown status {status} while {what}: {said}")


def _message(data: Any) -> str:
    """GitHub's message and its details, printable and short."""
    if not isinstance(data, Mapping):
        return _plain(str(data or "no reason given"))
    parts = [str(data.get("message") or "no reason given")]
    errors = data.get("errors")
    for error in errors if isinstance(errors, list) else []:
        if isinstance(error, Mapping):
            parts.append(str(error.get("message") or f"{error.get('field', '')} {error.get('code', '')}".strip()))
        else:
            parts.append(str(error))
    return _plain("; ".join(parts))


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:_MOST]


def _retry_after(low: Mapping[str, str]) -> float | None:
    value = low.get("retry-after", "")
    return float(value) if value.isdigit() else None


def _pause(low: Mapping[str, str], now: float) -> float:
    """Seconds until the forge wants to hear from us again; a minute when it does not say."""
    told = _retry_after(low)
    if told is not None:
        return told
    reset = low.get("x-ratelimit-reset", "")
    if low.get("x-ratelimit-remaining") == "0" and reset.isdigit():
        return max(1.0, float(reset) - now + 1.0)
    return 60.0
