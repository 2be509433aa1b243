"""True fixes of true bugs: upstream's own change between two releases, played by the rehearsal model as its edits.

Nothing of upstream's code is here: old and new text of every edit come out of the two source distributions when a test
runs. The issues say what upstream's say, in fewer words; ``issue`` is where to read them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from tests.realdata.projects import real_project, unpack

LONG_TESTS = '[gates.lint]\nkind = "lint"\ncommand = "ruff check ."\n\n[gates.tests]\nkind = "tests"\ncommand = "{}"\n'
_CONTEXT = 3


@dataclass(frozen=True)
class Edit:
    """One call of the tool ``edit``: ``old`` stands exactly once in the file at ``path``."""

    path: str
    old: str
    new: str


@dataclass(frozen=True)
class Fix:
    """``version`` has the bug, ``fixed`` is the release that mends it.

    ``hunks``: (path, words of the new side): the changed places of that file which belong to this fix; no words: all.
    ``tests``: what shows it, as pytest's arguments; ``reproduced``: the tests that must be red on base, green after.
    """

    key: str
    name: str
    version: str
    fixed: str
    issue: str
    title: str
    body: str
    hunks: tuple[tuple[str, str], ...]
    tests: str
    reproduced: tuple[str, ...]
    least_files: int = 1
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def paths(self) -> set[str]:
        return {path for path, _ in self.hunks}

    def repository(self, into: Path) -> Path:
        """The release with the bug, as a git repository. Raises IndexAway."""
        return real_project(self.name, self.version, into, self.extra)

    def edits(self) -> tuple[Edit, ...]:
        """Upstream's change, the tests first. Raises IndexAway."""
        with tempfile.TemporaryDirectory() as folder:
            before = unpack(self.name, self.version, Path(folder) / "before")
            after = unpack(self.name, self.fixed, Path(folder) / "after")
            found = [
                edit
                for path, words in self.hunks
                for edit in _edits(path, (before / path).read_text(), (after / path).read_text())
                if words in edit.new
            ]
        assert {edit.path for edit in found} == self.paths, "a release of upstream's has changed"
        return tuple(sorted(found, key=lambda edit: "test" not in edit.path))

    def script(self, into: Path) -> Path:
        """The fix as a script of the rehearsal model: look, write the tests, see them fail, mend, see them pass."""
        edits = self.edits()
        tests = [edit for edit in edits if "test" in edit.path]
        code = [edit for edit in edits if edit not in tests]
        look: list[tuple[str, dict[str, Any]]] = [("read", {"path": edit.path, "limit": 40}) for edit in code]
        turns = [
            ("I look at the code that the issue speaks of.", look),
            ("First tests that show the bug.", [_call(edit) for edit in tests]),
            ("They should fail now.", [("run_tests", {"arguments": self.tests})]),
            ("Now the fix.", [_call(edit) for edit in code]),
            ("They should pass now.", [("run_tests", {"arguments": self.tests})]),
            ("", [("finish", {"summary": self.title})]),
        ]
        into.write_text("\n".join(_toml(self.title, turns)))
        return into


def _call(edit: Edit) -> tuple[str, dict[str, Any]]:
    return "edit", {"path": edit.path, "old": edit.old, "new": edit.new}


def _edits(path: str, before: str, after: str) -> Iterator[Edit]:
    """The changed places of a file, each with as many lines around it as make its old side unique."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    for group in SequenceMatcher(None, old, new, autojunk=False).get_grouped_opcodes(_CONTEXT):
        first, last, start, end = group[0][1], group[-1][2], group[0][3], group[-1][4]
        while before.count("".join(old[first:last])) > 1:
            first, start = first - 1, start - 1
        yield Edit(path, "".join(old[first:last]), "".join(new[start:end]))


def _toml(title: str, turns: Sequence[tuple[str, Sequence[tuple[str, dict[str, Any]]]]]) -> Iterator[str]:
    """A JSON string is a TOML string, too."""
    yield f"title = {json.dumps(title)}"
    for text, calls in turns:
        yield f"\n[[turn]]\ntext = {json.dumps(text)}"
        for tool, given in calls:
            inner = ", ".join(f"{name} = {json.dumps(value)}" for name, value in given.items())
            yield f"[[turn.call]]\ntool = {json.dumps(tool)}\ninput = {{ {inner} }}"


FIXES = (
    Fix(
        key="wtforms",
        name="wtforms",
        version="3.1.1",
        fixed="3.1.2",
        issue="https://github.com/pallets-eco/wtforms/issues/822",
        title="SelectMultipleField should support choices specified as coercible values",
        body=(
            "A form with `SelectMultipleField(choices=[('1', 'One'), ('2', 'Two')], coerce=int)` gets the post data "
            "`['1', '2']` and does not validate: `'1', '2' are not valid choices for this field.`\n\n"
            "It should be valid: both the data and the choices are to be coerced before they are compared, as "
            "`SelectField` does.\n\nwtforms 3.1.1"
        ),
        hunks=(("src/wtforms/fields/choices.py", ""), ("tests/fields/test_selectmultiple.py", "")),
        tests="tests/fields/test_selectmultiple.py",
        reproduced=("tests/fields/test_selectmultiple.py::test_can_supply_coercable_values_as_options",),
    ),
    Fix(
        key="jinja2",
        name="jinja2",
        version="3.1.4",
        fixed="3.1.5",
        issue="https://github.com/pallets/jinja/pull/1870",
        title="don't apply `urlize` to `@a@b`",
        body=(
            "`@user@site` is how people of the fediverse are named, and it is no address: `urlize` makes "
            '`<a href="mailto:@eater@cijber.social">` of it, which no mail program can use. Such a word should stay '
            "as it is; `nabijaczleweli@nabijaczleweli.xyz` should still become a link."
        ),
        hunks=(("src/jinja2/utils.py", 'middle.startswith("@")'), ("tests/test_utils.py", "test_urlize_mail_mastodon")),
        tests="tests/test_utils.py",
        reproduced=("tests/test_utils.py::TestEscapeUrlizeTarget::test_urlize_mail_mastodon",),
    ),
    Fix(
        key="networkx",
        name="networkx",
        version="3.2",
        fixed="3.2.1",
        issue="https://github.com/networkx/networkx/pull/7057",
        title="Disallow negative number of nodes in `complete_multipartite_graph`",
        body=(
            "`nx.complete_multipartite_graph(2, -3, 4)` answers some graph. Nobody can mean that: a negative number "
            "of nodes should raise `NetworkXError`, as the other generators do.\n\n"
            "## Acceptance\n- [ ] `complete_multipartite_graph` with a negative number raises `NetworkXError`"
        ),
        hunks=(
            ("networkx/generators/classic.py", "Negative number of nodes not valid"),
            ("networkx/generators/tests/test_classic.py", "Negative number of nodes"),
        ),
        tests="networkx/generators/tests/test_classic.py",
        reproduced=(
            "networkx/generators/tests/test_classic.py::TestGeneratorClassic::test_complete_multipartite_graph",
        ),
        least_files=800,
        extra={".fleet.toml": LONG_TESTS.format("pytest -q networkx/generators")},
    ),
)


def fix(key: str) -> Fix:
    """The fix of this key."""
    (found,) = (one for one in FIXES if one.key == key)
    return found
