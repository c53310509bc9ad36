"""HTML from trees of elements, in which every text and attribute is escaped."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html import escape

from bindsearch.arguments import escaped

VOID = frozenset(("meta", "img", "br", "hr", "input", "link", "source"))
"""Elements without content (HTML, 13.1.2)."""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(name: str, /, *content: str, **attributes: str | float | bool | None) -> Html:
    """Return an element.

    Args:
        name: Its name.
        content: Elements, and texts, which are escaped.
        attributes: Its attributes; `class_` is class and `aria_label` is aria-label. True gives one without a value,
            False and None leave it out.
    """
    shown = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(visible(str(value)))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    start = f"<{name}{shown}>"
    return Html(start if name in VOID else f"{start}{joined(content)}</{name}>")


def page_start(title: str, style: str, script: str = "") -> str:
    """Return the beginning of a page in one file, up to its body, which may use this style and script alone.

    Args:
        title: Title of the page.
        style: CSS.
        script: JavaScript that the page will have; "": none.
    """
    policy = (
        "default-src 'none'; img-src data:; media-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src {_source(style)}"
    ) + (f"; script-src {_source(script)}" if script else "")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        element("style", Html(style)),
    )
    return f'<!DOCTYPE html>\n<html lang="en">{head}<body>'


def _source(text: str) -> str:
    """Return the source of a content security policy that is this text alone."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def joined(content: tuple[str, ...] | list[str]) -> Html:
    """Return elements and texts behind each other; the texts are escaped."""
    return Html("".join(one if isinstance(one, Html) else escape(visible(one)) for one in content))


def visible(text: str) -> str:
    r"""Return a text whose control characters, marks of direction and surrogates are escaped, such as \u202e.

    What remains cannot change how the text around it is shown.
    """
    return escaped(text, lambda letter: letter if letter == "\n" else ascii(letter)[1:-1])
