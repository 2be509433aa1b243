"""What is read from manifests, and what is refused. Pure: nothing is fetched or run."""

from __future__ import annotations

import sys
import textwrap

import pytest
from packaging.tags import sys_tags

from fleet.adapters.environments import locks, pyproject
from fleet.adapters.environments.manifest import Collector, Rank, inside
from fleet.adapters.environments.requirements_txt import Found
from tests.environments.wheels import Texts, manifest

HERE = str(next(iter(sys_tags())))


def texts(found: object) -> set[str]:
    return {wish.text for wish in found.wishes}  # type: ignore[attr-defined]


def test_requirements_with_includes_and_continuations() -> None:
    found = manifest(
        requirements__txt="-r requirements/base.txt\nsix>=1.16  # why\nattrs \\\n  ==23.1\n-e .[test]\n",
        requirements___base__txt="idna\n",
        pyproject__toml='[project]\nname="x"\n[project.optional-dependencies]\ntest=["pytest>=7"]\n',
    )
    assert texts(found) == {"idna", "six>=1.16", "attrs==23.1", "pytest>=7"}
    assert found.problems == ()
    assert "requirements.txt" in found.sources


@pytest.mark.parametrize(
    "line",
    [
        "-e git+https://example.invalid/x.git#egg=x",
        "git+https://example.invalid/x.git",
        "x @ https://example.invalid/x-1.0-py3-none-any.whl",
        "x @ file:///etc/passwd",
        "https://example.invalid/x.tar.gz",
        "file:///tmp/x.whl",
        "../../etc/passwd",
        "/etc/passwd",
        "./local",
        "-r /etc/hosts",
        "-r ../outside.txt",
        "--requirement=~/x.txt",
        "-r https://example.invalid/r.txt",
        "-c ${HOME}/c.txt",
        "--index-url https://example.invalid/simple",
        "--extra-index-url=https://example.invalid/simple",
        "-f /tmp/wheels",
        "--trusted-host example.invalid",
        "--no-binary :all:",
        "-e ./evil",
        'six --global-option="--evil"',
        "six --config-settings=x",
    ],
)
def test_lines_that_name_addresses_or_options_are_refused(line: str) -> None:
    found = manifest(requirements__txt=f"idna\n{line}\n")
    assert texts(found) == {"idna"}
    assert len(found.problems) == 1 and "left out" in found.problems[0]


def test_an_include_loop_ends() -> None:
    found = manifest(
        requirements__txt="-r requirements-dev.txt\n", **{"requirements-dev__txt": "-r requirements.txt\nsix\n"}
    )
    assert texts(found) == {"six"}


def test_hashed_requirements_are_pins() -> None:
    digest = "sha256:" + "a" * 64
    found = manifest(
        requirements__txt=f"six==1.16.0 \\\n    --hash={digest}\nwin==1 ; sys_platform=='win32' --hash={digest}\n"
    )
    assert [pin.line() for pin in found.pins] == [f"six==1.16.0 --hash={digest}"]
    assert found.wishes == ()


def test_pyproject_groups_extras_and_the_project_itself() -> None:
    found = manifest(
        pyproject__toml=textwrap.dedent(
            """
            [project]
            name = "Own-Name"
            dependencies = ["six", "own_name[speed]"]
            [project.optional-dependencies]
            dev = ["own-name[test]", "ruff"]
            test = ["pytest"]
            docs = ["sphinx"]
            [dependency-groups]
            tests = ["attrs", {include-group = "more"}]
            more = ["idna", {include-group = "tests"}]
            unused = ["nothing"]
            """
        )
    )
    assert texts(found) == {"six", "ruff", "pytest", "attrs", "idna"}
    assert {wish.rank for wish in found.wishes if wish.text == "six"} == {Rank.RUNTIME}
    assert found.project is not None and found.project.name == "Own-Name"


def test_fleet_toml_names_files_extras_and_groups() -> None:
    found = manifest(
        **{
            "__fleet__toml": '[dependencies]\nrequirements=["deps/all.txt"]\nextras=["speed"]\ngroups=["ci"]\n',
            "deps___all__txt": "six\n",
            "requirements__txt": "not-taken\n",
            "pyproject__toml": '[project]\nname="x"\noptional-dependencies.speed=["idna"]\n'
            '[dependency-groups]\nci=["attrs"]\n',
        }
    )
    assert texts(found) == {"six", "idna", "attrs"}


