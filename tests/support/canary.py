"""A search for secrets in everything that a fleet wrote: files, git objects, databases, the ledger, processes (I7).

It shares no code with the fleet's own redaction: what one of the two forgets, the other still knows.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import gzip
import re
import sqlite3
import subprocess
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tests.realdata.projects import git

_WHITE = re.compile(rb"(?:\\[nrt]|[\s\"'\\])+")
_SHORTEST = 16


@dataclass(frozen=True)
class Leak:
    """``where`` it lies, whose secret it is, and how it is written."""

    where: str
    canary: str
    form: str

    def __str__(self) -> str:
        return f"{self.canary} ({self.form}) in {self.where}"


def written(secret: str) -> dict[str, bytes]:
    """Name → how the secret may be written down. Upper and lower case of hex are told apart nowhere."""
    raw = secret.encode()
    percent = "".join(f"%{byte:02x}" for byte in raw)
    forms = {
        "plain": raw,
        "reversed": raw[::-1],
        "hex": binascii.hexlify(raw),
        "hex with x": "".join(f"\\x{byte:02x}" for byte in raw).encode(),
        "url": quote(secret, safe="").encode(),
        "every byte url": percent.encode(),
        "rot13": codecs.encode(secret, "rot13").encode(),
        "utf-16": secret.encode("utf-16-le"),
        "base32": base64.b32encode(raw).rstrip(b"="),
    }
    for offset in range(3):
        # The first and the last characters also hold bits of what stands beside it.
        coded = base64.b64encode(b"\0" * offset + raw + b"\0" * 3)
        inner = coded[(0, 2, 3)[offset] : (len(raw) + offset) * 8 // 6]
        forms[f"base64 at {offset}"] = inner
        forms[f"base64 for urls at {offset}"] = inner.replace(b"+", b"-").replace(b"/", b"_")
    return forms


class Scanner:
    """``canaries``: name → secret of at least 16 characters. ``found`` collects what was seen; ``looked`` counts."""

    def __init__(self, canaries: Mapping[str, str]) -> None:
        assert canaries and all(len(secret) >= _SHORTEST for secret in canaries.values()), "a canary is too short"
        self.found: list[Leak] = []
        self.looked: dict[str, int] = {}
        self._needles = {
            (name, form): needle.lower()
            for name, secret in canaries.items()
            for form, needle in written(secret).items()
        }

    def bytes(self, kind: str, where: str, data: bytes) -> None:
        """As it is, without white space and quotes (a secret over several lines), and unpacked when it is packed."""
        self.looked[kind] = self.looked.get(kind, 0) + 1
        for text in {data.lower(), _WHITE.sub(b"", data).lower(), *(one.lower() for one in _unpacked(data))}:
            for (name, form), needle in self._needles.items():
                if needle in text:
                    self.found.append(Leak(where, name, form))

    def text(self, kind: str, where: str, text: str) -> None:
        self.bytes(kind, where, text.encode("utf-8", "surrogateescape"))

    def tree(self, kind: str, folder: Path, left_out: Iterable[Path] = ()) -> None:
        """Every file below, its name too; of bare repositories every object, of SQLite files every row."""
        skipped = {path.resolve() for path in left_out}
        for path in sorted(folder.rglob("*")):
            if any(path == one or one in path.parents for one in skipped):
                continue
            self.text(f"{kind}: names", str(path.relative_to(folder)), path.name)
            if path.is_symlink():
                self.text(f"{kind}: links", str(path), str(path.readlink()))
            elif path.is_file():
                self.bytes(f"{kind}: files", str(path), path.read_bytes())
                self._inside(kind, path)
            elif (path / "objects").is_dir() and (path / "HEAD").is_file():
                self.objects(kind, path)

    def objects(self, kind: str, repo: Path) -> None:
        """Every object of a repository: files, names, messages, authors, signatures."""
        argv = ["git", "-c", "safe.directory=*", "-C", str(repo), "cat-file", "--batch", "--batch-all-objects"]
        done = subprocess.run(argv, capture_output=True, check=True, timeout=120)
        self.looked[f"{kind}: git objects"] = self.looked.get(f"{kind}: git objects", 0) + done.stdout.count(b"\n") // 2
        self.bytes(f"{kind}: repositories", str(repo), done.stdout)

    def _inside(self, kind: str, path: Path) -> None:
        with path.open("rb") as file:
            head = file.read(16)
        if head.startswith(b"SQLite format 3"):
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as base:
                for row in base.iterdump():
                    self.text(f"{kind}: rows", str(path), row)
        if head.startswith(b"# v2 git bundle") or head.startswith(b"# v3 git bundle"):
            self._bundle(kind, path)

    def _bundle(self, kind: str, path: Path) -> None:
        """A bundle needs what it builds on, so its pack is read alone, as far as it can be."""
        data = path.read_bytes()
        start = data.index(b"PACK")
        for number, piece in enumerate(_streams(data[start:])):
            self.bytes(f"{kind}: bundles", f"{path} at {number}", piece)

    def processes(self, pids: Iterable[int]) -> None:
        """What each process was started with. One that ends, or is in the midst of an exec, was not looked at."""
        for pid in pids:
            for name in ("environ", "cmdline"):
                with suppress(OSError):
                    if data := Path(f"/proc/{pid}/{name}").read_bytes():
                        self.bytes(f"process {name}", f"/proc/{pid}/{name}", data)

    def check(self, *kinds: str) -> None:
        """Raises AssertionError for a leak, and for a kind of place where nothing was looked at."""
        assert not self.found, "\n".join(sorted({str(leak) for leak in self.found}))
        missing = [kind for kind in kinds if not self.looked.get(kind)]
        assert not missing, f"nothing was looked at: {missing}; at: {self.looked}"


def _unpacked(data: bytes) -> Iterator[bytes]:
    if data.startswith(b"\x1f\x8b"):
        with suppress(OSError, EOFError, zlib.error):
            yield gzip.decompress(data)


def _streams(pack: bytes) -> Iterator[bytes]:
    """Every zlib stream of a pack, wherever it begins."""
    for found in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", pack):
        with suppress(zlib.error):
            yield zlib.decompressobj().decompress(pack[found.start() :])


def planted(folder: Path, secret: str) -> dict[str, Path]:
    """A folder for each way in which the secret leaks there: what a scanner must find, one by one."""
    made: dict[str, Path] = {}
    for form, needle in written(secret).items():
        made[form] = folder / form.replace(" ", "-")
        made[form].mkdir(parents=True)
        (made[form] / "log.txt").write_bytes(b"2026 begin " + needle + b" end\n")
    lines = base64.encodebytes(b"KEY=" * 20 + secret.encode() + b"\n" * 80)
    halves = f'print("{secret[:9]}"\n      "{secret[9:]}")\n'.encode()
    blanks = secret.encode().hex(" ").encode()
    for name, data in (
        ("in lines", lines),
        ("in halves", halves),
        ("hex with blanks", blanks),
        ("packed", gzip.compress(secret.encode() * 3)),
    ):
        made[name] = folder / name.replace(" ", "-")
        made[name].mkdir()
        (made[name] / "data").write_bytes(data)
    made["file name"] = folder / "file-name"
    made["file name"].mkdir()
    (made["file name"] / f"x{quote(secret, safe='')}").write_text("")
    made["link"] = folder / "link"
    made["link"].mkdir()
    (made["link"] / "away").symlink_to(f"/nowhere/{secret}")
    made["database"] = folder / "database"
    made["database"].mkdir()
    with closing(sqlite3.connect(made["database"] / "db.sqlite")) as base:
        base.execute("CREATE TABLE notes (text)")
        # Longer than a page: the file holds it in pieces.
        base.execute("INSERT INTO notes VALUES (?)", ("-" * 4080 + secret + "-" * 4000,))
        base.commit()
    return {**made, **_in_git(folder, secret)}


def _in_git(folder: Path, secret: str) -> dict[str, Path]:
    """A message of a commit, a file that a later commit took away, and a bundle of both."""
    work = folder / "git-work"
    work.mkdir()
    git(work, "init", "-q", "-b", "main")
    (work / "env").write_text(f"KEY={secret}\n")
    git(work, "add", "env")
    git(work, "commit", "-q", "-m", "One")
    git(work, "rm", "-q", "env")
    git(work, "commit", "-q", "--allow-empty", "-m", "Two")
    made = {name: folder / f"git-{name}" for name in ("history", "message", "bundle")}
    git(folder, "clone", "-q", "--bare", str(work), str(made["history"] / "r.git"))
    git(work, "checkout", "-q", "--orphan", "other")
    git(work, "commit", "-q", "--allow-empty", "-m", f"The key is {secret}")
    git(folder, "clone", "-q", "--bare", "--single-branch", "-b", "other", str(work), str(made["message"] / "r.git"))
    made["bundle"].mkdir()
    git(work, "bundle", "create", "-q", str(made["bundle"] / "b.bundle"), "main")
    return made
