"""Who begins with a ticket and who takes over: the operator names agents, a repository chooses among them. Pure."""

from __future__ import annotations

from fleet.core.settings import AgentSettings, Layer, SettingsError


def default_agent(agents: AgentSettings) -> str:
    """Who works on a ticket that names nobody; empty: it must be named."""
    return agents.default or next(iter(agents.route), "")


def line_up(agents: AgentSettings, agent: str, repo: Layer | None = None) -> tuple[str, ...]:
    """``agent`` and those that follow it, in their order. ``repo``: the base branch's .fleet.toml.

    An agent that a person named outside the route has nobody behind it: they did not choose another one. One that
    nobody named is the first that the repository allows. Raises SettingsError for one that the operator did not name.
    """
    known = agents.route
    if agents.default and agents.default not in known:
        known = (agents.default, *known)
    route = _narrowed(known, repo) if repo is not None else known
    if agent == default_agent(agents) and route and agent not in route:
        agent = route[0]
    return route[route.index(agent) :] if agent in route else (agent,)


def _narrowed(known: tuple[str, ...], repo: Layer) -> tuple[str, ...]:
    """``[agents] route`` of a repository, which may leave agents out and change their order."""
    table = repo.table().get("agents", {})
    if not isinstance(table, dict) or "route" not in table:
        return known
    asked, line = table["route"], repo.line_of("agents", "route")
    if not isinstance(asked, list) or not asked or not all(isinstance(one, str) for one in asked):
        raise SettingsError(f"{repo.name}, line {line}: agents.route is no list of agents.", "Write names in quotes.")
    for one in asked:
        if one not in known:
            raise SettingsError(
                f"{repo.name}, line {line}: agents.route names {one[:60]!r}, which the operator did not.",
                f"A repository may only choose among: {', '.join(known) or 'nobody'}.",
            )
    return tuple(dict.fromkeys(asked))
