"""Pure work spread over the machine's cores, in forked processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Spread(Protocol):
    """As the built-in ``map`` of one iterable: answers come in the order of the questions."""

    def __call__(self, work: Callable[[Any], Any], items: Iterable[Any], /) -> Iterable[Any]: ...


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def spread(jobs: int) -> Iterator[Spread]:
    """``map`` over ``jobs`` processes; what is still under way at the end of the block is dropped.

    ``work`` and the answers must be picklable. Fork before starting threads.
    """
    if jobs <= 1:
        yield map
        return
    context = multiprocessing.get_context("fork")
    # Ctrl-C goes to the whole group; only the parent answers it.
    pool = context.Pool(jobs, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN))
    try:
        yield pool.imap
    finally:
        pool.terminate()
        pool.join()
