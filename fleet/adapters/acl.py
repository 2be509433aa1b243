"""Who may touch which key: one table from role to Redis ACL rules. Pure; see docs for the key layout.

Laws of the table (each one is a row in ``tests/adapters/test_acl.py``):

- an inbound stream is written by its own source only; the supervisor reads, acknowledges and trims it but never adds;
- what the supervisor decides (views, logs, outbox, deadlines, epochs, admission) is written by the supervisor only;
- the beginning of an effect and a gate record are written by the role that does the work;
- an approval is written by people only: no gate can allow itself anything;
- the supervisor may take away what others recorded about a ticket that ended long ago, and add nothing to it;
- everything below ``fleet:`` is readable by every role of the fleet (it holds no secrets), and by nobody else;
- who tells figures and traces to others reads, and writes nothing;
- the broker is untrusted: roles that carry wake-ups may write any of its keys, and its keys only; Flower's role
  (``monitor``) looks, asks and revokes, but cannot send a wake-up.

A Lua function is checked twice by the server: its declared keys when it is called, and each command inside. Declared
keys are a mere hint, so the selector ``_SCRIPT`` lets a role declare any key of the fleet; every command inside
is still held against the role's own rules.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from enum import Enum

BROKER_PREFIX = "fleet-broker:"
SHARD = "{s[0-9][0-9]}"


class Role(Enum):
    """A user of the ledger's server. One process has one role (the host, which starts the others, is ``ADMIN``)."""

    SUPERVISOR = "supervisor"
    INTAKE = "intake"
    AGENTS = "agents"
    ATTEMPT = "attempt"
    GATES = "gates"
    PUBLISHER = "publisher"
    PEOPLE = "people"
    GATEWAY = "gateway"
    MONITOR = "monitor"
    TELEMETRY = "telemetry"
    ADMIN = "admin"


_SUPERVISED = (
    "view",
    "ver",
    "cursor",
    "epoch",
    "owner",
    "deadlines",
    "outbox",
    "cancelled",
    "quarantine",
    "sealed",
    "past",
    "history",
)
_SUPERVISED_PATTERNS = ("log:*", "tell:*")

_WRITES: Mapping[Role, tuple[str, ...]] = {
    Role.SUPERVISOR: (
        *(f"fleet:{SHARD}:{name}" for name in (*_SUPERVISED, *_SUPERVISED_PATTERNS)),
        f"fleet:{SHARD}:in:admission",
        "fleet:{adm}:*",
        "fleet:meta",
        "fleet:members",
    ),
    Role.INTAKE: (f"fleet:{SHARD}:in:intake", "fleet:recovered"),
    Role.AGENTS: (f"fleet:{SHARD}:in:attempts", f"fleet:{SHARD}:begun:agents"),
    Role.ATTEMPT: (f"fleet:{SHARD}:in:attempts", f"fleet:{SHARD}:begun:agents"),
    Role.GATES: (f"fleet:{SHARD}:in:gates", f"fleet:{SHARD}:begun:gates", f"fleet:{SHARD}:gates:*"),
    Role.PUBLISHER: (f"fleet:{SHARD}:in:publisher", f"fleet:{SHARD}:begun:publisher"),
    Role.PEOPLE: (f"fleet:{SHARD}:in:people", f"fleet:{SHARD}:approvals:*", "fleet:hold"),
    Role.GATEWAY: ("fleet:{spend}:*",),
    Role.MONITOR: (),
    Role.TELEMETRY: (),
}

_CARRIERS = frozenset({Role.SUPERVISOR, Role.AGENTS, Role.GATES, Role.PUBLISHER, Role.MONITOR})

# Reading, writing and what a connection needs. "dangerous" and "admin" go last, so that nothing above brings them back.
_COMMANDS = (
    "+@read",
    "+@write",
    "+@connection",
    "+@transaction",
    "+eval",
    "+evalsha",
    "+eval_ro",
    "+evalsha_ro",
    "+script|load",
    "+script|exists",
    "+time",
    "+waitaof",
    "-@dangerous",
    "-@admin",
    "-function",
    "-select",
    "-copy",
    "-rename",
    "-renamenx",
    "-move",
)
_SCRIPT = "(~fleet:* +eval +evalsha +eval_ro +evalsha_ro)"
# Forgetting a ticket that ended long ago: the records of others may go, and nothing may be written into them.
_OTHERS = f"~fleet:{SHARD}:begun:* ~fleet:{SHARD}:gates:* ~fleet:{SHARD}:approvals:* ~fleet:{{spend}}:ticket:*"
_FORGET = f"({_OTHERS} +hdel +unlink)"
_ACKNOWLEDGE = f"(~fleet:{SHARD}:in:* +xack +xdel +xtrim +xgroup +xreadgroup +xautoclaim +xclaim +xpending)"

# kombu: fanout of remote control and task events is PUBLISH/PSUBSCRIBE. A PSUBSCRIBE pattern must be listed literally.
_BROKER_CHANNELS = (
    f"&{BROKER_PREFIX}*",
    f"&{BROKER_PREFIX}/0.celery.pidbox",
    f"&{BROKER_PREFIX}/0.celery.pidbox/*",
    f"&{BROKER_PREFIX}/0.celeryev",
    f"&{BROKER_PREFIX}/0.celeryev/*",
)
_MONITOR_KEYS = (
    f"%R~{BROKER_PREFIX}*",
    f"~{BROKER_PREFIX}_kombu.*",
    f"~{BROKER_PREFIX}*.reply.celery.pidbox",
    f"~{BROKER_PREFIX}unacked*",
)
_BROKER_COMMANDS = ("+publish", "+subscribe", "+psubscribe", "+unsubscribe", "+punsubscribe", "+info", "+select")


def synced_key(role: str) -> str:
    """The counter that ``wait_aof`` raises so that the server has a write of this very connection to confirm."""
    return f"fleet:synced:{role}"


def rules(role: Role) -> tuple[str, ...]:
    """The ACL rules of ``role``, without its password and switch; in the order in which the server must read them."""
    if role is Role.ADMIN:
        return ("~*", "&*", "+@all")
    keys = [f"~{key}" for key in (*_WRITES[role], synced_key(role.value))]
    if role is Role.MONITOR:
        keys = []
    elif role is Role.TELEMETRY:
        keys = ["%R~fleet:*"]
    else:
        keys.append("%R~fleet:*")
    selectors = [_SCRIPT] if role not in (Role.MONITOR, Role.TELEMETRY) else []
    if role is Role.SUPERVISOR:
        selectors += [_ACKNOWLEDGE, _FORGET]
    broker: tuple[str, ...] = ()
    if role in _CARRIERS:
        keys.extend(_MONITOR_KEYS if role is Role.MONITOR else (f"~{BROKER_PREFIX}*",))
        broker = (*_BROKER_CHANNELS, *_BROKER_COMMANDS)
    return ("resetchannels", "-@all", *keys, *_COMMANDS, *broker, *selectors)


def acl_file(passwords: Mapping[str, str], roles: Iterable[Role] = tuple(Role)) -> str:
    """The server's ``aclfile``: one line per role with the SHA-256 of its password, and the default user off."""
    lines = ["user default off resetpass resetkeys resetchannels -@all"]
    for role in roles:
        digest = hashlib.sha256(passwords[role.value].encode()).hexdigest()
        lines.append(" ".join((f"user {role.value} on #{digest}", *rules(role))))
    return "\n".join(lines) + "\n"
