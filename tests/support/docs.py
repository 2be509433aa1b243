"""Checks of the documentation as functions from text to findings, so that a mutant test can feed each a bad page.

A finding is one line: where, what is wrong. An empty list means that the page says what the code does.
"""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from fleet.core import gateconfig
from fleet.core.errors import UsageError
from fleet.core.settings import Layer, Settings, apply, groups
from fleet.core.spend import read_prices
from fleet.rehearsal import script

PACKAGES = ("fleet", "workers", "supervisor", "ci_gates")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_COMMAND = re.compile(
    r"(?:^|[;&|(]) *(?:\$ )?(?:[A-Z_]+=\S+ )*(?:bin/)?fleet ([a-z][a-z-]*)((?: [^\s`#|&;]+)*)", re.MULTILINE
)
_PLACE = re.compile(
    r"(?<![\w/.-])(?:(?:fleet|workers|supervisor|ci_gates|tests|docs|bin|requirements)/[\w./-]*"
    r"(?:\{[\w,]+\})?[\w./-]*(?:\.(?:py|lua|md|toml|txt|sh|html)\b|/(?=`)))"
)
_MODULE = re.compile(r"`((?:fleet|workers|supervisor|ci_gates)(?:\.\w+)+)`")
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[\w-]*)?\)")
_ANCHOR = re.compile(r"\]\(([^)#\s]*)#([\w-]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_VARIABLE = re.compile(r"\bFLEET_[A-Z][A-Z_]*[A-Z]\b")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block; ``line`` is where its fence stands, counted from 1."""

    language: str
    body: str
    line: int


def blocks(text: str) -> list[Block]:
    return [Block(found[1], found[2], text.count("\n", 0, found.start()) + 1) for found in _FENCE.finditer(text)]


def bad_toml(name: str, text: str) -> list[str]:
    """Each ```toml block says in its first line which file it is, and that file's reader takes it."""
    findings = []
    for block in blocks(text):
        if block.language != "toml":
            continue
        first = block.body.split("\n", 1)[0].strip()
        try:
            if first == "# .fleet.toml":
                gateconfig.parse(block.body.encode())
            elif first == "# fleet.toml":
                apply(Settings(), Layer("fleet.toml", block.body))
            elif first == "# prices.toml":
                read_prices(tomllib.loads(block.body), "prices.toml")
            elif first == "# script.toml":
                script.parse(block.body, "script.toml")
            else:
                findings.append(f"{name}:{block.line}: the first line does not say which of our files it is")
        except UsageError as error:
            findings.append(f"{name}:{block.line}: {error}")
    return findings


def bad_commands(name: str, text: str, known: Mapping[str, frozenset[str]]) -> list[str]:
    """``known``: command → its options. Commands stand in code spans and in blocks for a shell."""
    code = [block.body for block in blocks(text) if block.language in ("sh", "console", "")]
    code += [found[1] for found in _SPAN.finditer(_FENCE.sub("", text))]
    findings = []
    for piece in code:
        for found in _COMMAND.finditer(piece.replace("\\\n", " ")):
            command, rest = found[1], re.sub(r'"[^"]*"', "", found[2])
            if command not in known:
                findings.append(f"{name}: there is no command fleet {command}")
                continue
            used = {word.split("=")[0].rstrip("]") for word in re.findall(r"(?<=[\s\[])--?[a-z][\w-]*", rest)}
            findings += [f"{name}: fleet {command} has no {option}" for option in sorted(used - known[command])]
    return findings


def missing_places(root: Path, name: str, text: str) -> list[str]:
    """Files, folders, links and dotted names that do not exist."""
    findings = []
    text = "".join(_without_toml(text))
    for path in {path for found in _PLACE.finditer(text) for path in _expanded(found[0])}:
        if not (root / path).exists():
            findings.append(f"{name}: there is no {path}")
    keys = {key for key, _, _ in settings()} | {"fleet.toml"}
    for dotted in {found[1] for found in _MODULE.finditer(text)} - keys:
        if not _is_there(root, dotted.split(".")):
            findings.append(f"{name}: there is no {dotted}")
    for target in {found[1] for found in _LINK.finditer(text)}:
        if "://" not in target and not (root / "docs" / target).exists():
            findings.append(f"{name}: the link {target} leads nowhere")
    return sorted(findings)


def missing_headings(page: Path, text: str) -> list[str]:
    """Links to a heading that no page has. Headings are named as the forge's pages name them."""
    findings = []
    for target, anchor in _ANCHOR.findall(text):
        other = page.parent / target if target else page
        if "://" not in target and other.is_file() and anchor not in headings(other.read_text()):
            findings.append(f"{page.name}: {other.name} has no heading {anchor}")
    return findings


def headings(text: str) -> frozenset[str]:
    plain = _FENCE.sub("", text)
    return frozenset(re.sub(r"[^\w\- ]", "", found.lower()).replace(" ", "-") for found in _HEADING.findall(plain))


def _without_toml(text: str) -> Iterator[str]:
    """Examples of a repository's files name files of that repository."""
    at = 0
    for found in _FENCE.finditer(text):
        if found[1] == "toml":
            yield text[at : found.start()]
            at = found.end()
    yield text[at:]


def _expanded(path: str) -> Iterator[str]:
    found = re.search(r"\{([\w,]+)\}", path)
    if found is None:
        yield path
        return
    for word in found[1].split(","):
        yield from _expanded(path[: found.start()] + word + path[found.end() :])


def _is_there(root: Path, parts: list[str]) -> bool:
    """A package, a module, or a name that stands in the module before it."""
    for length in range(len(parts), 0, -1):
        place = root.joinpath(*parts[:length])
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if file.is_file():
            return all(re.search(rf"\b{part}\b", file.read_text()) for part in parts[length:])
        if place.is_dir():
            return length == len(parts)
    return False


def variables(root: Path) -> frozenset[str]:
    """Every FLEET_ variable that the code reads or sets, those made from settings included."""
    files = [*(root / "bin").glob("*"), root / "compose.yaml", root / ".ci" / "run"]
    files += [file for package in PACKAGES for file in (root / package).rglob("*.py")]
    found = {name for file in files if file.is_file() for name in _VARIABLE.findall(file.read_text(errors="replace"))}
    return frozenset(found | {variable for _, variable, _ in settings()})


def unknown_variables(name: str, text: str, known: frozenset[str]) -> list[str]:
    return [f"{name}: nothing reads {one}" for one in sorted(set(_VARIABLE.findall(text)) - known)]


def settings() -> list[tuple[str, str, str]]:
    """(``group.key``, variable, default as TOML) of every setting."""
    plain = Settings()
    return [
        (f"{group}.{key.name}", f"FLEET_{group}_{key.name}".upper(), _toml(getattr(values, key.name)))
        for group in groups()
        for values in (getattr(plain, group),)
        for key in fields(values)
    ]


def _toml(value: Any) -> str:
    return "none" if value is None else json.dumps(list(value) if isinstance(value, tuple) else value)


def rows(text: str) -> list[list[str]]:
    """The cells of every table row."""
    lines = [line for line in text.splitlines() if line.startswith("| ") and line.endswith(" |")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def undocumented_settings(text: str) -> list[str]:
    """Rows ``| `group.key` | `VARIABLE` | `default` | meaning |`` that are missing, wrong or of no setting."""
    wanted = {key: (variable, default) for key, variable, default in settings()}
    there = {row[0].strip("`"): (row[1].strip("`"), row[2].strip("`")) for row in rows(text) if len(row) == 4}
    findings = [f"{key}: no row" for key in wanted if key not in there]
    wrong = [key for key in wanted if there.get(key, wanted[key]) != wanted[key]]
    findings += [f"{key}: says {there[key]}, is {wanted[key]}" for key in wrong]
    groups = {key.split(".")[0] for key in wanted}
    return findings + [f"{key}: no such setting" for key in there if key.split(".")[0] in groups and key not in wanted]


def undocumented_keys(text: str) -> list[str]:
    """Keys of ``.fleet.toml`` that have no row ``| `key` | default | …``, and rows with another default."""
    tables: dict[str, type] = {"policy": gateconfig.PolicyConfig, "dependencies": gateconfig.DependencyConfig}
    there = {row[0].strip("`"): row[1].strip("`") for row in rows(text) if len(row) >= 3}
    findings = []
    for table, kind in tables.items():
        for field in fields(kind):
            key, default = f"{table}.{field.name}", _toml(field.default)
            if there.get(key) != default:
                findings.append(f"{key}: says {there.get(key)}, is {default}")
    gate = ("gates.NAME.command", "gates.NAME.kind", "gates.NAME.mode", "gates.NAME.timeout", "version")
    return findings + [f"{key}: no row" for key in gate if key not in there]


def said(root: Path) -> str:
    """All that the code can say: its strings, with … where a value stands, and its shell scripts."""
    texts = [file.read_text() for file in (root / "bin").iterdir() if file.is_file() and file.suffix != ".py"]
    for top in (*PACKAGES, "bin"):
        for file in sorted((root / top).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.JoinedStr):
                    parts = (str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
                    texts.append("".join(parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(node.value)
    return "\n".join(texts)


def unsaid(text: str, everything: str) -> list[str]:
    """First cells in the checked table whose words, cut at …, the code never says."""
    part = text.partition("<!-- checked: messages -->")[2].partition("<!-- end -->")[0]
    messages = [row[0].strip("`") for row in rows(part) if row[0].startswith("`")]
    findings = [] if messages else ["no message is listed"]
    for message in messages:
        pieces = [piece.strip() for piece in message.split("…") if piece.strip(" .()")]
        findings += [f"nobody says: {piece}" for piece in pieces if piece not in everything]
    return findings


def shape(value: Any) -> Any:
    """Keys without values, to compare an example with what the code makes."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__ if not isinstance(value, int | float) else "number"
