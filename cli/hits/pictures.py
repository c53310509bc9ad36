"""Thumbnails of hits in a terminal: what kinds of pictures it shows, and pictures as its codes.

What it shows is known by its variables, else by its reply to a question. Specifications of the graphics of kitty, the
inline images of iTerm2, and sixels: https://sw.kovidgoyal.net/kitty/graphics-protocol/,
https://iterm2.com/documentation-images.html, and the VT330/VT340 Programmer Reference Manual, volume 2, chapter 14.
"""

from __future__ import annotations

import os
import re
import select
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bindsearch.arguments import did_you_mean, shown
from bindsearch.cli.hits.terminal import columns
from bindsearch.cli.output import can_print, visible
from bindsearch.errors import BindSearchError, UsageError
from bindsearch.types import Modality

if TYPE_CHECKING:
    from PIL import Image

CHUNK_CHARACTERS = 4096
"""Most characters of one code of kitty's graphics."""

COLOURS = 256
"""Colours of a sixel picture: as many as terminals have registers for."""

HALF_BLOCK = "▀"
_RUN = re.compile(rb"(.)\1{3,254}", re.DOTALL)
"""A run of a sixel line, which is written as a number and the character."""

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

THUMBNAIL_PX = 320
"""Longer side in pixels of the thumbnails that are made and kept beside the store."""

COLUMNS, ROWS = 32, 12
"""Most columns and rows of the terminal that a picture takes."""

INDENT = 5
BOX_COLOUR = (255, 225, 77)

Preview = Callable[[Mapping[str, Any]], list[str]]
"""Returns the lines below a hit."""


class Graphics(StrEnum):
    """Ways to show pictures in a terminal."""

    KITTY = "kitty"
    ITERM = "iterm"
    SIXEL = "sixel"
    BLOCKS = "blocks"


def picture_lines(picture: Image.Image, graphics: Graphics, size: tuple[int, int]) -> list[str]:
    """Return the lines that show a picture; the cursor is below it after the last one.

    Args:
        picture: The picture, RGB; for sixels and half blocks in the size in which it is shown.
        graphics: How it is shown.
        size: Columns and rows of the terminal that it takes.
    """
    if graphics is Graphics.BLOCKS:
        return half_blocks(picture)
    if graphics is Graphics.SIXEL:
        return [sixel(picture)]
    png = BytesIO()
    picture.save(png, "PNG", compress_level=1)
    return [kitty(png.getvalue(), size) if graphics is Graphics.KITTY else iterm(png.getvalue(), size)]


def kitty(png: bytes, size: tuple[int, int]) -> str:
    """Return the code that shows a PNG file in a number of columns and rows; the terminal sends no reply."""
    data = b64encode(png).decode("ascii")
    chunks = [data[start : start + CHUNK_CHARACTERS] for start in range(0, len(data), CHUNK_CHARACTERS)]
    heads = [f"a=T,f=100,q=2,c={size[0]},r={size[1]},", *[""] * (len(chunks) - 1)]
    more = [*["m=1"] * (len(chunks) - 1), "m=0"]
    return "".join(f"\x1b_G{head}{flag};{chunk}\x1b\\" for head, flag, chunk in zip(heads, more, chunks, strict=True))


def iterm(png: bytes, size: tuple[int, int]) -> str:
    """Return the code that shows a PNG file in a number of columns and rows."""
    data = b64encode(png).decode("ascii")
    return f"\x1b]1337;File=inline=1;size={len(png)};width={size[0]};height={size[1]}:{data}\x07"


