"""The seccomp programs, evaluated instruction by instruction for both machines."""

from __future__ import annotations

import errno
import socket

import pytest

from fleet.adapters.sandbox import bpf, policy
from fleet.adapters.sandbox.syscalls import AUDIT_ARCH, X32_BIT, number

MACHINES = sorted(AUDIT_ARCH)
EPERM = bpf.refuse(errno.EPERM)
NO_FAMILY = bpf.refuse(errno.EAFNOSUPPORT)


def _verdict(machine: str, name: str, *arguments: int, namespaces: bool = True) -> int:
    value = number(name, machine)
    assert value is not None
    program = policy.program(machine, namespaces=namespaces)
    return bpf.evaluate(program, nr=value, arch=AUDIT_ARCH[machine], arguments=arguments)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("namespaces", [True, False])
def test_every_refused_call_is_refused_and_others_pass(machine: str, namespaces: bool) -> None:
    for name in policy.REFUSED:
        if number(name, machine) is not None:
            assert _verdict(machine, name, namespaces=namespaces) == EPERM, name
    assert _verdict(machine, "getpid", namespaces=namespaces) == bpf.ALLOW


@pytest.mark.parametrize("namespaces", [True, False])
def test_another_architecture_and_x32_are_killed(namespaces: bool) -> None:
    program = policy.program("x86_64", namespaces=namespaces)
    assert bpf.evaluate(program, nr=39, arch=0x40000003) == bpf.KILL_PROCESS
    assert bpf.evaluate(program, nr=X32_BIT | 39, arch=AUDIT_ARCH["x86_64"]) == bpf.KILL_PROCESS
    other = policy.program("aarch64", namespaces=namespaces)
    assert bpf.evaluate(other, nr=39, arch=0x40000028) == bpf.KILL_PROCESS


@pytest.mark.parametrize("machine", MACHINES)
def test_new_namespaces(machine: str) -> None:
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert _verdict(machine, "clone", flag | 17) == EPERM
        assert _verdict(machine, "unshare", flag) == EPERM
    assert _verdict(machine, "unshare", 0x80) == EPERM
    assert _verdict(machine, "clone", 0x3D0F00) == bpf.ALLOW  # a thread
    assert _verdict(machine, "clone3") == bpf.refuse(errno.ENOSYS)


@pytest.mark.parametrize("machine", MACHINES)
def test_sockets(machine: str) -> None:
    stream, datagram = socket.SOCK_STREAM | socket.SOCK_CLOEXEC, socket.SOCK_DGRAM
    assert _verdict(machine, "socket", socket.AF_UNIX, datagram) == bpf.ALLOW
    assert _verdict(machine, "socket", socket.AF_INET, stream) == bpf.ALLOW
    assert _verdict(machine, "socket", socket.AF_INET6, stream) == bpf.ALLOW
    for internet in (socket.AF_INET, socket.AF_INET6):
        assert _verdict(machine, "socket", internet, datagram) == NO_FAMILY
        assert _verdict(machine, "socket", internet, socket.SOCK_RAW) == NO_FAMILY
    for family in range(64):
        assert _verdict(machine, "socket", family, stream, namespaces=False) == NO_FAMILY
        if family not in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6):
            assert _verdict(machine, "socket", family, stream) == NO_FAMILY
            assert _verdict(machine, "socketpair", family, stream) == NO_FAMILY
    assert _verdict(machine, "socketpair", socket.AF_UNIX, stream, namespaces=False) == bpf.ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_terminal_injection(machine: str) -> None:
    assert _verdict(machine, "ioctl", 0, 0x5412) == EPERM
    assert _verdict(machine, "ioctl", 0, 0x541C) == EPERM
    assert _verdict(machine, "ioctl", 0, 0x1_0000_5412) == EPERM  # the kernel looks at the low half only
    assert _verdict(machine, "ioctl", 0, 0x5401) == bpf.ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_without_namespaces_only_oneself_is_steered(machine: str) -> None:
    for name, index in (("sched_setaffinity", 0), ("sched_setscheduler", 0), ("setpriority", 1), ("ioprio_set", 1)):
        for who, verdict in ((0, bpf.ALLOW), (4711, EPERM)):
            arguments = [0, 0]
            arguments[index] = who
            assert _verdict(machine, name, *arguments, namespaces=False) == verdict
    assert _verdict(machine, "prlimit64", 4711, 7, 0, 1 << 40, namespaces=False) == bpf.ALLOW
    assert _verdict(machine, "prlimit64", 4711, 7, 1 << 40, 0, namespaces=False) == EPERM
    assert _verdict(machine, "prlimit64", 4711, 7, 1 << 12, 0, namespaces=False) == EPERM
    assert _verdict(machine, "prlimit64", 0, 7, 1 << 40, 0, namespaces=False) == bpf.ALLOW


def test_an_unknown_machine_has_no_program() -> None:
    with pytest.raises(ValueError, match="riscv64"):
        policy.program("riscv64", namespaces=True)


def test_the_assembler_refuses_what_it_cannot_jump_over() -> None:
    long = [bpf.ret(bpf.ALLOW)] * 256
    with pytest.raises(ValueError, match="too long"):
        bpf.if_equal(1, long)
    with pytest.raises(ValueError, match="4096"):
        bpf.assemble(long * 17)
