"""An issue of GitHub, by URL and by number: a real draft pull request there with a token, a copy without one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.hub import Hub, github
from tests.e2e.kit import ATTEMPT_ENDS, FILES, UNUSED, Fleet, fleet_home, repository
from tests.support.wait import eventually

REPO = "octo/small"
SECRETIVE = """
on: [push, pull_request]
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
      - run: make deploy
        env: {KEY: "${{ secrets.DEPLOY_KEY }}"}
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    root = tmp_path_factory.mktemp("hub")
    with github(root / "forge") as one:
        one.repository(REPO, repository(root / "small"))
        yield one


@pytest.fixture(scope="module")
def with_token(hub: Hub) -> Iterator[Fleet]:
    with fleet_home(None, **hub.env()) as fleet:
        yield fleet


@pytest.mark.invariant("I13")
def test_an_issue_s_url_becomes_a_draft_pull_request_there(hub: Hub, with_token: Fleet) -> None:
    issue = hub.issue(REPO, "Remove unused imports", "- [ ] `small/core.py` has no F401")
    done = with_token("run", issue.url, "--agent", UNUSED, "--json", timeout=ATTEMPT_ENDS)
    assert done.code == 0, done.err + done.out[-2000:]
    (pull,) = hub.pulls(REPO)
    assert (pull.draft, pull.open, pull.base, pull.author) == (True, True, "main", "fleet-robot")
    told = done.result["pull_request"]
    assert (told["url"], told["head_sha"]) == (pull.url, pull.head_sha)
    assert pull.branch == f"fleet/{issue.number}-remove-unused-imports"
    assert "import os" not in hub.get(f"/repos/{REPO}/contents/small/core.py?ref={pull.branch}")["content"]
    said = {row["context"]: row["state"] for row in hub.get(f"/repos/{REPO}/commits/{pull.head_sha}/statuses")}
    assert said["fleet/tests"] == "success" and said["fleet/lint"] == "success"
    # Two edits of a comment are ten seconds apart.
    assert eventually(lambda: any("in review" in body for body in hub.comments(REPO, issue.number)), 30.0, 0.2)
    verbs = hub.verbs("fleet-robot")
    assert "pull.create" in verbs and not verbs & {"pull.merge", "review.create", "hook.create", "ref.delete"}


def test_a_number_of_a_named_repository_is_the_same_ticket(hub: Hub, with_token: Fleet) -> None:
    issue = hub.issue(REPO, "Remove what is not used")
    words = ("run", "--repo", REPO, "--issue", str(issue.number), "--agent", UNUSED, "--json")
    first = with_token(*words, timeout=ATTEMPT_ENDS)
    again = with_token(*words, timeout=ATTEMPT_ENDS)
    assert first.code == again.code == 0, first.err + again.err
    assert first.result["ticket"] == again.result["ticket"]
    assert len([pull for pull in hub.pulls(REPO) if pull.branch.startswith(f"fleet/{issue.number}-")]) == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("run", "{base}/octo/small/issues/9999"), "found nothing"),
        (("run", "{base}/octo/gone/issues/1"), "found nothing"),
        (("run", "{base}/octo/small/pull/3"), "is a pull request"),
        (("run", "{base}/octo"), "is no repository"),
        (("run", "{base}/octo/small/issues/1", "--issue", "2"), "named twice"),
        (("run", "{base}/octo/small/issues/1", "--title", "t"), "its own title"),
        (("run", "--repo", "local/small", "--issue", "1"), "local forge"),
        (("run",), "No repository is named"),
        (("run", "/tmp", "--issue", "7"), "no issue 7"),
    ],
)
def test_a_wrong_name_is_told_in_one_sentence(hub: Hub, with_token: Fleet, words: tuple[str, ...], told: str) -> None:
    done = with_token(*(word.format(base=hub.base) for word in words), "--agent", UNUSED)
    assert done.code == 2 and told in done.sentence, (done.code, done.err)


def test_what_the_token_may_not_do_is_told_before_anything_is_spent(hub: Hub, tmp_path: Path) -> None:
    issue = hub.issue(REPO, "Nobody may")
    hub.repository("octo/readable", repository(tmp_path / "readable"), bot="read")
    other = hub.issue("octo/readable", "Only to read")
    with fleet_home(None, **hub.env("wrong")) as fleet:
        bad = fleet("run", issue.url, "--agent", UNUSED)
        assert bad.code == 4 and "does not accept the fleet's token" in bad.sentence, bad.err
        weak = fleet("run", other.url, "--agent", UNUSED, env={"GITHUB_TOKEN": hub.token})
        assert weak.code == 2 and "may not push to octo/readable" in weak.sentence, weak.err
        hub.close(REPO, issue.number)
        closed = fleet("run", issue.url, "--agent", UNUSED, env={"GITHUB_TOKEN": hub.token})
        assert closed.code == 2 and "is closed" in closed.sentence, closed.err
        assert not fleet.home.joinpath("repos.json").exists()


def test_without_a_token_the_work_stays_here_and_the_push_is_printed(hub: Hub) -> None:
    issue = hub.issue(REPO, "Remove unused imports here")
    before = len(hub.pulls(REPO))
    with fleet_home(None, **hub.env("")) as fleet:
        done = fleet("run", issue.url, "--agent", UNUSED, timeout=ATTEMPT_ENDS)
        assert done.code == 0, done.err
        assert len(hub.pulls(REPO)) == before
        (line,) = [line for line in done.out.splitlines() if line.startswith("bring it home")]
        push = line.removeprefix("bring it home").strip()
        # As the person would run it, who has their own credentials.
        push = push.replace(hub.base, hub.base.replace("//", f"//ann:{hub.person}@"))
        subprocess.run(push, shell=True, check=True, capture_output=True, timeout=60)
        branches = {row["name"] for row in hub.get(f"/repos/{REPO}/branches")}
        # The local copy has numbers of its own.
        assert "fleet/1-remove-unused-imports-here" in branches
        assert f"{hub.base}/{REPO}/compare/main...fleet/1-remove-unused-imports-here?expand=1" in done.out


@pytest.mark.invariant("I13")
def test_workflows_that_see_secrets_hold_the_first_push_back(hub: Hub, with_token: Fleet, tmp_path: Path) -> None:
    files = {**FILES, ".github/workflows/ci.yml": SECRETIVE}
    hub.repository("octo/secretive", repository(tmp_path / "secretive", files))
    issue = hub.issue("octo/secretive", "Remove unused imports")
    done = with_token("run", issue.url, "--agent", UNUSED, "--json", timeout=ATTEMPT_ENDS)
    assert done.code == 4 and done.result["state"] == "parked", done.out[-1500:]
    assert "secrets.DEPLOY_KEY" in done.result["detail"] and "startsWith" in done.result["detail"], done.result
    assert [row["name"] for row in hub.get("/repos/octo/secretive/branches")] == ["main"]


def content(path: Path) -> bytes:
    """Nothing for what is gone meanwhile: the fleet is at work."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return path.read_bytes()
    return b""


def test_the_token_is_nowhere_but_in_its_file(hub: Hub, with_token: Fleet) -> None:
    for pid in with_token.processes():
        assert hub.token.encode() not in content(Path(f"/proc/{pid}/environ"))
    holders = [
        path
        for path in with_token.home.rglob("*")
        if path.is_file() and not path.is_symlink() and hub.token.encode() in content(path)
    ]
    assert [path.name for path in holders] == ["github.json"] and holders[0].stat().st_mode & 0o077 == 0
