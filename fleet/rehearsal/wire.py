"""The two vendors' wire formats, as far as a scripted model needs them: reading requests, writing answers. Pure.

An answer is made once, as a list of server-sent events; without streaming it is the object that they add up to.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet.rehearsal.cache import BYTES_PER_TOKEN, Counted, PrefixCache
from fleet.rehearsal.script import Fault, ToolUse, Turn

_PIECE = 400


@dataclass(frozen=True, slots=True)
class Heard:
    """A request. ``turns``: how often the model spoke already; ``said``: all words of the others."""

    model: str
    turns: int
    said: str
    stream: bool
    counted: Counted


@dataclass(frozen=True, slots=True)
class Answer:
    """``whole`` without streaming, ``events`` (name or "", data) with it."""

    whole: Mapping[str, Any]
    events: tuple[tuple[str, Mapping[str, Any] | str], ...]


def hear(body: bytes, cache: PrefixCache, form: str) -> Heard:
    """Any of the three formats; ``cache`` counts its tokens. Raises ValueError for what is none."""
    asked = json.loads(body)
    if not isinstance(asked, dict) or "model" not in asked:
        raise ValueError("no request")
    items: Any = asked.get("messages", asked.get("input", []))
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    turns, mine_before, said = 0, False, []
    for item in items:
        mine = item.get("role") == "assistant" or item.get("type") in ("function_call", "reasoning")
        if mine and not mine_before:
            turns += 1
        if not mine:
            said.append(json.dumps(item, ensure_ascii=False))
        mine_before = mine
    return Heard(
        str(asked["model"]), turns, "\n".join(said), asked.get("stream") is True, cache.count(asked, form == "messages")
    )


def _spoken(turn: Turn, fault: Fault | None) -> tuple[str, tuple[tuple[ToolUse, str], ...]]:
    """(text, calls with their input as JSON text)."""
    text = turn.text
    if fault is Fault.HUGE:
        text += "lorem ipsum " * (turn.size // 12)
    calls = [(call, json.dumps(call.input)) for call in turn.calls]
    if fault is Fault.MALFORMED and calls:
        calls[-1] = (calls[-1][0], calls[-1][1][:-1] + ', "oops')
    return text, tuple(calls)


def _ids(prefix: str, heard: Heard, count: int) -> list[str]:
    seed = hashlib.sha256(f"{heard.model}:{heard.turns}:{len(heard.said)}".encode()).hexdigest()
    return [f"{prefix}{seed[:20]}{number}" for number in range(count)]


def _pieces(text: str) -> list[str]:
    return [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]


def _tokens(text: str, calls: Sequence[tuple[ToolUse, str]]) -> int:
    return 1 + (len(text) + sum(len(raw) + 20 for _, raw in calls)) // BYTES_PER_TOKEN


def messages(heard: Heard, turn: Turn, fault: Fault | None) -> Answer:
    """Anthropic's Messages."""
    text, calls = _spoken(turn, fault)
    told = heard.counted
    usage = {"input_tokens": told.total - told.read - told.written, "cache_read_input_tokens": told.read}
    usage |= {"cache_creation_input_tokens": told.written, "output_tokens": 0}
    used = _tokens(text, calls)
    stop = "tool_use" if calls else "end_turn"
    start: dict[str, Any] = {
        "id": _ids("msg_", heard, 1)[0], "type": "message", "role": "assistant", "model": heard.model,
        "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage,
    }  # fmt: skip
    events: list[tuple[str, Mapping[str, Any] | str]] = [_event("message_start", message=start)]
    content: list[Mapping[str, Any]] = []
    if text or not calls:
        content.append({"type": "text", "text": text})
        events.append(_event("content_block_start", index=0, content_block={"type": "text", "text": ""}))
        events += [
            _event("content_block_delta", index=0, delta={"type": "text_delta", "text": p}) for p in _pieces(text)
        ]
        events.append(_event("content_block_stop", index=0))
    for (call, raw), name in zip(calls, _ids("toolu_", heard, len(calls)), strict=True):
        index = len(content)
        block = {"type": "tool_use", "id": name, "name": call.tool, "input": {}}
        content.append({**block, "input": dict(call.input)})
        events.append(_event("content_block_start", index=index, content_block=block))
        for piece in _pieces(raw):
            delta = {"type": "input_json_delta", "partial_json": piece}
            events.append(_event("content_block_delta", index=index, delta=delta))
        events.append(_event("content_block_stop", index=index))
    events.append(
        _event("message_delta", delta={"stop_reason": stop, "stop_sequence": None}, usage={"output_tokens": used})
    )
    events.append(_event("message_stop"))
    whole = {**start, "content": content, "stop_reason": stop, "usage": {**usage, "output_tokens": used}}
    return Answer(whole, tuple(events))


