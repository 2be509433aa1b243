"""What a long ticket costs in tokens: the built-in loops against one that neither caches nor shortens.

Everything between the loop and the model is real (SDK, gateway, books, scripted model); only the results of tools are
made here, so that the figures are the same everywhere. The scripted model counts its cache as the vendors do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet.adapters.sandbox.null import NullSandbox
from fleet.bench.figures import Figure, Report, Target, Unit
from fleet.bench.rooms import Bench, accept, fleet, folder, import_into, issue, repository
from fleet.core.environment import Prepared
from fleet.core.errors import InternalError
from fleet.core.sandbox import Ending, Limits, SandboxResult, SandboxSpec
from fleet.core.spend import MICRO, Price, Usage, attempt_key
from fleet.core.states import State
from fleet.core.ticket import Ticket
from fleet.core.view import TicketView
from fleet.gateway.server import SOCKET, price_table
from fleet.local.client import Client
from workers.agents.base import Job
from workers.agents.model import HOST, Access, Model

if TYPE_CHECKING:
    from workers.agents.conversation import Entry, Reply

TURNS = 30
# Characters that tools answer with, turn by turn: files read, test runs, a search, small edits.
RESULTS = (16_000, 6_000, 19_000, 400, 12_000, 19_500)
_ENDLESS = 10**12
LIMITS = {
    "FLEET_LIMITS_USD": "1000", "FLEET_LIMITS_MODEL_CALLS": "1000", "FLEET_LIMITS_TOKENS": "1000000000",
    "FLEET_BUDGET_DAY_USD": "1000", "FLEET_LIMITS_UNKNOWN_PRICES": "true",
}  # fmt: skip
FORMS = ("anthropic", "openai")
CACHED_SHARE, RATIO = Target(70.0, at_least=True), Target(0.5)


@dataclass(frozen=True, slots=True)
class Turn:
    """One call. ``size``: bytes of the request; ``usage`` and ``usd`` as the gateway booked them."""

    size: int
    usage: Usage
    usd: float

    @property
    def share(self) -> float:
        """Percent of the input that came from the cache."""
        given = self.usage.input_tokens + self.usage.cached_tokens
        return 100 * self.usage.cached_tokens / given if given else 0.0


def measure(bench: Bench) -> Report:
    """Each loop as it is, and the same turns without caching and shortening."""
    turns = bench.few(TURNS, 6)
    figures: list[Figure] = []
    details: list[str] = []
    with folder() as place, fleet(bench, **LIMITS) as client:
        ticket = _at_work(bench, client, place)
        for form in FORMS:
            desk = Desk(bench, client, ticket, place)
            ours = desk.play(form, turns)
            plain = desk.play(form, turns, most_chars=_ENDLESS)
            figures += compare(form, ours, plain, price())
            details += table(form, ours, plain)
    answers = f"tools answer {min(RESULTS):,} to {max(RESULTS):,} characters, some two at once"
    what = f"a scripted ticket of {turns} turns through gateway and scripted model; {answers}"
    return Report("tokens", what, tuple(figures), tuple(details))


# --- figures ---------------------------------------------------------------------------------------------------------
def compare(form: str, ours: Sequence[Turn], plain: Sequence[Turn], price: Price) -> list[Figure]:
    """``plain``: the same turns unshortened; the naive loop pays each of its tokens at the full price."""
    paid = sum(turn.usd for turn in ours)
    naive = sum(price.micros(uncached(turn.usage)) for turn in plain) / MICRO
    money = f"${paid:.3f} against ${naive:.3f}"
    return [
        Figure(f"{form}: bytes of a request", Unit.COUNT, tuple(float(turn.size) for turn in ours)),
        Figure(f"{form}: cached share of the input", Unit.PERCENT, (share(ours),), CACHED_SHARE),
        Figure(f"{form}: tokens sent, of the naive loop's", Unit.RATIO, (given(ours) / given(plain),)),
        Figure(f"{form}: cost, of the naive loop's", Unit.RATIO, (paid / naive,), RATIO, money),
    ]


def uncached(usage: Usage) -> Usage:
    return Usage(usage.input_tokens + usage.cached_tokens, usage.output_tokens)


def given(turns: Sequence[Turn]) -> int:
    """Tokens of input, from the cache or not."""
    return sum(turn.usage.input_tokens + turn.usage.cached_tokens for turn in turns)


def share(turns: Sequence[Turn]) -> float:
    """Percent of all input that came from the cache."""
    return 100 * sum(turn.usage.cached_tokens for turn in turns) / given(turns)


def table(form: str, ours: Sequence[Turn], plain: Sequence[Turn]) -> list[str]:
    rows = [f"{form:<10} turn     bytes    tokens    cached   naive bytes"]
    for number, (mine, other) in enumerate(zip(ours, plain, strict=True), 1):
        tokens = mine.usage.input_tokens + mine.usage.cached_tokens
        rows.append(f"{'':<10} {number:>4} {mine.size:>9} {tokens:>9} {mine.share:>7.1f} % {other.size:>13}")
    return rows


def price() -> Price:
    """What the scripted model costs, which is what Anthropic's Sonnet 5 does."""
    found = price_table(Path("/nonexistent")).find("rehearsal", "rehearsal/any")
    if found is None:
        raise InternalError("The scripted model has no price.")
    return found


