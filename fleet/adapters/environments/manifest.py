"""What a commit asks for, as plain data: wishes to resolve, pins to take exactly, and the project itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import PurePosixPath
from typing import Protocol

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

TEST_GROUPS = frozenset({"test", "tests", "testing", "dev"})


class Files(Protocol):
    """The files of one commit. Paths are relative and POSIX."""

    def names(self) -> frozenset[str]:
        """Every regular file."""
        ...

    def read(self, path: str) -> str | None:
        """The text of a file; None when it is absent, too large or not text."""
        ...


class Rank(IntEnum):
    """How much a wish matters: when everything together cannot be resolved, the highest ranks are dropped first."""

    RUNTIME = 0
    TEST = 1
    FILE = 2
    DEV = 3


@dataclass(frozen=True, slots=True)
class Wish:
    """One requirement without any address; ``text`` has name, extras, versions and marker in one normal form."""

    name: str
    text: str
    rank: Rank
    origin: str


@dataclass(frozen=True, slots=True)
class Pin:
    """Exactly one version; only files with one of ``hashes`` (``sha256:…``) may be taken for it."""

    name: str
    version: str
    hashes: tuple[str, ...]

    def line(self) -> str:
        """The pin as a line of a requirements file."""
        return " ".join((f"{self.name}=={self.version}", *(f"--hash={value}" for value in self.hashes)))


@dataclass(frozen=True, slots=True)
class Project:
    """The repository as a package: what building its metadata takes, and where its modules lie."""

    name: str | None = None
    backend: str = "setuptools.build_meta:__legacy__"
    build_requires: tuple[str, ...] = ("setuptools", "wheel")
    roots: tuple[str, ...] = (".",)


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything that was found. ``sources`` names the files that were used."""

    wishes: tuple[Wish, ...] = ()
    pins: tuple[Pin, ...] = ()
    project: Project | None = None
    sources: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """Canonical names of everything asked for by name."""
        return frozenset(
            canonicalize_name(name) for name in [*(w.name for w in self.wishes), *(p.name for p in self.pins)]
        )


@dataclass(slots=True)
class Collector:
    """Gathers wishes and problems while the files of one commit are read. Nothing that names an address gets in."""

    project: str | None = None
    wishes: list[Wish] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def problem(self, text: str) -> None:
        """Notes once what could not be had; ``text`` is one sentence."""
        if text not in self.problems:
            self.problems.append(text)

    def source(self, path: str) -> None:
        if path not in self.sources:
            self.sources.append(path)

    def add(self, text: str, rank: Rank, origin: str) -> None:
        """Takes one PEP 508 requirement; an address or nonsense becomes a problem instead."""
        wish = wish_of(text, rank, origin)
        if isinstance(wish, str):
            self.problem(wish)
        elif self.project is None or canonicalize_name(wish.name) != canonicalize_name(self.project):
            self.wishes.append(wish)

    def add_all(self, texts: Iterable[object], rank: Rank, origin: str) -> None:
        """Takes a list as a file had it; entries that are no text become problems."""
        for text in texts:
            if isinstance(text, str):
                self.add(text, rank, origin)
            else:
                self.problem(f"{origin} has an entry that is not a requirement; it was left out.")

    def guarded(self, path: str, read: Callable[[], None]) -> None:
        """Runs ``read``; a file that is not in its own format becomes a problem."""
        try:
            read()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self.problem(f"{path} could not be understood ({quoted(str(error))}); it was left out.")


def wish_of(text: str, rank: Rank, origin: str) -> Wish | str:
    """The wish, or the sentence that says why ``text`` is refused."""
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return f"{origin} asks for {quoted(text)}, which is not a name with versions; it was left out."
    if requirement.url is not None:
        return address_problem(origin, quoted(text))
    return Wish(requirement.name, str(requirement), rank, origin)


def address_problem(origin: str, what: str) -> str:
    """The sentence about a dependency that is not a package of the index."""
    return f"{origin} takes {what} from an address; only packages of the index are fetched, so it was left out."


def applies(marker: str | None, extra: str = "") -> bool:
    """Whether an environment marker holds for the Python that runs the fleet. Raises ValueError on nonsense."""
    return not marker or Marker(marker).evaluate({"extra": extra})


def quoted(text: str) -> str:
    """At most 80 printable characters of untrusted text, in quotation marks."""
    clean = "".join(char if char.isprintable() else "?" for char in text.strip())
    return f"“{clean[:80]}…”" if len(clean) > 80 else f"“{clean}”"


def inside(path: str, base: str = "") -> str | None:
    """``path`` relative to the folder ``base`` as a normal path of the repository; None when it leads out of it."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or "\\" in path or "\0" in path or ":" in path or "$" in path or "~" in path:
        return None
    parts: list[str] = []
    for part in (PurePosixPath(base) / pure).parts:
        if part == "..":
            if not parts:
                return None
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts) or "."
