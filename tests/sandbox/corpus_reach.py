"""Attacks by sockets, and on rights, namespaces and what is inherited. See corpus.py."""

from __future__ import annotations

import ctypes
import os
import signal
import socket

from tests.sandbox.corpus import NO_CONTROL, Targets, attack


@attack
def loopback(t: Targets) -> object:
    return socket.create_connection(("127.0.0.1", t["port"]), timeout=2)


@attack
def loopback_v6_mapped(t: Targets) -> None:
    with socket.socket(socket.AF_INET6) as client:
        client.settimeout(2)
        client.connect(("::ffff:127.0.0.1", t["port"]))


@attack
def path_socket(t: Targets) -> None:
    socket.socket(socket.AF_UNIX).connect(t["path_socket"])


@attack
def path_datagram(t: Targets) -> object:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"breach", t["path_datagram"])


@attack
def abstract_socket(t: Targets) -> None:
    socket.socket(socket.AF_UNIX).connect("\0" + t["abstract_socket"])


@attack
def udp(t: Targets) -> object:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"breach", ("127.0.0.1", t["udp_port"]))


@attack
def netlink(t: Targets) -> object:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)


@attack
def vsock(t: Targets) -> object:
    return socket.socket(40, socket.SOCK_STREAM)


@attack
def kernel_crypto(t: Targets) -> object:
    return socket.socket(38, socket.SOCK_SEQPACKET)


NO_CONTROL |= {"vsock", "kernel_crypto"}  # not every kernel has these families


@attack
def packet_socket(t: Targets) -> object:
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW)


@attack
def link_local(t: Targets) -> object:
    return socket.create_connection(("169.254.169.254", 80), timeout=1)


@attack
def resolve_name(t: Targets) -> object:
    return socket.getaddrinfo("example.com", 80)


@attack
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


@attack
def new_user_namespace(t: Targets) -> object:
    return _call(272, 97, 0x10000000)


@attack
def new_network_namespace(t: Targets) -> object:
    return _call(272, 97, 0x10000000 | 0x40000000)


@attack
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


@attack
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


@attack
def mount_tmpfs(t: Targets) -> object:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", os.getcwd().encode(), b"tmpfs", 0, None) != 0:
        raise OSError(ctypes.get_errno(), "refused")
    return True


@attack
def gain_uid(t: Targets) -> None:
    os.setresuid(0, 0, 0)


@attack
def gain_new_privileges(t: Targets) -> object:
    return ctypes.CDLL(None).prctl(39, 0, 0, 0, 0) == 0  # PR_GET_NO_NEW_PRIVS


@attack
def see_capability(t: Targets) -> object:
    head = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    number = 125 if os.uname().machine == "x86_64" else 90
    return ctypes.CDLL(None).syscall(ctypes.c_long(number), head, data) == 0 and any(data)


@attack
def keyring(t: Targets) -> object:
    return _call(250, 219, 0, -3, 1)  # KEYCTL_GET_KEYRING_ID of the session, created when missing


@attack
def io_uring(t: Targets) -> object:
    parameters = ctypes.create_string_buffer(120)
    return _call(425, 425, 4, ctypes.addressof(parameters))


@attack
def user_fault(t: Targets) -> object:
    return _call(323, 282, 1)  # UFFD_USER_MODE_ONLY


@attack
def shared_memory_of_nobody(t: Targets) -> object:
    return _call(29, 194, 0, 4096, 0o1600)


NO_CONTROL |= {"io_uring", "user_fault", "keyring"}  # a host may have switched these off by itself


@attack
def inherited_descriptor(t: Targets) -> object:
    return any(os.path.exists(f"/dev/fd/{n}") or _open(n) for n in range(3, 256))


def _open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


@attack
def inherited_environment(t: Targets) -> object:
    return any(t["canary"] in value for value in os.environ.values())