def sixel(picture: Image.Image) -> str:
    """Return the code that shows a picture, with at most COLOURS colours, one pixel a pixel.

    Six rows are a band. Each colour of a band is a line of characters, one a column, of which the bits tell the rows
    that have the colour, the lowest bit the topmost row.
    """
    import numpy as np

    reduced = picture.convert("RGB").quantize(COLOURS)
    palette = np.array(reduced.getpalette(), np.uint8).reshape(-1, 3)
    numbers = np.asarray(reduced)
    height, width = numbers.shape
    parts = [f'\x1bP0;1;0q"1;1;{width};{height}']
    for number in np.unique(numbers).tolist():
        percent = [round(int(value) * 100 / 255) for value in palette[number]]
        parts.append(f"#{number};2;{';'.join(map(str, percent))}")
    bits = (1 << np.arange(6, dtype=np.uint8))[:, None]
    for top in range(0, height, 6):
        band = numbers[top : top + 6]
        lines = []
        for number in np.unique(band).tolist():
            codes = ((band == number) * bits[: len(band)]).sum(axis=0, dtype=np.uint8) + 63
            line = codes.astype(np.uint8).tobytes().rstrip(b"?")
            shorter = _RUN.sub(lambda run: b"!%d%s" % (len(run[0]), run[1]), line)
            lines.append(f"#{number}{shorter.decode('ascii')}")
        parts.append("$".join(lines))
        parts.append("-")
    return "".join(parts[:-1]) + "\x1b\\"


def half_blocks(picture: Image.Image) -> list[str]:
    """Return lines of which each character is two pixels, one above the other, in 24-bit colours."""
    import numpy as np

    pixels = np.asarray(picture.convert("RGB")).tolist()
    lines = []
    for row in range(0, len(pixels), 2):
        below = pixels[row + 1] if row + 1 < len(pixels) else [None] * len(pixels[row])
        parts: list[str] = []
        before = None
        for upper, lower in zip(pixels[row], below, strict=True):
            if (upper, lower) != before:
                before = upper, lower
                ground = "49" if lower is None else f"48;2;{_numbers(lower)}"
                parts.append(f"\x1b[38;2;{_numbers(upper)};{ground}m")
            parts.append(HALF_BLOCK)
        lines.append("".join(parts) + "\x1b[0m")
    return lines


def _numbers(colour: list[int]) -> str:
    return ";".join(map(str, colour))


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


def preview_lines(hit: Mapping[str, Any], store: Path, graphics: Graphics) -> list[str]:
    """Return the lines of a thumbnail of a hit, or why it cannot be shown."""
    from PIL import Image

    from bindsearch.operations.locate.words import boxes_of_one_picture
    from bindsearch.views.located_hits import place_of
    from bindsearch.views.picture_cache import cached_picture
    from bindsearch.views.thumbnails import thumbnail

    if hit["modality"] == Modality.TEXT:
        return []
    try:
        content = cached_picture(store, place_of(hit), THUMBNAIL_PX, thumbnail)
    except BindSearchError as error:
        return [f"{'':{INDENT}}{visible(f'(no picture: {error})')}"]
    with Image.open(BytesIO(content)) as picture:
        boxes = boxes_of_one_picture(hit["located"]) if hit["located"] else []
        lines = _shown(picture.convert("RGB"), boxes, graphics)
    return [f"{'':{INDENT}}{line}" for line in lines]


def _shown(picture: Image.Image, boxes: Sequence[Mapping[str, float]], graphics: Graphics) -> list[str]:
    """Return the lines of a picture with boxes that fits into COLUMNS and ROWS, and into the terminal."""
    from PIL import ImageDraw

    width = min(COLUMNS, max(1, (columns() or COLUMNS + INDENT) - INDENT))
    cell = (1, 2) if graphics is Graphics.BLOCKS else cell_px()
    scale = min(width * cell[0] / picture.width, ROWS * cell[1] / picture.height)
    pixels = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    if graphics in (Graphics.BLOCKS, Graphics.SIXEL):
        picture = picture.resize(pixels)
    line_px = max(1, round(max(picture.size) / (2 * COLUMNS)))  # thick enough to be seen where it takes COLUMNS
    drawing = ImageDraw.Draw(picture)
    right, bottom = picture.width - 1, picture.height - 1
    for box in reversed(boxes):  # the best one last
        sides = (box["left"] * right, box["top"] * bottom, box["right"] * right, box["bottom"] * bottom)
        drawing.rectangle(sides, outline=BOX_COLOUR, width=line_px)
    size = max(1, round(pixels[0] / cell[0])), max(1, round(pixels[1] / cell[1]))
    return picture_lines(picture, graphics, size)
