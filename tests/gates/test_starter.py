"""What ``fleet init`` writes is valid, and changes nothing about the gates."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci_gates.checkout import first_config
from ci_gates.plan import Plan, make_plan
from ci_gates.starter import BROUGHT, starter
from fleet.cli.init import write_first
from fleet.core import gateconfig
from fleet.core.errors import UsageError
from fleet.core.gateconfig import PolicyConfig
from tests.realdata.projects import commit_all, git

REPOSITORIES: dict[str, dict[str, bytes]] = {
    "nothing": {"README": b""},
    "plain": {"a.py": b""},
    "linted": {"a.py": b"", "ruff.toml": b""},
    "whole": {"src/a/b.py": b"", "ruff.toml": b"", "mypy.ini": b"[mypy]\n", "tests/test_a.py": b""},
    "aimed": {"a.py": b"", "pyproject.toml": b'[tool.mypy]\nfiles = ["a.py"]\n[tool.pytest.ini_options]\n'},
    "pyright": {"a.py": b"", "pyrightconfig.json": b"{}", "setup.cfg": b"[mypy]\n", "test_a.py": b""},
}


def plan(files: dict[str, bytes]) -> Plan:
    return make_plan(tuple(files), files, programs=BROUGHT)


def meaning(found: Plan) -> list[tuple[object, ...]]:
    """A gate as it runs; the order of its options is no matter."""
    return [(one.name, one.kind, one.mode, sorted(one.argv), one.parser, one.seconds) for one in found.gates]


@pytest.mark.parametrize("name", REPOSITORIES)
def test_the_first_config_is_valid_and_changes_no_gate(name: str) -> None:
    files = REPOSITORIES[name]
    before = plan(files)
    text = starter(before).encode()
    after = plan({**files, gateconfig.FILE: text})
    assert meaning(after) == meaning(before) and after.needed == before.needed
    assert gateconfig.parse(text).policy == PolicyConfig()


def test_every_comment_is_valid_when_it_is_taken_in() -> None:
    text = starter(plan(REPOSITORIES["pyright"]))
    taken = "".join(
        line.removeprefix("# ") + "\n" for line in text.splitlines() if line.startswith(("# [", "[")) or " = " in line
    )
    found = gateconfig.parse(taken.encode())
    assert "pyright" in {gate.name for gate in found.gates}
    assert found.policy.protected == ("docs/legal/**",) and found.dependencies.extras == ("test",)


def test_a_checkout_gets_it_once(tmp_path: Path) -> None:
    repo = tmp_path / "shop"
    repo.mkdir()
    git(repo, "init", "-q", "-b", "main")
    with pytest.raises(UsageError, match="commit"):
        first_config(repo)
    (repo / "a.py").write_text("")
    (repo / "test_a.py").write_text("")
    commit_all(repo, "First")
    file, text = first_config(repo)
    assert file == repo / ".fleet.toml" and "[gates.tests]" in text and not file.exists()
    write_first(file, text, force=False)
    assert file.read_text() == text
    with pytest.raises(UsageError, match="already there"):
        write_first(file, "other", force=False)
    assert file.read_text() == text
    write_first(file, "other", force=True)
    assert file.read_text() == "other" and sorted(path.name for path in repo.iterdir() if path.name[0] == ".") == [
        ".fleet.toml",
        ".git",
    ]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    aim, file = tmp_path / "aim", tmp_path / ".fleet.toml"
    file.symlink_to(aim)
    with pytest.raises(UsageError, match="already there"):
        write_first(file, "text", force=False)
    write_first(file, "text", force=True)
    assert not aim.exists() and not file.is_symlink() and file.read_text() == "text"
