"""The host's end, with real processes: services are told to stop, attempts to hand back, and a second signal kills."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleet.adapters import fork
from fleet.adapters.clock import SystemClock
from fleet.adapters.launcher import folder_of, leave, sign, take
from fleet.adapters.layout import Layout
from fleet.adapters.slots import remove_tree
from fleet.local.attempts import LiveAttempts
from fleet.local.host import Host
from tests.support.mutants import Mutant
from tests.support.wait import eventually

CLOCK = SystemClock()


class House:
    """A host with one service and one attempt; each writes a file when it was asked to end, and ends if it obeys."""

    def __init__(self, home: Path, obeys: bool) -> None:
        self.layout = Layout(home, os.geteuid())
        self.layout.make()
        self._obeys = obeys
        self.attempt = fork.fork(self._attempt)
        assert eventually(lambda: LiveAttempts(self.layout, CLOCK).live() != ())
        self.host = fork.fork(self._host)
        assert eventually(self.file("service.lives").exists)

    def file(self, name: str) -> Path:
        return self.layout.home / name

    def _attempt(self) -> None:
        folder = folder_of(self.layout.attempts, "demo-1-abc", 1)
        lock = take(folder, CLOCK)
        assert lock is not None
        self._until_asked("attempt", lambda: sign(lock, os.getpid()))
        leave(folder)

    def _host(self) -> None:
        services = {"service": lambda: self._until_asked("service", lambda: None)}
        attempts = LiveAttempts(self.layout, CLOCK)
        host = Host(services, self.layout.logs, CLOCK, lambda: False, 60.0, lambda _: None, lambda: None, attempts)
        host.run()

    def _until_asked(self, name: str, ready: Callable[[], None]) -> None:
        asked: list[int] = []

        def heard(number: int, frame: object) -> None:
            self.file(f"{name}.asked").touch()
            asked.append(number)

        signal.signal(signal.SIGTERM, heard)
        ready()
        self.file(f"{name}.lives").write_text(str(os.getpid()))
        while not asked or not self._obeys:
            time.sleep(0.02)

    def gone(self, pid: int) -> bool:
        return eventually(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid, 10)

    def close(self) -> None:
        """The service, too: a host that is killed, or asks nobody, leaves it behind."""
        service = self.file("service.lives").read_text()
        for pid in (self.host, self.attempt, *([int(service)] if service else [])):
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                continue
        remove_tree(self.layout.work)
        remove_tree(self.layout.runtime)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Callable[[bool], House]]:
    made: list[House] = []

    def build(obeys: bool) -> House:
        made.append(House(tmp_path / "home", obeys))
        return made[-1]

    yield build
    for one in made:
        one.close()


def told_to_stop(house: House) -> None:
    os.kill(house.host, signal.SIGTERM)
    assert house.gone(house.host)
    assert house.gone(house.attempt)
    assert house.file("service.asked").exists()
    assert house.file("attempt.asked").exists(), "it could not keep what it had done"


def told_twice(house: House) -> None:
    os.kill(house.host, signal.SIGTERM)
    assert eventually(house.file("attempt.asked").exists)
    os.kill(house.host, signal.SIGTERM)
    assert house.gone(house.host)
    assert house.gone(house.attempt)


@pytest.mark.invariant("I18")
def test_a_host_that_goes_asks_its_services_and_its_attempts(house: Callable[[bool], House]) -> None:
    told_to_stop(house(True))


@pytest.mark.invariant("I18")
def test_a_second_signal_kills_what_does_not_obey(house: Callable[[bool], House]) -> None:
    told_twice(house(False))


@pytest.mark.invariant("I18")
@pytest.mark.parametrize(
    ("mutant", "scenario", "obeys"),
    [
        (Mutant("fleet.local.host:Host._left", "self._attempts.hand_back()", "False"), told_to_stop, True),
        (Mutant("fleet.local.host:Host._stop_all", "self._signal(one, signal.SIGTERM)", "pass"), told_to_stop, True),
        (Mutant("fleet.local.host:Host._stop_all", "self._attempts.kill()", "pass"), told_twice, False),
    ],
    ids=lambda value: value.new if isinstance(value, Mutant) else "",
)
def test_a_host_that_asks_nobody_is_noticed(
    house: Callable[[bool], House],
    monkeypatch: pytest.MonkeyPatch,
    mutant: Mutant,
    scenario: Callable[[House], None],
    obeys: bool,
) -> None:
    mutant.install(monkeypatch)
    with pytest.raises(AssertionError):
        scenario(house(obeys))
