"""A prepared environment: the repository's own dependencies, fetched outside and installed offline, read-only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a sandboxed command needs to use the repository's dependencies and the fleet's locked tools.

    ``read_only`` and ``path`` go into SandboxSpec as they are, ``env`` as a mapping. ``python`` is the
    environment's interpreter. ``description`` is one line for evidence; ``problems`` say what could not be
    had (the gates then say "not configured" or "infrastructure", never "passed").
    """

    digest: str
    read_only: tuple[Path, ...]
    path: tuple[Path, ...]
    env: tuple[tuple[str, str], ...]
    python: Path
    description: str
    problems: tuple[str, ...] = ()


class Environments(Protocol):
    """One prepared environment serves agent and gates; it is made of the base commit only."""

    def prepare(self, git_dir: Path, commit: str) -> Prepared:
        """``git_dir``: one of the fleet's own bare repositories that holds ``commit``. Cached by digest.

        Raises TemporaryError when the package index is away and nothing cached serves.
        """
        ...
