"""The quick copy is the slow copy: same values, same class, still frozen."""

from __future__ import annotations

import dataclasses
from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import pytest

from fleet.core.frozen import replace
from fleet.core.states import Reason, State
from fleet.core.view import News, TicketView
from tests.support.tickets import ticket

VIEW = TicketView(ticket(1), State.QUEUED, Reason.ACCEPTED, 1.0)


@pytest.mark.parametrize("changes", [{}, {"state": State.RUNNING}, {"version": 3, "news": News(started=True)}], ids=str)
def test_a_copy_is_what_the_standard_library_makes(changes: dict[str, Any]) -> None:
    for _ in range(2):  # the second time it is known
        quick, slow = replace(VIEW, **changes), dataclasses.replace(VIEW, **changes)
        assert quick == slow and hash(quick) == hash(slow) and repr(quick) == repr(slow)
        assert type(quick) is TicketView and quick is not VIEW


def test_a_copy_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        replace(VIEW, version=2).version = 3  # type: ignore[misc]


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(TypeError):
        replace(VIEW, **{"colour": "red"})  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class _Checked:
    value: int
    twice: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "twice", 2 * self.value)


@dataclass(frozen=True)
class _Open:
    value: int


def test_other_kinds_are_copied_the_slow_way() -> None:
    assert replace(_Checked(1), value=4).twice == 8
    assert replace(_Open(1), value=4) == _Open(4)
