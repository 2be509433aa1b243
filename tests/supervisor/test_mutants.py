"""Each protection of supervisor and ledger, switched off: the scenario that stands for it must notice."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature

import pytest

from fleet.core.errors import FleetError
from fleet.core.events import GatesFinished, GatesStarted, Source
from supervisor.admission import Caps
from tests.supervisor import test_fences as fences
from tests.supervisor import test_ladder as ladder
from tests.supervisor import test_life as life
from tests.supervisor import test_losses as losses
from tests.supervisor import test_reds as reds
from tests.supervisor import test_stall as stalls
from tests.supervisor.world import World
from tests.support.mutants import Mutant

_ROUND = "isinstance(data, rounds) and data.round != view.round"
MUTANTS = {
    # --- the ledger's scripts ---
    "epoch": Mutant(
        "lua:step",
        "if redis.call('GET', KEYS[1]) ~= ARGV[2] then return 'EPOCH' end",
        "",
        fences.test_a_frozen_owner_withdraws_nothing,
    ),
    "version": Mutant(
        "lua:step",
        "if now ~= ARGV[i + 2] then return 'VERSION ' .. ARGV[i + 1] end",
        "",
        fences.test_a_step_that_reaches_the_server_twice_is_written_once,
    ),
    "epochs of a lost ledger": Mutant(
        "lua:lease",
        "now[1] .. string.format('%06d', now[2])",
        "'0'",
        fences.test_an_owner_of_a_lost_ledger_writes_nothing_into_the_next,
    ),
    "cancelled set": Mutant(
        "lua:step",
        "redis.call('SADD', p .. ':cancelled', a)",
        "",
        fences.test_a_cancelled_ticket_begins_nothing_even_if_an_order_stands,
    ),
    "begin after cancel": Mutant(
        "lua:begin",
        "if redis.call('SISMEMBER', KEYS[3], ARGV[2]) == 1 then return 0 end",
        "",
        fences.test_a_cancelled_ticket_begins_nothing_even_if_an_order_stands,
    ),
    "begin once": Mutant(
        "lua:begin",
        "if owner then return owner == ARGV[3] and 1 or 0 end",
        "",
        life.test_of_many_wake_ups_one_claims,
    ),
    "begin the same again": Mutant(
        "lua:begin",
        "return owner == ARGV[3] and 1 or 0",
        "return 0",
        life.test_of_many_wake_ups_one_claims,
    ),
    "begin only orders": Mutant(
        "lua:begin",
        "if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then return 0 end",
        "",
        fences.test_nobody_begins_what_was_never_ordered,
    ),
    "admission's epoch": Mutant(
        "lua:admission",
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'EPOCH' end",
        "",
        losses.test_a_frozen_admission_gives_nothing_away,
    ),
    # --- what may be folded ---
    "wrong stream": Mutant(
        "supervisor.shard:ShardKeeper._take",
        "decode_event(raw, source)",
        "decode_event(raw)",
        life.test_a_word_on_the_wrong_stream_or_of_a_stale_attempt_has_no_effect,
    ),
    "wrong shard": Mutant(
        "supervisor.shard:ShardKeeper._accept",
        "if ours and",
        "if",
        losses.test_a_ticket_on_the_stream_of_another_shard_is_refused,
    ),
    "accepted once": Mutant(
        "supervisor.shard:ShardKeeper._accept",
        "if view is not None:",
        "if False:",
        life.test_a_doubled_acceptance_is_one_ticket,
    ),
    "stale attempt": Mutant(
        "supervisor.shard:ShardKeeper._take",
        "source is Source.ATTEMPTS and event.attempt != view.attempt",
        "False",
        fences.test_an_earlier_attempt_changes_nothing,
    ),
    "doubled event": Mutant(
        "supervisor.shard:ShardKeeper._take",
        "event.seq != view.seq + 1",
        "event.seq > view.seq + 1",
        life.test_lost_doubled_and_reordered_events_cost_nothing,
    ),
    "gap": Mutant(
        "supervisor.shard:ShardKeeper._take",
        "event.seq != view.seq + 1",
        "event.seq <= view.seq",
        life.test_lost_doubled_and_reordered_events_cost_nothing,
    ),
    "resend": Mutant(
        "supervisor.shard:ShardKeeper._missing",
        "turn.batch.orders.append(say_again(view, attempt, wanted, self.shard.incarnation, wall))",
        "pass",
        life.test_lost_doubled_and_reordered_events_cost_nothing,
    ),
    "lost last event": Mutant(
        "supervisor.shard:ShardKeeper._take",
        "event.data.last_seq > view.seq",
        "False",
        life.test_lost_doubled_and_reordered_events_cost_nothing,
    ),
    "gates' round, started": Mutant(
        "supervisor.hearing:stale",
        _ROUND,
        "False",
        losses.test_gates_of_another_round_change_nothing,
        (GatesStarted(7, "f" * 40, "b" * 40, ("forged",)),),
    ),
    "gates' round, finished": Mutant(
        "supervisor.hearing:stale",
        _ROUND,
        "False",
        losses.test_gates_of_another_round_change_nothing,
        (GatesFinished(7, "f" * 40, "b" * 40, True, "trust me"),),
    ),
    "publisher's round": Mutant(
        "supervisor.hearing:stale",
        "isinstance(data, PublishFailed) and data.round != view.round",
        "False",
        losses.test_a_publisher_of_another_round_changes_nothing,
    ),
    "whose heartbeat": Mutant(
        "supervisor.shard:ShardKeeper._take",
        "if event.attempt == view.attempt:",
        "if True:",
        losses.test_the_heartbeat_of_an_earlier_attempt_keeps_nobody_alive,
        (Source.GATES, losses.gating),
    ),
    "everything is logged": Mutant(
        "supervisor.shard:ShardKeeper._fold",
        "turn.batch.log.append(event)",
        "turn.batch.log += [event] if isinstance(event.data, StateChanged | TicketAccepted) else []",
        life.test_a_ticket_goes_all_the_way_and_its_log_gives_the_same_view,
    ),
    # --- silence ---
    "silence is death": Mutant(
        "supervisor.decide:_at_work",
        "if moment.silent > policy.lost_after:",
        "if False:",
        life.test_silence_means_lost_and_a_heartbeat_means_alive,
    ),
    "silence after the claim": Mutant(
        "supervisor.liveness:Clocks.moment",
        "known.heard is None and view.state is State.RUNNING",
        "False",
        losses.test_an_attempt_that_dies_right_after_its_first_word_is_noticed,
    ),
    "silence of the begun": Mutant(
        "supervisor.post:Post.sweep",
        "keeper.hear(effect.ticket, mono)",
        "pass",
        life.test_a_worker_that_dies_between_begin_and_its_first_word_is_noticed,
    ),
    "one monotonic clock": Mutant(
        "supervisor.service:Supervisor.turn",
        "wall, mono = self._clock.now(), self._clock.monotonic()",
        "wall, mono = self._clock.now(), self._clock.now() - 1_700_000_000",
        life.test_silence_means_lost_and_a_heartbeat_means_alive,
    ),
    "silence anew at take-over": Mutant(
        "supervisor.liveness:Clocks.moment",
        "mono - known.ordered, jitter=jitter, quiet=quiet)\n    if known.heard is not None",
        "wall - view.since, jitter=jitter, quiet=quiet)\n    if known.heard is not None",
        losses.test_a_take_over_counts_silence_anew,
    ),
    "silence anew after an outage": Mutant(
        "supervisor.service:Supervisor._drop_all",
        "self._keepers.clear()",
        "pass",
        losses.test_an_outage_of_the_store_counts_silence_anew,
    ),
    # --- orders ---
    "wake again": Mutant(
        "supervisor.post:Post._wake",
        "self._agenda.at(effect.id, mono + self._rewake_after)",
        "pass",
        life.test_a_lost_wake_up_is_sent_again_until_somebody_begins,
    ),
    "not after it was begun": Mutant(
        "supervisor.post:Post.sweep",
        "self._agenda.drop(effect.id)",
        "pass",
        losses.test_work_that_was_begun_is_not_woken_again,
    ),
    "orders of the state that is over": Mutant(
        "supervisor.shard:ShardKeeper._decide_about",
        "self._withdraw(turn, view)\n",
        "pass\n",
        fences.test_an_attempt_that_nobody_took_in_time_cannot_be_claimed_later,
    ),
    "cancel": Mutant(
        "supervisor.decide:_decide",
        "if view.cancel and not view.state.terminal:",
        "if False:",
        life.test_cancel_stops_what_is_not_begun_and_compensates_what_is,
        ("running",),
    ),
    "compensation": Mutant(
        "supervisor.decide:_unwanted_pull",
        "if not pull or view.withdraw == pull:",
        "if True:",
        life.test_cancel_stops_what_is_not_begun_and_compensates_what_is,
        ("in_review",),
    ),
    # --- bounds ---
    "attempts": Mutant(
        "supervisor.decision:used_up",
        ">= view.ticket.limits.attempts",
        ">= 10**9",
        life.test_retries_are_classified_back_off_and_end,
    ),
    "poison": Mutant(
        "supervisor.retries:again",
        "if always:",
        "if False:",
        fences.test_a_poison_ticket_stops_with_a_reason,
    ),
    "backoff": Mutant(
        "supervisor.retries:again",
        "pause_before(policy, view.failed(reason.value) + 1, moment)",
        "0.0",
        life.test_retries_are_classified_back_off_and_end,
    ),
    "stalls are noticed": Mutant(
        "supervisor.stall:cause",
        'return "loop"',
        'return ""',
        stalls.test_each_rung_is_taken_once_and_the_last_ends_the_attempt,
    ),
    "rungs apart": Mutant(
        "supervisor.stall:_patience",
        "return policy.between_rungs",
        "return 0.0",
        stalls.test_each_rung_is_taken_once_and_the_last_ends_the_attempt,
    ),
    "silence of the agent": Mutant(
        "supervisor.stall:cause",
        "quiet.word >",
        "-1.0 >",
        stalls.test_silence_is_noticed_within_a_second_of_its_threshold,
    ),
    "heartbeats are no words": Mutant(
        "supervisor.hearing:hear",
        "if word:",
        "if True:",
        stalls.test_silence_is_noticed_within_a_second_of_its_threshold,
    ),
    "a guard's answer is no word": Mutant(
        "supervisor.shard:ShardKeeper._take",
        "not isinstance(event.data, GUARDS_OWN)",
        "True",
        ladder.test_a_guard_that_answers_does_not_speak_for_its_agent,
    ),
    "a probe before anything else": Mutant(
        "supervisor.stall:next_rung",
        "_LADDER[view.watch.rung :]",
        "_LADDER[view.watch.rung + 1 :]",
        ladder.test_a_guard_that_does_not_answer_holds_up_nothing,
    ),
    "no answer, no end": Mutant(
        "supervisor.stall:_patience",
        "else policy.probe_within",
        'else float("inf")',
        ladder.test_a_guard_that_does_not_answer_holds_up_nothing,
    ),
    "no successor before the end is sure": Mutant(
        "supervisor.ladder:stopped",
        "if not sure and",
        "if False and",
        ladder.test_nobody_follows_before_the_guard_saw_everything_dead,
    ),
    "an end with something left is no end": Mutant(
        "supervisor.ladder:stopped",
        " and view.news.left == 0",
        "",
        ladder.test_nobody_follows_before_the_guard_saw_everything_dead,
    ),
    "a stop that nobody confirms": Mutant(
        "supervisor.ladder:stopped",
        "moment.quiet.rung <= policy.stop_within",
        "True",
        ladder.test_a_guard_that_never_confirms_is_fenced,
    ),
    "the same red change is not gated again": Mutant(
        "supervisor.decide:_at_work",
        "if known is not None:",
        "if False:",
        reds.test_the_same_change_is_not_gated_again_and_its_agent_is_told_why,
    ),
    "the same red change has an end": Mutant(
        "supervisor.reds:unchanged",
        "used_up(view) or _rounds_over(view)",
        "False",
        reds.test_an_agent_that_changes_nothing_more_ends_with_what_to_do,
        (9, 3),
    ),
    "red is counted for exactly this tree": Mutant(
        "supervisor.reds:_key",
        "{tree[:16]}",
        "",
        reds.test_the_same_change_is_not_gated_again_and_its_agent_is_told_why,
    ),
    "a person is new evidence": Mutant(
        "supervisor.fold:_counted",
        " and not pair[0].startswith(reds.PREFIX)",
        "",
        reds.test_a_person_who_asks_again_is_new_evidence,
    ),
    "a stalled attempt is counted": Mutant(
        "supervisor.decide:_at_work",
        "if view.watch.stopping:",
        "if view.watch.stopping and view.news.failure is None:",
        ladder.test_nobody_follows_before_the_guard_saw_everything_dead,
    ),
    "base moves": Mutant(
        "supervisor.decide:_publishing",
        "view.failed(reason.value) >= policy.base_moves",
        "False",
        life.test_a_moved_base_runs_the_gates_again_at_most_twice,
    ),
    "cap of the fleet": Mutant(
        "supervisor.admission:_blocked",
        "live >= caps.fleet",
        "False",
        life.test_caps_hold_and_say_why,
        (Caps(3, 9, 9), 3, 2),
    ),
    "cap of a repository": Mutant(
        "supervisor.admission:_blocked",
        "repos[request.repo] >= caps.repo",
        "False",
        life.test_caps_hold_and_say_why,
        (Caps(9, 9, 1), 2, 1),
    ),
    "cap of a tenant": Mutant(
        "supervisor.admission:_blocked",
        "tenants[request.tenant] >= caps.of(request.tenant)",
        "False",
        life.test_caps_hold_and_say_why,
        (Caps(9, 3, 9), 3, 2),
    ),
    "grants are told again": Mutant(
        "supervisor.desk:Desk.absorb",
        "told.update(self._grants)",
        "pass",
        losses.test_a_grant_that_was_written_but_never_told_is_told_after_all,
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_protection_switched_off_is_noticed(
    name: str, new_world: Callable[[], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant = MUTANTS[name]
    mutant.install(monkeypatch)
    assert mutant.scenario is not None
    patching = (monkeypatch,) if "monkeypatch" in signature(mutant.scenario).parameters else ()
    with pytest.raises((AssertionError, FleetError, pytest.fail.Exception)):
        mutant.scenario(new_world(), *mutant.arguments, *patching)
