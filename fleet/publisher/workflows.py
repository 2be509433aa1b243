"""Workflows of a repository that would run what an agent wrote with secrets at hand. Pure.

The fleet pushes branches into the repository itself, so that GitHub gives their runs what it refuses to a fork: the
secrets. Source of the rules: GitHub's "Events that trigger workflows" and "Security hardening for GitHub Actions".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

FOLDER = ".github/workflows"
# They run the base's workflow with every secret; they are safe as long as they leave the pull request's code alone.
_PRIVILEGED = ("pull_request_target", "workflow_run", "issue_comment")
_OF_BRANCH = ("push", "pull_request", "create")
_HEAD = re.compile(
    r"github\.event\.(pull_request|workflow_run)\.head|github\.head_ref|refs/pull/|event\.workflow_run\.head"
)
_SECRET = re.compile(r"secrets\.([A-Za-z_][A-Za-z0-9_]*)|secrets\[['\"]([^'\"]+)")
_GRANTS = ("contents", "packages", "id-token", "actions", "deployments", "pages", "security-events")


@dataclass(frozen=True, slots=True)
class Risk:
    """``path`` is the workflow, ``why`` what it would hand out, ``change`` what to write there instead."""

    path: str
    why: str
    change: str


def is_workflow(path: str) -> bool:
    return path.startswith(f"{FOLDER}/") and path.count("/") == 2 and path.endswith((".yml", ".yaml"))


def risks(files: Mapping[str, str], branch: str) -> tuple[Risk, ...]:
    """``files``: path → text of the workflows on the commit; ``branch``: what is about to be pushed."""
    return tuple(risk for path in sorted(files) for risk in _of_file(path, files[path], branch))


def untrusted(found: Iterable[Risk], repo: str, trusted: Iterable[str]) -> tuple[Risk, ...]:
    """Without those that the operator named as ``owner/name`` or ``owner/name:file``."""
    named = {name.lower() for name in trusted}
    if repo.lower() in named:
        return ()
    return tuple(risk for risk in found if f"{repo}:{risk.path.rpartition('/')[2]}".lower() not in named)


def _of_file(path: str, text: str, branch: str) -> Iterable[Risk]:
    try:
        flow = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError):
        return  # GitHub does not run what is no YAML
    if not isinstance(flow, dict):
        return
    # YAML 1.1 reads the key `on` as true.
    triggers = _triggers(flow.get("on", flow.get(True)))
    jobs = flow.get("jobs")
    for name, job in jobs.items() if isinstance(jobs, dict) else ():
        if isinstance(job, dict) and not _guarded(job):
            yield from _of_job(path, str(name), flow, job, triggers, branch)


def _of_job(
    path: str, name: str, flow: dict[Any, Any], job: dict[Any, Any], triggers: dict[str, Any], branch: str
) -> Iterable[Risk]:
    words = json.dumps(job, default=str)
    special = [event for event in _PRIVILEGED if event in triggers]
    if special and _HEAD.search(words):
        change = f"Let it not check out the pull request's code, or run it on pull_request without secrets: job {name}."
        yield Risk(path, f"{special[0]} checks out the pull request's code with every secret of the repository", change)
        return
    events = [event for event in _OF_BRANCH if event in triggers and _covers(event, triggers[event], branch)]
    handed = _handed_out(words + json.dumps(flow.get("env"), default=str), flow, job)
    if events and handed:
        change = (
            f"Give job {name} the line `if: ${{{{ !startsWith(github.head_ref || github.ref_name, 'fleet/') }}}}`"
            + (", or exclude `fleet/**` from its branches" if events[0] == "push" else "")
            + "; or trust it: github.trusted_workflows."
        )
        yield Risk(path, f"{events[0]} runs job {name} with {handed}", change)


def _triggers(on: Any) -> dict[str, Any]:
    if isinstance(on, str):
        return {on: None}
    if isinstance(on, list):
        return {str(event): None for event in on}
    return {str(event): how for event, how in on.items()} if isinstance(on, dict) else {}


def _covers(event: str, how: Any, branch: str) -> bool:
    """Whether a push of ``branch`` (or a pull request from it) triggers. ``branches`` of pull_request is about base."""
    if event != "push" or not isinstance(how, dict):
        return True
    if "branches" in how:
        return _matches(how["branches"], branch)
    if "branches-ignore" in how:
        return not _matches(how["branches-ignore"], branch)
    return not ("tags" in how or "tags-ignore" in how)


def _matches(patterns: Any, branch: str) -> bool:
    listed = [patterns] if isinstance(patterns, str) else patterns if isinstance(patterns, list) else []
    answer = False
    for pattern in map(str, listed):
        if re.fullmatch(_regex(pattern.removeprefix("!")), branch):
            answer = not pattern.startswith("!")
    return answer


def _regex(pattern: str) -> str:
    """GitHub's filter patterns: ``*`` stays within a path segment, ``**`` does not."""
    parts = re.split(r"(\*\*|\*|\?|\+|\[[^\]]*\])", pattern)
    plain = {"**": ".*", "*": "[^/]*", "?": "?", "+": "+"}
    return "".join(plain.get(part, part if part.startswith("[") else re.escape(part)) for part in parts)


def _guarded(job: dict[Any, Any]) -> bool:
    """Whether its own condition leaves the fleet's branches out."""
    condition = str(job.get("if", "")).replace(" ", "")
    return "!startsWith(" in condition and "'fleet/'" in condition


def _handed_out(words: str, flow: dict[Any, Any], job: dict[Any, Any]) -> str:
    """What code in this job could take, in words; empty when nothing."""
    names = {one or two for one, two in _SECRET.findall(words)} - {"GITHUB_TOKEN"}
    if names:
        return ", ".join(f"secrets.{name}" for name in sorted(names)[:3])
    if job.get("secrets") == "inherit":
        return "every secret of the repository"
    runner = json.dumps(job.get("runs-on"), default=str)
    if "self-hosted" in runner:
        return "a machine of your own"
    rights = job.get("permissions", flow.get("permissions"))
    if rights == "write-all":
        return "a token that may write"
    if isinstance(rights, dict):
        granted = [name for name in _GRANTS if rights.get(name) == "write"]
        if granted:
            return f"a token with {granted[0]}: write"
    return ""
