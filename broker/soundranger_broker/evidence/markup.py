"""Markup: elements of HTML and SVG, in which everything that is not markup is escaped."""

import html
import re
from typing import Final

# What no text needs, XML forbids, or turns the order of letters around.
UNWANTED: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
REPLACEMENT: Final = "\ufffd"


class Markup(str):
    """A string that is markup already."""

    __slots__ = ()


def escaped(text: str) -> Markup:
    """Return a text as markup that shows it; markup as it is."""
    if isinstance(text, Markup):
        return text
    return Markup(html.escape(UNWANTED.sub(REPLACEMENT, text)))


def joined(*parts: str) -> Markup:
    """Return parts, one after the other."""
    return Markup("".join(escaped(part) for part in parts))


def tag(name: str, *children: str, **attributes: object) -> Markup:
    """Return an element; `class_` is the attribute class, and stroke_width is stroke-width."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(value if isinstance(value, str) else str(value))}"'
        for key, value in attributes.items()
    )
    inside = joined(*children)
    return Markup(f"<{name}{said}>{inside}</{name}>" if children else f"<{name}{said}/>")


def number(value: float) -> str:
    """Return a coordinate of a picture, to a tenth of a pixel."""
    # A negative zero is a zero.
    return f"{round(value, 1) + 0.0:g}"
