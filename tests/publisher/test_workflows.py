"""Which workflows of a repository would run an agent's code with something to steal, and which would not."""

from __future__ import annotations

import pytest

from fleet.publisher import workflows
from fleet.publisher.workflows import is_workflow, risks, untrusted
from tests.support.mutants import Mutant

BRANCH = "fleet/7-mend-it"
CI = ".github/workflows/ci.yml"
STEPS = "jobs:\n  test:\n    runs-on: ubuntu-latest\n    steps:\n      - run: make\n"
SECRET = f'{STEPS}        env: {{KEY: "${{{{ secrets.KEY }}}}"}}\n'
OWN = STEPS.replace("ubuntu-latest", "[self-hosted, linux]")
REF = '{ref: "${{ github.event.pull_request.head.sha }}"}'
HEAD = f"{STEPS}      - uses: actions/checkout@v5\n        with: {REF}\n"
GUARD = "    if: ${{ !startsWith(github.head_ref || github.ref_name, 'fleet/') }}\n"


RISKY = {
    "a push that sees a secret": "on: push\n" + SECRET,
    "a pull request that sees a secret": "on: [pull_request]\n" + SECRET,
    "a secret of the whole workflow": "on: push\nenv:\n  KEY: ${{ secrets.KEY }}\n" + STEPS,
    "a secret by index": "on: push\n" + SECRET.replace("secrets.KEY", "secrets['KEY']"),
    "branches that match": "on:\n  push:\n    branches: ['**']\n" + SECRET,
    "a pattern that comes back": "on:\n  push:\n    branches: ['fleet/*', '!fleet/8*']\n" + SECRET,
    "a machine of their own": "on: push\n" + OWN,
    "a token that writes": "on: push\npermissions: write-all\n" + STEPS,
    "a token that publishes": "on: push\n"
    + STEPS.replace("    steps", "    permissions: {packages: write}\n    steps"),
    "secrets handed on": "on: push\njobs:\n  call:\n    uses: ./.github/workflows/x.yml\n    secrets: inherit\n",
    "the privileged trigger with the pull request's code": "on: pull_request_target\n" + HEAD,
    "a later run with the pull request's code": "on: {workflow_run: {}}\n"
    + HEAD.replace("pull_request", "workflow_run"),
}
HARMLESS = {
    "nothing to steal": "on: [push, pull_request]\n" + STEPS,
    "the token of every run": "on: push\n" + SECRET.replace("secrets.KEY", "secrets.GITHUB_TOKEN"),
    "other branches": "on:\n  push:\n    branches: [main, 'release/**']\n" + SECRET,
    "our branches left out": "on:\n  push:\n    branches-ignore: ['fleet/**']\n" + SECRET,
    "taken out again": "on:\n  push:\n    branches: ['**', '!fleet/**']\n" + SECRET,
    "one segment only": "on:\n  push:\n    branches: ['*']\n" + SECRET,
    "tags": "on:\n  push:\n    tags: ['v*']\n" + SECRET,
    "by hand": "on: workflow_dispatch\n" + SECRET,
    "guarded": "on: push\n" + SECRET.replace("    runs-on", GUARD + "    runs-on"),
    "the privileged trigger without the pull request's code": "on: pull_request_target\n" + SECRET,
    "no YAML": "on: [push\n\t: {",
    "no mapping": "- on: push",
    "nothing": "",
}


@pytest.mark.invariant("I7")
@pytest.mark.parametrize("name", RISKY)
def test_a_workflow_that_would_hand_something_out_is_named_with_its_change(name: str) -> None:
    found = risks({CI: RISKY[name]}, BRANCH)
    assert len(found) == 1 and found[0].path == CI and found[0].why and found[0].change


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_workflow_holds_nobody_up(name: str) -> None:
    assert risks({CI: HARMLESS[name]}, BRANCH) == ()


def test_the_operator_trusts_a_repository_or_one_file() -> None:
    found = risks({CI: RISKY["a push that sees a secret"]}, BRANCH)
    assert untrusted(found, "octo/app", ()) == found
    assert untrusted(found, "octo/app", ("Octo/App",)) == ()
    assert untrusted(found, "octo/app", ("octo/app:ci.yml",)) == ()
    assert untrusted(found, "octo/app", ("octo/app:other.yml", "octo/application")) == found


def test_only_files_that_the_forge_would_run_are_looked_at() -> None:
    assert [is_workflow(path) for path in (CI, ".github/workflows/a.yaml")] == [True, True]
    assert not any(map(is_workflow, (".github/ci.yml", ".github/workflows/sub/ci.yml", ".github/workflows/notes.md")))


WHERE = "fleet.publisher.workflows:"
ADDED = 'words + json.dumps(flow.get("env"), default=str)'
MUTANTS = {
    "a machine of their own": Mutant(f"{WHERE}_handed_out", 'if "self-hosted" in runner:', "if False:"),
    "a token that writes": Mutant(f"{WHERE}_handed_out", 'if rights == "write-all":', "if False:"),
    "secrets handed on": Mutant(f"{WHERE}_handed_out", 'if job.get("secrets") == "inherit":', "if False:"),
    "branches that match": Mutant(f"{WHERE}_matches", 'answer = not pattern.startswith("!")', "answer = False"),
    "a secret of the whole workflow": Mutant(f"{WHERE}_of_job", ADDED, "words"),
    "a later run with the pull request's code": Mutant(
        f"{WHERE}_of_job", "if special and _HEAD.search(words):", "if False:"
    ),
}


@pytest.mark.invariant("I7")
@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_are_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name].install(monkeypatch)
    assert len(workflows.risks({CI: RISKY[name]}, BRANCH)) != 1
