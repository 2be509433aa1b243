"""Pages for people: who may see them, what hostile text does to them, what their forms do."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from fleet.forge import app as app_module
from fleet.forge.web import session, site
from fleet.forge.web.diffview import PAGE_LINES, lines_of, views
from fleet.forge.web.markdown import render
from fleet.forge.web.visible import marked, plain
from tests.forge.conftest import NAME, Forge, git

Branch = Callable[..., str]
PAGES = ("pages:write", "issues:write", "pull_requests:write", "contents:write")
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7919*7 }} {% raw %} ${7919*7}",
    "[x](javascript:alert(1)) [y](data:text/html,x) [z](/ann/demo/pull/1?token=x)",
    "![p](http://example.com/track.png)",
    "\x1b[31mred\x1b[0m\x07 \x00 \u202eevil\u202c \u200b\U000e0041",
    "<!-- top-secret-marker --> <a href='//x' onclick=alert(1)>a</a> <svg/onload=alert(1)>",
    "'" * 50 + "&amp;&lt;",
)

# None of it stands on a page as it is; the number is what a template would make of the third line.
RAW = ("<script", "<img", "<svg/", 'javascript:alert(1)"', "\x1b", "\x07", "\u202e", "\u200b", "55433")


class Browser:
    """A reader with a cookie jar, as a browser would send things."""

    def __init__(self, forge: Forge, login: str = "ann", scopes: tuple[str, ...] = PAGES) -> None:
        self.base = forge.base
        self.session = requests.Session()
        self.token = forge.token(login, scopes)
        self.entered = self.session.get(f"{self.base}/?token={self.token}", allow_redirects=False, timeout=30)

    def get(self, path: str, **headers: str) -> requests.Response:
        return self.session.get(f"{self.base}{path}", headers=headers, timeout=30)

    def csrf(self, path: str) -> str:
        found = re.search(r'name="csrf" value="([0-9a-f]+)"', self.get(path).text)
        assert found is not None
        return found[1]

    def post(self, path: str, form: dict[str, str], origin: str | None = "same", csrf: str | None = None) -> int:
        data = {"csrf": self.csrf(path) if csrf is None else csrf, **form}
        headers = {} if origin is None else {"Origin": self.base if origin == "same" else origin}
        answer = self.session.post(f"{self.base}{path}", data=data, headers=headers, allow_redirects=False, timeout=30)
        return answer.status_code


def test_the_link_opens_and_leaves_no_token(forge: Forge) -> None:
    without = requests.get(f"{forge.base}/{NAME}", timeout=30)
    assert without.status_code == 401 and "fleet open" in without.text
    assert requests.get(f"{forge.base}/?token=wrong", timeout=30).status_code == 401
    assert requests.get(f"{forge.base}/?token={forge.token(scopes=('issues:write',))}", timeout=30).status_code == 401
    ann = Browser(forge)
    assert ann.entered.status_code == 303 and ann.entered.headers["Location"] == "/"
    cookie = ann.entered.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and ann.token not in cookie
    page = ann.get(f"/{NAME}")
    assert page.status_code == 200 and ann.token not in page.text
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src" not in policy and "frame-ancestors 'none'" in policy
    away = ann.session.get(f"{forge.base}//example.com?token={ann.token}", allow_redirects=False, timeout=30)
    assert not away.headers.get("Location", "/").startswith("//")
    assert forge.store.revoke_token(ann.token)
    assert ann.get("/").status_code == 401, "a revoked token ends its sessions"


@pytest.mark.invariant("I21")
def test_forged_host_and_origin(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    forge.repo().create_issue("One")
    ann = Browser(forge)
    here = f"/{NAME}/issues/1"
    token = {"Authorization": f"token {forge.token()}"}
    for host in ("evil.example", "127.0.0.1", "evil.example:80", ""):
        assert requests.get(f"{forge.base}/", headers={"Host": host}, timeout=30).status_code in (400, 403)
        api = requests.get(f"{forge.base}/api/v3/user", headers={"Host": host, **token}, timeout=30)
        assert api.status_code in (400, 403)
    assert ann.get("/", Origin="http://evil.example").status_code == 403
    assert ann.get("/", Origin="null").status_code == 403
    for origin in ("http://evil.example", "null", None):
        assert ann.post(here, {"action": "comment", "body": "x"}, origin=origin) == 403
    assert ann.post(here, {"action": "comment", "body": "x"}, csrf="0" * 64) == 403
    assert ann.post(here, {"action": "comment", "body": "x"}, csrf=Browser(forge).csrf(here)) == 403
    assert forge.repo().get_issue(1).comments == 0
    # The mutant: with both checks off, the forged form goes through, so the asserts above would notice.
    monkeypatch.setattr(app_module._Guard, "refusal", lambda *_: "")
    monkeypatch.setattr(session.Sessions, "check_form", lambda *_: None)
    assert ann.post(here, {"action": "comment", "body": "x"}, origin="http://evil.example", csrf="") == 303
    assert forge.repo().get_issue(1).comments == 1


@pytest.mark.invariant("I21")
def test_hostile_text_on_every_page(forge: Forge, work: Path, branch: Branch, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = "\n\n".join(HOSTILE)
    name = "evil<script>alert(1)<\u202e.py"
    sha = branch("feature", {name: evil, "new.txt": evil}, message=evil.replace("\x00", ""))
    repo = forge.repo()
    repo.create_label("<script>alert(1)", "ff0000")
    issue = repo.create_issue(f"<script>alert(1)</script> {HOSTILE[5]}"[:200], evil, labels=["<script>alert(1)"])
    issue.create_comment(evil)
    pull = repo.create_pull(base="main", head="feature", title=issue.title, body=evil)
    output: Any = {"title": evil, "summary": evil, "text": evil}
    repo.create_check_run(evil, sha, status="completed", conclusion="success", output=output)
    paths = ["", "/issues", "/pulls", "/issues/1", f"/commit/{sha}"]
    paths += [f"/pull/{pull.number}{tab}" for tab in ("", "/commits", "/checks", "/files")]
    ann = Browser(forge)

    def faults() -> list[str]:
        found = []
        for path in paths:
            page = ann.get(f"/{NAME}{path}")
            assert page.status_code == 200, path
            for bad in RAW:
                if bad in page.text:
                    found.append(f"{path}: {bad!r}")
            if re.search(r"<[^>]*\son\w+=", page.text) or re.search(r'href="(?:javascript|data):', page.text):
                found.append(f"{path}: an active attribute")
        return found

    assert faults() == []
    assert "top-secret-marker" not in ann.get(f"/{NAME}/issues/1").text
    assert "U+202E" in ann.get(f"/{NAME}/pull/{pull.number}/files").text
    # The mutant: Markdown that lets HTML through is noticed on exactly these pages.
    site_env = site.environment
    monkeypatch.setattr(
        "fleet.forge.web.markdown._Renderer.html_block", lambda _, tokens, idx, *__: tokens[idx].content
    )
    assert site_env is site.environment and faults() != []


def test_forms_do_what_they_say(forge: Forge, work: Path, branch: Branch) -> None:
    branch("feature")
    ann = Browser(forge)
    new = f"/{NAME}/issues/new"
    assert ann.post(new, {"action": "new", "title": "One", "body": "Text\r\n- [ ] done"}) == 303
    pull = forge.repo().create_pull(base="main", head="feature", title="Two", body="Closes #1", draft=True)
    here, there = f"/{NAME}/pull/{pull.number}", f"/{NAME}/issues/1"
    assert ann.post(there, {"action": "label", "label": "fleet"}) == 303
    assert ann.post(there, {"action": "comment", "body": "Hello"}) == 303
    assert ann.post(here, {"action": "merge", "sha": pull.head.sha}) == 405
    assert ann.post(here, {"action": "ready"}) == 303
    assert ann.post(here, {"action": "merge", "sha": "0" * 40}) == 409
    assert ann.post(here, {"action": "merge"}) == 409, "a form without the head it showed"
    assert ann.post(here, {"action": "close", "body": "No"}) == 303
    assert ann.post(here, {"action": "reopen"}) == 303
    assert ann.post(here, {"action": "nonsense"}) == 400
    assert ann.post(here, {"action": "merge", "sha": pull.head.sha}) == 303
    assert forge.repo().get_pull(pull.number).merged and forge.repo().get_issue(1).state == "closed"
    assert [one.verb for one in forge.seen if one.verb == "page.merge"] == ["page.merge"]
    assert "Merged" in ann.get(here).text and ann.get(f"/{NAME}/issues/{pull.number}").url.endswith(here)


def test_readers_read_and_strangers_see_nothing(forge: Forge, work: Path) -> None:
    forge.store.set_permission(NAME, "reader", "read")
    forge.repo().create_issue("One")
    reader, stranger = Browser(forge, "reader"), Browser(forge, "stranger")
    here = f"/{NAME}/issues/1"
    for action in ("close", "label", "unlabel"):
        assert reader.post(here, {"action": action, "label": "x"}) == 403
    assert reader.post(here, {"action": "comment", "body": "Hi"}) == 303
    assert stranger.get(here).status_code == 404 and NAME not in stranger.get("/").text
    only_look = Browser(forge, scopes=("pages:read",))
    assert only_look.post(here, {"action": "comment", "body": "Hi"}) == 403


def test_large_binary_and_odd_files(forge: Forge, work: Path, branch: Branch) -> None:
    (work / "data.bin").write_bytes(bytes(range(256)) * 10)
    branch(
        "feature",
        {"long.txt": "x\n" * 5000, "wide.txt": "y" * 300_000, "huge.txt": "z\n" * 800_000, "sp ace\t.txt": "s\n"},
    )
    pull = forge.repo().create_pull(base="main", head="feature", title="Big")
    page = Browser(forge).get(f"/{NAME}/pull/{pull.number}/files")
    for words in ("2001 more lines are not shown", "Binary file", "Too large", "more characters", "sp ace"):
        assert words in page.text, words
    assert len(page.text) < 3_000_000
    assert {one.filename for one in pull.get_files()} == {
        "data.bin",
        "huge.txt",
        "long.txt",
        "wide.txt",
        "sp ace\t.txt",
    }


def test_diff_of_kinds(forge: Forge, work: Path) -> None:
    (work / "kept.txt").write_text("".join(f"{n}\n" for n in range(20)))
    (work / "gone.txt").write_text("bye\n")
    (work / "kind").write_text("file\n")
    git(work, "add", ".")
    git(work, "commit", "-qm", "Before")
    git(work, "push", "-q", "origin", "main")
    git(work, "checkout", "-qb", "feature")
    git(work, "mv", "kept.txt", "moved.txt")
    (work / "moved.txt").write_text("".join(f"{n}\n" for n in range(19)) + "new, without a line end")
    (work / "gone.txt").unlink()
    (work / "kind").unlink()
    (work / "kind").symlink_to("moved.txt")
    (work / "README.md").chmod(0o755)
    git(work, "add", "-A")
    git(work, "commit", "-qm", "After")
    git(work, "push", "-q", "origin", "feature")
    pull = forge.repo().create_pull(base="main", head="feature", title="Kinds")
    files = {one.filename: one for one in pull.get_files()}
    assert {name: one.status for name, one in files.items()} == {
        "README.md": "modified", "gone.txt": "removed", "kind": "changed", "moved.txt": "renamed"
    }  # fmt: skip
    assert files["moved.txt"].previous_filename == "kept.txt" and "No newline at end" in files["moved.txt"].patch
    page = Browser(forge).get(f"/{NAME}/pull/{pull.number}/files").text
    assert "mode 100644 → 100755" in page and "symbolic link" in page and "kept.txt → moved.txt" in page


def test_numbers_of_lines() -> None:
    got = [
        (one.kind, one.old, one.new, one.text)
        for one in lines_of("@@ -3,2 +3,2 @@ def f\n a\n-b\n+c\n\\ No newline at end")
    ]
    assert got == [
        ("hunk", None, None, "@@ -3,2 +3,2 @@ def f"), ("same", 3, 3, "a"), ("del", 4, None, "b"),
        ("add", None, 4, "c"), ("note", None, None, "No newline at end"),
    ]  # fmt: skip
    assert views([]) == [] and PAGE_LINES > 0


def test_markdown_and_visible() -> None:
    table = "|a|b|\n|-|-|\n|1|`<c>`|"
    code = "```py\n<!-- kept in code -->\n```"
    html = str(render(f"# T\n\n- [ ] a\n- [x] b\n\n{table}\n\n{code}\n<!-- marker -->\nend"))
    assert "☐ a" in html and "☑ b" in html and "<table>" in html and "&lt;!-- kept in code --&gt;" in html
    assert "marker" not in html and "end" in html
    assert str(render("<!-- never closed <b>x</b>")) == ""
    assert str(render(None)) == "" and "x" in str(render(">" * 15 + "x"))
    assert plain("a\x1b[0m\r\nb") == "a⟦ESC⟧[0m\nb"
    assert str(marked("<\u202e>")) == '&lt;<span class="odd">U+202E</span>&gt;'
