"""REST: issues, labels, comments, timeline, webhooks."""

from __future__ import annotations

from typing import Any

from fleet.forge import hooks, shapes, shapes_git
from fleet.forge import issues as domain
from fleet.forge import pulls as pull_domain
from fleet.forge.access import WRITE
from fleet.forge.db import Row
from fleet.forge.errors import forbidden, invalid, not_found
from fleet.forge.rest.call import Answer, Call, Json, Listing, as_texts


def _issue(call: Call, row: Row) -> Json:
    return shapes.issue(call.tx, call.repo, domain.get(call.tx, call.repo, row["number"]))


def _found(call: Call) -> Row:
    return domain.get(call.tx, call.repo, call.number())


def listing(call: Call) -> Listing:
    query = call.query
    state, order = query.get("state", "open"), "ASC" if query.get("direction") == "asc" else "DESC"
    column = {"updated": "i.updated_at", "comments": "i.id"}.get(query.get("sort", "created"), "i.number")
    sql = "SELECT i.* FROM issues i WHERE i.repo_id = ?"
    args: list[Any] = [call.repo.id]
    if state != "all":
        sql += " AND i.state = ?"
        args.append(state)
    if since := query.get("since"):
        sql += " AND i.updated_at >= ?"
        args.append(since)
    if creator := query.get("creator"):
        sql += " AND i.author_id = (SELECT id FROM users WHERE login = ?)"
        args.append(creator)
    for name in filter(None, query.get("labels", "").split(",")):
        sql += (" AND EXISTS (SELECT 1 FROM issue_labels il JOIN labels l ON l.id = il.label_id"
                " WHERE il.issue_id = i.id AND l.name = ?)")  # fmt: skip
        args.append(name.strip())
    rows = call.tx.rows.all(f"{sql} ORDER BY {column} {order}, i.number {order}", *args)
    return Listing(rows, lambda row: shapes.issue(call.tx, call.repo, row))


def get(call: Call) -> Json:
    return _issue(call, _found(call))


def create(call: Call) -> Answer:
    # Labels and assignees of people without write access are dropped in silence, as GitHub does.
    trusted = call.level >= WRITE
    labels = call.texts("labels") if trusted else []
    row = domain.create(call.tx, call.repo, call.caller.user_id, call.text("title"), call.maybe("body"), labels)
    if trusted and (people := call.texts("assignees")):
        domain.set_assignees(call.tx, call.repo, row, people)
    return Answer(_issue(call, row), 201)


def edit(call: Call) -> Json:
    row, actor = _found(call), call.caller.user_id
    if call.level < WRITE and row["author_id"] != actor:
        raise forbidden()
    body = (call.maybe("body") or "") if "body" in call.fields else None
    domain.edit_text(call.tx, call.repo, row, call.maybe("title"), body, actor)
    if call.level >= WRITE and "labels" in call.fields:
        domain.set_labels(call.tx, call.repo, row, call.texts("labels"), actor)
    if call.level >= WRITE and "assignees" in call.fields:
        domain.set_assignees(call.tx, call.repo, row, call.texts("assignees"))
    state = call.maybe("state")
    if state is not None and row["is_pull"]:
        pull_domain.set_state(call.tx, call.repo, pull_domain.get(call.tx, call.repo, row["number"]), state, actor)
    elif state is not None:
        domain.set_state(call.tx, call.repo, row, state, call.maybe("state_reason"), actor)
    return _issue(call, row)


def comments(call: Call) -> Listing:
    rows = domain.comments(call.tx, _found(call))
    if since := call.query.get("since"):
        rows = [row for row in rows if row["updated_at"] >= since]
    return Listing(rows, lambda row: shapes.comment(call.tx, call.repo, row))


def all_comments(call: Call) -> Listing:
    rows = call.tx.rows.all(
        "SELECT c.*, i.number, i.is_pull FROM comments c JOIN issues i ON i.id = c.issue_id"
        " WHERE i.repo_id = ? AND c.updated_at >= ? ORDER BY c.id",
        call.repo.id, call.query.get("since", ""),
    )  # fmt: skip
    return Listing(rows, lambda row: shapes.comment(call.tx, call.repo, row))


def create_comment(call: Call) -> Answer:
    row = domain.add_comment(call.tx, call.repo, _found(call), call.caller.user_id, call.text("body"))
    return Answer(shapes.comment(call.tx, call.repo, row), 201)


def get_comment(call: Call) -> Json:
    return shapes.comment(call.tx, call.repo, domain.get_comment(call.tx, call.repo, call.number("id")))


def _own_comment(call: Call) -> Row:
    row = domain.get_comment(call.tx, call.repo, call.number("id"))
    if call.level < WRITE and row["author_id"] != call.caller.user_id:
        raise forbidden()
    return row


def edit_comment(call: Call) -> Json:
    row = domain.edit_comment(call.tx, call.repo, _own_comment(call), call.text("body"), call.caller.user_id)
    return shapes.comment(call.tx, call.repo, row)


def delete_comment(call: Call) -> Answer:
    domain.delete_comment(call.tx, call.repo, _own_comment(call), call.caller.user_id)
    return Answer(None, 204)


def events(call: Call) -> Listing:
    rows = call.tx.rows.all("SELECT * FROM timeline WHERE issue_id = ? ORDER BY id", _found(call)["id"])
    return Listing(rows, lambda row: shapes.event(call.tx, call.repo, row))