# --- the loop at work ------------------------------------------------------------------------------------------------
class Results(NullSandbox):
    """Runs nothing: each command "answers" a text of its own, of the length that is next."""

    def __init__(self) -> None:
        self._calls = 0

    def run(
        self,
        spec: SandboxSpec,
        on_output: Callable[[bytes], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> SandboxResult:
        text = filler(self._calls, RESULTS[self._calls % len(RESULTS)])
        self._calls += 1
        return SandboxResult(Ending.EXITED, 0, text.encode(), b"", False, 0.1)


def filler(seed: int, length: int) -> str:
    """Text without repetition, always the same for a seed."""
    lines = (hashlib.sha256(f"{seed} {at}".encode()).hexdigest() for at in range(length // 65 + 1))
    return "\n".join(lines)[:length]


# Tokens of input that was not cached, of output and of cached input; US dollars.
Booked = tuple[tuple[int, int, int], float]


def booked(client: Any, key: str) -> Booked:
    """What the gateway counted for this attempt so far."""
    told = client.get(f"{HOST}/spend", headers={"x-api-key": key}).json()["attempt"]
    return (told["input_tokens"], told["output_tokens"], told["cached_tokens"]), told["usd"]


class Heard:
    """Implements ``workers.agents.model.Model`` around another: measures each call."""

    def __init__(self, model: Model, before: Booked) -> None:
        self._model = model
        self._before = before
        self.name = model.name
        self.turns: list[Turn] = []

    def ask(self, entries: Sequence[Entry], client: Any, key: str) -> Reply:
        sizes: list[int] = []
        client.event_hooks["request"].append(lambda request: sizes.append(len(request.content)))
        reply = self._model.ask(entries, client, key)
        now, before = booked(client, key), self._before
        self._before = now
        self.turns.append(
            Turn(
                sizes[0], Usage(*(mine - old for mine, old in zip(now[0], before[0], strict=True))), now[1] - before[1]
            )
        )
        return reply


@dataclass(slots=True)
class Desk:
    """Where the loops work: with the key of an attempt that is alive, since the gateway serves no other."""

    bench: Bench
    client: Client
    ticket: Ticket
    place: Path
    plays: int = 0

    def play(self, form: str, turns: int, most_chars: int = 0) -> list[Turn]:
        """Plays the whole ticket. ``most_chars`` 0: the loop's own."""
        from workers.agents import anthropic_model, openai_model, session  # noqa: PLC0415 - as above

        # A name of its own for each play, so that none finds the cache of another.
        self.plays += 1
        file = self.place / f"{form}-{self.plays}.toml"
        file.write_text(script(turns), encoding="utf-8")
        name = f"rehearsal/{file}"
        model: Model = (
            anthropic_model.AnthropicModel(name, "rehearsal/anthropic")
            if form == "anthropic"
            else openai_model.ResponsesModel(name, "rehearsal/openai/v1")
        )
        job = self._job()
        with Access(job.gateway, job.key).client() as client:
            heard = Heard(model, booked(client, job.key))
        agent = session.ModelAgent(heard, most_chars or session.MOST_CHARS)
        agent.start(job)
        for _ in agent.events():
            pass
        ended = agent.outcome()
        if ended is not None:
            raise InternalError(f"The loop on {form} ended early: {ended.detail}")
        return heard.turns

    def _job(self) -> Job:
        home = self.client.home
        secret = home.gateway_key(self.client.wiring.ids)
        empty = Prepared("none", (), (), (), Path("/usr/bin/python3"), "none")
        return Job(
            ticket=self.ticket,
            attempt=1,
            digest="",
            workspace=self.place,
            read_only=(),
            prepared=empty,
            sandbox=Results(),
            limits=Limits(),
            clock=self.bench.clock,
            poll=lambda: None,
            gateway=home.layout.runtime / SOCKET,
            key=attempt_key(secret, self.ticket.id, 1),
        )


def script(turns: int) -> str:
    """Turns with a thought and a call each; the last one finishes."""
    rows = [f'title = "{turns} turns"']
    for number in range(1, turns):
        thought = json.dumps(f"Step {number}: {filler(number, 300)}")
        calls = [f"sed -n {number},{number + 80}p src/part_{number}.py", f"pytest -q tests/test_{number}.py"]
        rows.append(f"[[turn]]\ntext = {thought}")
        rows += [_call(command) for command in calls[: 2 if number % 3 == 0 else 1]]
    rows.append('[[turn]]\n[[turn.call]]\ntool = "finish"\ninput = { summary = "Done." }')
    return "\n\n".join(rows) + "\n"


def _call(command: str) -> str:
    return f'[[turn.call]]\ntool = "shell"\ninput = {{ command = {json.dumps(command)} }}'


def _at_work(bench: Bench, client: Client, place: Path) -> Ticket:
    """A ticket whose attempt only waits."""
    repo = import_into(client, repository(place / "small", {"a.py": "VALUE = 1\n"}))
    made = accept(client, repo, issue(client, repo, "Wait"), "command:sleep 600")

    def runs() -> bool:
        view: TicketView | None = client.ledger().view(made.id)
        return view is not None and view.state is State.RUNNING

    bench.until(runs, "the ticket is not at work")
    return replace(made, title="A long ticket", body=filler(0, 3000))
