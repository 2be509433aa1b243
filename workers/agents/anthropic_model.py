"""Anthropic's Messages. The only module that imports its SDK."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import anthropic
import httpx2
from anthropic.types import MessageParam, TextBlockParam, ToolParam

from workers.agents import prompts
from workers.agents.conversation import Entry, Reply, Results, Said, Stop
from workers.agents.model import HOST, error_of, said, unreadable
from workers.agents.tools import TOOLS, checked

DEFAULT = "claude-sonnet-5-5"
MOST_OUTPUT = 16_000
_CACHED: Any = {"cache_control": {"type": "ephemeral"}}


class AnthropicModel:
    """``path``: below the gateway, ``anthropic`` or ``rehearsal/anthropic``."""

    def __init__(self, name: str, path: str = "anthropic") -> None:
        self.name = name
        self._path = path

    def ask(self, entries: Sequence[Entry], client: httpx2.Client, key: str) -> Reply:
        sdk = anthropic.Anthropic(
            api_key=key, base_url=f"{HOST}/{self._path}", http_client=client, max_retries=0, timeout=client.timeout
        )
        try:
            with sdk.messages.stream(
                model=self.name,
                max_tokens=MOST_OUTPUT,
                system=[cast(TextBlockParam, {"type": "text", "text": prompts.SYSTEM, **_CACHED})],
                tools=_tools(),
                messages=messages(entries),
            ) as stream:
                # The SDK repairs broken JSON; what the model really wrote decides whether a call is one.
                raw: dict[int, str] = {}
                for event in stream:
                    if event.type == "content_block_delta" and event.delta.type == "input_json_delta":
                        raw[event.index] = raw.get(event.index, "") + event.delta.partial_json
                return read(stream.get_final_message(), raw)
        except anthropic.APIStatusError as error:
            raise error_of(error.status_code, error.response.headers, said(error.body, str(error))) from error
        except (anthropic.APIError, httpx2.HTTPError, ValueError, AssertionError, RuntimeError) as error:
            # A cut stream shows itself in many ways, a JSON error among them.
            raise unreadable(error) from error


def messages(entries: Sequence[Entry]) -> list[MessageParam]:
    """The conversation as the API wants it. The last two messages of the user carry a cache mark: the one before the
    last was written by the call before, so it is read now, and this call writes the next."""
    found: list[dict[str, Any]] = []
    for entry in entries:
        match entry:
            case Said(text=text):
                _add(found, {"type": "text", "text": text})
            case Results(results=results):
                for result in results:
                    block = {"type": "tool_result", "tool_use_id": result.id, "content": result.text or "(nothing)"}
                    _add(found, {**block, "is_error": result.error})
            case Reply(native=native):
                found.append({"role": "assistant", "content": native})
    users = [message for message in found if message["role"] == "user"]
    for message in users[-2:]:
        message["content"][-1] = {**message["content"][-1], **_CACHED}
    return cast(list[MessageParam], found)


def read(message: Any, raw: Mapping[int, str]) -> Reply:
    """The SDK's message, and the inputs of its calls by block as they were written.

    Blocks are kept as they are, thoughts with their signatures among them: the API wants them back unchanged.
    """
    if message.stop_reason is None:
        raise error_of(0, {}, "the answer was cut off")
    native = [_plain(block) for block in message.content]
    calls = tuple(
        checked(block.id, block.name, raw.get(at, block.input))
        for at, block in enumerate(message.content)
        if block.type == "tool_use"
    )
    text = "".join(block.text for block in message.content if block.type == "text")
    stop = {"max_tokens": Stop.LENGTH, "refusal": Stop.REFUSED}.get(message.stop_reason, Stop.TURN)
    return Reply(text, calls, stop, native or [{"type": "text", "text": "(empty)"}])


def _plain(block: Any) -> dict[str, Any]:
    plain: dict[str, Any] = block.model_dump(mode="json", exclude_none=True, exclude={"parsed_output"})
    if plain.get("type") == "text" and not plain.get("text"):
        plain["text"] = "(empty)"
    if plain.get("type") == "tool_use" and not isinstance(plain.get("input"), dict):
        # The API takes objects only; the model is told about its mistake in the result.
        plain["input"] = {}
    return plain


def _add(found: list[dict[str, Any]], block: dict[str, Any]) -> None:
    """Everything between two answers of the model is one message of the user."""
    if found and found[-1]["role"] == "user":
        found[-1]["content"].append(block)
    else:
        found.append({"role": "user", "content": [block]})


def _tools() -> list[ToolParam]:
    return [
        cast(ToolParam, {"name": tool.name, "description": tool.description, "input_schema": tool.schema})
        for tool in TOOLS
    ]
