"""What is left after each round, held against the undisturbed runs: lost, doubled, changed, and how late. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from fleet.chaos.deck import Kill, KillAt, Nothing, Round, name_of, with_model

IN_REVIEW = "in_review"
COLUMNS = ("rounds", "tickets", "kills", "faults", "lost", "doubled", "changed", "stale")


@dataclass(frozen=True, slots=True)
class End:
    """How one ticket ended. ``place``: which of its round it was; the same place does the same work in every round.

    ``tree``: of the pull request's head. ``heads``: the head as told by the ticket, the branch and the person's own
    repository. ``seconds``: from acceptance to its last state. ``stale``: its pushes that were refused.
    """

    place: int
    state: str
    tree: str
    pulls: int
    heads: frozenset[str]
    seconds: float
    attempts: int = 1
    stale: int = 0
    detail: str = ""

    @property
    def lost(self) -> bool:
        return self.state != IN_REVIEW or self.pulls == 0

    @property
    def doubled(self) -> bool:
        return self.pulls > 1 or (not self.lost and len(self.heads) != 1)


@dataclass(frozen=True, slots=True)
class Played:
    """One round. ``struck``: how often something was killed, frozen or broken. ``refused``: stale words put aside."""

    round: Round
    struck: int
    ends: tuple[End, ...]
    refused: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One disturbance over all its rounds. ``kills`` are processes that died; ``faults`` freezes and broken lines.

    ``late``: seconds beyond the undisturbed median, per ticket, at least 0.
    """

    name: str
    rounds: int = 0
    tickets: int = 0
    kills: int = 0
    faults: int = 0
    lost: int = 0
    doubled: int = 0
    changed: int = 0
    stale: int = 0
    late: tuple[float, ...] = ()
    idle_rounds: int = 0
    errors: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "disturbance": self.name,
            "rounds": self.rounds,
            "tickets": self.tickets,
            "kills": self.kills,
            "faults": self.faults,
            "lost": self.lost,
            "doubled": self.doubled,
            "changed": self.changed,
            "stale_refused": self.stale,
            "recover_median": round(median(self.late), 1) if self.late else None,
            "recover_max": round(max(self.late), 1) if self.late else None,
            "rounds_without_effect": self.idle_rounds,
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """``wrong``: one line for everything that must not be; empty when all promises held."""

    rows: tuple[Row, ...]
    wrong: tuple[str, ...] = ()
    calm: Mapping[bool, float] = field(default_factory=dict)

    @property
    def totals(self) -> dict[str, int]:
        return {name: sum(getattr(row, name) for row in self.rows) for name in COLUMNS}

    def text(self) -> str:
        """The table for people."""
        lines = [_cells("disturbance", COLUMNS, "recover", "(max)")]
        for row in self.rows:
            late = (f"{median(row.late):.1f} s", f"{max(row.late):.1f} s") if row.late else ("–", "–")
            lines.append(_cells(row.name, [getattr(row, name) for name in COLUMNS], *late))
        return "\n".join([*lines, _cells("all", list(self.totals.values())).rstrip()])


def _cells(name: str, cells: Sequence[object], median: str = "", most: str = "") -> str:
    middle = "".join(f"{cell!s:>9}" for cell in cells)
    return f"{name:<34}{middle}{median:>10}{most:>9}"


def judge(played: Sequence[Played]) -> Verdict:
    """Every ticket of a disturbed round must end as the one at its place did in the undisturbed rounds.

    A round that struck nothing shows nothing, and is as wrong as one that lost a ticket.
    """
    calm = [one for one in played if isinstance(one.round.what, Nothing)]
    trees: dict[tuple[bool, int], str] = {}
    for one in calm:
        for end in one.ends:
            trees.setdefault((with_model(one.round.what), end.place), end.tree)
    usual = {
        kind: median(times)
        for kind in (False, True)
        if (times := [end.seconds for one in calm if with_model(one.round.what) is kind for end in one.ends])
    }
    names = dict.fromkeys(name_of(one.round.what) for one in sorted(played, key=_calm_first))
    rows: list[Row] = []
    wrong: list[str] = []
    for name in names:
        mine = [one for one in played if name_of(one.round.what) == name]
        rows.append(_row(name, mine, trees, usual))
        wrong += [line for one in mine for line in _wrong(one, trees)]
    if len(rows) == sum(name_of(Nothing(kind)) in names for kind in (False, True)):
        wrong.append("Nothing was disturbed, so nothing was shown.")
    return Verdict(tuple(rows), tuple(wrong), usual)


def _calm_first(one: Played) -> tuple[bool, str]:
    return not isinstance(one.round.what, Nothing), name_of(one.round.what)


def _row(
    name: str, rounds: Sequence[Played], trees: Mapping[tuple[bool, int], str], usual: Mapping[bool, float]
) -> Row:
    ends = [end for one in rounds for end in one.ends]
    model = with_model(rounds[0].round.what)
    disturbed = not isinstance(rounds[0].round.what, Nothing)
    kills = isinstance(rounds[0].round.what, Kill | KillAt)
    late = [max(0.0, end.seconds - usual[model]) for end in ends if not end.lost] if model in usual else []
    return Row(
        name,
        len(rounds),
        sum(one.round.tickets for one in rounds),
        sum(one.struck for one in rounds if kills),
        sum(one.struck for one in rounds if not kills),
        sum(one.round.tickets - len(one.ends) for one in rounds) + sum(end.lost for end in ends),
        sum(end.doubled for end in ends),
        sum(_changed(end, trees.get((model, end.place))) for end in ends),
        sum(end.stale for end in ends) + sum(one.refused for one in rounds),
        tuple(late),
        sum(disturbed and not one.struck for one in rounds),
        tuple(one.error for one in rounds if one.error),
    )


def _changed(end: End, tree: str | None) -> bool:
    """A place that no undisturbed run shows cannot be called the same."""
    return not end.lost and end.tree != tree


def _wrong(one: Played, trees: Mapping[tuple[bool, int], str]) -> Iterable[str]:
    where = f"{name_of(one.round.what)}, round {one.round.number}"
    if one.error:
        yield f"{where}: {one.error}"
    if not one.struck and not isinstance(one.round.what, Nothing):
        yield f"{where}: nothing was struck, so nothing was shown"
    if len(one.ends) != one.round.tickets:
        yield f"{where}: {one.round.tickets - len(one.ends)} tickets were never seen again"
    for end in one.ends:
        if end.lost:
            yield f"{where}: ticket {end.place} is lost: {end.state}, {end.pulls} pull requests. {end.detail[:200]}"
        if end.doubled:
            yield f"{where}: ticket {end.place} is doubled: {end.pulls} pull requests, heads {sorted(end.heads)}"
        if _changed(end, trees.get((with_model(one.round.what), end.place))):
            yield f"{where}: ticket {end.place} made another tree than in the undisturbed run"


def put_aside(before: int, after: int) -> int:
    """Stale words of one round. Fewer than ``before`` means that the store was emptied, and what it kept with it."""
    return after if after < before else after - before
