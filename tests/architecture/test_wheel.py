"""The wheel holds our four packages with their data, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.architecture.rules import PACKAGES

ROOT = Path(__file__).resolve().parents[2]
DATA = {".lua", ".html", ".css", ".js"}


def build(tmp: Path) -> set[str]:
    """Builds the wheel from a copy of the tree with the setuptools that is installed; returns its file names."""
    for name in (*PACKAGES, "tests", "docs", "k8s", "bin", "requirements"):
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
            shutil.copytree(ROOT / name, tmp / "tree" / name, ignore=ignore, dirs_exist_ok=True)
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, tmp / "tree" / name)
    readme = ROOT / "README.md"
    (tmp / "tree" / "README.md").write_text(readme.read_text() if readme.exists() else "# ticketfleet\n")
    program = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, str(tmp)], cwd=tmp / "tree", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    [wheel] = tmp.glob("ticketfleet-*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def tops(names: set[str]) -> set[str]:
    return {name.split("/")[0] for name in names if ".dist-info/" not in name}


@pytest.mark.slow
def test_the_wheel_holds_our_four_packages_and_their_data(tmp_path: Path) -> None:
    names = build(tmp_path)
    assert tops(names) == set(PACKAGES)
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*") if "__pycache__" not in file.parts]
    data = {file.relative_to(ROOT).as_posix() for file in files if file.suffix in DATA | {".py"}}
    assert data - names == set()
    assert any(name.endswith("/entry_points.txt") for name in names)


@pytest.mark.slow
def test_a_new_top_level_folder_stays_out_of_the_wheel(tmp_path: Path) -> None:
    (tmp_path / "tree" / "intruder").mkdir(parents=True)
    (tmp_path / "tree" / "intruder" / "__init__.py").write_text("")
    assert "intruder" not in tops(build(tmp_path))


def test_a_foreign_top_level_is_noticed() -> None:
    assert tops({"fleet/a.py", "tests/x.py", "ticketfleet-1.dist-info/RECORD"}) != {"fleet"}
