"""Policy: every rule refuses what it is for, lets ordinary changes pass, and is missed when it is taken out."""

from __future__ import annotations

import os
import string
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_gates import policy as policy_module
from ci_gates.edits import ABSENT, Edit, Weight
from ci_gates.policy import PolicyResult, judge, matches
from fleet.core.gateconfig import PolicyConfig

FILE = "100644"


def edit(path: str, new: str | bytes | None, old: str | bytes | None = None, mode: str = FILE, was: str = FILE) -> Edit:
    """``old`` None: the file is added; ``new`` None: it is deleted."""
    before = old.encode("utf-8", "surrogateescape") if isinstance(old, str) else old
    after = new.encode("utf-8", "surrogateescape") if isinstance(new, str) else new
    old_mode, new_mode = (ABSENT if before is None else was), (ABSENT if after is None else mode)
    return Edit(path, old_mode, new_mode, before, after, len(after or b""))


def judged(*edits: Edit, config: PolicyConfig | None = None, files: Iterable[str] = ()) -> PolicyResult:
    return judge(edits, tuple(files), config or PolicyConfig())


def codes(result: PolicyResult, weight: Weight) -> list[str]:
    return [one.code for one in result.breaches if one.weight is weight]


KEY = "gh" + "p_" + "Ab1" * 12  # put together here, so that it stands nowhere
AWS = "AKIA" + "QWERTYUIOPASDF23"
TEST = "def test_a():\n    assert f(1) == 2\n    assert f(2) == 3\n"


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (edit("../x", "x"), "path"),
        (edit(".git/hooks/pre-commit", "x"), "path"),
        (edit("a/.GIT/config", "x"), "path"),
        (edit("a/git~1/config", "x"), "path"),
        (edit("a\nb.txt", "x"), "hidden-character"),
        (edit("a\u202egnp.exe", "x"), "hidden-character"),
        (edit("README.MD", "x"), "case"),
        (edit("link", "/etc/passwd", mode="120000"), "symlink"),
        (edit("a/link", "../../x", mode="120000"), "symlink"),
        (edit("link", ".git/config", mode="120000"), "symlink"),
        (edit("data.txt", "x", mode="100755"), "executable"),
        (edit("data.txt", "x", "x", mode="100755"), "executable"),
        (edit("a.py", f'token = "{KEY}"\n'), "secret"),
        (edit("a.txt", f"id {AWS}\n"), "secret"),
        (edit("a.pem", "-----BEGIN RSA " + "PRIVATE KEY-----\n"), "secret"),
        (edit("a.py", 'API_KEY = "' + "q7Zp0Rk3Vw9Ty2Lm5Nx8Bc1Hd4" + '"\n'), "secret"),
        (edit("a.py", "url = 'https://bob:" + "hunter2hunter2" + "@db.internal/x'\n"), "secret"),
        (edit("a.py", "x = 1  # \u202e gnihton\n"), "hidden-character"),
        (edit("a.py", "x\u200b = 1\n"), "hidden-character"),
        (edit("a.py", "x = '\U000e0041'\n"), "hidden-character"),
        (edit("a.txt", "\x1b[31mred\n"), "hidden-character"),
        (edit("a.py", "p\u0430ssword = 1\n"), "lookalike"),
    ],
)
def test_what_is_refused(bad: Edit, code: str) -> None:
    result = judged(bad, files=["README.md"])
    assert code in codes(result, Weight.REFUSE) and not result.passed


