"""The only door to Redis or Valkey: addresses, clients, the broker's URL, durability, errors.

Every client knows its role. A store that is there but cannot write (disk full, memory full) raises ``TemporaryError``;
a store that is away raises redis-py's own errors, which ``is_connection_error`` recognises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from fleet.adapters.acl import BROKER_PREFIX, synced_key
from fleet.adapters.hidden import hidden
from fleet.core.errors import TemporaryError, UsageError

# redis-py loads the metrics of OpenTelemetry when they are installed, which we do not use: 80 ms of every command.
with hidden("opentelemetry.sdk.metrics"):
    import redis
    from redis.backoff import ExponentialWithJitterBackoff
    from redis.client import Pipeline
    from redis.exceptions import (
        AuthenticationError,
        AuthorizationError,
        NoPermissionError,
        ReadOnlyError,
        ResponseError,
    )
    from redis.retry import Retry
    from redis.sentinel import Sentinel

# A blocking read must end before the socket gives up, or every quiet second would look like a dead server.
SOCKET_TIMEOUT = 30.0
MAX_BLOCK_MS = 10_000
CONNECT_TIMEOUT = 5.0
RETRIES = 3
REPLICA_MS = 1000
MINIMUM_VERSION = (7, 2)

StoreError = redis.RedisError
PermissionDenied = NoPermissionError


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where a store is. Exactly one of ``socket``, ``host`` and ``sentinels`` is set.

    ``username`` and ``password`` come from a URL and hold for every role (an external server with one account).
    ``append_only`` False: the operator chose ``durability = "forge"`` and ``wait_aof`` has nothing to wait for.
    """

    socket: Path | None = None
    host: str = ""
    port: int = 6379
    tls: bool = False
    database: int = 0
    sentinels: tuple[tuple[str, int], ...] = ()
    service: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    append_only: bool = True

    def __str__(self) -> str:
        """For people: no password."""
        if self.socket is not None:
            return f"unix://{self.socket}"
        if self.sentinels:
            return f"sentinel://{','.join(f'{h}:{p}' for h, p in self.sentinels)}/{self.service}"
        return f"{'rediss' if self.tls else 'redis'}://{self.host}:{self.port}/{self.database}"

    def account(self, role: str, password: str) -> tuple[str, str]:
        """User and password for ``role``: its own, unless the address names one account for all."""
        if self.password or self.username:
            return self.username, self.password
        return (role, password) if password else ("", "")


def parse_address(url: str) -> RedisAddress:
    """Reads ``redis://``, ``rediss://``, ``unix:///path`` or ``sentinel://h1:26379,h2:26379/service/db``.

    Raises UsageError on anything else; the message never repeats the URL, which may hold a password.
    """
    kinds = "redis://host:port/0, rediss://host:port/0, unix:///path or sentinel://host:port,host:port/service"
    bad = UsageError("The Redis URL cannot be read.", f"Give one of {kinds}.")
    try:
        parts = urlsplit(url)
        user, _, rest = parts.netloc.rpartition("@")
        name, _, password = user.partition(":")
        login = RedisAddress(username=unquote(name), password=unquote(password))
        path = unquote(parts.path)
        if parts.scheme == "unix" and path.startswith("/"):
            return replace(login, socket=Path(path), database=int(parse_qs(parts.query).get("db", ["0"])[0]))
        if parts.scheme == "sentinel":
            service, _, database = path.strip("/").partition("/")
            nodes = tuple(_host_port(node, 26379) for node in rest.split(",") if node)
            if nodes and service:
                return replace(login, sentinels=nodes, service=service, database=int(database or 0))
        if parts.scheme in ("redis", "rediss") and parts.hostname:
            server = replace(login, host=parts.hostname, port=parts.port or 6379, tls=parts.scheme == "rediss")
            return replace(server, database=int(path.strip("/") or 0))
    except ValueError:
        raise bad from None
    raise bad


def _host_port(text: str, default: int) -> tuple[str, int]:
    split = urlsplit(f"//{text}")
    if not split.hostname:
        raise ValueError(text)
    return split.hostname, split.port or default


# --- clients -------------------------------------------------------------------------------------------------------


class FleetPipeline(Pipeline):
    """A pipeline whose refusals for lack of space are ``TemporaryError``."""

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        with store_errors():
            return super().execute(raise_on_error)


