"""``/fleet …`` in comments: of people who may write, once each, as data; by sweep and by webhook."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from fleet.core.errors import FleetError, TemporaryError
from fleet.core.events import Envelope, Source, Verb
from fleet.core.forge import Comment
from fleet.core.states import Reason, State
from fleet.core.ticket import shard_of
from fleet.core.view import TicketView
from fleet.intake import orders
from fleet.intake.comments import addressed, refusal
from fleet.intake.orders import HELP, MOST_WORDS, heard
from fleet.intake.webhook import CommentTold, read
from supervisor.fold import fold
from tests.intake.talk import Talk
from tests.intake.test_hostile import CORPUS, INVISIBLE
from tests.publisher.world import REPO
from tests.support.mutants import Mutant
from tests.support.tickets import ticket


# --- who and when ----------------------------------------------------------------------------------------------------
def only_people_who_may_write(talk: Talk) -> None:
    talk.write("stranger", "/fleet cancel it is mine")
    talk.write("fleet-bot", "/fleet approve $100")
    talk.write("stranger", "/fleet approve $100")
    assert talk.look() == [] and not talk.view.cancel and talk.view.raised_usd == 0
    talk.write("bob", "/fleet approve $2")
    (heard_,) = talk.look()
    assert (heard_.by, heard_.verb, heard_.usd, heard_.done) == ("bob", Verb.APPROVE, 2.0, True)
    assert talk.view.raised_usd == 2.0 and "may spend $2 more" in talk.view.answers[-1]
    talk.write("stranger", "/fleet cancel")
    assert talk.look() == []
    # The stranger gets access later: what they wrote before is no order for it.
    talk.room.world.forge.store.set_permission(REPO, "stranger", "write")
    talk.restart()
    assert talk.look() == [] and not talk.view.cancel


@pytest.mark.invariant("I13")
@pytest.mark.invariant("I21")
def test_only_people_who_may_write_are_obeyed(talk: Talk) -> None:
    only_people_who_may_write(talk)


def once(talk: Talk) -> None:
    """Looked at again, redelivered, and by an intake that forgot everything: one order is one order."""
    talk.write("bob", "/fleet approve $2")
    assert len(talk.look()) == 1
    assert talk.look() == []
    told = CommentTold(REPO, talk.number, "bob")
    assert talk.sweep.heard(told).said == {"orders": "0"}
    talk.notebook.known.clear()
    before = talk.view
    talk.restart()
    talk.look()
    assert talk.view == before, "what the ticket has heard is not told again"
    # An intake that died between its word and the supervisor's reading of it says it twice.
    talk.room.keep(replace(talk.view, heard=0, raised_usd=0.0, raised_last=0.0))
    talk.notebook.known.clear()
    talk.restart()
    talk.sweep.once()
    talk.notebook.known.clear()
    talk.restart()
    talk.sweep.heard(told)
    assert len(talk.said()) == 2
    assert talk.view.raised_usd == 2.0


@pytest.mark.invariant("I2")
def test_a_comment_is_one_order_however_often_it_is_heard_of(talk: Talk) -> None:
    once(talk)


def edited(talk: Talk) -> None:
    kind = talk.write("bob", "Looks good, thank you!")
    ordered = talk.write("bob", "/fleet pause")
    talk.edit("bob", ordered, "/fleet cancel")
    assert talk.look() == [], "who may write may also have changed another person's comment"
    talk.edit("bob", kind, "/fleet cancel")
    assert talk.look() == []
    again = talk.write("bob", "/fleet pause")
    assert [one.comment for one in talk.look()] == [again]
    talk.edit("bob", again, "/fleet cancel")
    assert talk.look() == [] and not talk.view.cancel and talk.view.news.pause_by == "bob"


@pytest.mark.invariant("I21")
def test_an_edited_comment_is_no_order(talk: Talk) -> None:
    edited(talk)


def test_a_webhook_says_that_there_is_something_and_nothing_more(talk: Talk) -> None:
    """A signed message that names what nobody wrote finds nothing; one about a real comment is acted on at once."""
    told = CommentTold(REPO, talk.number, "bob")
    assert talk.sweep.heard(told).said == {"orders": "0"} and talk.said() == []
    talk.write("bob", "/fleet steer use the\nother module")
    assert talk.sweep.heard(told).said == {"orders": "1"}
    talk.said()
    assert talk.view.steers == ("bob: use the other module",)
    body = {"action": "created", "repository": {"full_name": REPO}, "issue": {"number": 7}, "sender": {"login": "bob"}}
    assert read("issue_comment", json.dumps(body).encode()) == CommentTold(REPO, 7, "bob")
    for action in ("edited", "deleted"):
        assert read("issue_comment", json.dumps({**body, "action": action}).encode()) is None


def test_orders_are_taken_in_their_order_and_the_last_counts(talk: Talk) -> None:
    for verb in ("pause", "why", "cancel first", "dance", "help"):
        talk.write("bob", f"/fleet {verb}")
    assert [one.verb for one in talk.look()] == [Verb.PAUSE, Verb.WHY, Verb.CANCEL, Verb.OTHER, Verb.HELP]
    assert talk.view.cancel == "bob: first" and len(talk.view.answers) == 5
    assert talk.view.answers[-1] == f"@bob /fleet help: {HELP}"


def test_the_forge_away_in_between_loses_no_order(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    talk.write("bob", "/fleet approve $1")
    talk.write("stranger", "/fleet approve $1")
    talk.write("bob", "/fleet approve $3")
    real = talk.room.bot.permission

    def away(repo: str, login: str) -> object:
        if login == "stranger":
            raise TemporaryError("The forge answered 502.")
        return real(repo, login)

    monkeypatch.setattr(talk.room.bot, "permission", away)
    assert len(talk.look()) == 1 and talk.view.raised_usd == 1.0
    monkeypatch.setattr(talk.room.bot, "permission", real)
    talk.room.clock.advance(200.0)
    assert [one.usd for one in talk.look()] == [3.0]
    assert talk.view.raised_usd == 4.0


def test_an_ended_ticket_is_tried_again_and_its_successor_is_the_one_addressed(talk: Talk) -> None:
    talk.keep(replace(talk.view, state=State.ESCALATED, reason=Reason.POISON))
    talk.write("bob", "/fleet retry")
    (one,) = talk.look()
    assert one.done and talk.view.news.retry_by == "bob"


def test_a_ticket_that_was_given_up_is_told_what_was_missing_before_it_is_tried_again(talk: Talk) -> None:
    talk.keep(replace(talk.view, state=State.ESCALATED, reason=Reason.POISON))
    talk.write("bob", "/fleet steer use the other module")
    talk.write("bob", "/fleet retry")
    said, again = talk.look()
    assert said.done and "/fleet retry" in said.answer and again.done
    assert talk.view.steers == ("bob: use the other module",)


def test_a_policy_question_is_answered_with_its_commit(talk: Talk) -> None:
    head = "ab12" * 10
    talk.keep(replace(talk.view, state=State.PARKED, reason=Reason.APPROVAL, head=head))
    for words in ("approve", "approve ffffffff", "approve ab1", f"approve {head[:-1]}0"):
        talk.write("bob", f"/fleet {words}")
        assert [one.done for one in talk.look()] == [False], words
    assert talk.room.ledger.approvals(talk.first.id) == ()
    talk.write("bob", f"/fleet approve {head[:12]}")
    (one,) = talk.look()
    (record,) = talk.room.ledger.approvals(talk.first.id)
    assert one.done and (record.head, record.by, talk.view.news.approved) == (head, "bob", head)


# --- what it says ----------------------------------------------------------------------------------------------------
VIEW = TicketView(ticket(agent="anthropic"), State.RUNNING, Reason.CLAIMED, since=1.0, attempt=1)


def comment(body: str, **more: object) -> Comment:
    return replace(Comment(5, VIEW.ticket.number, "bob", body, 1.0), **more)  # type: ignore[arg-type]


def hostile() -> None:
    """What is not plainly an order is none; what is one carries clean text and changes nothing but its own ticket."""
    for name, raw in CORPUS.items():
        assert orders.parse(raw) is None, name
        assert orders.parse(f"/fleet {raw}"[:80]) is None or INVISIBLE.sub("", raw.partition("\n")[0]), name
        order = orders.parse(f"/fleet steer listen\n{raw}")
        if order is None:
            continue
        assert order.verb is Verb.STEER
        told = heard(comment(""), order, VIEW)
        assert len(told.text) <= MOST_WORDS and "\n" not in told.text
        assert not INVISIBLE.search(told.text), name
    assert orders.parse("/fleet can\u200bcel") is None and orders.parse("\u200b/fleet cancel") is None
    assert orders.parse("/fleet cancel \u202ereally") is None
    for quoted in (
        "> /fleet cancel",
        "see\n/fleet cancel",
        " /fleet cancel",
        "`/fleet cancel`",
        "<!-- x -->\n/fleet cancel",
    ):
        assert orders.parse(quoted) is None, quoted
    assert (
        orders.parse("/fleetcancel") is None
        and orders.parse("/FLEET cancel") is None
        and orders.parse("/fleet/../cancel") is None
    )


@pytest.mark.invariant("I21")
def test_hostile_text_is_no_order() -> None:
    hostile()


@pytest.mark.parametrize(
    ("body", "verb", "text"),
    [
        ("/fleet", Verb.HELP, ""),
        ("/fleet help", Verb.HELP, ""),
        ("/fleet  Cancel \t not needed\r\nbecause", Verb.CANCEL, "not needed"),
        ("/fleet approve $2.50", Verb.APPROVE, "$2.50"),
        ("/fleet other", Verb.OTHER, ""),
        ("/fleet steer\nread\n the docs", Verb.STEER, "read the docs"),
        ("/fleet steer Größe ändern", Verb.STEER, "Größe ändern"),
        ("/fleet retry\n\n/fleet cancel", Verb.RETRY, ""),
    ],
)
def test_an_order_is_the_first_line(body: str, verb: Verb, text: str) -> None:
    order = orders.parse(body)
    assert order is not None and (order.verb, order.text) == (verb, text)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("verb", [verb for verb in Verb if verb is not Verb.OTHER])
def test_every_order_has_an_answer_in_every_state(verb: Verb, state: State) -> None:
    view = replace(VIEW, state=state, reason=Reason.PAUSED if state is State.PARKED else Reason.CLAIMED)
    for words in ("", " $2", " abcdef123", " nan", " -5"):
        order = orders.parse(f"/fleet {verb.value}{words}")
        assert order is not None
        said = heard(comment(""), order, view)
        assert said.answer and said.by == "bob"
        assert not (said.done and state in (State.MERGED, State.CLOSED, State.CANCELLED)), "it has ended"
        assert 0 <= said.usd < 1e5
        fold(view, Envelope("default", view.id, 0, 0, 1.0, said, Source.PEOPLE))


def test_who_is_addressed_and_who_is_refused() -> None:
    old, new = VIEW, replace(VIEW, ticket=replace(VIEW.ticket, id="b", accepted_at=2e9, generation=2))
    assert addressed([new, old], VIEW.ticket.number) == new and addressed([old], 99) is None
    assert refusal(comment(""), True) == ""
    for why in ({"ours": True}, {"bot": True}, {"edited": True}):
        assert refusal(comment("", **why), True)
    assert "may not write" in refusal(comment(""), False)
    assert shard_of(new.id)


MUTANTS: dict[str, tuple[Mutant, Callable[..., None]]] = {
    "who may write": (
        Mutant("fleet.intake.comments:refusal", "if not may_write:", "if False:"),
        only_people_who_may_write,
    ),
    "the fleet itself": (
        Mutant("fleet.intake.comments:refusal", "comment.ours or comment.bot", "False"),
        only_people_who_may_write,
    ),
    "looked at once": (
        Mutant(
            "fleet.intake.comments:CommentIntake.look",
            "if comment.id <= place.comment and comment.id not in owners:",
            "if False:",
        ),
        only_people_who_may_write,
    ),
    "heard once": (Mutant("supervisor.comments:meant", "said.comment <= view.heard or", ""), once),
    "no edited order": (Mutant("fleet.intake.comments:refusal", "if comment.edited:", "if False:"), edited),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_protection_switched_off_is_noticed(name: str, talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant, check = MUTANTS[name]
    mutant.install(monkeypatch)
    with pytest.raises((AssertionError, FleetError)):
        check(talk)


@pytest.mark.parametrize(
    "mutant",
    [
        Mutant("fleet.intake.orders:parse", "or visible(first)[1]", ""),
        Mutant("fleet.intake.orders:parse", "visible(text)[0].split()", "text.split()"),
        Mutant("fleet.intake.orders:parse", "_ORDER.fullmatch(first)", "_ORDER.search(first)"),
    ],
    ids=lambda mutant: mutant.old,
)
def test_text_that_is_not_plain_is_noticed(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant.install(monkeypatch)
    with pytest.raises(AssertionError):
        hostile()
