"""Policy: what a change may touch at all. Runs before anything of the change is executed. Pure."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from ci_gates.edits import EXECUTABLE, SUBMODULE, SYMLINK, Breach, Edit, Weight, text
from ci_gates.policy_content import content_breaches, hidden_character
from ci_gates.policy_inputs import dependency_notes, input_breaches
from ci_gates.policy_tests import test_breaches
from fleet.core.gateconfig import PolicyConfig

_SCRIPT = b"#!"
_GIT_NAMES = re.compile(r"\.git|git~\d+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PolicyResult:
    """Everything policy said, worst first."""

    breaches: tuple[Breach, ...]

    @property
    def refused(self) -> tuple[Breach, ...]:
        return tuple(breach for breach in self.breaches if breach.weight is Weight.REFUSE)

    @property
    def asks(self) -> tuple[Breach, ...]:
        return tuple(breach for breach in self.breaches if breach.weight is Weight.ASK)

    @property
    def passed(self) -> bool:
        return not self.refused and not self.asks

    def allowed(self) -> PolicyResult:
        """What a person may allow is allowed, and still told; what is refused stays so."""
        told = (replace(one, weight=Weight.TELL) if one.weight is Weight.ASK else one for one in self.breaches)
        return PolicyResult(tuple(told))


def judge(edits: Sequence[Edit], base_files: Collection[str], config: PolicyConfig) -> PolicyResult:
    """``base_files``: every path of base. What is not looked at is not allowed: oversized content is a breach."""
    known = {path.casefold(): path for path in base_files}
    deleted = {edit.path for edit in edits if edit.deleted}
    found = [
        *_sizes(edits, config),
        *(breach for edit in edits for breach in _path(edit, known, deleted, config)),
        *(breach for edit in edits for breach in _mode(edit)),
        *(breach for edit in edits for breach in content_breaches(edit)),
        *input_breaches(edits),
        *test_breaches(edits),
        *dependency_notes(edits),
    ]
    order = list(Weight)
    return PolicyResult(tuple(sorted(dict.fromkeys(found), key=lambda breach: order.index(breach.weight))))


def _sizes(edits: Sequence[Edit], config: PolicyConfig) -> Iterator[Breach]:
    if len(edits) > config.max_files:
        message = f"{len(edits)} files are changed; the policy allows {config.max_files}"
        yield Breach(Weight.ASK, "too-many-files", "", 0, message)
    grown = sum(max(0, edit.new_size - len(edit.old or b"")) for edit in edits if not edit.deleted)
    if grown > config.max_bytes:
        message = f"{grown} bytes are added; the policy allows {config.max_bytes}"
        yield Breach(Weight.ASK, "too-many-bytes", "", 0, message)


def _path(edit: Edit, known: dict[str, str], deleted: set[str], config: PolicyConfig) -> Iterator[Breach]:
    parts = edit.path.split("/")
    if edit.path.startswith("/") or any(part in ("", ".", "..") or _GIT_NAMES.fullmatch(part) for part in parts):
        yield Breach(Weight.REFUSE, "path", edit.path, 0, "this path leaves the repository or means its .git")
    if any(matches(edit.path, glob) for glob in config.protected):
        yield Breach(Weight.ASK, "protected", edit.path, 0, "the repository's policy protects this path")
    if edit.added:
        named = hidden_character(edit.path)
        if named or any(unicodedata.category(c) == "Cc" for c in edit.path):
            message = f"the file's name contains {named or 'a control character'}"
            yield Breach(Weight.REFUSE, "hidden-character", edit.path, 0, message)
        twin = known.get(edit.path.casefold())
        if twin is not None and twin != edit.path and twin not in deleted:
            message = f"differs from {twin} by letter case alone, which some systems cannot hold"
            yield Breach(Weight.REFUSE, "case", edit.path, 0, message)


def _mode(edit: Edit) -> Iterator[Breach]:
    if edit.deleted:
        return
    if SUBMODULE in (edit.new_mode, edit.old_mode):
        yield Breach(Weight.ASK, "submodule", edit.path, 0, "a submodule is added or moved")
    elif edit.new_mode == SYMLINK:
        target = text(edit.new)
        landed = posixpath.normpath(posixpath.join(posixpath.dirname(edit.path), target))
        parts = landed.split("/")
        if edit.new is None or target.startswith("/") or parts[0] == ".." or ".git" in parts:
            yield Breach(Weight.REFUSE, "symlink", edit.path, 0, "this symlink points out of the repository")
    elif edit.new is None:
        message = f"{edit.new_size} bytes are too many to be looked at"
        yield Breach(Weight.ASK, "unread", edit.path, 0, message)
    else:
        if edit.binary and edit.added:
            yield Breach(Weight.ASK, "binary", edit.path, 0, f"a binary file of {edit.new_size} bytes is added")
        elif edit.binary:
            yield Breach(Weight.ASK, "binary", edit.path, 0, "the content of a binary file is changed")
        if edit.new_mode == EXECUTABLE != edit.old_mode and not edit.new.startswith(_SCRIPT):
            message = "is made executable but is no script (its first line does not begin with #!)"
            yield Breach(Weight.REFUSE, "executable", edit.path, 0, message)


def matches(path: str, glob: str) -> bool:
    """``*`` and ``?`` within one folder, ``**`` across folders; a glob without ``/`` matches a name anywhere."""
    return _pattern(glob).fullmatch(path) is not None


@lru_cache(maxsize=1000)
def _pattern(glob: str) -> re.Pattern[str]:
    anywhere = "/" not in glob.rstrip("/")
    glob = glob.removeprefix("/")
    if glob.endswith("/"):
        glob += "**"
    out = "(?:.*/)?" if anywhere else ""
    for part in re.split(r"(\*\*/|\*\*|\*|\?)", glob):
        out += {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(part, re.escape(part))
    return re.compile(out, re.DOTALL)
