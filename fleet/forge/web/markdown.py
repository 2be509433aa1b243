"""Markdown of issues, comments and evidence as HTML that cannot do anything."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup, escape

from fleet.forge.web.visible import plain

_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_LINK_SCHEMES = ("http://", "https://", "mailto:", "#")
_SIGNS = (("[ ] ", "☐ "), ("[x] ", "☑ "), ("[X] ", "☑ "))


class _Renderer(RendererHTML):
    """Raw HTML is shown as text, hidden comments stay hidden, pictures become links: nothing is loaded."""

    def html_block(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        text = _COMMENT.sub("", tokens[idx].content).strip()
        return f"<p>{escape(text)}</p>\n" if text else ""

    def html_inline(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return str(escape(_COMMENT.sub("", tokens[idx].content)))

    def image(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        where = str(tokens[idx].attrGet("src") or "")
        said = escape(tokens[idx].content or where)
        if not where.startswith(("http://", "https://")):
            return str(said)
        return f'<a href="{escape(where)}" rel="noopener noreferrer nofollow">picture: {said}</a>'


def _safe_link(url: str) -> bool:
    # Relative links would lead to other pages of this forge, where a click could be taken for the reader's wish.
    return url.lower().startswith(_LINK_SCHEMES)


def _tasks(tokens: Sequence[Token]) -> None:
    for index, token in enumerate(tokens[2:], 2):
        if token.type == "inline" and tokens[index - 2].type == "list_item_open" and token.children:
            first = token.children[0]
            for sign, shown in _SIGNS:
                if first.type == "text" and first.content.startswith(sign):
                    first.content = shown + first.content[len(sign) :]


def _mark_links(tokens: Sequence[Token]) -> None:
    for token in tokens:
        for child in token.children or ():
            if child.type == "link_open":
                child.attrSet("rel", "noopener noreferrer nofollow")


def render(text: str | None) -> Markup:
    """HTML of ``text``. Deep nesting and unknown links are shown as text."""
    machine = MarkdownIt("commonmark", {"html": True, "maxNesting": 20}, renderer_cls=_Renderer)
    machine.enable(["table", "strikethrough"])
    machine.validateLink = _safe_link  # type: ignore[method-assign]
    tokens = machine.parse(plain(text or ""))
    _tasks(tokens)
    _mark_links(tokens)
    return Markup(machine.renderer.render(tokens, machine.options, {}))
