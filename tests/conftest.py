"""Markers and options that all tests share; bin/test explains them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent / "programs.txt"
# Files go to the workers of bin/test in this order, longest first, so that no worker ends alone with a long one.
LONG_FIRST = ("realdata", "e2e", "chaos", "scenarios", "gates", "publisher", "supervisor", "workers", "environments")
NOT_WANTED = "slow, and the run is --fast"
ONLY_ROOT = "only root can try this: "


def packages() -> dict[str, str]:
    """Program → Debian package, for every program that a test may need."""
    rows = (line.split() for line in PROGRAMS.read_text().splitlines() if line and not line.startswith("#"))
    return {program: package for program, package in rows}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fleet")
    group.addoption(
        "--nothing-left-out", action="store_true", help="a test left out for what the machine lacks is a failure"
    )
    group.addoption("--fast", action="store_true", help="without the slow tests")
    group.addoption("--long", action="store_true", help="also the long forms of tests")
    group.addoption("--failed-before", default="", metavar="CHECKS", help="checks that failed before pytest began")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Puts the files below the folders of LONG_FIRST first, in that order.

    The long forms run the same tests with more rounds; without --long they are not selected, which leaves nothing out.
    """
    long_forms = [item for item in items if item.get_closest_marker("long") and not config.getoption("--long")]
    if long_forms:
        config.hook.pytest_deselected(items=long_forms)
        items[:] = [item for item in items if item not in long_forms]
    places = {folder: place for place, folder in enumerate(LONG_FIRST)}
    items.sort(key=lambda item: places.get(item.path.parent.name, len(places)))


@pytest.fixture(scope="session", autouse=True)
def _own_git_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test depends on the git settings, the identity or the signing key of whoever runs it."""
    settings = tmp_path_factory.mktemp("git") / "config"
    settings.write_text("[user]\n\tname = Test\n\temail = test@example.invalid\n[init]\n\tdefaultBranch = main\n")
    os.environ.update(GIT_CONFIG_GLOBAL=str(settings), GIT_CONFIG_NOSYSTEM="1", GIT_TERMINAL_PROMPT="0")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leaves a test out, or fails it under --nothing-left-out, when a program that it needs is missing."""
    if item.get_closest_marker("slow") and item.config.getoption("--fast"):
        pytest.skip(NOT_WANTED)
    for marker in item.iter_markers("root"):
        if os.geteuid() != 0:
            pytest.skip(ONLY_ROOT + marker.args[0])
    known = packages()
    for marker in item.iter_markers("needs"):
        for program in marker.args:
            if program not in known:
                pytest.fail(f"needs({program!r}): tests/programs.txt does not list it", pytrace=False)
            if shutil.which(program) is None:
                reason = f"{program} is missing: apt install {known[program]}"
                if item.config.getoption("--nothing-left-out"):
                    pytest.fail(reason, pytrace=False)
                pytest.skip(reason)


def _reason(report: pytest.TestReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Red, too, when an earlier check failed or when something was left out that must not be."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    reasons = {_reason(report) for report in reporter.stats.get("skipped", [])} if reporter else set()
    lacking = {why for why in reasons - {NOT_WANTED} if not why.startswith(ONLY_ROOT)}
    left_out = lacking and session.config.getoption("--nothing-left-out")
    if exitstatus == pytest.ExitCode.OK and (left_out or session.config.getoption("--failed-before")):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What did not run, by reason, just before pytest's last line."""
    reasons: dict[str, list[str]] = {}
    for report in terminalreporter.stats.get("skipped", []):
        reasons.setdefault(_reason(report), []).append(report.nodeid)
    if reasons:
        terminalreporter.section("left out")
        for reason, tests in sorted(reasons.items()):
            terminalreporter.line(f"{len(tests):4} tests: {reason}")
    others = len(terminalreporter.stats.get("deselected", []))
    if others:
        terminalreporter.line(f"{others:4} tests were not selected")
    if not terminalreporter.config.getoption("--long"):
        terminalreporter.line("the long forms of tests are a run of their own: bin/test --long")
    failed = terminalreporter.config.getoption("--failed-before")
    if failed:
        terminalreporter.section("failed before the tests")
        terminalreporter.line(f"{failed} (their messages stand above)")
