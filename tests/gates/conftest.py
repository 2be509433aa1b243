"""Fixtures of the gates' tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ci_gates.runner import GateRunner
from fleet.adapters.artifacts import FolderArtifacts
from fleet.adapters.clock import SystemClock
from fleet.adapters.git import BareRepo
from fleet.adapters.ids import SystemIds
from fleet.adapters.layout import Layout
from fleet.adapters.slots import Slot, Slots, remove_tree
from tests.gates.world import OwnEnvironment, World, opener


@pytest.fixture
def layout() -> Iterator[Layout]:
    folder = Path(tempfile.mkdtemp(prefix="fg"))  # short, since sockets are made below it
    made = Layout(folder / "home", os.geteuid())
    made.make()
    yield made
    remove_tree(made.work)
    remove_tree(folder)
    shutil.rmtree(made.runtime, ignore_errors=True)
    with suppress(OSError):
        made.work.rmdir()


@pytest.fixture
def world(layout: Layout) -> World:
    store = BareRepo.init(layout.stores / "o__r.git")
    artifacts = FolderArtifacts(layout.artifacts)
    environment = OwnEnvironment(layout.slot_uid(1), layout.slot_gid(), layout.work)
    opened: list[Slot] = []
    runner = GateRunner(Slots(layout), opener(layout, opened), environment, artifacts, SystemClock(), SystemIds())
    return World(store, runner, artifacts, layout, environment, opened)
