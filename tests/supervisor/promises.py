"""What a shard must keep whatever comes, held against what was written; test_machine.py mixes it in.

Each failure begins with the id of its promise.
"""

from __future__ import annotations

from collections import Counter

from hypothesis.stateful import invariant

from fleet.core.effects import WAKES, Effect, EffectKind
from fleet.core.events import Source, StateChanged
from fleet.core.states import Reason, State
from supervisor.fold import fold_all
from supervisor.liveness import WORKS
from supervisor.shard import ShardKeeper
from tests.supervisor.anything import REACHED, Store


class Promises:
    """``ever_begun``: orders that some worker began; ``passed``: (ticket, head) that gates said had passed."""

    store: Store
    keeper: ShardKeeper
    ever_begun: list[Effect]
    passed: set[tuple[str, str]]

    @property
    def under_way(self) -> bool:
        """False until the machine has made its store."""
        return hasattr(self, "keeper")

    def moves(self, name: str) -> list[StateChanged]:
        return [one.data for one in self.store.log[name] if isinstance(one.data, StateChanged)]

    def works(self, name: str) -> list[Effect]:
        orders = [one.effect for one in self.store.outbox.values() if one.effect.ticket == name]
        return [effect for effect in orders if effect.kind in WORKS]

    @invariant()
    def replaying_the_log_gives_the_view(self) -> None:
        if self.under_way:
            for name, view in self.store.views.items():
                assert fold_all(self.store.log[name]) == view, "I17: the log does not give the view"
                assert self.keeper.shard.views[name] == view, "I17: the owner remembers another view"
                REACHED[view.state] += 1

    @invariant()
    def no_ticket_meets_a_bug_of_ours(self) -> None:
        if self.under_way:
            assert not self.keeper.trouble, f"I6: {self.keeper.trouble}"

    @invariant()
    def words_are_folded_in_order_and_without_a_gap(self) -> None:
        if not self.under_way:
            return
        for name, log in self.store.log.items():
            seqs = Counter[int]()
            for one in log:
                if one.source is Source.ATTEMPTS:
                    seqs[one.attempt] += 1
                    assert one.seq == seqs[one.attempt], f"I14: a gap in the words of attempt {one.attempt} of {name}"

    @invariant()
    def never_beyond_the_cap(self) -> None:
        if not self.under_way:
            return
        for name, view in self.store.views.items():
            moves = self.moves(name)
            asked = sum(move.state is State.QUEUED and move.reason is Reason.RETRY_ASKED for move in moves)
            assert view.attempt - view.hand_backs <= view.ticket.limits.attempts + asked, "I8: beyond the cap"
            numbers = [move.attempt for move in moves if move.state is State.STARTING]
            assert numbers == list(range(1, view.attempt + 1)), "I8: each attempt has the next number"

    @invariant()
    def never_two_live_fences(self) -> None:
        """One order of work stands at most, and it is of the newest attempt: an older one can begin nothing."""
        if not self.under_way:
            return
        starts = [effect.id for effect in self.ever_begun]
        assert len(starts) == len(set(starts)), "I3: something was begun twice"
        for name, view in self.store.views.items():
            works = self.works(name)
            assert len(works) <= 1, "I3: two workers may begin"
            assert all(effect.attempt == view.attempt for effect in works), "I3: an older attempt may begin"

    @invariant()
    def never_a_pull_request_without_its_pass(self) -> None:
        if not self.under_way:
            return
        for name, view in self.store.views.items():
            if any(effect.kind is EffectKind.PUBLISH for effect in self.works(name)):
                assert (name, view.head) in self.passed, "I5: publishing is ordered of a head that passed no gates"
            if view.state is State.IN_REVIEW:
                assert view.pull_request is not None, "I5: in review without a pull request"
                assert (name, view.pull_request.head_sha) in self.passed, "I5: in review with what passed no gates"

    @invariant()
    def what_is_over_stays_over(self) -> None:
        if not self.under_way:
            return
        for name in self.store.cancelled:
            assert self.store.views[name].state is State.CANCELLED, "I20: a cancelled ticket goes on"
        for name, view in self.store.views.items():
            if view.state.terminal:
                orders = [one.effect.kind for one in self.store.outbox.values() if one.effect.ticket == name]
                allowed = {EffectKind.STATUS, EffectKind.WITHDRAW}
                assert {kind for kind in orders if kind in WAKES} <= allowed, "I20: work is ordered of what is over"

    @invariant()
    def memory_and_store_agree_on_the_orders(self) -> None:
        if self.under_way:
            known = {effect_id for orders in self.keeper.shard.outbox.values() for effect_id in orders}
            assert known == set(self.store.outbox), "I14: the owner remembers other orders"
            assert known == {order.effect.id for order in self.store.outbox.values()}, "I14: an order under another id"
