"""A home with a real sandbox, the fleet's real tools, and a folder of wheels instead of an index."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fleet.adapters.clock import SystemClock
from fleet.adapters.environments import IndexSettings, PythonEnvironments, Room, resolve_env
from fleet.adapters.git import BareRepo, Person
from fleet.adapters.layout import Layout
from fleet.adapters.sandbox import open_sandbox
from fleet.adapters.slots import Slots, give, remove_tree
from fleet.core.environment import Prepared
from fleet.core.sandbox import SandboxResult, SandboxSpec, Tier

CHECKOUT = Path(__file__).parents[2]
ME = Person("Test", "test@example.invalid")


@pytest.fixture(scope="session")
def tools() -> Path:
    """The tools' environment of bin/fleet; made by it when it is not there yet."""
    if "FLEET_TOOLS" in os.environ:
        return Path(os.environ["FLEET_TOOLS"])
    script = f'. "{CHECKOUT}/bin/prepare.sh"; find_python; environments tools; echo "$folders"'
    # $0 is how prepare.sh finds the checkout
    done = subprocess.run(
        ["sh", "-c", script, f"{CHECKOUT}/bin/fleet"], stdout=subprocess.PIPE, check=True, text=True, timeout=300
    )
    return Path(done.stdout.strip().splitlines()[-1])


@dataclass
class Home:
    """``wheels`` is all that pip finds. ``rooms_opened`` counts installations."""

    layout: Layout
    tools: Path
    wheels: Path
    clock: SystemClock = field(default_factory=SystemClock)
    rooms_opened: int = 0
    env: dict[str, str] = field(default_factory=dict)
    tiers: tuple[Tier, ...] = (Tier.BUBBLEWRAP, Tier.LANDLOCK)

    @contextmanager
    def room(self) -> Iterator[Room]:
        self.rooms_opened += 1
        as_root = self.layout.as_root
        scratch = self.layout.work / "scratch"
        with Slots(self.layout).acquire("test") as slot:
            gid = slot.gid if as_root else os.getgid()
            uid = slot.uid if as_root else None
            group = gid if as_root else None
            sandbox = open_sandbox(scratch=scratch, clock=self.clock, slot_uid=uid, slot_gid=group, allow=self.tiers)
            if as_root:
                os.chown(slot.folder, 0, slot.gid)
                slot.folder.chmod(0o750)
            yield Room(sandbox, slot.folder, slot.uid, gid)

    def settings(self) -> IndexSettings:
        only = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels), "PIP_CONFIG_FILE": os.devnull}
        return IndexSettings(only | self.env, seconds=120)

    def environments(self) -> PythonEnvironments:
        return PythonEnvironments(self.layout, self.tools, self.room, self.settings(), self.clock)

    def commit(self, files: Mapping[str, str], name: str = "o__r.git") -> tuple[Path, str]:
        """A bare repository with one commit of ``files``."""
        repo = BareRepo.init(self.layout.stores / name)
        index = self.layout.home / "index"
        index.unlink(missing_ok=True)
        env = {"GIT_INDEX_FILE": str(index)}
        rows = ""
        for path, text in files.items():
            blob = repo.call("hash-object", "-w", "--stdin", input=text.encode()).stdout.decode().strip()
            rows += f"100644 {blob}\t{path}\n"
        repo.call("update-index", "--index-info", input=rows.encode(), env=env)
        tree = repo.call("write-tree", env=env).stdout.decode().strip()
        return repo.path, repo.commit_tree(tree, (), "c", ME, ME, 1_700_000_000)

    def prepare(self, files: Mapping[str, str], name: str = "o__r.git") -> Prepared:
        return self.environments().prepare(*self.commit(files, name))

    def run(self, prepared: Prepared, files: Mapping[str, str], *argv: str) -> SandboxResult:
        """Runs ``argv`` as an agent or a gate would, in a checkout of ``files``."""
        git_dir, commit = self.commit(files)
        with self.room() as room:
            workspace = room.folder / "checkout"
            BareRepo(git_dir).export(commit, workspace)
            give(workspace, room.uid, room.gid)
            env = resolve_env(prepared, room.sandbox.inside(workspace))
            spec = SandboxSpec(argv, workspace, env=env, path=prepared.path, read_only=prepared.read_only)
            return room.sandbox.run(spec)

    def python(self, prepared: Prepared, files: Mapping[str, str], code: str) -> str:
        """What ``code`` prints in the prepared environment."""
        done = self.run(prepared, files, "python", "-c", code)
        assert done.ok, done.stderr.decode()
        return done.stdout.decode().strip()


@pytest.fixture(scope="session")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    """One home for all tests, because proving a sandbox takes time."""
    layout = Layout(tmp_path_factory.mktemp("fleet") / "home", os.geteuid())
    layout.make()
    (layout.work / "scratch").mkdir(mode=0o755)
    if layout.as_root:
        os.chown(layout.work / "scratch", 0, layout.slot_gid())
    yield layout
    remove_tree(layout.work)
    shutil.rmtree(layout.runtime, ignore_errors=True)


@pytest.fixture
def home(layout: Layout, tools: Path, tmp_path: Path) -> Home:
    """The home without any environment, and an empty folder of wheels."""
    for path in layout.environments.iterdir():
        remove_tree(path)
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    return Home(layout, tools, wheels)
