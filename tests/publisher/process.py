"""One publisher as a process of its own, so that a test can kill it: ``python -m tests.publisher.process JSON``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from fleet.adapters.artifacts import FolderArtifacts
from fleet.adapters.clock import SystemClock
from fleet.adapters.forge_client import HubClient
from fleet.adapters.git import BareRepo, HttpToken
from fleet.adapters.ledger import RedisLedger
from fleet.adapters.redis_client import RedisAddress, connect
from fleet.publisher.service import Publisher, Remote
from fleet.publisher.tasks import PublisherTasks


def main(text: str) -> None:
    say = json.loads(text)
    clock = SystemClock()
    ledger = RedisLedger(connect(RedisAddress(socket=Path(say["socket"])), "publisher", say["password"]))
    remote = Remote(say["url"], HttpToken(say["base"] + "/", say["token"]))
    publisher = Publisher(
        HubClient(say["base"] + "/api/v3", say["token"], clock),
        ledger,
        FolderArtifacts(Path(say["artifacts"])),
        clock,
        lambda _: BareRepo(Path(say["store"])),
        lambda _: remote,
        say["key"].encode(),
    )
    getattr(PublisherTasks(ledger, publisher, clock, "host"), say["task"])(say["ticket"], 1, 1)


if __name__ == "__main__":
    main(sys.argv[1])
