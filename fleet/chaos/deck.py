"""The deck of disturbances: what can be done to a running fleet, and in which order it is played. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from hashlib import blake2b
from typing import assert_never

from fleet.adapters.crash import POINTS
from fleet.chaos.proxy import Fault
from fleet.core.states import State


class Link(Enum):
    """A line of the fleet in which a proxy can stand."""

    STORE = "store"
    FORGE = "forge"
    MODEL = "model"


@dataclass(frozen=True, slots=True)
class Nothing:
    """The undisturbed run; ``model``: with the scripted model instead of a command."""

    model: bool = False


@dataclass(frozen=True, slots=True)
class KillAt:
    """kill -9 of whoever comes to a named crash point: of each first attempt, or twice of a service."""

    point: str


@dataclass(frozen=True, slots=True)
class FreezeAt:
    """SIGSTOP at a named crash point, and SIGCONT after ``seconds``: what was true there may be so no longer."""

    point: str
    seconds: float = 12.0


@dataclass(frozen=True, slots=True)
class Kill:
    """kill -9 of a process at some moment; of each first attempt for ``guard`` and ``loop``."""

    process: str


@dataclass(frozen=True, slots=True)
class Freeze:
    """SIGSTOP, and SIGCONT after ``seconds``: for longer than the fleet's patience, so that it is replaced."""

    process: str
    seconds: float = 12.0


@dataclass(frozen=True, slots=True)
class Break:
    """A fault on a line for ``seconds``; ``status`` and ``headers`` for the faults that answer in HTTP."""

    link: Link
    fault: Fault
    status: int = 0
    headers: tuple[str, ...] = ()
    seconds: float = 6.0


@dataclass(frozen=True, slots=True)
class Empty:
    """Everything that the store holds is gone (FLUSHALL)."""


Disturbance = Nothing | KillAt | FreezeAt | Kill | Freeze | Break | Empty

SERVICES = ("host", "supervisor", "forge", "intake", "attempts", "agents", "gates", "publisher")
MODEL_SERVICES = ("gateway", "rehearsal")
_FROZEN = (*SERVICES, *MODEL_SERVICES, "redis", "guard", "loop")
# Where a process holds something that another one may take over meanwhile.
_STALE = (
    "attempt.after_claim",
    "attempt.change_told",
    "attempt.before_stopped",
    "gates.head_built",
    "gates.before_told",
    "supervisor.before_step",
    "supervisor.after_step",
    "publisher.begun",
    "publisher.pushed",
)
_STATUSES = ((503, ()), (429, ("Retry-After: 2",)))


def whole_deck() -> tuple[Disturbance, ...]:
    """Every disturbance, the undisturbed runs apart."""
    broken = (Fault.REFUSE, Fault.RESET, Fault.STALL, Fault.CUT)
    faults = [Break(link, fault) for link in Link for fault in broken]
    faults += [Break(link, Fault.STATUS, *one) for link in (Link.FORGE, Link.MODEL) for one in _STATUSES]
    faults.append(Break(Link.FORGE, Fault.LATE, 502))
    return (
        *(KillAt(point) for point in POINTS),
        *(Kill(name) for name in (*SERVICES, *MODEL_SERVICES, "redis", "guard", "loop")),
        *(FreezeAt(point) for point in _STALE),
        *(Freeze(name) for name in _FROZEN),
        *faults,
        Empty(),
    )


def name_of(one: Disturbance) -> str:
    match one:
        case Nothing():
            return "nothing, scripted model" if one.model else "nothing"
        case KillAt():
            return f"kill at {one.point}"
        case FreezeAt():
            return f"freeze at {one.point}"
        case Kill():
            return f"kill {one.process}"
        case Freeze():
            return f"freeze {one.process}"
        case Break():
            if one.fault is Fault.LATE:
                return f"{one.link.value} {one.status} after commit"
            return f"{one.link.value} {one.status or one.fault.value}"
        case Empty():
            return "empty redis"
        case _ as never:
            assert_never(never)


