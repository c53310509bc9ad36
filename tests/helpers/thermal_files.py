"""Thermal files in the layouts of cameras: radiometric JPEGs, and false colours."""

from __future__ import annotations

import colorsys
import io
import math
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CONSTANTS: Mapping[int, float] = {
    0x20: 0.95, 0x24: 2.0, 0x28: 295.15, 0x2C: 293.15, 0x30: 293.15, 0x34: 1.0, 0x3C: 0.5,
    0x58: 21106.77, 0x5C: 1501.0, 0x60: 1.0, 0x70: 0.006569, 0x74: 0.01262, 0x78: -0.002276, 0x7C: -0.00667, 0x80: 1.9,
    0x30C: 0.012545258,
}  # fmt: skip
"""Numbers of a camera record by offset (ExifTool, lib/Image/ExifTool/FLIR.pm: CameraInfo), of one FLIR camera."""

OFFSET = -7340


def flir_record(raw: NDArray[Any], form: str = "png") -> bytes:
    """Return a record of raw data: 32 bytes, then a PNG with swapped bytes ("png") or little-endian values ("raw")."""
    height, width = raw.shape
    if form == "png":
        file = io.BytesIO()
        Image.fromarray(raw.astype(np.uint16).byteswap()).save(file, "PNG")
        content = file.getvalue()
    else:
        content = raw.astype("<u2").tobytes()
    return struct.pack("<HHH", 2, width, height).ljust(32, b"\0") + content


def camera_record(constants: Mapping[int, float] = CONSTANTS, offset: int = OFFSET) -> bytes:
    """Return a record of a camera, little-endian."""
    record = bytearray(0x340)
    struct.pack_into("<H", record, 0, 2)
    for place, number in constants.items():
        struct.pack_into("<f", record, place, number)
    struct.pack_into("<i", record, 0x308, offset)
    return bytes(record)


def fff(records: Mapping[int, bytes]) -> bytes:
    """Return an FFF file (ExifTool, FLIR.pm: ProcessFLIR): header of 64 bytes, directory, records; big-endian."""
    start = 64 + 32 * len(records)
    directory, body = b"", b""
    for kind, content in records.items():
        directory += struct.pack(">HHIIII", kind, 1, 100, 1, start + len(body), len(content)).ljust(32, b"\0")
        body += content
    header = b"FFF\0" + b"MTX IR".ljust(16, b"\0") + struct.pack(">III", 101, 64, len(records))
    return header.ljust(64, b"\0") + directory + body


def with_segments(jpeg: bytes, data: bytes, size: int = 65_000) -> bytes:
    """Return a JPEG with APP1 segments "FLIR\\0", 1, number, last number, part of `data`."""
    parts = [data[i : i + size] for i in range(0, len(data), size)]
    out = jpeg[:2]
    for i, part in enumerate(parts):
        content = b"FLIR\0\1" + bytes([i, len(parts) - 1]) + part
        out += b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content
    return out + jpeg[2:]


