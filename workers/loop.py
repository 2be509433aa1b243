"""The work of one attempt, in the guard's child: mirror, workspace, dependencies, sandbox, agent, hand-over, bundle.

It speaks with the guard alone, and holds no connection to the ledger and no secret of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fleet.adapters.crash import crash_here
from fleet.adapters.git import BareRepo, printable
from fleet.adapters.mirror import Mirrors
from fleet.adapters.slots import Slot
from fleet.core.codec import CodecError, decode, encode, encode_event
from fleet.core.commands import Command, CommandKind
from fleet.core.environment import Environments, Prepared
from fleet.core.errors import FleetError, ParkError
from fleet.core.events import (
    AgentStarted,
    AttemptFailed,
    ChangeReady,
    Envelope,
    EventData,
    FilesTouched,
    Note,
    Source,
    WorkspaceReady,
)
from fleet.core.ports import Artifacts, Clock
from fleet.core.retry import FailureClass
from fleet.core.sandbox import Limits, Sandbox
from fleet.core.story import CHANGE, PARTIAL, artifact
from fleet.core.ticket import Ticket
from workers import handover, workspace
from workers.agents import Agent, Job
from workers.link import Link
from workers.outcome import clean, failed, failure_of

_MOST_PATHS = 20
_MOST_GUIDE = 32_768


@dataclass(frozen=True, slots=True)
class Tools:
    """The collaborators of an attempt; the entry point makes them once, before any attempt is forked.

    ``gateway``: socket of the model gateway; ``attempt_key`` makes the placeholder of (ticket, attempt).
    """

    mirrors: Mirrors
    environments: Environments
    open_sandbox: Callable[[Slot], Sandbox]
    artifacts: Artifacts
    backend: Callable[[str], Agent]
    clock: Clock
    gateway: Path = Path("/nonexistent")
    attempt_key: Callable[[str, int], str] = lambda ticket, attempt: ""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What to do where. ``digest``: why the attempt before this one failed. ``deadline`` on the monotonic clock.

    ``repair``: the attempt whose change is to be mended, 0 for none.
    """

    ticket: Ticket
    attempt: int
    digest: str
    slot: Slot
    deadline: float
    repair: int = 0


