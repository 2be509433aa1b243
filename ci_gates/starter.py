"""A first ``.fleet.toml`` that says in words what the fleet would have found by itself. Pure.

Law: committing the text as it is changes no gate; what it names is what detection names, so that a person begins with
something true and edits from there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from ci_gates.plan import MYPY_WORDS, Plan
from fleet.core.gates import GateSpec, Mode

# What the prepared environment always has; other tools are there only when the repository depends on them.
BROUGHT = frozenset({"ruff", "mypy", "pytest"})
_ADDED = {
    "ruff": ("--output-format", "json", "--no-cache"),
    "mypy": MYPY_WORDS,
    "pyright": ("--outputjson",),
}
_MODES = {
    Mode.REQUIRED: "must be green",
    Mode.NO_REGRESSION: "nothing new may be red",
    Mode.ADVISORY: "told, never in the way",
}
_HEAD = """\
# What a change must pass before the fleet opens a pull request. It is read from the base branch, so that no change can
# loosen its own gates; whoever changes this file is a person.
version = 1
"""
_NONE = """
# Nothing was found that could be a gate. Without one, a ticket waits for a person. For example:
# [gates.tests]
# kind = "tests"
# command = ["python", "-m", "pytest", "-q"]
"""
_REST = """
# [policy]
# protected = ["docs/legal/**"]   # only a person changes these
# max_files = 500                 # in one change
# max_bytes = "2MiB"              # of added content
# allow_no_tests = false          # true: a repository without tests may pass

# [dependencies]                  # where detection would guess wrong
# requirements = ["requirements/test.txt"]
# extras = ["test"]
# groups = ["dev"]

# [limits]                        # may only be tighter than the operator's
# attempts = 2
"""


def starter(plan: Plan) -> str:
    """The text for a repository whose base gives ``plan``. A gate whose tool is not there stands as a comment."""
    parts = [_HEAD]
    parts += [_gate(gate) for gate in plan.gates]
    parts += [_commented(_gate(gate), gate.argv[0]) for gate in plan.missing]
    if not plan.gates:
        parts.append(_NONE)
    return "".join((*parts, _REST))


def _gate(gate: GateSpec) -> str:
    words = ", ".join(json.dumps(word) for word in _bare(gate.argv))
    return (
        f"\n[gates.{gate.name}]\n"
        f'kind = "{gate.kind.value}"\n'
        f'mode = "{gate.mode.value}"  # {_MODES[gate.mode]}\n'
        f"command = [{words}]\n"
        f'timeout = "{gate.seconds:g}s"\n'
    )


def _bare(argv: Sequence[str]) -> tuple[str, ...]:
    """Without the words that the fleet adds by itself to read the output."""
    added = _ADDED.get(argv[0], ())
    for at in range(len(argv) - len(added) + 1):
        if added and tuple(argv[at : at + len(added)]) == added:
            return (*argv[:at], *argv[at + len(added) :])
    return tuple(argv)


def _commented(text: str, tool: str) -> str:
    lines = "".join(f"# {line}\n" for line in text.strip().splitlines())
    why = f"{tool} is set up here, but the fleet does not bring it; name it in the dependencies to use it:"
    return f"\n# {why}\n{lines}"
