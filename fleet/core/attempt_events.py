"""What an attempt says: one gap-free sequence of these per attempt. ``fleet.core.events`` has the rest."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.core.budget import Cost
from fleet.core.retry import FailureClass


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Only updates last-seen; never logged. ``last_seq`` lets the supervisor notice that the newest event was lost."""

    last_seq: int


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    host: str
    pid: int
    agent: str
    incarnation: str


@dataclass(frozen=True, slots=True)
class WorkspaceReady:
    """Times in seconds; ``fetch_seconds`` is the network part, told apart."""

    base_sha: str
    files: int
    seconds: float
    fetch_seconds: float
    dependencies: str = ""


@dataclass(frozen=True, slots=True)
class AgentStarted:
    agent: str
    tier: str


@dataclass(frozen=True, slots=True)
class ModelAsked:
    """A model was asked, and answers in its own time: silence is now judged by another measure."""

    model: str


@dataclass(frozen=True, slots=True)
class TurnFinished:
    turn: int
    cost: Cost
    model: str = ""


@dataclass(frozen=True, slots=True)
class ToolStarted:
    call: str
    tool: str
    summary: str


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """``digest`` of the output tells a repetition from progress; ``ms`` is wall time."""

    call: str
    digest: str
    exit: int
    ms: int
    tail: str = ""


@dataclass(frozen=True, slots=True)
class FilesTouched:
    count: int
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Note:
    text: str


@dataclass(frozen=True, slots=True)
class CommandSeen:
    id: str
    kind: str


@dataclass(frozen=True, slots=True)
class SignGiven:
    """The guard's answer to a probe: what the kernel says about the attempt. It is no word of the agent.

    ``loop``: running, waiting, stopped (it stands still and hears nothing) or gone. ``processes`` below the guard, and
    ``cpu_seconds`` that those alive have used; ``quiet_seconds`` since the loop's last word.
    """

    loop: str
    processes: int
    cpu_seconds: float
    quiet_seconds: float


@dataclass(frozen=True, slots=True)
class ChangeReady:
    """The hand-over: ``bundle`` is an artifact reference that holds ``commit`` (parent ``base_sha``, tree ``tree``)."""

    bundle: str
    commit: str
    tree: str
    base_sha: str
    files: int
    insertions: int
    deletions: int
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """``detail`` is one sentence for people; ``digest`` the most useful part of the output, bounded."""

    failure: FailureClass
    detail: str
    digest: str = ""
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class AttemptStopped:
    """The guard's last word, after it killed the whole tree. ``left``: processes it still saw below itself; −1 unknown.

    Only 0 confirms that nothing of the attempt lives any more.
    """

    reason: str
    left: int = -1
