"""The ladder against a stall, as decisions: each step told to the attempt, and its end waited for. Pure."""

from __future__ import annotations

from fleet.core.commands import CommandKind
from fleet.core.events import Rung
from fleet.core.states import Reason
from fleet.core.view import TicketView
from supervisor.decision import Decision, Moment, Order, tell
from supervisor.policy import Policy
from supervisor.retries import again
from supervisor.stall import next_rung

_TOLD_BY = {
    Rung.PROBE: CommandKind.PROBE,
    Rung.NUDGE: CommandKind.NUDGE,
    Rung.INTERRUPT: CommandKind.INTERRUPT,
    Rung.STOP: CommandKind.CHECKPOINT,
}


def climb(view: TicketView, moment: Moment, policy: Policy) -> Decision | None:
    """The step to take now; None while all is well or the last one still has time to help."""
    nudge = next_rung(view, moment.quiet, policy)
    if nudge is None:
        return None
    text = f"it stalled ({nudge.cause})" if nudge.rung is Rung.STOP else nudge.text
    # The id must differ from that of an earlier streak, and be the same however often this is decided.
    return Decision(nudge, (Order(tell(view, _TOLD_BY[nudge.rung], text, view.version)),))


def stopped(view: TicketView, moment: Moment, policy: Policy) -> Decision | None:
    """After the last step: the successor comes when the guard has seen everything dead, so that no two agents live.

    A guard that does not say so within ``stop_within`` is not waited for: its attempt is fenced by its number.
    """
    sure = bool(view.news.stopped) and view.news.left == 0
    if not sure and moment.quiet.rung <= policy.stop_within:
        return None
    sign = f" Asked for a sign, its guard had said: {view.watch.sign}." if view.watch.sign else ""
    doubt = "" if sure else f" That it ended was not confirmed within {policy.stop_within:g} s."
    return again(view, Reason.STALLED, f"{view.watch.stopping}{sign}{doubt}", moment, policy)
