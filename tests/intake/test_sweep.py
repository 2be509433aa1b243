"""The sweep tells each ticket in review what became of its pull request, and nobody else anything."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet.core.events import PullRequestClosed, Source
from fleet.core.forge import ForgePull
from fleet.core.states import Reason, State
from fleet.core.view import PullRequest, TicketView
from fleet.intake.sweep import closed_since
from tests.support.tickets import ticket


def _view(state: State = State.IN_REVIEW, number: int = 7) -> TicketView:
    return TicketView(
        ticket(), state, Reason.PUBLISHED, since=1.0, attempt=1, pull_request=PullRequest(number, "url", "h", "b")
    )


def _pull(number: int = 7, *, is_open: bool = False, merged: bool = False) -> ForgePull:
    return ForgePull(number, "url", is_open, merged, True, "fleet/1-t", "h", "main", "t", "b", "fleet-bot", (), True)


@pytest.mark.parametrize("merged", [True, False])
def test_a_closed_pull_request_is_told_once_as_it_ended(merged: bool) -> None:
    view = _view()
    (event,) = closed_since([view], {view.id: _pull(merged=merged)}, 5.0)
    assert (event.ticket, event.source, event.data) == (view.id, Source.INTAKE, PullRequestClosed(merged))


@pytest.mark.parametrize(
    ("view", "pull"),
    [
        (_view(), _pull(is_open=True)),
        (_view(), None),
        (_view(), _pull(number=8)),
        (_view(State.MERGED), _pull()),
        (_view(State.RUNNING), _pull()),
        (replace(_view(), pull_request=None), _pull()),
    ],
)
def test_nothing_else_is_told(view: TicketView, pull: ForgePull | None) -> None:
    assert closed_since([view], {view.id: pull} if pull else {}, 5.0) == ()
