"""Makes one locked environment; standard library only, since nothing is installed yet.

Laws: an environment is used only when its ``.ready`` file exists, and that is written last, so that one killed half-way
is never used. Everything is made under a lock that the kernel lets go with the last process of the maker, pip included;
so two first runs never write into the same folder, and what a killed one left is made anew. Folders stand outside the
checkout and can be read by every uid, since agents and gates run under uids of their own.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from environment import READY, REQUIREMENTS, SetUpError, disk_full, interpreter, is_ready


def make_all(missing: Mapping[str, str]) -> None:
    """Makes these environments (name → folder) side by side. Raises SetUpError with the first problem."""
    where = os.path.dirname(next(iter(missing.values())))
    print(f"Setting up on first use, about a minute: {', '.join(missing)} in {where}", file=sys.stderr, flush=True)
    problems: list[SetUpError] = []

    def one(name: str, folder: str) -> None:
        try:
            make(folder, name)
        except SetUpError as error:
            problems.append(error)

    threads = [threading.Thread(target=one, args=pair) for pair in missing.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


@contextmanager
def locked(path: str) -> Iterator[int]:
    """Holds the lock file; its descriptor goes to every child, so that an orphaned pip keeps the lock until it ends."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


def make(folder: str, name: str) -> None:
    """Makes the environment unless somebody else just did. Raises SetUpError and leaves nothing behind."""
    try:
        with locked(os.path.join(os.path.dirname(folder), f".{os.path.basename(folder)}.lock")) as lock:
            if is_ready(folder):
                return
            shutil.rmtree(folder, ignore_errors=True)
            try:
                _install(folder, os.path.join(REQUIREMENTS, f"{name}.txt"), lock)
                _open_to_all(folder)
                with open(os.path.join(folder, READY), "w") as ready:
                    ready.write(f"{name} {sys.version}\n")
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise SetUpError(disk_full(os.path.dirname(folder))) from error
        raise SetUpError(f"Could not write {folder}: {error.strerror}; mend that and run again.") from error


def _install(folder: str, lock_file: str, lock: int) -> None:
    """uv where it is on PATH, else venv and pip; either way exactly the locked files, by their hashes."""
    python = interpreter()
    inside = os.path.join(folder, "bin", "python")
    wanted = ["--require-hashes", "--no-deps", "-r", lock_file]
    uv = shutil.which("uv")
    if uv:
        problem = _run([uv, "venv", "-q", "--python", python, folder], folder, lock) or _run(
            [uv, "pip", "install", "-q", "--python", inside, "--link-mode", "copy", *wanted], folder, lock
        )
        if problem is None:
            return
        shutil.rmtree(folder, ignore_errors=True)  # uv reads other settings than pip: where it fails, pip may do
    _check_venv(python)
    pip = [inside, "-I", "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-input"]
    problem = _run([python, "-I", "-m", "venv", folder], folder, lock) or _run([*pip, *wanted], folder, lock)
    if problem is not None:
        raise SetUpError(problem)


def _check_venv(python: str) -> None:
    try:
        __import__("venv")
        __import__("ensurepip")
    except ImportError:
        raise SetUpError(
            f"{python} comes without its venv module; "
            "install it (Debian, Ubuntu: apt install python3-venv) or put uv on PATH.",
            exit_code=2,
        ) from None


def _run(argv: Sequence[str], folder: str, lock: int) -> str | None:
    """Runs one step; returns None, or the sentence that says why it failed. Raises SetUpError when the disk is full."""
    dropped = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    clean = {key: value for key, value in os.environ.items() if key not in dropped}
    with tempfile.TemporaryFile() as output:
        code = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=clean, pass_fds=[lock], check=False
        ).returncode
        if code == 0:
            return None
        output.seek(0)
        said = [line.strip() for line in output.read().decode(errors="replace").splitlines() if line.strip()]
    where = os.path.dirname(folder)
    if any("No space left on device" in line for line in said) or shutil.disk_usage(where).free < 1 << 20:
        raise SetUpError(disk_full(where))
    errors = [line for line in said if line.upper().startswith("ERROR")] or said[-1:] or ["it said nothing"]
    return (
        f"Installing the locked packages failed ({os.path.basename(argv[0])} ended with {code}: {errors[0][:300]}); "
        "check the network and pip's settings, then run again."
    )


def _open_to_all(folder: str) -> None:
    """Files as installed under any umask: readable by all, writable by the owner only."""
    for top, _, files in os.walk(folder):
        os.chmod(top, 0o755)
        for name in files:
            path = os.path.join(top, name)
            if not os.path.islink(path):
                os.chmod(path, 0o755 if os.lstat(path).st_mode & stat.S_IXUSR else 0o644)