def timeline(call: Call) -> Listing:
    """Events and comments together, oldest first."""
    issue = _found(call)
    rows = call.tx.rows.all("SELECT * FROM timeline WHERE issue_id = ? ORDER BY id", issue["id"])
    rows += [row | {"event": "commented"} for row in domain.comments(call.tx, issue)]

    def render(row: Row) -> Json:
        if row["event"] != "commented":
            return shapes.event(call.tx, call.repo, row)
        comment = shapes.comment(call.tx, call.repo, row)
        return comment | {"event": "commented", "actor": comment["user"]}

    return Listing(sorted(rows, key=lambda row: str(row["created_at"])), render)


def labels_of(call: Call) -> Listing:
    return Listing(shapes.labels_of(call.tx, call.repo, _found(call)["id"]), lambda label: label)


def _asked_labels(call: Call) -> list[str]:
    """GitHub takes a bare list as well as an object."""
    asked = call.body.get("labels") if isinstance(call.body, dict) else call.body
    return as_texts(asked if asked is not None else [], "Label", "labels")


def add_labels(call: Call) -> Listing:
    domain.add_labels(call.tx, call.repo, _found(call), _asked_labels(call), call.caller.user_id)
    return labels_of(call)


def set_labels(call: Call) -> Listing:
    domain.set_labels(call.tx, call.repo, _found(call), _asked_labels(call), call.caller.user_id)
    return labels_of(call)


def clear_labels(call: Call) -> Answer:
    domain.set_labels(call.tx, call.repo, _found(call), [], call.caller.user_id)
    return Answer(None, 204)


def remove_label(call: Call) -> Listing:
    domain.remove_label(call.tx, call.repo, _found(call), call.path["name"], call.caller.user_id)
    return labels_of(call)


def assign(call: Call) -> Answer:
    row = _found(call)
    for login in call.texts("assignees"):
        person = domain.assignable(call.tx, call.repo, login)
        call.tx.rows.run("INSERT OR IGNORE INTO assignees VALUES (?, ?)", row["id"], person["id"])
    return Answer(_issue(call, row), 201)


def unassign(call: Call) -> Json:
    row = _found(call)
    for login in call.texts("assignees"):
        person = domain.assignable(call.tx, call.repo, login)
        call.tx.rows.run("DELETE FROM assignees WHERE issue_id = ? AND user_id = ?", row["id"], person["id"])
    return _issue(call, row)


def _label(call: Call) -> Row:
    row = domain.label_row(call.tx, call.repo, call.path["name"])
    if row is None:
        raise not_found()
    return row


def repo_labels(call: Call) -> Listing:
    rows = call.tx.rows.all("SELECT * FROM labels WHERE repo_id = ? ORDER BY name", call.repo.id)
    return Listing(rows, lambda row: shapes.label(call.tx, call.repo, row))


def get_label(call: Call) -> Json:
    return shapes.label(call.tx, call.repo, _label(call))


def create_label(call: Call) -> Answer:
    row = domain.create_label(
        call.tx, call.repo, call.text("name"), call.text("color", "ededed").lstrip("#"), call.maybe("description")
    )
    return Answer(shapes.label(call.tx, call.repo, row), 201)


def edit_label(call: Call) -> Json:
    row = _label(call)
    name = call.maybe("new_name") or call.maybe("name") or row["name"]
    other = domain.label_row(call.tx, call.repo, name)
    if other is not None and other["id"] != row["id"]:
        raise invalid("Label", "name", "already_exists")
    call.tx.rows.run(
        "UPDATE labels SET name = ?, color = ?, description = ? WHERE id = ?",
        name, call.maybe("color") or row["color"], call.maybe("description") or row["description"], row["id"],
    )  # fmt: skip
    fresh = domain.label_row(call.tx, call.repo, name)
    assert fresh is not None
    return shapes.label(call.tx, call.repo, fresh)


def delete_label(call: Call) -> Answer:
    call.tx.rows.run("DELETE FROM labels WHERE id = ?", _label(call)["id"])
    return Answer(None, 204)


def repo_hooks(call: Call) -> Listing:
    rows = call.tx.rows.all("SELECT * FROM hooks WHERE repo_id = ? ORDER BY id", call.repo.id)
    return Listing(rows, lambda row: shapes_git.hook(call.tx, call.repo, row))


def create_hook(call: Call) -> Answer:
    config = call.fields.get("config")
    if not isinstance(config, dict):
        raise invalid("Hook", "config", "missing_field")
    events, active = call.texts("events") or ["push"], call.flag("active", True)
    row = hooks.create(call.tx, call.repo, config, events, active, call.caller.user_id)
    return Answer(shapes_git.hook(call.tx, call.repo, row), 201)


def _hook(call: Call) -> Row:
    return hooks.get(call.tx, call.repo, call.number("id"))


def get_hook(call: Call) -> Json:
    return shapes_git.hook(call.tx, call.repo, _hook(call))


def delete_hook(call: Call) -> Answer:
    call.tx.rows.run("DELETE FROM hooks WHERE id = ?", _hook(call)["id"])
    return Answer(None, 204)


def ping_hook(call: Call) -> Answer:
    hooks.ping(call.tx, call.repo, _hook(call), call.caller.user_id)
    return Answer(None, 204)


def deliveries(call: Call) -> Listing:
    rows = call.tx.rows.all("SELECT * FROM deliveries WHERE hook_id = ? ORDER BY id DESC", _hook(call)["id"])
    return Listing(rows, shapes_git.delivery)


def delivery(call: Call) -> Any:
    row = call.tx.rows.one(
        "SELECT * FROM deliveries WHERE hook_id = ? AND id = ?", _hook(call)["id"], call.number("delivery")
    )
    if row is None:
        raise not_found()
    return shapes_git.delivery(row, full=True)


def redeliver(call: Call) -> Answer:
    hooks.redeliver(call.tx, call.repo, call.number("id"), call.number("delivery"))
    return Answer({}, 202)