def test_setup_cfg_tox_and_pytest_settings() -> None:
    found = manifest(
        setup__cfg="[metadata]\nname = own\n[options]\ninstall_requires =\n    six\n"
        "[options.extras_require]\ntest =\n    attrs\n"
        "[tool:pytest]\naddopts = --cov=own -n 2\n",
        tox__ini="[testenv]\ndeps =\n    pytest>=7\n    py27: mock\n"
        "    -r{toxinidir}/requirements-dev.txt\n    {env:X}\n",
        **{"requirements-dev__txt": "idna\n"},
    )
    assert texts(found) == {"six", "attrs", "pytest>=7", "idna", "pytest-cov", "pytest-xdist"}
    assert found.problems == ()


def test_setup_py_is_read_and_never_run() -> None:
    code = """
import os
os._exit(9)
REQ = ['six']
setup(name='own', install_requires=REQ, tests_require='idna', extras_require={'test': ['attrs']})
"""
    assert texts(manifest(setup__py=code)) == {"six", "idna", "attrs"}
    computed = manifest(setup__py="setup(install_requires=open('x').read().split())")
    assert texts(computed) == set()
    assert "setup.py computes its install_requires" in computed.problems[0]


@pytest.mark.parametrize(
    "name, text",
    [
        ("pyproject__toml", "[project\n"),
        ("uv__lock", "version = 9\n"),
        ("uv__lock", "nonsense"),
        ("poetry__lock", "[[package]]\nname='x'\n"),
        ("setup__cfg", "[a]\n[b\nx"),
        ("setup__py", "print 'python 2'"),
        ("tox__ini", "no section"),
    ],
)
def test_a_broken_file_is_a_problem_not_a_crash(name: str, text: str) -> None:
    found = manifest(**{name: text, "requirements__txt": "six\n"})
    assert len(found.problems) == 1
    assert texts(found) == {"six"}


UV = """
version = 1
[[package]]
name = "own"
version = "0.1"
source = {{ editable = "." }}
dependencies = [{{ name = "six" }}, {{ name = "winonly", marker = "sys_platform == 'win32'" }}, {{ name = "fromgit" }}]
[package.optional-dependencies]
docs = [{{ name = "sphinx" }}]
[package.dev-dependencies]
dev = [{{ name = "attrs", extra = ["fast"] }}]
other = [{{ name = "sphinx" }}]
[[package]]
name = "six"
version = "1.16.0"
source = {{ registry = "https://example.invalid/simple" }}
wheels = [
  {{ url = "https://example.invalid/six-1.16.0-py3-none-any.whl", hash = "sha256:aa" }},
  {{ url = "https://example.invalid/six-1.16.0-cp27-cp27m-win32.whl", hash = "sha256:bb" }},
]
[[package]]
name = "attrs"
version = "23.1"
source = {{ registry = "https://example.invalid/simple" }}
wheels = [{{ url = "https://example.invalid/attrs-23.1-{here}.whl", hash = "sha256:cc" }}]
[package.optional-dependencies]
fast = [{{ name = "old" }}]
[[package]]
name = "old"
version = "1"
source = {{ registry = "https://example.invalid/simple" }}
sdist = {{ url = "https://example.invalid/old-1.tar.gz", hash = "sha256:dd" }}
[[package]]
name = "fromgit"
version = "1"
source = {{ git = "https://example.invalid/x.git#abc" }}
[[package]]
name = "winonly"
version = "1"
source = {{ registry = "https://example.invalid/simple" }}
wheels = [{{ url = "https://example.invalid/winonly-1-py3-none-any.whl", hash = "sha256:ee" }}]
"""


def test_uv_lock_gives_the_wheels_of_this_platform() -> None:
    found = manifest(uv__lock=UV.format(here=HERE), pyproject__toml='[project]\nname="own"\ndependencies=["six>=1"]\n')
    assert [pin.line() for pin in found.pins] == ["attrs==23.1 --hash=sha256:cc", "six==1.16.0 --hash=sha256:aa"]
    assert found.wishes == ()
    assert len(found.problems) == 2
    assert any("fromgit" in problem and "address" in problem for problem in found.problems)
    assert any("old 1" in problem and "no wheel" in problem for problem in found.problems)


