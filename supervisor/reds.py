"""Changes whose gates were red already: the same tree is not gated again, and its agent is told so. Pure.

Counted per gate and tree, so that only another tree, or a person who asks for another try, is new evidence.
"""

from __future__ import annotations

from fleet.core.events import StateChanged
from fleet.core.states import Reason, State
from fleet.core.view import GateSummary, TicketView
from supervisor.decision import Decision, Moment, end, return_slot, used_up
from supervisor.policy import Policy
from supervisor.route import passed_on

RED = frozenset({"failed", "timed_out"})
PREFIX = "red:"
ADVICE = "advice only"


def red_gates(view: TicketView) -> tuple[GateSummary, ...]:
    """Those that refused the change; what only advises counts when nothing else was red."""
    red = tuple(gate for gate in view.gates if gate.outcome in RED)
    return tuple(gate for gate in red if not gate.summary.startswith(ADVICE)) or red


def causes(view: TicketView) -> frozenset[str]:
    """The names under which a red verdict on the view's change is counted."""
    if view.change is None:
        return frozenset()
    gates = [gate.name for gate in red_gates(view)] or known(view) or ["verdict"]
    return frozenset(f"{_key(view.change.tree)}{name}" for name in gates)


def known(view: TicketView) -> list[str]:
    """Gates that were red on exactly the tree that was handed over now."""
    if view.change is None:
        return []
    key = _key(view.change.tree)
    return [cause.removeprefix(key) for cause, _ in view.failures if cause.startswith(key)]


def unchanged(view: TicketView, moment: Moment, policy: Policy) -> Decision | None:
    """What follows from a change that is known to be red; None for a new one, which is to be gated."""
    gates = known(view)
    if not gates or view.change is None:
        return None
    times = max(view.failed(f"{_key(view.change.tree)}{name}") for name in gates) + 1
    names = ", ".join(gates)
    said = f"The same change failed before ({names}), so it was not checked again. Change something else."
    onward = passed_on(view, Reason.GATES_RED, said, moment, policy, return_slot(view), over=_rounds_over(view))
    if onward is not None:
        return onward
    if used_up(view) or _rounds_over(view):
        poison = (
            f"The agent handed over the same change {times} times, and on it this is red: {names}. Look at what the "
            "gate says: if the gate is wrong, mend it on the base branch; if the issue leaves something open, say it "
            "with `fleet steer`. Then `fleet retry`."
        )
        return end(view, State.ESCALATED, Reason.POISON, poison)
    return Decision(StateChanged(State.BACKING_OFF, Reason.GATES_RED, said, moment.now), return_slot(view))


def _rounds_over(view: TicketView) -> bool:
    return view.failed(Reason.GATES_RED.value) + 1 >= view.ticket.limits.gate_rounds


def _key(tree: str) -> str:
    return f"{PREFIX}{tree[:16]}:"
