"""Settings: frozen groups, resolved built-in < operator < tenant < repository.

The operator may set anything: a file, and variables over it. A tenant (a table of the operator's file) and a repository
may only tighten: a value above the floor that the layers before it set is refused with its line and that floor (I22).
Pure: the text comes from the adapters.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import msgspec

from fleet.core.errors import UsageError
from fleet.core.tenants import NAME, Money, Tenants, TenantSettings, limits_of, tenant_of
from fleet.core.ticket import TicketLimits


class SettingsError(UsageError):
    """A settings file is wrong; the message names the file, the line, and what to write."""


@dataclass(frozen=True, slots=True)
class CapSettings:
    """How much may happen at once. ``tickets``: live attempts of the fleet, ``per_repo`` and ``per_tenant`` of one.

    ``open_pull_requests``: the fleet's own, per repository; people review no faster because more are open.
    """

    tickets: int = 4
    per_repo: int = 2
    per_tenant: int = 4
    open_pull_requests: int = 5


@dataclass(frozen=True, slots=True)
class SupervisionSettings:
    """Seconds. ``lost_after``: silence of the guard that counts as death. ``claim_within``: for an attempt that nobody
    takes. ``silence``: without any word of the agent (``model_silence`` while it waits for a model).

    ``no_progress``: alive, but no new diff, test result or distinct call.

    ``same_calls``, ``same_errors``, ``alternations``: calls in a row with the same result, with the same error, and of
    two in turns, that make a loop (0: never; 12 at most). ``between_rungs``: from one step of the ladder to the next;
    ``probe_within``: for the guard's answer to the first one, ``stop_within``: for its word after the last one that
    nothing of the attempt lives. ``backoff_first`` doubles up to ``backoff_most``.

    ``same_death``: attempts that may end the same way. ``agent_tries``: attempts of one agent of a route that may end
    badly before the next one takes over.
    """

    lost_after: float = 30.0
    claim_within: float = 300.0
    silence: float = 120.0
    model_silence: float = 600.0
    no_progress: float = 480.0
    same_calls: int = 4
    same_errors: int = 3
    alternations: int = 6
    between_rungs: float = 120.0
    probe_within: float = 10.0
    stop_within: float = 30.0
    same_death: int = 3
    agent_tries: int = 2
    backoff_first: float = 30.0
    backoff_most: float = 900.0


@dataclass(frozen=True, slots=True)
class BudgetSettings:
    """US dollars for models. ``day_usd``: what this home may spend in one UTC day, ``tenant_usd`` any one tenant of it
    (not named: all of it), ``fleet_usd`` the whole fleet in one UTC month (not named: what its days allow).

    ``soft``: the share of a ticket's ``limits.usd`` after which it parks and asks a person; 1 asks never.
    """

    day_usd: float = 20.0
    tenant_usd: float | None = None
    fleet_usd: float | None = None
    soft: float = 0.8


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """``default``: who works on a ticket that names nobody, for example ``anthropic``; empty: the first of the route,
    and without one it must be named. ``route``: who takes over, in this order, when an agent is at its end.
    """

    default: str = ""
    route: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GithubSettings:
    """``api_url`` and ``web_url`` of GitHub, or of a GitHub Enterprise Server.

    ``trusted_workflows``: workflow files that may run what an agent wrote although they see secrets, as ``owner/name``
    (all of it) or ``owner/name:ci.yml``. ``seconds_between_writes``: for the whole fleet; GitHub allows 80 a minute.
    """

    api_url: str = "https://api.github.com"
    web_url: str = "https://github.com"
    trusted_workflows: tuple[str, ...] = ()
    seconds_between_writes: float = 1.0


@dataclass(frozen=True, slots=True)
class IntakeSettings:
    """Issues of ``repos`` (owner/name) that carry ``label`` become tickets.

    ``poll_seconds``: between two looks at the forge. ``webhook_port``: loopback port that takes webhooks, 0 = none.
    """

    repos: tuple[str, ...] = ()
    label: str = "fleet"
    poll_seconds: float = 60.0
    webhook_port: int = 0


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """``keep_days``: a ticket that ended is forgotten after as many days; its sealed log is then removed by
    ``fleet clean``.
    """

    keep_days: float = 30.0


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """``otlp_endpoint``: where traces are sent (OTLP over HTTP), empty = where OpenTelemetry's variables say.

    ``metrics_port``: loopback port of the Prometheus page, 0 = none.
    """

    otlp_endpoint: str = ""
    metrics_port: int = 0


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """``tiers``: which kinds of sandbox may be used, best first. Bytes and counts are per command."""

    tiers: tuple[str, ...] = ("bubblewrap", "landlock")
    memory_bytes: int = 2 * 1024**3
    processes: int = 256
    disk_bytes: int = 4 * 1024**3


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Celery concurrency per queue. Gates use a core each; attempts mostly wait.

    ``supervisors``: processes that share the shards and take over from each other within seconds.
    """

    agents: int = 4
    gates: int = 2
    publish: int = 2
    supervisors: int = 1


