"""A small model of one ticket: a stale and a fresh attempt, their publishers, kills, doubled wake-ups, a cancel.

Every look and the effect that relies on it are separate steps, so that anything may come between them: a model that
merges them lets mutants live. ``explore`` visits every state that any interleaving reaches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

# A commit: of which attempt, and whether a byte of it was changed after the gates.
Head = tuple[int, int]


class Violated(Exception):
    """A promise does not hold in a state that can be reached."""


@dataclass(frozen=True)
class Rules:
    """The protections, each of which can be switched off, and the bounds of the model."""

    single_use: bool = True
    wanted: bool = True
    lease: bool = True
    unique: bool = True
    bound: bool = True
    result_last: bool = True
    counted_first: bool = True
    unbegun: bool = True
    capped: bool = True
    cap: int = 2
    turns: int = 1
    kills: int = 1


class Pull(NamedTuple):
    head: Head
    open: bool


class Proc(NamedTuple):
    """``what``: work or publish; ``at``: the step it is about to take; the rest is what it believes."""

    what: str
    attempt: int
    turn: int
    at: str
    head: Head
    seen: Head | None = None
    found: bool = False
    made: bool = False


class World(NamedTuple):
    """``number``: of the newest attempt, ``counted``: how many were counted; ``started``: how many really began.

    ``sent`` are wake-ups, each of which may arrive any number of times, ``begun`` those that somebody began, ``told``
    words on their way to the supervisor; ``late``: the attempt that was lost last, until its successor is known to
    have been claimed (0: none). ``silenced``: a publisher died between opening a pull request and telling.
    """

    phase: str = "working"
    number: int = 1
    counted: int = 1
    started: int = 0
    turn: int = 0
    sent: frozenset[tuple[str, int, int]] = frozenset({("work", 1, 0)})
    begun: frozenset[tuple[str, int, int]] = frozenset()
    procs: tuple[Proc, ...] = ()
    passed: frozenset[Head] = frozenset()
    branch: Head | None = None
    fence: int = 0
    pulls: tuple[Pull, ...] = ()
    told: frozenset[tuple[str, int]] = frozenset()
    closing: bool = False
    silenced: bool = False
    late: int = 0
    kills: int = 0


def explore(rules: Rules, limit: int = 2_000_000) -> int:
    """How many states there are. Raises Violated with the story of the first that breaks a promise."""
    start = World(counted=1 if rules.counted_first else 0)
    came: dict[World, tuple[World, str] | None] = {start: None}
    todo = [start]
    while todo:
        world = todo.pop()
        last = True
        try:
            for label, after in moves(rules, world):
                last = False
                if after not in came:
                    came[after] = (world, label)
                    todo.append(after)
            if last:
                at_rest(world)
        except Violated as error:
            raise Violated(f"{error}\n" + "\n".join(_story(came, world))) from None
        assert len(came) < limit, "the model grew out of its bounds"
    return len(came)


def _story(came: dict[World, tuple[World, str] | None], world: World) -> list[str]:
    labels: list[str] = []
    step = came[world]
    while step is not None:
        labels.append(step[1])
        step = came[step[0]]
    return labels[::-1]


def moves(rules: Rules, world: World) -> Iterator[tuple[str, World]]:
    yield from _supervisor(rules, world)
    for what, attempt, turn in world.sent:
        begun = _begin(rules, world, Proc(what, attempt, turn, "begin", (attempt, 0)))
        if begun is not world:
            yield f"a wake-up begins {what} {attempt}.{turn}", begun
    for index, proc in enumerate(world.procs):
        others = world.procs[:index] + world.procs[index + 1 :]
        name = f"{proc.what} {proc.attempt}.{proc.turn}"
        if world.kills < rules.kills:
            silent = world.silenced or (proc.made and proc.at in ("verify", "tell"))
            yield (
                f"{name} is killed before it can {proc.at}",
                world._replace(procs=others, kills=world.kills + 1, silenced=silent),
            )
        for after, moved in _step(rules, world._replace(procs=others), proc):
            procs = _among(others, moved) if moved is not None else others
            yield f"{name}: {proc.at}", after._replace(procs=procs)


# --- the supervisor ------------------------------------------------------------------------------------------------
def _supervisor(rules: Rules, world: World) -> Iterator[tuple[str, World]]:
    for kind, attempt in world.told:
        yield f"{kind} of attempt {attempt} is taken in", _heard(rules, world, kind, attempt)
    if world.phase in ("working", "publishing"):
        yield "somebody cancels", world._replace(phase="cancelled", closing=True)
        if world.phase == "publishing" and world.turn + 1 < rules.turns:
            order = ("publish", world.number, world.turn + 1)
            again = world._replace(turn=world.turn + 1, sent=world.sent | {order})
            yield "the publisher counts as lost", again
        yield "the attempt counts as lost", _next(rules, world)
    if world.closing:
        closed = tuple(pull._replace(open=False) for pull in world.pulls)
        yield "the publisher closes what it finds", world._replace(pulls=closed, closing=False)


def _next(rules: Rules, world: World) -> World:
    """Another attempt, or the end. What was ordered of this one is withdrawn."""
    if rules.capped and world.counted >= rules.cap:
        return world._replace(phase="escalated", closing=True)
    number = world.number + 1
    if number > rules.cap + 1:
        return world._replace(phase="escalated", closing=True)
    return world._replace(
        phase="working",
        number=number,
        counted=world.counted + 1 if rules.counted_first else world.counted,
        turn=0,
        sent=world.sent | {("work", number, 0)},
        late=world.number if world.phase == "working" else 0,
    )


def _heard(rules: Rules, world: World, kind: str, attempt: int) -> World:
    after = world._replace(told=world.told - {(kind, attempt)})
    if kind == "ready" and world.phase == "working" and attempt == world.late:
        return _late(rules, world, after)
    if kind == "ready" and world.phase == "working" and attempt == world.number:
        return after._replace(phase="publishing", turn=0, late=0, sent=world.sent | {("publish", attempt, 0)})
    if kind == "published":
        if world.phase == "publishing" and attempt == world.number:
            if not world.pulls:
                raise Violated("I5: the ticket is in review without a pull request")
            return after._replace(phase="review")
        if world.phase in ("cancelled", "escalated"):
            return after._replace(closing=True)
    return after


def _late(rules: Rules, world: World, after: World) -> World:
    """The attempt that was lost hands over; one step of the ledger, which knows whether its successor was claimed."""
    successor = ("work", world.number, 0)
    if successor in world.begun:
        if rules.unbegun:
            return after
        raise Violated(f"I3: attempt {world.late} hands over after attempt {world.number} was claimed")
    number, counted = world.late, world.counted - 1 if rules.counted_first else world.counted
    sent = (world.sent - {successor}) | {("publish", number, 0)}
    return after._replace(phase="publishing", number=number, counted=counted, turn=0, late=0, sent=sent)


# --- the workers ---------------------------------------------------------------------------------------------------
def _step(rules: Rules, world: World, proc: Proc) -> Iterator[tuple[World, Proc | None]]:
    match proc.at:
        case "work":
            done = world._replace(passed=world.passed | {proc.head}, told=world.told | {("ready", proc.attempt)})
            yield done._replace(counted=done.counted + (not rules.counted_first)), None
        case "pass":
            yield _pass(rules, world, proc)
            yield _pass(rules, world, proc._replace(head=(proc.attempt, 1)))  # a byte was changed after the gates
        case "look":
            yield world, proc._replace(at="push", seen=world.branch)
        case "push":
            yield _push(rules, world, proc)
        case "find":
            yield world, proc._replace(at="create", found=bool(world.pulls) and rules.unique)
        case "create":
            yield _create(rules, world, proc)
        case "verify":
            right = bool(world.pulls) and world.pulls[-1].head == proc.head
            told = world._replace(told=world.told | {("published", proc.attempt)}) if proc.made else world
            yield (world, proc._replace(at="tell")) if right else (told, None)
        case "tell":
            yield world._replace(told=world.told | {("published", proc.attempt)}), None


def _begin(rules: Rules, world: World, proc: Proc) -> World:
    """One atomic step of the ledger; the same world when it is refused."""
    effect = (proc.what, proc.attempt, proc.turn)
    if effect in world.begun:
        if rules.single_use:
            return world
        raise Violated(f"I3: {proc.what} {proc.attempt}.{proc.turn} was begun twice")
    over = world.phase not in ("working", "publishing")
    stale = proc.attempt != world.number or (proc.what == "publish") is not (world.phase == "publishing")
    if rules.wanted and (over or stale or (proc.what == "publish" and proc.turn != world.turn)):
        return world
    if over:
        raise Violated(f"I20: {proc.what} {proc.attempt} was begun after the ticket was {world.phase}")
    at = "pass" if proc.what == "publish" else "work"
    after = world._replace(begun=world.begun | {effect}, procs=_among(world.procs, proc._replace(at=at)))
    if proc.what == "work":
        after = after._replace(started=after.started + 1)
        if after.started > rules.cap:
            raise Violated(f"I8: attempt {after.started} of {rules.cap} begins to work")
    return after


def _among(procs: tuple[Proc, ...], proc: Proc) -> tuple[Proc, ...]:
    return tuple(sorted((*procs, proc), key=lambda one: one[:3]))


def _pass(rules: Rules, world: World, proc: Proc) -> tuple[World, Proc | None]:
    if rules.bound and proc.head not in world.passed:
        return world, None
    if not rules.result_last:
        world = world._replace(told=world.told | {("published", proc.attempt)})
    return world, proc._replace(at="look")


def _push(rules: Rules, world: World, proc: Proc) -> tuple[World, Proc | None]:
    """The forge compares; what was seen must be nobody's, or an earlier attempt's."""
    following = proc._replace(at="find", seen=None)
    if proc.seen == proc.head:
        return world, following
    if proc.seen is not None and proc.seen[0] >= proc.attempt:
        return world, None
    if rules.lease and world.branch != proc.seen:
        return world, None
    if proc.head not in world.passed:
        raise Violated(f"I5: {proc.head} is pushed and passed no gates")
    if proc.attempt < world.fence:
        raise Violated(f"I3: attempt {proc.attempt} moves the branch after attempt {world.fence}")
    pulls = tuple(pull._replace(head=proc.head) for pull in world.pulls)
    return world._replace(branch=proc.head, fence=proc.attempt, pulls=pulls), following


def _create(rules: Rules, world: World, proc: Proc) -> tuple[World, Proc | None]:
    verify = proc._replace(at="verify", found=False)
    if proc.found or (rules.unique and any(pull.open for pull in world.pulls)):
        return world, verify
    assert world.branch is not None
    pulls = (*world.pulls, Pull(world.branch, True))
    if sum(pull.open for pull in pulls) > 1:
        raise Violated("I4: a second pull request is opened")
    if world.branch not in world.passed:
        raise Violated(f"I5: a pull request shows {world.branch}, which passed no gates")
    return world._replace(pulls=pulls), verify._replace(made=True)


def at_rest(world: World) -> None:
    """Nothing can happen any more."""
    if world.phase in ("working", "publishing"):
        raise Violated(f"I1: the ticket stays {world.phase} for ever")
    # A publisher that dies between opening and telling, after the ticket was closed, is found by nobody but people.
    if world.phase == "cancelled" and any(pull.open for pull in world.pulls) and not world.silenced:
        raise Violated("I20: the ticket is cancelled and its pull request stays open")
