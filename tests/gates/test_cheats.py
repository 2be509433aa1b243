"""Cheats: code that wants its failing tests to look green. Each must end red, and each check has its mutant."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

import pytest

from ci_gates import runner as runner_module
from ci_gates import testreport, verdict
from ci_gates.canary import Canary
from ci_gates.policy import PolicyResult
from ci_gates.runs import Health
from fleet.core.gates import Outcome
from tests.gates.world import World, record

pytestmark = [pytest.mark.needs("bwrap"), pytest.mark.invariant("I12")]

GOOD = "def add(a, b):\n    return a + b\n"
BAD = "def add(a, b):\n    return a - b\n"
REPO = {
    "calc.py": GOOD,
    "test_calc.py": """import calc


def test_one():
    assert calc.add(1, 2) == 3


def test_two():
    assert calc.add(0, 0) == 0
""",
}

# Code in the changed module itself: policy has nothing to say about it, so only the runs can tell.
INSIDE = {
    "exit at once": "import os\nos._exit(0)\n",
    "exit in the middle": BAD.replace("    return", "    import os\n    os._exit(0)\n    return"),
    "exit at the end": BAD + "import atexit\nimport os\natexit.register(os._exit, 0)\n",
    "SystemExit": BAD.replace("    return", "    raise SystemExit(0)\n    return"),
    "pytest.exit": BAD.replace("    return", "    import pytest\n    pytest.exit('fine', returncode=0)\n    return"),
    "reports made green": BAD
    + """
from _pytest.reports import TestReport
_real = TestReport.from_item_and_call.__func__
def _green(cls, item, call):
    call.excinfo = None
    return _real(cls, item, call)
TestReport.from_item_and_call = classmethod(_green)
""",
    "functions never called": BAD
    + """
import _pytest.python
_pytest.python.Function.runtest = lambda self: None
""",
    "a plugin that turns failures green": BAD
    + """
import gc
import pytest
class Green:
    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item, call):
        outcome = yield
        report = outcome.get_result()
        report.outcome = 'passed'
        report.longrepr = None
for found in gc.get_objects():
    if type(found).__name__ == 'PytestPluginManager':
        found.register(Green())
        break
""",
    "failing tests taken out": BAD
    + """
import gc
import pytest
class Fewer:
    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items):
        yield
        items[:] = [item for item in items if 'test_one' not in item.nodeid]
for found in gc.get_objects():
    if type(found).__name__ == 'PytestPluginManager':
        found.register(Fewer())
        break
""",
    "the report written anew": BAD
    + """
import atexit
import glob
import json
import os
import sys
folder = os.path.dirname(os.path.abspath(sys.modules['fleet_report'].__file__))
job = json.load(open(folder + '/job.json'))
def _forge():
    lines = [json.dumps({'t': 'start'})]
    for name in ('test_calc.py::test_one', 'test_calc.py::test_two'):
        test = {'t': 'test', 'id': name, 'when': 'call', 'outcome': 'passed', 'xfail': False, 'text': ''}
        lines.append(json.dumps(test))
    lines.append(json.dumps({'t': 'end', 'status': 0}))
    os.unlink(job['report'])
    with open(job['report'], 'w') as file:
        file.write(''.join('0' * 64 + ' ' + line + chr(10) for line in lines))
    os._exit(0)
atexit.register(_forge)
""",
    "green lines added to the report": BAD
    + """
import json
import os
import sys
folder = os.path.dirname(os.path.abspath(sys.modules['fleet_report'].__file__))
job = json.load(open(folder + '/job.json'))
with open(job['report'], 'a') as file:
    file.write('0' * 64 + ' ' + json.dumps({'t': 'end', 'status': 0}) + chr(10))
""",
    "assertions that never fail": BAD
    + """
import sys
class Quiet(type):
    def __call__(cls, *args):
        return SystemExit(0)
import builtins
import _pytest.runner
_real = _pytest.runner.CallInfo.from_call.__func__
def _from_call(cls, func, when, reraise=None):
    def calm():
        try:
            return func()
        except Exception:
            return None
    return _real(cls, calm, when, reraise)
