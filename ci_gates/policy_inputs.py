"""Policy on what steers the gates themselves (I12), on CI files, and on new dependencies. Pure.

Gates run on exactly H, nothing of base is laid over it; instead a difference in what steers a gate waits for a person.
"""

from __future__ import annotations

import ast
import json
import posixpath
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ci_gates.edits import Breach, Edit, Weight, text
from ci_gates.plan import ini, table, toml

_TOOLS: tuple[str, ...] = (
    "ruff",
    "mypy",
    "pyright",
    "basedpyright",
    "pytest",
    "coverage",
    "black",
    "isort",
    "flake8",
    "pylint",
    "tox",
)
_TOOLS += ("nox", "hatch", "pdm", "poe", "uv", "pixi", "bandit", "setuptools_scm", "doit", "taskipy")
_INI_SECTIONS = re.compile(
    r"(?:tool:)?(?:pytest|mypy|flake8|pycodestyle|pylint|isort|coverage|tox|testenv|options\.entry_points)(?:[:.-].*)?"
)
_WHOLE = re.compile(
    r"(?:.*/)?(?:\.fleet\.toml|conftest\.py|\.?pytest\.(?:ini|toml)|\.?ruff\.toml|\.?mypy\.ini|pyrightconfig\.json|noxfile\.py"
    r"|\.pre-commit-config\.ya?ml|\.coveragerc|\.flake8|\.?pylintrc|Makefile|makefile|GNUmakefile|[Jj]ustfile|Taskfile\.ya?ml"
    r"|sitecustomize\.py|usercustomize\.py|.+\.pth|\.gitattributes|\.gitmodules)"
    r"|(?:.*/)?[^/]+\.(?:dist-info|egg-info)/.*"
)
_CI = re.compile(
    r"\.github/(?:workflows|actions)/.*|(?:.*/)?action\.ya?ml|\.gitlab-ci\.yml|\.gitlab/.*|\.circleci/.*|\.buildkite/.*|\.travis\.yml"
    r"|\.drone\.yml|\.woodpecker(?:\.ya?ml|/.*)|azure-pipelines.*\.ya?ml|bitbucket-pipelines\.yml|Jenkinsfile|\.ci/.*"
    r"|appveyor\.yml|\.appveyor\.yml|\.cirrus\.yml|(?:\.github/|docs/)?CODEOWNERS|\.github/dependabot\.ya?ml"
)
# An added module of such a name at an import root would be taken for the tool or for Python's own.
_SHADOWED = frozenset({"pytest", "_pytest", "pluggy", "ruff", "mypy", "pyright", "coverage", "hypothesis"})
_SHADOWED |= sys.stdlib_module_names - {"test", "this", "antigravity"}
_REQUIREMENTS = re.compile(
    r"(?:.*/)?(?:[\w.-]*requirements[\w.-]*|constraints)\.(?:txt|in)|requirements/[\w.-]+\.(?:txt|in)"
)
_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


def input_breaches(edits: Sequence[Edit]) -> Iterator[Breach]:
    for edit in edits:
        why = _steers(edit)
        if why:
            yield Breach(Weight.ASK, "gate-input", edit.path, 0, why)
        if _CI.fullmatch(edit.path):
            yield Breach(Weight.ASK, "workflow", edit.path, 0, "this file steers CI or who must review")


def _steers(edit: Edit) -> str:
    name = posixpath.basename(edit.path)
    if name == "pyproject.toml":
        changed = _changed_keys(_pyproject(edit.old), _pyproject(edit.new))
        return f"settings that steer the gates are changed: {', '.join(changed)}" if changed else ""
    if name in ("setup.cfg", "tox.ini"):
        changed = _changed_keys(_sections(edit.old), _sections(edit.new))
        return f"sections that steer the gates are changed: {', '.join(changed)}" if changed else ""
    if name == "setup.py":
        return ""
    if _WHOLE.fullmatch(edit.path) and not _same_python(edit):
        return "this file steers the gates"
    if edit.added and _shadows(edit.path):
        return "a module of this name would be taken for one of Python's own or for a tool of the gates"
    return ""


def _shadows(path: str) -> bool:
    first, _, rest = path.removeprefix("src/").partition("/")
    return first.removesuffix(".py") in _SHADOWED if not rest else first in _SHADOWED and rest == "__init__.py"


