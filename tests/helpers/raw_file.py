"""A small raw picture: a DNG with a preview."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BYTE, TEXT, SHORT, LONG, SIGNED = 1, 2, 3, 4, 10
_LETTERS = {BYTE: "B", SHORT: "H", LONG: "I", SIGNED: "i"}


def ifd(tags: list[tuple[int, int, list[int] | bytes]], place: int) -> bytes:
    """Return a TIFF directory for the offset `place`, followed by its longer values."""
    out, extra = struct.pack("<H", len(tags)), b""
    end = place + 2 + 12 * len(tags) + 4
    for tag, kind, values in sorted(tags):
        data = values + b"\0" if isinstance(values, bytes) else b"".join(
            struct.pack("<" + _LETTERS[kind], value) for value in values
        )  # fmt: skip
        count = len(data) if kind == TEXT else len(values) // (2 if kind == SIGNED else 1)
        where = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack("<I", end + len(extra))
        extra += b"" if len(data) <= 4 else data + bytes(len(data) % 2)
        out += struct.pack("<HHI", tag, kind, count) + where
    return out + bytes(4) + extra


def write_dng(
    path: Path, preview: bytes | NDArray[np.uint8] | None, *, orientation: int = 1, size: tuple[int, int] = (300, 200)
) -> Path:
    """Write a DNG (1.4) of 64x48 equal sensor values, with a preview of `size`: JPEG, or uint8 (height, width, 3)."""
    sensor = np.full((48, 64), 1000, "<u2").tobytes()
    shown = b"" if preview is None else preview if isinstance(preview, bytes) else preview.tobytes()
    jpeg = isinstance(preview, bytes)

    def directories(second: int, shown_at: int, sensor_at: int) -> tuple[bytes, bytes]:
        main: list[tuple[int, int, list[int] | bytes]] = [
            (271, TEXT, b"Maker"), (272, TEXT, b"Model"), (274, SHORT, [orientation]), (50706, BYTE, [1, 4, 0, 0]),
            (50708, TEXT, b"Maker Model"), (50778, SHORT, [21]),
            (50721, SIGNED, [1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1]),
        ]  # fmt: skip
        values: list[tuple[int, int, list[int] | bytes]] = [
            (254, LONG, [0]), (256, LONG, [64]), (257, LONG, [48]), (258, SHORT, [16]), (259, SHORT, [1]),
            (262, SHORT, [32803]), (273, LONG, [sensor_at]), (277, SHORT, [1]), (278, LONG, [48]),
            (279, LONG, [len(sensor)]), (33421, SHORT, [2, 2]), (33422, BYTE, [0, 1, 1, 2]),
        ]  # fmt: skip
        if preview is None:
            return ifd(main + values, 8), b""
        main += [
            (254, LONG, [1]), (256, LONG, [size[0]]), (257, LONG, [size[1]]), (258, SHORT, [8, 8, 8]),
            (259, SHORT, [7 if jpeg else 1]), (262, SHORT, [6 if jpeg else 2]), (273, LONG, [shown_at]),
            (277, SHORT, [3]), (278, LONG, [size[1]]), (279, LONG, [len(shown)]), (330, LONG, [second]),
        ]  # fmt: skip
        first = ifd(main, 8)
        return first, ifd(values, 8 + len(first))

    sizes = [len(part) for part in directories(0, 0, 0)]
    shown_at = 8 + sum(sizes)
    first, second = directories(8 + sizes[0], shown_at, shown_at + len(shown))
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + first + second + shown + sensor)
    return path
