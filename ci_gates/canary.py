"""The canaries of one test run: tests of the fleet's own, some of which must fail. Pure; chance is an argument."""

from __future__ import annotations

from dataclasses import dataclass

_FAILING = (
    "    assert len({a!r}) == 0",
    "    raise ValueError({a!r})",
    "    found = [{a!r}]\n    assert found == [{b!r}], found",
    "    raise AssertionError({b!r})",
    "    import unittest\n    unittest.TestCase().assertEqual({a!r}, {b!r})",
)
_PASSING = ("    assert {a!r} != {b!r}", "    found = [{b!r}]\n    assert found", "    assert {a!r}.isalnum()")


@dataclass(frozen=True, slots=True)
class Canary:
    """``stem`` names the file; ``failing`` are the names of the tests that must fail, first and last one included."""

    stem: str
    source: str
    failing: frozenset[str]


def make_canary(entropy: str) -> Canary:
    """``entropy``: at least 160 hexadecimal digits that nobody can guess."""
    if len(entropy) < 160:
        raise ValueError("a canary needs 160 hexadecimal digits of chance")
    digits = iter([entropy[at : at + 10] for at in range(0, 160, 10)])
    stem = f"test_{next(digits)}"
    bodies = [(text, True) for text in _FAILING] + [(text, False) for text in _PASSING]
    first, *middle, last = _shuffled(bodies, entropy)
    parts: list[str] = []
    failing: set[str] = set()
    for body, fails in (first, *middle, last):
        name = f"test_{next(digits)}"
        mark = entropy[len(parts) : len(parts) + 12]
        parts.append(f"def {name}():\n{body.format(a=mark, b=mark[::-1] + 'x')}\n")
        if fails:
            failing.add(name)
    return Canary(stem, "\n\n".join(parts), frozenset(failing))


def _shuffled(bodies: list[tuple[str, bool]], entropy: str) -> list[tuple[str, bool]]:
    """A failing one stands first and another last, around a middle in an order that chance gives."""
    failing = [body for body in bodies if body[1]]
    turn = int(entropy[:8], 16) % len(failing)
    failing = failing[turn:] + failing[:turn]
    middle = failing[2:] + [body for body in bodies if not body[1]]
    keyed = sorted(enumerate(middle), key=lambda pair: entropy[20 + pair[0] * 9 : 29 + pair[0] * 9])
    return [failing[0], *(body for _, body in keyed), failing[1]]
