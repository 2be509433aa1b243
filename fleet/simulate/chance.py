"""Chance by seed. An answer depends on the seed, the question, whom it is about, and how often it was asked.

It does not depend on what was asked of others: a run with one fault less stays alike elsewhere, so that a failing run
can be made smaller.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")
_SCALE = 2.0**-64
_WORD = 2**64 - 1


def mixed(key: int, number: int) -> float:
    """The ``number``-th of the numbers in [0, 1) that belong to ``key`` (SplitMix64)."""
    z = (key + number * 0x9E3779B97F4A7C15) & _WORD
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _WORD
    return (z ^ (z >> 31)) * _SCALE


class Chance:
    """``seed`` ≥ 0."""

    def __init__(self, seed: int) -> None:
        self._key = seed.to_bytes(16, "big")
        self._asked: dict[str, list[int]] = {}

    def fixed(self, question: str) -> float:
        """A number in [0, 1), the same whenever it is asked."""
        return self.number(question) * _SCALE

    def number(self, question: str) -> int:
        """64 bits, the same whenever they are asked."""
        return int.from_bytes(blake2b(question.encode(), digest_size=8, key=self._key).digest(), "big")

    def roll(self, question: str) -> float:
        """A new number in [0, 1) each time."""
        known = self._asked.get(question)
        if known is None:
            known = self._asked[question] = [self.number(question), 0]
        known[1] += 1
        return mixed(*known)

    def between(self, question: str, low: float, high: float) -> float:
        return low + (high - low) * self.roll(question)

    def pick(self, question: str, options: Sequence[T]) -> T:
        return options[int(self.roll(question) * len(options))]


class Jitter:
    """Implements ``fleet.core.ports.Dice``."""

    def __init__(self, chance: Chance, name: str) -> None:
        self._chance = chance
        self._name = f"jitter of {name}"

    def uniform(self) -> float:
        return self._chance.roll(self._name)
