"""What counts as memory of a command: its own file systems, and nothing of the machine's."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from fleet.adapters.clock import SystemClock
from fleet.adapters.sandbox import bubblewrap
from fleet.adapters.sandbox.meter import Meter
from fleet.core.sandbox import MIB, Ending, Limits, Tier
from tests.sandbox.conftest import SMALL, Ground, open_box
from tests.support.mutants import Mutant

FILL = "i=0; while [ $i -lt 12 ]; do head -c 10485760 /dev/zero > {}/f$i; i=$((i+1)); done; sleep 60"


def a_young_command_is_judged() -> Ending | None:
    """As bwrap's first process is before it has changed its root: this very process sees the machine's /tmp."""
    mounts = bubblewrap.own_memory(os.getpid())
    meter = Meter(Limits(memory_bytes=0, processes=100), (), SystemClock(), lambda: mounts)
    assert os.statvfs("/tmp").f_bfree < os.statvfs("/tmp").f_blocks, "something lies on the machine's disk"
    return meter.check(())


def test_before_its_root_is_changed_nothing_of_the_machine_counts_as_its_memory() -> None:
    assert a_young_command_is_judged() is None


def test_a_meter_that_counts_the_machines_folders_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    Mutant("fleet.adapters.sandbox.bubblewrap:own_memory", "!= _device(name)", "!= None").install(monkeypatch)
    assert a_young_command_is_judged() is Ending.MEMORY


@pytest.mark.needs("bwrap")
@pytest.mark.invariant("I9")
@pytest.mark.parametrize("folder", ["/dev/shm", "/tmp"])
def test_what_lies_on_its_own_memory_file_systems_counts(ground: Ground, folder: str) -> None:
    box = open_box(Tier.BUBBLEWRAP, ground)
    result = box.sh(FILL.format(folder), limits=replace(SMALL, memory_bytes=100 * MIB))
    assert result.ending is Ending.MEMORY
