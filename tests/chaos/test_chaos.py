"""The deck of disturbances on real processes: every ticket ends as in the undisturbed run (I6).

bin/test plays a sample with 5 tickets each; all of it with 50: bin/test --long tests/chaos. CHAOS_SEED chooses the
sample, the order and the moments.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet.chaos.deck import whole_deck
from tests.e2e.kit import ORDER, environment

SEED = os.environ.get("CHAOS_SEED", "1")


@pytest.mark.invariant("I1")
@pytest.mark.invariant("I3")
@pytest.mark.invariant("I4")
@pytest.mark.invariant("I6")
@pytest.mark.invariant("I19")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("tickets", "sample"),
    [
        pytest.param(5, 8, marks=pytest.mark.timeout(900), id="some"),
        pytest.param(50, 0, marks=[pytest.mark.long, pytest.mark.timeout(4 * 3600)], id="all"),
    ],
)
def test_whatever_is_disturbed_the_end_is_the_undisturbed_one(
    tickets: int, sample: int, capfd: pytest.CaptureFixture[str], record_property: Callable[..., None]
) -> None:
    words = ("chaos", "--json", "--seed", SEED, "--tickets", str(tickets), "--sample", str(sample), "--lanes", "3")
    with tempfile.TemporaryDirectory(prefix="fe", dir="/var/tmp") as home:
        done = subprocess.run(
            [*ORDER, *words], env=environment(Path(home)), cwd="/", capture_output=True, text=True, check=False
        )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    said = "\n".join(json.dumps(row) for row in rows)
    with capfd.disabled():
        print(f"\nseed {SEED}\n{said}")
    record_property("chaos", said)
    assert rows, done.stderr[-2000:]
    result, played = rows[-1], rows[:-1]
    assert (result["lost"], result["doubled"], result["changed"], result["wrong"]) == (0, 0, 0, []), done.stderr[-4000:]
    assert done.returncode == 0, done.stderr[-2000:]
    disturbed = [row for row in played if not row["disturbance"].startswith("nothing")]
    assert len(disturbed) == (sample or len(whole_deck()))
    assert all(row["kills"] + row["faults"] and row["tickets"] == tickets for row in disturbed)
    assert result["kills"] > 0 and result["faults"] > 0, "a run that killed nothing shows nothing"