def chat(heard: Heard, turn: Turn, fault: Fault | None) -> Answer:
    """OpenAI's Chat Completions."""
    text, calls = _spoken(turn, fault)
    base = {"id": _ids("chatcmpl-", heard, 1)[0], "created": 0, "model": heard.model}
    usage = _openai_usage("prompt", "completion", heard, _tokens(text, calls))
    finish = "tool_calls" if calls else "stop"
    tools = [
        {"id": name, "type": "function", "function": {"name": call.tool, "arguments": raw}}
        for (call, raw), name in zip(calls, _ids("call_", heard, len(calls)), strict=True)
    ]
    message = {
        "role": "assistant",
        "content": text or None,
        "refusal": None,
        **({"tool_calls": tools} if tools else {}),
    }
    deltas: list[Mapping[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": piece} for piece in _pieces(text)]
    for index, tool in enumerate(tools):
        function = {"name": calls[index][0].tool, "arguments": ""}
        deltas.append({"tool_calls": [{"index": index, "id": tool["id"], "type": "function", "function": function}]})
        for piece in _pieces(calls[index][1]):
            deltas.append({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})

    def chunk(delta: Mapping[str, Any], reason: str | None = None) -> Mapping[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return {**base, "object": "chat.completion.chunk", "choices": [choice]}

    events: list[tuple[str, Mapping[str, Any] | str]] = [("", chunk(delta)) for delta in deltas]
    events.append(("", chunk({}, finish)))
    events.append(("", {**base, "object": "chat.completion.chunk", "choices": [], "usage": usage}))
    events.append(("", "[DONE]"))
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
    return Answer({**base, "object": "chat.completion", "choices": [choice], "usage": usage}, tuple(events))


def responses(heard: Heard, turn: Turn, fault: Fault | None) -> Answer:
    """OpenAI's Responses."""
    text, calls = _spoken(turn, fault)
    usage = _openai_usage("input", "output", heard, _tokens(text, calls))
    output: list[dict[str, Any]] = []
    if text or not calls:
        part = {"type": "output_text", "text": text, "annotations": []}
        name = _ids("msg_", heard, 1)[0]
        output.append({"type": "message", "id": name, "role": "assistant", "status": "completed", "content": [part]})
    for (call, raw), name in zip(calls, _ids("call_", heard, len(calls)), strict=True):
        output.append(
            {"type": "function_call", "id": f"fc_{name}", "call_id": name, "name": call.tool, "arguments": raw,
             "status": "completed"}
        )  # fmt: skip
    base: dict[str, Any] = {
        "id": _ids("resp_", heard, 1)[0], "object": "response", "created_at": 0, "model": heard.model,
        "status": "in_progress", "output": [], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    }  # fmt: skip
    whole = {**base, "status": "completed", "output": output, "usage": usage}
    events: list[tuple[str, Mapping[str, Any] | str]] = [_event("response.created", response=base)]
    for index, item in enumerate(output):
        blanked: dict[str, Any] = {"content": []} if "content" in item else {"arguments": ""}
        empty = {**item, "status": "in_progress", **blanked}
        events.append(_event("response.output_item.added", output_index=index, item=empty))
        where = {"output_index": index, "item_id": item["id"]}
        if "content" in item:
            blank = {**item["content"][0], "text": ""}
            events.append(_event("response.content_part.added", **where, content_index=0, part=blank))
            for piece in _pieces(text):
                events.append(_event("response.output_text.delta", **where, content_index=0, delta=piece, logprobs=[]))
            events.append(_event("response.content_part.done", **where, content_index=0, part=item["content"][0]))
        else:
            for piece in _pieces(item["arguments"]):
                events.append(_event("response.function_call_arguments.delta", **where, delta=piece))
        events.append(_event("response.output_item.done", output_index=index, item=item))
    events.append(_event("response.completed", response=whole))
    numbered = tuple((name, {**dict(data), "sequence_number": n}) for n, (name, data) in enumerate(events))  # type: ignore[arg-type]
    return Answer(whole, numbered)


def _openai_usage(given: str, made: str, heard: Heard, output: int) -> dict[str, Any]:
    return {
        f"{given}_tokens": heard.counted.total,
        f"{given}_tokens_details": {"cached_tokens": heard.counted.read},
        f"{made}_tokens": output,
        f"{made}_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": heard.counted.total + output,
    }


def _event(kind: str, **data: Any) -> tuple[str, Mapping[str, Any]]:
    return kind, {"type": kind, **data}


def encode(name: str, data: Mapping[str, Any] | str) -> bytes:
    """One server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()
