"""Publishing: H to its branch, one draft pull request with evidence, statuses, the status comment, the local ref.

Every step finds its own result when it is done again, so that a publisher may die anywhere (I4, I6). Nothing here
approves, merges, marks ready, or moves a branch that is not exactly where the fleet left it (I3, I13).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from fleet.adapters.crash import crash_here
from fleet.adapters.git import BareRepo, HttpToken, PushStatus
from fleet.adapters.git_run import network_error
from fleet.core import labels
from fleet.core.archive import DamagedSegment
from fleet.core.codec import encode
from fleet.core.errors import FleetError, ParkError, TemporaryError, UsageError
from fleet.core.events import Envelope, Published, PublishFailed, PublishProblem
from fleet.core.forge import ForgeClient, ForgePull, pull_request_marker
from fleet.core.gates import GatePass, GatePlanRecord, GateRecord, NoPass
from fleet.core.ports import Artifacts, Clock, Ledger
from fleet.core.sealing import SKEW_S, SealedState, marker, seal, sealed
from fleet.core.spend import Spent
from fleet.core.states import Reason, State
from fleet.core.story import CHANGE, PARTIAL, artifact, story
from fleet.core.view import PullRequest, TicketView
from fleet.publisher import escalation, texts, workflows
from fleet.publisher import plan as decide
from fleet.publisher.attempts import TOLD
from fleet.publisher.evidence import Evidence, build
from fleet.publisher.local_ref import LocalRefError, write_local_ref
from fleet.publisher.markdown import code, visible

_LOOKS = 5
_REMEMBERED = 100
_WORKFLOW_BYTES = 1 << 20


class Stop(FleetError):
    """Publishing ends here with a problem that the supervisor acts on."""

    def __init__(self, problem: PublishProblem, detail: str, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.problem = problem
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Remote:
    """Git over HTTP of one repository. ``auth`` is the write token, for this address and no other.

    ``runs_workflows``: the forge runs the repository's workflow files on what is pushed to it.
    """

    url: str
    auth: HttpToken | None
    runs_workflows: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """One publication: what was asked for, and the pass that allows it."""

    view: TicketView
    proof: GatePass
    plan: GatePlanRecord
    records: tuple[GateRecord, ...]
    store: BareRepo
    remote: Remote


class Publisher:
    """``stores`` opens the fleet's own bare repository of owner/name, ``remotes`` says where it is pushed to.

    ``state_key`` seals the status comment; ``trusted_workflows``: see ``GithubSettings``. ``spent``: what
    the gateway's book says of a ticket.
    Used by one thread at a time per ticket.
    """

    def __init__(
        self,
        forge: ForgeClient,
        ledger: Ledger,
        artifacts: Artifacts,
        clock: Clock,
        stores: Callable[[str], BareRepo],
        remotes: Callable[[str], Remote],
        state_key: bytes,
        trusted_workflows: Sequence[str] = (),
        spent: Callable[[str], Spent] | None = None,
    ) -> None:
        self._forge = forge
        self._ledger = ledger
        self._artifacts = artifacts
        self._clock = clock
        self._stores = stores
        self._remotes = remotes
        self._key = state_key
        self._trusted = trusted_workflows
        self._spent = spent
        self._last: dict[str, SealedState] = {}

    # --- the three orders -------------------------------------------------------------------------------------

    def publish(self, view: TicketView, attempt: int, round: int) -> Published | PublishFailed:
        """Never raises for what the forge, git or the records say: that is the answer."""
        try:
            return self._publish(self._work(view, attempt, round))
        except Stop as stop:
            return PublishFailed(round, stop.problem, stop.message, stop.retry_after)
        except TemporaryError as error:
            return PublishFailed(round, PublishProblem.FORGE_DOWN, str(error), error.retry_after)
        except (ParkError, UsageError) as error:
            return PublishFailed(round, PublishProblem.FORBIDDEN, str(error))

    def status(self, view: TicketView, notes: Sequence[str] = ()) -> None:
        """Brings the one status comment on the issue up to date, and its label: what a lost ledger is rebuilt from."""
        ticket = view.ticket
        told = story(self._log(ticket.id)) if view.state in TOLD else ()
        kept = functools.partial(self._kept, ticket.id)
        if told:
            self._artifacts.put(escalation.name(ticket.id), encode(escalation.bundle(view, told, kept)))
        text = texts.status_comment(view, self._sealed(view), notes, told, kept)
        self._forge.put_comment(ticket.repo, ticket.number, marker(ticket.id), text)
        self._forge.swap_labels(ticket.repo, ticket.number, *labels.swap(view.state, ticket.label))

    def _sealed(self, view: TicketView) -> str:
        spent = self._spent(view.id) if self._spent is not None else None
        author = self._forge.login(view.ticket.repo)
        ledger, now = self._ledger.incarnation(), self._clock.now()
        # Looked at after its name was read: with the name of a ledger that took the place of the view's own, a ticket
        # that was lost would look like one that a command is just about to tell, and nobody would take it up again.
        known = ledger if self._ledger.view(view.id) is not None else ""
        state = sealed(view, spent, incarnation=known, author=author, at=now)
        before = self._last.get(view.id)
        if before is not None and replace(before, at=now) == state and now - before.at < SKEW_S / 2:
            state = before  # said twice: the comment need not be edited
        self._last = {**dict(list(self._last.items())[-_REMEMBERED:]), view.id: state}
        return seal(state, self._key)

    def _kept(self, ticket: str, attempt: int) -> str:
        """The artifact that an attempt left: its change, else what it had done by its end; empty when there is none."""
        names = (artifact(ticket, attempt, what) for what in (CHANGE, PARTIAL))
        return next((one for one in names if self._artifacts.path(one) is not None), "")

    def _log(self, ticket: str) -> Iterator[Envelope]:
        """What can be read of it: a comment without the story is better than none."""
        cursor = "0"
        with suppress(DamagedSegment):
            while entries := self._ledger.log(ticket, cursor):
                cursor = entries[-1][0]
                yield from (event for _, event in entries)

    def withdraw(self, view: TicketView, number: int, why: str) -> bool:
        """Closes the ticket's pull request and says why (I20); False when it is not the fleet's own to close.

        ``number`` 0: whichever a publisher that died left behind. The ticket's own one, which a person may have opened
        again, is not that.
        """
        ticket = view.ticket
        found = self._forge.find_pull_request(ticket.repo, ticket.branch, pull_request_marker(ticket.id))
        own = view.pull_request.number if view.pull_request and view.state is not State.CANCELLED else 0
        if found is None or (number and found.number != number) or not found.ours or not found.open:
            return False
        if found.number == own:
            return False
        mark = f"<!-- fleet:withdrawn ticket={ticket.id} -->"
        because = "the ticket was cancelled: " if view.cancel else ""
        reason = f"{mark}\nThe fleet closes its pull request because {because}{code(why, 400)}"
        self._forge.put_comment(ticket.repo, found.number, mark, reason)
        self._forge.close_pull_request(ticket.repo, found.number)
        return True

    # --- publishing, step by step -----------------------------------------------------------------------------

    def _work(self, view: TicketView, attempt: int, round: int) -> Work:
        """Everything from the records; the messages that led here are not believed."""
        ticket = view.ticket
        store = self._stores(ticket.repo)
        head = store.rev(decide.head_ref(ticket.id, attempt)) or ""
        if not head:
            raise Stop(PublishProblem.NO_PASS, "The gated commit is not in the fleet's own repository.")
        plan = self._ledger.gate_plan(ticket.id, attempt, head)
        records = self._ledger.gate_records(ticket.id, attempt, head)
        verdict = self._ledger.verdict(ticket.id, attempt, round)
        approvals = self._ledger.approvals(ticket.id)
        proof = decide.pass_for(view, attempt, head, plan, records, verdict, approvals)
        if isinstance(proof, NoPass) or plan is None:
            reasons = proof.reasons if isinstance(proof, NoPass) else ()
            raise Stop(PublishProblem.NO_PASS, f"Commit {head[:12]} has no gate pass: {'; '.join(reasons)[:600]}.")
        previous = view.pull_request.head_sha if view.pull_request else ""
        if head != previous and not decide.parents_fit(_parents(store, head), proof.base_sha, previous):
            raise Stop(PublishProblem.NO_PASS, f"Commit {head[:12]} does not stand on the base that was gated.")
        return Work(view, proof, plan, records, store, self._remotes(ticket.repo))

    def _publish(self, work: Work) -> Published:
        ticket, proof = work.view.ticket, work.proof
        changed = frozenset(
            path for change in work.store.changes(proof.base_sha, proof.head) for path in (change.path, change.old_path)
        )
        behind, late = self._base_move(work, changed)
        evidence = build(work.view, proof, work.plan, work.records, sorted(changed), behind, late)
        self._look_at_workflows(work)
        self._push(work)
        crash_here("publisher.pushed")
        pull = self._pull_request(work, evidence)
        crash_here("publisher.pr_created")
        notes, local = self._local(work)
        notes += self._decorate(work, evidence, pull, local, notes)
        whole = replace(evidence, notes=evidence.notes + notes)
        self._artifacts.put(f"tickets/{ticket.id}/evidence.json", encode(whole))
        crash_here("publisher.before_told")
        return Published(pull.number, pull.url, proof.head, proof.base_sha, local, behind)

    def _look_at_workflows(self, work: Work) -> None:
        """Raises Stop when a push would let the forge run this commit with the repository's secrets."""
        ticket, head = work.view.ticket, work.proof.head
        if not work.remote.runs_workflows:
            return
        names = [entry.path for entry in work.store.files(head) if workflows.is_workflow(entry.path)]
        files = {
            name: (work.store.read(head, name, _WORKFLOW_BYTES) or b"").decode("utf-8", "replace") for name in names
        }
        found = workflows.untrusted(workflows.risks(files, ticket.branch), ticket.repo, self._trusted)
        if found:
            said = " ".join(f"{visible(risk.path, 100)}: {risk.why}. {risk.change}" for risk in found[:3])
            more = f" And {len(found) - 3} more." if len(found) > 3 else ""
            raise Stop(PublishProblem.FORBIDDEN, f"Nothing was pushed. {said}{more} Then: fleet retry {ticket.id}")

    def _base_move(self, work: Work, changed: frozenset[str]) -> tuple[int, str]:
        """How many commits base is ahead of what was gated, and what is awkward about them.

        Raises Stop when the gates must see them first.
        """
        ticket, store, gated = work.view.ticket, work.store, work.proof.base_sha
        ref = f"refs/publisher/{ticket.id}/base"
        store.fetch(work.remote.url, (f"+refs/heads/{ticket.base}:{ref}",), work.remote.auth)
        now = store.rev(ref) or ""
        if now == gated:
            return 0, ""
        linear = store.is_ancestor(gated, now)
        paths = frozenset(p for change in store.changes(gated, now) for p in (change.path, change.old_path))
        conflicts = store.merge_tree(now, work.proof.head).conflicts if linear else ()
        move = decide.BaseMove(store.count(gated, now), linear, paths, conflicts)
        inputs = frozenset(path for path in paths if decide.is_gate_input(path))
        what, why = decide.drift(move, changed, inputs, work.view.failed(Reason.BASE_MOVED.value))
        if what is decide.Drift.REGATE:
            raise Stop(PublishProblem.BASE_MOVED, f"Gates must run again: {why}.")
        return move.behind, f"Published although {why}: the gates ran again often enough." if why else ""

    def _push(self, work: Work) -> None:
        """Compare-and-swap: the branch is new, or where the fleet itself left it."""
        ticket, head = work.view.ticket, work.proof.head
        there = self._remote_head(work)
        if there == head:
            return
        if there not in self._our_heads(work):
            raise Stop(
                PublishProblem.MOVED,
                f"The branch {ticket.branch} is at {there[:12]}, a commit that the fleet did not put there.",
            )
        # Kept before the push, so that a publisher that dies here leaves a branch that the next one knows.
        work.store.update_ref(decide.pushed_ref(ticket.id, work.proof.attempt, work.view.round), head)
        # The lease is on what was seen: whoever moves the branch from now on wins, and this push is refused.
        said = work.store.push(work.remote.url, head, f"refs/heads/{ticket.branch}", there, work.remote.auth)
        if said.status is PushStatus.REJECTED:
            raise Stop(PublishProblem.FORBIDDEN, f"The forge refused the push: {said.detail[:600]}")
        if said.status is PushStatus.STALE and self._remote_head(work) != head:
            raise Stop(PublishProblem.MOVED, f"Somebody else moved the branch {ticket.branch} in the meantime.")

    def _remote_head(self, work: Work) -> str:
        """Where the branch is at the forge; empty when there is none."""
        ticket, store = work.view.ticket, work.store
        ref, auth = f"refs/heads/{ticket.branch}", work.remote.auth
        settings = auth.settings() if auth else ()
        done = store.call("ls-remote", "--", work.remote.url, ref, settings=settings, check=False)
        if not done.ok:
            raise network_error(done, f"looking at {ticket.branch}")
        listed = (line.split("\t", 1) for line in done.stdout.decode("utf-8", "replace").splitlines())
        return next((sha for sha, name in listed if name == ref), "")

    def _our_heads(self, work: Work) -> frozenset[str]:
        """Where the branch may be: not there, at the published head, or where an earlier attempt or round pushed it.

        A later one's head is not ours to replace: this publisher was given up, and another went on (I3).
        """
        ticket, view = work.view.ticket, work.view
        fence = decide.pushed_ref(ticket.id, work.proof.attempt, view.round)
        pushed = work.store.refs(decide.pushed_refs(ticket.id))
        earlier = {sha for ref, sha in pushed.items() if ref < fence}
        gated = (work.store.rev(decide.head_ref(ticket.id, number)) for number in range(1, work.proof.attempt))
        earlier.update(sha for sha in gated if sha)
        return frozenset({view.pull_request.head_sha if view.pull_request else "", *earlier})

    def unknown(self, view: TicketView) -> Published | None:
        """The open pull request at the forge that ``view`` does not know of: its publisher died, or was given up.

        One that a person pushed to is theirs; nothing is said of it.
        """
        ticket = view.ticket
        found = self._forge.find_pull_request(ticket.repo, ticket.branch, pull_request_marker(ticket.id))
        known = view.pull_request.number if view.pull_request else 0
        if found is None or not found.ours or not found.open or found.number == known:
            return None
        if found.head_sha not in self._stores(ticket.repo).refs(decide.pushed_refs(ticket.id)).values():
            return None
        return Published(found.number, found.url, found.head_sha, view.base_sha)

    def _pull_request(self, work: Work, evidence: Evidence) -> ForgePull:
        """Found by branch or marker, else created; found again after any answer that leaves doubt (I4)."""
        ticket = work.view.ticket
        body = texts.pull_request_body(evidence)
        pull = self._find(work)
        if pull is None:
            try:
                pull = self._forge.create_pull_request(
                    ticket.repo,
                    title=decide.pull_request_title(ticket),
                    body=body,
                    branch=ticket.branch,
                    base=ticket.base,
                )
            except (TemporaryError, UsageError) as error:
                pull = self._find(work)
                if pull is None:
                    raise error
        wanted = texts.merged_body(pull.body, body)
        if not pull.ours:  # a person opened it from the fleet's branch; their text stays as it is
            self._forge.put_comment(ticket.repo, pull.number, pull_request_marker(ticket.id), body)
        elif pull.open and pull.body.replace("\r\n", "\n") != wanted:
            self._forge.edit_pull_request(ticket.repo, pull.number, wanted)
        return self._at_head(work, pull)

    def _find(self, work: Work) -> ForgePull | None:
        ticket = work.view.ticket
        return self._forge.find_pull_request(ticket.repo, ticket.branch, pull_request_marker(ticket.id))

    def _at_head(self, work: Work, pull: ForgePull) -> ForgePull:
        """Pushed = gated = head of the pull request (I5). A forge may show the push a moment later."""
        for _ in range(_LOOKS):
            if pull.head_sha == work.proof.head:
                return pull
            self._clock.sleep(1.0)
            pull = self._find(work) or pull
        state = "" if pull.open else ", and somebody closed it"
        detail = f"The pull request is at {pull.head_sha[:12]}, not at the gated {work.proof.head[:12]}{state}."
        raise Stop(PublishProblem.MOVED, detail)

    def _decorate(
        self, work: Work, evidence: Evidence, pull: ForgePull, local: str, notes: tuple[str, ...]
    ) -> tuple[str, ...]:
        """Labels, statuses, comment. What the token may not do is noted; it does not undo the pull request."""
        ticket = work.view.ticket
        request = PullRequest(pull.number, pull.url, work.proof.head, work.proof.base_sha, local)
        view = replace(work.view, state=State.IN_REVIEW, reason=Reason.PUBLISHED, detail="", pull_request=request)
        missed: list[str] = []
        steps: tuple[Callable[[], object], ...] = (
            lambda: self._forge.add_labels(ticket.repo, pull.number, decide.LABELS),
            lambda: self._forge.set_statuses(ticket.repo, work.proof.head, decide.statuses(evidence)),
            lambda: self._answer(work.view, view, (*notes, *missed)),
        )
        for step in steps:
            try:
                step()
            except (ParkError, UsageError) as error:
                missed.append(str(error)[:300])
        return tuple(missed)

    def _answer(self, began: TicketView, view: TicketView, notes: Sequence[str]) -> None:
        """The status comment; the ticket's own state again, should it have gone on without this publisher."""
        self.status(view, notes)
        now = self._ledger.view(view.id)
        if now is not None and (now.state, now.attempt, now.round) != (began.state, began.attempt, began.round):
            self.status(now)

    def _local(self, work: Work) -> tuple[tuple[str, ...], str]:
        """(notes, ref) in the person's own repository; a failure there is a note."""
        ticket, proof = work.view.ticket, work.proof
        if not ticket.local_path:
            return (), ""
        source = decide.head_ref(ticket.id, proof.attempt)
        try:
            path = Path(ticket.local_path)
            return (), write_local_ref(path, work.store, source, proof.head, proof.base_sha, ticket.branch)
        except (LocalRefError, OSError) as error:
            return (str(error)[:300],), ""


def _parents(store: BareRepo, head: str) -> tuple[str, ...]:
    numbers = range(1, 4)
    return tuple(sha for number in numbers if (sha := store.rev(f"{head}^{number}")))
