"""The same way with everything real: git, sandbox, gates with baseline, push and pull request at the local forge."""

from __future__ import annotations

from fleet.bench.figures import Figure, Report, Unit
from fleet.bench.rooms import Bench, accept, fleet, folder, import_into, issue, named, repository
from fleet.core.errors import InternalError
from fleet.core.states import State
from fleet.core.view import TicketView
from fleet.local.client import Client

AGENT = "command:ruff check --fix --select F401 ."
_FILES = {
    "shop/__init__.py": "",
    "shop/prices.py": "import os\nimport sys\n\n\ndef price(net: int) -> int:\n    return net * 119 // 100\n",
    "tests/test_prices.py": "from shop.prices import price\n\n\ndef test_it() -> None:\n    assert price(100) == 119\n",
    "pyproject.toml": '[tool.pytest.ini_options]\npythonpath = ["."]\n',
}


def measure(bench: Bench) -> Report:
    """A first ticket prepares the environments; the others are measured, all at once."""
    count = bench.few(6, 2)
    with folder() as place, fleet(bench) as client:
        path = repository(place / "shop", _FILES)
        repo = import_into(client, path)
        _all_in_review(bench, client, repo, 1)
        begun = bench.clock.now()
        views = _all_in_review(bench, client, repo, count)
        seconds = max(view.since for view in views) - begun
        waits = tuple(view.since - view.ticket.accepted_at for view in views)
    return Report(
        "real",
        f"{count} tickets at once with real git, sandbox, gates and push; ruff removes imports, pytest runs",
        (
            Figure("tickets", Unit.RATE, (count / seconds,)),
            Figure("accepted → pull request", Unit.SECONDS, waits),
        ),
    )


def _all_in_review(bench: Bench, client: Client, repo: str, count: int) -> list[TicketView]:
    tickets = [accept(client, repo, issue(client, repo, "Remove unused imports"), AGENT).id for _ in range(count)]
    views: list[TicketView] = []

    def rest() -> bool:
        views[:] = [view for view in client.ledger().views() if view.id in tickets and not view.state.active]
        return len(views) == count

    bench.until(rest, "the tickets do not end")
    if any(view.state is not State.IN_REVIEW for view in views):
        raise InternalError(f"A ticket failed: {named(views)}.")
    return views
