"""What the fleet changes in kombu's Redis transport, as functions from a transport class to one.

``guarded``: nothing that comes out of the broker is believed. ``lasting``: a channel keeps its client; the stock one
builds a new object, with a table of 170 entries, for every single command. Imports neither kombu nor Celery.
"""

from __future__ import annotations

import functools
import logging
from queue import Empty
from typing import Any

from fleet.adapters import wakeup

log = logging.getLogger("fleet.celery")

MALFORMED = (ValueError, TypeError, KeyError, AttributeError, RecursionError)


@functools.cache
def lasting(transport: Any) -> Any:
    """``transport`` whose channels use one client for all that does not block; itself when it is such a one."""
    if getattr(transport, "is_lasting", False):
        return transport
    base_channel: Any = transport.Channel

    class LastingChannel(base_channel):  # type: ignore[misc]
        _kept: Any = None

        def _create_client(self, asynchronous: bool = False) -> Any:
            if asynchronous:
                return super()._create_client(asynchronous=True)
            kept = self._kept
            # After a fork or a reconnect the channel has another pool.
            if kept is None or kept.connection_pool is not self.pool:
                kept = self._kept = super()._create_client()
            return kept

    class LastingTransport(transport):  # type: ignore[misc]
        Channel = LastingChannel
        is_lasting = True

    return LastingTransport


def guarded(transport: Any, tasks: frozenset[str]) -> Any:
    """``transport``, lasting, with checks at its two mouths: the queues (only ``tasks``) and the broadcasts."""
    kept: Any = lasting(transport)
    base_channel: Any = kept.Channel

    class GuardedChannel(base_channel):  # type: ignore[misc]
        def _brpop_read(self, **options: Any) -> Any:
            try:
                return super()._brpop_read(**options)
            except MALFORMED as error:
                log.warning("dropped a message that is no JSON (%s)", type(error).__name__)
                raise Empty from error

        def _deliver_fanout_message(self, message: Any, exchange: str) -> Any:
            try:
                self.Message(message, channel=self)
                return super()._deliver_fanout_message(message, exchange)
            except MALFORMED as error:
                log.warning("dropped a malformed broadcast (%s)", type(error).__name__)
                return True

    class GuardedTransport(kept):  # type: ignore[misc]
        Channel = GuardedChannel

        def _deliver(self, message: Any, queue: str) -> None:
            if "pidbox" in queue:
                super()._deliver(message, queue)
                return
            try:
                clean = wakeup.written(wakeup.read(message, tasks), message, queue)
            except ValueError as error:
                log.warning("dropped a message on queue %s: %s", queue, error)
                return
            super()._deliver(clean, queue)

    return GuardedTransport
