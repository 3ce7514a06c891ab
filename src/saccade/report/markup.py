"""HTML written as calls: whatever is not markup already is escaped, so a name from outside cannot become any."""

from __future__ import annotations

import html
import json
from typing import Any

_VOID = ("br", "img", "meta")


class Markup(str):
    """Text that is HTML."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """Returns an element with its children, of which strings are escaped; None and False are left out.

    Attributes: `class_` is class, other underscores are hyphens; None and False leave one out, True gives it no value.
    """
    opened = name
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        opened += " " + key.rstrip("_").replace("_", "-")
        if value is not True:
            opened += f'="{html.escape(str(value), quote=True)}"'
    if name in _VOID:
        return Markup(f"<{opened}>")
    return Markup(f"<{opened}>{joined(*children)}</{name}>")


def joined(*children: object) -> Markup:
    """Returns markup and escaped text one after the other; lists and tuples of them are flattened."""
    parts = []
    for child in children:
        if child is None or child is False:
            continue
        if isinstance(child, list | tuple):
            parts.append(joined(*child))
        else:
            parts.append(child if isinstance(child, Markup) else Markup(html.escape(str(child), quote=True)))
    return Markup("".join(parts))


def json_script(name: str, data: Any) -> Markup:
    """Returns data for a script, in an element nothing in it can close.

    Raises ValueError for NaN and infinity, which JSON has no word for.
    """
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return Markup(f'<script type="application/json" id="{html.escape(name, quote=True)}">{text}</script>')
