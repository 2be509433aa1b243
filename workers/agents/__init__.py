"""The agents: one file per backend, chosen by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from fleet.core.errors import UsageError
from workers.agents.base import Agent, Job
from workers.agents.command import CommandAgent, parse
from workers.agents.late import LateAgent

if TYPE_CHECKING:
    from workers.agents.model import Model

__all__ = ["BACKENDS", "Agent", "Job", "backend_for", "warm"]

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,119}")
_SCRIPT = re.compile(r"(?:[a-z0-9][a-z0-9-]{0,63}|/[^\0@]{1,400})")
_FORMS = ("anthropic", "openai", "openai-chat")


def _anthropic(words: str) -> Agent:
    return _agent("anthropic", words)


def _openai(words: str) -> Agent:
    return _agent("openai", words)


def _openai_chat(words: str) -> Agent:
    return _agent("openai-chat", words)


def _rehearsal(words: str) -> Agent:
    """``<script>[@anthropic|@openai|@openai-chat]``."""
    script, _, form = words.partition("@")
    if not _SCRIPT.fullmatch(script):
        raise UsageError(f"{script[:60]!r} is no script.", "Name a bundled one, or a file by its whole path.")
    if form and form not in _FORMS:
        raise UsageError(f"There is no model API called {form[:40]!r}.", f"Known are {', '.join(_FORMS)}.")
    return _agent(form or "anthropic", f"rehearsal/{script}", rehearsal=True)


def _agent(form: str, model: str, rehearsal: bool = False) -> Agent:
    if model and not rehearsal and not _MODEL.fullmatch(model):
        raise UsageError(f"{model[:60]!r} is no name of a model.", f'Write for example "{form}:NAME", or "{form}".')
    return LateAgent(lambda: _model(form, model, "rehearsal/" if rehearsal else ""))


def _model(form: str, name: str, place: str) -> Model:
    # The SDKs take half a second and 40 MB each: only an attempt that talks to a model loads one.
    if form == "anthropic":
        from workers.agents import anthropic_model  # noqa: PLC0415

        return anthropic_model.AnthropicModel(name or anthropic_model.DEFAULT, f"{place}anthropic")
    from workers.agents import openai_model  # noqa: PLC0415

    make = openai_model.ChatModel if form == "openai-chat" else openai_model.ResponsesModel
    return make(name or openai_model.DEFAULT, f"{place}openai/v1")


# What stands before the colon → what makes an agent of what stands after it.
BACKENDS: dict[str, Callable[[str], Agent]] = {
    "anthropic": _anthropic,
    "command": lambda words: CommandAgent(parse(words)),
    "openai": _openai,
    "openai-chat": _openai_chat,
    "rehearsal": _rehearsal,
}


def backend_for(agent: str) -> Agent:
    """The agent that ``agent`` names, e.g. ``command:ruff check --fix .`` or ``anthropic``.

    Raises UsageError for an unknown name (listing the known ones) and for words that the backend refuses.
    """
    name, _, words = agent.partition(":")
    make = BACKENDS.get(name.strip())
    if make is None:
        known = ", ".join(f"{name}:…" if name in ("command", "rehearsal") else name for name in sorted(BACKENDS))
        raise UsageError(f"There is no agent called {name.strip()[:60]!r}.", f"Agents are {known}.")
    return make(words.strip())


def warm() -> None:
    """Loads what every attempt with a model needs, so that the attempts forked later share it."""
    from workers.agents import anthropic_model, openai_model, session  # noqa: F401, PLC0415