class FleetRedis(redis.Redis):
    """A client with a role. ``append_only`` and ``replicas`` are what its address promised."""

    fleet_role = ""
    append_only = True
    replicas = 0

    def execute_command(self, *args: Any, **options: Any) -> Any:
        with store_errors():
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> FleetPipeline:
        return FleetPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


def connect(
    address: RedisAddress,
    role: str,
    password: str = "",
    *,
    socket_timeout: float = SOCKET_TIMEOUT,
    retries: int = RETRIES,
) -> FleetRedis:
    """A client for ``role``; connects on first use. Answers are bytes. Threads may share it, and it survives a fork.

    A connection that breaks is tried ``retries`` times more with growing pauses, and then raises. A command may
    therefore reach the server twice: every write of the fleet is idempotent or guarded by a version.
    Blocking reads must not block for longer than ``MAX_BLOCK_MS``.
    """
    user, secret = address.account(role, password)
    options: dict[str, Any] = {
        "username": user or None,
        "password": secret or None,
        "db": address.database,
        "decode_responses": False,
        "socket_timeout": socket_timeout,
        "health_check_interval": 30,
        "client_name": f"fleet-{role}",
        "protocol": 2,
        "retry": Retry(ExponentialWithJitterBackoff(base=0.05, cap=1.0), retries, (redis.ConnectionError,)),
    }
    client = _open(address, options)
    client.fleet_role = role
    client.append_only = address.append_only
    client.replicas = 1 if address.sentinels else 0
    return client


def _open(address: RedisAddress, options: dict[str, Any]) -> FleetRedis:
    if address.socket is not None:
        return FleetRedis(unix_socket_path=str(address.socket), **options)
    network = {**options, "socket_connect_timeout": CONNECT_TIMEOUT, "socket_keepalive": True}
    if address.sentinels:
        sentinel = Sentinel(list(address.sentinels), sentinel_kwargs={"socket_timeout": CONNECT_TIMEOUT}, **network)  # type: ignore[no-untyped-call]
        found: FleetRedis = sentinel.master_for(address.service, redis_class=FleetRedis)  # type: ignore[no-untyped-call]
        return found
    return FleetRedis(host=address.host, port=address.port, ssl=address.tls, **network)


# --- errors --------------------------------------------------------------------------------------------------------


@contextmanager
def store_errors() -> Iterator[None]:
    """Turns the server's "I cannot write now" into TemporaryError; nothing was written then."""
    try:
        yield
    except ResponseError as error:
        text = str(error)
        if "MISCONF" in text:
            raise TemporaryError(
                "The ledger cannot write to its disk, so nothing was recorded.", "Free space on that disk."
            ) from error
        if text.startswith("OOM ") or "-OOM " in text:
            raise TemporaryError("The ledger's memory is full, so nothing was recorded.", "Raise maxmemory.") from error
        raise


def is_connection_error(error: BaseException) -> bool:
    """True when the store is away, restarting, loading or failing over: the same call may succeed later.

    A wrong password or a forbidden command is none: it stays wrong.
    """
    if isinstance(error, AuthenticationError | AuthorizationError):
        return False
    return isinstance(error, redis.ConnectionError | redis.TimeoutError | ReadOnlyError)


class Asking:
    """For who speaks with the ledger: every answer goes through ``_ask``, so that "away" is one error for all."""

    _AWAY = ("The ledger does not answer.", "It is tried again.")

    def _ask(self, call: Any, *args: Any, **kwargs: Any) -> Any:
        """What ``call`` answers. Raises TemporaryError when the store is away."""
        try:
            return call(*args, **kwargs)
        except Exception as error:
            if is_connection_error(error):
                raise TemporaryError(*self._AWAY) from error
            raise


