"""Pictures as codes of terminals: the graphics of kitty, inline images of iTerm2, sixels, and half blocks.

Specifications: https://sw.kovidgoyal.net/kitty/graphics-protocol/, https://iterm2.com/documentation-images.html, and
for sixels the VT330/VT340 Programmer Reference Manual, volume 2, chapter 14.
"""

from __future__ import annotations

import re
from base64 import b64encode
from enum import StrEnum
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

CHUNK_CHARACTERS = 4096
"""Most characters of one code of kitty's graphics."""

COLOURS = 256
"""Colours of a sixel picture: as many as terminals have registers for."""

HALF_BLOCK = "▀"
_RUN = re.compile(rb"(.)\1{3,254}", re.DOTALL)


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
    match graphics:
        case Graphics.KITTY:
            return [kitty(_png(picture), size)]
        case Graphics.ITERM:
            return [iterm(_png(picture), size)]
        case Graphics.SIXEL:
            return [sixel(picture)]
        case Graphics.BLOCKS:
            return half_blocks(picture)


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
            lines.append(f"#{number}{_runs(codes.astype(np.uint8).tobytes().rstrip(b'?'))}")
        parts.append("$".join(lines))
        parts.append("-")
    return "".join(parts[:-1]) + "\x1b\\"


def _runs(codes: bytes) -> str:
    """Return the characters of a line with runs of more than three as a number and the character."""
    return _RUN.sub(lambda run: b"!%d%s" % (len(run.group()), run.group(1)), codes).decode("ascii")


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


def _png(picture: Image.Image) -> bytes:
    file = BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()
