"""The parts of docs/ that are made from the code: states and reasons, events, and which tests show which promise.

``python -m tests.support.eventdoc`` writes them anew; tests/architecture/test_docs.py compares.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import get_args

from fleet.core import states
from fleet.core.events import KINDS, EventData, Source

ROOT = Path(__file__).resolve().parents[2]
END = "<!-- end of the generated part -->"
_PROMISE = re.compile(r"^\| (I\d+) \| (.*) \| (.*) \|$")
NOT_YET = "not shown yet"


def begin(name: str) -> str:
    """The line before a generated part."""
    return f"<!-- generated: {name} (python -m tests.support.eventdoc) -->"


def events() -> str:
    """One table per source: every kind it may say, in the order of the code, with fields and law."""
    order = get_args(EventData)
    parts = []
    for source in Source:
        rows = [_row(kind) for kind in order if kind in KINDS[source]]
        parts.append("\n".join((f"### {source.value}", "", "| kind | fields | law |", "|---|---|---|", *rows)))
    return "\n\n".join(parts)


def _row(kind: type) -> str:
    shown = ", ".join(f"`{field.name}: {field.type}`" for field in fields(kind)) or "–"
    return f"| {kind.__name__} | {shown.replace('|', chr(92) + '|')} | {_law(kind)} |"


def _law(kind: type) -> str:
    """The docstring in one line; a dataclass without one has its signature there, which says nothing new."""
    text = " ".join((kind.__doc__ or "").split())
    return "" if text.startswith(f"{kind.__name__}(") else text.replace("``", "`").replace("|", "\\|")


def diagram() -> str:
    """The transition table as a fenced Mermaid diagram."""
    return f"```mermaid\n{states.mermaid()}```"


def reasons() -> str:
    """Every reason with the moves that it may stand in."""
    moves: dict[str, list[str]] = defaultdict(list)
    for old, targets in states.TRANSITIONS.items():
        for new, allowed in targets.items():
            for reason in allowed:
                moves[reason.value].append(f"{old.value if old else '(new)'} → {new.value}")
    rows = [f"| `{one.value}` | {', '.join(moves[one.value]) or 'none'} |" for one in states.Reason]
    return "\n".join(("| reason | moves |", "|---|---|", *rows))


GENERATED: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "states.md": {"diagram": diagram, "reasons": reasons},
    "events.md": {"events": events},
}


def filled(text: str, makers: Mapping[str, Callable[[], str]]) -> str:
    """``text`` with its generated parts made anew. Raises ValueError when one has no place in it."""
    for name, make in makers.items():
        before, found, rest = text.partition(begin(name))
        _, ended, after = rest.partition(END)
        if not found or not ended:
            raise ValueError(f"no place for {name}")
        text = f"{before}{found}\n{make()}\n{END}{after}"
    return text


def shown_by(tests: Path) -> dict[str, list[str]]:
    """Promise → test files (``tests/…``) that carry its mark."""
    found: dict[str, list[str]] = defaultdict(list)
    for file in sorted(tests.rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("mark.invariant"):
                names = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
                for name in map(str, names):
                    path = f"tests/{file.relative_to(tests).as_posix()}"
                    if path not in found[name]:
                        found[name].append(path)
    return found


def promises(text: str) -> dict[str, tuple[str, ...]]:
    """The rows ``| I5 | words | tests |`` of docs/spec.md: promise → the test files that it names."""
    rows = (match for line in text.splitlines() if (match := _PROMISE.match(line)))
    return {match[1]: tuple(re.findall(r"`(tests/[^`]+)`", match[3])) for match in rows}


def with_tests(text: str, shown: Mapping[str, list[str]]) -> str:
    """docs/spec.md with the test files of every promise as the markers have them now."""
    lines = []
    for line in text.split("\n"):
        match = _PROMISE.match(line)
        if match:
            named = " ".join(f"`{path}`" for path in shown.get(match[1], [])) or NOT_YET
            line = f"| {match[1]} | {match[2]} | {named} |"  # noqa: PLW2901 - the row anew
        lines.append(line)
    return "\n".join(lines)


def main() -> None:
    """Writes every generated part of docs/."""
    for name, makers in GENERATED.items():
        page = ROOT / "docs" / name
        page.write_text(filled(page.read_text(), makers))
    spec = ROOT / "docs" / "spec.md"
    spec.write_text(with_tests(spec.read_text(), shown_by(ROOT / "tests")))


if __name__ == "__main__":
    main()