POETRY = """
[[package]]
name = "six"
version = "1.16.0"
optional = false
files = [{file = "six-1.16.0-py3-none-any.whl", hash = "sha256:aa"}, {file = "six-1.16.0.tar.gz", hash = "sha256:bb"}]
[package.dependencies]
idna = {version = "*", markers = "sys_platform == 'linux'"}
colorama = {version = "*", markers = "sys_platform == 'win32'"}
brotli = {version = "*", optional = true, markers = "extra == 'br'"}
[package.extras]
br = ["brotli (>=1)"]
[[package]]
name = "idna"
version = "3"
optional = false
files = [{file = "idna-3-py3-none-any.whl", hash = "sha256:cc"}]
[[package]]
name = "brotli"
version = "1"
optional = true
files = [{file = "brotli-1-py3-none-any.whl", hash = "sha256:dd"}]
[[package]]
name = "colorama"
version = "1"
optional = false
files = [{file = "colorama-1-py3-none-any.whl", hash = "sha256:ee"}]
[metadata]
lock-version = "2.0"
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the lock's markers are written for Linux")
@pytest.mark.parametrize("extras, more", [("", set()), ('extras = ["br"], ', {"brotli"})])
def test_poetry_lock_follows_markers_and_extras(extras: str, more: set[str]) -> None:
    project = (
        f'[tool.poetry]\nname="own"\n[tool.poetry.dependencies]\npython="^3.11"\nsix = {{{extras}version="^1.16"}}\n'
    )
    found = manifest(poetry__lock=POETRY, pyproject__toml=project)
    assert {pin.name for pin in found.pins} == {"six", "idna"} | more
    assert found.problems == ()


@pytest.mark.parametrize(
    "poetry, pep440",
    [
        ("^1.2.3", ">=1.2.3,<2"),
        ("^0.2.3", ">=0.2.3,<0.3"),
        ("^0.0.3", ">=0.0.3,<0.0.4"),
        ("^1", ">=1,<2"),
        ("~1.2.3", ">=1.2.3,<1.3"),
        ("~1", ">=1,<2"),
        ("1.2.3", "==1.2.3"),
        ("1.2.*", "==1.2.*"),
        ("*", ""),
        (">=1.2, <2", ">=1.2,<2"),
        ("^1 || ^2.1", ">=2.1,<3"),
    ],
)
def test_poetry_versions(poetry: str, pep440: str) -> None:
    assert pyproject.poetry_versions(poetry) == pep440


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", "a\\b", "C:/x", "~/x", "${X}/y", "x\0y"])
def test_paths_that_leave_the_repository(path: str) -> None:
    assert inside(path) is None


def test_source_roots_and_workspace_members() -> None:
    lock = 'version = 1\n[[package]]\nname="a"\nversion="1"\nsource={editable="packages/a"}\n'
    found = manifest(
        uv__lock=lock + "[[package]]\nname='six'\nversion='1'\nsource={registry='x'}\n"
        "wheels=[{url='six-1-py3-none-any.whl',hash='sha256:a'}]\n"
        "[[package]]\nname='own'\nversion='1'\nsource={editable='.'}\ndependencies=[{name='six'}]\n",
        pyproject__toml='[project]\nname="own"\n',
        src___own__py="",
        packages___a___src___a__py="",
    )
    assert found.project is not None
    assert found.project.roots == ("src", "packages/a/src", ".")


def test_a_lock_that_leads_out_of_the_repository_is_refused() -> None:
    into = Collector()
    text = 'version = 1\n[[package]]\nname="a"\nversion="1"\nsource={directory="../../a"}\n'
    pins, members = locks.uv(text, {}, into, Found())
    assert (pins, members) == ([], set())
    assert "outside the repository" in into.problems[0]


def test_files_that_are_no_text_are_left_out() -> None:
    found = manifest(requirements__txt="six\n")
    assert found.names == {"six"}
    assert Texts({}).read("requirements.txt") is None
