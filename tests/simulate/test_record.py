"""The played store answers like the real one: the same calls in the same order on both, whatever they are."""

from __future__ import annotations

from random import Random

import pytest

from fleet.adapters import keys
from fleet.adapters.ledger import RedisLedger
from fleet.core.effects import BEGUN_BY, Effect, EffectKind
from fleet.core.errors import TemporaryError
from fleet.core.events import CancelRequested, Envelope, SlotAsked, Source
from fleet.core.outbox import Outstanding
from fleet.core.states import Reason, State
from fleet.core.step import Batch, Refused, Shards
from fleet.core.ticket import shard_of
from fleet.core.view import TicketView
from fleet.simulate.chance import Chance
from fleet.simulate.faults import NONE, Faults
from fleet.simulate.lines import Line, LineLedger, LineShards, Weather
from fleet.simulate.record import Protections, Record
from fleet.simulate.timeline import Timeline
from tests.supervisor.world import World
from tests.support.tickets import ticket

TICKETS = [one for n in range(1, 200) if shard_of((one := ticket(n)).id) == "s03"][:3]
KINDS = [EffectKind.START_ATTEMPT, EffectKind.RUN_GATES, EffectKind.PUBLISH, EffectKind.STATUS, EffectKind.WITHDRAW]
Ledgers = dict[str, RedisLedger] | dict[str, LineLedger]


class Side:
    """One of the two stores: two members of the supervisor, and the ledger of each role."""

    def __init__(self, members: list[Shards], ledgers: Ledgers) -> None:
        self.members = members
        self.ledgers = ledgers
        self.cursors: dict[tuple[str, Source], str] = {("s03", source): "0" for source in keys.INBOUND}
        self._before: dict[str, int] = {}

    def lease(self, member: int, name: str) -> tuple[int, bool]:
        """Epochs count from the first one of this store, which is another one in every store."""
        epoch, new = self.members[member].lease(name)
        if not epoch:
            return epoch, new
        return epoch - self._before.setdefault(name, epoch - 1), new

    def epoch(self, name: str, counted: int) -> int:
        return counted + self._before.get(name, 0)


def played(protections: Protections) -> Side:
    time = Timeline()
    chance = Chance(1)
    weather = Weather(time, chance, Faults(chance, NONE), Record(time.monotonic, protections))
    line = Line(weather, "x")
    return Side([LineShards(line, name) for name in "ab"], {role: LineLedger(line) for role in ("any",)})


def real(world: World) -> Side:
    return Side([world.store(name) for name in "ab"], world.ledgers)


def effect(dice: Random) -> Effect:
    return Effect(dice.choice(KINDS), dice.choice(TICKETS).id, dice.randint(1, 2))


def batch(dice: Random, versions: dict[str, int]) -> tuple[Batch, dict[str, int]]:
    """A step as some owner might write it, perhaps with a version that is no longer so."""
    made, after = Batch(), dict(versions)
    for one in dice.sample(TICKETS, dice.randint(0, 2)):
        known = versions.get(one.id, 0) - (dice.random() < 0.15)
        made.views[one.id] = (known, TicketView(one, State.QUEUED, Reason.ACCEPTED, 0.0, version=known + 1))
        made.log.append(Envelope("default", one.id, 0, 0, 1.0, SlotAsked(known), Source.SUPERVISOR))
        after[one.id] = known + 1
    made.orders = [Outstanding(effect(dice), 0.0) for _ in range(dice.randint(0, 3))]
    made.withdrawn = [effect(dice).id for _ in range(dice.randint(0, 1))]
    made.cancelled = [dice.choice(TICKETS).id for _ in range(dice.random() < 0.05)]
    made.quarantined = [b"x" for _ in range(dice.random() < 0.1)]
    return made, after


def step(side: Side, member: int, epoch: int, made: Batch) -> str:
    try:
        side.members[member].step("s03", side.epoch("s03", epoch), made)
    except Refused as refused:
        return str(refused).rpartition(": ")[2]
    return "written"


