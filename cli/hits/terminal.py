"""Terminals: their width, colours and links, and the columns that a text takes."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from unicodedata import category, east_asian_width
from urllib.parse import quote

import typer

from bindsearch.cli.output import visible

BOLD, DIM = 1, 2
"""Codes of styles (ECMA-48, "Select Graphic Rendition")."""

_VARIABLES = "DOMTERM GHOSTTY_RESOURCES_DIR KITTY_WINDOW_ID KONSOLE_VERSION WEZTERM_EXECUTABLE WT_SESSION"
_WITH_LINKS = tuple(_VARIABLES.split())
_PROGRAMS_WITH_LINKS = frozenset({"iTerm.app", "WezTerm", "vscode", "Hyper", "ghostty", "Tabby", "rio"})
_TERMS_WITH_LINKS = ("xterm-kitty", "xterm-ghostty", "alacritty", "foot", "wezterm", "contour")
_FIRST_VTE_WITH_LINKS = 5000


class Color(StrEnum):
    """Use of styles."""

    AUTO = "auto"
    """On a terminal, unless NO_COLOR is set (https://no-color.org)."""
    ALWAYS = "always"
    NEVER = "never"


def has_styles(color: Color) -> bool:
    """Return whether to print styles."""
    if color is Color.AUTO:
        return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return color is Color.ALWAYS


def has_links(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether the terminal is known to show links (OSC 8); others may print their code."""
    if not sys.stdout.isatty() or environ.get("TERM") == "dumb":
        return False
    if any(environ.get(name) for name in _WITH_LINKS) or environ.get("TERM_PROGRAM") in _PROGRAMS_WITH_LINKS:
        return True
    version = environ.get("VTE_VERSION", "")
    is_new = version.isdecimal() and int(version) >= _FIRST_VTE_WITH_LINKS
    return is_new or environ.get("TERM", "").startswith(_TERMS_WITH_LINKS)


def columns() -> int | None:
    """Return the columns of the terminal; None if stdout is none: lines are then as long as they are."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def styled(text: str, style: int) -> str:
    """Return a text in a style, which parts in other styles keep."""
    start, end = f"\x1b[{style}m", "\x1b[0m"
    return f"{start}{text.replace(end, end + start)}{end}"


def linked(text: str, path: Path) -> str:
    """Return a text as a link to a file.

    The code is OSC 8 (https://gist.github.com/egmontkob/eb114294efbcd5adb1944c9f3cb5feda).
    """
    return f"\x1b]8;;file://{quote(os.fsencode(path))}\x1b\\{text}\x1b]8;;\x1b\\"


def print_codes(text: str) -> None:
    """Print a line with codes of the terminal on stdout; what is not ours must be escaped (`visible`)."""
    typer.echo(text, color=True)


def cell_width(text: str) -> int:
    """Return the columns that a text takes: two for wide characters, none for those that combine."""
    if text.isascii():
        return len(text)
    return sum(map(_cells, text))


def _cells(letter: str) -> int:
    if category(letter) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if east_asian_width(letter) in "WF" else 1


def shorten(text: str, width: int) -> str:
    """Return a text of at most `width` columns: the end is replaced by "..." where it is longer."""
    return text if cell_width(text) <= width else f"{_head(text, width - 3)}..."


def shorten_path(path: str, width: int) -> str:
    """Return a path of at most `width` columns: its middle is replaced by "..." where it is longer; the name stays."""
    if cell_width(path) <= width:
        return path
    tail = _head(path[::-1], max(width - 3 - width // 4, 1))[::-1]
    return f"{_head(path, width - 3 - cell_width(tail))}...{tail}"


def _head(text: str, width: int) -> str:
    """Return the longest beginning of a text that takes at most `width` columns."""
    taken = 0
    for place, letter in enumerate(text):
        taken += _cells(letter)
        if taken > width:
            return text[:place]
    return text


def shown_path(path: str, folder: Path | None = None) -> str:
    """Return a path on one line, relative to the working folder (None: the process's) if it is below it."""
    try:
        below = Path(path).relative_to(folder or Path.cwd())
    except (ValueError, OSError):  # the working folder may be gone
        return visible(path)
    return visible(str(below))
