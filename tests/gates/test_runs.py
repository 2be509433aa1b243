"""Real gates in the real sandbox on small repositories."""

from __future__ import annotations

import os

import pytest

from ci_gates.runner import GateRunner, Job, Listener
from fleet.adapters.clock import SystemClock
from fleet.adapters.ids import SystemIds
from fleet.adapters.sandbox import probe_tiers
from fleet.adapters.slots import Slot, Slots
from fleet.core.errors import ParkError
from fleet.core.gates import GatePlanRecord, GateRecord, Outcome
from fleet.core.sandbox import Sandbox, Tier
from tests.gates.world import World, opener, record

pytestmark = [pytest.mark.needs("bwrap")]

CODE = "def add(a, b):\n    return a + b\n"
TESTS = """from calc import add


def test_add():
    assert add(1, 2) == 3


def test_zero():
    assert add(0, 0) == 0
"""
REPO = {"calc.py": CODE, "test_calc.py": TESTS}
BROKEN = "def add(a, b):\n    return a - b\n"


@pytest.mark.invariant("I5")
def test_a_harmless_change_passes_every_gate(world: World) -> None:
    gated = world.gate(REPO, {"calc.py": '"""Sums."""\n\n\n' + CODE})
    assert gated.verdict.passed, gated.verdict.summary
    assert {one.name: one.outcome for one in gated.records if one.name in gated.plan.needed} == {
        "policy": Outcome.PASSED,
        "syntax": Outcome.PASSED,
        "tests": Outcome.PASSED,
    }
    tests = record(gated, "tests")
    assert tests.tests is not None and (tests.tests.total, tests.tests.passed) == (2, 2)
    assert tests.tier in ("bubblewrap", "landlock")
    assert b"$ python -m pytest -q" in (world.artifacts.get(tests.log) or b"")


@pytest.mark.invariant("I5")
def test_a_breaking_change_is_refused_and_its_new_failure_named(world: World) -> None:
    gated = world.gate(REPO, {"calc.py": BROKEN})
    assert not gated.verdict.passed and not gated.verdict.needs
    assert [one.code for one in record(gated, "tests").new] == ["test_calc.py::test_add"]
    assert "test_calc.py::test_add" in gated.verdict.summary


def test_what_was_red_before_stays_no_reason_against_the_change(world: World) -> None:
    base = {**REPO, "calc.py": BROKEN, "other.py": "import os\n", "ruff.toml": ""}
    gated = world.gate(base, {"other.py": "'''moved'''\n\nimport os\n"})
    assert gated.verdict.passed, gated.verdict.summary
    assert record(gated, "tests").outcome is Outcome.ALREADY_RED and record(gated, "tests").already_red == 1
    assert record(gated, "lint").outcome is Outcome.ALREADY_RED


def test_a_second_complaint_of_a_known_kind_is_new(world: World) -> None:
    base = {**REPO, "other.py": "import os\n", "ruff.toml": ""}
    gated = world.gate(base, {"other.py": "import os\nimport sys\n"})
    assert not gated.verdict.passed
    assert [(one.path, one.line, one.code) for one in record(gated, "lint").new] == [("other.py", 2, "F401")]


def test_a_fix_with_its_test_is_fixed_and_shown(world: World) -> None:
    test = "from calc import add\n\n\ndef test_negative():\n    assert add(-1, 1) == 0\n"
    gated = world.gate({**REPO, "calc.py": BROKEN}, {"calc.py": CODE, "test_more.py": test})
    assert gated.verdict.passed, gated.verdict.summary
    tests = record(gated, "tests")
    assert tests.outcome is Outcome.FIXED
    assert [one.code for one in tests.fixed] == ["test_calc.py::test_add"]
    assert tests.reproduced == ("test_more.py::test_negative",)


FICKLE = """import calc

ran = []


def test_first():
    ran.append(1)


def test_second():
    assert bool(ran) is calc.WANTED
"""


def test_a_failure_that_goes_away_is_red_unless_it_is_flaky_on_base_too(world: World) -> None:
    # test_second depends on whether test_first ran before it, and a second run runs it alone.
    base = {
        "calc.py": "WANTED = None\n",
        "test_calc.py": FICKLE.replace("bool(ran) is", "calc.WANTED is None or bool(ran) is"),
    }
    steady = world.gate(base, {"calc.py": "WANTED = False\n"})
    assert record(steady, "tests").outcome is Outcome.FAILED
    assert "passed when run again" in steady.verdict.summary
    fickle = world.gate({"calc.py": "WANTED = True\n", "test_calc.py": FICKLE}, {"calc.py": "WANTED = False\n"})
    assert record(fickle, "tests").outcome is Outcome.FLAKY and fickle.verdict.passed


def test_no_gate_at_all_parks(world: World) -> None:
    gated = world.gate({"README": "hello\n"}, {"README": "hello, world\n"}, allow_no_tests=True)
    assert not gated.verdict.passed and gated.verdict.needs == "no_gates"


@pytest.mark.parametrize("allowed", [False, True])
def test_no_test_ran_parks_unless_somebody_allowed_it(world: World, allowed: bool) -> None:
    gated = world.gate({"calc.py": CODE}, {"calc.py": "# sums\n" + CODE}, allow_no_tests=allowed)
    assert gated.verdict.passed is allowed
    assert gated.verdict.no_tests_ran
    assert gated.verdict.needs == ("" if allowed else "no_gates")


