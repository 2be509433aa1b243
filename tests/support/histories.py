"""Stored histories: logs of whole lives with the views that they gave, written once and read by all later versions.

``python -m tests.support.histories`` records each scene of tests/supervisor/scenes.py that has no history yet below
tests/data/histories, in the folder of the events' version. What is there is never written again: see the README there.
"""

from __future__ import annotations

import gzip
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import msgspec

from fleet.adapters.acl import Role
from fleet.adapters.clock import SystemClock
from fleet.adapters.embedded_redis import EmbeddedRedis
from fleet.adapters.ids import SystemIds
from fleet.adapters.redis_client import connect
from fleet.core.archive import log_lines, pack
from fleet.core.codec import decode_event, encode, encode_event
from fleet.core.events import VERSION, Envelope, EventData
from tests.supervisor.every_scene import SCENES
from tests.supervisor.world import World

FOLDER = Path(__file__).parents[1] / "data" / "histories"
LOG, VIEW = ".jsonl.gz", ".view.json.gz"


@dataclass(frozen=True)
class History:
    """``name``: version and scene; ``view``: the stored one, as JSON has it."""

    name: str
    events: list[Envelope]
    view: dict[str, Any]


def histories(folder: Path = FOLDER) -> Iterator[History]:
    """Every one that any version recorded."""
    for path in sorted(folder.glob(f"v*/*{LOG}")):
        scene = path.name.removesuffix(LOG)
        view = msgspec.json.decode(gzip.decompress(path.with_name(scene + VIEW).read_bytes()))
        events = [decode_event(raw) for _, raw in log_lines(path.read_bytes())]
        yield History(f"{path.parent.name}/{scene}", events, view)


def differences(stored: Any, found: Any, where: str = "view") -> list[str]:
    """Where ``found`` has another value than was stored. What later versions added is no difference."""
    if isinstance(stored, dict) and isinstance(found, dict):
        return [line for key, value in stored.items() for line in differences(value, found.get(key), f"{where}.{key}")]
    if isinstance(stored, list) and isinstance(found, list) and len(stored) == len(found):
        pairs = enumerate(zip(stored, found, strict=True))
        return [line for number, (one, other) in pairs for line in differences(one, other, f"{where}[{number}]")]
    return [] if stored == found else [f"{where}: stored {stored!r}, now {found!r}"]


def record(folder: Path = FOLDER) -> list[str]:
    """Plays and writes what is missing; answers the names of what was written."""
    place = folder / f"v{VERSION}"
    place.mkdir(parents=True, exist_ok=True)
    missing = [name for name in SCENES if not (place / (name + LOG)).exists()]
    with server() as redis:
        clients = {role.value: connect(redis.address, role.value, redis.password(role)) for role in Role}
        for name in missing:
            clients["admin"].flushall()
            world = World(redis, clients)
            wanted = SCENES[name](world)
            log = world.ledgers["people"].log(wanted.id)
            rows = [(f"{number}-0", encode_event(event)) for number, (_, event) in enumerate(log, 1)]
            (place / (name + VIEW)).write_bytes(gzip.compress(encode(world.seen(wanted)) + b"\n", mtime=0))
            (place / (name + LOG)).write_bytes(pack(rows)[0])
            world.close()
        for client in clients.values():
            client.close()
    return missing


@contextmanager
def server() -> Iterator[EmbeddedRedis]:
    folder = Path(tempfile.mkdtemp(prefix="fl"))
    redis = EmbeddedRedis(folder / "home", folder / "run", SystemClock(), SystemIds())
    redis.ensure()
    try:
        yield redis
    finally:
        redis.stop()
        shutil.rmtree(folder)


def unseen() -> list[str]:
    """Kinds of events that no history holds."""
    seen = {event.kind for history in histories() for event in history.events}
    return sorted({kind.__name__ for kind in get_args(EventData)} - seen)


def main() -> None:
    written = record()
    sys.stdout.write("".join(f"recorded {name}\n" for name in written) or "nothing is missing\n")
    sys.stdout.write(f"in no history: {', '.join(unseen()) or 'nothing'}\n")


if __name__ == "__main__":
    main()
