"""Noticing that an agent stalls, and the next step against it. Pure.

Four causes: silence (no word for too long), idleness (words, but nothing new), and two kinds of loop, over calls *with
their results*: whoever polls something that changes does not loop. The ladder is climbed one rung at a time, each once
until something new happens; first of all the guard is asked for a sign. A command cannot listen: only its deadline
ends it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from fleet.core.events import CommandSeen, Nudged, Rung, SignGiven
from fleet.core.frozen import replace
from fleet.core.states import State
from fleet.core.view import TicketView, Watch
from supervisor.policy import Policy

# Calls that are remembered; a loop of more than these is not seen as one.
CALLS = 12
_SEEN = 64
_ERROR = "!"

# What the guard says by itself: the agent may be silent all the same.
GUARDS_OWN = (CommandSeen, SignGiven)
_LADDER = tuple(Rung)
# A silent agent waits for its model or for a command: it hears nothing before it is interrupted.
_USELESS = {"silence": Rung.NUDGE}
_TEXT = {
    "silence": "Nothing was heard from you for {seconds:.0f} s, so what you waited for was stopped. Go on another way.",
    "idleness": "For {seconds:.0f} s nothing new has happened: no changed file, no new result. Say in one sentence "
    "what keeps you, then take the smallest step that moves the task on, or finish.",
    "loop": "You made the same call {same} times and got the same result. It will not change: try something else.",
    "errors": "The same error came {errors} times in a row. Read it again, look at what it "
    "names, and change the approach.",
    "alternation": "You go back and forth between two calls without anything new. Decide, and take another step.",
}


@dataclass(frozen=True, slots=True)
class Quiet:
    """Seconds on the owner's monotonic clock: since the agent's last word, since something new, since the last rung."""

    word: float = 0.0
    progress: float = 0.0
    rung: float = 0.0


def watched(watch: Watch, call: str, digest: str, exit_code: int) -> Watch:
    """``watch`` after a call ended. A call whose result is new is progress and ends the streak."""
    name = hashlib.sha256(f"{call}\0{digest}\0{exit_code}".encode()).hexdigest()[:12]
    calls = (*watch.calls, name + (_ERROR if exit_code else ""))[-CALLS:]
    after = replace(watch, asking=False, doing="", calls=calls)
    if name in watch.seen:
        return after
    return replace(after, seen=(*watch.seen, name)[-_SEEN:], progress=watch.progress + 1, rung=0, sign="")


def nudged(watch: Watch, nudge: Nudged) -> Watch:
    """``watch`` after a step of the ladder."""
    after = replace(watch, rung=_LADDER.index(nudge.rung) + 1)
    match nudge.rung:
        case Rung.PROBE:
            return replace(after, sign="")
        case Rung.STOP:
            return replace(after, stopping=f"The agent stalled ({nudge.cause}) and did not recover. {nudge.text}")
        case _:
            return after


def sign_words(sign: SignGiven) -> str:
    """What a guard answered, for people."""
    processes = f"{sign.processes} process{'' if sign.processes == 1 else 'es'}"
    used = f"{sign.cpu_seconds:.0f} s of CPU used, last word {sign.quiet_seconds:.0f} s ago"
    return f"the loop is {sign.loop}; {processes}, {used}"


def cause(watch: Watch, quiet: Quiet, policy: Policy) -> str:
    """Why the agent counts as stalled; empty while it does not."""
    if not watch.begun:
        return ""
    if quiet.word > (policy.model_silence if watch.asking else policy.silence):
        return "silence"
    calls = watch.calls
    if _one(calls, policy.same_calls):
        return "loop"
    if _one(calls, policy.same_errors) and calls[-1].endswith(_ERROR):
        return "errors"
    last = calls[-min(policy.alternations, CALLS) :]
    if 1 < policy.alternations <= len(calls) and last[0] != last[1] and len({*last[::2]}) == len({*last[1::2]}) == 1:
        return "alternation"
    # A model may be slower than that: its call under way is for ``model_silence`` to judge.
    idle = quiet.progress - (quiet.word if watch.asking else 0.0)
    return "idleness" if idle > policy.no_progress else ""


def _one(calls: tuple[str, ...], most: int) -> bool:
    """Whether the last ``most`` calls are one and the same, with one and the same result."""
    return 0 < most <= len(calls) and len(set(calls[-most:])) == 1


def next_rung(view: TicketView, quiet: Quiet, policy: Policy) -> Nudged | None:
    """The step to take now; None while all is well or the last step still has time to help."""
    if view.state is not State.RUNNING or view.agent.startswith("command:"):
        return None
    why = cause(view.watch, quiet, policy)
    if not why or quiet.rung < _patience(view.watch, policy):
        return None
    rung = next((rung for rung in _LADDER[view.watch.rung :] if rung is not _USELESS.get(why)), Rung.STOP)
    seconds = quiet.word if why == "silence" else quiet.progress
    text = (
        ""
        if rung is Rung.PROBE
        else _TEXT[why].format(seconds=seconds, same=policy.same_calls, errors=policy.same_errors)
    )
    return Nudged(rung, why, text, round(seconds, 1))


def _patience(watch: Watch, policy: Policy) -> float:
    """Seconds that the last step has to help. A probe helps nobody: it is over with its answer."""
    if not watch.rung:
        return 0.0
    if _LADDER[watch.rung - 1] is not Rung.PROBE:
        return policy.between_rungs
    return 0.0 if watch.sign else policy.probe_within