def heard(side: Side, member: int) -> list[tuple[Source, bytes]]:
    """What is new on the streams; each side has cursors of its own."""
    found, _ = side.members[member].read(side.cursors, None, 0)
    said = []
    for where, rows in found.items():
        side.cursors[where] = rows[-1][0]
        said += [(where[1], raw) for _, raw in rows]
    return sorted(said, key=lambda row: (row[0].value, row[1]))


def began(side: Side, order: Effect, owner: str) -> bool:
    role = BEGUN_BY[order.kind]
    accounts = {"agents": "attempt", "gates": "gates", "publisher": "publisher"}
    ledger = side.ledgers.get(accounts[role]) or side.ledgers["any"]
    return ledger.begin(role, order, owner)


def asked(side: Side, dice: Random, epoch: int) -> str:
    key, verb = f"k{dice.randint(1, 3)}", dice.choice("WwGgPpYy")
    words: list[str | bytes] = [verb, key]
    words += [b"r"] if verb in "WG" else ["text"] if verb in "PY" else []
    try:
        side.members[0].step_admission(side.epoch(keys.ADMISSION, epoch), words)
    except Refused:
        return "refused"
    return str(side.members[0].load_admission()[:3])


def same_answers(one: Side, other: Side, seed: int, calls: int = 250) -> None:
    dice, versions, epochs = Random(seed), dict[str, int](), {"s03": 0, keys.ADMISSION: 0}
    for number in range(calls):
        what, member = dice.random(), dice.randint(0, 1)
        again = dice.getstate()

        def both(call: object, again: object = again) -> list[object]:
            answers = []
            for side in (one, other):
                dice.setstate(again)  # type: ignore[arg-type]
                answers.append(call(side))  # type: ignore[operator]
            return answers

        if what < 0.12:
            name = dice.choice(["s03", keys.ADMISSION])
            answers = both(lambda side, m=member, n=name: side.lease(m, n))
            epochs[name] = max(epochs[name], answers[0][0])  # type: ignore[index]
        elif what < 0.2:
            answers = both(lambda side, m=member: side.members[m].release("s03"))
        elif what < 0.5:
            epoch = epochs["s03"] - (dice.random() < 0.1)
            made, after = batch(dice, versions)
            answers = both(lambda side, m=member, e=epoch, b=made: step(side, m, e, b))
            versions = after if answers[0] == "written" else versions
        elif what < 0.8:
            order, owner = effect(dice), dice.choice("pq")
            answers = both(lambda side, o=order, w=owner: began(side, o, w))
        elif what < 0.9:
            event = Envelope("default", dice.choice(TICKETS).id, 0, 0, number, CancelRequested("ada"), Source.PEOPLE)
            for side in (one, other):
                (side.ledgers.get("people") or side.ledgers["any"]).send(Source.PEOPLE, [event], durable=True)
            answers = both(lambda side, m=member: heard(side, m))
        else:
            answers = both(lambda side, e=epochs[keys.ADMISSION]: asked(side, dice, e))
        assert answers[0] == answers[1], f"call {number}"
    left, right = (side.members[0].load("s03") for side in (one, other))
    assert (left.views, left.outbox) == (right.views, right.outbox)
    standing = [Effect(kind, one.id, number) for kind in KINDS for one in TICKETS for number in (1, 2)]
    assert one.members[0].begun(standing) == other.members[0].begun(standing)


@pytest.mark.parametrize("seed", range(3))
def test_the_played_store_answers_like_the_real_one(world: World, seed: int) -> None:
    same_answers(real(world), played(Protections()), seed)


@pytest.mark.parametrize("off", ["single_use", "wanted", "epoch"])
def test_a_difference_is_noticed(world: World, off: str) -> None:
    with pytest.raises((AssertionError, TemporaryError)):
        same_answers(real(world), played(Protections(**{off: False})), 1)