@dataclass(frozen=True, slots=True)
class HomeSettings:
    """``forge_port``: of the local forge, 0 = any free one, kept from then on. ``idle_minutes``: then it stops itself.

    ``durability``: ``ledger``, or ``forge`` to accept a store that may forget (tickets are rebuilt from the forge).
    """

    forge_port: int = 0
    idle_minutes: float = 30.0
    durability: str = "ledger"


@dataclass(frozen=True, slots=True)
class Settings:
    caps: CapSettings = field(default_factory=CapSettings)
    limits: TicketLimits = field(default_factory=TicketLimits)
    supervision: SupervisionSettings = field(default_factory=SupervisionSettings)
    sandbox: SandboxSettings = field(default_factory=SandboxSettings)
    workers: WorkerSettings = field(default_factory=WorkerSettings)
    home: HomeSettings = field(default_factory=HomeSettings)
    budget: BudgetSettings = field(default_factory=BudgetSettings)
    agents: AgentSettings = field(default_factory=AgentSettings)
    github: GithubSettings = field(default_factory=GithubSettings)
    intake: IntakeSettings = field(default_factory=IntakeSettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    ledger: LedgerSettings = field(default_factory=LedgerSettings)
    tenants: Tenants = field(default_factory=dict)

    def money(self) -> Money:
        budget = self.budget
        shares = {name: one.day_usd for name, one in self.tenants.items() if one.day_usd is not None}
        return Money(budget.day_usd, budget.tenant_usd, budget.fleet_usd, budget.soft, shares)

    def limits_for(self, repo: str) -> TicketLimits:
        """Of a ticket of owner/name, before the repository's own word."""
        return limits_of(self.limits, self.tenants.get(tenant_of(self.tenants, repo)))


def groups() -> tuple[str, ...]:
    """The names of the groups of plain settings; ``tenants`` holds a table per name."""
    return tuple(one.name for one in fields(Settings) if one.name != "tenants")


@dataclass(frozen=True, slots=True)
class Layer:
    """One settings text. ``name`` is how people know it: ``fleet.toml``, ``the environment``, ``.fleet.toml``."""

    name: str
    text: str

    def table(self) -> dict[str, Any]:
        try:
            return tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"{self.name} is not valid TOML: {error}.", "Correct that line.") from error

    def line_of(self, group: str, key: str) -> int:
        """The 1-based line of ``[group] key``, 0 when it cannot be told."""
        inside = ""
        for number, line in enumerate(self.text.splitlines(), 1):
            header = re.match(r"\s*\[([^\]]+)\]", line)
            if header:
                inside = header[1].strip()
                if not group and inside == key:
                    return number
            if re.match(rf"\s*{re.escape(key)}\s*=", line) and inside == group:
                return number
            if re.match(rf"\s*{re.escape(group)}\.{re.escape(key)}\s*=", line) and not inside:
                return number
        return 0


def resolve(operator: Layer | None = None, variables: Layer | None = None, repo: Layer | None = None) -> Settings:
    """Raises SettingsError. Of the repository's text only ``[limits]`` is read here; gates and policy are elsewhere."""
    settings = Settings()
    for layer in (operator, variables):
        if layer is not None:
            settings = apply(settings, layer)
    return settings if repo is None else replace(settings, limits=tighten(settings.limits, repo))


def apply(settings: Settings, layer: Layer) -> Settings:
    """``settings`` with every key that ``layer`` names."""
    made = {name: getattr(settings, name) for name in groups()}
    table = layer.table()
    named = table.pop("tenants", {})
    for group, values in table.items():
        if group not in made or not isinstance(values, dict):
            raise _unknown(layer, "", group, [*made, "tenants"])
        made[group] = _merged(made[group], values, layer, group)
    whole = Settings(**made, tenants=settings.tenants)
    if not isinstance(named, dict):
        raise _unknown(layer, "", "tenants", made)
    read = {name: _tenant(whole, name, values, layer) for name, values in named.items()}
    return replace(whole, tenants={**settings.tenants, **read})


