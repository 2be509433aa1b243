"""An attempt is counted beside the ledger before it works: a ledger that is lost must not give it again (I8)."""

from __future__ import annotations

import pytest

from fleet.core.events import AttemptFailed
from fleet.core.retry import FailureClass
from fleet.local.attempts import highest_begun
from tests.support.mutants import Mutant
from tests.workers.kit import Attempts

pytestmark = pytest.mark.needs("bwrap")


def without_a_change(attempts: Attempts) -> None:
    """It did nothing that could be kept, and its folder is gone. A ledger that is lost now must not give it again."""
    attempts.serve()
    one = attempts.order("command:false", attempt=2)
    attempts.finish(one, 2)
    assert not (attempts.layout.attempts / f"{one.id}.2").exists()
    assert highest_begun(attempts.layout, one.id) == 2


@pytest.mark.invariant("I8")
def test_an_attempt_that_leaves_nothing_is_counted_beside_the_ledger(attempts: Attempts) -> None:
    without_a_change(attempts)


def test_an_attempt_that_is_not_counted_is_noticed(attempts: Attempts, monkeypatch: pytest.MonkeyPatch) -> None:
    Mutant("workers.guard:Guard._carry_out", "self._count(view)", "pass").install(monkeypatch)
    with pytest.raises(AssertionError):
        without_a_change(attempts)


@pytest.mark.invariant("I8")
def test_an_attempt_that_cannot_be_counted_does_not_begin(attempts: Attempts) -> None:
    attempts.serve()
    one = attempts.order("command:touch /nonexistent/x")
    # A file where its folder would be: as a disk that takes nothing more.
    attempts.artifacts.put(f"tickets/{one.id}/1", b"")
    attempts.finish(one)
    assert "AgentStarted" not in attempts.channel.kinds()
    assert attempts.channel.kinds()[-1] == "AttemptStopped"
    (failure,) = (event.data for event in attempts.channel.said() if isinstance(event.data, AttemptFailed))
    assert failure.failure is not FailureClass.COMMAND_FAILED
