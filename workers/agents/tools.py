"""The tools of the built-in agents. Every one runs in the sandbox: nothing of the workspace is opened by the fleet."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

from fleet.core.events import ToolFinished, ToolStarted
from fleet.core.sandbox import Ending, SandboxResult, SandboxSpec
from workers.agents.base import Job
from workers.agents.conversation import ASK, FINISH, Call, Result
from workers.outcome import clean

SHELL_S = 300.0
_FILE_S = 60.0
_MOST_TEXT = 20_000
_SUMMARY = 200
_TAIL = 1000
# Durations and addresses differ from run to run; what is left tells a repetition from progress.
_NOISE = re.compile(r"\d+\.\d+ ?(?:s\b|seconds)|0x[0-9a-f]{6,}")


@dataclass(frozen=True, slots=True)
class Tool:
    """What a model is told about a tool. ``needed`` and ``optional``: names of inputs with their JSON types."""

    name: str
    description: str
    needed: Mapping[str, str]
    optional: Mapping[str, str]

    @property
    def schema(self) -> dict[str, Any]:
        inputs = {**self.needed, **self.optional}
        return {
            "type": "object",
            "properties": {name: {"type": kind} for name, kind in inputs.items()},
            "required": list(self.needed),
            "additionalProperties": False,
        }

    def check(self, given: Any) -> str:
        """Why ``given`` cannot be used, in words for the model; empty when it can."""
        if not isinstance(given, Mapping):
            return "The input must be a JSON object."
        missing = [name for name in self.needed if name not in given]
        unknown = [str(name) for name in given if name not in self.needed and name not in self.optional]
        kinds = {"string": str, "integer": int}
        wrong = [
            name
            for name, kind in {**self.needed, **self.optional}.items()
            if name in given and (not isinstance(given[name], kinds[kind]) or isinstance(given[name], bool))
        ]
        parts = [
            f"{what}: {', '.join(names)}."
            for what, names in (("Missing", missing), ("Unknown", unknown), ("Of the wrong type", wrong))
            if names
        ]
        return " ".join(parts)


TOOLS = (
    Tool("shell", f"Runs a command with /bin/sh in the repository; no network; at most {SHELL_S:g} s.",
         {"command": "string"}, {}),
    Tool("read", "Shows a text file with line numbers, or what is in a folder.",
         {"path": "string"}, {"offset": "integer", "limit": "integer"}),
    Tool("write", "Writes a whole file.", {"path": "string", "content": "string"}, {}),
    Tool("edit", "Replaces a piece of text that occurs exactly once in a file.",
         {"path": "string", "old": "string", "new": "string"}, {}),
    Tool("search", "Finds a regular expression in the files below a path.", {"pattern": "string"}, {"path": "string"}),
    Tool("run_tests", "Runs pytest; arguments select tests.", {}, {"arguments": "string"}),
    Tool(FINISH, "Ends the work. Call it alone, when the change is complete and you have run the tests.",
         {"summary": "string"}, {}),
    Tool(ASK, "Asks a person and ends the work until somebody answers, which may take hours. Call it alone, and "
         "only when the issue cannot be resolved without a decision that you cannot make.",
         {"question": "string"}, {}),
)  # fmt: skip
BY_NAME = {tool.name: tool for tool in TOOLS}


def checked(call_id: str, name: str, raw: str | Mapping[str, Any]) -> Call:
    """The call that a model made, with an error when its tool or its input is none."""
    tool = BY_NAME.get(name)
    if tool is None:
        return Call(call_id, name, {}, f"There is no tool {name}. Tools are {', '.join(BY_NAME)}.")
    try:
        given = json.loads(raw or "{}") if isinstance(raw, str) else raw
    except ValueError as error:
        return Call(call_id, name, {}, f"The input is no valid JSON ({error}). Send the call again.")
    wrong = tool.check(given)
    return Call(call_id, name, {} if wrong else given, wrong)


def summary(call: Call) -> str:
    """One line for people: what the call does."""
    match call.tool:
        case "shell":
            text = str(call.input.get("command", ""))
        case "run_tests":
            text = f"pytest {call.input.get('arguments', '')}"
        case "search":
            text = f"search {call.input.get('pattern', '')}"
        case _:
            text = f"{call.tool} {call.input.get('path', '')}"
    return clean(" ".join(text.split()))[:_SUMMARY].strip()


class Bench:
    """Carries calls out for one job. ``should_stop`` is asked while a command runs."""

    def __init__(self, job: Job, should_stop: Callable[[], bool]) -> None:
        self._job = job
        self._should_stop = should_stop
        self._program = files("workers.agents").joinpath("toolbox.py").read_text(encoding="utf-8")

    def started(self, call: Call) -> ToolStarted:
        # What it does, not which call it is: the same call again has the same digest.
        return ToolStarted(call.id, call.tool, summary(call) or call.tool)

    def run(self, call: Call) -> tuple[Result, ToolFinished]:
        """What the model is told, and what the fleet is told."""
        if call.error:
            return Result(call.id, call.error, True), _finished(call, call.error, 2, 0.0)
        result = self._job.sandbox.run(self._spec(call), should_stop=self._should_stop)
        text = _told(call, result)
        return Result(call.id, text, not result.ok), _finished(call, text, result.exit_code, result.seconds)

    def changed(self) -> bool:
        """Whether the working copy differs from base, as its own git says; unknown counts as yes."""
        status = self._git("status", "--porcelain")
        if not status.ok or status.stdout.strip():
            return True
        # What the agent committed is clean, too; the workspace knows base by this name.
        return self._git("diff", "--quiet", f"refs/remotes/origin/{self._job.ticket.base}", "HEAD").exit_code == 1

    def _git(self, *words: str) -> SandboxResult:
        return self._job.sandbox.run(self._command(("git", *words), _FILE_S))

    def _spec(self, call: Call) -> SandboxSpec:
        match call.tool:
            case "shell":
                return self._command(("/bin/sh", "-c", str(call.input["command"])), SHELL_S)
            case "run_tests":
                words = _words(str(call.input.get("arguments", "")))
                argv = ("python", "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *words)
                return self._command(argv, SHELL_S)
            case _:
                argv = (str(self._job.prepared.python), "-I", "-S", "-c", self._program)
                asked = json.dumps({"tool": call.tool, "input": dict(call.input)}).encode()
                return replace(self._command(argv, _FILE_S), stdin=asked)

    def _command(self, argv: tuple[str, ...], seconds: float) -> SandboxSpec:
        from fleet.adapters.environments.service import resolve_env  # noqa: PLC0415 - as in the command agent

        job = self._job
        return SandboxSpec(
            argv=argv,
            workspace=job.workspace,
            env=resolve_env(job.prepared, job.sandbox.inside(job.workspace)),
            path=job.prepared.path,
            read_only=(*job.prepared.read_only, *job.read_only),
            limits=replace(job.limits, seconds=min(seconds, job.left())),
        )


def _words(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError:
        return tuple(text.split())


def _finished(call: Call, text: str, exit_code: int, seconds: float) -> ToolFinished:
    digest = hashlib.sha256(_NOISE.sub("", text).encode()).hexdigest()[:16]
    return ToolFinished(call.id, digest, exit_code, int(seconds * 1000), text[-_TAIL:])


def _told(call: Call, result: SandboxResult) -> str:
    """The output, its middle left out when it is long, and how the command ended unless it just ended well."""
    text = clean((result.stdout + result.stderr).decode("utf-8", "replace")).strip()
    if len(text) > _MOST_TEXT:
        half = _MOST_TEXT // 2
        text = f"{text[:half]}\n[… {len(text) - _MOST_TEXT} characters left out …]\n{text[-half:]}"
    if call.tool not in ("shell", "run_tests"):
        return text or "(nothing)"
    how = {
        Ending.EXITED: f"[exit code {result.exit_code}]",
        Ending.TIMED_OUT: f"[stopped after {result.seconds:.0f} s]",
        Ending.NOT_FOUND: "[command not found]",
        Ending.CANCELLED: "[stopped by the supervisor]",
    }.get(result.ending, f"[ended: {result.ending.value}]")
    return f"{text}\n{how}".strip()
