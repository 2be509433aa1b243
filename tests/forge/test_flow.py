"""The whole way of a ticket through the forge, with the real client and real git."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from github.GithubException import GithubException

from tests.forge.conftest import NAME, Forge, git

Branch = Callable[..., str]


def test_issue_labels_comments_timeline(forge: Forge, work: Path) -> None:
    repo = forge.repo()
    label = repo.create_label("fleet", "00ff00", "for the fleet")
    issue = repo.create_issue("Broken", "Body ☃", labels=["bug"])
    assert issue.number == 1 and [one.name for one in issue.labels] == ["bug"]
    issue.add_to_labels(label)
    issue.add_to_labels("fleet")  # twice is once
    issue.remove_from_labels("bug")
    comment = issue.create_comment("first")
    comment.edit("second")
    issue.edit(title="Still broken", body="New")
    issue.edit(state="closed", state_reason="not_planned")
    again = repo.get_issue(1)
    assert (again.title, again.body, again.state, again.state_reason) == (
        "Still broken",
        "New",
        "closed",
        "not_planned",
    )
    assert [one.body for one in again.get_comments()] == ["second"]
    events = [(one.event, one.actor.login) for one in again.get_events()]
    assert [name for name, _ in events] == ["labeled", "labeled", "unlabeled", "renamed", "closed"]
    assert {login for _, login in events} == {"ann"}
    assert "commented" in [one.event for one in again.get_timeline()]
    assert [one.label.name for one in again.get_events() if one.event == "labeled"] == ["bug", "fleet"]
    assert [one.number for one in repo.get_issues(state="all", labels=["fleet"])] == [1]
    assert list(repo.get_issues(state="open")) == []


def test_pull_request_from_push_to_merge(forge: Forge, work: Path, branch: Branch) -> None:
    repo = forge.repo()
    issue = repo.create_issue("Do it")
    sha = branch("feature", {"a.py": "print(1)\n", "README.md": "# Demo 2\n"})
    pull = repo.create_pull(base="main", head="feature", title="Done", body=f"Closes #{issue.number}", draft=True)
    assert (pull.number, pull.draft, pull.head.sha, pull.mergeable) == (2, True, sha, True)
    assert (pull.additions, pull.deletions, pull.changed_files, pull.commits) == (2, 1, 2, 1)
    files = {one.filename: one for one in pull.get_files()}
    assert files["a.py"].status == "added" and files["a.py"].patch == "@@ -0,0 +1 @@\n+print(1)"
    assert [one.sha for one in pull.get_commits()] == [sha]
    assert [one.number for one in repo.get_pulls(head="ann:feature", state="open")] == [2]
    assert list(repo.get_pulls(head="bob:feature")) == [] and list(repo.get_pulls(base="other")) == []

    run = repo.create_check_run("tests", sha, status="in_progress", output={"title": "t", "summary": "s"})
    run.edit(status="completed", conclusion="success")
    commit = repo.get_commit(sha)
    assert [(one.name, one.conclusion) for one in commit.get_check_runs()] == [("tests", "success")]
    commit.create_status("pending", context="gate")
    assert commit.get_combined_status().state == "pending"
    commit.create_status("success", context="gate", description="fine")
    assert commit.get_combined_status().state == "success"

    with pytest.raises(GithubException) as refused:
        pull.merge()
    assert refused.value.status == 405
    pull.mark_ready_for_review()
    pull.update()
    assert pull.draft is False
    pull.convert_to_draft()
    pull.mark_ready_for_review()
    with pytest.raises(GithubException) as moved:
        pull.merge(sha="0" * 40)
    assert moved.value.status == 409
    assert pull.merge(sha=sha).merged
    pull = repo.get_pull(2)
    assert pull.merged and pull.state == "closed" and pull.merged_by.login == "ann"
    assert repo.get_issue(1).state == "closed"
    merge = repo.get_commit(pull.merge_commit_sha)
    assert [one.sha for one in merge.parents][1] == sha and repo.get_branch("main").commit.sha == merge.sha
    git(work, "pull", "-q", "origin", "main")
    assert (work / "a.py").read_text() == "print(1)\n"


def test_head_follows_pushes_and_force_with_lease(forge: Forge, work: Path, branch: Branch) -> None:
    first = branch("feature")
    repo = forge.repo()
    pull = repo.create_pull(base="main", head="feature", title="One")
    second = branch("feature", {"b.txt": "b\n"})
    assert repo.get_pull(pull.number).head.sha == second
    git(work, "checkout", "-q", "feature")
    git(work, "commit", "-q", "--amend", "-m", "Again")
    refused = git(work, "push", f"--force-with-lease=feature:{first}", "origin", "feature", check=False)
    assert "stale info" in refused
    git(work, "push", "-q", f"--force-with-lease=feature:{second}", "origin", "feature")
    amended = git(work, "rev-parse", "HEAD").strip()
    assert repo.get_pull(pull.number).head.sha == amended
    assert "head_ref_force_pushed" in [one.event for one in repo.get_issue(pull.number).get_events()]
    git(work, "push", "-q", "origin", ":feature")
    assert repo.get_pull(pull.number).state == "closed"
    assert git(work, "fetch", "-q", "origin", f"pull/{pull.number}/head") == ""


def test_merged_by_a_push_and_squash(forge: Forge, work: Path, branch: Branch) -> None:
    repo = forge.repo()
    branch("one")
    branch("two", message="Two\n\nFixes #1")
    issue = repo.create_issue("Closed by a commit")
    pulls = [repo.create_pull(base="main", head=name, title=name) for name in ("one", "two")]
    git(work, "merge", "-q", "one")
    git(work, "push", "-q", "origin", "main")
    assert repo.get_pull(pulls[0].number).merged
    done = pulls[1].merge(merge_method="squash", commit_title="Squashed")
    assert len(repo.get_commit(done.sha).parents) == 1
    assert repo.get_pull(pulls[1].number).merged and issue.number == 1


def test_compare_refs_contents(forge: Forge, work: Path, branch: Branch) -> None:
    repo = forge.repo()
    main = repo.get_branch("main").commit.sha
    sha = branch("feature/x", {"dir/file.txt": "hello\n"})
    compared = repo.compare("main", "feature/x")
    assert (compared.status, compared.ahead_by, compared.behind_by) == ("ahead", 1, 0)
    assert [one.filename for one in compared.files] == ["dir/file.txt"]
    assert compared.merge_base_commit.sha == main
    ref = repo.create_git_ref("refs/heads/other", main)
    ref.edit(sha)
    assert repo.get_git_ref("heads/other").object.sha == sha
    with pytest.raises(GithubException) as back:
        ref.edit(main)
    assert back.value.status == 422
    ref.edit(main, force=True)
    ref.delete()
    assert sorted(one.name for one in repo.get_branches()) == ["feature/x", "main"]
    content = repo.get_contents("dir/file.txt", ref="feature/x")
    assert not isinstance(content, list) and content.decoded_content == b"hello\n"
    assert repo.get_collaborator_permission("ann") == "admin"
    assert repo.get_git_commit(sha).parents[0].sha == main
    assert [one.sha for one in repo.get_commits(sha="feature/x")] == [sha, main]


def test_paging_and_conditional_requests(forge: Forge, work: Path) -> None:
    repo = forge.repo()
    for number in range(35):
        repo.create_issue(f"Issue {number}")
    assert len(list(repo.get_issues())) == 35
    issue = repo.get_issue(1)
    assert issue.update() is False
    issue.create_comment("new")
    assert issue.update() is True and issue.comments == 1
    assert repo.full_name == NAME


def test_reviews(forge: Forge, work: Path, branch: Branch) -> None:
    branch("feature")
    forge.store.set_permission(NAME, "bob", "write")
    pull = forge.repo().create_pull(base="main", head="feature", title="One")
    with pytest.raises(GithubException) as own:
        pull.create_review(body="fine", event="APPROVE")
    assert own.value.status == 422
    pull.create_review_request(reviewers=["bob"])
    assert [one.login for one in pull.get_review_requests()[0]] == ["bob"]
    review = forge.repo(forge.token("bob")).get_pull(pull.number).create_review(body="fine", event="APPROVE")
    assert review.state == "APPROVED" and [one.user.login for one in pull.get_reviews()] == ["bob"]
