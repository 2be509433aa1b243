"""Source distributions from the package index that pip is set up for, without running any of their code.

`pip download` of a source distribution runs its build to read the metadata; this asks the index's pages (PEP 503)
itself. Addresses and certificates are pip's own: none stands here.
"""

from __future__ import annotations

import hashlib
import os
import re
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

_ENDINGS = (".tar.gz", ".zip")


class IndexAway(Exception):
    """No index answers; tests that need one are left out."""


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


@cache
def _settings() -> dict[str, str]:
    """pip's settings, files and environment together: the last word wins, as in pip."""
    python = _python_with_pip()
    said = _output([python, "-m", "pip", "config", "list"])
    rows = re.findall(r"^[\w:.]*?\.?([\w-]+)='(.*)'$", said, re.MULTILINE)
    usual = _output([python, "-c", "import pip._internal.models.index as index; print(index.PyPI.simple_url)"]).strip()
    found = {"index-url": usual}
    for name, value in rows:
        found[name] = value
    return found


def _output(argv: list[str]) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


def _python_with_pip() -> str:
    """An environment that uv made has no pip: the fleet's tools or the system may."""
    for python in (sys.executable, f"{os.environ.get('FLEET_TOOLS', '')}/bin/python", "/usr/bin/python3"):
        if os.access(python, os.X_OK) and _output([python, "-m", "pip", "--version"]):
            return python
    raise IndexAway("no pip is there to say where the package index is")


def _context() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=_settings().get("cert") or os.environ.get("SSL_CERT_FILE"))


def _open(url: str) -> bytes:
    request = urllib.request.Request(url, headers={"Accept": "text/html"})
    try:
        with urllib.request.urlopen(request, timeout=60, context=_context()) as answer:
            return bytes(answer.read())
    except OSError as error:
        raise IndexAway(f"the package index does not answer: {error}") from error


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _link(name: str, version: str) -> str:
    base = f"{_settings()['index-url'].rstrip('/')}/{_normal(name)}/"
    page = _Links()
    page.feed(_open(base).decode("utf-8", "replace"))
    wanted = {f"{_normal(name)}-{version}{ending}" for ending in _ENDINGS}
    for link in page.found:
        filename = urllib.parse.unquote(link.split("#")[0].rpartition("/")[2])
        stem, _, rest = filename.rpartition(f"-{version}")
        if f"{_normal(stem)}-{version}{rest}" in wanted:
            return urllib.parse.urljoin(base, link)
    raise IndexAway(f"the package index has no source distribution of {name} {version}")


def cache_folder() -> Path:
    """Downloads are kept below the temporary folder, per user."""
    folder = Path(tempfile.gettempdir()) / f"ticketfleet-realdata-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.getuid() or folder.is_symlink():
        raise IndexAway(f"{folder} belongs to somebody else")
    return folder


def sdist(name: str, version: str) -> Path:
    """The source distribution as a file, fetched once and checked against the index's hash. Raises IndexAway."""
    kept = [cache_folder() / f"{_normal(name)}-{version}{ending}" for ending in _ENDINGS]
    for path in kept:
        if path.exists():
            return path
    link = _link(name, version)
    data = _open(link.split("#")[0])
    digest = re.search(r"#sha256=([0-9a-f]{64})", link)
    if digest is None or hashlib.sha256(data).hexdigest() != digest[1]:
        raise IndexAway(f"the source distribution of {name} {version} has not the hash that the index names")
    path = kept[1] if link.split("#")[0].endswith(".zip") else kept[0]
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)
    return path


@cache
def index_answers() -> str:
    """Empty when the index answers, else why not."""
    try:
        sdist("tabulate", "0.9.0")
    except IndexAway as error:
        return str(error)
    return ""
