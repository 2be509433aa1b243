"""Environments made for real: wheels from a folder, installed in the sandbox, used in the sandbox."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.adapters.environments import resolve_env
from fleet.adapters.sandbox import probe_tiers
from fleet.core.errors import ParkError, TemporaryError
from fleet.core.sandbox import Tier
from tests.environments.conftest import Home
from tests.environments.wheels import sha256, wheel

pytestmark = pytest.mark.needs("bwrap")

SHOW = "import importlib.metadata as m; print(sorted(d.name for d in m.distributions()))"


def test_a_repository_without_dependencies_gets_the_fleets_pytest_and_asks_no_index(home: Home) -> None:
    files = {"mod.py": "X = 1\n", "test_mod.py": "import mod\ndef test(): assert mod.X == 1\n"}
    home.env["PIP_FIND_LINKS"] = "/nonexistent"
    prepared = home.prepare(files)
    done = home.run(prepared, files, "pytest", "-q", "-p", "no:cacheprovider")
    assert done.ok and b"1 passed" in done.stdout, done.stdout
    assert prepared.problems == ()
    assert home.run(prepared, files, "ruff", "--version").ok


@pytest.mark.parametrize(
    "files",
    [
        {"requirements.txt": "alpha==1.0\n"},
        {"pyproject.toml": '[project]\nname="own"\nversion="1"\ndependencies=["alpha<2"]\n'},
        {"setup.cfg": "[metadata]\nname=own\nversion=1\n[options]\ninstall_requires=alpha<2\n"},
        {"setup.py": "from setuptools import setup\nsetup(name='own', version='1', install_requires=['alpha<2'])\n"},
        {"tox.ini": "[testenv]\ndeps=alpha<2\n"},
        {"pyproject.toml": '[dependency-groups]\ntest=["alpha<2"]\n'},
        {"pyproject.toml": '[tool.poetry]\nname="own"\n[tool.poetry.dependencies]\nalpha="^1.0"\n'},
    ],
    ids=["requirements", "pyproject", "setup.cfg", "setup.py", "tox", "group", "poetry"],
)
def test_ranges_of_every_manifest(home: Home, files: dict[str, str]) -> None:
    wheel(home.wheels, "alpha", "1.0", requires=["beta"])
    wheel(home.wheels, "alpha", "2.0")
    wheel(home.wheels, "beta", "3.0")
    prepared = home.prepare(files)
    assert home.python(prepared, files, "import alpha, beta; print(alpha.VERSION, beta.VERSION)") == "1.0 3.0"


def test_locks_install_exactly_what_they_name(home: Home) -> None:
    for version in ("1.0", "1.1"):
        wheel(home.wheels, "alpha", version)
    digest = sha256(home.wheels / "alpha-1.0-py3-none-any.whl")
    uv = f"""version = 1
[[package]]
name = "own"
version = "1"
source = {{ virtual = "." }}
dependencies = [{{ name = "alpha" }}]
[[package]]
name = "alpha"
version = "1.0"
source = {{ registry = "https://example.invalid" }}
wheels = [{{ url = "https://example.invalid/alpha-1.0-py3-none-any.whl", hash = "{digest}" }}]
"""
    poetry = f"""[[package]]