def wait_aof(client: redis.Redis, timeout_ms: int = 5000) -> None:
    """Returns when everything this process wrote before is on the server's disk.

    WAITAOF speaks about the writes of *its own connection* only and answers at once on one that wrote nothing, and a
    pool may hand out another connection than the one that wrote. So a tiny write goes first on the same connection:
    the append-only file is in order, hence all earlier writes are on disk when this one is.

    Behind Sentinel a replica should have it, too, before anybody relies on it. A replica that does not answer within
    ``REPLICA_MS`` is not waited for: with its master alone the fleet is slow, and goes on.

    Raises TemporaryError when the disk did not confirm in time: the writes may or may not survive a power loss.
    """
    if not getattr(client, "append_only", True):
        return
    role = getattr(client, "fleet_role", "") or "unknown"
    pipe = client.pipeline(transaction=False)
    pipe.incr(synced_key(role))
    if getattr(client, "replicas", 0):
        pipe.execute_command("WAIT", 1, REPLICA_MS)  # type: ignore[no-untyped-call]
    pipe.execute_command("WAITAOF", 1, 0, timeout_ms)  # type: ignore[no-untyped-call]
    answer = pipe.execute()[-1]
    if int(answer[0]) < 1:
        raise TemporaryError(
            f"The ledger's disk did not confirm a write within {timeout_ms} ms.", "Look at the disk of its server."
        )


# --- scripts, broker, external servers -----------------------------------------------------------------------------


def load_lua(name: str) -> str:
    """The text of ``fleet/adapters/lua/<name>.lua``, from the installed package."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(f"not a script name: {name!r}")
    return files("fleet.adapters").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")


def broker_url(address: RedisAddress, role: str, password: str = "") -> str:
    """The URL of Celery's broker on this store (holds the password: never print it, never put it into argv)."""
    user, secret = address.account(role, password)
    login = f"{quote(user, safe='')}:{quote(secret, safe='')}@" if user or secret else ""
    if address.socket is not None:
        return f"redis+socket://{login}{quote(str(address.socket))}?virtual_host={address.database}"
    if address.sentinels:
        return ";".join(f"sentinel://{login}{host}:{port}/{address.database}" for host, port in address.sentinels)
    scheme, suffix = ("rediss", "?ssl_cert_reqs=required") if address.tls else ("redis", "")
    return f"{scheme}://{login}{address.host}:{address.port}/{address.database}{suffix}"


def broker_options(address: RedisAddress) -> dict[str, Any]:
    """Transport options that belong to the address: the key prefix, and the service's name behind Sentinel."""
    options: dict[str, Any] = {"global_keyprefix": BROKER_PREFIX}
    if address.sentinels:
        options["master_name"] = address.service
    return options


def check_external(url: str, durability: str = "ledger") -> RedisAddress:
    """The address of a server that the fleet did not start, after checking that it keeps what it is told.

    ``durability``: ``ledger`` needs version 7.2, WAITAOF, an append-only file and no eviction; ``forge`` accepts
    less, because every ticket can be rebuilt from the forge. Raises UsageError naming the setting to change.
    """
    address = parse_address(url)
    client = connect(address, "admin")
    try:
        facts: Mapping[str, Any] = client.info()
        has_waitaof = any(client.execute_command("COMMAND", "INFO", "WAITAOF"))
    except redis.RedisError as error:
        reason = "it does not answer" if is_connection_error(error) else "it refuses this account"
        raise UsageError(f"The Redis server {address} cannot be used: {reason}.", "Check FLEET_REDIS_URL.") from error
    finally:
        client.close()
    wrong = [message for ok, message in _external_checks(facts, has_waitaof) if not ok]
    if wrong and durability != "forge":
        raise UsageError(
            f"The Redis server {address} would not keep the ledger: {'; '.join(wrong)}.",
            'Change that there, or set durability = "forge".',
        )
    if not wrong:
        return address
    return replace(address, append_only=False)


def _external_checks(facts: Mapping[str, Any], has_waitaof: bool) -> tuple[tuple[bool, str], ...]:
    version = str(facts.get("valkey_version") or facts.get("redis_version") or "0")
    policy = str(facts.get("maxmemory_policy", "noeviction"))
    return (
        (version_of(version) >= MINIMUM_VERSION, f"version {version} is older than 7.2"),
        (has_waitaof, "it has no WAITAOF"),
        (int(facts.get("aof_enabled", 0)) == 1, "appendonly is not yes"),
        (policy == "noeviction", f"maxmemory-policy is {policy}, not noeviction"),
    )


def version_of(text: str) -> tuple[int, ...]:
    """``7.2.4`` as numbers; whatever is not a number ends it."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in match.group().split(".")) if match else (0,)
