"""One gate, run once on one commit: a fresh checkout, the sandbox without network, a report that is hard to forge."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from ci_gates import parsers, pytest_report_source, testreport
from ci_gates.canary import Canary, make_canary
from ci_gates.plain import clean
from ci_gates.plan import pytest_word
from ci_gates.runs import Diagnostic, Health, Report, Run
from fleet.adapters.git import BareRepo
from fleet.adapters.slots import Slot, give, remove_tree
from fleet.core.environment import Prepared
from fleet.core.gates import GateKind, GateSpec
from fleet.core.ports import Artifacts, Ids
from fleet.core.sandbox import MIB, Ending, Limits, Sandbox, SandboxResult, SandboxSpec

_OUTPUT = 32 * MIB
_REPORT = 64 * MIB
_LOG = MIB
_SOURCE = 4 * MIB
_PLUGIN = "fleet_report"
_OPTIONS = ("-p", "no:cacheprovider", "--continue-on-collection-errors", "--color=no")
# Tried only when base cannot be run as the repository has it: its options may name plugins that are not there.
VARIANTS: tuple[tuple[str, ...], ...] = ((), ("-o", "addopts="))


class Bench:
    """A slot with everything to run gates in it. Not shared between threads."""

    def __init__(
        self,
        store: BareRepo,
        slot: Slot,
        sandbox: Sandbox,
        prepared: Prepared,
        artifacts: Artifacts,
        ids: Ids,
        should_stop: Callable[[], bool],
    ) -> None:
        self.sandbox = sandbox
        self._store = store
        self._slot = slot
        self._prepared = prepared
        self._artifacts = artifacts
        self._ids = ids
        self._should_stop = should_stop
        if os.geteuid() == 0:
            # The slot's user passes through it; the sandbox says what it may write there.
            os.chown(slot.folder, slot.uid, slot.gid)

    def run(
        self,
        spec: GateSpec,
        commit: str,
        log: str,
        *,
        variant: int = 0,
        only: tuple[str, ...] = (),
        sting: bool = False,
        overlay: str = "",
    ) -> Run:
        """Runs ``spec`` on a fresh checkout of ``commit``; its log becomes the artifact ``log``.

        ``only``: run these tests alone; with ``sting`` a planted failure stands in place of each.
        ``overlay``: a tree to check out instead of the commit's own.
        """
        workspace = self._folder("checkout")
        try:
            self._store.export(overlay or commit, workspace)
            give(workspace, self._slot.uid, self._slot.gid)
            root = str(self.sandbox.inside(workspace))
            if spec.kind is GateKind.TESTS:
                job = {"only": list(only), "sting": sting}
                run = self._tests(spec, workspace, root, log, variant, job)
            else:
                result = self.sandbox.run(self._spec(spec, spec.argv, workspace, {}))
                run = self._recorded(spec, result, _report(spec, result, root), log)
        finally:
            remove_tree(workspace)
        return replace(run, report=self._with_sources(run.report, overlay or commit))

    def _tests(
        self, spec: GateSpec, workspace: Path, root: str, log: str, variant: int, more: Mapping[str, object]
    ) -> Run:
        secret = self._ids.hex(64).encode()
        canary = make_canary(self._ids.hex(200))
        tools, report = self._folder("tools"), self._folder("report")
        try:
            self._plant(tools, report, secret, canary, more)
            options = ("-p", _PLUGIN, *_OPTIONS, *VARIANTS[variant])
            argv, env = _with_plugin(spec.argv, options, str(tools))
            result = self.sandbox.run(self._spec(spec, argv, workspace, env, (tools,), (report,)))
            data = _private_file(report, "tests.jsonl")
        finally:
            remove_tree(tools)
            remove_tree(report)
        if result.ending not in (Ending.EXITED, Ending.SIGNALED):
            understood = _cut_off(result)
        elif data is None and spec.parser != "pytest":
            understood = parsers.tests_by_exit(_output(result, root))
        else:
            understood = testreport.read(data, secret, canary, result.exit_code, _last_line(result))
        return replace(self._recorded(spec, result, understood, log), variant=variant)

    def _plant(self, tools: Path, report: Path, secret: bytes, canary: Canary, more: Mapping[str, object]) -> None:
        key = report / "key"
        job = {"report": str(report / "tests.jsonl"), "secret": str(key), "canary": f"{canary.stem}.py"}
        (tools / f"{_PLUGIN}.py").write_bytes(pytest_report_source.read())
        (tools / f"{canary.stem}.py").write_text(canary.source)
        (tools / "job.json").write_text(json.dumps({**more, **job}))
        key.write_bytes(secret)
        key.chmod(0o600)
        for path in (tools, *tools.iterdir()):
            path.chmod(0o755 if path == tools else 0o644)
        give(report, self._slot.uid, self._slot.gid)

    def _folder(self, purpose: str) -> Path:
        # A path that is the same every time keeps messages with paths in them comparable; the key needs no hiding.
        folder = self._slot.folder / purpose
        remove_tree(folder)
        folder.mkdir(mode=0o700)
        return folder

    def _spec(
        self,
        spec: GateSpec,
        argv: tuple[str, ...],
        workspace: Path,
        env: Mapping[str, str],
        read_only: tuple[Path, ...] = (),
        writable: tuple[Path, ...] = (),
    ) -> SandboxSpec:
        root = str(self.sandbox.inside(workspace))
        repo = {key: value.replace("{workspace}", root) for key, value in self._prepared.env}
        python_program = str(self._prepared.python)
        words = (python_program, *argv[1:]) if argv[0] == "python" else argv
        if spec.parser == "mypy" and not any(word.startswith("--python-executable") for word in words):
            # The fleet's mypy stands in an environment of its own and must look into the repository's.
            words = (*words, f"--python-executable={python_program}")
        path = ":".join(part for part in (env.get("PYTHONPATH", ""), repo.get("PYTHONPATH", "")) if part)
        python = {"PYTHONPATH": path} if path else {}
        return SandboxSpec(
            argv=words,
            workspace=workspace,
            env={"PYTHONHASHSEED": "0", "NO_COLOR": "1", **repo, **env, **python},
            path=self._prepared.path,
            read_only=(*self._prepared.read_only, *read_only),
            writable=writable,
            limits=Limits(seconds=spec.seconds, output_bytes=_OUTPUT),
        )

    def _recorded(self, spec: GateSpec, result: SandboxResult, report: Report, log: str) -> Run:
        head = f"$ {' '.join(spec.argv)}\n".encode("utf-8", "replace")
        tail = f"\n[{result.ending.value}, status {result.exit_code}, {result.seconds:.1f} s]\n".encode()
        data = head + _bounded(result.stdout) + b"\n" + _bounded(result.stderr) + tail
        self._artifacts.put(log, data)
        digest = hashlib.sha256(data).hexdigest()
        return Run(result.ending, result.exit_code, round(result.seconds, 3), report, log, digest)

    def _with_sources(self, report: Report, tree: str) -> Report:
        """Gives each complaint the text of its line, read from the repository and not from where code ran."""
        paths = {item.path for item in report.diagnostics if item.line > 0}
        if not paths:
            return report
        blobs = {clean(entry.path): entry.blob for entry in self._store.files(tree) if clean(entry.path) in paths}
        contents = self._store.blobs(blobs.values(), _SOURCE)
        lines = {path: contents[blob].split(b"\n") for path, blob in blobs.items() if blob in contents}
        return replace(report, diagnostics=tuple(_with_source(item, lines) for item in report.diagnostics))


def _with_source(item: Diagnostic, lines: Mapping[str, list[bytes]]) -> Diagnostic:
    known = lines.get(item.path, [])
    if not 0 < item.line <= len(known):
        return item
    return replace(item, source=clean(known[item.line - 1].decode("utf-8", "surrogateescape").strip())[:1000])


def _with_plugin(argv: tuple[str, ...], options: tuple[str, ...], tools: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """Puts the options behind the word pytest; where a script calls pytest itself, into the environment."""
    env = {"PYTHONPATH": tools}
    at = pytest_word(argv)
    if at is None:
        return argv, {**env, "PYTEST_ADDOPTS": " ".join(options)}
    return (*argv[: at + 1], *options, *argv[at + 1 :]), env


def _report(spec: GateSpec, result: SandboxResult, root: str) -> Report:
    if result.ending not in (Ending.EXITED, Ending.SIGNALED):
        return _cut_off(result)
    if result.truncated and spec.parser != "exit":
        return Report(Health.UNREADABLE, "the output was cut off")
    return parsers.parse(spec.parser, _output(result, root))


def _cut_off(result: SandboxResult) -> Report:
    return Report(Health.UNREADABLE, f"the command was ended ({result.ending.value})")


def _output(result: SandboxResult, root: str) -> parsers.Output:
    return parsers.Output(result.stdout, result.stderr, result.exit_code, root)


def _last_line(result: SandboxResult) -> str:
    text = (result.stderr.strip() or result.stdout.strip()).decode("utf-8", "replace")
    return clean(text.splitlines()[-1].strip())[:500] if text else ""


def _private_file(folder: Path, name: str) -> bytes | None:
    """A regular file of the sandbox's user; None for anything else that lies there. Never follows a link."""
    try:
        handle = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_size > _REPORT:
            return None
        return file.read(_REPORT)


def _bounded(data: bytes) -> bytes:
    """The beginning and the end of what was printed; the middle is left out of a log, never of a report."""
    if len(data) <= _LOG:
        return data
    return data[: _LOG // 4] + b"\n[... left out ...]\n" + data[-_LOG * 3 // 4 :]
