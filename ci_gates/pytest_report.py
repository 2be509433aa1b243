"""A pytest plugin that the fleet puts into the sandbox: it writes down how each test ended.

It runs inside the repository's own interpreter and imports nothing of the fleet. Two things make its report hard to
forge: each line carries a MAC with a key that is read and deleted before any file of the repository is loaded, and
among the tests stand canaries, some of which must fail. Code that makes failures look green makes the canaries
look green as well. In a counter-check ("sting") all tests that were green run again with a failure in place of their
body. Code in the same process that goes looking for the key can still find it: docs/gates.md says so.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import pathlib
from typing import Any

import pytest

HERE = pathlib.Path(__file__).resolve().parent
TEXT = 3000


class _State:
    job: dict[str, Any] = {}  # noqa: RUF012 - read once, before anything of the repository runs
    recorder: Any = None


class Recorder:
    """Appends lines ``MAC JSON``; each MAC covers the one before, so that no line can be left out or moved."""

    def __init__(self, path: str, secret: bytes) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._pid = os.getpid()
        self._last = b""

        def sign(data: bytes, _new: Any = hmac.new, _hash: Any = hashlib.sha256) -> bytes:
            return bytes(_new(secret, data, _hash).hexdigest().encode())

        self._sign = sign

    def write(self, record: dict[str, Any]) -> None:
        """A forked child of a test writes nothing."""
        if os.getpid() != self._pid:
            return
        line = json.dumps(record).encode()
        self._last = self._sign(self._last + line)
        os.write(self._file, self._last + b" " + line + b"\n")


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_load_initial_conftests() -> Any:
    """The earliest hook there is: no conftest of the repository is loaded yet."""
    _State.job = json.loads((HERE / "job.json").read_text())
    try:
        with open(_State.job["secret"], "rb") as file:
            secret = file.read()
        os.unlink(_State.job["secret"])
    except OSError:
        pass  # a worker of pytest-xdist, or a second run in the same sandbox: the first one records
    else:
        _State.recorder = Recorder(_State.job["report"], secret)
        _State.recorder.write({"t": "start"})
    yield


@pytest.hookimpl(trylast=True)
def pytest_configure(config: Any) -> None:
    # Stopping at the first failure would hide the others, and a canary would be that failure.
    if hasattr(config.option, "maxfail"):
        config.option.maxfail = 0


@pytest.hookimpl(hookwrapper=True, trylast=True)
def pytest_collection_modifyitems(session: Any, config: Any, items: list[Any]) -> Any:
    yield
    only = _State.job.get("only")
    if only:
        wanted = set(only)
        dropped = [item for item in items if item.nodeid not in wanted]
        items[:] = [item for item in items if item.nodeid in wanted]
        if _State.job.get("sting"):
            items[:] = [item for item in items if isinstance(item, pytest.Function)]
        if dropped:
            config.hook.pytest_deselected(items=dropped)
    if _State.recorder is None and not hasattr(config, "workerinput"):
        return  # a second run of pytest in the same command: its status alone speaks
    canaries = _canaries(session)
    half = len(canaries) // 2
    items[:0] = canaries[:half]
    items.extend(canaries[half:])
    if _State.recorder is not None:
        _State.recorder.write({"t": "items", "ids": [item.nodeid for item in items]})


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_call(item: Any) -> Any:
    """In a counter-check every test of the repository fails under its own name; one that looks green is forged."""
    if _State.job.get("sting") and isinstance(item, pytest.Function) and _State.job["canary"][:-3] not in item.nodeid:
        item.obj = _planted
    yield


def _planted(*_args: Any, **_more: Any) -> None:
    raise AssertionError("planted")


def _canaries(session: Any) -> list[Any]:
    path = HERE / _State.job["canary"]
    module = pytest.Module.from_parent(session, path=path)
    return list(module.collect())


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_logreport(report: Any) -> Any:
    if _State.recorder is not None:
        outcome = str(report.outcome)
        _State.recorder.write(
            {
                "t": "test",
                "id": str(report.nodeid),
                "when": str(report.when),
                "outcome": outcome,
                "xfail": hasattr(report, "wasxfail"),
                "text": _text(report) if outcome == "failed" else "",
            }
        )
        if pathlib.Path(_State.job["canary"]).stem in str(report.nodeid) and outcome == "failed":
            # Written down as it was; from here on it must not count as a failure of the repository.
            report.outcome, report.longrepr = "passed", None
    yield


@pytest.hookimpl(tryfirst=True)
def pytest_collectreport(report: Any) -> None:
    if _State.recorder is not None and report.failed:
        _State.recorder.write({"t": "collect", "id": str(report.nodeid), "text": _text(report)})


@pytest.hookimpl(hookwrapper=True)
def pytest_sessionfinish(exitstatus: Any) -> Any:
    yield
    if _State.recorder is not None:
        _State.recorder.write({"t": "end", "status": int(exitstatus)})


def _text(report: Any) -> str:
    try:
        return str(report.longrepr)[-TEXT:]
    except Exception as error:
        return f"({type(error).__name__} while the failure was written down)"
