"""Attacks, run alone inside a sandbox: ``python -I -S -c <text of the corpus> <name or "all"> <targets as JSON>``.

The text of the corpus is this file, the two with the attacks, and the call of ``main``; conftest joins them.

An attack that raises or returns False was held. Anything else prints BREACH. Targets live outside the workspace and
belong to the uid of the command, so that only the sandbox stands between them.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

Targets = dict[str, Any]
Attack = Callable[[Targets], object]

ATTACKS: dict[str, Attack] = {}
# attacks that prove nothing without a sandbox here, because an ordinary user may not do them anyway or they need a peer
NO_CONTROL = {"make_device", "mount_tmpfs", "gain_uid", "link_local", "resolve_name", "packet_socket", "see_capability"}


def attack(function: Attack) -> Attack:
    """Adds ``function`` to the corpus."""
    ATTACKS[function.__name__] = function
    return function


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
