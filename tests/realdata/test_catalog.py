"""The catalog is true: every command changes what it says, and exactly the named tests change colour."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.adapters.environments import IndexSettings, PythonEnvironments, resolve_env
from fleet.adapters.git import BareRepo
from fleet.adapters.layout import Layout
from fleet.adapters.slots import give
from fleet.core.environment import Prepared
from fleet.core.sandbox import SandboxSpec
from tests.environments.conftest import Home, layout, tools
from tests.realdata.catalog import CASES, Case, apply_command, case, upstream_patch
from tests.realdata.index import index_answers

__all__ = ["layout", "tools"]

pytestmark = pytest.mark.needs("bwrap")
_LINE = re.compile(r"^(FAILED|ERROR) (\S+)", re.MULTILINE)
_COUNT = re.compile(r"(\d+) passed")


@pytest.fixture(autouse=True)
def _index() -> Iterator[None]:
    if reason := index_answers():
        pytest.skip(reason)
    yield


@pytest.fixture(scope="module")
def home(layout: Layout, tools: Path) -> Home:
    """One home for all cases: a project's environment is made once, as in a fleet."""
    return Home(layout, tools, layout.home / "no-wheels")


@pytest.fixture(scope="module")
def baselines() -> dict[str, tuple[set[str], int]]:
    """Commit → outcome without a change, tried once."""
    return {}


def outcome(home: Home, prepared: Prepared, repo: BareRepo, argv: tuple[str, ...], one: Case) -> tuple[set[str], int]:
    """Failed tests and the number of passed ones, after ``argv`` ran in a fresh checkout."""
    with home.room() as room:
        workspace = room.folder / "checkout"
        repo.export("refs/heads/main", workspace)
        give(workspace, room.uid, room.gid)
        env = resolve_env(prepared, room.sandbox.inside(workspace))

        def run(words: tuple[str, ...]) -> str:
            spec = SandboxSpec(words, workspace, env=env, path=prepared.path, read_only=prepared.read_only)
            done = room.sandbox.run(spec)
            assert words is one.tests or done.ok, done.stderr.decode()
            return done.stdout.decode()

        if argv:
            run(argv)
        said = run(one.tests)
    passed = _COUNT.search(said)
    assert passed is not None, said[-2000:]
    return {name for _, name in _LINE.findall(said)}, int(passed[1])


def ready(one: Case, home: Home, tmp_path: Path) -> tuple[Prepared, BareRepo]:
    """The project in a repository of the fleet, and its environment from the real index."""
    path = one.repository(tmp_path / "real")
    repo = BareRepo.init(home.layout.stores / f"{one.name}.git")
    repo.fetch(str(path), ["+HEAD:refs/heads/main"], trust_owner=True)
    commit = repo.rev("refs/heads/main")
    assert commit is not None
    environments = PythonEnvironments(home.layout, home.tools, home.room, IndexSettings(dict(os.environ)), home.clock)
    return environments.prepare(repo.path, commit), repo


@pytest.mark.long  # tests/e2e/test_real_projects.py shows the same through the whole fleet
@pytest.mark.parametrize("one", [pytest.param(c, id=c.key) for c in CASES])
@pytest.mark.timeout(600)
def test_case(one: Case, home: Home, baselines: dict[str, tuple[set[str], int]], tmp_path: Path) -> None:
    prepared, repo = ready(one, home, tmp_path)
    commit = repo.rev("refs/heads/main") or ""
    if commit not in baselines:
        baselines[commit] = outcome(home, prepared, repo, (), one)
    before, passed_before = baselines[commit]
    after, passed_after = outcome(home, prepared, repo, tuple(shlex.split(one.agent().removeprefix("command:"))), one)
    assert before == set(one.already_red), prepared.problems
    assert after - before == set(one.new_failures)
    assert passed_after == passed_before + len(one.reproduced) - len(after - before)


def test_upstreams_new_test_is_red_without_the_fix(home: Home, tmp_path: Path) -> None:
    one = case("upstream-fix")
    assert one.patch is not None
    newer, paths = one.patch
    only_tests = upstream_patch(one.name, one.version, newer, tuple(path for path in paths if "tests" in path))
    command = apply_command(only_tests)
    prepared, repo = ready(one, home, tmp_path)
    red, _ = outcome(home, prepared, repo, tuple(shlex.split(command)), one)
    assert red == set(one.reproduced)


def test_one_project_has_more_than_300_files(tmp_path: Path) -> None:
    repo = next(c for c in CASES if c.key == "many-files").repository(tmp_path)
    assert sum(1 for path in repo.rglob("*") if path.is_file() and ".git" not in path.parts) > 300