def jpeg_of(rgb: NDArray[np.uint8], orientation: int = 1) -> bytes:
    """Return a JPEG of a picture."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=95, exif=exif)
    return file.getvalue()


def write_flir(path: Path, raw: NDArray[Any], rgb: NDArray[np.uint8], orientation: int = 1, form: str = "png") -> None:
    """Write a radiometric JPEG."""
    data = fff({1: flir_record(raw, form), 0x20: camera_record()})
    path.write_bytes(with_segments(jpeg_of(rgb, orientation), data, size=9_000))


def scene(height: int, width: int, seed: int = 0) -> NDArray[np.float64]:
    """Return a smooth scene (height, width) in 0..1, brighter at the top left than elsewhere."""
    chance = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    values = 1.5 - x - 2 * y
    for _ in range(4):
        cy, cx, size = chance.random(3)
        values += chance.normal() * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (0.02 + 0.1 * size))
    return np.asarray((values - values.min()) / np.ptp(values))


def _jet(v: float) -> tuple[float, ...]:
    return tuple(min(1.0, max(0.0, 1.5 - abs(4 * v - place))) for place in (3, 2, 1))


def _hot(v: float) -> tuple[float, ...]:
    return min(1.0, 0.0416 + v / 0.365079 * 0.9584), min(1.0, max(0.0, (v - 0.365079) / 0.380952)), max(0.0, 4 * v - 3)


def _turbo(v: float) -> tuple[float, ...]:
    rows = (
        (0.13572138, 4.61539260, -42.66032258, 132.13108234, -152.94239396, 59.28637943),
        (0.09140261, 2.19418839, 4.84296658, -14.18503333, 4.27729857, 2.82956604),
        (0.10667330, 12.64194608, -60.58204836, 110.36276771, -89.90310912, 27.34824973),
    )
    return tuple(min(1.0, max(0.0, sum(c * v**i for i, c in enumerate(row)))) for row in rows)


def _table(text: str) -> Callable[[float], tuple[float, ...]]:
    entries = [entry.split(":") for entry in text.split()]
    places = [float(place) for place, _ in entries]
    colours = np.array([list(bytes.fromhex(colour)) for _, colour in entries]) / 255

    def colour(v: float) -> tuple[float, ...]:
        return tuple(float(np.interp(v * places[-1], places, colours[:, i])) for i in range(3))

    return colour


PALETTES: Mapping[str, Callable[[float], tuple[float, ...]]] = {
    # 216 colours of FLIR's iron (in twitter/rustcommon, waterfall/src/palettes/ironbow.rs), some of them
    "iron": _table(
        "0:000013 1:000025 4:00003e 9:03005e 15:0d0076 25:33008e 36:570099 52:8c009c 65:b10197 75:c10890 "
        "85:ce187c 94:da2a5e 100:e0373a 108:e74813 120:ee5f04 140:f78700 160:feb200 170:fec701 184:ffdf1e "
        "190:ffe940 200:fff390 208:fffacc 215:fffff8 "
    ),
    "jet": _jet,  # MATLAB's definition
    "hot": _hot,  # Matplotlib's definition (_cm.py: _hot_data)
    "turbo": _turbo,  # polynomial by its authors (Mikhailov 2019, Turbo, An Improved Rainbow Colormap)
    "spectrum": lambda v: colorsys.hsv_to_rgb((1 - v) * 2 / 3, 1, 1),
}
"""Colours by value 0..1, from definitions that this program does not have."""


def coloured(levels: NDArray[np.uint8], palette: str) -> NDArray[np.uint8]:
    """Return an 8-bit picture in false colours."""
    table = np.array([PALETTES[palette](i / 255) for i in range(256)])
    return np.round(255 * table).astype(np.uint8)[levels]


def flir_raw(celsius: float) -> float:
    """Return the value of a FLIR camera with `CONSTANTS` for an object: the measurement formula, written forwards."""
    r1, b, f, r2 = (CONSTANTS[place] for place in (0x58, 0x5C, 0x60, 0x30C))

    def signal(degrees: float) -> float:
        return r1 / (r2 * (math.exp(b / (degrees + 273.15)) - f))

    air = CONSTANTS[0x2C] - 273.15
    water = CONSTANTS[0x3C] * math.exp(1.5587 + 0.06939 * air - 0.00027816 * air**2 + 0.00000068455 * air**3)
    way = math.sqrt(CONSTANTS[0x24])
    tau = CONSTANTS[0x80] * math.exp(-way * (CONSTANTS[0x70] + CONSTANTS[0x78] * math.sqrt(water)))
    tau += (1 - CONSTANTS[0x80]) * math.exp(-way * (CONSTANTS[0x74] + CONSTANTS[0x7C] * math.sqrt(water)))
    e = CONSTANTS[0x20]
    return (
        e * tau * signal(celsius) + (1 - e) * tau * signal(CONSTANTS[0x28] - 273.15) + (1 - tau) * signal(air) - OFFSET
    )
