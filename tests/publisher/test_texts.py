"""Evidence and the texts made of it: complete, bounded, and nothing untrusted is ever active."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from fleet.core import sealing
from fleet.core.budget import Cost
from fleet.core.events import ChangeReady
from fleet.core.gates import (
    Finding,
    GateKind,
    GatePass,
    GatePlanRecord,
    GateRecord,
    Mode,
    Outcome,
    TestCounts,
    make_pass,
)
from fleet.core.states import Reason, State
from fleet.core.ticket import Criterion
from fleet.core.view import TicketView
from fleet.publisher import markdown, plan, texts
from fleet.publisher.evidence import Evidence, build, criterion
from tests.support.tickets import ticket

H, BASE, DIGEST = "a" * 40, "b" * 40, "c" * 64
HOSTILE = [
    "@everyone look",
    "Fixes #1, closes GH-2",
    "![x](https://evil.example/p.png) [y](javascript:alert(1)) <img src=x onerror=alert(1)> https://evil.example",
    "`` ` ```",
    "` @bob `",
    "a | b \\| c \\\\| @bob",
    "<!-- fleet:ticket=other attempt=1 -->",
    "-->\n<!-- fleet:end-of-evidence -->\n# Heading\n\n- [x] done",
    "\u202egnp.exe\u200b\u2066x",
    "\x1b]0;title\x07\x1b[2J",
    "</details></table><script>alert(1)</script>",
    "&lt;b&gt; &#64;bob",
    "",
    " ",
    "`",
    "\\",
]


def record(name: str, kind: GateKind, **more: object) -> GateRecord:
    values = {"mode": Mode.NO_REGRESSION, "outcome": Outcome.PASSED, "seconds": 1.0, "summary": "fine", **more}
    return GateRecord("t-1", 1, H, BASE, DIGEST, name, kind, **values)  # type: ignore[arg-type]


def evidence_of(text: str, amount: int = 1) -> Evidence:
    """Evidence in which every untrusted word is ``text``."""
    many = (text,) * amount
    found = tuple(Finding(text, 1, text, text) for _ in many)
    records = [
        record("lint", GateKind.LINT, outcome=Outcome.ALREADY_RED, already_red=293, summary=text),
        record("types", GateKind.TYPES, mode=Mode.ADVISORY, outcome=Outcome.FAILED, summary=text, new=found),
        record("tests", GateKind.TESTS, tests=TestCounts(3, 2, 0, 1), reproduced=many),
    ]
    names = tuple(one.name for one in records)
    made = GatePlanRecord("t-1", 1, 1, H, BASE, DIGEST, (*names, "licences"), ("lint", "tests"))
    proof = make_pass(made, records, H)
    assert isinstance(proof, GatePass)
    wanted = tuple(Criterion(one) for one in many)
    about = ticket(title=text, body=text, agent=f"command:{text}", criteria=wanted, id="t-1")
    change = ChangeReady("b", H, "t", BASE, 3, 4, 5, many)
    view = TicketView(
        about, State.PUBLISHING, Reason.GATES_PASSED, 0.0, change=change, attempt=1, detail=text, tier=text
    )
    return build(view, proof, made, records, many, 2, text)


def active(body: str) -> str:
    """What a page would show outside of code: rendered, code taken out."""
    html = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable("table").render(body)
    return re.sub(r"<code[^>]*>.*?</code>|<!--.*?-->", "", html, flags=re.DOTALL)


@pytest.mark.invariant("I21")
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_and_never_active(text: str) -> None:
    shown = active(texts.pull_request_body(evidence_of(text)))
    for bad in ("@", "evil", "<img", "<a ", "javascript", "<script", "Heading", "[x]", "other", "\u202e", "\x1b"):
        assert bad not in shown, (bad, shown)
    assert re.findall(r"#\d+", shown) == ["#1"]


@pytest.mark.invariant("I21")
def test_mutant_without_code_spans_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "code", lambda text, most=200: text[:most])
    shown = active(texts.pull_request_body(evidence_of(HOSTILE[0])))
    assert "@everyone" in shown


@pytest.mark.invariant("I21")
@given(st.text(max_size=300))
def test_a_code_span_holds_whatever_is_in_it(text: str) -> None:
    for span in (markdown.code(text), markdown.cell(text)):
        assert "\n" not in span and span.isprintable()
        html = (
            MarkdownIt("commonmark").enable("table").render(f"| h | i |\n|---|---|\n| x {markdown.cell(text)} | y |\n")
        )
        assert html.count("<td>") == 2 and "<td>y</td>" in html
        assert re.fullmatch(r"<p>x <code>.*</code> y</p>\n", MarkdownIt("commonmark").render(f"x {span} y"))


def test_the_body_says_what_happened() -> None:
    body = texts.pull_request_body(evidence_of("plain words"))
    for part in (
        "<!-- fleet:ticket=t-1 attempt=1 -->\n",
        "already red: 293 (unchanged)",
        "1 new, advisory only",
        "(not required)",
        "2 passed, 0 failed, 1 skipped",
        "2 commits behind it when published",
        "- `licences: no record`",
        "- `plain words`: shown by `test plain words`",
        "no model was called",
        f"git switch --detach {H} && fleet gates --base {BASE} .",
    ):
        assert part in body, part
    assert "NO TESTS RAN" not in body


def test_no_tests_ran_is_the_headline() -> None:
    body = texts.pull_request_body(replace(evidence_of("x"), no_tests_ran=True))
    assert body.split("\n")[2] == "# ⚠️ NO TESTS RAN"


@pytest.mark.parametrize("letter", ["x", "€", "`", "\u202e"])
def test_the_body_stays_below_its_limit(letter: str) -> None:
    body = texts.pull_request_body(evidence_of(letter * 10_000, amount=600))
    assert len(body.encode()) <= texts.MOST_BYTES and body.endswith(texts.END)
    merged = texts.merged_body(body + "\n" + "y" * 100_000, body)
    assert len(merged.encode()) <= texts.MOST_BYTES


def test_people_s_words_survive_and_a_foreign_body_is_replaced() -> None:
    new = texts.pull_request_body(evidence_of("x"))
    old = new.replace(texts.BEGIN, f"Before.\n\n{texts.BEGIN}") + "\n\nAfter."
    merged = texts.merged_body(old.replace("\n", "\r\n"), new.replace("attempt=1", "attempt=2"))
    assert merged.startswith("<!-- fleet:ticket=t-1 attempt=2 -->\nBefore.\n\n") and merged.endswith("\n\nAfter.")
    assert texts.merged_body(new, new) == new and texts.merged_body("else", new) == new


@pytest.mark.parametrize(
    ("text", "reproduced", "fixed", "paths", "shown"),
    [
        ("The parser takes trailing commas", ("test_parser_trailing",), (), (), ["test test_parser_trailing"]),
        ("The parser accepts commas", ("t.py::test_something",), (), (), []),
        ("`test_x` passes", ("t.py::test_x",), (), (), ["test t.py::test_x"]),
        ("No F401 is left", (), ("F401", "F401", "E501"), (), ["gate lint: 2 × F401 gone"]),
        ("`docs/a.md` explains it", (), (), ("docs/a.md", "b.md"), ["diff of docs/a.md"]),
        ("`a.md` explains it", (), (), ("xa.md",), []),
        ("It works", ("t.py::test_it_works",), (), ("it.py",), []),
    ],
)  # fmt: skip
def test_a_criterion_is_shown_by_what_speaks_of_it(
    text: str, reproduced: tuple[str, ...], fixed: tuple[str, ...], paths: tuple[str, ...], shown: list[str]
) -> None:
    lint = record("lint", GateKind.LINT, fixed=tuple(Finding("a.py", 1, code, "gone") for code in fixed))
    tests = record("tests", GateKind.TESTS, reproduced=reproduced, tests=TestCounts(1, 1))
    made = GatePlanRecord("t-1", 1, 1, H, BASE, DIGEST, ("lint", "tests"), ("lint", "tests"))
    proof = make_pass(made, (lint, tests), H)
    assert isinstance(proof, GatePass)
    view = TicketView(ticket(id="t-1"), State.PUBLISHING, Reason.GATES_PASSED, 0.0)
    evidence = build(view, proof, made, (lint, tests), paths, 0)
    assert list(criterion(Criterion(text), evidence.gates, paths).shown_by) == shown


def test_records_of_another_commit_are_not_evidence() -> None:
    evidence = evidence_of("x")
    made = GatePlanRecord("t-1", 1, 1, H, BASE, DIGEST, ("lint",), ("lint",))
    own = record("lint", GateKind.LINT)
    proof = make_pass(made, (own,), H)
    assert isinstance(proof, GatePass)
    foreign = replace(record("lint", GateKind.LINT), head="f" * 40, summary="forged")
    view = TicketView(ticket(id="t-1"), State.PUBLISHING, Reason.GATES_PASSED, 0.0)
    assert len(build(view, proof, made, (own, foreign), (), 0).gates) == 1 < len(evidence.gates)


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Fixes #12 in o/r#3", "Fixes 12 in o/r#3"),
        ("closes: o/r#3 and Resolved GH-9", "closes: o/r3 and Resolved 9"),
        ("See #12", "See #12"),
        ("a\u202eb\n", "a\\u202eb"),
    ],
)
def test_a_title_closes_nothing(text: str, title: str) -> None:
    assert plan.pull_request_title(ticket(title=text)) == title


def test_statuses_fit_and_advisory_gates_stay_green() -> None:
    said = {one.context: one for one in plan.statuses(evidence_of("x" * 500))}
    assert {name: one.state.value for name, one in said.items()} == dict.fromkeys(
        ("fleet/lint", "fleet/types", "fleet/tests"), "success"
    )
    assert all(len(one.description) <= 140 for one in said.values())
    assert said["fleet/lint"].description.startswith("already red; already red: 293 (unchanged)")


# --- the sealed state -------------------------------------------------------------------------------------------------


def test_the_status_comment_carries_the_state_and_only_this_key_opens_it() -> None:
    view = TicketView(
        ticket(), State.PARKED, Reason.BUDGET, 0.0, attempt=2, cost=Cost(usd=1.25, model_calls=2), detail="x"
    )
    comment = texts.status_comment(view, sealing.seal(sealing.sealed(view), b"k" * 32), ["@bob"])
    assert comment.startswith(sealing.marker(view.id))
    state = sealing.unseal(comment, view.ticket.issue, b"k" * 32)
    assert state is not None and (state.attempts, state.usd, state.state) == (2, 1.25, "parked")
    assert sealing.unseal(comment, view.ticket.issue, b"j" * 32) is None
    assert sealing.unseal(comment, "other/repo#1", b"k" * 32) is None
    first, rest = comment.split("\n", 1)
    for at in range(len(sealing.marker(view.id)), len(first) - 4, 7):
        changed = first[:at] + ("A" if first[at] != "A" else "B") + first[at + 1 :]
        assert sealing.unseal(f"{changed}\n{rest}", view.ticket.issue, b"k" * 32) is None
    assert "@bob" not in active(comment)


# --- base moves, as a table -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("move", "inputs", "regated", "what"),
    [
        (plan.BaseMove(), (), 0, plan.Drift.KEEP),
        (plan.BaseMove(3, paths=frozenset({"z"})), (), 0, plan.Drift.KEEP),
        (plan.BaseMove(3, paths=frozenset({"a"})), (), 0, plan.Drift.REGATE),
        (plan.BaseMove(3, paths=frozenset({"a"})), (), 1, plan.Drift.REGATE),
        (plan.BaseMove(3, paths=frozenset({"a"})), (), 2, plan.Drift.KEEP),
        (plan.BaseMove(1, paths=frozenset({"z"}), conflicts=("z",)), (), 0, plan.Drift.REGATE),
        (plan.BaseMove(1, paths=frozenset({"tox.ini"})), ("tox.ini",), 0, plan.Drift.REGATE),
        (plan.BaseMove(0, linear=False), (), 0, plan.Drift.REGATE),
    ],
)
def test_drift(move: plan.BaseMove, inputs: tuple[str, ...], regated: int, what: plan.Drift) -> None:
    assert plan.drift(move, frozenset({"a", "b"}), frozenset(inputs), regated)[0] is what


@pytest.mark.invariant("I5")
@pytest.mark.parametrize(
    ("parents", "previous", "fits"),
    [
        ((BASE,), "", True),
        ((), "", False),
        ((H,), "", False),
        ((BASE, H), "", False),
        ((H,), H, True),
        ((H, BASE), H, True),
        ((BASE, H), H, False),
        ((BASE,), H, False),
    ],
)
def test_what_the_gated_commit_must_stand_on(parents: tuple[str, ...], previous: str, fits: bool) -> None:
    assert plan.parents_fit(parents, BASE, previous) is fits