name = "alpha"
version = "1.0"
files = [{{ file = "alpha-1.0-py3-none-any.whl", hash = "{digest}" }}]
[metadata]
lock-version = "2.0"
"""
    wanted = '[tool.poetry]\nname="own"\npackage-mode=false\n[tool.poetry.dependencies]\nalpha="^1"\n'
    manifests = (
        {"requirements.txt": f"alpha==1.0 --hash={digest}\n"},
        {"uv.lock": uv, "pyproject.toml": "[tool.uv]\npackage=false\n"},
        {"poetry.lock": poetry, "pyproject.toml": wanted},
    )
    seen = set()
    for files in manifests:
        prepared = home.prepare(files)
        assert home.python(prepared, files, "import alpha; print(alpha.VERSION)") == "1.0", prepared
        seen.add(prepared.digest)
    assert len(seen) == 1, "the same pins are the same environment, whatever the lock is called"


def test_a_wheel_with_another_hash_is_refused(home: Home) -> None:
    wheel(home.wheels, "alpha", modules={"alpha.py": "EVIL = True\n"})
    locked = {"requirements.txt": f"alpha==1.0 --hash=sha256:{'0' * 64}\n"}
    prepared = home.prepare(locked)
    assert any("could not be fetched" in problem for problem in prepared.problems)
    assert "alpha" not in home.python(prepared, locked, SHOW)
    # the mutant: without the hash the same wheel gets in
    free = {"requirements.txt": "alpha==1.0\n"}
    assert "alpha" in home.python(home.prepare(free), free, SHOW)


def test_what_has_no_wheel_is_named_and_the_rest_comes(home: Home) -> None:
    wheel(home.wheels, "alpha", requires=["missing-inner"])
    wheel(home.wheels, "beta")
    files = {"requirements.txt": "alpha\nbeta\nmissing-outer\n"}
    prepared = home.prepare(files)
    assert "beta" in home.python(prepared, files, SHOW)
    assert any("missing-outer" in problem for problem in prepared.problems)
    assert any("missing-inner" in problem and "alpha" in problem for problem in prepared.problems)


def test_what_cannot_be_had_together_drops_the_least_important(home: Home) -> None:
    wheel(home.wheels, "alpha", "1.0")
    wheel(home.wheels, "alpha", "2.0")
    files = {
        "pyproject.toml": '[project]\nname="own"\nversion="1"\ndependencies=["alpha<2"]\n',
        "requirements-dev.txt": "alpha>=2\n",
    }
    prepared = home.prepare(files)
    assert home.python(prepared, files, "import alpha; print(alpha.VERSION)") == "1.0"
    assert any("requirements files were left out" in problem for problem in prepared.problems)


def test_the_own_pytest_of_a_repository_wins(home: Home) -> None:
    wheel(home.wheels, "pytest", "0.1", modules={"pytest.py": "WHOSE = 'own'\n"})
    files = {"requirements.txt": "pytest==0.1\n"}
    assert home.python(home.prepare(files), files, "import pytest; print(pytest.WHOSE)") == "own"


def test_a_repository_that_is_part_of_pytest_meets_itself(home: Home) -> None:
    files = {
        "pyproject.toml": '[project]\nname="iniconfig"\nversion="99"\n[build-system]\nrequires=["nobackend"]\n',
        "src/iniconfig/__init__.py": "OWN = True\n",
    }
    prepared = home.prepare(files)
    assert home.python(prepared, files, "import iniconfig; print(iniconfig.OWN)") == "True"


@pytest.fixture(scope="session")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build backend as a wheel: it makes metadata, one command, and a module that git does not hold."""
    code = """
import base64, hashlib, os, zipfile
def build_editable(folder, config_settings=None, metadata_directory=None):
    os.makedirs("own", exist_ok=True)
    exec(open("hook.py").read()) if os.path.exists("hook.py") else None
    open("own/_made.py", "w").write("MADE = %r" % os.environ.get("SETUPTOOLS_SCM_PRETEND_VERSION"))
    name = "own-7.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as z:
        i = "own-7.0.dist-info/"
        z.writestr(i + "METADATA", "Metadata-Version: 2.1\\nName: own\\nVersion: 7.0\\n")
        z.writestr(i + "WHEEL", "Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        z.writestr(i + "entry_points.txt", "[console_scripts]\\nowncmd = own:main\\n")
        z.writestr(i + "RECORD", "")
    return name
build_wheel = build_editable
"""
    folder = tmp_path_factory.mktemp("backend")
    return wheel(folder, "tinybackend", modules={"tinybackend.py": code})


BUILT = {
    "pyproject.toml": '[project]\nname="own"\nversion="7"\n'
    '[build-system]\nrequires=["tinybackend"]\nbuild-backend="tinybackend"\n',
    "own/__init__.py": "def main(): print('command of', __file__)\n",
    "PKG-INFO": "Metadata-Version: 2.1\r\nName: own\r\nVersion: 7.1\r\n",
}


@pytest.mark.parametrize("tier", [Tier.BUBBLEWRAP, Tier.LANDLOCK])
def test_the_project_has_metadata_commands_and_generated_modules(home: Home, backend: Path, tier: Tier) -> None:
    if not any(report.available for report in probe_tiers() if report.tier is tier):
        pytest.skip(f"this machine has no {tier.value} tier")
    home.tiers = (tier,)
    (home.wheels / backend.name).write_bytes(backend.read_bytes())
    prepared = home.prepare(BUILT)
    assert prepared.problems == ()
    code = "import importlib.metadata as m, own._made; print(m.version('own'), own._made.MADE)"
    assert home.python(prepared, BUILT, code) == "7.0 7.1"
    done = home.run(prepared, BUILT, "owncmd")
    with home.room() as room:
        expected = room.sandbox.inside(room.folder / "checkout") / "own/__init__.py"
        assert room.sandbox.tier is tier
    assert done.stdout.decode().strip() == f"command of {expected}", "it runs the checkout's code, not a copy"
    assert "tinybackend" not in home.python(prepared, BUILT, SHOW), "what builds is not seen by agents and gates"


def test_the_checkout_is_found_after_all_installed_packages(home: Home) -> None:
    files = {"pytest.py": "raise SystemExit('hijacked')\n", "test_x.py": "def test(): pass\n"}
    prepared = home.prepare(files)
    # Neither the environment's pytest nor a tool written in Python imports a namesake from the checkout.
    assert home.run(prepared, files, "pytest", "-q", "test_x.py").ok
    assert home.run(prepared, files, "mypy", "--version").ok
    # the mutant: PYTHONPATH would let it
    env = resolve_env(prepared, Path("/workspace"))
    assert "PYTHONPATH" not in env and env["FLEET_SITE_PATHS"].startswith("/workspace")
    assert b"hijacked" in home.run(prepared, files, "sh", "-c", "PYTHONPATH=$PWD pytest -q test_x.py").stderr


