"""Doing to a lane what the deck says: signals to its processes, faults on its lines; all is mended afterwards."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol, assert_never

from fleet.adapters.acl import Role
from fleet.adapters.fork import children
from fleet.adapters.launcher import LocalLauncher
from fleet.adapters.ledger import RedisLedger
from fleet.adapters.redis_client import connect
from fleet.chaos.deck import Break, Empty, Freeze, FreezeAt, Kill, KillAt, Link, Nothing, Round, moment, most
from fleet.chaos.lane import Lane
from fleet.chaos.proxy import Fault, Proxy, before
from fleet.core.ports import Clock
from fleet.core.states import State
from fleet.core.view import TicketView
from fleet.local.keys import REHEARSAL_SOCKET

_ORDER = (State.STARTING, State.RUNNING, State.GATING, State.PUBLISHING, State.IN_REVIEW)
_OF_ATTEMPTS = ("guard", "loop")


class Strike(Protocol):
    """``ledger``: where the round is watched from. ``struck``: how often something was hit so far.

    ``over`` False: somebody is still frozen, who may yet do what is too late.
    """

    ledger: RedisLedger

    @property
    def struck(self) -> int: ...

    @property
    def over(self) -> bool: ...

    def turn(self, views: Sequence[TicketView]) -> None:
        """Looks whether it is time, and strikes; returns when what lasts for a while is over."""


@contextmanager
def prepared(lane: Lane, one: Round, clock: Clock) -> Iterator[Strike]:
    """What must be in place before the tickets come. At the end nothing of it is left, whatever happened."""
    what, ledger = one.what, lane.ledger()
    match what:
        case Nothing():
            yield _Once(ledger, State.QUEUED, lambda: 0)
        case KillAt():
            with _point(lane, what, one) as folder:
                yield _AtPoint(ledger, folder)
        case FreezeAt():
            with _point(lane, what, one) as folder:
                frozen = _FrozenAtPoint(ledger, folder, what.seconds, clock)
                try:
                    yield frozen
                finally:
                    frozen.thaw(0.0)
        case Kill():
            yield _kill(lane, what, one, ledger)
        case Freeze():
            yield _Once(ledger, moment(what, one.dice), lambda: _freeze(pids(lane, what.process), what.seconds, clock))
        case Break():
            with _line(lane, what.link) as (proxy, socket):
                yield _Once(lane.ledger(socket), moment(what, one.dice), lambda: _break(proxy, what, clock))
        case Empty():
            yield _Once(ledger, moment(what, one.dice), lambda: _empty(lane))
        case _ as never:
            assert_never(never)


class _Once:
    """Strikes when the first ticket has come as far as ``when``."""

    over = True

    def __init__(self, ledger: RedisLedger, when: State, hit: Callable[[], int]) -> None:
        self.ledger = ledger
        self.struck = 0
        self._when = when
        self._hit = hit

    def turn(self, views: Sequence[TicketView]) -> None:
        if not self.struck and _reached(views, self._when):
            self.struck = self._hit()


def _reached(views: Sequence[TicketView], when: State) -> bool:
    """Whether a ticket got there or beyond, while another one is still at work."""
    if when not in _ORDER:
        return False
    there = [view for view in views if view.state in _ORDER and _ORDER.index(view.state) >= _ORDER.index(when)]
    return bool(there) and any(view.state.active for view in views)


class _EachAttempt:
    """Kills the guard or the loop of every ticket's first attempt, once it works."""

    over = True

    def __init__(self, ledger: RedisLedger, lane: Lane, process: str) -> None:
        self.ledger = ledger
        self._lane = lane
        self._process = process
        self._done: set[str] = set()

    @property
    def struck(self) -> int:
        return len(self._done)

    def turn(self, views: Sequence[TicketView]) -> None:
        working = {view.id for view in views if view.state is State.RUNNING and view.attempt == 1}
        for live in _launcher(self._lane).live():
            if live.ticket in working - self._done and live.attempt == 1:
                found = [live.pid] if self._process == "guard" else list(children(live.pid)[:1])
                if _signal(found, signal.SIGKILL):
                    self._done.add(live.ticket)


class _AtPoint:
    """The processes die by themselves; ``folder`` has a file for each death."""

    def __init__(self, ledger: RedisLedger, folder: Path) -> None:
        self.ledger = ledger
        self._folder = folder

    @property
    def struck(self) -> int:
        return len(list(self._folder.iterdir()))

    @property
    def over(self) -> bool:
        return True

    def turn(self, views: Sequence[TicketView]) -> None:
        return


