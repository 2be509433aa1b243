"""Real tickets on real projects that none of us wrote: what goes in, and what has to come out.

Checked by tests/realdata/test_catalog.py with the environment and the sandbox alone; the end-to-end tests send the same
cases through the whole fleet. A patch of upstream's is made at test time from two releases: none of their code is here.
"""

from __future__ import annotations

import base64
import shlex
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tests.realdata.projects import git, real_project, unpack


@dataclass(frozen=True)
class Case:
    """``tests``: the command whose outcome counts. ``new_failures``: tests green on base that the change turns red.

    ``already_red``: tests that fail on base and stay so. ``reproduced``: a new test is red on base and green after.
    ``extra``: files added to the base commit. ``patch``: (next release, paths) of upstream's own fix.
    """

    key: str
    name: str
    version: str
    title: str
    body: str
    command: str
    tests: tuple[str, ...] = ("pytest", "-q")
    extra: dict[str, str] = field(default_factory=dict)
    patch: tuple[str, tuple[str, ...]] | None = None
    already_red: tuple[str, ...] = ()
    new_failures: tuple[str, ...] = ()
    reproduced: tuple[str, ...] = ()
    slow: bool = False

    @property
    def passes(self) -> bool:
        """Whether it ends in a pull request; otherwise its gates refuse it and name ``new_failures``."""
        return not self.new_failures

    def repository(self, into: Path) -> Path:
        """The project as a git repository with one commit on ``main``. Raises IndexAway."""
        return real_project(self.name, self.version, into, self.extra)

    def agent(self) -> str:
        """What ``--agent`` gets. Raises IndexAway."""
        if self.patch is None:
            return f"command:{self.command}"
        newer, paths = self.patch
        return f"command:{apply_command(upstream_patch(self.name, self.version, newer, paths))}"


def upstream_patch(name: str, old: str, new: str, paths: tuple[str, ...]) -> str:
    """The difference of two releases in ``paths`` as a patch."""
    with tempfile.TemporaryDirectory() as folder:
        before = real_project(name, old, Path(folder))
        after = unpack(name, new, Path(folder) / "after")
        for path in paths:
            shutil.copyfile(after / path, before / path)
        return git(before, "diff", "--no-color", "HEAD", "--", *paths)


def apply_command(patch: str) -> str:
    """A command that carries ``patch`` in itself, since a sandbox sees no file of ours."""
    packed = base64.b64encode(patch.encode()).decode()
    return shlex.join(["sh", "-c", f"echo {packed} | base64 -d | git apply --whitespace=nowarn"])


_NETWORKX = {
    ".fleet.toml": """# The whole suite takes minutes; these two packages take seconds.
[gates.lint]
kind = "lint"
command = "ruff check ."

[gates.tests]
kind = "tests"
command = "pytest -q networkx/readwrite networkx/utils"
""",
}
_NETWORKX_TESTS = ("pytest", "-q", "networkx/readwrite", "networkx/utils")

# What its tox.ini names, with a Babel that formats as this release expects: two of its tests fail with Babel 2.19.
WTFORMS = {
    ".fleet.toml": '[dependencies]\nrequirements = ["requirements-tests.txt"]\n',
    "requirements-tests.txt": "pytest\nbabel==2.18.0\nemail_validator\n",
}

CASES = (
    Case(
        key="lint-red-before",
        name="tabulate",
        version="0.9.0",
        title="Sort the imports and drop noqa comments that silence nothing",
        body="`ruff check` finds unsorted imports and noqa comments without a finding. Fix those two rules only.",
        command="ruff check --fix --exit-zero --select I001,RUF100 .",
    ),
    Case(
        key="many-files",
        name="networkx",
        version="3.2.1",
        title="Remove unused imports",
        body="Remove unused imports everywhere except below networkx/utils, whose tests import names on purpose.",
        command="ruff check --fix --exit-zero --select F401 --exclude networkx/utils .",
        tests=_NETWORKX_TESTS,
        extra=_NETWORKX,
        slow=True,
    ),
    Case(
        key="breaks-many-files",
        name="networkx",
        version="3.2.1",
        title="Remove unused imports",
        body="Remove unused imports.",
        command="ruff check --fix --exit-zero --select F401 .",
        tests=_NETWORKX_TESTS,
        extra=_NETWORKX,
        new_failures=("networkx/utils/tests/test__init.py::test_utils_namespace",),
        slow=True,
    ),
    Case(
        key="upstream-fix",
        name="wtforms",
        version="3.1.1",
        extra=WTFORMS,
        title="Fix SelectMultipleField value coercion on validation",
        body="Fix :class:`~fields.SelectMultipleField` value coercion on validation. :issue:`822` :pr:`823`",
        command="",
        patch=("3.1.2", ("src/wtforms/fields/choices.py", "tests/fields/test_selectmultiple.py")),
        reproduced=("tests/fields/test_selectmultiple.py::test_can_supply_coercable_values_as_options",),
    ),
    Case(
        key="breaks-one-test",
        name="wtforms",
        version="3.1.1",
        extra=WTFORMS,
        title="Make minimum lengths exclusive",
        body="A value that is exactly as long as the minimum should be refused.",
        command="sed -i 's/if length >= self.min and/if length > self.min and/' src/wtforms/validators.py",
        new_failures=(
            "tests/validators/test_length.py::test_correct_length_passes[6--1]",
            "tests/validators/test_length.py::test_correct_length_passes[6-6]",
        ),
    ),
    Case(
        key="old-syntax-ruff",
        name="boltons",
        version="23.1.0",
        title="Use the syntax of Python 3",
        body="Replace what ruff's pyupgrade rules find: old string formatting, `super(Name, self)`, coding lines.",
        command="ruff check --fix --exit-zero --select UP .",
        already_red=(
            "tests/test_jsonutils.py::test_jsonl_iterator",
            "tests/test_jsonutils.py::test_reverse_iter_lines",
        ),
    ),
    Case(
        key="old-syntax-pyupgrade",
        name="boltons",
        version="23.1.0",
        title="Use the syntax of Python 3.7",
        body="Run pyupgrade over the package and its tests.",
        command="sh -c 'pyupgrade --exit-zero-even-if-changed --py37-plus boltons/*.py tests/*.py'",
        already_red=(
            "tests/test_jsonutils.py::test_jsonl_iterator",
            "tests/test_jsonutils.py::test_reverse_iter_lines",
        ),
    ),
)


def case(key: str) -> Case:
    """The case of this key."""
    (found,) = (one for one in CASES if one.key == key)
    return found
