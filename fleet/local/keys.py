"""Keys and tokens of the person's environment, kept in private files (I7).

Model keys are read by the gateway alone; GitHub's token by the mirrors, the intake and the publisher.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.local.home import Home, write_private

if TYPE_CHECKING:
    from fleet.gateway.books import Upstream

FILE = "models.json"
GITHUB_FILE = "github.json"
# The first is the documented one; the second is what GitHub's own command line uses.
GITHUB_TOKENS = ("GITHUB_TOKEN", "GH_TOKEN")
GITHUB_READ = "GITHUB_READ_TOKEN"
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
    _add(home, FILE, told)
    token = next((home.env[name] for name in GITHUB_TOKENS if home.env.get(name)), "")
    read = home.env.get(GITHUB_READ, "")
    _add(home, GITHUB_FILE, ({"write": token} if token else {}) | ({"read": read} if read else {}))


def _add(home: Home, file: str, told: Mapping[str, str]) -> None:
    if not told:
        return
    path = home.layout.secrets / file
    with home.locked("keys"):
        known = _read(path)
        if {**known, **told} != known:
            write_private(path, json.dumps({**known, **told}))


def github(home: Home, purpose: str) -> str:
    """The token for ``read`` (mirrors, intake) or ``write`` (the publisher); empty when none was ever named.

    One token serves both unless ``GITHUB_READ_TOKEN`` names another one for reading. Read anew each time.
    """
    known = _read(home.layout.secrets / GITHUB_FILE)
    return known.get(purpose) or known.get("write", "")


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


def tokens(home: Home) -> tuple[str, ...]:
    """The forge's real tokens, for the redaction of logs."""
    return tuple(_read(home.layout.secrets / GITHUB_FILE).values())


def forget(home: Home) -> tuple[str, ...]:
    """Removes what earlier commands brought; answers the names. The environment of the next one may bring it back."""
    gone: list[str] = []
    with home.locked("keys"):
        for file in (FILE, GITHUB_FILE):
            path = home.layout.secrets / file
            gone += [f"github {name}" if file == GITHUB_FILE else name for name in _read(path)]
            path.unlink(missing_ok=True)
    return tuple(gone)


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
