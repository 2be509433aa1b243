"""Labelled issues become tickets, by whatever way they are heard of: a webhook, its redelivery, or a sweep.

Every way ends here, and this looks at the forge as it is now: what was said on the way is a hint. So one act of putting
the label on is one ticket, in any order and number (I2), and only of somebody who may write (I13, I21).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fleet.adapters.telemetry import about_ticket, log
from fleet.core.errors import UsageError
from fleet.core.events import CancelRequested, Envelope, EventData, PullRequestClosed, Source
from fleet.core.forge import ForgeClient, Issue, LabelEvent, Page, Permission
from fleet.core.labels import ALL
from fleet.core.ports import Clock, Ledger
from fleet.core.states import State
from fleet.core.tenants import Tenants, others, tenant_of
from fleet.core.ticket import TicketLimits
from fleet.core.view import TicketView
from fleet.intake.decide import Request
from fleet.intake.recovery import Recovery
from fleet.intake.service import Accepted, IntakeService
from fleet.intake.text import clean
from fleet.intake.watched import Watched


@dataclass(frozen=True, slots=True)
class Ignored:
    """Nothing was started; ``why`` is for the log and for whoever sent the webhook."""

    why: str


def refusal(issue: Issue, act: LabelEvent | None, permission: Permission, watched: Watched) -> str:
    """Why this label starts nothing; empty when it does. Pure."""
    if issue.pull:
        return "it is a pull request"
    if not issue.open:
        return "the issue is closed"
    if watched.label.lower() not in {label.lower() for label in issue.labels}:
        return f"it does not carry the label {watched.label} (any more)"
    if act is None:
        return "the forge does not say who put the label on"
    if not permission.may_write:
        return f"{act.login} may not write to {watched.repo}"
    if not watched.agent:
        return "no agent is named for it; set agents.default or agents.route, or say `fleet up --repo … --agent …`"
    return ""


def lost(view: TicketView, issue: Issue | None) -> str:
    """Why work on an open ticket must stop, from its issue as it is now (None: deleted); empty when it goes on. Pure.

    The fleet swaps labels by putting the new one on first, so there is no moment without any.
    """
    if view.state.terminal:
        return ""
    if issue is None:
        return "the issue was deleted"
    if not issue.open:
        return "the issue was closed"
    mine = {view.ticket.label.lower(), *ALL}
    if view.ticket.label and not mine & {label.lower() for label in issue.labels}:
        return "its label was removed"
    return ""


class LabelIntake:
    """``limits``: those of (owner/name, branch); ``agents``: who begins there and who follows, for the one named.
    ``recovery`` knows the tickets of a lost ledger.

    Used by one thread at a time.
    """

    def __init__(
        self,
        ledger: Ledger,
        forge: ForgeClient,
        clock: Clock,
        limits: Callable[[str, str], TicketLimits],
        agents: Callable[[str, str, str], tuple[str, ...]] = lambda repo, branch, agent: (agent,),
        recovery: Recovery | None = None,
        tenants: Tenants | None = None,
    ) -> None:
        self._ledger = ledger
        self._forge = forge
        self._clock = clock
        self._limits = limits
        self._agents = agents
        self._recovery = recovery
        self._tenants = tenants or {}
        self._intake = IntakeService(ledger, clock)
        self._log = log("intake")

    def consider(self, watched: Watched, number: int) -> Accepted | Ignored:
        """Starts a ticket for the issue if its label says so. On disk before this returns ``Accepted`` (I1).

        Raises TemporaryError when forge or ledger are away, ParkError when the token may not look.
        """
        issue = self._forge.issue(watched.repo, number)
        act = self._forge.last_labelled(watched.repo, number, watched.label)
        # Asked of the labeller, not of the author: everybody may open an issue.
        permission = self._forge.permission(watched.repo, act.login) if act else Permission.NONE
        why = refusal(issue, act, permission, watched)
        if why or act is None:
            return self._ignored(watched, number, why)
        base = self._forge.repository(watched.repo).default_branch
        tenant = tenant_of(self._tenants, watched.repo)
        try:
            text = clean(issue.title, issue.body)
            first, *route = self._agents(watched.repo, base, watched.agent)
            request = Request(
                repo=watched.repo,
                number=number,
                text=text,
                base=base,
                agent=first,
                requested_by=act.login,
                tenant=tenant,
                others=others(self._tenants, tenant),
                limits=self._limits(watched.repo, base),
                label=watched.label,
                trigger=str(act.id),
                acted_at=act.at,
                route=tuple(route),
            )
            if self._recovery is not None:
                accepted = self._recovery.accept(self._intake, request, issue)
            else:
                accepted = self._intake.accept(request)
        except UsageError as error:
            return self._ignored(watched, number, str(error))
        if accepted.new:
            with about_ticket(accepted.ticket, 0, self._ledger.incarnation):
                self._log.info(
                    "ticket accepted",
                    issue=accepted.ticket.issue,
                    by=act.login,
                    hidden_characters=text.hidden,
                    hidden_comments=text.comments,
                )
        return accepted

    def stop(self, view: TicketView, page: Page, by: str) -> bool:
        """Ends or cancels a ticket whose issue no longer wants it; True when something was said (I20)."""
        issue = page.issues[0] if page.issues else None
        why = lost(view, issue)
        if not why:
            return False
        if (issue is None or not issue.open) and view.pull_request is not None and self.closed(view, by):
            return True  # merging it closed the issue: that is the end that was hoped for
        self._tell(view, CancelRequested(by, why))
        return True

    def closed(self, view: TicketView, by: str) -> bool:
        """Tells the end of a ticket's pull request; False while it is open."""
        if view.pull_request is None or view.state is not State.IN_REVIEW:
            return False
        pull = self._forge.pull_request(view.ticket.repo, view.pull_request.number)
        if pull.open:
            return False
        self._tell(view, PullRequestClosed(pull.merged, by))
        return True

    def cancel(self, view: TicketView, by: str, why: str) -> None:
        if not view.state.terminal:
            self._tell(view, CancelRequested(by, why))

    def _tell(self, view: TicketView, data: EventData) -> None:
        event = Envelope(view.ticket.tenant, view.id, 0, 0, self._clock.now(), data, Source.INTAKE)
        self._ledger.send(Source.INTAKE, [event], durable=True)

    def _ignored(self, watched: Watched, number: int, why: str) -> Ignored:
        self._log.warning("label ignored", issue=f"{watched.repo}#{number}", label=watched.label, why=why)
        return Ignored(why)
