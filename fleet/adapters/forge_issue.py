"""Opening and answering an issue without a library: what a command does before a person sees anything, in milliseconds.

The same request, token and errors as ``HubClient``, whose library takes a second to load.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from fleet.adapters.forge_errors import error_for
from fleet.core.errors import TemporaryError
from fleet.core.forge import Issue
from fleet.core.ports import Clock

_TIMEOUT_S = 30


def open_issue(
    base_url: str, token: str, clock: Clock, repo: str, title: str, body: str, labels: Sequence[str] = ()
) -> Issue:
    """``base_url``: the REST root, http or https. Asked once. Raises what ``fleet.core.forge.ForgeClient`` raises."""
    wanted = {"title": title, "body": body, "labels": list(labels)}
    data = _post(base_url, token, clock, f"repos/{repo}/issues", wanted, f"creating an issue in {repo}")
    names = tuple(label["name"] for label in data["labels"])
    return Issue(
        data["number"], data["title"], data["body"] or "", True, data["user"]["login"], names, data["html_url"]
    )


def post_comment(base_url: str, token: str, clock: Clock, repo: str, number: int, body: str) -> None:
    """One more comment on an issue that has none of ours yet. Asked once; raises as ``open_issue`` does."""
    where = f"repos/{repo}/issues/{number}/comments"
    _post(base_url, token, clock, where, {"body": body}, f"commenting on {repo}#{number}")


def add_label(base_url: str, token: str, clock: Clock, repo: str, number: int, label: str) -> None:
    """One more label on an issue; twice is once. Raises as ``open_issue`` does."""
    where, what = f"repos/{repo}/issues/{number}/labels", f"labelling {repo}#{number}"
    _post(base_url, token, clock, where, {"labels": [label]}, what, http.client.OK)


def _post(
    base_url: str,
    token: str,
    clock: Clock,
    where: str,
    wanted: Mapping[str, Any],
    what: str,
    good: int = http.client.CREATED,
) -> Any:
    """The answer, an object when something was created."""
    parts = urlsplit(base_url.rstrip("/"))
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=_TIMEOUT_S)
    headers = {
        "Accept": "application/vnd.github+json",
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/json",
        "User-Agent": "ticketfleet",
    }
    try:
        connection.request("POST", f"{parts.path}/{where}", json.dumps(wanted).encode(), headers)
        answer = connection.getresponse()
        raw = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise TemporaryError(f"The forge does not answer while {what}: {type(error).__name__}.") from error
    finally:
        connection.close()
    data = _json(raw)
    if answer.status != good or (good == http.client.CREATED and not isinstance(data, dict)):
        raise error_for(answer.status, data, dict(answer.getheaders()), what, clock.now())
    return data


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return raw[:200].decode("utf-8", "replace")
