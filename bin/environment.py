"""Prints where the locked Python environments are, one folder a line, and has the missing ones made.

Run by the shell scripts beside it: ``environment.py core tools``. It stands before every command of the fleet, so it
imports next to nothing; making one is in make_environment.py, which is read on first use only.
"""

import hashlib
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
REQUIREMENTS = os.path.join(os.path.dirname(HERE), "requirements")
READY = ".ready"
ROOT_CACHE = "/var/lib/fleet/cache"  # root's home is closed to the uids that agents run under
LAST_RESORT = "/var/tmp"


class SetUpError(Exception):
    """One sentence: what happened, what to do. ``exit_code`` is 2 when the machine lacks what must be there, else 1."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def disk_full(folder: str) -> str:
    return f"The disk that holds {folder} is full; free about 500 MB there and run the command again."


def cache_folder() -> str:
    """FLEET_CACHE, or the first place that we own and can write: the system's for root, the user's cache, /var/tmp."""
    uid = os.getuid()
    chosen = os.environ.get("FLEET_CACHE", "")
    if chosen:
        if chosen.startswith("/") and is_ours(chosen, uid):
            return chosen
        raise SetUpError(
            f"FLEET_CACHE names {chosen}, which is no absolute folder that only uid {uid} may write; mend it."
        )
    home, xdg = os.environ.get("HOME", ""), os.environ.get("XDG_CACHE_HOME", "")
    choices = [os.path.join(LAST_RESORT, f"ticketfleet-{uid}")]
    if uid == 0:
        choices.insert(0, ROOT_CACHE)
    elif xdg.startswith("/"):
        choices.insert(0, os.path.join(xdg, "ticketfleet"))
    elif home.startswith("/"):
        choices.insert(0, os.path.join(home, ".cache", "ticketfleet"))
    for folder in choices:
        if is_ours(folder, uid):
            return folder
    raise SetUpError(
        f"{' and '.join(choices)} cannot be used, since only uid {uid} may own and write them; "
        "mend one, or set FLEET_CACHE to a folder of your own."
    )


def is_ours(folder: str, uid: int) -> bool:
    """A folder that another uid owns or may write is refused: code from it would run as us."""
    try:
        if not os.path.isdir(folder):
            os.makedirs(folder, mode=0o755, exist_ok=True)  # another first run may make it at this very moment
        found = os.lstat(folder)
    except OSError as error:
        if error.errno == 28:  # ENOSPC
            raise SetUpError(disk_full(folder)) from error
        return False
    is_folder = found.st_mode & 0o170000 == 0o040000  # not a link to one
    return is_folder and found.st_uid == uid and not found.st_mode & 0o022 and os.access(folder, os.W_OK | os.X_OK)


def interpreter() -> str:
    """The real file of the Python that runs this, past links, shims and virtual environments."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def folder_of(cache: str, name: str) -> str:
    """Where the environment of one lock stands: another lock or another Python gives another folder."""
    with open(os.path.join(REQUIREMENTS, f"{name}.txt"), "rb") as lock:
        digest = hashlib.sha256(lock.read())
    digest.update(f"\n{interpreter()} {sys.version}".encode())
    return os.path.join(cache, f"{'env' if name == 'core' else name}-{digest.hexdigest()[:16]}")


def is_ready(folder: str) -> bool:
    return os.path.exists(os.path.join(folder, READY)) and os.access(os.path.join(folder, "bin", "python"), os.X_OK)


def main(names: list[str]) -> int:
    os.umask(0o022)
    try:
        cache = cache_folder()
        folders = {name: folder_of(cache, name) for name in names}
        missing = {name: folder for name, folder in folders.items() if not is_ready(folder)}
        if missing:
            sys.path.insert(0, HERE)
            from make_environment import make_all  # noqa: PLC0415 - costs 40 ms, which a second run must not pay

            make_all(missing)
    except SetUpError as error:
        print(f"fleet: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    print("\n".join(folders.values()))
    return 0


if __name__ == "__main__":
    sys.modules["environment"] = sys.modules["__main__"]  # one SetUpError, not two
    sys.exit(main(sys.argv[1:]))
