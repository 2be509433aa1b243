"""The hostile probe: runs alone inside a sandbox, tries to get out, and prints what it managed.

Started as ``python -I -S -c <this text> <targets as JSON>``, so it imports the standard library only. Every attempt
that raises failed, which is what a sandbox is for.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

_CLONE_NEWUSER = 0x10000000
_PTRACE_SEIZE = 0x4206
_MS_BIND = 4096
_CALLS = {
    "x86_64": {"ptrace": 101, "mount": 165, "unshare": 272},
    "aarch64": {"ptrace": 117, "mount": 40, "unshare": 97},
}


def read_outside(targets: dict[str, Any]) -> None:
    with open(targets["secret"]) as handle:
        handle.read()


def write_outside(targets: dict[str, Any]) -> None:
    with open(targets["open_folder"] + "/written", "w") as handle:
        handle.write("breach")


def write_through_link(targets: dict[str, Any]) -> None:
    os.symlink(targets["open_folder"], "link-out")
    with open("link-out/linked", "w") as handle:
        handle.write("breach")


def connect_tcp(targets: dict[str, Any]) -> None:
    socket.create_connection(("127.0.0.1", targets["port"]), timeout=2).close()


def connect_path_socket(targets: dict[str, Any]) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(2)
        client.connect(targets["path_socket"])


def connect_abstract_socket(targets: dict[str, Any]) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(2)
        client.connect("\0" + targets["abstract_socket"])


def open_datagram(targets: dict[str, Any]) -> None:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()


def open_vsock(targets: dict[str, Any]) -> None:
    socket.socket(40, socket.SOCK_STREAM).close()


def see_host_process(targets: dict[str, Any]) -> None:
    with open(f"/proc/{targets['pid']}/cmdline", "rb") as handle:
        if targets["marker"].encode() not in handle.read():
            raise ProcessLookupError


def read_first_environment(targets: dict[str, Any]) -> None:
    with open("/proc/1/environ", "rb") as handle:
        names = {entry.split(b"=")[0] for entry in handle.read().split(b"\0") if entry}
    if names <= {b"PATH", b"PWD"}:
        raise PermissionError


def read_host_environment(targets: dict[str, Any]) -> None:
    with open(f"/proc/{targets['pid']}/environ", "rb") as handle:
        if targets["marker"].encode() not in handle.read():
            raise PermissionError


def signal_host(targets: dict[str, Any]) -> None:
    os.kill(targets["pid"], 0)
    if os.readlink("/proc/self") == str(targets["pid"]):
        raise ProcessLookupError


def _system_call(name: str, *arguments: Any) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    number = _CALLS[os.uname().machine][name]
    if libc.syscall(ctypes.c_long(number), *arguments) == -1:
        raise OSError(ctypes.get_errno(), name)


def new_user_namespace(targets: dict[str, Any]) -> None:
    _system_call("unshare", ctypes.c_long(_CLONE_NEWUSER))


def trace(targets: dict[str, Any]) -> None:
    child = os.fork()
    if child == 0:
        os.read(os.pipe()[0], 1)
    try:
        _system_call("ptrace", ctypes.c_long(_PTRACE_SEIZE), ctypes.c_long(child), None, None)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def mount(targets: dict[str, Any]) -> None:
    here = ctypes.c_char_p(os.getcwd().encode())
    _system_call("mount", here, here, None, ctypes.c_ulong(_MS_BIND), None)


def hold_capability(targets: dict[str, Any]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    head = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    number = {"x86_64": 125, "aarch64": 90}[os.uname().machine]
    if libc.syscall(ctypes.c_long(number), head, data) != 0 or not any(data):
        raise PermissionError


def regain_root(targets: dict[str, Any]) -> None:
    os.setuid(0)


ATTACKS: tuple[Callable[[dict[str, Any]], None], ...] = (
    read_outside,
    write_outside,
    write_through_link,
    connect_tcp,
    connect_path_socket,
    connect_abstract_socket,
    open_datagram,
    open_vsock,
    see_host_process,
    read_first_environment,
    read_host_environment,
    signal_host,
    trace,
    mount,
    hold_capability,
    regain_root,
    new_user_namespace,  # last: it changes who the process is
)


def breaches(targets: dict[str, Any]) -> list[str]:
    """The names of the attacks that succeeded."""
    found = []
    for attack in ATTACKS:
        try:
            attack(targets)
        except (OSError, ValueError):
            continue
        found.append(attack.__name__)
    return found


def main() -> None:
    """Tries everything; also writes into the workspace, because a sandbox that allows nothing proves nothing."""
    targets = json.loads(sys.argv[1])
    with open("written-inside", "w") as handle:
        handle.write(targets["marker"])
    print(json.dumps({"breaches": breaches(targets), "echo": sys.stdin.read()}))


if __name__ == "__main__":
    main()
