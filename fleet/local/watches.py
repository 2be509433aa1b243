"""Which repositories are watched for a label: those of the settings, and those that ``fleet up --repo`` named."""

from __future__ import annotations

import json
from dataclasses import asdict

from fleet.adapters.git import repo_of
from fleet.core.ports import Ids
from fleet.core.routes import default_agent
from fleet.core.settings import Settings
from fleet.intake.watched import Watched
from fleet.local.home import Home, write_private

FILE = "watches.json"


def known(home: Home, settings: Settings) -> tuple[Watched, ...]:
    """Read anew each time: a later command may add one. A command's word counts more than the settings'."""
    chosen, agent = settings.intake, default_agent(settings.agents)
    told = {repo.lower(): Watched(repo, chosen.label, agent) for repo in chosen.repos}
    for row in _read(home):
        told[row["repo"].lower()] = Watched(row["repo"], row["label"], row["agent"] or agent)
    return tuple(told.values())


def agent(home: Home, settings: Settings, repo: str) -> str:
    """Who works on ``repo`` when nobody is named; empty when nobody is chosen."""
    named = next((one.agent for one in known(home, settings) if one.repo.lower() == repo.lower()), "")
    return named or default_agent(settings.agents)


def places(home: Home, settings: Settings) -> tuple[str, ...]:
    """Every repository in which this home may have had a ticket; known without the ledger, which may be lost."""
    path = home.layout.home / "repos.json"
    local: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    folders = (*home.layout.stores.glob("*.git"), *home.layout.mirrors.glob("*.git"))
    stores = sorted(repo_of(folder.name) for folder in folders)
    told = {repo.lower(): repo for repo in (*stores, *local.values(), *(one.repo for one in known(home, settings)))}
    return tuple(told.values())


def add(home: Home, watched: Watched) -> None:
    with home.locked("watches"):
        others = [row for row in _read(home) if row["repo"].lower() != watched.repo.lower()]
        write_private(home.layout.home / FILE, json.dumps([*others, asdict(watched)], indent=1))


def forget(home: Home, repo: str) -> bool:
    """False when it was not watched by a command."""
    with home.locked("watches"):
        rows = _read(home)
        left = [row for row in rows if row["repo"].lower() != repo.lower()]
        if len(left) < len(rows):
            write_private(home.layout.home / FILE, json.dumps(left, indent=1))
        return len(left) < len(rows)


def secret(home: Home, ids: Ids) -> str:
    """What GitHub signs its webhooks with; made once."""
    return home.secret("webhook", lambda: {"secret": ids.token(32)})["secret"]


def _read(home: Home) -> list[dict[str, str]]:
    path = home.layout.home / FILE
    found: list[dict[str, str]] = json.loads(path.read_text()) if path.exists() else []
    return found
