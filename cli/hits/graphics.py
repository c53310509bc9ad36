"""Kinds of pictures that a terminal shows: known by its variables, else by its reply to a question."""

from __future__ import annotations

import os
import re
import select
import sys
import time
from collections.abc import Callable, Mapping

from bindsearch.arguments import did_you_mean, shown
from bindsearch.cli.hits.pictures import HALF_BLOCK, Graphics
from bindsearch.cli.output import can_print
from bindsearch.errors import UsageError

AUTO = "auto"
REPLY_S = 0.25
"""Time that a terminal has to reply; over slow connections it may take longer, and half blocks are shown."""

CELL_PX = 8, 16
"""Width and height in pixels of a character where the terminal does not tell them."""

MAX_REPLY = 4096

_QUESTION = b"\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\\x1b[c"
"""Asks whether graphics of kitty are known, and for the device attributes (DA1), which each terminal tells."""

_ATTRIBUTES = re.compile(rb"\x1b\[\?([\d;]*)c")
_SIXEL = b"4"
"""Device attribute of terminals that show sixels."""

_KITTY_TERMS = ("xterm-kitty", "xterm-ghostty")
_ITERM_PROGRAMS = frozenset({"iTerm.app", "WezTerm", "mintty"})


def to_graphics(wanted: str, environ: Mapping[str, str] = os.environ) -> Graphics:
    """Return how to show pictures, if AUTO or one of Graphics is wanted.

    Raises:
        UsageError: the name is unknown; or AUTO, and stdout is no terminal, or cannot show pictures.
    """
    if wanted != AUTO:
        if wanted not in [*Graphics]:
            names = (AUTO, *Graphics)
            raise UsageError(f"--preview={shown(wanted)}: {did_you_mean(wanted, names)}choose from {', '.join(names)}")
        return Graphics(wanted)
    if not sys.stdout.isatty():
        raise UsageError("--preview shows pictures in a terminal: elsewhere give a form, such as --preview=blocks")
    graphics = known_graphics(environ) or asked_graphics(_reply_of_terminal)
    if graphics is Graphics.BLOCKS and (environ.get("TERM") == "dumb" or not can_print(HALF_BLOCK)):
        raise UsageError("this terminal cannot show pictures: --html FILE writes a page with them")
    return graphics


def known_graphics(environ: Mapping[str, str]) -> Graphics | None:
    """Return what a terminal can show by its variables; None if they do not tell, as in tmux, which inherits them."""
    term = environ.get("TERM", "")
    if term == "dumb":
        return Graphics.BLOCKS
    if environ.get("TMUX") or environ.get("STY") or term.startswith(("screen", "tmux")):
        return None
    if term in _KITTY_TERMS or environ.get("KITTY_WINDOW_ID") or environ.get("GHOSTTY_RESOURCES_DIR"):
        return Graphics.KITTY
    if environ.get("TERM_PROGRAM") in _ITERM_PROGRAMS or environ.get("LC_TERMINAL") == "iTerm2":
        return Graphics.ITERM
    return None


def asked_graphics(ask: Callable[[bytes], bytes]) -> Graphics:
    """Return what a terminal can show by its reply, which `ask` returns to a question; without one, half blocks."""
    reply = ask(_QUESTION)
    if b"_Gi=31;OK" in reply:
        return Graphics.KITTY
    found = _ATTRIBUTES.search(reply)
    return Graphics.SIXEL if found and _SIXEL in found.group(1).split(b";")[1:] else Graphics.BLOCKS


def _reply_of_terminal(question: bytes) -> bytes:
    """Return the reply of the terminal to a question; empty if there is none in time."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return b""
    try:
        return ask_terminal(terminal, question)
    finally:
        os.close(terminal)


def ask_terminal(terminal: int, question: bytes, limit_s: float = REPLY_S) -> bytes:
    """Return the reply of a terminal to a question that asks for the device attributes last.

    The terminal does not echo meanwhile. In the background it is not asked, as that would stop this process.

    Args:
        terminal: File descriptor of the terminal, open for reading and writing.
        question: What to send.
        limit_s: Time for the whole reply, in seconds.
    """
    try:
        import termios
        import tty
    except ImportError:  # not on Windows
        return b""
    try:
        if os.tcgetpgrp(terminal) != os.getpgrp():
            return b""
        before = termios.tcgetattr(terminal)
    except (OSError, termios.error):
        return b""
    reply = b""
    try:
        tty.setcbreak(terminal, termios.TCSANOW)
        os.write(terminal, question)
        ends = time.monotonic() + limit_s
        while len(reply) < MAX_REPLY and not _ATTRIBUTES.search(reply):
            left_s = ends - time.monotonic()
            if left_s <= 0 or not select.select([terminal], [], [], left_s)[0]:
                break
            reply += os.read(terminal, 1024)
    finally:
        termios.tcsetattr(terminal, termios.TCSANOW, before)
    return reply


def cell_px() -> tuple[int, int]:
    """Return width and height of a character in pixels, as the terminal tells them."""
    try:
        import fcntl
        import struct
        import termios

        size = fcntl.ioctl(sys.stdout.fileno(), termios.TIOCGWINSZ, bytes(8))
    except (ImportError, OSError, ValueError):
        return CELL_PX
    rows, columns, width, height = struct.unpack("HHHH", size)
    if not (rows and columns and width >= columns and height >= rows):
        return CELL_PX
    return width // columns, height // rows
