"""Attacks on files and on other processes. See corpus.py."""

from __future__ import annotations

import ctypes
import os
import signal
import stat

from tests.sandbox.corpus import NO_CONTROL, Targets, attack


def _put(path: str) -> None:
    with open(path, "w") as handle:
        handle.write("breach")


@attack
def write_absolute(t: Targets) -> None:
    _put(t["outside"] + "/written")


@attack
def write_dotdot(t: Targets) -> None:
    _put("../" * 20 + t["outside"][1:] + "/written")


@attack
def write_symlink(t: Targets) -> None:
    os.symlink(t["outside"] + "/written", "innocent")
    _put("innocent")


@attack
def write_folder_symlink(t: Targets) -> None:
    os.symlink(t["outside"], "folder")
    _put("folder/written")


@attack
def write_hardlink(t: Targets) -> None:
    os.link(t["secret"], "hard")
    _put("hard")


@attack
def overwrite(t: Targets) -> None:
    _put(t["secret"])


@attack
def append(t: Targets) -> object:
    return os.write(os.open(t["secret"], os.O_WRONLY | os.O_APPEND), b"breach")


@attack
def truncate(t: Targets) -> None:
    os.truncate(t["secret"], 0)


@attack
def unlink(t: Targets) -> None:
    os.unlink(t["secret"])


@attack
def rename_away(t: Targets) -> None:
    os.rename(t["secret"], "stolen")


@attack
def rename_onto(t: Targets) -> None:
    _put("mine")
    os.rename("mine", t["secret"])


@attack
def make_folder(t: Targets) -> None:
    os.mkdir(t["outside"] + "/new")


@attack
def make_fifo(t: Targets) -> None:
    os.mkfifo(t["outside"] + "/fifo")


@attack
def make_device(t: Targets) -> None:
    os.mknod("device", stat.S_IFBLK | 0o600, os.makedev(8, 0))


@attack
def plant_symlink(t: Targets) -> None:
    os.symlink("/etc/passwd", t["outside"] + "/link")


@attack
def read_secret(t: Targets) -> object:
    with open(t["secret"]) as handle:
        return t["marker"] in handle.read()


@attack
def read_secret_by_symlink(t: Targets) -> object:
    os.symlink(t["secret"], "reads")
    with open("reads") as handle:
        return t["marker"] in handle.read()


@attack
def read_through_proc_root(t: Targets) -> object:
    with open(f"/proc/{t['victim']}/root{t['secret']}") as handle:
        return t["marker"] in handle.read()


@attack
def list_outside(t: Targets) -> object:
    return "secret" in os.listdir(t["outside"])


@attack
def write_read_only_bind(t: Targets) -> None:
    _put(t["toolchain"] + "/written")


@attack
def write_usr(t: Targets) -> object:
    os.listdir("/usr")
    if os.access("/usr/local", os.W_OK):
        _put("/usr/local/breach")
    raise PermissionError


NO_CONTROL.add("write_usr")


@attack
def read_victim_environment(t: Targets) -> object:
    with open(f"/proc/{t['victim']}/environ", "rb") as handle:
        return t["marker"].encode() in handle.read()


@attack
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


@attack
def read_parent_environment(t: Targets) -> object:
    with open(f"/proc/{os.getppid()}/environ", "rb") as handle:
        return t["canary"].encode() in handle.read()


@attack
def see_victim(t: Targets) -> object:
    with open(f"/proc/{t['victim']}/cmdline", "rb") as handle:
        return t["marker"].encode() in handle.read()


@attack
def read_victim_memory(t: Targets) -> object:
    with open(f"/proc/{t['victim']}/maps") as handle:
        start = int(handle.readline().split("-")[0], 16)
    with open(f"/proc/{t['victim']}/mem", "rb") as memory:
        memory.seek(start)
        return len(memory.read(16)) == 16


@attack
def trace_victim(t: Targets) -> object:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    return libc.ptrace(0x4206, t["victim"], None, None) == 0  # PTRACE_SEIZE, ends with this process


@attack
def signal_victim(t: Targets) -> None:
    os.kill(t["victim"], signal.SIGCONT)


@attack
def open_victim(t: Targets) -> None:
    signal.pidfd_send_signal(os.pidfd_open(t["victim"]), signal.SIGCONT)


@attack
def slow_victim(t: Targets) -> None:
    os.setpriority(os.PRIO_PROCESS, t["victim"], 5)


@attack
def pin_victim(t: Targets) -> None:
    os.sched_setaffinity(t["victim"], os.sched_getaffinity(0))


@attack
def limit_victim(t: Targets) -> object:
    import resource

    return resource.prlimit(t["victim"], resource.RLIMIT_CORE, (0, 0))
