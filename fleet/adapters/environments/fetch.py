"""Downloads wheels, and only wheels, with the person's own pip settings. Nothing of a repository runs here.

pip gets names, versions and hashes that this package wrote; never a repository's file, address or option.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from packaging.utils import canonicalize_name

from fleet.adapters.environments.manifest import Pin, Rank, Wish
from fleet.adapters.process import HostProcess, kill_group
from fleet.core.errors import TemporaryError
from fleet.core.ports import Clock
from fleet.core.sandbox import GIB

# The only names that reach pip from the environment of whoever started the fleet.
ALLOWED = frozenset(
    """HOME XDG_CONFIG_HOME XDG_CACHE_HOME NETRC LANG
    PIP_CONFIG_FILE PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_NO_INDEX PIP_TRUSTED_HOST PIP_CERT
    PIP_CLIENT_CERT PIP_PROXY PIP_TIMEOUT PIP_DEFAULT_TIMEOUT PIP_KEYRING_PROVIDER PIP_CACHE_DIR
    SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE
    HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY http_proxy https_proxy all_proxy no_proxy""".split()
)
_AWAY = re.compile(
    r"Retrying \(Retry|Max retries exceeded|Connection(Error| broken| refused| aborted)|NewConnectionError|ProxyError|"
    r"Temporary failure in name resolution|timed out|SSLError|HTTP error 5\d\d|HTTP error 429|IncompleteRead|"
    r"(5\d\d|429) (Server|Client) Error",
    re.IGNORECASE,
)
_NO_WHEEL = re.compile(r"(?:No matching distribution found for|satisfies the requirement) ([A-Za-z0-9][\w.-]*)")
_ASKED_BY = re.compile(r"\(from ([A-Za-z0-9][\w.-]*)")
_BAD_HASH = re.compile(r"THESE PACKAGES DO NOT MATCH THE HASHES|Hashes are required|HashMismatch")
_DISK = re.compile(r"No space left on device|Disk quota exceeded")
_KINDS = {
    Rank.RUNTIME: "at run time",
    Rank.TEST: "for tests",
    Rank.FILE: "of the requirements files",
    Rank.DEV: "for development",
}
_RETRIES = "3"  # never 0: only by its retries does pip say that the index is away, rather than empty
_POLL_S = 0.05
_RESOLUTIONS = 12


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """How packages are fetched. ``env``: the starter's environment; only the names in ``ALLOWED`` are used.

    ``seconds`` and ``max_bytes`` bound one download.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 900.0
    max_bytes: int = GIB

    def for_pip(self, scratch: Path) -> dict[str, str]:
        """The whole environment of pip."""
        fixed = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "TMPDIR": str(scratch),
            "PIP_NO_INPUT": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PYTHONNOUSERSITE": "1",
        }
        taken = {name: value for name, value in self.env.items() if name in ALLOWED and value}
        return {"HOME": str(scratch)} | taken | fixed


class Refusal(Enum):
    """Why pip fetched nothing, as far as it matters to what is tried next."""

    NO_WHEEL = "no_wheel"
    HASHES = "hashes"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Refused:
    """``package`` has no fitting wheel; ``asked_by`` is the package that wanted it, if one did."""

    why: Refusal
    detail: str
    package: str = ""
    asked_by: str = ""


class Pip:
    """The fetch-only half of pip. ``command`` starts it (`python -I …/__pip-runner__.py`)."""

    def __init__(self, command: Sequence[str], index: IndexSettings, clock: Clock) -> None:
        self._command = tuple(command)
        self._index = index
        self._clock = clock

    def download(
        self, lines: Sequence[str], into: Path, constraints: Sequence[str] = (), *, hashes: bool = False
    ) -> Refused | None:
        """Fetches wheels for ``lines`` and what they need; with ``hashes`` exactly the lines.

        None when all is there. Raises TemporaryError when the index is away, too slow, or sends too much.
        """
        into.mkdir(parents=True, exist_ok=True)
        scratch = into.parent / "scratch"
        scratch.mkdir(exist_ok=True)
        asked, limits = scratch / f"{into.name}.in", scratch / f"{into.name}.constraints"
        asked.write_text("\n".join(lines) + "\n")
        limits.write_text("\n".join(constraints) + "\n")
        words = [
            "download",
            "--only-binary",
            ":all:",
            "--retries",
            _RETRIES,
            "--dest",
            str(into),
            "--progress-bar",
            "off",
            "-r",
            str(asked),
        ]
        words += ["--require-hashes", "--no-deps"] if hashes else []
        words += ["--constraint", str(limits)] if constraints else []
        log = scratch / f"{into.name}.log"
        log.unlink(missing_ok=True)
        status = self._run([*self._command, *words], into.parent, scratch, log)
        return None if status == 0 else _refusal(log.read_text(errors="replace"))

    def _run(self, argv: Sequence[str], folder: Path, scratch: Path, log: Path) -> int:
        process = HostProcess(argv, cwd=scratch, env=self._index.for_pip(scratch), log=log)
        until = self._clock.monotonic() + self._index.seconds
        try:
            while (status := process.poll()) is None:
                if self._clock.monotonic() > until:
                    raise TemporaryError(
                        f"The package index did not deliver within {self._index.seconds:g} s.", "Try again later."
                    )
                if size_of(folder) > self._index.max_bytes:
                    limit = self._index.max_bytes // (1024 * 1024)
                    raise TemporaryError(
                        f"The dependencies of the repository are larger than {limit} MiB.", "Ask for fewer packages."
                    )
                self._clock.sleep(_POLL_S)
            return status
        finally:
            if process.poll() is None:
                kill_group(process.pid)
                process.wait()


