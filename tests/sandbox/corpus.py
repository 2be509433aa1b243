"""Attacks, run alone inside a sandbox: ``python -I -S -c <this text> <name or "all"> <targets as JSON>``.

An attack that raises or returns False was held. Anything else prints BREACH. Targets live outside the workspace and
belong to the uid of the command, so that only the sandbox stands between them.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import stat
import sys
from collections.abc import Callable
from typing import Any

Targets = dict[str, Any]
Attack = Callable[[Targets], object]

FILES: dict[str, Attack] = {}
PROCESSES: dict[str, Attack] = {}
SOCKETS: dict[str, Attack] = {}
RIGHTS: dict[str, Attack] = {}
# attacks that prove nothing without a sandbox here, because an ordinary user may not do them anyway or they need a peer
NO_CONTROL = {"make_device", "mount_tmpfs", "gain_uid", "link_local", "resolve_name", "packet_socket", "see_capability"}


def _in(group: dict[str, Attack]) -> Callable[[Attack], Attack]:
    def add(attack: Attack) -> Attack:
        group[attack.__name__] = attack
        return attack

    return add


def _put(path: str) -> None:
    with open(path, "w") as handle:
        handle.write("breach")


@_in(FILES)
def write_absolute(t: Targets) -> None:
    _put(t["outside"] + "/written")


@_in(FILES)
def write_dotdot(t: Targets) -> None:
    _put("../" * 20 + t["outside"][1:] + "/written")


@_in(FILES)
def write_symlink(t: Targets) -> None:
    os.symlink(t["outside"] + "/written", "innocent")
    _put("innocent")


@_in(FILES)
def write_folder_symlink(t: Targets) -> None:
    os.symlink(t["outside"], "folder")
    _put("folder/written")


@_in(FILES)
def write_hardlink(t: Targets) -> None:
    os.link(t["secret"], "hard")
    _put("hard")


@_in(FILES)
def overwrite(t: Targets) -> None:
    _put(t["secret"])


@_in(FILES)
def append(t: Targets) -> object:
    return os.write(os.open(t["secret"], os.O_WRONLY | os.O_APPEND), b"breach")


@_in(FILES)
def truncate(t: Targets) -> None:
    os.truncate(t["secret"], 0)


@_in(FILES)
def unlink(t: Targets) -> None:
    os.unlink(t["secret"])


@_in(FILES)
def rename_away(t: Targets) -> None:
    os.rename(t["secret"], "stolen")


@_in(FILES)
def rename_onto(t: Targets) -> None:
    _put("mine")
    os.rename("mine", t["secret"])


@_in(FILES)
def make_folder(t: Targets) -> None:
    os.mkdir(t["outside"] + "/new")


@_in(FILES)
def make_fifo(t: Targets) -> None:
    os.mkfifo(t["outside"] + "/fifo")


@_in(FILES)
def make_device(t: Targets) -> None:
    os.mknod("device", stat.S_IFBLK | 0o600, os.makedev(8, 0))


@_in(FILES)
def plant_symlink(t: Targets) -> None:
    os.symlink("/etc/passwd", t["outside"] + "/link")


@_in(FILES)
def read_secret(t: Targets) -> object:
    with open(t["secret"]) as handle:
        return t["marker"] in handle.read()


@_in(FILES)
def read_secret_by_symlink(t: Targets) -> object:
    os.symlink(t["secret"], "reads")
    with open("reads") as handle:
        return t["marker"] in handle.read()


@_in(FILES)
def read_through_proc_root(t: Targets) -> object:
    with open(f"/proc/{t['victim']}/root{t['secret']}") as handle:
        return t["marker"] in handle.read()


@_in(FILES)
def list_outside(t: Targets) -> object:
    return "secret" in os.listdir(t["outside"])


@_in(FILES)
def write_read_only_bind(t: Targets) -> None:
    _put(t["toolchain"] + "/written")


@_in(FILES)
def write_usr(t: Targets) -> object:
    os.listdir("/usr")
    if os.access("/usr/local", os.W_OK):
        _put("/usr/local/breach")
    raise PermissionError


NO_CONTROL.add("write_usr")


@_in(PROCESSES)
def read_victim_environment(t: Targets) -> object:
    with open(f"/proc/{t['victim']}/environ", "rb") as handle:
        return t["marker"].encode() in handle.read()


@_in(PROCESSES)
def read_any_environment(t: Targets) -> object:
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                with open(f"/proc/{name}/environ", "rb") as handle:
                    text = handle.read()
                    if t["marker"].encode() in text or t["canary"].encode() in text:
                        return True
            except OSError:
                continue
    return False


@_in(PROCESSES)
def read_parent_environment(t: Targets) -> object:
    with open(f"/proc/{os.getppid()}/environ", "rb") as handle:
        return t["canary"].encode() in handle.read()


@_in(PROCESSES)
def see_victim(t: Targets) -> object:
    with open(f"/proc/{t['victim']}/cmdline", "rb") as handle:
        return t["marker"].encode() in handle.read()


@_in(PROCESSES)
def read_victim_memory(t: Targets) -> object:
    with open(f"/proc/{t['victim']}/maps") as handle:
        start = int(handle.readline().split("-")[0], 16)
    with open(f"/proc/{t['victim']}/mem", "rb") as memory:
        memory.seek(start)
        return len(memory.read(16)) == 16


@_in(PROCESSES)
def trace_victim(t: Targets) -> object:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    return libc.ptrace(0x4206, t["victim"], None, None) == 0  # PTRACE_SEIZE, ends with this process


@_in(PROCESSES)
def signal_victim(t: Targets) -> None:
    os.kill(t["victim"], signal.SIGCONT)


@_in(PROCESSES)
def open_victim(t: Targets) -> None:
    signal.pidfd_send_signal(os.pidfd_open(t["victim"]), signal.SIGCONT)


@_in(PROCESSES)
def slow_victim(t: Targets) -> None:
    os.setpriority(os.PRIO_PROCESS, t["victim"], 5)


@_in(PROCESSES)
def pin_victim(t: Targets) -> None:
    os.sched_setaffinity(t["victim"], os.sched_getaffinity(0))


@_in(PROCESSES)
def limit_victim(t: Targets) -> object:
    import resource

    return resource.prlimit(t["victim"], resource.RLIMIT_CORE, (0, 0))


@_in(SOCKETS)
def loopback(t: Targets) -> object:
    return socket.create_connection(("127.0.0.1", t["port"]), timeout=2)


@_in(SOCKETS)
def loopback_v6_mapped(t: Targets) -> None:
    with socket.socket(socket.AF_INET6) as client:
        client.settimeout(2)
        client.connect(("::ffff:127.0.0.1", t["port"]))


@_in(SOCKETS)
def path_socket(t: Targets) -> None:
    socket.socket(socket.AF_UNIX).connect(t["path_socket"])


@_in(SOCKETS)
def path_datagram(t: Targets) -> object:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"breach", t["path_datagram"])


@_in(SOCKETS)
def abstract_socket(t: Targets) -> None:
    socket.socket(socket.AF_UNIX).connect("\0" + t["abstract_socket"])


@_in(SOCKETS)
def udp(t: Targets) -> object:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"breach", ("127.0.0.1", t["udp_port"]))


@_in(SOCKETS)
def netlink(t: Targets) -> object:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)


@_in(SOCKETS)
def vsock(t: Targets) -> object:
    return socket.socket(40, socket.SOCK_STREAM)


@_in(SOCKETS)
def kernel_crypto(t: Targets) -> object:
    return socket.socket(38, socket.SOCK_SEQPACKET)


NO_CONTROL |= {"vsock", "kernel_crypto"}  # not every kernel has these families


@_in(SOCKETS)
def packet_socket(t: Targets) -> object:
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW)


@_in(SOCKETS)
def link_local(t: Targets) -> object:
    return socket.create_connection(("169.254.169.254", 80), timeout=1)


@_in(SOCKETS)
def resolve_name(t: Targets) -> object:
    return socket.getaddrinfo("example.com", 80)


@_in(SOCKETS)
def listen_for_the_host(t: Targets) -> object:
    # the host end tries to connect; the private loopback of a namespace may listen without harm
    with socket.socket(socket.AF_INET) as server:
        server.bind(("127.0.0.1", 0))
        return os.stat("/proc/self/ns/net").st_ino == t["net_namespace"]


def _call(x86_64: int, aarch64: int, *arguments: int) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    number = x86_64 if os.uname().machine == "x86_64" else aarch64
    if libc.syscall(ctypes.c_long(number), *(ctypes.c_long(value) for value in arguments)) < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return True


@_in(RIGHTS)
def new_user_namespace(t: Targets) -> object:
    return _call(272, 97, 0x10000000)


@_in(RIGHTS)
def new_network_namespace(t: Targets) -> object:
    return _call(272, 97, 0x10000000 | 0x40000000)


@_in(RIGHTS)
def clone_user_namespace(t: Targets) -> object:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    number = 56 if os.uname().machine == "x86_64" else 220
    child = libc.syscall(ctypes.c_long(number), ctypes.c_long(0x10000000 | signal.SIGCHLD), 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    if child < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return os.waitpid(child, 0)


@_in(RIGHTS)
def clone3_user_namespace(t: Targets) -> object:
    arguments = (ctypes.c_uint64 * 11)(0x10000000, 0, 0, 0, signal.SIGCHLD)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    child = libc.syscall(ctypes.c_long(435), arguments, ctypes.c_size_t(88))
    if child == 0:
        os._exit(0)
    if child < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return os.waitpid(child, 0)


@_in(RIGHTS)
def mount_tmpfs(t: Targets) -> object:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", os.getcwd().encode(), b"tmpfs", 0, None) != 0:
        raise OSError(ctypes.get_errno(), "refused")
    return True


@_in(RIGHTS)
def gain_uid(t: Targets) -> None:
    os.setresuid(0, 0, 0)


@_in(RIGHTS)
def gain_new_privileges(t: Targets) -> object:
    return ctypes.CDLL(None).prctl(39, 0, 0, 0, 0) == 0  # PR_GET_NO_NEW_PRIVS


@_in(RIGHTS)
def see_capability(t: Targets) -> object:
    head = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    number = 125 if os.uname().machine == "x86_64" else 90
    return ctypes.CDLL(None).syscall(ctypes.c_long(number), head, data) == 0 and any(data)


@_in(RIGHTS)
def keyring(t: Targets) -> object:
    return _call(250, 219, 0, -3, 1)  # KEYCTL_GET_KEYRING_ID of the session, created when missing


@_in(RIGHTS)
def io_uring(t: Targets) -> object:
    parameters = ctypes.create_string_buffer(120)
    return _call(425, 425, 4, ctypes.addressof(parameters))


@_in(RIGHTS)
def user_fault(t: Targets) -> object:
    return _call(323, 282, 1)  # UFFD_USER_MODE_ONLY


@_in(RIGHTS)
def shared_memory_of_nobody(t: Targets) -> object:
    return _call(29, 194, 0, 4096, 0o1600)


NO_CONTROL |= {"io_uring", "user_fault", "keyring"}  # a host may have switched these off by itself


@_in(RIGHTS)
def inherited_descriptor(t: Targets) -> object:
    return any(os.path.exists(f"/dev/fd/{n}") or _open(n) for n in range(3, 256))


def _open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


@_in(RIGHTS)
def inherited_environment(t: Targets) -> object:
    return any(t["canary"] in value for value in os.environ.values())


ATTACKS: dict[str, Attack] = {**FILES, **PROCESSES, **SOCKETS, **RIGHTS}


def attempt(name: str, targets: Targets) -> str:
    try:
        held = ATTACKS[name](targets) is False
        said = "returned False"
    except (OSError, ValueError) as error:
        held, said = True, repr(error)
    return f"{name} HELD {said}" if held else f"{name} BREACH"


def main() -> None:
    """One attack, or ``all`` of them, each in a process and a folder of its own."""
    chosen, targets = sys.argv[1], json.loads(sys.argv[2])
    if chosen != "all":
        print(attempt(chosen, targets))
        return
    for name in ATTACKS:
        if os.fork() == 0:
            signal.alarm(8)
            os.mkdir(name)
            os.chdir(name)
            print(attempt(name, targets), flush=True)
            os._exit(0)
        os.wait()


if __name__ == "__main__":
    main()
