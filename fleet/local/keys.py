"""Model keys of the person's environment: kept in a private file that the gateway alone reads (I7)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.local.home import Home, write_private

if TYPE_CHECKING:
    from fleet.gateway.books import Upstream

FILE = "models.json"
REHEARSAL = "rehearsal"
REHEARSAL_SOCKET = "rehearsal.sock"
# provider → (variable of its key, variable of its address, address)
PROVIDERS = {
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "https://api.anthropic.com"),
    "openai": ("OPENAI_API_KEY", "OPENAI_BASE_URL", "https://api.openai.com"),
}


def keep(home: Home) -> None:
    """Writes down what the environment of this command names; what it does not name stays as it was.

    They survive a restart of the fleet by itself, which no command attends; ``fleet clean --all`` removes them.
    """
    told = {name: home.env[name] for key, url, _ in PROVIDERS.values() for name in (key, url) if home.env.get(name)}
    if not told:
        return
    path = home.layout.secrets / FILE
    with home.locked("keys"):
        known = _read(path)
        if {**known, **told} != known:
            write_private(path, json.dumps({**known, **told}))


def upstreams(home: Home) -> Mapping[str, Upstream]:
    """Where each provider is, with its key; read anew each time, since a later command may bring another key."""
    from fleet.gateway.books import Upstream  # noqa: PLC0415 - commands only keep keys, and need not load this

    known = _read(home.layout.secrets / FILE)
    found = {
        provider: Upstream(_base(known.get(url) or address), known.get(key, ""), variable=key)
        for provider, (key, url, address) in PROVIDERS.items()
    }
    scripted = Upstream("http://rehearsal", socket=str(home.layout.runtime / REHEARSAL_SOCKET))
    return {**found, REHEARSAL: scripted}


def secrets(home: Home) -> tuple[str, ...]:
    """The real keys, for the redaction of logs."""
    return tuple(value for name, value in _read(home.layout.secrets / FILE).items() if name.endswith("_KEY"))


def named(home: Home) -> frozenset[str]:
    """The variables that hold something, of this command's environment or kept from an earlier one; no value."""
    told = (name for key, url, _ in PROVIDERS.values() for name in (key, url) if home.env.get(name))
    return frozenset((*told, *_read(home.layout.secrets / FILE)))


def _base(url: str) -> str:
    """The gateway's paths begin with the version, which OpenAI's address holds by custom."""
    return url.rstrip("/").removesuffix("/v1")


def _read(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    found: dict[str, str] = json.loads(path.read_text())
    return found
