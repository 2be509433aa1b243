"""What the bench of the supervisor counts."""

from __future__ import annotations

import pytest

from fleet.adapters.archive_store import ArchiveStore
from fleet.adapters.shard_store import ShardStore
from fleet.bench import standing
from fleet.core.archive import Segment
from fleet.core.ticket import shard_of
from tests.bench.test_measures import bench


@pytest.mark.slow
def test_what_the_ledger_let_go_of_counts_as_logged() -> None:
    with standing.room(bench(), 3) as place:
        told = 3 * len(standing.history(place.tickets[0]))
        assert standing.logged(place) == told
        one, archive = place.tickets[0], ArchiveStore(place.redis)
        rows, shard = archive.rows(one.id, "0", 5), shard_of(one.id)
        epoch, _ = ShardStore(place.redis, "test").lease(shard)
        archive.seal(shard, epoch, one.id, [Segment("logs/one", 1, 5, rows[-1][0], "")])
        assert len(archive.rows(one.id, "0", 100)) == len(standing.history(one)) - 5
        assert standing.logged(place) == told
