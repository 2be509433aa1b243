"""A fleet home of its own, driven by the real command in a subprocess; nothing here reaches into the fleet's code.

Only where things lie on disk (``Layout``) is taken from the fleet, to look at what it left there.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from fleet.adapters.layout import Layout
from tests.realdata.projects import commit_all, git
from tests.support.wait import eventually

CHECKOUT = Path(__file__).parents[2]
ORDER = (sys.executable, "-P", "-m", "fleet.cli")
UNUSED = "command:ruff check --fix --exit-zero --select F401 ."
ATTEMPT_ENDS = 120.0
# Names that would change how a fleet works or where it lives; each test says them itself.
_OURS = re.compile(r"FLEET_(?!TOOLS$|CACHE$|PYTHON$)")


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Its JSON lines, every one of them."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def result(self) -> dict[str, Any]:
        last = self.rows[-1]
        assert last["type"] == "result", last
        return last

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [row["data"] for row in self.rows if row["type"] == "event" and row["kind"] == kind]

    @property
    def repo(self) -> str:
        """The forge's full name of the repository: folders of one name get different ones."""
        return str(self.events("TicketAccepted")[0]["ticket"]["repo"])

    @property
    def sentence(self) -> str:
        """The one thing that a failed command said; it is no stack trace."""
        assert "Traceback" not in self.err, self.err
        said = [
            line for line in self.err.splitlines() if not re.match(r"fleet: (starting the fleet|\d+ uncommitted)", line)
        ]
        assert len(said) == 1, said
        return said[0]


@cache
def tools() -> str:
    """The locked tools, as bin/test exports them or made by the same script."""
    given = os.environ.get("FLEET_TOOLS", "")
    if given:
        return given
    # By the Python that bin/fleet finds: one in root's own home is closed to the sandbox. $0 leads to the checkout.
    script = f'. "{CHECKOUT}/bin/prepare.sh"; find_python; environments tools; echo "$folders"'
    make = ["sh", "-c", script, f"{CHECKOUT}/bin/fleet"]
    return subprocess.run(make, capture_output=True, text=True, check=True).stdout.strip().splitlines()[-1]


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not _OURS.match(name)}
    return {
        **kept,
        "FLEET_HOME": str(home),
        "FLEET_TOOLS": tools(),
        "PYTHONPATH": str(CHECKOUT),
        "PYTHONSAFEPATH": "1",
        **more,
    }


