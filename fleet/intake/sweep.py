"""The regular look at the forge: new labels, closed issues, ended pull requests, orders in comments. Level-triggered.

A webhook may be lost; what it was about can be seen at any later time, so that a loss costs time only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fleet.adapters.telemetry import about_ticket, log
from fleet.core.errors import FleetError, UsageError
from fleet.core.forge import ForgeClient, Page
from fleet.core.ports import Clock, Ledger
from fleet.core.states import State
from fleet.core.view import TicketView
from fleet.intake.comments import CommentIntake
from fleet.intake.endpoint import Answer
from fleet.intake.labels import Ignored, LabelIntake
from fleet.intake.recovery import Recovery
from fleet.intake.watched import Watched
from fleet.intake.webhook import CommentTold, PullTold, Told

EVERY = 15.0
# How soon a lost ledger is noticed (seconds).
_NOTICED = 5.0
_LONGEST = 900.0
_UNSEEN = "cannot be seen"


@dataclass
class _Pace:
    """When a repository is looked at next, and what the forge said last. ``failures`` in a row stretch the pace.

    ``fresh_at``: when everything was last read anew; a permission may change without the page that names the issue.
    """

    due: float = 0.0
    failures: int = 0
    fresh_at: float = 0.0
    etags: dict[str, str] = field(default_factory=dict)


class Sweep:
    """``watches``: what is watched now. ``every``: seconds between two looks at a repository. ``hold_again``: pauses
    the whole fleet if a person had paused it, in a ledger that may know nothing of that.

    Runs until ``stop``; webhooks come in by ``heard`` from another thread. A forge that is away is asked ever more
    rarely (I19), and a repository that fails does not hold the others up.
    """

    def __init__(
        self,
        ledger: Ledger,
        labels: LabelIntake,
        forge: ForgeClient,
        clock: Clock,
        watches: Callable[[], Iterable[Watched]],
        every: Callable[[str], float],
        comments: CommentIntake | None = None,
        recovery: Recovery | None = None,
        hold_again: Callable[[], None] = lambda: None,
    ) -> None:
        self._ledger = ledger
        self._labels = labels
        self._forge = forge
        self._clock = clock
        self._watches = watches
        self._every = every
        self._comments = comments
        self._recovery = recovery
        self._hold_again = hold_again
        self._incarnation = ""
        self._paces: dict[str, _Pace] = {}
        self._one = threading.Lock()
        self._log = log("intake")

    def run(self, stop: Callable[[float], bool]) -> None:
        """``stop(seconds)`` waits that long and answers whether to end."""
        while not stop(min(EVERY, self._soonest())):
            try:
                self.once()
            except FleetError as error:  # the ledger is away: the next round finds everything as it is then
                self._log.warning("sweep failed", why=str(error))

    def once(self) -> int:
        """One round over what is due; answers how many repositories were looked at."""
        self._recover()
        watched = {one.repo: one for one in self._watches()}
        by_repo: dict[str, list[TicketView]] = {}
        for view in self._ledger.views():
            by_repo.setdefault(view.ticket.repo, []).append(view)
        in_work = {repo for repo, views in by_repo.items() if not all(view.state.terminal for view in views)}
        looked = 0
        for repo in sorted({*watched, *in_work}):
            pace = self._paces.setdefault(repo, _Pace())
            if pace.due > self._clock.monotonic():
                continue
            looked += 1
            self._look(repo, pace, watched.get(repo), by_repo.get(repo, []))
        for repo in self._paces.keys() - watched.keys() - in_work:
            del self._paces[repo]
        return looked

    def _recover(self) -> None:
        """First of all what a lost ledger knew: a label on one of those tickets is not a new one."""
        if self._recovery is None:
            return
        incarnation = self._ledger.incarnation()
        if incarnation != self._incarnation:
            # Before any lost ticket is told, so that none of them is started.
            self._hold_again()
            # What was looked at for another ledger must be looked at anew: that an issue has not changed says nothing.
            self._paces.clear()
            self._incarnation = incarnation
        with self._one:
            self._recovery.once()

    def heard(self, told: Told) -> Answer:
        """A webhook: the same look, at one issue and at once. Raises what the forge and the ledger raise."""
        with self._one:
            if isinstance(told, PullTold):
                return self._pull_told(told)
            if isinstance(told, CommentTold):
                return self._comment_told(told)
            views = [view for view in self._open(told.repo) if view.ticket.number == told.number]
            if told.action in ("deleted", "transferred"):
                for view in views:
                    self._labels.cancel(view, told.by, f"the issue was {told.action}")
                return Answer(200, {"cancelled": " ".join(view.id for view in views)})
            # The fleet's own state labels come back as webhooks, too; they must not cost a question each.
            for view in views if told.action != "labeled" else ():
                if (page := self._issue(view, "")) is not None and self._labels.stop(view, page, told.by):
                    return Answer(200, {"stopped": view.id})
            watched = next((one for one in self._watches() if one.repo.lower() == told.repo.lower()), None)
            if watched is None:
                return Answer(200, {"ignored": f"{told.repo} is not watched"})
            other = told.label.lower() not in ("", watched.label.lower())
            if told.action not in ("labeled", "reopened") or other:
                return Answer(200, {"ignored": f"nothing to do for {told.action}"})
            result = self._labels.consider(watched, told.number)
        if isinstance(result, Ignored):
            return Answer(200, {"ignored": result.why})
        return Answer(202, {"ticket": result.ticket.id, "new": "yes" if result.new else "no"})

    # --- one repository --------------------------------------------------------------------------------------------
    def _look(self, repo: str, pace: _Pace, watched: Watched | None, views: list[TicketView]) -> None:
        every, now = self._every(repo), self._clock.monotonic()
        if now - pace.fresh_at >= _LONGEST:
            pace.fresh_at = now
            pace.etags.clear()
        try:
            with self._one:
                if watched is not None:
                    self._new_labels(watched, pace)
                for view in (view for view in views if not view.state.terminal):
                    with about_ticket(view.ticket, view.attempt, self._ledger.incarnation):
                        self._one_ticket(view, pace)
                self._orders(repo, views)
        except FleetError as error:
            pace.failures += 1
            pace.etags.clear()
            wait = min(_LONGEST, max(every * 2.0**pace.failures, getattr(error, "retry_after", None) or 0.0))
            if pace.failures == 1 or wait >= _LONGEST:
                self._log.warning("a repository cannot be looked at", repo=repo, why=str(error), again_in=round(wait))
            pace.due = self._clock.monotonic() + wait
            return
        if pace.failures:
            self._log.info("a repository can be looked at again", repo=repo)
        pace.failures = 0
        pace.due = self._clock.monotonic() + every

    def _new_labels(self, watched: Watched, pace: _Pace) -> None:
        key = f"label {watched.label}"
        page = self._forge.labelled(watched.repo, watched.label, pace.etags.get(key, ""))
        if page is None:
            return
        pace.etags.pop(key, None)
        for issue in page.issues:
            if not issue.pull:
                self._labels.consider(watched, issue.number)
        # Kept only now: if one of them could not be considered, the same page must be read again.
        pace.etags[key] = page.etag

    def _one_ticket(self, view: TicketView, pace: _Pace) -> None:
        key = f"issue of {view.id}"
        try:
            page = self._issue(view, pace.etags.get(key, ""))
            if page is not None:
                if self._labels.stop(view, page, "the forge"):
                    return
                pace.etags[key] = page.etag
            if view.state is State.IN_REVIEW:
                self._labels.closed(view, "")
        except UsageError as error:
            # Not there for this token: nobody can tell whether it is gone or only hidden, so nothing is cancelled.
            if pace.etags.get(key) != _UNSEEN:
                self._log.warning("an issue cannot be seen", ticket=view.id, why=str(error))
            pace.etags[key] = _UNSEEN

    def _issue(self, view: TicketView, etag: str) -> Page | None:
        """The ticket's issue now; None while ``etag`` is good."""
        return self._forge.issue_since(view.ticket.repo, view.ticket.number, "" if etag == _UNSEEN else etag)

    def _pull_told(self, told: PullTold) -> Answer:
        for view in self._open(told.repo):
            if view.pull_request is not None and view.pull_request.number == told.number:
                self._labels.closed(view, told.by)
                return Answer(200, {"noted": view.id})
        return Answer(200, {"ignored": "no ticket has this pull request"})

    def _comment_told(self, told: CommentTold) -> Answer:
        """The same look as the regular one, at once: what the message says is a hint."""
        views = [view for view in self._ledger.views() if view.ticket.repo.lower() == told.repo.lower()]
        return Answer(200, {"orders": str(self._orders(views[0].ticket.repo, views) if views else 0)})

    def _orders(self, repo: str, views: list[TicketView]) -> int:
        """Takes what people ordered in comments, as soon as all tickets are there that they may be for."""
        if self._comments is None:
            return 0
        if self._recovery is not None and not self._recovery.settled(repo, [view.id for view in views]):
            return 0
        return self._comments.look(repo, views)

    def _open(self, repo: str) -> list[TicketView]:
        return [
            view
            for view in self._ledger.views()
            if not view.state.terminal and view.ticket.repo.lower() == repo.lower()
        ]

    def _soonest(self) -> float:
        now = self._clock.monotonic()
        return max(0.2, min((_NOTICED, *(pace.due - now for pace in self._paces.values()))))
