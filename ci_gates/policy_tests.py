"""Policy on tests: none deleted, skipped or weakened without a person. Reads Python's syntax, runs nothing. Pure."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ci_gates.edits import Breach, Edit, Weight
from ci_gates.plan import is_test_file, is_test_path

_SKIPS = frozenset({"skip", "skipif", "skipIf", "skipUnless", "skipTest", "SkipTest", "xfail", "expectedFailure"})
_SKIPS |= {"importorskip", "exit"}
_RAISES = frozenset({"raises", "warns", "deprecated_call", "fail"})
_HIDDEN = frozenset({"__test__", "collect_ignore", "collect_ignore_glob"})


@dataclass(slots=True)
class _Test:
    """What one test function checks."""

    line: int
    asserts: int
    cases: int


@dataclass(slots=True)
class _File:
    """The tests of one file by qualified name; ``skips`` counts every way to leave tests out."""

    tests: dict[str, _Test] = field(default_factory=dict)
    skips: Counter[str] = field(default_factory=Counter)
    readable: bool = True


def test_breaches(edits: Sequence[Edit]) -> Iterator[Breach]:
    """Compares the tests of every changed Python file below test folders or named like tests."""
    touched = [edit for edit in edits if edit.path.endswith(".py") and is_test_path(edit.path)]
    pairs = [(edit, _read(edit.old), _read(edit.new)) for edit in touched]
    # A test that left one file and stands in another of this change was moved, not deleted.
    arrived: dict[str, _Test] = {}
    for _, old, new in pairs:
        arrived.update({name: test for name, test in new.tests.items() if name not in old.tests})
    for edit, old, new in pairs:
        yield from _compare(edit, old, new, arrived)


def _compare(edit: Edit, old: _File, new: _File, arrived: dict[str, _Test]) -> Iterator[Breach]:
    if edit.deleted and is_test_file(edit.path) and not old.tests:
        yield Breach(Weight.ASK, "test-deleted", edit.path, 0, "a test file is deleted")
    if not edit.deleted and old.readable and not new.readable:
        yield Breach(Weight.ASK, "test-unreadable", edit.path, 0, "this test file is no longer Python")
    for name, before in old.tests.items():
        after = new.tests.get(name) or arrived.get(name)
        if after is None:
            yield Breach(Weight.ASK, "test-deleted", edit.path, before.line, f"the test {name} is deleted")
            continue
        if after.asserts < before.asserts:
            message = f"the test {name} checks less than before ({after.asserts} checks instead of {before.asserts})"
            yield Breach(Weight.ASK, "test-weakened", edit.path, after.line, message)
        if after.cases < before.cases:
            message = f"the test {name} has fewer cases than before ({after.cases} instead of {before.cases})"
            yield Breach(Weight.ASK, "test-weakened", edit.path, after.line, message)
    for word, count in new.skips.items():
        if count > old.skips[word]:
            message = f"tests are left out: {word} stands here {count - old.skips[word]} times more than before"
            yield Breach(Weight.ASK, "test-skipped", edit.path, 0, message)


def _read(data: bytes | None) -> _File:
    if data is None:
        return _File()
    try:
        tree = ast.parse(data)
        found = _File()
        _walk(tree.body, "", found)
        for node in ast.walk(tree):
            word = _skip_word(node)
            if word:
                found.skips[word] += 1
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _File(readable=False)
    return found


def _walk(body: Sequence[ast.stmt], prefix: str, found: _File) -> None:
    for node in body:
        if isinstance(node, ast.ClassDef):
            _walk(node.body, f"{prefix}{node.name}.", found)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name.startswith("test"):
                # Of two with the same name only the last one runs.
                found.tests[f"{prefix}{node.name}"] = _Test(node.lineno, _asserts(node), _cases(node))
        elif isinstance(node, ast.If | ast.Try | ast.With):
            _walk(node.body, prefix, found)
            _walk(getattr(node, "orelse", []), prefix, found)


def _skip_word(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute) and node.attr in _SKIPS and not _is_sys_exit(node):
        return node.attr
    if isinstance(node, ast.Name) and node.id in _SKIPS - {"exit"} | _HIDDEN:
        return node.id
    return ""


def _is_sys_exit(node: ast.Attribute) -> bool:
    return node.attr == "exit" and not (isinstance(node.value, ast.Name) and node.value.id == "pytest")


def _asserts(function: ast.AST) -> int:
    """Checks that can fail: an assert on a constant or on a tuple cannot."""
    count = 0
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            count += not isinstance(node.test, ast.Constant | ast.Tuple)
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            lower = str(name).lower().lstrip("_")
            count += lower.startswith(("assert", "check", "verify", "expect")) or lower in _RAISES
    return count


def _cases(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Cases of literal parametrize decorators, multiplied; 1 where there is none or it cannot be counted."""
    total = 1
    for decorator in function.decorator_list:
        if not (isinstance(decorator, ast.Call) and getattr(decorator.func, "attr", "") == "parametrize"):
            continue
        values = [keyword.value for keyword in decorator.keywords if keyword.arg == "argvalues"]
        values += decorator.args[1:2]
        if values and isinstance(values[0], ast.List | ast.Tuple | ast.Set):
            literal = not any(isinstance(item, ast.Starred) for item in values[0].elts)
            total *= len(values[0].elts) if literal else 1
    return total
