"""Tiny wheels made at test time, and manifests as dictionaries: no index, no network."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from fleet.adapters.environments.detect import detect
from fleet.adapters.environments.manifest import Manifest


class Texts:
    """Implements ``Files`` over a dictionary."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def names(self) -> frozenset[str]:
        return frozenset(self._texts)

    def read(self, path: str) -> str | None:
        return self._texts.get(path)


def manifest(**texts: str) -> Manifest:
    """Of files given by keyword; ``__`` stands for a dot, ``___`` for a slash."""
    return detect(Texts({name.replace("___", "/").replace("__", "."): text for name, text in texts.items()}))


def wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    modules: Mapping[str, str] | None = None,
    requires: Sequence[str] = (),
    tag: str = "py3-none-any",
) -> Path:
    """A wheel with the module ``name`` (``VERSION`` inside) or the given ones."""
    plain = name.replace("-", "_")
    info = f"{plain}-{version}.dist-info"
    files = dict(modules or {f"{plain}.py": f"VERSION = {version!r}\n"})
    metadata = [
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}",
        *(f"Requires-Dist: {item}" for item in requires),
    ]
    files[f"{info}/METADATA"] = "\n".join(metadata) + "\n"
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n"
    rows = [f"{path},sha256={_record(text)},{len(text.encode())}" for path, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,"]) + "\n"
    path = folder / f"{plain}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inner, text in files.items():
            archive.writestr(zipfile.ZipInfo(inner, (2024, 1, 1, 0, 0, 0)), text)
    return path


def sha256(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def _record(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
