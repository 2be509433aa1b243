"""Named crash points: where a test may ask a process to die by kill -9, to prove that nothing is lost there (I6).

``FLEET_CRASH_AT`` names one point, or ``point:count:folder``: only the first ``count`` processes that come there die,
counted by files in ``folder``, which hold their pids. ``point:count:folder:stop``: they are frozen instead (SIGSTOP).
``@file`` is a file with such a text, read at every point, so that a test can choose anew while processes live.
Without the variable a point costs one comparison.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from fleet.adapters.environment import environment

POINTS: tuple[str, ...] = (
    "attempt.before_claim",
    "attempt.after_claim",
    "attempt.workspace_made",
    "attempt.agent_finished",
    "attempt.handover_committed",
    "attempt.bundle_put",
    "attempt.change_told",
    "attempt.before_stopped",
    "attempts.before_start",
    "attempts.after_start",
    "gates.begun",
    "gates.head_built",
    "gates.record_put",
    "gates.verdict_put",
    "gates.before_told",
    "supervisor.before_step",
    "supervisor.after_step",
    "supervisor.sent",
    "publisher.begun",
    "publisher.pushed",
    "publisher.pr_created",
    "publisher.before_told",
)

_asked: list[str] = []


def crash_here(point: str) -> None:
    """Kills this process, without any clean-up, when the environment names ``point``."""
    if not _asked:
        _asked.append(environment().get("FLEET_CRASH_AT", ""))
    wanted = _asked[0]
    if wanted.startswith("@"):
        file = Path(wanted[1:])
        wanted = file.read_text() if file.exists() else ""
    if not wanted:
        return
    name, count, folder, how = (*wanted.split(":"), "", "", "")[:4]
    if name == point and (not folder or _mine(Path(folder), int(count))):
        os.kill(os.getpid(), signal.SIGSTOP if how == "stop" else signal.SIGKILL)


def _mine(folder: Path, count: int) -> bool:
    for number in range(count):
        try:
            file = os.open(folder / f"crash.{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            continue
        os.write(file, str(os.getpid()).encode())
        os.close(file)
        return True
    return False