def _refusal(log: str) -> Refused:
    errors = [line for line in log.splitlines() if line.startswith("ERROR")] or log.strip().splitlines()[-1:]
    detail = "; ".join(line.removeprefix("ERROR: ") for line in errors)[:400]
    if _DISK.search(log):
        raise TemporaryError("The disk is full, so the dependencies could not be fetched.", "Free some space.")
    if _BAD_HASH.search(log):
        return Refused(Refusal.HASHES, detail)
    if _AWAY.search(log):
        raise TemporaryError(
            f"The package index cannot be reached ({detail}).", "Check the network and pip's settings."
        )
    match = _NO_WHEEL.search(log)
    if match:
        asked_by = _ASKED_BY.search(log[match.end() : match.end() + 200])
        return Refused(Refusal.NO_WHEEL, detail, match[1], asked_by[1] if asked_by else "")
    return Refused(Refusal.CONFLICT, detail)


@dataclass(frozen=True, slots=True)
class Fetched:
    """The wheels to install, and what could not be had."""

    wheels: tuple[Path, ...]
    problems: tuple[str, ...]


def fetch_pins(pip: Pip, pins: Sequence[Pin], folder: Path) -> Fetched:
    """Exactly the pinned wheels. One that is not there is left out and named; the others still come."""
    left, problems = list(pins), list[str]()
    while left:
        refused = pip.download([pin.line() for pin in left], folder, hashes=True)
        if refused is None:
            break
        name = canonicalize_name(refused.package)
        kept = [pin for pin in left if canonicalize_name(pin.name) != name] if refused.why is Refusal.NO_WHEEL else []
        if len(kept) == len(left) or not kept:
            problems.append(f"The locked packages could not be fetched: {refused.detail}.")
            return Fetched((), tuple(problems))
        problems.append(
            f"{refused.package} of the lock has no wheel at the package index; nothing is built from source."
        )
        left = kept
    return Fetched(_wheels(folder), tuple(problems))


def fetch_wishes(pip: Pip, wishes: Sequence[Wish], pins: Sequence[Pin], folder: Path) -> Fetched:
    """Wheels for ``wishes``. What cannot be had is dropped, the least important first, and named."""
    left, problems = list(wishes), list[str]()
    constraints = [f"{pin.name}=={pin.version}" for pin in pins]
    for _ in range(_RESOLUTIONS):
        if not left:
            break
        refused = pip.download([wish.text for wish in left], folder, constraints)
        if refused is None:
            return Fetched(_wheels(folder), tuple(problems))
        kept, said = _without(left, refused)
        problems.append(said)
        left = kept
    return Fetched((), tuple(problems))


def _without(wishes: Sequence[Wish], refused: Refused) -> tuple[list[Wish], str]:
    """What is tried next after a refusal, and the sentence about it."""
    if refused.why is Refusal.NO_WHEEL:
        for name in (refused.package, refused.asked_by):
            kept = [wish for wish in wishes if canonicalize_name(wish.name) != canonicalize_name(name)]
            if name and len(kept) < len(wishes):
                via = "" if name == refused.package else f", which {name} needs,"
                reason = f"{refused.package}{via} has no fitting wheel; nothing is built from source"
                return kept, f"{reason}, so {name} was left out."
    worst = max(wish.rank for wish in wishes)
    kept = [wish for wish in wishes if wish.rank < worst]
    dropped = ", ".join(sorted({wish.name for wish in wishes} - {wish.name for wish in kept}))
    reason = f"The dependencies cannot be had together ({refused.detail})"
    return kept, f"{reason}; those {_KINDS[worst]} were left out: {dropped}."


def _wheels(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(folder.glob("*.whl")))


def size_of(folder: Path) -> int:
    """Bytes of the files below ``folder``; what vanishes meanwhile does not count."""
    total = 0
    for here, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(here, name)).st_size
    return total