@pytest.mark.invariant("I9")
def test_code_of_the_repository_runs_in_the_sandbox_only(home: Home, backend: Path, tmp_path: Path) -> None:
    (home.wheels / backend.name).write_bytes(backend.read_bytes())
    canary = tmp_path / "canary"
    canary.mkdir(mode=0o777)
    canary.chmod(0o777)
    strike = (
        f"try:\n    open('{canary}/struck', 'w')\nexcept OSError: pass\nopen('own/_ran.py', 'w').write('RAN = 1')\n"
    )
    files = BUILT | {"hook.py": strike, "setup.py": strike, "conftest.py": strike, "sitecustomize.py": strike}
    prepared = home.prepare(files)
    assert home.python(prepared, files, "import own._ran; print(own._ran.RAN)") == "1", "the hook did run"
    assert not (canary / "struck").exists()
    # the mutant: the same code outside does strike
    (tmp_path / "own").mkdir()
    subprocess.run([sys.executable, "-c", strike], cwd=tmp_path, check=True)
    assert (canary / "struck").exists()


def test_a_build_that_fails_leaves_the_files_on_the_path(home: Home, backend: Path) -> None:
    (home.wheels / backend.name).write_bytes(backend.read_bytes())
    files = BUILT | {"hook.py": "raise SystemError('broken build')"}
    prepared = home.prepare(files)
    assert any("broken build" in problem for problem in prepared.problems), prepared.problems
    assert home.python(prepared, files, "import own; print(own.__name__)") == "own"


def test_the_built_layer_serves_one_repository_alone(home: Home, backend: Path) -> None:
    (home.wheels / backend.name).write_bytes(backend.read_bytes())
    mine, theirs = home.prepare(BUILT), home.prepare(BUILT, "o__other.git")
    assert mine.digest != theirs.digest
    assert mine.python == theirs.python, "dependencies are shared"


def test_environments_are_read_only_and_ours(home: Home) -> None:
    wheel(home.wheels, "alpha")
    files = {"requirements.txt": "alpha\n"}
    prepared = home.prepare(files)
    site = next((prepared.python.parents[1] / "lib").glob("python3*/site-packages"))
    for here, _, names in os.walk(prepared.python.parents[1]):
        for name in (".", *names):
            facts = os.lstat(os.path.join(here, name))
            assert facts.st_uid == os.geteuid()
            assert stat.S_ISLNK(facts.st_mode) or not facts.st_mode & 0o222, (here, name)
    done = home.run(prepared, files, "sh", "-c", f"echo x > {site}/alpha.py; chmod u+w {site}; echo x > {site}/new.py")
    assert not done.ok
    assert (site / "alpha.py").read_text() == "VERSION = '1.0'\n" and not (site / "new.py").exists()


def test_packages_of_the_system_python_do_not_leak(home: Home) -> None:
    prepared = home.prepare({})
    paths = home.python(prepared, {}, "import sys; print(sys.path)")
    assert "dist-packages" not in paths and str(home.tools) not in paths


def test_the_second_time_nothing_is_fetched_or_run(home: Home, backend: Path) -> None:
    (home.wheels / backend.name).write_bytes(backend.read_bytes())
    first = home.prepare(BUILT)
    opened = home.rooms_opened
    home.env["PIP_FIND_LINKS"] = "/nonexistent"
    assert home.prepare(BUILT) == first
    assert home.rooms_opened == opened


def test_an_index_that_is_away_is_temporary_and_leaves_nothing(home: Home) -> None:
    home.env |= {
        "PIP_NO_INDEX": "",
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_TIMEOUT": "2",
    }
    with pytest.raises(TemporaryError, match="package index cannot be reached"):
        home.prepare({"requirements.txt": "alpha\n"})
    assert [path.name for path in home.layout.environments.iterdir()] == [".locks"]


def test_a_download_that_grows_too_large_is_stopped(home: Home) -> None:
    wheel(home.wheels, "alpha", modules={"alpha.py": f"X = '{'x' * 3_000_000}'\n"})
    small = home.environments()
    small._index = type(small._index)(home.settings().env, max_bytes=1_000_000)
    with pytest.raises(TemporaryError, match="larger than"):
        small.prepare(*home.commit({"requirements.txt": "alpha\n"}))


def test_only_named_settings_reach_pip(home: Home, tmp_path: Path) -> None:
    home.env |= {"PIP_TARGET": "/elsewhere", "AWS_SECRET_ACCESS_KEY": "canary", "PYTHONPATH": "/evil"}
    env = home.settings().for_pip(tmp_path)
    assert set(env) == {
        "HOME",
        "PATH",
        "TMPDIR",
        "PIP_NO_INPUT",
        "PIP_DISABLE_PIP_VERSION_CHECK",
        "PYTHONNOUSERSITE",
    } | {
        "PIP_FIND_LINKS",
        "PIP_NO_INDEX",
        "PIP_CONFIG_FILE",
    }


def test_missing_tools_park(home: Home, tmp_path: Path) -> None:
    home.tools = tmp_path / "nothing"
    with pytest.raises(ParkError, match="tools are not at") as caught:
        home.prepare({})
    assert caught.value.reason == "config"
