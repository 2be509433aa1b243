"""Protections switched off: one piece of text replaced in a function of ours or in one of the ledger's scripts."""

from __future__ import annotations

import importlib
import inspect
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

OURS = ("fleet.", "supervisor", "workers", "ci_gates")


@dataclass(frozen=True)
class Mutant:
    """``where``: ``supervisor.shard:ShardKeeper._take``, or ``lua:step`` for a script of the ledger.

    ``scenario``: a check that passes without the mutant and must not pass with it.
    """

    where: str
    old: str
    new: str
    scenario: Callable[..., None] | None = None
    arguments: tuple[Any, ...] = ()

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """In force until ``monkeypatch`` undoes it. What is made before keeps its protection."""
        module, _, name = self.where.partition(":")
        if module == "lua":
            _script(monkeypatch, name, self._changed)
        else:
            _function(monkeypatch, module, name, self._changed)

    def _changed(self, text: str) -> str:
        assert text.count(self.old) == 1, f"{self.where} holds {self.old!r} {text.count(self.old)} times"
        return text.replace(self.old, self.new)


def _script(monkeypatch: pytest.MonkeyPatch, name: str, change: Callable[[str], str]) -> None:
    from fleet.adapters import archive_store, ledger, shard_store, spend
    from fleet.adapters.redis_client import load_lua

    # Now, and not first in the scenario: a mutant that fits nothing any more must not pass for one that was noticed.
    change(load_lua(name))

    def load(wanted: str) -> str:
        return change(load_lua(wanted)) if wanted == name else load_lua(wanted)

    for module in (archive_store, ledger, shard_store, spend):
        monkeypatch.setattr(module, "load_lua", load)


def _function(monkeypatch: pytest.MonkeyPatch, module: str, name: str, change: Callable[[str], str]) -> None:
    loaded = importlib.import_module(module)
    *path, last = name.split(".")
    owner: Any = loaded
    for part in path:
        owner = getattr(owner, part)
    text = change(textwrap.dedent(inspect.getsource(getattr(owner, last))))
    made: dict[str, Any] = {}
    exec(compile("from __future__ import annotations\n" + text, f"<mutant of {name}>", "exec"), vars(loaded), made)
    original = getattr(owner, last)
    for place in [owner, *(known for name, known in sys.modules.items() if name.startswith(OURS))]:
        if getattr(place, last, None) is original:
            monkeypatch.setattr(place, last, made[last])
