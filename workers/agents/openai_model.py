"""OpenAI's Responses and Chat Completions. The only module that imports its SDK."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import httpx2
import openai

from workers.agents import prompts
from workers.agents.conversation import Entry, Reply, Results, Said, Stop
from workers.agents.model import HOST, error_of, said, unreadable
from workers.agents.tools import TOOLS, checked

DEFAULT = "gpt-6.1-terra"
MOST_OUTPUT = 16_000


class ResponsesModel:
    """``path``: below the gateway, ``openai/v1`` or ``rehearsal/openai/v1``. Nothing is stored at the provider."""

    def __init__(self, name: str, path: str = "openai/v1") -> None:
        self.name = name
        self._path = path

    def ask(self, entries: Sequence[Entry], client: httpx2.Client, key: str) -> Reply:
        def call(sdk: openai.OpenAI) -> Reply:
            with sdk.responses.stream(
                model=self.name,
                instructions=prompts.SYSTEM,
                input=response_input(entries),
                tools=_response_tools(),
                max_output_tokens=MOST_OUTPUT,
                parallel_tool_calls=True,
                store=False,
                include=["reasoning.encrypted_content"],
                prompt_cache_key=key.rpartition(".")[0],
            ) as stream:
                for event in stream:
                    if event.type in ("response.completed", "response.incomplete", "response.failed"):
                        return read_response(event.response)
            raise error_of(0, {}, "the answer was cut off")

        return _guarded(call, client, key, self._path)


class ChatModel:
    """Chat Completions, which most compatible servers speak."""

    def __init__(self, name: str, path: str = "openai/v1") -> None:
        self.name = name
        self._path = path

    def ask(self, entries: Sequence[Entry], client: httpx2.Client, key: str) -> Reply:
        def call(sdk: openai.OpenAI) -> Reply:
            with sdk.chat.completions.stream(
                model=self.name,
                messages=chat_messages(entries),
                tools=_chat_tools(),
                max_completion_tokens=MOST_OUTPUT,
                stream_options={"include_usage": True},
            ) as stream:
                for event in stream:
                    del event
                found = stream.current_completion_snapshot
            if not found.choices or found.choices[0].finish_reason is None:
                raise error_of(0, {}, "the answer was cut off")
            return read_chat(found.choices[0])

        return _guarded(call, client, key, self._path)


def _guarded(call: Callable[[openai.OpenAI], Reply], client: httpx2.Client, key: str, path: str) -> Reply:
    sdk = openai.OpenAI(
        api_key=key, base_url=f"{HOST}/{path}", http_client=client, max_retries=0, timeout=client.timeout
    )
    try:
        return call(sdk)
    except openai.APIStatusError as error:
        raise error_of(error.status_code, error.response.headers, said(error.body, error.message)) from error
    except openai.LengthFinishReasonError as error:
        return Reply("", (), Stop.LENGTH, _native_chat(error.completion.choices[0].message.content or "", ()))
    except openai.ContentFilterFinishReasonError:
        return Reply("", (), Stop.REFUSED, _native_chat("", ()))
    except (openai.OpenAIError, httpx2.HTTPError, ValueError, AssertionError, RuntimeError, IndexError) as error:
        # A cut stream shows itself in many ways, a JSON error among them.
        raise unreadable(error) from error


# --- Responses -------------------------------------------------------------------------------------------------------
def response_input(entries: Sequence[Entry]) -> Any:
    items: list[dict[str, Any]] = []
    for entry in entries:
        match entry:
            case Said(text=text):
                items.append({"role": "user", "content": text})
            case Results(results=results):
                items += [{"type": "function_call_output", "call_id": r.id, "output": r.text} for r in results]
            case Reply(native=native):
                items += native
    return items


def read_response(response: Any) -> Reply:
    """Raises ModelError for a response that failed."""
    if response.status == "failed":
        said = response.error.message if response.error else "no reason was given"
        raise error_of(0, {}, said)
    native, calls, text, refused = [], [], "", False
    for item in response.output:
        plain = item.model_dump(mode="json", exclude_none=True, exclude={"parsed_arguments", "status"})
        if item.type == "function_call":
            calls.append(checked(item.call_id, item.name, item.arguments))
        elif item.type == "message":
            plain = {"role": "assistant", "content": _text(item) or "(empty)"}
            text += _text(item)
            refused = refused or any(part.type == "refusal" for part in item.content)
        native.append(plain)
    stop = Stop.REFUSED if refused else Stop.LENGTH if response.status == "incomplete" else Stop.TURN
    return Reply(text, tuple(calls), stop, native or [{"role": "assistant", "content": "(empty)"}])


def _text(item: Any) -> str:
    return "".join(getattr(part, "text", None) or getattr(part, "refusal", None) or "" for part in item.content)


def _response_tools() -> Any:
    return [
        {"type": "function", "name": t.name, "description": t.description, "parameters": t.schema, "strict": False}
        for t in TOOLS
    ]


# --- Chat Completions ------------------------------------------------------------------------------------------------
def chat_messages(entries: Sequence[Entry]) -> Any:
    found: list[dict[str, Any]] = [{"role": "system", "content": prompts.SYSTEM}]
    for entry in entries:
        match entry:
            case Said(text=text):
                found.append({"role": "user", "content": text})
            case Results(results=results):
                found += [{"role": "tool", "tool_call_id": r.id, "content": r.text or "(nothing)"} for r in results]
            case Reply(native=native):
                found.append(native)
    return found


def read_chat(choice: Any) -> Reply:
    message = choice.message
    made = message.tool_calls or []
    calls = tuple(checked(one.id, one.function.name, one.function.arguments) for one in made)
    text = message.content or message.refusal or ""
    refused = bool(message.refusal) or choice.finish_reason == "content_filter"
    stop = Stop.REFUSED if refused else Stop.LENGTH if choice.finish_reason == "length" else Stop.TURN
    raw = tuple((one.id, one.function.name, one.function.arguments) for one in made)
    return Reply(text, calls, stop, _native_chat(text, raw))


def _native_chat(text: str, calls: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    tools = [{"id": i, "type": "function", "function": {"name": n, "arguments": a}} for i, n, a in calls]
    content = text or (None if tools else "(empty)")
    return {"role": "assistant", "content": content, **({"tool_calls": tools} if tools else {})}


def _chat_tools() -> Any:
    return [
        {"type": "function", "function": {"name": t.name, "description": t.description, "parameters": t.schema}}
        for t in TOOLS
    ]
