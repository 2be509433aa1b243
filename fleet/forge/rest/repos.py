"""REST: the user, repositories, branches, refs, collaborators."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

from fleet.forge import refs, shapes, shapes_git
from fleet.forge.access import ADMIN, READ, WRITE, level_of, user_level
from fleet.forge.bare import NOBODY
from fleet.forge.errors import ApiError, not_found
from fleet.forge.rest.call import Answer, Call, Json, Listing
from fleet.forge.store import Repo

_PERMISSION = {0: "none", READ: "read", WRITE: "write", ADMIN: "admin"}


def me(call: Call) -> Json:
    return shapes.user(call.tx, call.tx.user_by_id(call.caller.user_id)) | {
        "name": call.caller.name,
        "email": call.caller.email,
    }


def user(call: Call) -> Json:
    row = call.tx.user(call.path["login"])
    if row is None:
        raise not_found()
    return shapes.user(call.tx, row) | {"name": row["name"], "email": row["email"]}


def rate_limit(call: Call) -> Json:
    window = {"limit": 5000, "remaining": 5000, "used": 0, "reset": int(call.tx.store.clock.now()) + 3600}
    return {"resources": {"core": window, "search": window, "graphql": window}, "rate": window}


def _permissions(level: int) -> dict[str, bool]:
    return {
        "admin": level >= ADMIN, "maintain": level >= ADMIN, "push": level >= WRITE, "triage": level >= WRITE,
        "pull": level >= READ,
    }  # fmt: skip


def get(call: Call) -> Json:
    return shapes.repository(call.tx, call.repo) | {"permissions": _permissions(call.level)}


def mine(call: Call) -> Listing:
    def seen(repo: Repo) -> int:
        return level_of(call.tx.rows, repo.id, repo.full_name, call.caller)

    def render(repo: Repo) -> Json:
        return shapes.repository(call.tx, repo) | {"permissions": _permissions(seen(repo))}

    return Listing([repo for repo in call.tx.repos() if seen(repo)], render)


def _branch(call: Call, name: str, sha: str, full: bool) -> Json:
    bare = call.tx.bare(call.repo)
    short = {"sha": sha, "url": shapes.repo_api(call.tx, call.repo, f"/commits/{sha}")}
    commit = bare.commit(sha) if full else None
    url = shapes.repo_api(call.tx, call.repo, f"/branches/{quote(name)}")
    return {
        "name": name,
        "commit": shapes_git.commit(call.tx, call.repo, commit) if commit else short,
        "protected": False,
        "protection": {"enabled": False},
        "protection_url": f"{url}/protection",
        "_links": {"self": url, "html": shapes.repo_html(call.tx, call.repo)},
    }


def branches(call: Call) -> Listing:
    found = [(name.removeprefix("refs/heads/"), sha) for name, sha in call.tx.bare(call.repo).refs().items()
             if name.startswith("refs/heads/")]  # fmt: skip
    return Listing(found, lambda pair: _branch(call, pair[0], pair[1], full=False))


def branch(call: Call) -> Json:
    name = call.path["branch"]
    sha = call.tx.bare(call.repo).branch(name)
    if sha is None:
        raise ApiError(404, "Branch not found")
    return _branch(call, name, sha, full=True)


def get_ref(call: Call) -> Json:
    name = f"refs/{call.path['ref']}"
    sha = call.tx.bare(call.repo).ref(name)
    if sha is None:
        raise not_found()
    return shapes_git.ref(call.tx, call.repo, name, sha)


def matching_refs(call: Call) -> Listing:
    prefix = f"refs/{call.path.get('ref', '')}"
    found = [(name, sha) for name, sha in call.tx.bare(call.repo).refs().items() if name.startswith(prefix)]
    return Listing(found, lambda pair: shapes_git.ref(call.tx, call.repo, pair[0], pair[1]))


def _checked_ref(call: Call, name: str) -> str:
    if not name.startswith(("refs/heads/", "refs/tags/")) or not call.tx.bare(call.repo).valid_ref(name):
        raise ApiError(422, f"{name} is not a valid ref name.")
    return name


def create_ref(call: Call) -> Answer:
    name, sha = _checked_ref(call, call.text("ref")), call.text("sha")
    bare = call.tx.bare(call.repo)
    if not bare.has(sha):
        raise ApiError(422, "Object does not exist")
    if bare.ref(name) is not None or not bare.update_ref(name, sha, NOBODY):
        raise ApiError(422, "Reference already exists")
    refs.sync(call.tx, call.repo, call.caller.user_id)
    return Answer(shapes_git.ref(call.tx, call.repo, name, sha), 201)


def update_ref(call: Call) -> Json:
    name, sha = _checked_ref(call, f"refs/{call.path['ref']}"), call.text("sha")
    bare = call.tx.bare(call.repo)
    old = bare.ref(name)
    if old is None:
        raise ApiError(422, "Reference does not exist")
    if not bare.has(sha):
        raise ApiError(422, "Object does not exist")
    if not call.flag("force") and not bare.is_ancestor(old, sha):
        raise ApiError(422, "Update is not a fast forward")
    if not bare.update_ref(name, sha, old):
        raise ApiError(409, "Reference cannot be updated")
    refs.sync(call.tx, call.repo, call.caller.user_id)
    return shapes_git.ref(call.tx, call.repo, name, sha)


def delete_ref(call: Call) -> Answer:
    name = _checked_ref(call, f"refs/{call.path['ref']}")
    bare = call.tx.bare(call.repo)
    old = bare.ref(name)
    if old is None or name == f"refs/heads/{call.repo.default_branch}" or not bare.delete_ref(name, old):
        raise ApiError(422, "Reference does not exist" if old is None else "Reference cannot be deleted")
    refs.sync(call.tx, call.repo, call.caller.user_id)
    return Answer(None, 204)


def contents(call: Call) -> Any:
    bare = call.tx.bare(call.repo)
    asked, path = call.query.get("ref") or call.repo.default_branch, call.path.get("path", "").strip("/")
    commit = bare.resolve(asked)
    if commit is None:
        raise ApiError(404, f"No commit found for the ref {asked}")
    entry = bare.tree_entry(commit, path)
    if entry is None:
        raise not_found()
    kind, sha, size = entry
    if kind == "tree":
        return [_content(call, f"{path}/{name}".lstrip("/"), asked, {"blob": "file", "tree": "dir"}.get(k, k), s, 0)
                for k, s, name in bare.listing(sha)]  # fmt: skip
    data = _content(call, path, asked, "file", sha, size)
    if size > 1024 * 1024:
        return data | {"encoding": "none", "content": ""}
    return data | {"encoding": "base64", "content": base64.encodebytes(bare.blob(sha)).decode()}


def _content(call: Call, path: str, ref: str, kind: str, sha: str, size: int) -> Json:
    url = shapes.repo_api(call.tx, call.repo, f"/contents/{quote(path)}?ref={quote(ref, safe='')}")
    return {
        "type": kind,
        "name": path.rsplit("/", 1)[-1],
        "path": path,
        "sha": sha,
        "size": size,
        "url": url,
        "git_url": shapes.repo_api(call.tx, call.repo, f"/git/blobs/{sha}"),
        "html_url": None,
        "download_url": None,
        "_links": {"self": url, "git": None, "html": None},
    }


def permission(call: Call) -> Json:
    row = call.tx.user(call.path["login"])
    if row is None:
        raise not_found()
    level = user_level(call.tx.rows, call.repo.id, row["id"])
    name = _PERMISSION[level]
    person = shapes.user(call.tx, row) | {"permissions": _permissions(level), "role_name": name}
    return {"permission": name, "role_name": name, "user": person}


def is_collaborator(call: Call) -> Answer:
    row = call.tx.user(call.path["login"])
    given = row and call.tx.rows.one(
        "SELECT 1 FROM permissions WHERE repo_id = ? AND user_id = ?", call.repo.id, row["id"]
    )
    if given is None:
        raise not_found()
    return Answer(None, 204)


def collaborators(call: Call) -> Listing:
    rows = call.tx.rows.all(
        "SELECT u.* FROM users u JOIN permissions p ON p.user_id = u.id WHERE p.repo_id = ? ORDER BY u.id", call.repo.id
    )
    return Listing(rows, lambda row: shapes.user(call.tx, row))
