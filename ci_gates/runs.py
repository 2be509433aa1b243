"""What one run of one gate on one tree said: diagnostics or tests, or why nothing can be concluded from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from fleet.core.sandbox import Ending


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One complaint of a tool. ``source`` is the text of its line, so that a moved line is not a new complaint."""

    path: str
    line: int
    code: str
    message: str
    source: str = ""


class TestStatus(Enum):
    __test__ = False  # not a pytest class

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    XFAILED = "xfailed"


@dataclass(frozen=True, slots=True)
class TestResult:
    """One test. ``id`` is pytest's node id; ``text`` the end of its failure."""

    __test__ = False  # not a pytest class

    id: str
    status: TestStatus
    text: str = ""


class Health(Enum):
    """Whether a run can be compared.

    CLEAN: it said all it had to say. BROKEN: the tool itself ended in error, by its own account (bad configuration,
    missing module). UNREADABLE: cut off, over a limit, or not what the tool would write: never passes.
    FORGED: the report contradicts what the fleet planted in it: never passes.
    """

    CLEAN = "clean"
    BROKEN = "broken"
    UNREADABLE = "unreadable"
    FORGED = "forged"


@dataclass(frozen=True, slots=True)
class Report:
    """What a parser understood. ``problem`` says why ``health`` is not CLEAN, for people."""

    health: Health = Health.CLEAN
    problem: str = ""
    diagnostics: tuple[Diagnostic, ...] = ()
    tests: tuple[TestResult, ...] | None = None
    collected: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it is compared and cached. ``log`` is an artifact name, ``digest`` the log's SHA-256."""

    ending: Ending
    exit_code: int
    seconds: float
    report: Report = field(default_factory=Report)
    log: str = ""
    digest: str = ""
    variant: int = 0

    @property
    def green(self) -> bool:
        """The command was content, by its own exit status."""
        return self.ending is Ending.EXITED and self.exit_code == 0
