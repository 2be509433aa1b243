"""Runs *inside* the sandbox: the file tools of the built-in agents. Only the standard library.

One JSON object comes on standard input and says what to do; the answer goes to standard output, the status is 0, or 1
for an error that the model should read. The sandbox decides what can be reached; nothing here is a protection.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Iterator

MOST = 60_000
HITS = 200
SKIPPED = {".git", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", "node_modules", ".venv"}


class Wrong(Exception):
    """Something that the model should read and can mend."""


def read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()
    except UnicodeDecodeError:
        raise Wrong(f"{path} is no UTF-8 text.") from None


def read(path: str, offset: int = 1, limit: int = 800) -> str:
    if os.path.isdir(path):
        names = sorted(name + "/" if os.path.isdir(os.path.join(path, name)) else name for name in os.listdir(path))
        return "\n".join(name for name in names if name.rstrip("/") not in SKIPPED) or "(empty)"
    lines = read_text(path).splitlines()
    first = max(1, offset)
    shown = lines[first - 1 : first - 1 + limit]
    text = "\n".join(f"{first + at:6}  {line}" for at, line in enumerate(shown))
    left = len(lines) - (first - 1 + len(shown))
    return (
        text + (f"\n({left} more lines)" if left > 0 else "")
        if shown
        else f"(no such lines; the file has {len(lines)})"
    )


def write(path: str, content: str) -> str:
    folder = os.path.dirname(path)
    if folder:
        os.makedirs(folder, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(content)
    return f"Wrote {len(content)} characters to {path}."


def edit(path: str, old: str, new: str) -> str:
    text = read_text(path)
    if not old:
        raise Wrong("old is empty; use write for a new file.")
    found = text.count(old)
    if found != 1:
        hint = "read the file again and copy the text exactly" if not found else "give more of the text around it"
        raise Wrong(f"old was found {found} times in {path}; it must be there once: {hint}.")
    write(path, text.replace(old, new))
    return f"Changed {path}."


def search(pattern: str, path: str = ".") -> str:
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise Wrong(f"The pattern is no regular expression: {error}.") from None
    hits: list[str] = []
    for name in files(path):
        try:
            lines = read_text(name).splitlines()
        except (Wrong, OSError):
            continue
        hits += [f"{name}:{at}: {line[:300]}" for at, line in enumerate(lines, 1) if wanted.search(line)]
        if len(hits) > HITS:
            return "\n".join(hits[:HITS]) + f"\n(more than {HITS} hits; search for something narrower)"
    return "\n".join(hits) or "(no hit)"


def files(top: str) -> Iterator[str]:
    if os.path.isfile(top):
        yield top
    for folder, folders, names in os.walk(top):
        folders[:] = sorted(name for name in folders if name not in SKIPPED)
        for name in sorted(names):
            path = os.path.normpath(os.path.join(folder, name))
            if os.path.isfile(path) and os.path.getsize(path) < 2_000_000:
                yield path


def main() -> int:
    asked = json.load(sys.stdin)
    tools: dict[str, Callable[..., str]] = {"read": read, "write": write, "edit": edit, "search": search}
    try:
        answer, status = tools[asked["tool"]](**asked["input"]), 0
    except Wrong as wrong:
        answer, status = str(wrong), 1
    except OSError as error:
        answer, status = f"{error.filename}: {error.strerror}.", 1
    if len(answer) > MOST:
        answer = answer[:MOST] + f"\n(cut off after {MOST} characters)"
    sys.stdout.buffer.write(answer.encode("utf-8", "replace"))
    return status


if __name__ == "__main__":
    sys.exit(main())
