"""The artifact store as a folder: big things by deterministic name, whole or absent."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from fleet.core.errors import InternalError

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]{0,127}")
_DEPTH = 8


class FolderArtifacts:
    """Implements ``fleet.core.ports.Artifacts`` below ``root``. A name is its own reference."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, name: str, data: bytes) -> str:
        path = self._place(name)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".put-", delete=False) as file:
            return self._finish(file, path, name, data)

    def put_file(self, name: str, path: Path) -> str:
        target = self._place(name)
        with (
            path.open("rb") as source,
            tempfile.NamedTemporaryFile(dir=target.parent, prefix=".put-", delete=False) as file,
        ):
            shutil.copyfileobj(source, file)
            return self._finish(file, target, name, b"")

    def get(self, name: str) -> bytes | None:
        try:
            return self._path(name).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None

    def path(self, name: str) -> Path | None:
        path = self._path(name)
        return path if path.is_file() else None

    def names(self, below: str) -> Iterator[tuple[str, float]]:
        """(name, when it was put in Unix time) of everything below a name."""
        for path in sorted(self._path(below).rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                yield path.relative_to(self._root).as_posix(), path.stat().st_mtime

    def remove(self, name: str) -> int:
        """Takes it away, and folders that are empty then; answers its bytes."""
        path = self._path(name)
        size = path.stat().st_size
        path.unlink()
        for folder in path.parents:
            if folder == self._root or any(folder.iterdir()):
                break
            folder.rmdir()
        return size

    def _path(self, name: str) -> Path:
        parts = name.split("/")
        if len(parts) > _DEPTH or not all(_PART.fullmatch(part) for part in parts):
            raise InternalError(f"{name[:100]!r} is not an artifact's name.")
        return self._root.joinpath(*parts)

    def _place(self, name: str) -> Path:
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path

    def _finish(self, file: IO[bytes], path: Path, name: str, data: bytes) -> str:
        """On disk before it has its name, and the name on disk before anybody is told of it."""
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return name
