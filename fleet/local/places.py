"""Up to where the comments of each repository were looked at: a small file in the home."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from fleet.intake.comments import Place, TakenOrder
from fleet.local.home import Home, write_private

FILE = "comments.json"


class HomePlaces:
    """Implements ``fleet.intake.comments.Places``; written by the intake alone."""

    def __init__(self, home: Home) -> None:
        self._path = home.layout.home / FILE
        self._known: dict[str, Place] = {}
        if self._path.exists():
            rows = json.loads(self._path.read_text())
            self._known = {repo: _place(row) for repo, row in rows.items()}

    def get(self, repo: str) -> Place | None:
        return self._known.get(repo)

    def put(self, repo: str, place: Place) -> None:
        if self._known.get(repo) != place:
            self._known[repo] = place
            rows = {name: asdict(one) for name, one in self._known.items()}
            write_private(self._path, json.dumps(rows, indent=1))


def _place(row: dict[str, Any]) -> Place:
    """``taken`` is missing in a file of an earlier version."""
    taken = (TakenOrder(int(one["comment"]), str(one["ticket"]), float(one["at"])) for one in row.get("taken", ()))
    return Place(int(row["comment"]), float(row["at"]), tuple(taken))
