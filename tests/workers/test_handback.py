"""An attempt whose host goes: what it had done is kept, and it says that it hands back (I18)."""

from __future__ import annotations

import os
import signal

import pytest

from fleet.core.retry import FailureClass
from tests.support.wait import eventually
from tests.workers.kit import Attempts
from tests.workers.test_attempt import failure, sleepers

pytestmark = pytest.mark.needs("bwrap")


@pytest.mark.invariant("I18")
def test_what_an_attempt_had_done_is_kept_when_its_host_goes(attempts: Attempts) -> None:
    attempts.serve()
    one = attempts.order("command:sh -c 'sed -i s/x/y/ a.py; sleep 7654'")
    live = attempts.launcher.start(one.id, 1)
    assert eventually(lambda: sleepers() != [], 20)
    os.kill(live.pid, signal.SIGTERM)
    assert attempts.launcher.wait(live, 15)
    assert failure(attempts).failure is FailureClass.HANDED_BACK
    assert attempts.artifacts.get(f"tickets/{one.id}/1/partial.json") is not None
    assert attempts.artifacts.get(f"tickets/{one.id}/1/change.json") is None
    assert sleepers() == [] and attempts.launcher.live() == ()
