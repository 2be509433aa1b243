"""Whole attempts on real processes: host, guard, loop, sandbox; killed at every point, and looked for afterwards."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.adapters import fork
from fleet.adapters.sandbox import probe_tiers, procfs
from fleet.adapters.slots import Slot
from fleet.cli.story import fetch_line, kept
from fleet.core.codec import decode
from fleet.core.commands import Command, CommandKind
from fleet.core.errors import ParkError
from fleet.core.events import AgentStarted, AttemptFailed, AttemptStopped, ChangeReady, FilesTouched, ToolFinished
from fleet.core.retry import FailureClass
from fleet.core.sandbox import Sandbox, Tier
from fleet.core.states import Reason, State
from fleet.core.view import TicketView
from tests.support.wait import eventually
from tests.workers.kit import Attempts, git, left
from workers import host

pytestmark = pytest.mark.needs("bwrap")

CHANGE = "command:sed -i s/x/y/ a.py"
LONG = "command:sh -c 'setsid sleep 7654 & sleep 7654'"


def failure(attempts: Attempts) -> AttemptFailed:
    return next(event.data for event in attempts.channel.said() if isinstance(event.data, AttemptFailed))


def sleepers() -> list[int]:
    """Processes of the agent's command, on the whole machine."""
    found = []
    for row in procfs.everything():
        try:
            words = Path(f"/proc/{row.pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:2] == [b"sleep", b"7654"]:
            found.append(row.pid)
    return found


def test_a_change_goes_from_the_mirror_to_the_bundle(attempts: Attempts) -> None:
    attempts.serve()
    one = attempts.order(CHANGE)
    attempts.finish(one)
    assert attempts.channel.kinds() == [
        "AttemptStarted",
        "WorkspaceReady",
        "AgentStarted",
        "ToolStarted",
        "ToolFinished",
        "FilesTouched",
        "ChangeReady",
        "AttemptStopped",
    ]
    assert [event.seq for event in attempts.channel.said()] == list(range(1, 9))
    ready = next(event.data for event in attempts.channel.said() if isinstance(event.data, ChangeReady))
    stored = attempts.artifacts.get(f"tickets/{one.id}/1/change.json")
    assert stored is not None
    assert decode(stored, ChangeReady) == ready
    store = attempts.store()
    bundle = attempts.artifacts.path(ready.bundle)
    assert bundle is not None
    store.unbundle(bundle)
    assert store.read(ready.commit, "a.py", 100) == b"import os\r\ny = 1\n"
    assert [row.path for row in store.changes(ready.base_sha, ready.commit)] == ["a.py"]


def test_what_a_failed_attempt_had_done_is_kept_and_can_be_fetched(attempts: Attempts) -> None:
    attempts.serve()
    one = attempts.order("command:sh -c 'sed -i s/x/y/ a.py; exit 3'")
    attempts.finish(one)
    assert failure(attempts).failure is FailureClass.COMMAND_FAILED
    found = kept(attempts.artifacts, one.id, 1)
    assert found is not None
    words, bundle = found
    assert words == "unfinished change"
    view = TicketView(one, State.REJECTED, Reason.COMMAND_FAILED, since=0.0, attempt=1)
    subprocess.run(fetch_line(view, 1, bundle), shell=True, cwd=attempts.source, check=True, capture_output=True)
    assert git(attempts.source, "show", f"{one.branch}-attempt-1:a.py").endswith("y = 1")
    assert kept(attempts.artifacts, one.id, 2) is None


@pytest.mark.invariant("I10")
def test_after_an_attempt_nothing_of_it_remains(attempts: Attempts) -> None:
    attempts.serve()
    attempts.finish(attempts.order("command:sh -c 'setsid sleep 7654 & echo x > new.py'"))
    assert eventually(lambda: left(attempts.pid) == [])
    assert sleepers() == []
    assert list(attempts.layout.attempts.iterdir()) == []
    assert [path.name for path in attempts.layout.slots.iterdir() if path.is_dir()] == []
    assert any(isinstance(event.data, ChangeReady) for event in attempts.channel.said())


def needs(attempts: Attempts, tier: Tier) -> None:
    """Leaves the test out where the system has no such tier."""
    report = next(report for report in probe_tiers() if report.tier is tier)
    if not report.available:
        pytest.skip(f"no {tier.value}: {report.reason}")
    attempts.tiers = (tier,)


@pytest.mark.parametrize("tier", [Tier.BUBBLEWRAP, Tier.LANDLOCK])
def test_each_tier_hands_over_the_same_commit(attempts: Attempts, tier: Tier) -> None:
    needs(attempts, tier)
    attempts.serve()
    attempts.finish(attempts.order(CHANGE))
    assert AgentStarted(CHANGE, tier.value) in [event.data for event in attempts.channel.said()]
    assert "ChangeReady" in attempts.channel.kinds()


@pytest.mark.invariant("I10")
@pytest.mark.parametrize("tier", [Tier.BUBBLEWRAP, Tier.LANDLOCK])
def test_a_killed_guard_leaves_nothing_behind(attempts: Attempts, tier: Tier) -> None:
    needs(attempts, tier)
    attempts.serve()
    one = attempts.order(LONG)
    live = attempts.launcher.start(one.id, 1)
    assert eventually(lambda: len(sleepers()) == 2, 20)
    assert attempts.launcher.find(one.id, 1) == live
    os.kill(live.pid, signal.SIGKILL)
    assert attempts.launcher.wait(live, 10)
    assert eventually(lambda: left(attempts.pid) == [])
    assert eventually(lambda: sleepers() == [])
    assert eventually(lambda: [path.name for path in attempts.layout.slots.iterdir() if path.is_dir()] == [])
    assert eventually(lambda: [path.name for path in attempts.scratch.iterdir() if path.is_dir()] == [])
    assert eventually(lambda: [path.name for path in attempts.layout.attempts.glob("*/*")] == ["lock"])


@pytest.mark.invariant("I10")
def test_a_janitor_that_fails_is_asked_again_and_ends_nobody(
    attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    tidy, asked = attempts.sweep, itertools.count()

    def sweep() -> None:
        """Every second call fails, the first one, when the host begins, among them."""
        if next(asked) % 2 == 0:
            raise OSError("Directory not empty")
        tidy()

    monkeypatch.setattr(host, "_LOOK_S", 0.1)
    monkeypatch.setattr(attempts, "sweep", sweep)
    attempts.serve()
    one = attempts.order(LONG)
    live = attempts.launcher.start(one.id, 1)
    assert eventually(lambda: len(sleepers()) == 2, 20)
    os.kill(live.pid, signal.SIGKILL)
    assert attempts.launcher.wait(live, 10)
    assert eventually(lambda: [path.name for path in attempts.layout.slots.iterdir() if path.is_dir()] == [])
    attempts.finish(attempts.order(attempt=2), attempt=2)


@pytest.mark.invariant("I10")
def test_the_census_notices_a_guard_that_does_not_clean_up(attempts: Attempts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: nobody ends what is left below a guard that is gone, and the loop outlives its guard."""
    monkeypatch.setattr(attempts, "sweep", lambda: None)
    monkeypatch.setattr(fork, "kill_tree", lambda pid: None)
    monkeypatch.setattr(fork, "die_with", lambda pid: None)
    attempts.serve()
    one = attempts.order(LONG)
    live = attempts.launcher.start(one.id, 1)
    assert eventually(lambda: len(sleepers()) == 2, 20)
    os.kill(live.pid, signal.SIGKILL)
    assert attempts.launcher.wait(live, 10)
    assert not eventually(lambda: left(attempts.pid) == [], 1.0)
    monkeypatch.undo()
    for pid in left(attempts.pid):
        fork.kill_tree(pid)
    assert eventually(lambda: sleepers() == [])


def test_a_killed_loop_is_told_as_a_crash(attempts: Attempts) -> None:
    attempts.serve()
    one = attempts.order(LONG)
    live = attempts.launcher.start(one.id, 1)
    assert eventually(lambda: len(sleepers()) == 2, 20)
    (loop,) = fork.children(live.pid)
    os.kill(loop, signal.SIGKILL)
    assert attempts.launcher.wait(live, 20)
    assert failure(attempts).failure is FailureClass.CRASHED
    assert attempts.channel.kinds()[-1] == "AttemptStopped"
    assert eventually(lambda: sleepers() == [])


@pytest.mark.invariant("I3")
def test_doubled_starts_give_one_guard_and_one_claim(attempts: Attempts) -> None:
    attempts.serve()
    one = attempts.order(LONG)
    pids = {attempts.launcher.start(one.id, 1).pid for _ in range(10)}
    assert len(pids) == 1
    assert eventually(attempts.channel.claimed)
    attempts.launcher.kill(attempts.launcher.start(one.id, 1))
    # A later wake-up for the same attempt finds the claim used up, and says nothing.
    said = len(attempts.channel.said())
    attempts.finish(one)
    assert len(attempts.channel.said()) == said


@pytest.mark.invariant("I10")
def test_the_launcher_kills_the_whole_tree_and_the_attempt_is_given_back(attempts: Attempts) -> None:
    attempts.serve()
    one = attempts.order(LONG)
    live = attempts.launcher.start(one.id, 1)
    assert eventually(lambda: len(sleepers()) == 2, 20)
    assert attempts.launcher.live() == (live,)
    assert attempts.launcher.kill(live)
    assert sleepers() == []
    assert attempts.launcher.live() == ()
    assert failure(attempts).failure is FailureClass.HANDED_BACK


@pytest.mark.parametrize(
    ("kind", "ends"), [(CommandKind.CANCEL, None), (CommandKind.CHECKPOINT, FailureClass.HANDED_BACK)]
)
def test_a_told_end_comes_soon_and_is_final(attempts: Attempts, kind: CommandKind, ends: FailureClass | None) -> None:
    attempts.serve()
    one = attempts.order(LONG)
    live = attempts.launcher.start(one.id, 1)
    assert eventually(lambda: len(sleepers()) == 2, 20)
    attempts.channel.tell(Command("stop-1", kind, "enough"))
    assert attempts.launcher.wait(live, 15)
    assert "CommandSeen" in attempts.channel.kinds()
    failures = [event.data.failure for event in attempts.channel.said() if isinstance(event.data, AttemptFailed)]
    assert failures == ([ends] if ends else [])
    assert isinstance(attempts.channel.said()[-1].data, AttemptStopped)
    assert sleepers() == []


@pytest.mark.invariant("I8")
def test_the_deadline_ends_an_attempt(attempts: Attempts) -> None:
    attempts.serve()
    attempts.finish(attempts.order(LONG, attempt_seconds=1.5))
    assert failure(attempts).failure is FailureClass.DEADLINE
    assert eventually(lambda: sleepers() == [])


def test_an_attempt_works_through_an_outage_and_tells_everything_afterwards(attempts: Attempts) -> None:
    attempts.serve()
    one = attempts.order("command:sh -c 'sleep 1; sed -i s/x/y/ a.py'")
    live = attempts.launcher.start(one.id, 1)
    assert eventually(lambda: "ToolStarted" in attempts.channel.kinds(), 20)
    attempts.channel.away.touch()
    assert eventually(lambda: attempts.artifacts.get(f"tickets/{one.id}/1/change.json") is not None, 20)
    assert "ChangeReady" not in attempts.channel.kinds()
    attempts.channel.away.unlink()
    assert attempts.launcher.wait(live, 30)
    assert attempts.channel.kinds()[-2:] == ["ChangeReady", "AttemptStopped"]
    assert [event.seq for event in attempts.channel.said()] == list(range(1, 9))


@pytest.mark.invariant("I3")
def test_an_attempt_that_comes_back_to_its_successor_stops_by_itself(attempts: Attempts) -> None:
    attempts.serve()
    one = attempts.order(LONG)
    live = attempts.launcher.start(one.id, 1)
    assert eventually(lambda: len(sleepers()) == 2, 20)
    attempts.channel.away.touch()
    view = attempts.order(LONG, attempt=2)
    assert view.id == one.id
    attempts.channel.away.unlink()
    assert attempts.launcher.wait(live, 30)
    assert "ChangeReady" not in attempts.channel.kinds()
    stopped = attempts.channel.said()[-1].data
    assert stopped == AttemptStopped("attempt 2 took over", left=0)


@pytest.mark.parametrize("change", ["cancel", "state", "attempt", "gone"])
def test_an_attempt_that_nobody_wants_is_not_even_claimed(attempts: Attempts, change: str) -> None:
    attempts.serve()
    one = attempts.order(CHANGE)
    view = attempts.channel.view(one.id)
    assert view is not None
    match change:
        case "cancel":
            attempts.channel.put(replace(view, cancel="me"))
        case "state":
            attempts.channel.put(replace(view, state=State.PARKED))
        case "attempt":
            attempts.channel.put(replace(view, attempt=2))
        case _:
            (attempts.channel.folder / f"view.{one.id}").unlink()
    attempts.finish(one)
    assert not attempts.channel.claimed()
    assert attempts.channel.events() == []


@pytest.mark.parametrize(
    ("agent", "expected", "says"),
    [
        ("command:true", FailureClass.NOTHING_CHANGED, "changed nothing"),
        ("command:touch x.pyc", FailureClass.NOTHING_CHANGED, "x.pyc"),
        ("command:sh -c 'echo broken >&2; exit 3'", FailureClass.COMMAND_FAILED, "status 3"),
        ("command:nonesuch --x", FailureClass.COMMAND_FAILED, "nonesuch was not found"),
        ("dream:of sheep", FailureClass.CONFIG, "no agent called"),
        ("command:git config core.fsmonitor 'touch /tmp/x'", FailureClass.NOTHING_CHANGED, "changed nothing"),
    ],
)
def test_failures_have_a_class_and_a_sentence(
    attempts: Attempts, agent: str, expected: FailureClass, says: str
) -> None:
    attempts.serve()
    attempts.finish(attempts.order(agent))
    assert failure(attempts).failure is expected
    assert says in failure(attempts).detail
    assert not any(attempts.layout.artifacts.rglob("change.*"))


def test_a_missing_base_branch_parks_with_its_name(attempts: Attempts) -> None:
    attempts.serve()
    one = attempts.order(CHANGE)
    view = attempts.channel.view(one.id)
    assert view is not None
    attempts.channel.put(replace(view, ticket=replace(one, base="nowhere")))
    attempts.finish(one)
    assert failure(attempts).failure is FailureClass.CONFIG
    assert "no branch nowhere" in failure(attempts).detail


@pytest.mark.invariant("I9")
def test_without_a_sandbox_the_command_never_runs(attempts: Attempts, tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    def none(slot: Slot) -> Sandbox:
        raise ParkError("no_sandbox", "No sandbox holds on this machine.", "To mend it: install bubblewrap")

    attempts.sandbox = none  # type: ignore[method-assign]
    attempts.serve()
    attempts.finish(attempts.order(f"command:touch {canary}"))
    assert failure(attempts).failure is FailureClass.NO_SANDBOX
    assert "install bubblewrap" in failure(attempts).detail
    assert "AgentStarted" not in attempts.channel.kinds()
    assert not canary.exists()


@pytest.mark.invariant("I7")
def test_the_command_sees_neither_environment_nor_descriptors_of_the_fleet(
    attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_CANARY", "c4nary")
    attempts.serve()
    script = (
        "cat /proc/*/environ 2>/dev/null | tr -d \\\\0 | grep -c c4nary; "
        "ls -l /proc/self/fd | grep -c home; echo x > new"
    )
    attempts.finish(attempts.order(f"command:sh -c '{script}'"))
    finished = next(event.data for event in attempts.channel.said() if isinstance(event.data, ToolFinished))
    assert finished.tail.split() == ["0", "0"]


@pytest.mark.invariant("I11")
def test_what_an_agent_did_to_its_git_folder_never_reaches_the_host(attempts: Attempts) -> None:
    canary = attempts.layout.home / "canary"
    script = (
        f'git config core.fsmonitor "touch {canary}"; git config core.hooksPath .git/hooks; mkdir -p .git/hooks; '
        f'printf "#!/bin/sh\\ntouch {canary}\\n" > .git/hooks/post-checkout; chmod +x .git/hooks/post-checkout; '
        f'echo "* filter=x" > .gitattributes; git config filter.x.clean "touch {canary}"; sed -i s/x/y/ a.py'
    )
    attempts.serve()
    attempts.finish(attempts.order(f"command:sh -c '{script}'"))
    touched = next(event.data for event in attempts.channel.said() if isinstance(event.data, FilesTouched))
    assert touched.paths == (".gitattributes", "a.py")
    assert not canary.exists()


def test_guards_outlive_the_attempt_host_and_the_next_one_serves(attempts: Attempts) -> None:
    attempts.serve()
    one = attempts.order("command:sh -c 'sleep 1.5; sed -i s/x/y/ a.py'")
    live = attempts.launcher.start(one.id, 1)
    assert eventually(lambda: "ToolStarted" in attempts.channel.kinds(), 20)
    os.kill(attempts.pid, signal.SIGKILL)
    os.waitpid(attempts.pid, 0)
    attempts.serve()
    assert attempts.launcher.find(one.id, 1) == live
    assert attempts.launcher.start(one.id, 1) == live
    assert attempts.launcher.wait(live, 20)
    assert attempts.channel.kinds()[-2:] == ["ChangeReady", "AttemptStopped"]


def test_only_one_attempt_host_serves_a_home(attempts: Attempts, capfd: pytest.CaptureFixture[str]) -> None:
    attempts.serve()
    second = fork.fork(
        lambda: host.serve(attempts.layout.runtime / "attempts.sock", attempts.layout.attempts, lambda *_: None, None)  # type: ignore[arg-type]
    )
    _, status = os.waitpid(second, 0)
    assert os.waitstatus_to_exitcode(status) == fork.FAILED
    assert "Another attempt host" in capfd.readouterr().err
