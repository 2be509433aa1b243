"""Does a new test show the change? It must be red on base's code and green on H."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence

from ci_gates.runs import Health, Run, TestStatus
from ci_gates.testreport import COLLECTION
from fleet.adapters.git import BareRepo, FileChange


def overlay_tree(store: BareRepo, base_sha: str, changes: Sequence[FileChange]) -> str:
    """Base's tree with the new side of ``changes`` (tests and their data) laid over it."""
    rows = b"".join(f"{one.new_mode} {one.new_blob}\t".encode() + os.fsencode(one.path) + b"\0" for one in changes)
    with tempfile.TemporaryDirectory(prefix="fleet-index-") as scratch:
        env = {"GIT_INDEX_FILE": f"{scratch}/index"}
        store.call("read-tree", base_sha, env=env)
        store.call("update-index", "-z", "--index-info", input=rows, env=env)
        return store.call("write-tree", env=env).stdout.decode().strip()


def reproduced(run: Run, green: Iterable[str]) -> tuple[str, ...]:
    """Of the tests that are green on H those that are red in ``run``, base's code under H's tests.

    A test file that base's code cannot even load counts for each of its tests: what they need is not there.
    """
    if run.report.health is not Health.CLEAN or run.report.tests is None:
        return ()
    red = {test.id for test in run.report.tests if test.status is TestStatus.FAILED}
    unloadable = {name.removesuffix(f" {COLLECTION}") for name in red if name.endswith(COLLECTION)}
    return tuple(sorted(name for name in green if name in red or name.partition("::")[0] in unloadable))