class Loop:
    """Runs once. What happened is told through ``link``; the last word is ChangeReady or AttemptFailed."""

    def __init__(self, assignment: Assignment, tools: Tools, link: Link) -> None:
        self._task = assignment
        self._tools = tools
        self._link = link
        self._agent: Agent | None = None

    def run(self) -> None:
        """A boundary: every error becomes an AttemptFailed with its class."""
        try:
            self._say(self._work())
        except FleetError as error:
            self._say(failure_of(error))
        except Exception as error:
            # A bug of ours: the log of the attempt host gets the traceback.
            self._say(failure_of(error))
            raise

    def _work(self) -> ChangeReady | AttemptFailed:
        ticket = self._task.ticket
        agent = self._tools.backend(ticket.agent)
        mirror, copy, prepared = self._prepare(ticket)
        sandbox = self._tools.open_sandbox(self._task.slot)
        self._say(AgentStarted(ticket.agent, sandbox.tier.value))
        outcome = self._drive(agent, self._job(mirror, copy, prepared, sandbox))
        crash_here("attempt.agent_finished")
        if outcome is not None:
            self._keep_partial(mirror, copy)
            return outcome
        owner = self._task.slot.uid
        difference = handover.compare(mirror, copy.base_sha, copy.folder, owner)
        touched = [*(file.path for file in difference.written), *difference.removed]
        self._say(FilesTouched(len(touched), tuple(printable(path)[:200] for path in sorted(touched)[:_MOST_PATHS])))
        if not difference:
            return _nothing(difference.left_out)
        return self._hand_over(mirror, copy.base_sha, difference)

    def _prepare(self, ticket: Ticket) -> tuple[BareRepo, workspace.Workspace, Prepared]:
        clock = self._tools.clock
        begun = clock.monotonic()
        mirror = self._tools.mirrors.fetch(ticket.repo)
        fetched = clock.monotonic()
        base_sha = mirror.rev(f"refs/heads/{ticket.base}")
        if base_sha is None:
            raise ParkError("config", f"{ticket.repo} has no branch {ticket.base}.", "Choose another base branch.")
        change = self._change_to_mend()
        copy = workspace.make(mirror, self._task.slot, ticket.base, base_sha, ticket.branch, change)
        if change is not None and not copy.resumed:
            self._say(Note("The earlier change conflicts with the base branch, so this attempt starts anew."))
        crash_here("attempt.workspace_made")
        prepared = self._tools.environments.prepare(mirror.path, base_sha)
        seconds = round(clock.monotonic() - fetched, 3)
        self._say(WorkspaceReady(base_sha, copy.files, seconds, round(fetched - begun, 3), prepared.description))
        return mirror, copy, prepared

    def _job(self, mirror: BareRepo, copy: workspace.Workspace, prepared: Prepared, sandbox: Sandbox) -> Job:
        clock = self._tools.clock
        left = max(1.0, self._task.deadline - clock.monotonic())
        return Job(
            ticket=self._task.ticket,
            attempt=self._task.attempt,
            digest=self._task.digest,
            workspace=copy.folder,
            read_only=(copy.mirror,),
            prepared=prepared,
            sandbox=sandbox,
            limits=Limits(seconds=left),
            clock=clock,
            poll=self._poll,
            gateway=self._tools.gateway,
            key=self._tools.attempt_key(self._task.ticket.id, self._task.attempt),
            guide=self._guide(mirror, copy.base_sha),
            resumed=copy.resumed,
            left=lambda: max(1.0, self._task.deadline - clock.monotonic()),
        )

    def _guide(self, mirror: BareRepo, base_sha: str) -> str:
        """AGENTS.md of the base: what people of the repository tell agents. The agent's own copy is never read."""
        raw = mirror.read(base_sha, "AGENTS.md", _MOST_GUIDE)
        return clean(raw.decode("utf-8", "replace")) if raw else ""

    def _change_to_mend(self) -> workspace.Change | None:
        """What an earlier attempt handed over and its gates refused, or what it had done when its money was used up."""
        ticket, repair = self._task.ticket.id, self._task.repair
        for what in (CHANGE, PARTIAL) if repair else ():
            told = self._tools.artifacts.get(artifact(ticket, repair, what, "json"))
            bundle = self._tools.artifacts.path(artifact(ticket, repair, what))
            if told is not None and bundle is not None:
                return workspace.Change(bundle, decode(told, ChangeReady).commit)
        return None

    def _drive(self, agent: Agent, job: Job) -> AttemptFailed | None:
        self._agent = agent
        agent.start(job)
        for event in agent.events():
            self._say(event)
            self._poll()
        return agent.outcome()

    def _hand_over(self, mirror: BareRepo, base_sha: str, difference: handover.Difference) -> ChangeReady:
        """The result lies at its place, whole and on disk, before anybody is told (I14)."""
        ready = self._bundle(mirror, base_sha, difference, CHANGE)
        crash_here("attempt.bundle_put")
        return ready

    def _bundle(self, mirror: BareRepo, base_sha: str, difference: handover.Difference, what: str) -> ChangeReady:
        ticket, attempt = self._task.ticket, self._task.attempt
        with tempfile.TemporaryDirectory(prefix="fleet-bundle-") as scratch:
            file = Path(scratch, f"{what}.bundle")
            change = handover.commit(mirror, base_sha, difference, ticket, file)
            crash_here("attempt.handover_committed")
            bundle = self._tools.artifacts.put_file(artifact(ticket.id, attempt, what), file)
        ready = ChangeReady(
            bundle,
            change.commit,
            change.tree,
            change.base_sha,
            change.files,
            change.insertions,
            change.deletions,
            change.left_out,
        )
        self._tools.artifacts.put(artifact(ticket.id, attempt, what, "json"), encode(ready))
        return ready

    def _keep_partial(self, mirror: BareRepo, copy: workspace.Workspace) -> None:
        """What a failed attempt had done lies where a person can fetch it. It is never gated, and nothing is told."""
        try:
            difference = handover.compare(mirror, copy.base_sha, copy.folder, self._task.slot.uid)
            if difference:
                self._bundle(mirror, copy.base_sha, difference, PARTIAL)
        except (FleetError, OSError) as error:
            self._say(Note(f"What the attempt had done could not be kept: {clean(str(error))}"[:300]))

    def _poll(self) -> None:
        """Hands the guard's commands to the agent."""
        for raw in self._link.receive():
            try:
                command = decode(raw, Command)
            except CodecError:
                continue
            if self._agent is None:
                continue
            if command.kind in (CommandKind.CANCEL, CommandKind.CHECKPOINT):
                self._agent.stop()
            else:
                self._agent.tell(command)

    def _say(self, data: EventData) -> None:
        task = self._task
        event = Envelope(task.ticket.tenant, task.ticket.id, task.attempt, 0, 0.0, data, Source.ATTEMPTS)
        self._link.send(encode_event(event))


def _nothing(left_out: tuple[str, ...]) -> AttemptFailed:
    detail = "The agent changed nothing."
    if left_out:
        detail = f"The agent changed nothing that counts; left out were {', '.join(left_out[:5])}."
    return failed(FailureClass.NOTHING_CHANGED, detail)
