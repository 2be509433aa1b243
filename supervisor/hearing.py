"""Whose word about a ticket still counts. Pure."""

from __future__ import annotations

from typing import Protocol

from fleet.core.events import (
    Envelope,
    GateFinished,
    GatesFailed,
    GatesFinished,
    GatesStarted,
    Published,
    PublishFailed,
    Source,
)
from fleet.core.states import State
from fleet.core.view import TicketView
from supervisor.fold import HAS_PULL

# Whose word counts as a sign of life in which state. An attempt that lingers says nothing about the gates.
VOICE = {
    State.STARTING: Source.ATTEMPTS,
    State.RUNNING: Source.ATTEMPTS,
    State.GATING: Source.GATES,
    State.PUBLISHING: Source.PUBLISHER,
}


class Ears(Protocol):
    """Of one pass: ``heard`` are the tickets whose worker lives, ``spoke`` those whose worker said something."""

    heard: set[str]
    spoke: set[str]


def hear(turn: Ears, view: TicketView, source: Source, word: bool = False) -> None:
    """``word``: the worker itself said something; otherwise only its guard lives."""
    if VOICE.get(view.state) is source:
        turn.heard.add(view.id)
        if word:
            turn.spoke.add(view.id)


def waits_for(view: TicketView, attempt: int) -> bool:
    """Whether a place for this attempt is still wanted."""
    return view.state is State.QUEUED and attempt == view.attempt + 1


# The publisher was slower than the supervisor's patience: people must still find the pull request it opened.
_KEEPS_LATE_PULL = frozenset({State.CANCELLED, State.ESCALATED, State.PARKED, State.REJECTED})


def stale(view: TicketView, event: Envelope) -> bool:
    """Whether gates or the publisher speak about an attempt, round or state that is over."""
    data = event.data
    if event.source is Source.GATES:
        if view.state is not State.GATING or event.attempt != view.attempt:
            return True
        rounds = GatesStarted | GateFinished | GatesFinished | GatesFailed
        return isinstance(data, rounds) and data.round != view.round
    if event.source is Source.PUBLISHER and isinstance(data, Published | PublishFailed):
        if isinstance(data, Published) and event.attempt <= view.attempt:
            if view.state in _KEEPS_LATE_PULL:
                return False
            if view.state in HAS_PULL and view.pull_request is not None and view.pull_request.number != data.number:
                return False
        other_round = isinstance(data, PublishFailed) and data.round != view.round
        return view.state is not State.PUBLISHING or event.attempt != view.attempt or other_round
    return False
