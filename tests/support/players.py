"""A stand-in for the worker processes: speaks the real protocol into the real ledger, with each role's own account.

It is a ``Waker``: instead of a broker it remembers what was woken, and a test lets it act when it wants.
"""

from __future__ import annotations

from collections.abc import Mapping

from fleet.adapters.ledger import RedisLedger
from fleet.core.effects import Effect, EffectKind
from fleet.core.events import (
    AttemptStarted,
    AttemptStopped,
    ChangeReady,
    Envelope,
    EventData,
    GatesFinished,
    GatesStarted,
    Heartbeat,
    Published,
    PublishStarted,
    Source,
    TicketAccepted,
)
from fleet.core.ports import Clock
from fleet.core.ticket import Ticket

CHANGE = ChangeReady("bundle", "c" * 40, "t" * 40, "b" * 40, 1, 1, 0)


class Players:
    def __init__(self, ledgers: Mapping[str, RedisLedger], clock: Clock) -> None:
        self._ledgers = ledgers
        self._clock = clock
        self.woken: list[Effect] = []
        # The first word on an issue, of each ticket; few scenarios are about it.
        self.greetings: list[Effect] = []
        self.seqs: dict[tuple[str, int], int] = {}

    def wake(self, effect: Effect) -> None:
        greeting = effect.kind is EffectKind.STATUS and effect.attempt == 0
        (self.greetings if greeting else self.woken).append(effect)

    def accept(self, ticket: Ticket) -> None:
        event = Envelope(ticket.tenant, ticket.id, 0, 0, self._clock.now(), TicketAccepted(ticket), Source.INTAKE)
        self._ledgers["intake"].send(Source.INTAKE, [event])

    def person(self, ticket: str, data: EventData) -> None:
        self.say("people", Source.PEOPLE, ticket, 0, data)

    def say(self, role: str, source: Source, ticket: str, attempt: int, data: EventData, seq: int = 0) -> None:
        event = Envelope("default", ticket, attempt, seq, self._clock.now(), data, source)
        self._ledgers[role].send(source, [event])

    def attempt_says(self, ticket: str, attempt: int, *events: EventData) -> None:
        for data in events:
            seq = self.seqs.get((ticket, attempt), 0)
            if not isinstance(data, Heartbeat):
                seq = self.seqs[(ticket, attempt)] = seq + 1
            self.say("attempt", Source.ATTEMPTS, ticket, attempt, data, 0 if isinstance(data, Heartbeat) else seq)

    def act(self, effect: Effect, owner: str = "player") -> bool:
        """What a healthy worker does with this order. False: somebody else has begun it, or nobody may."""
        role = {"start": "attempt", "gates": "gates", "publish": "publisher"}[effect.kind.value]
        ledger = self._ledgers[role]
        begun = {"start": "agents", "gates": "gates", "publish": "publisher"}[effect.kind.value]
        if not ledger.begin(begun, effect, owner):
            return False
        ticket, attempt, round_ = effect.ticket, effect.attempt, effect.round
        if effect.kind is EffectKind.START_ATTEMPT:
            started = AttemptStarted("here", 1, "command:true", ledger.incarnation())
            self.attempt_says(ticket, attempt, started, CHANGE, AttemptStopped("done"))
        elif effect.kind is EffectKind.RUN_GATES:
            self.say("gates", Source.GATES, ticket, attempt, GatesStarted(round_, "h" * 40, "b" * 40, ("tests",)))
            passed = GatesFinished(round_, "h" * 40, "b" * 40, True, "1 passed")
            self.say("gates", Source.GATES, ticket, attempt, passed)
        elif effect.kind is EffectKind.PUBLISH:
            self.say("publisher", Source.PUBLISHER, ticket, attempt, PublishStarted(round_, "h" * 40))
            done = Published(7, "url", "h" * 40, "b" * 40)
            self.say("publisher", Source.PUBLISHER, ticket, attempt, done)
        return True

    def act_all(self) -> int:
        """Acts on everything that was woken; answers how many orders were really begun."""
        woken, self.woken = self.woken, []
        return sum(self.act(effect) for effect in woken if effect.kind.value in ("start", "gates", "publish"))
