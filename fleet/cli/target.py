"""What ``fleet run`` was given: a checkout, a repository behind a URL, or an issue at GitHub."""

from __future__ import annotations

import sys
from pathlib import Path

from fleet.core.errors import UsageError
from fleet.core.forge import Issue, Repository
from fleet.core.routes import default_agent
from fleet.core.tenants import others, tenant_of
from fleet.intake.decide import Request
from fleet.intake.service import Accepted
from fleet.intake.text import IssueText, clean, decode, parse
from fleet.local import keys
from fleet.local.checkout import look
from fleet.local.client import Client
from fleet.local.promise import OPENED, accept_found, accept_opened
from workers.agents import backend_for

MOST_ISSUE_BYTES = 1_000_000


def one_of(target: str | None, repo: str | None) -> str:
    """Where to work. Raises UsageError when nothing or two things were named."""
    if target is not None and repo is not None:
        raise UsageError("Two repositories are named.", "Give either the first word or --repo.")
    named = target if target is not None else repo
    if not named:
        raise UsageError(
            "No repository is named.", "Give a path or a URL, for example: fleet run . --title '…' --agent anthropic."
        )
    return named


def at_github(fleet: Client, where: str, issue: str | None) -> tuple[str, int] | None:
    """(owner/name, issue number or 0) for what lies at GitHub, None for a path or a URL of somebody else."""
    numbered = issue is not None and issue.lstrip("#").isdigit()
    if Path(where).expanduser().is_dir():
        if numbered and not Path(issue or "").is_file():
            raise UsageError(
                f"A folder has no issue {issue}.", "Give the issue's URL instead of the folder, or a file with --issue."
            )
        return None
    named = fleet.wiring.forges.named(where)
    if named is None or not numbered:
        return named
    if named[1]:
        raise UsageError("The issue is named twice.", "Leave --issue away.")
    return named[0], int((issue or "").lstrip("#"))


def agent_of(fleet: Client, agent: str | None) -> str:
    """The named agent, else the operator's default. Raises UsageError when there is none."""
    chosen = agent if agent is not None else default_agent(fleet.settings.agents)
    if chosen:
        return chosen
    known = keys.named(fleet.home)
    fit = next((name for name, (key, _, _) in keys.PROVIDERS.items() if key in known), "")
    hint = f"Give one: --agent {fit}." if fit else 'Give one, for example --agent "command:ruff check --fix .".'
    raise UsageError("No agent is named.", hint)


def issue_text(issue: str | None, title: str | None) -> IssueText:
    """The issue from a file, standard input or one line. Raises UsageError when it is empty, binary or doubled."""
    if (issue is None) == (title is None):
        raise UsageError("Say what to do with either --title or --issue.", "Give exactly one of them.")
    if title is not None:
        return clean(title, "")
    assert issue is not None
    if issue == "-":
        raw = sys.stdin.buffer.read(MOST_ISSUE_BYTES)
    else:
        file = Path(issue)
        if not file.is_file():
            raise UsageError(f"{issue} is not a file.", "Give the path of a text file, or - for standard input.")
        with file.open("rb") as opened:
            raw = opened.read(MOST_ISSUE_BYTES)
    return clean(*parse(decode(raw, issue)))


def source(fleet: Client, where: str, at_hub: bool, base: str | None) -> tuple[Path, str, str]:
    """(folder to take the branch from, branch, a note about what is not part of the work)."""
    if at_hub:
        fleet.home.make()
        keys.keep(fleet.home)
        branch = base or fleet.wiring.forges.client(where, "read").repository(where).default_branch
        url = fleet.wiring.forges.git_url(where)
        note = "without --issue NUMBER the work stays on the local forge"
        return fleet.import_url(url, branch), branch, note
    if "://" in where or where.startswith("git@"):
        fleet.home.make()
        path = fleet.import_url(where, base or "")
        return path, base or "", ""
    checkout = look(Path(where).expanduser().resolve(), fleet.home.env)
    branch = base or checkout.branch
    if not branch:
        raise UsageError(f"{checkout.top} has no branch checked out.", "Name the one to work on with --base.")
    return checkout.top, branch, checkout.note()


def submit(fleet: Client, path: Path, branch: str, text: IssueText, agent: str, reset_base: bool) -> Accepted:
    """Opens the issue at the local forge and has it accepted; on disk when this returns (I1)."""
    fleet.home.check_space()
    repo, branch = fleet.import_repository(path, branch, reset_base)
    opened = fleet.open_issue(repo, text.title, text.body, OPENED)
    local_path = "" if path.is_relative_to(fleet.home.layout.home) else str(path)
    return accept_opened(fleet, _request(fleet, repo, opened.number, text, branch, agent, local_path))


def submit_issue(fleet: Client, repo: str, number: int, base: str, agent: str) -> Accepted:
    """Has an issue of GitHub accepted. Without a token the work is done on a copy at the local forge."""
    fleet.home.make()
    fleet.home.check_space()
    keys.keep(fleet.home)
    forges = fleet.wiring.forges
    with_token = bool(forges.token("write"))
    forge = forges.client(repo, "write" if with_token else "read")
    found = forge.repository(repo)
    issue = forge.issue(repo, number)
    _check(found, issue, with_token)
    branch = base or found.default_branch
    text = clean(issue.title, issue.body)
    if with_token:
        fleet.attach()
        request = _request(fleet, found.full_name, number, text, branch, agent)
        return accept_found(fleet, forge, issue, request)
    path = fleet.import_url(forges.git_url(found.full_name), branch)
    fleet.attach()
    local, branch = fleet.import_repository(path, branch, force=True)
    fleet.home.note_origin(local, found.full_name)
    opened = fleet.open_issue(local, text.title, f"{text.body}\n\nFrom {issue.url}", OPENED)
    return accept_opened(fleet, _request(fleet, local, opened.number, text, branch, agent))


def _check(repo: Repository, issue: Issue, with_token: bool) -> None:
    """Raises UsageError for what could only fail later, after money was spent."""
    if issue.pull:
        raise UsageError(f"{issue.url} is a pull request.", "Give the number of an issue.")
    if not issue.open:
        raise UsageError(f"{issue.url} is closed.", "Reopen it, or name another one.")
    if with_token and repo.archived:
        raise UsageError(f"{repo.full_name} is archived: nothing can be pushed there.", "Name another repository.")
    if with_token and not repo.may_push:
        raise UsageError(
            f"The token may not push to {repo.full_name}.",
            "Give it write access to Contents, Issues, Pull requests and Commit statuses; "
            "or unset GITHUB_TOKEN and clear it with `fleet clean --tokens` to work on a copy.",
        )


def _request(
    fleet: Client, repo: str, number: int, text: IssueText, branch: str, agent: str, local_path: str = ""
) -> Request:
    first, *route = fleet.agents_of(repo, branch, agent)
    for one in (first, *route):
        backend_for(one)
    tenant = tenant_of(fleet.settings.tenants, repo)
    return Request(
        repo=repo,
        tenant=tenant,
        others=others(fleet.settings.tenants, tenant),
        number=number,
        text=text,
        base=branch,
        agent=first,
        route=tuple(route),
        requested_by="local",
        limits=fleet.limits_of(repo, branch),
        local_path=local_path,
        allow_no_tests=True,
    )