def with_model(one: Disturbance) -> bool:
    """Whether its tickets are worked on by the scripted model; the others by a command."""
    match one:
        case Nothing():
            return one.model
        case Break():
            return one.link is Link.MODEL
        case Kill():
            return one.process in MODEL_SERVICES
        case KillAt() | FreezeAt() | Freeze() | Empty():
            return False
        case _ as never:
            assert_never(never)


_ATTEMPT = (State.STARTING, State.RUNNING)
_ANY = (State.STARTING, State.RUNNING, State.GATING, State.PUBLISHING)
_WHEN: dict[str, tuple[State, ...]] = {
    "attempts": _ATTEMPT,
    "agents": _ATTEMPT,
    "guard": (State.RUNNING,),
    "loop": (State.RUNNING,),
    "gateway": (State.RUNNING,),
    "rehearsal": (State.RUNNING,),
    "gates": (State.GATING,),
    "publisher": (State.PUBLISHING,),
}


def moment(one: Disturbance, dice: int) -> State:
    """The state that a ticket must have reached before it strikes."""
    match one:
        case Kill() | Freeze():
            choice = _WHEN.get(one.process, _ANY)
        case Break():
            late = one.fault is Fault.LATE
            choice = (State.RUNNING,) if one.link is Link.MODEL else (State.PUBLISHING,) if late else _ANY
        case Nothing() | KillAt() | FreezeAt() | Empty():
            choice = _ANY
        case _ as never:
            assert_never(never)
    return choice[dice % len(choice)]


def most(one: KillAt | FreezeAt, tickets: int) -> int:
    """How many processes meet the point in a round: those of every first attempt, or a service twice (frozen: once).

    Gates that are lost three times are given up with a reason, as they should be; so a service dies twice.
    """
    if one.point.startswith("attempt."):
        return tickets
    return min(2, tickets) if isinstance(one, KillAt) else 1


def rolled(seed: int, *words: object) -> int:
    """64 bits that depend on the seed and the words alone."""
    said = " ".join(str(word) for word in (seed, *words))
    return int.from_bytes(blake2b(said.encode(), digest_size=8).digest(), "big")


def matching(deck: Sequence[Disturbance], pattern: str) -> tuple[Disturbance, ...]:
    """Those whose name holds ``pattern`` or fits it, ``*`` and ``?`` as in a shell."""
    return tuple(one for one in deck if pattern in name_of(one) or fnmatchcase(name_of(one), pattern))


def sampled(deck: Sequence[Disturbance], count: int, seed: int) -> tuple[Disturbance, ...]:
    """``count`` of them by the seed, of every kind by turns; all for 0."""
    order = sorted(deck, key=lambda one: rolled(seed, "sample", name_of(one)))
    kinds = [(type(one), one.link if isinstance(one, Break) else None) for one in order]
    turns = [(kinds[:at].count(kind), at, order[at]) for at, kind in enumerate(kinds)]
    return tuple(one for _, _, one in sorted(turns, key=lambda turn: turn[:2]))[: count or len(order)]


@dataclass(frozen=True, slots=True)
class Round:
    """``tickets`` that are at work at the same time while ``what`` happens. ``number`` counts its rounds from 1."""

    what: Disturbance
    number: int
    tickets: int
    dice: int


def schedule(deck: Sequence[Disturbance], tickets: int, at_once: int, seed: int) -> tuple[Round, ...]:
    """``tickets`` per disturbance in rounds of at most ``at_once``, the undisturbed runs among them.

    Undisturbed ones come first, so that a run that is cut short can be judged. The rounds of one disturbance lie far
    apart: a service that dies again and again is started ever more seldom.
    """
    calm = [Nothing(), *([Nothing(model=True)] if any(map(with_model, deck)) else [])]
    rounds = [
        Round(one, number, min(at_once, tickets - done), rolled(seed, name_of(one), number))
        for one in (*calm, *deck)
        for number, done in enumerate(range(0, tickets, at_once), 1)
    ]

    def place(each: Round) -> tuple[int, bool, int]:
        return each.number, not isinstance(each.what, Nothing), rolled(seed, "order", name_of(each.what), each.number)

    return tuple(sorted(rounds, key=place))