def test_tests_that_could_not_run_on_base_either_count_as_no_tests(world: World) -> None:
    base = {**REPO, "conftest.py": "import not_installed_anywhere\n"}
    gated = world.gate(base, {"calc.py": "# sums\n" + CODE})
    assert not gated.verdict.passed and gated.verdict.needs == "no_gates", gated.verdict.summary
    assert "not_installed_anywhere" in record(gated, "tests").summary
    allowed = world.gate(base, {"calc.py": "# sums\n" + CODE}, allow_no_tests=True)
    assert allowed.verdict.passed and allowed.verdict.no_tests_ran


def test_options_of_missing_plugins_are_set_aside(world: World) -> None:
    base = {**REPO, "pytest.ini": "[pytest]\naddopts = --cov=calc\n"}
    gated = world.gate(base, {"calc.py": "# sums\n" + CODE})
    assert gated.verdict.passed, gated.verdict.summary
    assert record(gated, "tests").tests is not None


def test_command_gates_of_base_are_run_as_they_stand(world: World) -> None:
    toml = """
[gates.marker]
command = ["sh", "-c", "test ! -e forbidden"]
[gates.suite]
command = "python -m pytest -q test_calc.py"
kind = "tests"
mode = "required"
"""
    base = {**REPO, ".fleet.toml": toml}
    good = world.gate(base, {"calc.py": "# sums\n" + CODE})
    assert good.verdict.passed, good.verdict.summary
    assert [one.name for one in good.records] == ["policy", "marker", "suite"] and good.plan.source == ".fleet.toml"
    bad = world.gate(base, {"forbidden": "x\n"})
    assert not bad.verdict.passed and record(bad, "marker").outcome is Outcome.FAILED


def test_a_gate_that_never_ends_is_timed_out(world: World) -> None:
    toml = '[gates.slow]\ncommand = ["sh", "-c", "test ! -e slow || sleep 600"]\ntimeout = "2s"\n'
    gated = world.gate({**REPO, ".fleet.toml": toml + "[policy]\nallow_no_tests = true\n"}, {"slow": "x\n"})
    assert record(gated, "slow").outcome is Outcome.TIMED_OUT and not gated.verdict.passed


@pytest.mark.invariant("I5")
def test_odd_and_binary_names_come_through(world: World) -> None:
    odd = {os.fsdecode(b"caf\xe9.txt"): "latin\n", "with space.txt": "x\n", "ünïcode.txt": "x\n", "-rf": "x\n"}
    gated = world.gate({**REPO, **odd}, {path: "changed\n" for path in odd})
    assert gated.verdict.passed, gated.verdict.summary
    binary = world.gate(REPO, {"image.bin": b"\x00\x01\x02"})
    assert binary.verdict.needs == "approval" and "binary" in binary.verdict.summary


def test_base_is_run_once_for_the_same_tree(world: World) -> None:
    told: list[GateRecord] = []
    plans: list[GatePlanRecord] = []
    before = world.commit(REPO)
    for number in range(2):
        after = world.commit({**REPO, "calc.py": f"{CODE}# {number}\n"}, before)
        job = Job("t", 1, 1, after, before, "tickets/t/1")
        world.runner.run(world.store, job, Listener(plans.append, told.append))
    logs = sorted((world.layout.artifacts / "gates" / "base").rglob("*tests.log"))
    assert len(logs) == 1 and len(plans) == 2
    assert len(told) == 8
    kept = logs[0].with_suffix(".json")
    kept.write_text("not a run")
    after = world.commit({**REPO, "calc.py": BROKEN}, before)
    gated = world.runner.run(world.store, Job("t", 1, 1, after, before, "tickets/t/1"))
    assert not gated.verdict.passed  # an unreadable cache is no baseline


@pytest.mark.invariant("I9")
@pytest.mark.parametrize("tier", [Tier.BUBBLEWRAP, Tier.LANDLOCK])
def test_gates_say_the_same_on_each_tier(world: World, tier: Tier) -> None:
    if not any(one.available for one in probe_tiers() if one.tier is tier):
        pytest.skip(f"this kernel has no {tier.value} tier")
    slots, sandbox = Slots(world.layout), opener(world.layout, world.opened, (tier,))
    world.runner = GateRunner(slots, sandbox, world.environment, world.artifacts, SystemClock(), SystemIds())
    good, bad = world.gate(REPO, {"calc.py": "# sums\n" + CODE}), world.gate(REPO, {"calc.py": BROKEN})
    assert good.verdict.passed, good.verdict.summary
    assert [one.code for one in record(bad, "tests").new] == ["test_calc.py::test_add"]
    assert record(good, "tests").tier == record(bad, "tests").tier == tier.value


@pytest.mark.invariant("I9")
def test_without_a_sandbox_nothing_runs(world: World) -> None:
    def none(slot: Slot) -> Sandbox:
        raise ParkError("no_sandbox", "No sandbox holds on this machine.")

    runner = GateRunner(Slots(world.layout), none, world.environment, world.artifacts, SystemClock(), SystemIds())
    before = world.commit(REPO)
    after = world.commit({**REPO, "calc.py": BROKEN}, before)
    with pytest.raises(ParkError):
        runner.run(world.store, Job("t", 1, 1, after, before, "tickets/t/1"))


@pytest.mark.invariant("I12")
def test_policy_stands_before_everything_that_could_run(world: World) -> None:
    gated = world.gate(REPO, {"calc.py": "# sums\n" + CODE, "conftest.py": "raise SystemExit(0)\n"})
    assert not gated.verdict.passed and gated.verdict.needs == "approval"
    assert {one.name: one.outcome for one in gated.records if one.name != "policy"} == {
        "syntax": Outcome.NOT_RUN,
        "lint": Outcome.NOT_RUN,
        "tests": Outcome.NOT_RUN,
    }
    assert world.environment.asked == 0 and not world.opened
