"""A small assembler for classic BPF as seccomp reads it: conditions and verdicts, forward jumps only.

A program is a list of 8-byte instructions over ``struct seccomp_data`` (nr, arch, instruction pointer, six arguments).
Every rule either returns a verdict or falls through with the syscall number still in the accumulator.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_LD_ABS = 0x20  # BPF_LD | BPF_W | BPF_ABS
_ALU_AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
_JEQ = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JGE = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_JSET = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RET = 0x06  # BPF_RET | BPF_K

OFFSET_NR = 0
OFFSET_ARCH = 4

KILL_PROCESS = 0x80000000
ALLOW = 0x7FFF0000
_ERRNO = 0x00050000


@dataclass(frozen=True, slots=True)
class Instruction:
    """One ``struct sock_filter``. ``jt`` and ``jf`` skip that many following instructions."""

    code: int
    jt: int
    jf: int
    k: int

    def pack(self) -> bytes:
        return struct.pack("=HBBI", self.code, self.jt, self.jf, self.k)


Block = list[Instruction]


def refuse(errno: int) -> int:
    """The verdict "fail with this errno"."""
    return _ERRNO | (errno & 0xFFFF)


def load(offset: int) -> Instruction:
    return Instruction(_LD_ABS, 0, 0, offset)


def argument(index: int, high: bool = False) -> Instruction:
    """Loads the low (or high) 32 bits of an argument; both supported machines are little-endian."""
    return load(16 + 8 * index + (4 if high else 0))


def mask(bits: int) -> Instruction:
    return Instruction(_ALU_AND, 0, 0, bits)


def ret(verdict: int) -> Instruction:
    return Instruction(_RET, 0, 0, verdict)


def if_equal(value: int, then: Block) -> Block:
    """``then`` runs when the accumulator equals ``value``, else it is skipped."""
    return [Instruction(_JEQ, 0, _short(then), value), *then]


def if_not_equal(value: int, then: Block) -> Block:
    return [Instruction(_JEQ, _short(then), 0, value), *then]


def if_at_least(value: int, then: Block) -> Block:
    return [Instruction(_JGE, 0, _short(then), value), *then]


def if_any_bit(bits: int, then: Block) -> Block:
    return [Instruction(_JSET, 0, _short(then), bits), *then]


def assemble(block: Block) -> bytes:
    """The program as bytes; raises ValueError when it is longer than the kernel accepts."""
    if len(block) > 4096:
        raise ValueError("a seccomp program has at most 4096 instructions")
    return b"".join(instruction.pack() for instruction in block)


def evaluate(program: bytes, *, nr: int, arch: int, arguments: tuple[int, ...] = ()) -> int:
    """What the kernel would answer: the verdict of ``program`` for one system call. For checks on any machine."""
    filled = (arguments + (0,) * 6)[:6]
    data = struct.pack("<IIQ6Q", nr & 0xFFFFFFFF, arch, 0, *(value & 0xFFFFFFFFFFFFFFFF for value in filled))
    accumulator = 0
    position = 0
    while True:
        code, jt, jf, k = struct.unpack_from("=HBBI", program, position * 8)
        position += 1
        if code == _LD_ABS:
            accumulator = struct.unpack_from("<I", data, k)[0]
        elif code == _ALU_AND:
            accumulator &= k
        elif code == _RET:
            return int(k)
        else:
            held = {_JEQ: accumulator == k, _JGE: accumulator >= k, _JSET: bool(accumulator & k)}[code]
            position += jt if held else jf


def _short(block: Block) -> int:
    if len(block) > 255:
        raise ValueError("a block of a seccomp program is too long to jump over")
    return len(block)
