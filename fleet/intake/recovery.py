"""After a lost ledger: every open ticket is found again by its state label, and told to the new ledger.

Level-triggered: each repository is looked at when the ledger has another incarnation or this process begins, and some
times more in the twenty minutes after: what was under way at the loss may reach the forge later. A ticket that the
ledger knows is left alone, so looking twice changes nothing (I2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from fleet.adapters.telemetry import about_ticket, log
from fleet.core import labels
from fleet.core.errors import FleetError, UsageError
from fleet.core.events import Envelope, Source, TicketAccepted
from fleet.core.forge import ForgeClient, ForgePull, Issue, pull_request_marker
from fleet.core.journal import Used
from fleet.core.ports import Clock, IntakeLedger
from fleet.core.recovery import Recovered, Taken
from fleet.core.sealing import BEGINS, SealedState
from fleet.core.states import State
from fleet.core.ticket import DEFAULT_TENANT, Ticket, TicketLimits
from fleet.core.view import TicketView
from fleet.intake import rebuild
from fleet.intake.decide import Request
from fleet.intake.rebuild import Place
from fleet.intake.service import Accepted, IntakeService, ledger_name
from fleet.intake.text import IssueText, clean

_FIRST_PAUSE = 5.0
_LONGEST_PAUSE = 900.0
# Once more after so many seconds each: a publisher of the lost ledger gives up its last comment after seven minutes.
_AGAIN = (15.0, 60.0, 300.0, 900.0)
_TITLE = "(an issue without readable text)"


@dataclass
class _Look:
    """Of one repository in one incarnation. ``pauses``: before each look that is left after the next one, in seconds.
    ``failures`` in a row stretch the pause. ``taken``: tickets that were told and are not in the ledger yet.
    """

    incarnation: str
    pauses: tuple[float, ...] = _AGAIN
    again: bool = False
    failures: int = 0
    due: float = 0.0
    taken: set[str] = field(default_factory=set)

    def done(self, now: float) -> None:
        self.due = now + self.pauses[0] if self.pauses else float("inf")
        self.again, self.failures, self.pauses = True, 0, self.pauses[1:]


class Recovery:
    """``key`` unseals status comments. ``repos``: where tickets may have been; ``agent``: who works on owner/name
    today, empty when nobody is named. ``limits``: those of (owner/name, branch). ``begun``: the
    highest attempt of a ticket of which this machine has a trace; ``spent``: what lost ledgers let it spend, as the
    journal beside the store has it. Used by one thread at a time.
    """

    def __init__(
        self,
        ledger: IntakeLedger,
        forge: ForgeClient,
        clock: Clock,
        key: bytes,
        repos: Callable[[], Iterable[str]],
        agent: Callable[[str], str],
        limits: Callable[[str, str], TicketLimits],
        begun: Callable[[str], int] = lambda ticket: 0,
        spent: Callable[[str], Used] = lambda ticket: Used(),
    ) -> None:
        self._ledger = ledger
        self._forge = forge
        self._clock = clock
        self._key = key
        self._repos = repos
        self._agent = agent
        self._limits = limits
        self._begun = begun
        self._spent = spent
        self._looks: dict[str, _Look] = {}
        self._log = log("intake")

    def once(self) -> int:
        """Looks at every repository that is due; answers how many tickets were taken up. Raises what the ledger raises.

        A forge that is away is asked ever more rarely (I19), and holds no other repository up.
        """
        incarnation, taken = self._ledger.incarnation(), 0
        for repo in sorted(set(self._repos())):
            look = self._looks.get(repo)
            if look is None or look.incarnation != incarnation:
                look = self._looks[repo] = _Look(incarnation)
            if look.due > self._clock.monotonic():
                continue
            try:
                taken += self.look(repo, look.again)
                look.done(self._clock.monotonic())
            except UsageError as error:  # not there, or not for this token: nothing can be found there
                look.due = float("inf")
                self._log.warning("a repository cannot be searched for lost tickets", repo=repo, why=str(error))
            except FleetError as error:
                asked = getattr(error, "retry_after", None) or 0.0
                pause = min(_LONGEST_PAUSE, max(_FIRST_PAUSE * 2.0 ** min(look.failures, 10), asked))
                look.failures += 1
                look.due = self._clock.monotonic() + pause
                self._log.warning("lost tickets cannot be looked for", repo=repo, why=str(error), again_in=round(pause))
        return taken

    def settled(self, repo: str, known: Iterable[str]) -> bool:
        """Whether the first look at ``repo`` was made, and what it found is among the ``known`` tickets of the ledger.

        Before that an order for one of them would be taken for one that is for nobody. What has not come when the last
        look is over does not come any more.
        """
        look = self._looks.get(repo)
        if look is None:
            return repo not in set(self._repos())
        look.taken.difference_update(known)
        return look.due == float("inf") or (look.again and not look.taken)

    def look(self, repo: str, again: bool = False) -> int:
        """Takes up every ticket of ``repo`` that the ledger does not know; answers how many. ``again``: only those
        whose comment is believed; a label without one was judged by the first look.
        """
        views = (view for view in self._ledger.views() if view.ticket.repo == repo)
        known = {view.ticket.number for view in views if not view.state.terminal}
        seen: set[int] = set()
        for label in labels.OPEN:
            for issue in self._forge.issues_with_label(repo, label):
                if issue.number not in known and issue.number not in seen and self._issue(repo, issue, label, again):
                    seen.add(issue.number)
        return len(seen)

    def missed(self, ticket: Ticket, issue: Issue) -> bool:
        """Takes up an open ticket that the ledger does not know: its issue still carries the label that started it, so
        nobody finds it by a state label. False when there was nothing to do.
        """
        place = self._place(ticket.repo, issue)
        sealed = None if self._ledger.view(ticket.id) is not None else rebuild.certain(self._read(place), place)
        return sealed is not None and self._certain(sealed, place)

    def accept(self, service: IntakeService, request: Request, issue: Issue) -> Accepted:
        """As ``service`` does, but an issue that a lost ledger knew as an open ticket is that ticket still, with all
        that it had used up (I2, I8), whether or not its repository was looked at yet.
        """
        accepted = service.accept(request, self.known(request.repo, issue))
        if not accepted.new:
            self.missed(accepted.ticket, issue)
        return accepted

    def known(self, repo: str, issue: Issue) -> Callable[[str], TicketView | None]:
        """Looks tickets up for ``fleet.intake.decide``: in the ledger, and for an issue that it does not know, at the
        forge, so that a generation is not counted twice.
        """
        place = self._place(repo, issue)
        found: dict[str, TicketView] | None = None

        def look_up(ticket: str) -> TicketView | None:
            nonlocal found
            view = self._ledger.view(ticket)
            if view is not None:
                return view
            if found is None:
                found = rebuild.known_tickets(self._read(place), place, ledger_name(self._ledger))
            return found.get(ticket)

        return look_up

    # --- one issue -------------------------------------------------------------------------------------------------
    def _issue(self, repo: str, issue: Issue, label: str, again: bool) -> bool:
        place = self._place(repo, issue)
        found = self._read(place)
        sealed = rebuild.certain(found, place)
        if sealed is not None:
            if rebuild.about_to_be_told(sealed, ledger_name(self._ledger)):
                return False  # a command is just telling this ledger of it
            return self._certain(sealed, place)
        if again:
            return False
        if not found.doubts and not self._ours(repo, issue, label):
            self._log.warning("state label ignored", issue=f"{repo}#{issue.number}", why="a stranger put it on")
            return False
        ticket, recovered = rebuild.doubtful(found, self._today(place))
        return self._take(ticket, recovered)

    def _certain(self, sealed: SealedState, place: Place) -> bool:
        if State(sealed.state).terminal or self._ledger.view(sealed.ticket) is not None:
            return False
        before = sealed
        sealed = rebuild.at_least(sealed, self._begun(sealed.ticket), self._spent(sealed.ticket))
        ticket = rebuild.ticket_of(sealed, place.issue, place.text)
        recovered = rebuild.recovered(sealed, ticket, self._pull(sealed, ticket), place.at)
        if recovered is None:
            return False
        return self._take(ticket, replace(recovered, shown=rebuild.shown(recovered, before, place.issue.labels)))

    def _pull(self, sealed: SealedState, ticket: Ticket) -> ForgePull | None:
        """By exact branch, then by marker, then by the number that was sealed (I4)."""
        found = self._forge.find_pull_request(ticket.repo, ticket.branch, pull_request_marker(ticket.id))
        if found is None and sealed.pull_request:
            try:
                return self._forge.pull_request(ticket.repo, sealed.pull_request)
            except UsageError:
                return None
        return found

    def _take(self, ticket: Ticket, recovered: Recovered) -> bool:
        """On disk when this returns (I1). What it spent is noted first, so that no model is asked before it counts."""
        if self._ledger.view(ticket.id) is not None:
            return False
        now = self._clock.now()
        self._ledger.note_recovered(ticket.id, Taken(now, recovered.usd, ticket.tenant))
        event = Envelope(ticket.tenant, ticket.id, 0, 0, now, TicketAccepted(ticket, recovered), Source.INTAKE)
        self._ledger.send(Source.INTAKE, [event], durable=True)
        if (look := self._looks.get(ticket.repo)) is not None:
            look.taken.add(ticket.id)
        with about_ticket(ticket, 0, self._ledger.incarnation):
            self._log.info(
                "ticket recovered",
                issue=ticket.issue,
                state=recovered.state.value,
                reason=recovered.reason.value,
                attempts=recovered.attempts,
                usd=recovered.usd,
            )
        return True

    def _read(self, place: Place) -> rebuild.Found:
        comments = self._forge.comments_on(place.repo, place.issue.number, BEGINS)
        return rebuild.read(comments, f"{place.repo}#{place.issue.number}", self._key)

    def _ours(self, repo: str, issue: Issue, label: str) -> bool:
        """Whether somebody who may write put the state label on, the fleet's own account for one: then a ticket was
        here and its comment was deleted. A label by anybody else must not make work for people.
        """
        act = self._forge.last_labelled(repo, issue.number, label)
        return act is not None and self._forge.permission(repo, act.login).may_write

    def _place(self, repo: str, issue: Issue) -> Place:
        try:
            text = clean(issue.title, issue.body)
        except UsageError:
            text = IssueText(_TITLE, "")
        return Place(repo, issue, text, tenant=DEFAULT_TENANT, at=self._clock.now())

    def _today(self, place: Place) -> Place:
        base = self._forge.repository(place.repo).default_branch
        limits = self._limits(place.repo, base)
        return Place(place.repo, place.issue, place.text, base, self._agent(place.repo), limits, place.tenant, place.at)
