"""What an attempt of one tenant can see of another's: nothing, while both work on one machine (I22)."""

from __future__ import annotations

import subprocess

import pytest

from fleet.core.codec import decode
from fleet.core.events import ChangeReady
from fleet.core.frozen import replace
from fleet.core.states import Reason, State
from fleet.core.ticket import Ticket, ticket_id
from fleet.core.view import TicketView
from tests.support.mutants import Mutant
from tests.support.tickets import ticket
from tests.support.wait import eventually
from tests.workers.kit import Attempts

pytestmark = pytest.mark.needs("bwrap")
# Written in two halves, so that no command line and no log holds it by itself.
CANARY = "canary-of-" + "tenant-a"
KEEPS = "command:sh -c 'echo canary-of-$0 > kept.txt && sleep 7653' tenant-a"


def order(attempts: Attempts, tenant: str, agent: str) -> Ticket:
    made = ticket(agent=agent, repo=f"{tenant}/app")
    made = replace(made, id=ticket_id(tenant, made.repo, 1, 1), tenant=tenant)
    attempts.channel.put(TicketView(made, State.STARTING, Reason.GRANTED, since=0.0, attempt=1))
    return made


def finds_nothing(attempts: Attempts) -> None:
    places = sorted({str(attempts.layout.home), str(attempts.layout.work), "/tmp", "/var/tmp", "/run"})
    attempts.serve()
    first = order(attempts, "tenant-a", KEEPS)
    live = attempts.launcher.start(first.id, 1)

    def kept() -> bool:
        done = subprocess.run(["grep", "-rsl", CANARY, str(attempts.layout.work)], capture_output=True, check=False)
        return b"kept.txt" in done.stdout

    assert eventually(kept, timeout=30.0), "it lies there, for whoever may look"
    look = f"grep -rsl canary-of-$0 {' '.join(places)} > found.txt; ls -d /proc/[0-9]* | wc -l > seen.txt"
    second = order(attempts, "tenant-b", f'command:sh -c "{look}" tenant-a')
    attempts.finish(second)
    stored = attempts.artifacts.get(f"tickets/{second.id}/1/change.json")
    assert stored is not None, attempts.log()
    ready, store = decode(stored, ChangeReady), attempts.store()
    bundle = attempts.artifacts.path(ready.bundle)
    assert bundle is not None
    store.unbundle(bundle)
    found = store.read(ready.commit, "found.txt", 1000)
    assert found == b"", f"seen: {found!r}"
    assert 0 < int(store.read(ready.commit, "seen.txt", 100) or b"99") < 10, "its own processes"
    assert attempts.launcher.find(first.id, 1) is not None
    assert attempts.launcher.kill(live)


@pytest.mark.invariant("I22")
def test_an_attempt_finds_nothing_of_another_tenant(attempts: Attempts) -> None:
    finds_nothing(attempts)


def test_walls_taken_away_are_noticed(attempts: Attempts, monkeypatch: pytest.MonkeyPatch) -> None:
    """What keeps them apart: each sees its own workspace alone, and as root each slot has a user of its own."""
    for mutant in (
        Mutant("workers.loop:Loop._job", "(copy.mirror,)", "(copy.mirror, self._task.slot.folder.parent)"),
        Mutant("fleet.adapters.layout:Layout.slot_uid", "self.slot_gid() + slot", "self.slot_gid() + 1"),
    ):
        mutant.install(monkeypatch)
    with pytest.raises(AssertionError, match=r"seen: .*kept.txt"):
        finds_nothing(attempts)