@pytest.mark.invariant("I12")
@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (edit("docs/legal/terms.md", "x", "y"), "protected"),
        (edit("vendor", "1" * 40, mode="160000"), "submodule"),
        (edit("a.bin", b"\0\1"), "binary"),
        (edit("a.bin", b"\0\2", b"\0\1"), "binary"),
        (Edit("big", ABSENT, FILE, None, None, 9_000_000), "unread"),
        (edit(".github/workflows/ci.yml", "x"), "workflow"),
        (edit(".gitlab-ci.yml", "x"), "workflow"),
        (edit("CODEOWNERS", "* @me\n"), "workflow"),
        (edit(".fleet.toml", "version = 1\n"), "gate-input"),
        (edit("a/conftest.py", "x = 1\n"), "gate-input"),
        (edit("conftest.py", None, "x = 1\n"), "gate-input"),
        (edit("pyproject.toml", "[tool.ruff]\nselect=[]\n", "[tool.ruff]\n"), "gate-input"),
        (edit("pyproject.toml", "[project.entry-points.pytest11]\na='b'\n", ""), "gate-input"),
        (edit("pyproject.toml", "not toml [", "[tool.ruff]\n"), "gate-input"),
        (edit("setup.cfg", "[tool:pytest]\naddopts=-x\n", "[metadata]\nname=a\n"), "gate-input"),
        (edit("tox.ini", "[pytest]\n", "[tox]\n"), "gate-input"),
        (edit("Makefile", "all:\n", "x:\n"), "gate-input"),
        (edit("src/json.py", "x = 1\n"), "gate-input"),
        (edit("_pytest/__init__.py", ""), "gate-input"),
        (edit("a.egg-info/entry_points.txt", "[pytest11]\n"), "gate-input"),
        (edit("tests/test_a.py", None, TEST), "test-deleted"),
        (edit("tests/test_a.py", "x = 1\n", TEST), "test-deleted"),
        (edit("tests/test_a.py", "def test_a():\n    assert f(1) == 2\n", TEST), "test-weakened"),
        (edit("tests/test_a.py", TEST.replace("f(2) == 3", "True"), TEST), "test-weakened"),
        (edit("tests/test_a.py", TEST.replace("f(2) == 3", "(f(2) == 3, 'always')"), TEST), "test-weakened"),
        (edit("tests/test_a.py", "import pytest\n\n@pytest.mark.xfail\n" + TEST, TEST), "test-skipped"),
        (edit("tests/test_a.py", TEST + "    pytest.skip()\n", TEST), "test-skipped"),
        (edit("tests/test_a.py", "import unittest\n\n@unittest.skipIf(1, '')\n" + TEST, TEST), "test-skipped"),
        (edit("tests/test_a.py", "def test_a(:\n", TEST), "test-unreadable"),
        (
            edit(
                "tests/test_a.py",
                "@pytest.mark.parametrize('a', [1])\ndef test_a(a):\n    assert a\n",
                "@pytest.mark.parametrize('a', [1, 2])\ndef test_a(a):\n    assert a\n",
            ),
            "test-weakened",
        ),
    ],
)
def test_what_a_person_must_allow(bad: Edit, code: str) -> None:
    result = judged(bad, config=PolicyConfig(protected=("docs/legal/**",)))
    assert code in codes(result, Weight.ASK) and not result.passed
    assert not result.refused


@pytest.mark.parametrize(
    "good",
    [
        edit("src/a.py", "import os\n", "import os\nimport sys\n"),
        edit("bin/run", "#!/bin/sh\n", mode="100755"),
        edit("bin/run", "#!/bin/sh\necho\n", "#!/bin/sh\n", mode="100755", was="100755"),
        edit("link", "target.txt", mode="120000"),
        edit("a/link", "../b", mode="120000"),
        edit("notes.md", "Größe, naïve, Ω, μ, 日本語, смысл, 👩\u200d💻 ✔\ufe0f\n"),
        edit("fa.po", 'msgstr "می\u200cخواهم"\n'),
        edit("data.csv", "\ufeffa;b\r\n"),
        edit(os.fsdecode(b"caf\xe9.txt"), b"caf\xe9\n"),
        edit("a.py", 'token = "your-token-here-please-change"\n'),
        edit("a.py", 'password = get_password(prompt="the database password")\n'),
        edit("a.py", f"old = 1\nsecret = '{KEY}'\n", f"secret = '{KEY}'\n"),  # base had it: not this change's doing
        edit("a.py", f"x = '{KEY}'\n", f"x = u'{KEY}'\n"),  # an edited line keeps its past
        edit("a.py", "x = '\u200b'\n", "x = u'\u200b'\n"),
        edit("conftest.py", "# why\nx = 1\n", "x = 1\n"),  # comments steer nothing
        edit("pyproject.toml", "[project]\nversion='2'\n[tool.ruff]\n", "[project]\nversion='1'\n[tool.ruff]\n"),
        edit("setup.cfg", "[metadata]\nversion=2\n", "[metadata]\nversion=1\n"),
        edit("pkg/json.py", "x = 1\n"),
        edit("tests/test_b.py", TEST),
        edit("tests/test_a.py", TEST.replace("f(1)", "g(1)") + "\n\ndef test_b():\n    assert 1 < f(1)\n", TEST),
        edit("tests/test_a.py", "import sys\n" + TEST + "    sys.exit\n", TEST),
        edit("src/run.py", "import sys\n\nsys.exit(0)\n"),
    ],
)
def test_ordinary_changes_pass(good: Edit) -> None:
    result = judged(good, files=["README.md"])
    assert result.passed, result.breaches