def _tenant(settings: Settings, name: str, values: Any, layer: Layer) -> TenantSettings:
    """``[tenants.NAME]``. Raises SettingsError, also for what is looser than the fleet's own."""
    group = f"tenants.{name}"
    if not NAME.fullmatch(name) or not isinstance(values, dict):
        raise SettingsError(f"{layer.name}: {group} is no table of a tenant.", "Write [tenants.name] in small letters.")
    limits = values.get("limits", {})
    # Read as limits first: an unknown key or a wrong value is told with its own line.
    tighten(settings.limits, layer, limits, f"{group}.limits")
    made: TenantSettings = _merged(TenantSettings(), values, layer, group)
    budget = settings.money()
    floors = {"tickets": settings.caps.per_tenant, "day_usd": replace(budget, tenants={}).tenant(name)}
    for key, floor in floors.items():
        asked = getattr(made, key)
        if asked is not None and asked > floor:
            raise _looser(layer, group, key, asked, floor)
    return made


def tighten(
    floor: TicketLimits, layer: Layer, values: Mapping[str, Any] | None = None, name: str = "limits"
) -> TicketLimits:
    """A repository's or a tenant's limits over ``floor``; each may only go down. No ``values``: ``[limits]``."""
    if values is None:
        values = layer.table().get("limits", {})
    merged: TicketLimits = _merged(floor, values if isinstance(values, dict) else {}, layer, name)
    for one in fields(TicketLimits):
        asked, allowed = getattr(merged, one.name), getattr(floor, one.name)
        if asked > allowed:
            raise _looser(layer, name, one.name, asked, allowed)
    return merged


def _looser(layer: Layer, group: str, key: str, asked: Any, floor: Any) -> SettingsError:
    who, line = "tenant" if group.startswith("tenants.") else "repository", layer.line_of(group, key)
    return SettingsError(
        f"{layer.name}, line {line}: {group}.{key} = {asked} is looser than the operator's {floor}.",
        f"A {who} may only tighten: write {floor} or less.",
    )


def _merged(group: Any, values: Mapping[str, Any], layer: Layer, name: str) -> Any:
    assert is_dataclass(group)
    known = {one.name for one in fields(group)}
    for key in values:
        if key not in known:
            raise _unknown(layer, name, key, known)
        value = values[key]
        # NaN is neither more nor less than a floor, so a limit of NaN would be none.
        if isinstance(value, int | float) and not 0 <= value < math.inf:
            line = layer.line_of(name, key)
            raise SettingsError(f"{layer.name}, line {line}: {name}.{key} = {value} is no amount.", "Write 0 or more.")
    if name.endswith("limits") and "usd" in values:
        # Who names a dollar limit means it: what cannot be priced must not slip past it.
        values = {"unknown_prices": False, **values}
    try:
        return msgspec.convert({**msgspec.to_builtins(group), **values}, type(group))
    except msgspec.ValidationError as error:
        key = str(error).rpartition("$.")[2].strip("`") if "$." in str(error) else next(iter(values), "")
        line = layer.line_of(name, key.split("[")[0])
        raise SettingsError(f"{layer.name}, line {line}: {name}.{key}: {error}.", "Correct that value.") from error


def _unknown(layer: Layer, group: str, key: str, known: Any) -> SettingsError:
    near = difflib.get_close_matches(key, sorted(known), 1)
    line = layer.line_of(group, key)
    where = f", line {line}" if line else ""
    what = f"{group}.{key}" if group else f"[{key}]"
    hint = f"Did you mean {near[0]}?" if near else f"Known are: {', '.join(sorted(known))}."
    return SettingsError(f"{layer.name}{where}: there is no setting {what}.", hint)


def from_environment(env: Mapping[str, str]) -> Layer | None:
    """``FLEET_CAPS_TICKETS=8`` is ``[caps] tickets = 8``; None when no variable names a setting."""
    settings = Settings()
    lines: list[str] = []
    for group in groups():
        for key in fields(getattr(settings, group)):
            value = env.get(f"FLEET_{group}_{key.name}".upper())
            if value is not None:
                text = value if re.fullmatch(r"-?[\d.]+|true|false|\[.*\]", value) else f'"{value}"'
                lines.append(f"{group}.{key.name} = {text}")
    return Layer("the environment", "\n".join(lines)) if lines else None
