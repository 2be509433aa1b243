"""Starting the host from a command, without loading what the host will load."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import fleet
from fleet.local.home import COLLECTOR_HEADERS, Home

# Settings of the fleet and of the programs it starts (pip, git); never a token or a model key.
_PASSED = frozenset(
    "PATH HOME LANG LC_ALL TZ TMPDIR USER LOGNAME PYTHONPATH PYTHONSAFEPATH PYTHONDONTWRITEBYTECODE "
    "http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY "
    "SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE GIT_SSL_CAINFO".split()
)
_PREFIXES = ("FLEET_", "OTEL_", "PIP_", "XDG_")
CHECKOUT = str(Path(fleet.__file__).resolve().parents[1])


def start_host(home: Home) -> int:
    """Starts the host in the background: its own session, its own interpreter, and only what it needs to know.

    A fresh interpreter has a command line that says what it is, and no key of the person's shell in its memory.
    Returns its pid.
    """
    from fleet.local.host import detach  # noqa: PLC0415 - what forks is not needed by those who attach

    home.keep_collector(home.env)
    passed = {
        name: value
        for name, value in home.env.items()
        if (name in _PASSED or name.startswith(_PREFIXES)) and name not in COLLECTOR_HEADERS
    }
    argv = (sys.executable, "-P", "-m", "fleet.cli", "service", "host")
    return detach(lambda: os.execve(argv[0], argv, {"PYTHONPATH": CHECKOUT, **passed}), home.host_log)