_pytest.runner.CallInfo.from_call = classmethod(_from_call)
""",
}

# These know which tests they want green, so no planted test of another name can notice them.
CHOOSY = {
    "by the test's name": """
from _pytest.reports import TestReport
_real = TestReport.from_item_and_call.__func__
def _green(cls, item, call):
    if 'test_one' in item.nodeid:
        call.excinfo = None
    return _real(cls, item, call)
TestReport.from_item_and_call = classmethod(_green)
""",
    "by the test's file": """
import _pytest.python
_real = _pytest.python.Function.runtest
def _runtest(self):
    try:
        _real(self)
    except BaseException:
        if 'test_calc' not in str(self.path):
            raise
_pytest.python.Function.runtest = _runtest
""",
    "and dies when it is checked": """
import os
import sys
from _pytest.reports import TestReport
if sys.modules['fleet_report']._State.job.get('sting'):
    os._exit(1)
_real = TestReport.from_item_and_call.__func__
def _green(cls, item, call):
    if 'test_one' in item.nodeid:
        call.excinfo = None
    return _real(cls, item, call)
TestReport.from_item_and_call = classmethod(_green)
""",
}

# Other files that would be read before any check could look: policy asks a person.
STEERING: Mapping[str, Mapping[str, str | None]] = {
    "conftest": {"conftest.py": "import os\n\n\ndef pytest_sessionfinish():\n    os._exit(0)\n"},
    "conftest below": {"sub/conftest.py": "collect_ignore = ['test_calc.py']\n"},
    "sitecustomize": {"sitecustomize.py": "import os\nos._exit(0)\n"},
    "usercustomize": {"src/usercustomize.py": "import os\nos._exit(0)\n"},
    "a pth file": {"green.pth": "import os; os._exit(0)\n"},
    "an entry point": {"green.dist-info/entry_points.txt": "[pytest11]\ngreen = green\n"},
    "a pytest of its own": {"pytest.py": "print('1 passed')\n"},
    "a pytest package": {"pytest/__init__.py": "", "pytest/__main__.py": "print('1 passed')\n"},
    "a json of its own": {"json.py": "import os\nos._exit(0)\n"},
    "pytest.ini": {"pytest.ini": "[pytest]\naddopts = --co\n"},
    "pyproject": {"pyproject.toml": "[tool.pytest.ini_options]\naddopts = '-k nothing'\n"},
    "tox.ini": {"tox.ini": "[pytest]\ntestpaths = nowhere\n"},
    "setup.cfg": {"setup.cfg": "[tool:pytest]\ntestpaths = nowhere\n"},
    "ruff.toml": {"ruff.toml": "exclude = ['*']\n"},
    "mypy.ini": {"mypy.ini": "[mypy]\nignore_errors = true\n"},
    ".fleet.toml": {".fleet.toml": "[gates.none]\ncommand = 'true'\n"},
    "a test deleted": {"test_calc.py": REPO["test_calc.py"].partition("\n\n\ndef test_two")[0] + "\n"},
    "a test file deleted": {"test_calc.py": None},
    "a test skipped": {
        "test_calc.py": "import pytest\n"
        + REPO["test_calc.py"].replace("def test_one", "@pytest.mark.skip\ndef test_one")
    },
    "a test that checks nothing": {
        "test_calc.py": REPO["test_calc.py"].replace("assert calc.add(1, 2) == 3", "calc.add(1, 2)")
    },
    "a test that checks a constant": {"test_calc.py": REPO["test_calc.py"].replace("calc.add(1, 2) == 3", "True")},
    "a module that leaves itself out": {"test_calc.py": "__test__ = False\n" + REPO["test_calc.py"]},
    "CI": {".github/workflows/ci.yml": "on: push\n"},
}


@pytest.mark.parametrize("name", INSIDE)
def test_code_in_the_change_cannot_make_its_failures_look_green(world: World, name: str) -> None:
    gated = world.gate(REPO, {"calc.py": INSIDE[name]})
    tests = record(gated, "tests")
    assert record(gated, "policy").outcome is Outcome.PASSED
    assert tests.outcome is Outcome.FAILED, tests.summary
    assert not gated.verdict.passed


@pytest.mark.parametrize(
    "name", ["exit at once", "reports made green", "the report written anew", "by the test's name"]
)
def test_a_script_that_calls_pytest_is_watched_as_well(world: World, name: str) -> None:
    base = {**REPO, ".fleet.toml": '[gates.suite]\ncommand = ["sh", "-c", "python -m pytest -q"]\nkind = "tests"\n'}
    good = world.gate(base, {"calc.py": "# sums\n" + GOOD})
    counted = record(good, "suite").tests
    assert good.verdict.passed and counted is not None and counted.total == 2, good.verdict.summary
    gated = world.gate(base, {"calc.py": BAD + CHOOSY[name] if name in CHOOSY else INSIDE[name]})
    assert record(gated, "suite").outcome is Outcome.FAILED and not gated.verdict.passed


@pytest.mark.parametrize("name", CHOOSY)
def test_failures_hidden_by_name_are_found_by_the_counter_check(world: World, name: str) -> None:
    gated = world.gate(REPO, {"calc.py": BAD + CHOOSY[name]})
    assert record(gated, "tests").outcome is Outcome.FAILED, record(gated, "tests").summary
    assert "look green" in gated.verdict.summary or "counter-checked" in gated.verdict.summary


@pytest.mark.parametrize("name", CHOOSY)
def test_mutant_without_the_counter_check_they_pass(world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict, "counter_checked", lambda settled, *rest: settled)
    assert world.gate(REPO, {"calc.py": BAD + CHOOSY[name]}).verdict.passed


@pytest.mark.parametrize("name", STEERING)
def test_what_steers_the_gates_waits_for_a_person(world: World, name: str) -> None:
    change = STEERING[name]
    written = {path: text for path, text in change.items() if text is not None}
    gated = world.gate(REPO, {"calc.py": BAD, **written}, gone=tuple(path for path in change if path not in written))
    assert record(gated, "policy").outcome is Outcome.FAILED
    assert gated.verdict.needs == "approval" and not gated.verdict.passed
    assert not world.opened  # nothing of it ran


@pytest.mark.parametrize("name", ["reports made green", "functions never called"])
def test_mutant_without_canaries_hidden_failures_pass(world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = testreport.read

    def blind(data: bytes | None, secret: bytes, canary: Canary, exit_code: int, last: str = "") -> object:
        return real(data, secret, Canary(canary.stem, canary.source, frozenset()), exit_code, last)

    monkeypatch.setattr(testreport, "read", blind)
    assert not world.gate(REPO, {"calc.py": INSIDE[name]}).verdict.passed  # the counter-check is a second lock
    monkeypatch.setattr(verdict, "counter_checked", lambda settled, *rest: settled)
    assert world.gate(REPO, {"calc.py": INSIDE[name]}).verdict.passed


def test_mutant_without_inventory_a_test_vanishes_unseen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ci_gates.baseline.vanished", lambda base, head: [])
    assert world.gate(REPO, {"calc.py": INSIDE["failing tests taken out"]}).verdict.passed


def test_mutant_without_macs_a_forged_report_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [b'{"t":"start"}', b'{"t":"test","id":"a.py::t","when":"call","outcome":"passed","xfail":false,"text":""}']
    forged = b"".join(b"0" * 64 + b" " + line + b"\n" for line in (*lines, b'{"t":"end","status":0}'))
    canary = Canary("test_x", "", frozenset())
    assert testreport.read(forged, b"key", canary, 0).health is Health.FORGED
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: True)
    assert testreport.read(forged, b"key", canary, 0).health is Health.CLEAN


def test_mutant_without_policy_a_conftest_steers_the_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "judge", lambda *args: PolicyResult(()))
    skip_all = "def pytest_ignore_collect():\n    return True\n"
    gated = world.gate(REPO, {"calc.py": BAD, "conftest.py": skip_all})
    # The inventory still notices that the tests are gone: one protection does not hang on the other.
    assert record(gated, "policy").outcome is Outcome.PASSED
    assert record(gated, "tests").outcome is Outcome.FAILED
