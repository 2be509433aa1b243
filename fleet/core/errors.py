"""One error tree, split by what the caller must do.

FleetError
├── UsageError        the person must change the command or the input      exit 2
├── ParkError         a person must decide or mend something; carries a ParkReason     exit 4
├── RefusedError      the change was refused (gates, policy)               exit 3
├── StoppedError      a person stopped the fleet meanwhile               exit 130
├── TemporaryError    trying again later is right; carries ``retry_after``
│   └── ConflictError somebody else was first (fence, epoch, version, compare-and-swap)
└── InternalError     our own fault, a broken promise                      exit 1

Every message is one clear sentence: what happened, then what to do.
"""

from __future__ import annotations


class FleetError(Exception):
    """Root of all errors that the fleet raises on purpose."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message if not hint else f"{message} {hint}")
        self.message = message
        self.hint = hint


class UsageError(FleetError):
    """The request cannot be carried out as given; nothing was changed."""

    exit_code = 2


class RefusedError(FleetError):
    """The change did not pass."""

    exit_code = 3


class ParkError(FleetError):
    """Work stops until a person mends ``reason`` (a value of ``ParkReason``); nothing is lost."""

    exit_code = 4

    def __init__(self, reason: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.reason = reason


class StoppedError(FleetError):
    """The fleet that was waited for was stopped on purpose; what it works on resumes when it is started again."""

    exit_code = 130


class TemporaryError(FleetError):
    """Trying again after ``retry_after`` seconds is right (None: the caller's own backoff)."""

    def __init__(self, message: str, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


class ConflictError(TemporaryError):
    """Somebody else was first: the epoch, version, fence or remote ref is not what was expected."""


class InternalError(FleetError):
    """A promise inside the fleet was broken; this is a bug."""
