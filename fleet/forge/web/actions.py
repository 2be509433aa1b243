"""What a person can do on a page. The same domain functions as the API, so the same rules."""

from __future__ import annotations

from collections.abc import Callable

from fleet.forge import issues, pulls
from fleet.forge.access import READ, WRITE
from fleet.forge.db import Row
from fleet.forge.errors import ApiError, forbidden
from fleet.forge.store import Repo
from fleet.forge.web.view import View

Form = dict[str, str]


def act(view: View, form: Form) -> str:
    """Does ``form['action']`` and returns where to go. Raises ApiError when it may not or cannot be done."""
    repo, level = view.repo()
    action = form.get("action", "")
    if action == "new" and "number" not in view.path:
        _need(view, level, READ, "issues")
        row = issues.create(view.tx, repo, view.caller.user_id, form.get("title", ""), form.get("body") or None)
        return _address(repo, row)
    if "number" not in view.path or action not in _ACTIONS:
        raise ApiError(400, "This form is not known to this forge.")
    row = issues.get(view.tx, repo, view.number())
    role, do = _ACTIONS[action]
    if action in ("close", "reopen") and row["author_id"] == view.caller.user_id:
        role = READ
    _need(view, level, role, "pull_requests" if row["is_pull"] else "issues")
    do(view, repo, row, form)
    return _address(repo, row)


def _need(view: View, level: int, role: int, scope: str) -> None:
    if level < role or view.caller.scope(scope) < WRITE:
        raise forbidden()


def _address(repo: Repo, row: Row) -> str:
    return f"/{repo.full_name}/{'pull' if row['is_pull'] else 'issues'}/{row['number']}"


def _comment(view: View, repo: Repo, row: Row, form: Form) -> None:
    issues.add_comment(view.tx, repo, row, view.caller.user_id, form.get("body", "").replace("\r\n", "\n"))


def _set_state(state: str) -> Callable[[View, Repo, Row, Form], None]:
    def do(view: View, repo: Repo, row: Row, form: Form) -> None:
        if form.get("body", "").strip():
            _comment(view, repo, row, form)
        if row["is_pull"]:
            pulls.set_state(view.tx, repo, pulls.get(view.tx, repo, row["number"]), state, view.caller.user_id)
        else:
            issues.set_state(view.tx, repo, row, state, None, view.caller.user_id)

    return do


def _merge(view: View, repo: Repo, row: Row, form: Form) -> None:
    if view.caller.scope("contents") < WRITE:
        raise forbidden()
    # The form names the head that was on the page: a push in between is not merged unseen.
    asked = {"sha": form.get("sha", ""), "merge_method": form.get("method", "merge")}
    pulls.merge(view.tx, repo, pulls.get(view.tx, repo, row["number"]), view.caller, asked)


def _set_draft(draft: bool) -> Callable[[View, Repo, Row, Form], None]:
    def do(view: View, repo: Repo, row: Row, form: Form) -> None:
        pulls.set_draft(view.tx, repo, pulls.get(view.tx, repo, row["number"]), draft, view.caller.user_id)

    return do


def _label(view: View, repo: Repo, row: Row, form: Form) -> None:
    issues.add_labels(view.tx, repo, row, [form.get("label", "").strip()], view.caller.user_id)


def _unlabel(view: View, repo: Repo, row: Row, form: Form) -> None:
    issues.remove_label(view.tx, repo, row, form.get("label", ""), view.caller.user_id)


_ACTIONS: dict[str, tuple[int, Callable[[View, Repo, Row, Form], None]]] = {
    "comment": (READ, _comment),
    "close": (WRITE, _set_state("closed")),
    "reopen": (WRITE, _set_state("open")),
    "merge": (WRITE, _merge),
    "ready": (WRITE, _set_draft(False)),
    "draft": (WRITE, _set_draft(True)),
    "label": (WRITE, _label),
    "unlabel": (WRITE, _unlabel),
}
