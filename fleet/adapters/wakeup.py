"""What a wake-up looks like on the broker, and the check that makes a forged one harmless. Pure.

The broker is untrusted, so nothing of a message is believed: its task must be one of ours, its ids must look like ids,
and the message that goes on is written anew from these few words. Whatever else it carried (pickles, due times,
callbacks, chains, time limits, reply addresses) is gone.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

TICKET = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")
NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")
TASK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")
DELIVERY_TAG = re.compile(r"[A-Za-z0-9._:-]{1,100}")
BODY_LIMIT = 2000


@dataclass(frozen=True, slots=True)
class WakeUp:
    """``ids``: the ticket, the attempt, the round, and for some tasks the turn; nothing else travels."""

    task: str
    task_id: str
    ids: tuple[str, ...]

    @property
    def arguments(self) -> tuple[str | int, ...]:
        """What the task's function is called with."""
        return (self.ids[0], *(int(number) for number in self.ids[1:]))

    @property
    def text(self) -> str:
        """How it reads in Flower: ``tabulate-1-4f9c2a attempt 1``."""
        names = ("", "attempt ", "round ", "turn ")
        shown = [f"{name}{value}" for name, value in zip(names, self.ids, strict=False)]
        return " ".join(shown[:2] + [part for part, value in zip(shown[2:], self.ids[2:], strict=True) if value != "0"])


def checked(task: str, task_id: str, ids: Sequence[str]) -> WakeUp:
    """Raises ValueError naming what is not an id."""
    if not TASK_ID.fullmatch(task_id):
        raise ValueError("the task id is no id")
    if not 3 <= len(ids) <= 4 or not all(isinstance(part, str) for part in ids):
        raise ValueError("the arguments are not three or four ids")
    if not TICKET.fullmatch(ids[0]) or not all(NUMBER.fullmatch(part) for part in ids[1:]):
        raise ValueError("the arguments are not ids")
    return WakeUp(task, task_id, tuple(ids))


def read(message: object, tasks: Collection[str]) -> WakeUp:
    """The wake-up in a raw broker message. Raises ValueError with the reason why it is none."""
    if not isinstance(message, dict):
        raise ValueError("the message is no object")
    headers, body = message.get("headers"), message.get("body")
    if not isinstance(headers, dict) or not isinstance(body, str):
        raise ValueError("the message has no headers or no body")
    task = headers.get("task")
    if not isinstance(task, str) or task not in tasks:
        raise ValueError("the task is unknown here")
    if message.get("content-type") != "application/json" or len(body) > BODY_LIMIT:
        raise ValueError("the body is not a small JSON text")
    try:
        content = json.loads(base64.b64decode(body, validate=True))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise ValueError("the body cannot be read") from error
    if not isinstance(content, list) or not content or not isinstance(content[0], list):
        raise ValueError("the body holds no arguments")
    task_id = headers.get("id")
    return checked(task, task_id if isinstance(task_id, str) else "", content[0])


def written(wakeup: WakeUp, message: dict[str, Any], queue: str) -> dict[str, Any]:
    """The raw message anew, with nothing of the old one but its delivery tag."""
    properties = message.get("properties")
    tag = properties.get("delivery_tag") if isinstance(properties, dict) else None
    if not isinstance(tag, str) or not DELIVERY_TAG.fullmatch(tag):
        raise ValueError("the delivery tag is no id")
    return new(wakeup, queue, tag)


def new(wakeup: WakeUp, queue: str, tag: str) -> dict[str, Any]:
    """The raw message as Celery's worker reads it. ``tag`` tells this delivery from every other."""
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    body = json.dumps([list(wakeup.ids), {}, embed]).encode()
    return {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": wakeup.task,
            "id": wakeup.task_id,
            "root_id": wakeup.task_id,
            "parent_id": None,
            "group": None,
            "retries": 0,
            "eta": None,
            "expires": None,
            "timelimit": [None, None],
            "argsrepr": wakeup.text,
            "kwargsrepr": "{}",
            "origin": "fleet",
            "ignore_result": True,
        },
        "properties": {
            "correlation_id": wakeup.task_id,
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": tag,
        },
    }
