"""One stateless git process for one HTTP request: bytes stream in and out, nothing is held whole."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

_CHUNK = 64 * 1024


async def stream_git(
    argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], body: AsyncIterator[bytes]
) -> AsyncIterator[bytes]:
    """Runs ``argv`` with ``body`` on its standard input and yields its standard output.

    ``env`` is the complete environment. The process and its children are killed when the reader goes away or the body
    fails; the body's exception is then raised here. Ends after the process did.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        cwd=cwd,
        env=dict(env),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdin is not None and process.stdout is not None
    feeding = asyncio.create_task(_feed(process.stdin, body, process.pid))
    try:
        while chunk := await process.stdout.read(_CHUNK):
            yield chunk
        await process.wait()
        if not feeding.done():  # git answered without reading everything
            feeding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await feeding
    finally:
        feeding.cancel()
        if process.returncode is None:
            _kill(process.pid)
            await asyncio.shield(process.wait())


async def _feed(pipe: asyncio.StreamWriter, body: AsyncIterator[bytes], pid: int) -> None:
    try:
        async for chunk in body:
            pipe.write(chunk)
            await pipe.drain()
    except (BrokenPipeError, ConnectionResetError):
        return  # git ended first; what it said is its answer
    except BaseException:
        _kill(pid)
        raise
    finally:
        with contextlib.suppress(OSError):
            pipe.close()


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
