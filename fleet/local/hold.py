"""The pause of the whole fleet, kept beside its store: a person's word that no loss of the store may take back."""

from __future__ import annotations

from fleet.adapters.ledger import RedisLedger
from fleet.adapters.telemetry import log
from fleet.core.codec import CodecError, decode, encode
from fleet.core.view import Hold
from fleet.local.home import Home, write_private

FILE = "hold.json"


def put(home: Home, ledger: RedisLedger, hold: Hold | None) -> None:
    """Pauses the whole fleet, or lets it go on; on disk, and in the ledger, before this returns.

    The file is first, both ways: what is cut off in between leaves the fleet paused, and the command is said again.
    """
    path = home.layout.home / FILE
    if hold is None:
        path.unlink(missing_ok=True)
    else:
        write_private(path, encode(hold).decode())
    ledger.hold(hold)


def again(home: Home, ledger: RedisLedger) -> None:
    """Pauses a fleet whose store was lost while it was paused. A file that cannot be read still says that much."""
    path = home.layout.home / FILE
    if not path.exists() or ledger.held() is not None:
        return
    try:
        hold = decode(path.read_bytes(), Hold)
    except (OSError, CodecError):
        hold = Hold("somebody", 0.0)
    ledger.hold(hold)
    log("intake").warning("the store was lost while the whole fleet was paused; it is paused again", by=hold.by)
