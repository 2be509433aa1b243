"""Cuts what the tests need out of GitHub's published API description and webhook examples.

    python -m tests.forge_contract.slice OPENAPI_JSON WEBHOOKS_JSON

The two files are ``generated/api.github.com.json`` of the npm package @octokit/openapi and
``api.github.com/index.json`` of @octokit/webhooks-examples (see tests/data/README.md for versions and licence).
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "data"
REPO = "/repos/{owner}/{repo}"
# Every operation that the adapter may use; a request of any other one fails the suite.
OPERATIONS = {
    f"{REPO}": ("get",),
    f"{REPO}/issues": ("get", "post"),
    f"{REPO}/issues/{{issue_number}}": ("get", "patch"),
    f"{REPO}/issues/{{issue_number}}/events": ("get",),
    f"{REPO}/issues/{{issue_number}}/labels": ("get", "post"),
    f"{REPO}/issues/{{issue_number}}/labels/{{name}}": ("delete",),
    f"{REPO}/issues/{{issue_number}}/comments": ("get", "post"),
    f"{REPO}/issues/comments": ("get",),
    f"{REPO}/issues/comments/{{comment_id}}": ("get", "patch"),
    f"{REPO}/collaborators/{{username}}/permission": ("get",),
    f"{REPO}/contents/{{path}}": ("get",),
    f"{REPO}/commits/{{ref}}": ("get",),
    f"{REPO}/commits/{{ref}}/status": ("get",),
    f"{REPO}/statuses/{{sha}}": ("post",),
    f"{REPO}/pulls": ("get", "post"),
    f"{REPO}/pulls/{{pull_number}}": ("get", "patch"),
    "/user": ("get",),
}
EVENTS = ("issues", "pull_request", "ping", "push", "issue_comment")


def slice_openapi(whole: dict[str, Any]) -> dict[str, Any]:
    """The operations with parameters and request bodies, and every component that these refer to."""
    paths: dict[str, Any] = {}
    for path, methods in OPERATIONS.items():
        found = whole["paths"][path]
        paths[path] = {
            method: {
                key: found[method][key] for key in ("operationId", "parameters", "requestBody") if key in found[method]
            }
            for method in methods
        }
    kept: dict[str, Any] = {"openapi": whole["openapi"], "info": whole["info"], "paths": paths, "components": {}}
    waiting = _refs(paths)
    while waiting:
        ref = waiting.pop()
        _, _, kind, name = ref.split("/")
        section = kept["components"].setdefault(kind, {})
        if name not in section:
            section[name] = whole["components"][kind][name]
            waiting |= _refs(section[name])
    return _without_prose(kept)  # type: ignore[no-any-return]


def _refs(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(_refs(value) for value in node.values())) if node else own
    if isinstance(node, list):
        return set().union(*(_refs(value) for value in node)) if node else set()
    return set()


def _without_prose(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            key: _without_prose(value)
            for key, value in node.items()
            if not (key in ("description", "example", "examples", "externalDocs") and not _is_property(key, value))
        }
    return [_without_prose(value) for value in node] if isinstance(node, list) else node


def _is_property(key: str, value: Any) -> bool:
    """A property that happens to be called ``description`` is a schema, not prose."""
    return key == "description" and isinstance(value, dict) and ("type" in value or "$ref" in value)


def _put(name: str, data: Any) -> None:
    raw = json.dumps(data, separators=(",", ":"), sort_keys=True).encode()
    # Without a time in the header the same input gives the same bytes.
    (DATA / name).write_bytes(gzip.compress(raw, mtime=0))
    print(f"{name}: {len(raw)} bytes, {(DATA / name).stat().st_size} packed")


def main() -> None:
    openapi, webhooks = (json.loads(Path(name).read_text()) for name in sys.argv[1:3])
    _put("github-openapi.json.gz", slice_openapi(openapi))
    _put("github-webhooks.json.gz", {one["name"]: one["examples"] for one in webhooks if one["name"] in EVENTS})


if __name__ == "__main__":
    main()