class _FrozenAtPoint(_AtPoint):
    """The processes stop by themselves; each is sent on ``seconds`` after it was found."""

    def __init__(self, ledger: RedisLedger, folder: Path, seconds: float, clock: Clock) -> None:
        super().__init__(ledger, folder)
        self._seconds = seconds
        self._clock = clock
        self._found: dict[int, float] = {}
        self._thawed: set[int] = set()

    @property
    def over(self) -> bool:
        return len(self._thawed) == self.struck

    def turn(self, views: Sequence[TicketView]) -> None:
        self.thaw(self._seconds)

    def thaw(self, seconds: float) -> None:
        """Sends on whoever has been found for ``seconds``."""
        now = self._clock.monotonic()
        for file in self._folder.iterdir():
            pid = int(file.read_text() or 0)
            if pid and now - self._found.setdefault(pid, now) >= seconds:
                _signal([pid], signal.SIGCONT)
                self._thawed.add(pid)


@contextmanager
def _point(lane: Lane, what: KillAt | FreezeAt, one: Round) -> Iterator[Path]:
    how = "kill" if isinstance(what, KillAt) else "stop"
    folder = lane.folder / f"{how}-{what.point}-{one.number}"
    folder.mkdir()
    fresh = lane.choice.with_suffix(".new")
    fresh.write_text(f"{what.point}:{most(what, one.tickets)}:{folder}:{how}")
    fresh.replace(lane.choice)
    try:
        yield folder
    finally:
        lane.choice.unlink()


def _kill(lane: Lane, what: Kill, one: Round, ledger: RedisLedger) -> Strike:
    if what.process in _OF_ATTEMPTS:
        return _EachAttempt(ledger, lane, what.process)
    return _Once(ledger, moment(what, one.dice), lambda: _signal(pids(lane, what.process), signal.SIGKILL))


def pids(lane: Lane, name: str) -> list[int]:
    """The processes of that name that live now."""
    home = lane.home
    if name == "host":
        state = home.host_state()
        return [state.pid] if state is not None and home.host_runs() else []
    if name == "redis":
        pid = lane.client.wiring.embedded.pid()
        return [pid] if pid else []
    if name in _OF_ATTEMPTS:
        guards = [live.pid for live in _launcher(lane).live()]
        return guards if name == "guard" else [loop for guard in guards for loop in children(guard)[:1]]
    return [pid for service, pid in home.service_pids().items() if service == name]


def _launcher(lane: Lane) -> LocalLauncher:
    return LocalLauncher(lane.home.layout, lane.client.wiring.clock)


def _signal(found: Sequence[int], number: signal.Signals) -> int:
    """How many got it."""
    hit = 0
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            hit += 1
    return hit


def _freeze(found: Sequence[int], seconds: float, clock: Clock) -> int:
    hit = _signal(found, signal.SIGSTOP)
    try:
        clock.sleep(seconds if hit else 0.0)
    finally:
        _signal(found, signal.SIGCONT)
    return hit


def _break(proxy: Proxy, what: Break, clock: Clock) -> int:
    """1 when the line carried anything: a fault that nobody met shows nothing."""
    proxy.fail(what.fault, what.status or 503, *what.headers)
    try:
        clock.sleep(what.seconds)
        # Where nobody listens nobody can be counted; everybody who tries meets it all the same.
        return int(what.fault is Fault.REFUSE or proxy.connections > 0 or bool(proxy.requests))
    finally:
        proxy.mend()


@contextmanager
def _line(lane: Lane, link: Link) -> Iterator[tuple[Proxy, Path | None]]:
    """The proxy in that line, and the store's real socket when it was moved."""
    runtime = lane.home.layout.runtime
    match link:
        case Link.FORGE:
            yield lane.forge, None
        case Link.MODEL:
            with before(runtime / REHEARSAL_SOCKET) as (proxy, _):
                yield proxy, None
        case Link.STORE:
            with before(lane.client.wiring.embedded.socket) as (proxy, real):
                _hang_up(lane, real)
                yield proxy, real
        case _ as never:
            assert_never(never)


def _hang_up(lane: Lane, socket: Path) -> None:
    """Everybody must connect anew, and so meets the proxy."""
    wiring = lane.client.wiring
    admin = connect(
        type(wiring.address)(socket=socket), Role.ADMIN.value, wiring.password(Role.ADMIN), socket_timeout=5.0
    )
    for kind in ("normal", "pubsub"):
        admin.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
    admin.close()


def _empty(lane: Lane) -> int:
    wiring = lane.client.wiring
    admin = wiring.client(Role.ADMIN)
    admin.execute_command("FLUSHALL")
    admin.close()
    return 1
