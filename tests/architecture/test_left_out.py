"""What a test run says about tests that could not run, and when it is red for it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.architecture import rules

TESTS = Path(__file__).resolve().parents[1]
CASE = """
import pytest

@pytest.mark.needs("{program}")
def test_with_a_program():
    assert True

def test_plain():
    assert True
"""

FORMS = """
import pytest

@pytest.mark.slow
def test_slow():
    assert True

@pytest.mark.long
def test_long():
    assert True

@pytest.mark.root("a folder of another uid")
def test_root():
    assert True
"""


def run(tmp: Path, program: str, *options: str) -> tuple[int, list[str]]:
    """Runs two tests, of which one needs ``program``; ``no-such-program`` is listed, of package ``some-package``."""
    shutil.copy(TESTS / "conftest.py", tmp / "conftest.py")
    (tmp / "programs.txt").write_text((TESTS / "programs.txt").read_text() + "no-such-program some-package\n")
    (tmp / "test_case.py").write_text(CASE.format(program=program))
    (tmp / "test_forms.py").write_text(FORMS if "test_forms.py" in options else "")
    (tmp / "pytest.ini").write_text("[pytest]\nmarkers =\n    needs: programs\n    slow\n    long\n    root\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]
    env = {"PATH": "/usr/bin:/bin", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=tmp, env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines()


def test_a_missing_program_leaves_the_test_out_and_says_how_to_get_it(tmp_path: Path) -> None:
    code, lines = run(tmp_path, "no-such-program")
    assert code == 0
    assert "   1 tests: no-such-program is missing: apt install some-package" in lines
    assert "1 passed, 1 skipped" in lines[-1]


def test_with_nothing_left_out_it_is_a_failure(tmp_path: Path) -> None:
    code, lines = run(tmp_path, "no-such-program", "--nothing-left-out")
    assert code == 1
    assert re.search(r"1 passed, 1 (error|failed)|1 (error|failed), 1 passed", lines[-1])


def test_a_program_that_is_there_runs(tmp_path: Path) -> None:
    code, lines = run(tmp_path, "git", "--nothing-left-out")
    assert code == 0
    assert "2 passed" in lines[-1]


def test_an_unlisted_program_is_a_failure(tmp_path: Path) -> None:
    code, lines = run(tmp_path, "unlisted")
    assert code == 1
    assert any("tests/programs.txt does not list it" in line for line in lines)


def test_an_earlier_failure_makes_the_run_red(tmp_path: Path) -> None:
    code, lines = run(tmp_path, "git", "--failed-before=mypy")
    assert code == 1
    assert any(line.startswith("mypy (") for line in lines)
    assert "2 passed" in lines[-1]


def test_the_long_form_runs_only_when_it_is_wanted(tmp_path: Path) -> None:
    code, lines = run(tmp_path, "git", "--nothing-left-out", "test_forms.py")
    assert code == 0  # the machine lacks nothing
    assert "the long forms of tests are a run of their own: bin/test --long" in lines
    assert "1 deselected" in lines[-1]
    code, lines = run(tmp_path, "git", "--nothing-left-out", "--long", "test_forms.py")
    assert code == 0
    assert not any("--long" in line for line in lines)


def test_fast_leaves_the_slow_out_and_says_so(tmp_path: Path) -> None:
    code, lines = run(tmp_path, "git", "--fast", "test_forms.py")
    assert code == 0
    assert "   1 tests: slow, and the run is --fast" in lines


def test_what_only_root_can_try_is_named_when_others_run_the_tests(tmp_path: Path) -> None:
    (tmp_path / "ordinary.py").write_text("import os\nos.geteuid = lambda: 4242\n")
    code, lines = run(tmp_path, "git", "--nothing-left-out", "-p", "ordinary", "test_forms.py")
    assert code == 0
    assert "   1 tests: only root can try this: a folder of another uid" in lines


def test_every_program_that_a_test_needs_is_listed() -> None:
    listed = {line.split()[0] for line in (TESTS / "programs.txt").read_text().splitlines() if line[:1] not in "#"}
    wanted = {
        program
        for _, file in rules.sources(TESTS.parent, "tests")
        if file.name != Path(__file__).name
        for program in re.findall(r'mark\.needs\("([\w-]+)"', file.read_text())
    }
    assert wanted - listed == set()
    assert "bwrap" in listed
