"""requirements*.txt as data. Only names with versions and hashes come in; no address, no path, no option of pip's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from packaging.requirements import InvalidRequirement, Requirement

from fleet.adapters.environments.manifest import TEST_GROUPS, Collector, Files, Pin, Rank, inside, quoted

_RUNTIME = ("requirements.txt", "requirements/base.txt", "requirements/requirements.txt", "requirements/main.txt")
_TEST = re.compile(
    r"^(requirements[-_.]?|requirements/)(dev|tests?|testing|ci)(elopment)?\.txt$|^(dev|tests?)[-_]requirements\.txt$"
)
_CONTINUED = re.compile(r"\\\r?\n")
_COMMENT = re.compile(r"(^|\s)#.*$")
_HASH = re.compile(r"\s--hash[= ](\S+)")
_SHA = re.compile(r"^(sha256|sha384|sha512):[0-9a-f]+$")
_INCLUDE = re.compile(r"^(?:-r|--requirement|-c|--constraint)(?:[=\s]\s*|(?=[^\s-]))(\S+)$")
_ITSELF = re.compile(r"^(?:-e|--editable)?[=\s]*\.\s*(?:\[([\w\s,.-]+)\])?$")
_DEPTH = 8


@dataclass(slots=True)
class Found:
    """What was found besides wishes: pins with hashes, and extras and groups of the project itself that are wanted."""

    pins: list[Pin] = field(default_factory=list)
    extras: set[str] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)

    def wants_extra(self, name: str) -> bool:
        """Whether the project's extra of this name holds what tests need, or was asked for."""
        return is_test_group(name) or name in self.extras

    def wants_group(self, name: str) -> bool:
        """The same for a dependency group."""
        return is_test_group(name) or name in self.groups


def rank_of(path: str) -> Rank:
    return Rank.RUNTIME if path in _RUNTIME else Rank.FILE


def candidates(names: frozenset[str]) -> list[str]:
    """The requirements files that are read, those of the program itself first."""
    return [path for path in _RUNTIME if path in names] + sorted(path for path in names if _TEST.match(path))


def read(
    files: Files, path: str, rank: Rank, into: Collector, found: Found, seen: frozenset[str] = frozenset()
) -> None:
    """Reads ``path`` and what it includes. What is refused stands in ``into.problems`` afterwards."""
    text = files.read(path)
    if text is None:
        into.problem(f"{path} is named but is not a text file of the repository; it was left out.")
        return
    into.source(path)
    for line in lines(text):
        include = _INCLUDE.match(line)
        if include:
            _include(files, path, include[1], rank, into, found, seen | {path})
        elif itself := _ITSELF.match(line):
            found.extras.update(part.strip() for part in (itself[1] or "").split(",") if part.strip())
        elif line.startswith("-"):
            into.problem(
                f"{path} has the line {quoted(line)}; the fleet takes no options from a repository, so it was left out."
            )
        else:
            _requirement(line, path, rank, into, found)


def lines(text: str) -> Iterator[str]:
    """Logical lines without comments."""
    for raw in _CONTINUED.sub(" ", text.removeprefix("\ufeff")).splitlines():
        line = _COMMENT.sub("", raw).strip()
        if line:
            yield line


def _include(
    files: Files, path: str, target: str, rank: Rank, into: Collector, found: Found, seen: frozenset[str]
) -> None:
    folder = path.rpartition("/")[0]
    wanted = inside(target, folder)
    if wanted is None or wanted not in files.names():
        into.problem(f"{path} includes {quoted(target)}, which is no file of the repository; it was left out.")
    elif wanted not in seen and len(seen) < _DEPTH:
        read(files, wanted, rank, into, found, seen)


def _requirement(line: str, path: str, rank: Rank, into: Collector, found: Found) -> None:
    hashes = tuple(_HASH.findall(line))
    text = _HASH.sub("", line).strip()
    if not hashes or not all(_SHA.match(value) for value in hashes):
        if " --" in text:
            into.problem(f"{path} has the line {quoted(text)} with options; it was left out.")
        else:
            into.add(text, rank, path)
        return
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        into.add(text, rank, path)
        return
    exact = [spec for spec in requirement.specifier if spec.operator == "==" and not spec.version.endswith("*")]
    if requirement.url is not None or len(exact) != 1:
        into.add(text, rank, path)
    elif requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
        found.pins.append(Pin(requirement.name, exact[0].version, hashes))


def is_test_group(name: str) -> bool:
    """Whether an extra or a dependency group of this name holds what tests need."""
    return name.lower().replace("_", "-") in TEST_GROUPS
