"""``fleet doctor``: what the fleet needs, whether it is there, and the one command that mends what is not."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass

from fleet.adapters.git_run import git_program, git_version
from fleet.adapters.redis_program import find_program
from fleet.adapters.sandbox import matrix, probe_tiers
from fleet.core.errors import FleetError
from fleet.local import keys
from fleet.local.home import Home

LEAST_FREE = 2 * 2**30


@dataclass(frozen=True, slots=True)
class Check:
    """``level``: ok, note (works, could be better) or bad (work will stop there)."""

    name: str
    level: str
    says: str
    mend: str = ""

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


def examine(home: Home) -> list[Check]:
    """Looks; changes nothing but the home's own folders."""
    checks = [
        _python(),
        _guard("git", _git),
        _guard("store", lambda: _store(home)),
        _guard("home", lambda: _home(home)),
    ]
    checks += [_guard("settings", lambda: _settings(home)), *_sandbox(), _tools(home), *_models(home)]
    return checks


def _guard(name: str, look: Callable[[], Check]) -> Check:
    try:
        return look()
    except FleetError as error:
        return Check(name, "bad", error.message, error.hint)


def _python() -> Check:
    return Check("python", "ok", f"{sys.version.split()[0]} at {sys.executable}")


def _git() -> Check:
    return Check("git", "ok", f"{'.'.join(map(str, git_version(git_program())))} at {git_program()}")


def _store(home: Home) -> Check:
    if home.redis_url:
        return Check("store", "note", "a Redis of yours (FLEET_REDIS_URL); roles share one account there")
    program = find_program()
    return Check("store", "ok", f"embedded server {program.path}")


def _home(home: Home) -> Check:
    home.make()
    free = shutil.disk_usage(home.layout.home).free
    says = f"{home.layout.home}, {free / 2**30:.1f} GiB free"
    if free < LEAST_FREE:
        return Check("home", "bad", says, "free some space, or set FLEET_HOME to another disk")
    return Check("home", "ok", says)


def _settings(home: Home) -> Check:
    home.settings()
    return Check("settings", "ok", "built-in, fleet.toml and FLEET_* variables agree with the schema")


def _sandbox() -> list[Check]:
    """One tier is enough; the missing ones are notes then."""
    reports = probe_tiers()
    any_tier = any(report.available for report in reports)
    rows = zip(reports, matrix(reports), strict=True)
    return [
        Check(
            "sandbox",
            "ok" if report.available else "note" if any_tier else "bad",
            f"{tier}: {state}" + (f" ({held})" if report.available else ""),
            "" if report.available else report.mend,
        )
        for report, (tier, state, held) in rows
    ]


def _tools(home: Home) -> Check:
    if home.tools.name and (home.tools / "bin" / "ruff").exists():
        return Check("tools", "ok", f"locked ruff, mypy and pytest in {home.tools}")
    return Check("tools", "bad", "the locked tools environment is missing", "start the fleet with bin/fleet")


def _models(home: Home) -> list[Check]:
    """Whether each provider's key is known, never what it is. None is needed to run commands or the rehearsal."""
    known = keys.named(home)
    github = (
        Check("github", "ok", "a token is known; what it may do is asked when a repository is named")
        if keys.github(home, "write") or any(home.env.get(name) for name in keys.GITHUB_TOKENS)
        else Check("github", "note", "no token: pull requests stay on the local forge", "export GITHUB_TOKEN=…")
    )
    return [
        github,
        *(
            Check("model", "ok", f"{provider}: {variable} is set")
            if variable in known
            else Check("model", "note", f"{provider}: no key", f"export {variable}=… before the next fleet command")
            for provider, (variable, _, _) in keys.PROVIDERS.items()
        ),
    ]
