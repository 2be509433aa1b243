"""``fleet up --repo``: what is watched, checked before the fleet is told."""

from __future__ import annotations

from collections.abc import Iterable

from fleet.core.errors import UsageError
from fleet.core.routes import default_agent
from fleet.intake.watched import Watched
from fleet.local import keys, watches
from fleet.local.client import Client
from fleet.local.forges import is_local
from workers.agents import backend_for


def checked(fleet: Client, name: str, label: str | None, agent: str | None) -> Watched:
    """Raises UsageError or ParkError when watching it could only fail: no agent, no token, no right to push."""
    fleet.home.make()
    keys.keep(fleet.home)
    settings = fleet.settings
    who = agent or default_agent(settings.agents)
    if not who:
        raise UsageError("No agent is named for labelled issues.", "Give one, for example --agent anthropic.")
    backend_for(who)
    return Watched(_repo(fleet, name), label or settings.intake.label, who)


def _repo(fleet: Client, name: str) -> str:
    forges = fleet.wiring.forges
    if is_local(name):
        return name  # of the local forge, which is looked at once it runs
    named = forges.named(name)
    if named is None or named[1]:
        raise UsageError(f"{name} is no repository that can be watched.", "Name it as OWNER/NAME or by its URL.")
    if not forges.token("write"):
        raise UsageError("Watching a repository of GitHub needs a token.", "Export GITHUB_TOKEN (see docs/github.md).")
    found = forges.client(named[0], "write").repository(named[0])
    if not found.may_push or found.archived:
        why = "is archived" if found.archived else "cannot be pushed to with this token"
        raise UsageError(f"{found.full_name} {why}.", "See docs/github.md for what the token needs.")
    return found.full_name


def stop_watching(fleet: Client, name: str) -> None:
    fleet.home.make()
    named = None if is_local(name) else fleet.wiring.forges.named(name)
    repo = named[0] if named else name
    if not watches.forget(fleet.home, repo):
        raise UsageError(f"{repo} is not watched by a command.", "See what is with `fleet up`.")


def said(fleet: Client, watched: Iterable[Watched]) -> Iterable[str]:
    """A line for each."""
    every = fleet.settings.intake.poll_seconds
    for one in watched:
        who = one.agent or "no agent is named: set agents.default or agents.route"
        yield f"watch   {one.repo}: issues labelled “{one.label}”, every {every:g} s, agent {who}"
