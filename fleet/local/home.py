"""A fleet home: folders, settings, secrets, and what the running host says about itself."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fleet import __version__
from fleet.adapters.environment import default_home
from fleet.adapters.layout import Layout
from fleet.core.errors import UsageError
from fleet.core.ports import Ids
from fleet.core.settings import Layer, Settings, from_environment, resolve

SETTINGS_FILE = "fleet.toml"
# Where a collector's key comes from: only the service that sends spans may read it.
COLLECTOR_HEADERS = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
LEAST_FREE = 64 * 2**20


@dataclass(frozen=True, slots=True)
class HostState:
    """What the running host wrote down. ``by_hand``: somebody else starts the services one by one, and stops them."""

    pid: int
    version: str
    forge_url: str
    settings: Mapping[str, Any]
    store: str
    started_at: float
    by_hand: bool = False


class Home:
    """``env``: the environment of the command that opens it. Raises UsageError for somebody else's home."""

    def __init__(self, env: Mapping[str, str], uid: int | None = None) -> None:
        self.env = env
        self.uid = os.geteuid() if uid is None else uid
        self.layout = Layout(default_home(env, self.uid), self.uid)

    def make(self) -> None:
        """Creates what is missing. Raises UsageError naming the folder when that cannot be done."""
        try:
            self.layout.make()
        except PermissionError as error:
            raise UsageError(
                f"{error.filename} cannot be used: permission denied.", "Set FLEET_HOME to a folder of your own."
            ) from error
        except OSError as error:
            raise UsageError(
                f"{error.filename or self.layout.home} cannot be made: {error.strerror}.",
                "Free some space, or set FLEET_HOME to another disk.",
            ) from error

    def check_space(self) -> None:
        """Raises UsageError when so little is free that nothing new could be kept."""
        free = shutil.disk_usage(self.layout.home).free
        if free < LEAST_FREE:
            raise UsageError(
                f"Only {free // 2**20} MiB are free on the disk of {self.layout.home}.",
                "Free some space, or set FLEET_HOME to another disk.",
            )

    # --- settings --------------------------------------------------------------------------------------------------
    def settings(self) -> Settings:
        """Built-in < the home's fleet.toml < FLEET_* variables."""
        path = self.layout.home / SETTINGS_FILE
        try:
            operator = Layer(str(path), path.read_text()) if path.exists() else None
        except PermissionError as error:
            hint = "Set FLEET_HOME to a folder of your own."
            raise UsageError(f"{path.parent} belongs to somebody else.", hint) from error
        return resolve(operator, from_environment(self.env))

    @property
    def redis_url(self) -> str:
        return self.env.get("FLEET_REDIS_URL", "")

    @property
    def broker_url(self) -> str:
        return self.env.get("FLEET_BROKER_URL", "")

    @property
    def person(self) -> str:
        """Who gives a command, as the system knows them."""
        return self.env.get("SUDO_USER") or self.env.get("USER") or self.env.get("LOGNAME") or f"uid {self.uid}"

    @property
    def tools(self) -> Path:
        """The locked tools environment that bin/fleet made; its digest changes with requirements/tools.txt."""
        return Path(self.env.get("FLEET_TOOLS", ""))

    # --- secrets ---------------------------------------------------------------------------------------------------
    def secret(self, name: str, make: Callable[[], Mapping[str, str]]) -> dict[str, str]:
        """The secrets file ``name`` (0600), made once by ``make`` under a lock."""
        path = self.layout.secrets / f"{name}.json"
        with self._locked(self.layout.secrets / ".lock"):
            if not path.exists():
                write_private(path, json.dumps(dict(make())))
        found: dict[str, str] = json.loads(path.read_text())
        return found

    def gateway_key(self, ids: Ids) -> bytes:
        """Makes the placeholder keys of attempts, and tells them from anything else."""
        return self.secret("gateway", lambda: {"key": ids.token(32)})["key"].encode()

    def state_key(self, ids: Ids) -> bytes:
        """Seals status comments, so that a tampered one is noticed when the record is rebuilt from the forge."""
        return self.secret("state", lambda: {"key": ids.token(32)})["key"].encode()

    # --- repositories given by path --------------------------------------------------------------------------------
    def repo_name(self, path: Path, ids: Ids) -> str:
        """``local/<folder>`` for a person's checkout, always the same; a second folder of that name gets a suffix."""
        registry = self.layout.home / "repos.json"
        with self._locked(self.layout.home / ".repos.lock"):
            known: dict[str, str] = json.loads(registry.read_text()) if registry.exists() else {}
            if str(path) not in known:
                base = "".join(c if c.isalnum() or c in "._-" else "-" for c in path.name).strip(".-") or "repo"
                base = base.removesuffix(".git") or "repo"
                name = f"local/{base}"
                while name in known.values():
                    name = f"local/{base}-{ids.hex(4)}"
                known[str(path)] = name
                write_private(registry, json.dumps(known, indent=1))
        return known[str(path)]

    def note_origin(self, local: str, origin: str) -> None:
        """Remembers that ``local/<name>`` is a copy of GitHub's owner/name."""
        path = self.layout.home / "origins.json"
        with self._locked(self.layout.home / ".repos.lock"):
            if self.origin_of(local) != origin:
                known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
                write_private(path, json.dumps({**known, local: origin}, indent=1))

    def origin_of(self, local: str) -> str:
        """GitHub's owner/name of which ``local/<name>`` is a copy; empty for others."""
        path = self.layout.home / "origins.json"
        known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        return known.get(local, "")

    # --- the running host ------------------------------------------------------------------------------------------
    @property
    def host_lock(self) -> Path:
        return self.layout.runtime / "host.lock"

    @property
    def clients_lock(self) -> Path:
        return self.layout.runtime / "clients.lock"

    @property
    def host_log(self) -> Path:
        return self.layout.logs / "host.log"

    def host_runs(self) -> bool:
        """Whether a host holds this home's lock; a lock cannot be left behind by a dead process."""
        try:
            fd = os.open(self.host_lock, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(fd)

    def host_state(self) -> HostState | None:
        path = self.layout.runtime / "host.json"
        if not path.exists():
            return None
        return HostState(**json.loads(path.read_text()))

    def write_host_state(self, state: HostState) -> None:
        write_private(self.layout.runtime / "host.json", json.dumps(asdict(state)))

    def write_services(self, pids: Mapping[str, int]) -> None:
        write_private(self.layout.runtime / "services.json", json.dumps(dict(pids)))

    def add_service(self, name: str, pid: int) -> None:
        """For a service that is started by hand, beside others."""
        with self.locked("services"):
            self.write_services({**self.service_pids(), name: pid})

    def service_pids(self) -> dict[str, int]:
        """The services that the host last said to be alive."""
        path = self.layout.runtime / "services.json"
        pids: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
        return {name: pid for name, pid in pids.items() if pid and Path(f"/proc/{pid}").exists()}

    @property
    def stopped(self) -> bool:
        """Whether a person stopped the fleet, and nobody started it since: whoever only follows a ticket must not."""
        return (self.layout.runtime / "stopped").exists()

    def note_stopped(self, stopped: bool) -> None:
        mark = self.layout.runtime / "stopped"
        if stopped:
            mark.touch(0o600)
        else:
            mark.unlink(missing_ok=True)

    def forget_host_state(self) -> None:
        (self.layout.runtime / "host.json").unlink(missing_ok=True)

    def keep_collector(self, env: Mapping[str, str]) -> None:
        """Writes down what ``env`` says to a collector (its key), or forgets what was there."""
        said = next((env[name] for name in COLLECTOR_HEADERS if env.get(name)), "")
        path = self.layout.secrets / "collector"
        if said:
            write_private(path, said)
        else:
            path.unlink(missing_ok=True)

    def collector(self) -> str:
        """Headers as OpenTelemetry writes them (``name=value,name=value``), from the environment or written down."""
        path = self.layout.secrets / "collector"
        said = next((self.env[name] for name in COLLECTOR_HEADERS if self.env.get(name)), "")
        return said or (path.read_text() if path.exists() else "")

    def locked(self, name: str) -> AbstractContextManager[None]:
        """Mutual exclusion between the processes of this home, for ``name``."""
        return self._locked(self.layout.runtime / f"{name}.lock")

    @contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


def write_private(path: Path, text: str) -> None:
    """Atomic, and readable by nobody else at any moment."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def version() -> str:
    """The fleet's version; two versions never share a running home."""
    return __version__
