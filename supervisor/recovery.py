"""What a lost second of the store costs: whoever speaks is asked to say again what the record does not hold. Pure.

A replica that lagged may have been promoted, or a server may have lost its last second with its power. The owner has
then dropped all it remembered. Orders are looked up and sent again, and silence is counted anew, as at every take-over;
who begins again finds the results of the first time at their places. What only an attempt knows, it must be asked for.
"""

from __future__ import annotations

from collections.abc import Mapping

from fleet.core.codec import encode
from fleet.core.commands import Command, CommandKind
from fleet.core.effects import Effect, EffectKind
from fleet.core.outbox import Outstanding
from fleet.core.states import State
from fleet.core.tracing import traceparent
from fleet.core.view import TicketView

_LISTENS = frozenset({State.STARTING, State.RUNNING})


def say_again(view: TicketView, attempt: int, wanted: int, incarnation: str, wall: float) -> Outstanding:
    """The order to tell the attempt that of its events the record holds none from number ``wanted`` on."""
    command = Command(f"{view.id}:{attempt}:resend:{wanted}:{wall:.3f}", CommandKind.RESEND, seq=wanted)
    trace = traceparent(incarnation, view.id)
    tell = Effect(EffectKind.TELL, view.id, attempt, wanted, int(wall), encode(command).decode(), trace)
    return Outstanding(tell, wall)


def lost_a_second(known: str, now: str) -> bool:
    """Whether a shard that was owned in history ``known`` comes out of another one."""
    return bool(known) and known != now


def asked_again(views: Mapping[str, TicketView], incarnation: str, wall: float) -> list[Outstanding]:
    """One order for each attempt that may have said more than the record holds."""
    orders = []
    for view in views.values():
        if view.state in _LISTENS:
            orders.append(say_again(view, view.attempt, view.seq + 1, incarnation, wall))
        if view.late.attempt:
            orders.append(say_again(view, view.late.attempt, view.late.seq + 1, incarnation, wall))
    return orders
