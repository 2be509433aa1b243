"""What goes wrong, by seed: at each place where something can, one roll says what does.

Every fault that struck has a name. A run may be given the names that are still allowed, which is how a story is made
shorter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet.simulate.chance import Chance, mixed

# Place → what may strike there → how likely, for each time the place is passed.
Rates = Mapping[str, Mapping[str, float]]

HEAVY: Rates = {
    # every step of an attempt, a gate run, a publication
    "worker": {"kill": 0.004, "freeze": 0.006, "cut": 0.004, "jump": 0.0004},
    # every call of a supervisor to the store: before it, after it, with the answer lost, or cut off for a while
    "store": {"kill": 0.0006, "kill_after": 0.0006, "freeze": 0.0006, "cut": 0.0003, "deaf": 0.0006, "jump": 0.0002},
    # every call of anybody else to the store
    "ledger": {"away": 0.004, "deaf": 0.004, "jump": 0.0001},
    "wake": {"lose": 0.08, "double": 0.10, "delay": 0.10, "forge": 0.05},
    # every event of an attempt on its way
    "word": {"lose": 0.01, "double": 0.03, "delay": 0.02},
    "forge": {"refuse": 0.02, "deaf": 0.03},
    # once in fifty seconds
    "clock": {"jump": 0.10, "leap": 0.005},
    "outage": {"store": 0.04, "host": 0.04, "broker": 0.04, "forge": 0.04, "partition": 0.10},
    # SIGTERM to a machine with attempts, or to the workers of a queue
    "drain": {"machine": 0.15, "workers": 0.15},
    # SIGTERM to one supervisor, which comes back later
    "roll": {"supervisor": 0.15},
    # somebody pauses the whole fleet for a while
    "hold": {"all": 0.04},
    # once in fifty seconds, for each repository
    "base": {"move": 0.3},
}
LIGHT: Rates = {place: {what: rate / 8 for what, rate in rates.items()} for place, rates in HEAVY.items()}
NONE: Rates = {}
# Processes that were given up and go on later, on a base that moves under them: what fences are for.
STALE: Rates = {"worker": {"kill": 0.002, "freeze": 0.06}, "wake": {"delay": 0.2, "double": 0.2}, "base": {"move": 0.9}}
LEVELS: Mapping[str, Rates] = {"heavy": HEAVY, "light": LIGHT, "none": NONE, "stale": STALE}


@dataclass(slots=True)
class Faults:
    """``only``: names that may strike; None means all. ``over``: from now on nothing goes wrong any more."""

    chance: Chance
    rates: Rates
    only: frozenset[str] | None = None
    over: bool = False
    struck: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    _passed: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    _most: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._most = {place: sum(rates.values()) for place, rates in self.rates.items()}
        self._passed = {place: {} for place in self.rates}

    def strike(self, place: str, about: str) -> str:
        """What strikes here now; empty when nothing does."""
        rates = self.rates.get(place)
        if self.over or not rates:
            return ""
        known = self._passed[place].get(about)
        if known is None:
            known = self._passed[place][about] = [self.chance.number(f"{place} {about}"), 0]
        number = known[1]
        known[1] = number + 1
        roll = mixed(known[0], number)
        if roll >= self._most[place]:
            return ""
        for what, rate in rates.items():
            if roll < rate:
                full = f"{place}.{what} {about} #{number}"
                if self.only is not None and full not in self.only:
                    return ""
                self.struck.append(full)
                self.counts[f"{place}.{what}"] += 1
                return what
            roll -= rate
        return ""
