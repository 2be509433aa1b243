"""A pool of threads that do not keep the process alive: a worker's drain ends in time even when a task does not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, wait
from queue import SimpleQueue
from typing import Any


class Daemons(Executor):
    """Threads that do not keep the process alive, started when first needed."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._threads: list[threading.Thread] = []
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._open: set[Future[Any]] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._open.add(future)
        future.add_done_callback(self._open.discard)
        self._work.put((future, lambda: fn(*args, **kwargs)))
        if len(self._threads) < min(self._limit, len(self._open)):
            thread = threading.Thread(target=self._serve, daemon=True, name=f"task-{len(self._threads)}")
            self._threads.append(thread)
            thread.start()
        return future

    @property
    def threads(self) -> int:
        """How many were started."""
        return len(self._threads)

    def drain(self, seconds: float) -> bool:
        """True when everything that was begun ended within ``seconds``; what was not begun is dropped."""
        for future in tuple(self._open):
            future.cancel()
        return not wait(tuple(self._open), seconds).not_done

    def _serve(self) -> None:
        while (item := self._work.get()) is not None:
            future, call = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:  # the future carries it to whoever asks
                future.set_exception(error)
