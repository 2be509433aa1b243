"""The seccomp program of each tier: everything is allowed but what reaches past the sandbox.

Landlock does not scope pathname unix sockets, UDP, System V and POSIX message objects, nor scheduling of other
processes, and has no namespaces; its program therefore refuses more than the one inside bubblewrap.
"""

from __future__ import annotations

import errno
import socket
from functools import lru_cache

from fleet.adapters.sandbox import bpf
from fleet.adapters.sandbox.syscalls import AUDIT_ARCH, X32_BIT, number

# Kernel surface that no build, test or agent needs, or that reads and steers other processes.
REFUSED = (
    "ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "pidfd_getfd",
    "keyctl", "add_key", "request_key", "bpf", "userfaultfd", "perf_event_open", "memfd_secret",
    "mount", "umount2", "pivot_root", "chroot", "open_tree", "open_tree_attr", "move_mount",
    "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "setns",
    "io_uring_setup", "io_uring_enter", "io_uring_register",
    "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "reboot",
    "swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "nfsservctl", "syslog", "vhangup",
    "settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "sethostname", "setdomainname",
    "iopl", "ioperm", "modify_ldt", "uselib", "ustat", "sysfs", "_sysctl", "lookup_dcookie",
    "name_to_handle_at", "open_by_handle_at", "fanotify_init", "migrate_pages", "move_pages",
    "shmget", "msgget",  # memory that belongs to no process, so that no meter sees it
)  # fmt: skip
REFUSED_WITHOUT_NAMESPACES = ("semget", "mq_open")

# arguments that name another process: only 0 (oneself) passes
_SELF_ONLY = {
    "sched_setaffinity": 0, "sched_setparam": 0, "sched_setscheduler": 0, "sched_setattr": 0,
    "setpriority": 1, "ioprio_set": 1,
}  # fmt: skip

_CLONE_NEW = 0x7E020000  # mount, cgroup, UTS, IPC, user, PID, net
_CLONE_NEWTIME = 0x80  # unshare only: in clone these bits are the exit signal
_TIOCSTI = 0x5412
_TIOCLINUX = 0x541C
_TYPE_MASK = 0xF

_EPERM = bpf.refuse(errno.EPERM)
_NO_FAMILY = bpf.refuse(errno.EAFNOSUPPORT)


@lru_cache(maxsize=4)
def program(machine: str, *, namespaces: bool) -> bytes:
    """The filter for ``machine`` as bytes of ``struct sock_filter``.

    With ``namespaces`` (bubblewrap) unix sockets and TCP on the sandbox's own loopback pass; without them no socket.
    Raises ValueError on a machine without a table.
    """
    if machine not in AUDIT_ARCH:
        raise ValueError(f"no system call table for {machine}")
    block: bpf.Block = [bpf.load(bpf.OFFSET_ARCH)]
    block += bpf.if_not_equal(AUDIT_ARCH[machine], [bpf.ret(bpf.KILL_PROCESS)])
    block += [bpf.load(bpf.OFFSET_NR)]
    if machine == "x86_64":
        block += bpf.if_at_least(X32_BIT, [bpf.ret(bpf.KILL_PROCESS)])
    for name in REFUSED if namespaces else REFUSED + REFUSED_WITHOUT_NAMESPACES:
        block += _on(machine, name, [bpf.ret(_EPERM)])
    block += _new_namespaces(machine)
    block += _on(machine, "ioctl", _terminal_injection())
    block += _on(machine, "socket", _families() if namespaces else [bpf.ret(_NO_FAMILY)])
    block += _on(machine, "socketpair", _only_unix())
    if not namespaces:
        block += _own_process_only(machine)
    return bpf.assemble([*block, bpf.ret(bpf.ALLOW)])


def _on(machine: str, name: str, then: bpf.Block) -> bpf.Block:
    value = number(name, machine)
    return [] if value is None else bpf.if_equal(value, then)


def _new_namespaces(machine: str) -> bpf.Block:
    # clone3 passes its flags by pointer, which a filter cannot read: libc falls back to clone on ENOSYS
    def flags(bits: int) -> bpf.Block:
        return [bpf.argument(0), *bpf.if_any_bit(bits, [bpf.ret(_EPERM)]), bpf.ret(bpf.ALLOW)]

    return [
        *_on(machine, "clone3", [bpf.ret(bpf.refuse(errno.ENOSYS))]),
        *_on(machine, "clone", flags(_CLONE_NEW)),
        *_on(machine, "unshare", flags(_CLONE_NEW | _CLONE_NEWTIME)),
    ]


def _terminal_injection() -> bpf.Block:
    refused = [bpf.ret(_EPERM)]
    return [
        bpf.argument(1),
        *bpf.if_equal(_TIOCSTI, refused),
        *bpf.if_equal(_TIOCLINUX, refused),
        bpf.ret(bpf.ALLOW),
    ]


def _families() -> bpf.Block:
    # AF_VSOCK and netlink ignore or describe the network namespace; datagrams are how DNS and QUIC leave
    stream = [
        bpf.argument(1),
        bpf.mask(_TYPE_MASK),
        *bpf.if_equal(socket.SOCK_STREAM, [bpf.ret(bpf.ALLOW)]),
        bpf.ret(_NO_FAMILY),
    ]
    return [
        bpf.argument(0),
        *bpf.if_equal(socket.AF_UNIX, [bpf.ret(bpf.ALLOW)]),
        *bpf.if_equal(socket.AF_INET, stream),
        *bpf.if_equal(socket.AF_INET6, stream),
        bpf.ret(_NO_FAMILY),
    ]


def _only_unix() -> bpf.Block:
    return [bpf.argument(0), *bpf.if_equal(socket.AF_UNIX, [bpf.ret(bpf.ALLOW)]), bpf.ret(_NO_FAMILY)]


def _own_process_only(machine: str) -> bpf.Block:
    block: bpf.Block = []
    for name, index in _SELF_ONLY.items():
        rule = [bpf.argument(index), *bpf.if_not_equal(0, [bpf.ret(_EPERM)]), bpf.ret(bpf.ALLOW)]
        block += _on(machine, name, rule)
    # prlimit64 of another process may be read but not set: the new limit (argument 2) must be NULL
    set_other = [
        bpf.argument(2),
        *bpf.if_not_equal(0, [bpf.ret(_EPERM)]),
        bpf.argument(2, high=True),
        *bpf.if_not_equal(0, [bpf.ret(_EPERM)]),
    ]
    return block + _on(machine, "prlimit64", [bpf.argument(0), *bpf.if_not_equal(0, set_other), bpf.ret(bpf.ALLOW)])
