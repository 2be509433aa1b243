"""The fleet's own server: one per home, on a private socket, found again by whoever comes next.

Theory of operation. ``<home>/redis/server.lock`` is locked (flock) by the starter and *inherited by the server*, which
holds it for as long as it lives. So a lock that can be taken proves that no server writes this folder, whatever
happened to pid files, sockets or parents; and two starters, or two servers on one append-only file, are impossible.
The server runs in its own session, in the background, and outlives everybody until ``stop``.

Before any password is sent, the other end of the socket is compared with the pid file and our uid; afterwards the
server must name this home's folder as its own. Anything else is a stranger, and an error.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import socket
import stat
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import fleet.adapters.redis_client as store
from fleet.adapters.acl import Role, acl_file
from fleet.adapters.redis_orphan import end_orphan
from fleet.adapters.redis_program import ServerProgram, find_program, run_plain, server_config
from fleet.core.errors import FleetError, ParkError, TemporaryError, UsageError
from fleet.core.ports import Clock, Ids

READY_TIMEOUT = 60.0
STOP_TIMEOUT = 20.0
LOST_SOCKET_AFTER = 2.0
SOCKET_PATH_LIMIT = 103  # macOS has 104 with the final zero, Linux 108
LOG_LIMIT = 4 << 20
_INHERITED_LOCK = 63

_TRUNCATED = re.compile(r"aof-load-truncated|Truncating the AOF|short read while loading", re.IGNORECASE)
_DAMAGED = re.compile(r"Bad file format|Unrecoverable error|AOF loading didn't succeed", re.IGNORECASE)


class EmbeddedRedis:
    """The server of ``home``. ``fsync``: ``everysec`` or ``always`` (each write is on disk before it is answered).

    ``notices`` holds sentences for people about the last start (a cut-off tail that was dropped).
    """

    def __init__(
        self,
        home: Path,
        runtime: Path,
        clock: Clock,
        ids: Ids,
        *,
        fsync: str = "everysec",
        program: ServerProgram | None = None,
    ) -> None:
        self.home = home
        self.data = home / "redis"
        self.socket = runtime / "redis.sock"
        self.notices: list[str] = []
        self._runtime = runtime
        self._clock = clock
        self._ids = ids
        self._fsync = fsync
        self._program = program
        self._known: dict[str, str] = {}

    # --- what callers do -------------------------------------------------------------------------------------------

    def ensure(self) -> store.RedisAddress:
        """Starts the server, or finds the running one again.

        Raises UsageError (somebody else's folder or server, nothing to run), ParkError (the append-only file is
        damaged) or TemporaryError (it does not come up in time, the disk is full).
        """
        with self._disk_errors():
            self._folders()
            deadline = self._clock.monotonic() + READY_TIMEOUT
            while self._clock.monotonic() < deadline:
                lock = self._lock()
                if lock is not None:
                    self._start(lock)
                elif self._ready():
                    self._refresh_rules()
                    return self.address
                else:
                    self._unreachable(deadline)
                    self._clock.sleep(0.02)
        raise TemporaryError(
            f"The ledger's server did not answer within {READY_TIMEOUT:.0f} s.", f"Look at {self.log}."
        )

    def running(self) -> bool:
        """True when this home's server answers. Starts and creates nothing."""
        if not self.data.is_dir():
            return False
        lock = self._lock()
        if lock is not None:
            os.close(lock)
            return False
        return self._ready()

    def stop(self) -> None:
        """Stops the server and returns when it is gone; a server that is not there is fine."""
        if not self.data.is_dir() or self._gone(0):
            return
        asked = False
        with suppress(FleetError):
            asked = self._shutdown()
        if not (asked and self._gone(STOP_TIMEOUT)) and not any(
            self._signal(number) and self._gone(STOP_TIMEOUT) for number in (signal.SIGTERM, signal.SIGKILL)
        ):
            raise TemporaryError("The ledger's server did not stop.", f"Look at {self.log}.")
        self.socket.unlink(missing_ok=True)
        (self.data / "server.pid").unlink(missing_ok=True)

    def password(self, role: Role) -> str:
        """The generated password of ``role``. Raises UsageError before the first ``ensure``."""
        return self._passwords(create=False)[role.value]

    def pid(self) -> int | None:
        """What the pid file says; nobody promises that this process lives or is ours."""
        with suppress(OSError, ValueError):
            return int((self.data / "server.pid").read_text())
        return None

    def run_id(self) -> str:
        """The random id of the running server process, as it tells it."""
        client = self._client()
        try:
            return str(client.info("server")["run_id"])
        finally:
            client.close()

    @property
    def address(self) -> store.RedisAddress:
        return store.RedisAddress(socket=self.socket)

    @property
    def log(self) -> Path:
        return self.data / "server.log"

    # --- finding ---------------------------------------------------------------------------------------------------

    def _ready(self) -> bool:
        """True when our server answers, False while it loads. Raises UsageError for a stranger."""
        peer = self._peer()
        if peer is None:
            return False
        pid, uid = peer
        known = self.pid()
        if uid != os.geteuid() or (known is not None and pid not in (0, known)):
            raise self._stranger(pid)
        if known is None and not self._is_ours(pid):
            return False
        client = self._client()
        try:
            folder = client.config_get("dir").get("dir")
            # A server that still loads answers the question above, but not this one: its log is not complete yet.
            client.ping()
        except store.StoreError as error:
            if store.is_connection_error(error):
                return False
            raise self._stranger(pid) from error
        finally:
            client.close()
        if os.path.realpath(self.data) != os.fsdecode(folder or b""):
            raise self._stranger(pid)
        return True

    def _peer(self) -> tuple[int, int] | None:
        """(pid, uid) of whoever listens on the socket; pid 0 where the system does not tell. None: nobody listens."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            try:
                probe.connect(str(self.socket))
            except OSError:
                return None
            if not hasattr(socket, "SO_PEERCRED"):
                return 0, os.geteuid()
            raw = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, uid, _ = struct.unpack("3i", raw)
        return pid, uid

    def _stranger(self, pid: int) -> UsageError:
        return UsageError(
            f"{self.socket} is served by process {pid}, which is not this home's ledger.",
            f"Stop that process or remove {self.socket}.",
        )

    def _is_ours(self, pid: int) -> bool:
        """True unless the system shows that ``pid`` works elsewhere (a recycled pid); zombies are nobody's."""
        with suppress(OSError):
            return os.path.samefile(f"/proc/{pid}/cwd", self.data)
        return not Path("/proc/self").exists()

    def _client(self) -> store.FleetRedis:
        return store.connect(self.address, Role.ADMIN.value, self.password(Role.ADMIN), socket_timeout=5, retries=0)

    # --- starting and stopping -------------------------------------------------------------------------------------

    def _start(self, lock: int) -> None:
        """With the lock held nobody serves this folder. The lock goes over to the server."""
        try:
            peer = self._peer()
            if peer and not end_orphan(*peer, self.data, lambda: self._peer() is None, self._clock):
                raise self._stranger(peer[0])
            self.notices.clear()
            (self.data / "server.pid").unlink(missing_ok=True)
            self._rotate_log()
            self._write("users.acl", acl_file(self._passwords(create=True)))
            self._write("server.conf", server_config(self.data, self.socket, self._fsync))
            size = self.log.stat().st_size if self.log.exists() else 0
            argv = (str((self._program or find_program()).path), str(self.data / "server.conf"))
            with self.log.open("ab") as output:
                code = run_plain(argv, output.fileno(), (lock, _INHERITED_LOCK))
        finally:
            os.close(lock)
        if code != 0:
            raise self._failed(size)
        self._await(size)

    def _await(self, size: int) -> None:
        """Waits until the new server answers; says why when it died instead (then nobody holds the lock)."""
        deadline = self._clock.monotonic() + READY_TIMEOUT
        while not self._ready() and self._clock.monotonic() < deadline:
            if self._gone(0):
                raise self._failed(size)
            self._clock.sleep(0.005)
        if _TRUNCATED.search(self._log_since(size)):
            self.notices.append(
                "The ledger's last write was cut off by a crash; the incomplete tail was dropped and the rest is whole."
            )

    def _refresh_rules(self) -> None:
        """Gives a server that an older version of the fleet started today's rules."""
        wanted = acl_file(self._passwords(create=True))
        if (self.data / "users.acl").read_text() == wanted:
            return
        self._write("users.acl", wanted)
        client = self._client()
        try:
            client.acl_load()
        finally:
            client.close()

    def _failed(self, size: int) -> FleetError:
        text = self._log_since(size)
        if _DAMAGED.search(text):
            return ParkError(
                "config",
                f"The ledger's append-only file in {self.data} is damaged in the middle, so the server did not start.",
                "Keep a copy, then repair it with valkey-check-aof --fix, or restore a backup.",
            )
        lines = [line for line in text.splitlines() if line.strip()]
        return TemporaryError(
            f"The ledger's server did not start: {lines[-1].strip() if lines else 'it said nothing'}.",
            f"Look at {self.log}.",
        )

    def _signal(self, number: int) -> bool:
        """True when the signal went to a process that is certainly this home's server."""
        pid = self.pid()
        if pid is None or not self._is_ours(pid):
            return False
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        return True

    def _unreachable(self, deadline: float) -> None:
        """A server whose socket file was cleaned away serves nobody: it is asked to end, and a new one is started."""
        waited = READY_TIMEOUT - (deadline - self._clock.monotonic())
        if waited > LOST_SOCKET_AFTER and not self.socket.exists():
            self._signal(signal.SIGTERM)

    def _shutdown(self) -> bool:
        """True when the server took the order."""
        if not self._ready():
            return False
        client = self._client()
        try:
            client.shutdown(nosave=True)
        except store.StoreError as error:
            return store.is_connection_error(error)  # a closed connection is what was asked for
        finally:
            client.close()
        return True

    def _gone(self, seconds: float) -> bool:
        """True when the lock can be taken within ``seconds``: then no process serves this folder."""
        deadline = self._clock.monotonic() + seconds
        while True:
            lock = self._lock()
            if lock is not None:
                os.close(lock)
                return True
            if self._clock.monotonic() >= deadline:
                return False
            self._clock.sleep(0.02)

    def _lock(self) -> int | None:
        """The folder's lock as an open file, or None when a starter or a server holds it."""
        handle = os.open(self.data / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        return handle

    # --- files -----------------------------------------------------------------------------------------------------

    def _folders(self) -> None:
        if len(os.fsencode(self.socket)) > SOCKET_PATH_LIMIT:
            raise UsageError(f"The path {self.socket} is too long for a socket.", "Choose a shorter runtime folder.")
        for path in (self.home, self._runtime, self.data):
            private_folder(path)

    def _passwords(self, create: bool) -> Mapping[str, str]:
        path = self.data / "acl.json"
        there = path.exists()
        # When the folder was removed, the services that run still know these: they find the new server again.
        known: dict[str, str] = json.loads(path.read_text()) if there else dict(self._known)
        missing = [role.value for role in Role if role.value not in known]
        if not missing and (there or not create):
            self._known = known
            return known
        if not create:
            raise UsageError(f"The ledger in {self.data} was never started.", "Run `fleet up` first.")
        known |= {name: self._ids.token(32) for name in missing}
        self._write("acl.json", json.dumps(known))
        self._known = known
        return known

    def _write(self, name: str, text: str) -> None:
        path = self.data / name
        scratch = path.with_suffix(".new")
        handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)

    def _rotate_log(self) -> None:
        if self.log.exists() and self.log.stat().st_size > LOG_LIMIT:
            self.log.replace(self.log.with_suffix(".log.1"))

    def _log_since(self, size: int) -> str:
        with suppress(OSError), self.log.open("rb") as file:
            file.seek(size)
            return file.read(1 << 20).decode("utf-8", "replace")
        return ""

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            raise UsageError(
                f"{error.filename} is not accessible to you (uid {os.geteuid()}).", "Use a FLEET_HOME of your own."
            ) from error
        except OSError as error:
            raise TemporaryError(
                f"The ledger's folder {self.data} cannot be written: {error.strerror}.", "Free space on that disk."
            ) from error


def private_folder(path: Path) -> None:
    """Creates ``path`` with mode 0700, or checks that it is a real folder of ours. Raises UsageError."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = path.lstat()
    if not stat.S_ISDIR(facts.st_mode):
        raise UsageError(f"{path} is a link, not a folder.", "Use a FLEET_HOME of your own.")
    if facts.st_uid != os.geteuid():
        raise UsageError(
            f"{path} belongs to uid {facts.st_uid}, not to you (uid {os.geteuid()}).", "Use a FLEET_HOME of your own."
        )
    if stat.S_IMODE(facts.st_mode) & 0o077:
        path.chmod(0o700)
