"""How an attempt ends, as pure functions: errors to failures, the ledger's view to a reason to stop."""

from __future__ import annotations

from fleet.core.digest import useful
from fleet.core.errors import FleetError, ParkError, RefusedError, TemporaryError, UsageError
from fleet.core.events import AttemptFailed
from fleet.core.retry import FailureClass
from fleet.core.states import State
from fleet.core.view import TicketView

_UNCLAIMED = frozenset({State.BACKING_OFF, State.QUEUED, State.STARTING})
_DETAIL = 1000
_PARKED = {
    "no_sandbox": FailureClass.NO_SANDBOX,
    "budget": FailureClass.BUDGET,
}


def failed(failure: FailureClass, detail: str, digest: str = "", retry_after: float | None = None) -> AttemptFailed:
    """An AttemptFailed within its bounds: one sentence for people, the most useful part of the output for the next."""
    return AttemptFailed(failure, clean(detail)[:_DETAIL], useful(clean(digest)), retry_after)


def failure_of(error: BaseException) -> AttemptFailed:
    """Which failure an error is, by what must be done about it."""
    if isinstance(error, ParkError):
        return failed(_PARKED.get(error.reason, FailureClass.CONFIG), str(error))
    if isinstance(error, TemporaryError):
        return failed(FailureClass.TRANSIENT, str(error), retry_after=error.retry_after)
    if isinstance(error, RefusedError):
        return failed(FailureClass.AGENT_ERROR, str(error))
    if isinstance(error, UsageError):
        return failed(FailureClass.CONFIG, str(error))
    if isinstance(error, OSError):
        return failed(FailureClass.TRANSIENT, str(error) or type(error).__name__)
    if isinstance(error, FleetError):
        return failed(FailureClass.CRASHED, str(error) or type(error).__name__)
    return failed(FailureClass.CRASHED, f"The attempt broke with {type(error).__name__}: {error}")


def died(status: int) -> AttemptFailed:
    """What a loop that ended without a word means. ``status``: its exit code, negative for a signal."""
    if status == 0:
        return failed(FailureClass.PROTOCOL, "The attempt ended without handing anything over.")
    how = f"by signal {-status}" if status < 0 else f"with status {status}"
    return failed(FailureClass.CRASHED, f"The attempt's process ended {how} before it handed anything over.")


def unwanted(view: TicketView | None, attempt: int) -> str | None:
    """Why a live attempt must stop by itself, told by the ledger; None while it is wanted.

    A cut-off attempt works on, and stops when it comes back to a successor, a cancelled ticket, or another ledger.
    """
    if view is None:
        return "the ledger does not know this ticket"
    if attempt == view.late.attempt and view.state in _UNCLAIMED and not view.cancel:
        return None  # lost and back: nobody works in its place yet
    if view.attempt != attempt:
        return f"attempt {view.attempt} took over"
    if view.cancel or view.state is State.CANCELLED:
        return "the ticket was cancelled"
    if view.state not in (State.STARTING, State.RUNNING):
        return f"the ticket is {view.state.value}"
    return None


def clean(text: str) -> str:
    """``text`` without control characters but line ends and tabs: it travels into terminals and pages (I21)."""
    return "".join(c if c in "\n\t" or c.isprintable() else "\ufffd" for c in text)