@dataclass
class Fleet:
    """One home. ``env`` is what every command is given."""

    home: Path
    env: dict[str, str]
    background: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def layout(self) -> Layout:
        return Layout(self.home, os.geteuid())

    # --- commands --------------------------------------------------------------------------------------------------
    def __call__(
        self, *words: str, timeout: float = 90.0, input: str = "", env: Mapping[str, str] | None = None
    ) -> Done:
        done = subprocess.run(
            [*ORDER, *words],
            env={**self.env, **(env or {})},
            cwd="/",
            input=input,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """The same in the background, in a process group of its own."""
        pipe = subprocess.PIPE
        began = subprocess.Popen(
            [*ORDER, *words], env=self.env, cwd="/", stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True,
            start_new_session=True,
        )  # fmt: skip
        self.background.append(began)
        return began

    def ticket(self, repo: Path, agent: str = UNUSED, *more: str, title: str = "Remove unused imports") -> Done:
        return self(
            "run", "--json", "--repo", str(repo), "--title", title, "--agent", agent, *more, timeout=ATTEMPT_ENDS
        )

    # --- the forge -------------------------------------------------------------------------------------------------
    def tokens(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.layout.secrets / "forge.json").read_text())
        return found

    def forge_url(self) -> str:
        state = json.loads((self.layout.runtime / "host.json").read_text())
        return str(state["forge_url"])

    def api(self, path: str) -> Any:
        """The forge's answer to a person's GET."""
        headers = {"Authorization": f"token {self.tokens()['person']}"}
        request = urllib.request.Request(f"{self.forge_url()}/api/v3{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read())

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The forge's answer to what a person writes."""
        headers = {"Authorization": f"token {self.tokens()['person']}", "Content-Type": "application/json"}
        data = json.dumps(body).encode()
        request = urllib.request.Request(f"{self.forge_url()}/api/v3{path}", data, headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read())

    def pulls(self, repo: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api(f"/repos/{repo}/pulls?state=all&per_page=100")
        return found

    def bare(self, repo: str) -> Path:
        """The forge's own repository, to read with git."""
        found = [
            path.parent for path in self.layout.forge.rglob("HEAD") if path.parent.name == f"{repo.split('/')[1]}.git"
        ]
        assert len(found) == 1, found
        return found[0]

    # --- processes -------------------------------------------------------------------------------------------------
    def services(self) -> dict[str, int]:
        """Name → pid of the host and everything it runs."""
        pids: dict[str, int] = {}
        with suppress(FileNotFoundError, ValueError):
            pids.update(json.loads((self.layout.runtime / "services.json").read_text()))
            pids["host"] = json.loads((self.layout.runtime / "host.json").read_text())["pid"]
        return {name: pid for name, pid in pids.items() if pid and Path(f"/proc/{pid}").exists()}

    def processes(self) -> dict[int, str]:
        """Every live process of this home: by the environment it was started with, its command line or its uid."""
        marks = (
            f"FLEET_HOME={self.home}\0".encode(),
            str(self.layout.runtime).encode(),
            str(self.layout.work).encode(),
            str(self.layout.home / "redis").encode(),
        )
        first, last = self.layout.slot_gid(), self.layout.slot_gid() + 64
        own = {os.getpid(), *(one.pid for one in self.background)}
        found = {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit() or int(folder.name) in own:
                continue
            with suppress(OSError):
                words, env = read(folder / "cmdline"), read(folder / "environ") + b"\0"
                slot = self.layout.as_root and first < folder.stat().st_uid < last
                if words and (slot or any(mark in env or mark in words for mark in marks)):
                    found[int(folder.name)] = words.replace(b"\0", b" ").decode("utf-8", "replace").strip()
        return found

    def family(self) -> dict[int, str]:
        """The services and all below them, with the moment each was born: an ordinary user may read no more of them."""
        pids, found = list(self.services().values()), {}
        while pids:
            pid = pids.pop()
            found[pid] = born(pid)
            pids += children(pid)
        return {pid: moment for pid, moment in found.items() if moment}

    def stop(self) -> dict[int, str]:
        """`fleet down`; answers the processes that are left after it."""
        for one in self.background:
            if one.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(one.pid, signal.SIGKILL)
            one.communicate()
        self.background.clear()
        family = self.family()
        done = self("down")
        assert done.code == 0, done.err

        def left() -> dict[int, str]:
            still = {pid: "of the services" for pid, moment in family.items() if born(pid) == moment}
            return {**still, **self.processes()}

        eventually(lambda: not left(), 30.0)
        return left()

    def remove(self) -> None:
        """`fleet clean --all`; nothing stays of the home."""
        done = self("clean", "--all", "--yes")
        assert done.code == 0, done.err
        assert not any(folder.exists() for folder in (self.layout.work, self.layout.runtime, self.home))


def read(path: Path) -> bytes:
    """Empty when it is gone or lets nobody look into it."""
    with suppress(OSError):
        return path.read_bytes()
    return b""


def born(pid: int) -> str:
    """When the process began, in ticks of the kernel; empty when it is gone or only waits to be reaped."""
    fields = read(Path(f"/proc/{pid}/stat")).rpartition(b") ")[2].split()
    return fields[19].decode() if fields and fields[0] != b"Z" else ""


def children(pid: int) -> list[int]:
    return [int(word) for word in read(Path(f"/proc/{pid}/task/{pid}/children")).split()]


@contextmanager
def fleet_home(where: Path | None = None, **env: str) -> Iterator[Fleet]:
    """A home below a short path; at the end nothing of it is left: no process, no folder."""
    home = where or Path(tempfile.mkdtemp(prefix="fe", dir="/var/tmp"))
    fleet = Fleet(home, environment(home, **env))
    try:
        yield fleet
    finally:
        left = fleet.stop()
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        fleet.remove()
    assert not left, f"after `fleet down` these still ran: {left}"


CODE = "import os\nimport sys\n\n\ndef double(number: int) -> int:\n    return 2 * number\n"
TEST = "from small.core import double\n\n\ndef test_double() -> None:\n    assert double(2) == 4\n"
SETTINGS = '[tool.ruff]\nline-length = 100\n\n[tool.pytest.ini_options]\npythonpath = ["."]\n'
FILES = {"small/__init__.py": "", "small/core.py": CODE, "tests/test_core.py": TEST, "pyproject.toml": SETTINGS}


def repository(folder: Path, files: Mapping[str, str | bytes] | None = None) -> Path:
    """A git repository of one commit on ``main``: by default a small package with two unused imports and a test."""
    folder.mkdir(parents=True)
    for name, text in (FILES if files is None else files).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    git(folder, "init", "-q", "-b", "main")
    commit_all(folder, "First")
    return folder


def snapshot(folder: Path, left_out: Callable[[str], bool]) -> dict[str, tuple[object, ...]]:
    """Everything below ``folder`` by relative path: kind, mode, owner, size, times and bytes."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if left_out(name):
            continue
        row = path.lstat()
        if path.is_dir() and not path.is_symlink():
            found[name] = (row.st_mode, row.st_uid)
        else:
            found[name] = (row.st_mode, row.st_uid, row.st_size, row.st_mtime_ns, row.st_ino, path.read_bytes())
    return found


def status_of(url: str, token: str = "", **headers: str) -> tuple[int, str]:
    """(status, body) of a GET; a refusal is an answer, too."""
    full = f"{url}?token={token}" if token else url
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    try:
        with opener.open(urllib.request.Request(full, headers=headers), timeout=20) as answer:
            return answer.status, answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode("utf-8", "replace")
