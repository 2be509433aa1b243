"""An attempt host in a temporary home, for every test that runs whole attempts on plain files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.adapters.slots import remove_tree
from tests.workers.kit import Attempts, make_repo

FILES = {"a.py": b"import os\r\nx = 1\n", "b/c.py": b"print(1)\n"}


@pytest.fixture
def attempts(tmp_path: Path) -> Iterator[Attempts]:
    made = Attempts(tmp_path / "home", make_repo(tmp_path / "source", FILES))
    yield made
    made.close()
    remove_tree(made.layout.work)
    remove_tree(made.layout.runtime)