def _same_python(edit: Edit) -> bool:
    """Comments and layout of a Python file steer nothing."""
    if not edit.path.endswith(".py") or not edit.plain or edit.old is None or edit.old_mode != edit.new_mode:
        return False
    try:
        return ast.dump(ast.parse(edit.old)) == ast.dump(ast.parse(edit.new or b""))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _pyproject(data: bytes | None) -> dict[str, Any]:
    every = toml(data)
    if data and not every:
        return {"what is not TOML": data.hex()}
    tools = table(every, "tool")
    project = table(every, "project")
    found = {f"tool.{name}": tools[name] for name in _TOOLS if name in tools}
    scripts = table(table(tools, "poetry"), "plugins")
    entry = {key: project[key] for key in ("entry-points",) if key in project}
    return {**found, **entry, **({"tool.poetry.plugins": scripts} if scripts else {})}


def _sections(data: bytes | None) -> dict[str, Any]:
    parsed = ini(data)
    if data and data.strip() and not parsed.sections():
        return {"what has no sections": data.hex()}
    return {name: dict(parsed.items(name, raw=True)) for name in parsed.sections() if _INI_SECTIONS.fullmatch(name)}


def _changed_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return sorted(key for key in {*old, *new} if old.get(key) != new.get(key))


def dependency_notes(edits: Sequence[Edit]) -> Iterator[Breach]:
    """New names in manifests are told: the gates ran without them, and nobody has looked at their licences."""
    for edit in edits:
        reader = _reader(edit.path)
        if reader is None or edit.deleted:
            continue
        for name in sorted(reader(edit.new) - reader(edit.old)):
            message = f"adds the dependency {name[:100]}; the gates ran without it, and its licence was not checked"
            yield Breach(Weight.TELL, "dependency", edit.path, 0, message)


def _reader(path: str) -> Callable[[bytes | None], set[str]] | None:
    name = posixpath.basename(path)
    if _REQUIREMENTS.fullmatch(path):
        return _from_requirements
    readers: dict[str, Callable[[bytes | None], set[str]]] = {
        "pyproject.toml": _from_pyproject,
        "setup.cfg": _from_setup_cfg,
        "package.json": _from_package_json,
    }
    return readers.get(name)


def _from_requirements(data: bytes | None) -> set[str]:
    lines = (line.strip() for line in text(data).splitlines())
    return {_canonical(line) for line in lines if line and not line.startswith("#")}


def _from_pyproject(data: bytes | None) -> set[str]:
    every = toml(data)
    project = table(every, "project")
    lists: list[Any] = [project.get("dependencies"), table(every, "build-system").get("requires")]
    lists += [*table(project, "optional-dependencies").values(), *table(every, "dependency-groups").values()]
    names = {_canonical(line) for group in lists if isinstance(group, list) for line in group if isinstance(line, str)}
    poetry = table(table(every, "tool"), "poetry")
    names |= {_canonical(name) for key in ("dependencies", "dev-dependencies") for name in table(poetry, key)}
    groups = table(poetry, "group")
    return names | {_canonical(name) for group in groups for name in table(table(groups, group), "dependencies")}


def _from_setup_cfg(data: bytes | None) -> set[str]:
    parsed = ini(data)
    texts = [parsed.get("options", "install_requires", raw=True, fallback="") or ""]
    if parsed.has_section("options.extras_require"):
        texts += [value or "" for _, value in parsed.items("options.extras_require", raw=True)]
    return {_canonical(line) for value in texts for line in value.splitlines() if line.strip()}


def _from_package_json(data: bytes | None) -> set[str]:
    try:
        every = json.loads(text(data) or "{}")
    except (ValueError, RecursionError):
        return set()
    if not isinstance(every, dict):
        return set()
    keys = ("dependencies", "devDependencies", "optionalDependencies", "peerDependencies")
    return {str(name) for key in keys for name in table(every, key)}


def _canonical(line: str) -> str:
    """A distribution's name in its normal form; a line that is no name (an address, an option) as it stands."""
    found = _NAME.match(line)
    if not found or "://" in line.partition("#")[0].partition("@")[0]:
        return line.strip()
    return re.sub(r"[-_.]+", "-", found[1]).lower()
