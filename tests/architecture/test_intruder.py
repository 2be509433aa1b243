"""A foreign package with one of our names is named before anything of it runs."""

from __future__ import annotations

import base64
import hashlib
import shutil
from pathlib import Path

import pytest

from fleet.adapters.intruder import OUR_ROOT, PACKAGES, check_packages
from fleet.core.errors import UsageError


def package(root: Path, name: str, text: str = "raise RuntimeError('imported')\n") -> Path:
    (root / name).mkdir(parents=True)
    (root / name / "__init__.py").write_text(text)
    return root / name


def test_our_own_packages_pass() -> None:
    check_packages()
    check_packages([str(OUR_ROOT)])
    assert all((OUR_ROOT / name).is_dir() for name in PACKAGES)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_foreign_package_earlier_on_the_path_is_named_and_not_imported(tmp_path: Path, name: str) -> None:
    foreign = package(tmp_path, name)
    with pytest.raises(UsageError) as caught:
        check_packages([str(tmp_path), str(OUR_ROOT)])
    assert f"A foreign package {name!r} at {foreign} stands before the fleet's own" in str(caught.value)


def test_later_on_the_path_it_does_no_harm(tmp_path: Path) -> None:
    package(tmp_path, "supervisor")
    check_packages([str(OUR_ROOT), str(tmp_path)])
    with pytest.raises(UsageError):
        check_packages([str(tmp_path), str(OUR_ROOT)])


def test_a_foreign_single_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "workers.py").write_text("")
    with pytest.raises(UsageError, match="foreign package 'workers'"):
        check_packages([str(tmp_path), str(OUR_ROOT)])


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    for name in PACKAGES[:2]:
        package(tmp_path, name)
    with pytest.raises(UsageError, match="'supervisor' is missing"):
        check_packages([str(tmp_path)], tmp_path)


def test_a_package_installed_over_ours_is_named(tmp_path: Path) -> None:
    rows = []
    for name in PACKAGES:
        file = package(tmp_path, name, f'"""{name}"""\n') / "__init__.py"
        digest = base64.urlsafe_b64encode(hashlib.sha256(file.read_bytes()).digest()).rstrip(b"=").decode()
        rows.append(f"{name}/__init__.py,sha256={digest},{file.stat().st_size}")
    info = tmp_path / "ticketfleet-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: ticketfleet\nVersion: 0.1.0\n")
    (info / "RECORD").write_text("\n".join(rows))
    check_packages([str(tmp_path)], tmp_path)
    (tmp_path / "supervisor" / "__init__.py").write_text("# another one\n")
    with pytest.raises(UsageError, match=r"Another distribution has replaced .*/supervisor/__init__\.py"):
        check_packages([str(tmp_path)], tmp_path)
    shutil.rmtree(info)
    check_packages([str(tmp_path)], tmp_path)  # the mutant: without the record nothing is noticed
