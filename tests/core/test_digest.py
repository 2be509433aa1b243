"""What of a log the next attempt is told: the failure wherever it stands, never more than fits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core import digest
from fleet.core.digest import MOST
from tests.support.mutants import Mutant

DOTS = [f"tests/test_m{n}.py ................. [ {n}%]" for n in range(99)]
CHATTER = [f"DEBUG request {n} served in {n * 7} ms" for n in range(900)]
PYTEST = """\
____________________ test_add ____________________

    def test_add():
        calc = Calc()
>       assert calc.add(2, 2) == 4
E       assert 5 == 4
E        +  where 5 = add(2, 2)

tests/test_calc.py:7: AssertionError""".splitlines()
TRACE = """\
Traceback (most recent call last):
  File "/w/app.py", line 3, in <module>
    main()
  File "/w/app.py", line 9, in main
    return table["blue"]
KeyError: 'blue'""".splitlines()
TYPESCRIPT = ["src/a.ts:12:5 - error TS2322: Type 'string' is not assignable to type 'number'.", "12   const x = 'a';"]
RUST = """\
error[E0308]: mismatched types
 --> src/main.rs:4:18
  |
4 |     let n: u32 = "four";
  |            ---   ^^^^^^ expected `u32`, found `&str`""".splitlines()
GO = ["--- FAIL: TestSum (0.00s)", "    sum_test.go:9: Sum(2, 2) = 5; want 4", "FAIL", "exit status 1"]
JEST = ["  ● adds numbers", "", "    expect(received).toBe(expected)", "", "    Expected: 4", "    Received: 5"]
RUFF = ["src/a.py:3:1: F401 `os` imported but unused"]
WARNINGS = [f"src/b{n}.c:{n}: warning: unused variable 'x'" for n in range(400)]
FLOOD = [f"src/gen{n}.py:{n}: error: Name 'Foo' is not defined  [name-defined]" for n in range(400)]
STEP = ["now the seventh step", "ValueError: no such colour"]
SMALL = [f"warning: {chr(97 + n % 26) * (1 + n // 26)} is old" for n in range(200)]

TABLE: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "an assertion in the middle": (DOTS + PYTEST + CHATTER, (PYTEST[4], PYTEST[5], PYTEST[6], PYTEST[8])),
    "an assertion at the beginning": (PYTEST + CHATTER, (PYTEST[4], PYTEST[5])),
    "a traceback between chatter": (CHATTER + TRACE + CHATTER, (TRACE[3], TRACE[4], TRACE[5])),
    "a compiler's complaint with its line": (CHATTER + TYPESCRIPT + CHATTER, tuple(TYPESCRIPT)),
    "a complaint of several lines": (CHATTER + RUST + CHATTER, (RUST[0], RUST[1])),
    "a test of Go": (CHATTER + GO + CHATTER, (GO[0], GO[1])),
    "a test of Jest": (CHATTER + JEST + CHATTER, (JEST[0], JEST[4], JEST[5])),
    "a linter's finding": (CHATTER + RUFF + CHATTER, tuple(RUFF)),
    "warnings hide no error": (WARNINGS + TRACE + WARNINGS, (TRACE[5],)),
    "a flood of one complaint hides no other": (FLOOD[:200] + PYTEST + FLOOD[200:], (PYTEST[5], FLOOD[0])),
    "a flood of a worse complaint hides no lesser one": (FLOOD[:200] + RUFF + FLOOD[200:], (RUFF[0], FLOOD[0])),
    "what leads up to an error": (CHATTER + STEP + CHATTER, tuple(STEP)),
    "small warnings leave room for the last words": ([*SMALL, "the end"], ("the end",)),
    "a log that says nothing ends with its last words": (["\t".join("abc")] * 900 + ["the end"], ("the end",)),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_reason_is_in_it_wherever_it_stood(name: str) -> None:
    lines, wanted = TABLE[name]
    told = digest.useful("\n".join(lines), 900)
    assert len(told) <= 900
    for line in wanted:
        assert line in told.splitlines()
    assert "lines left out" in told


def test_what_is_kept_stands_in_its_order_and_gaps_are_counted() -> None:
    lines = [*CHATTER, *TRACE, *CHATTER]
    told = digest.useful("\n".join(lines), 900).splitlines()
    gaps = [int(line.split()[1]) for line in told if "lines left out" in line]
    kept = [line for line in told if "lines left out" not in line]
    assert sum(gaps) + len(kept) == len(lines)
    assert [line for line in kept if line in TRACE] == [line for line in TRACE if line in kept]


def test_what_fits_is_left_as_it_is() -> None:
    text = "\n".join(PYTEST)
    assert digest.useful(text) == text
    assert digest.useful(text, len(text)) == text


def test_a_line_without_end_takes_no_other_s_place() -> None:
    told = digest.useful("\n".join(["error: " + "x" * 50_000, *CHATTER, *TRACE]), 900)
    assert TRACE[5] in told
    assert "error: xxx" in told, "its beginning is told"
    assert len(told) <= 900


@given(
    st.text(max_size=400),
    st.lists(st.sampled_from([*PYTEST, *FLOOD[:9], *CHATTER[:9], ""]), max_size=60),
    st.integers(0, 900),
)
def test_it_never_is_longer_than_it_may_be(odd: str, lines: list[str], most: int) -> None:
    text = "\n".join([odd, *lines, odd])
    assert len(digest.useful(text, most)) <= most


@given(st.lists(st.tuples(st.text(max_size=300), st.text(max_size=900)), max_size=9), st.integers(10, 900))
def test_several_failures_share_the_room(parts: list[tuple[str, str]], most: int) -> None:
    assert len(digest.share(parts, most)) <= most


def test_each_of_several_failures_is_told() -> None:
    log = "\n".join([*CHATTER, *PYTEST])
    told = digest.share([("Gate tests failed", log), ("Gate lint failed", "\n".join([*CHATTER, *RUFF]))])
    assert len(told) <= MOST
    for line in ("Gate tests failed", PYTEST[5], "Gate lint failed", RUFF[0]):
        assert line in told.splitlines()


def the_reason_is_in_it() -> None:
    for name in TABLE:
        test_the_reason_is_in_it_wherever_it_stood(name)


def bounded() -> None:
    parts = [("Gate " + "x" * 90, "\n".join([*CHATTER, *PYTEST]))] * 9
    assert len(digest.share(parts, 900)) <= 900
    for most in (0, 10, 50, 900):
        assert len(digest.useful("\n".join(["e" * 1000, *FLOOD]), most)) <= most


ORDER = test_what_is_kept_stands_in_its_order_and_gaps_are_counted
MUTANTS = {
    "what fits is whole": Mutant(
        "fleet.core.digest:useful", "return text\n", "pass\n", test_what_fits_is_left_as_it_is
    ),
    "one line is bounded": Mutant(
        "fleet.core.digest:useful", "len(line) <= _LINE", "True", test_a_line_without_end_takes_no_other_s_place
    ),
    "the bound is kept by choice": Mutant(
        "fleet.core.digest:_chosen", "if cost <= left:", "if True:", the_reason_is_in_it
    ),
    "all of it is bounded": Mutant("fleet.core.digest:useful", ", most))[:most]", ", most))", bounded),
    "a share each": Mutant(
        "fleet.core.digest:share", "most // len(parts) - 1", "most", test_each_of_several_failures_is_told
    ),
    "shares are bounded": Mutant(
        "fleet.core.digest:share", "useful(log, room)", "log", test_each_of_several_failures_is_told
    ),
    "repetition loses worth": Mutant(
        "fleet.core.digest:_worths", "min(worth, _REPEATED * seen.get(looks, 0))", "0", the_reason_is_in_it
    ),
    "the signs of a failure": Mutant(
        "fleet.core.digest:_worths", "if sign.search(line)), 0.0", "if False), 0.0", the_reason_is_in_it
    ),
    "what leads up to it": Mutant("fleet.core.digest:_worths", "enumerate(_BEFORE, 1)", "()", the_reason_is_in_it),
    "what follows it": Mutant("fleet.core.digest:_worths", "enumerate(_AFTER, 1)", "()", the_reason_is_in_it),
    "last words": Mutant("fleet.core.digest:_worths", "_last_words(lines, found)", "pass", the_reason_is_in_it),
    "the worthiest first": Mutant("fleet.core.digest:_chosen", "-worths[n]", "worths[n]", the_reason_is_in_it),
    "in their order": Mutant("fleet.core.digest:_joined", "sorted(chosen)", "sorted(chosen)[::-1]", ORDER),
    "gaps are told": Mutant("fleet.core.digest:_joined", "if number > last + 1:", "if False:", ORDER),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_digest_that_says_less_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS[name]
    mutant.install(monkeypatch)
    assert mutant.scenario is not None
    with pytest.raises(AssertionError):
        mutant.scenario()