def test_a_test_that_moved_is_not_deleted() -> None:
    moved = [edit("tests/test_a.py", None, TEST), edit("tests/test_b.py", TEST)]
    assert judged(*moved).passed
    weaker = [moved[0], edit("tests/test_b.py", TEST.replace("    assert f(2) == 3\n", ""))]
    assert codes(judged(*weaker), Weight.ASK) == ["test-weakened"]


def test_sizes() -> None:
    many = [edit(f"a{number}.txt", "x" * 10) for number in range(5)]
    assert judged(*many, config=PolicyConfig(max_files=5, max_bytes=50)).passed
    assert codes(judged(*many, config=PolicyConfig(max_files=4)), Weight.ASK) == ["too-many-files"]
    assert codes(judged(*many, config=PolicyConfig(max_bytes=49)), Weight.ASK) == ["too-many-bytes"]


@pytest.mark.parametrize(
    ("path", "old", "new", "name"),
    [
        ("requirements.txt", "a\n", "a\nRequests_x>=2\n", "requests-x"),
        ("requirements/test.txt", "", "git+https://x/y\n", "git+https://x/y"),
        ("pyproject.toml", "", "[project]\ndependencies=['left-pad']\n", "left-pad"),
        ("pyproject.toml", "", "[dependency-groups]\ndev=['left-pad']\n", "left-pad"),
        ("pyproject.toml", "", "[tool.poetry.group.dev.dependencies]\nleft-pad='*'\n", "left-pad"),
        ("setup.cfg", "", "[options]\ninstall_requires =\n  left-pad\n", "left-pad"),
        ("package.json", "{}", '{"dependencies": {"left-pad": "1"}}', "left-pad"),
    ],
)
def test_new_dependencies_are_told(path: str, old: str, new: str, name: str) -> None:
    result = judged(edit(path, new, old))
    assert result.passed and codes(result, Weight.TELL) == ["dependency"] and name in result.breaches[0].message


@pytest.mark.parametrize(
    ("path", "glob", "wanted"),
    [
        ("docs/a.md", "docs/**", True),
        ("docs/a/b.md", "docs/**", True),
        ("docs/a/b.md", "docs/*", False),
        ("a/b/secret.key", "*.key", True),
        ("a/LICENSE", "LICENSE", True),
        ("a/LICENSE", "/LICENSE", False),
        ("src/x/y.py", "src/**/y.py", True),
        ("src/y.py", "src/**/y.py", True),
        ("docs.md", "docs/", False),
        ("docs/x", "docs/", True),
        ("a.b", "a?b", True),
        ("a+b", "a+b", True),
    ],
)
def test_globs(path: str, glob: str, wanted: bool) -> None:
    assert matches(path, glob) is wanted


@given(st.lists(st.binary(max_size=120), max_size=4), st.lists(st.text(string.printable, max_size=20), max_size=4))
def test_any_content_is_survived_and_more_edits_never_pass_more(contents: list[bytes], paths: list[str]) -> None:
    edits = [edit(path or "x", data) for path, data in zip(paths, contents, strict=False)]
    every = judged(*edits)
    for one in edits:
        if not judged(one).passed:
            assert not every.passed


@pytest.mark.parametrize(
    ("rule", "bad"),
    [
        ("content_breaches", edit("a.py", f'token = "{KEY}"\n')),
        ("input_breaches", edit("conftest.py", "x = 1\n")),
        ("test_breaches", edit("tests/test_a.py", None, TEST)),
        ("_mode", edit("link", "/etc/passwd", mode="120000")),
        ("_path", edit(".git/config", "x")),
    ],
)
def test_mutants_let_it_pass(monkeypatch: pytest.MonkeyPatch, rule: str, bad: Edit) -> None:
    assert not judged(bad).passed
    monkeypatch.setattr(policy_module, rule, lambda *args: [])
    assert judged(bad).passed
