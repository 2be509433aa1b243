"""A small world for gates: a store to commit into, real slots and sandbox, this Python as the environment."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ci_gates.runner import Gated, GateRunner, Job, Listener
from fleet.adapters.artifacts import FolderArtifacts
from fleet.adapters.clock import SystemClock
from fleet.adapters.git import BareRepo, Person
from fleet.adapters.layout import Layout
from fleet.adapters.sandbox import REAL_TIERS, open_sandbox, probe
from fleet.adapters.slots import Slot
from fleet.core.environment import Prepared
from fleet.core.gates import GateRecord
from fleet.core.sandbox import Sandbox, Tier

Files = Mapping[str, "str | bytes | tuple[str, str | bytes]"]
ME = Person("Test", "test@example.invalid")


@dataclass
class OwnEnvironment:
    """Implements ``Environments`` with the Python that runs the tests; counts how often it was asked."""

    uid: int
    gid: int
    folder: Path
    asked: int = 0
    problems: tuple[str, ...] = ()

    def prepare(self, git_dir: Path, commit: str) -> Prepared:
        self.asked += 1
        found = probe.interpreter(self.uid, self.gid)
        assert found is not None
        prefix = Path(sys.prefix)
        programs = self.folder / "programs"
        programs.mkdir(exist_ok=True, mode=0o755)
        if not (programs / "python").is_symlink():
            (programs / "python").symlink_to(found[0])
        site = sysconfig.get_path("purelib")
        path = f"{{workspace}}/src:{{workspace}}:{site}"
        env = (("PYTHONPATH", path), ("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1"))
        read_only = (prefix, programs, *found[1])
        return Prepared(
            "own", read_only, (programs, prefix / "bin"), env, Path(found[0]), "the tests' own", self.problems
        )


@dataclass
class World:
    """Commits are dictionaries of path → content, or (mode, content)."""

    store: BareRepo
    runner: GateRunner
    artifacts: FolderArtifacts
    layout: Layout
    environment: OwnEnvironment
    opened: list[Slot] = field(default_factory=list)

    def commit(self, files: Files, *parents: str) -> str:
        index = self.layout.home / "index"
        index.unlink(missing_ok=True)
        env = {"GIT_INDEX_FILE": str(index)}
        rows = b""
        for path, value in files.items():
            mode, content = value if isinstance(value, tuple) else ("100644", value)
            data = content.encode() if isinstance(content, str) else content
            if mode == "160000":
                blob = "1" * 40
            else:
                blob = self.store.call("hash-object", "-w", "--stdin", input=data).stdout.decode().strip()
            rows += f"{mode} {blob}\t".encode() + os.fsencode(path) + b"\0"
        self.store.call("update-index", "-z", "--index-info", input=rows, env=env)
        tree = self.store.call("write-tree", env=env).stdout.decode().strip()
        return self.store.commit_tree(tree, parents, "c", ME, ME, 1_700_000_000)

    def gate(self, base: Files, change: Files, *, gone: tuple[str, ...] = (), allow_no_tests: bool = False) -> Gated:
        """Gates ``base`` with ``change`` laid over it and ``gone`` removed."""
        before = self.commit(base)
        after = self.commit({path: value for path, value in {**base, **change}.items() if path not in gone}, before)
        job = Job("t-1-abc", 1, 1, after, before, "tickets/t-1-abc/1", allow_no_tests)
        return self.runner.run(self.store, job, Listener())


def record(gated: Gated, name: str) -> GateRecord:
    (found,) = [one for one in gated.records if one.name == name]
    return found


def opener(layout: Layout, opened: list[Slot], tiers: tuple[Tier, ...] = REAL_TIERS) -> Callable[[Slot], Sandbox]:
    scratch = layout.work / "scratch"
    scratch.mkdir(exist_ok=True)
    if layout.as_root:
        os.chown(scratch, 0, layout.slot_gid())
    scratch.chmod(0o750)

    def open_for(slot: Slot) -> Sandbox:
        opened.append(slot)
        uid, gid = (slot.uid, slot.gid) if layout.as_root else (None, None)
        return open_sandbox(scratch=scratch, clock=SystemClock(), slot_uid=uid, slot_gid=gid, allow=tiers)

    return open_for
