"""A small real HEIC file, made without an HEVC encoder."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CONFIGURATION = bytes.fromhex(
    "0104080000009fa8000000001ef000fcfdf8f800000f03a00001001740010c01ffff0408000003009fa800000300001eba0240a10001"
    "00264201010408000003009fa800000300001ea010204165bab932b9a02000000300200000030021a2000100064401c173c189"
)
FRAME = bytes.fromhex(
    "000000ae2801af0fd1e140320db85a7ee91356b2fa57417c96232f9f6e1a3fb7c4bb520bb02f3da13feafd0c8d008dbd26bf766ea958"
    "272b8bccc98416d1f6cabb43ed70cfde20be86f14182e6803c2c2b09fef307c6a5a5f55b552397dd9cc8938fd7629f4c82b534ec7d0a"
    "7736cd8dfcbb280dcbb793feb9574af6c4089d2cdafda9d924814c5a969d80dfff64b94eaf943b1ac9e1d6a1a401dba1cdb5d9e67a09"
    "949fa75ee0901f46f0bf535827ec610c"
)
"""One HEVC intra frame of `corners()`, as libx265 wrote it, and what a decoder must know (ISO 14496-15, hvcC)."""

WHITE, RED, GREEN, BLUE = (250, 250, 250), (200, 20, 20), (20, 180, 20), (20, 20, 200)


def corners() -> NDArray[np.uint8]:
    """64 rows of 128 pixels in white, red, green and blue quarters: no turn and no mirror leaves it alike."""
    rgb = np.empty((64, 128, 3), np.uint8)
    rgb[:32, :64], rgb[:32, 64:], rgb[32:, :64], rgb[32:, 64:] = WHITE, RED, GREEN, BLUE
    return rgb


def box(name: bytes, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return struct.pack(">I", 8 + len(data)) + name + data


def full_box(name: bytes, version: int, *parts: bytes) -> bytes:
    return box(name, struct.pack(">I", version << 24), *parts)


def write_heic(
    path: Path,
    *,
    turns: int = 0,
    mirror: int | None = None,
    exif: bytes = b"",
    says: tuple[int, int] = (128, 64),
    brand: bytes = b"heic",
) -> Path:
    """Write a HEIC file of `corners()` (ISO 23008-12): irot `turns` to the left, imir `mirror`, Exif, size `says`."""
    properties = [box(b"hvcC", CONFIGURATION), full_box(b"ispe", 0, struct.pack(">II", *says))]
    properties += [box(b"irot", bytes([turns]))] if turns else []
    properties += [box(b"imir", bytes([mirror]))] if mirror is not None else []
    items = [(1, b"hvc1", FRAME), (2, b"Exif", bytes(4) + exif)][: 2 if exif else 1]

    def meta(place: int) -> bytes:
        places = b""
        for number, _, data in items:
            places += struct.pack(">HHHII", number, 0, 1, place, len(data))
            place += len(data)
        entries = b"".join(full_box(b"infe", 2, struct.pack(">HH", n, 0), kind, b"\0") for n, kind, _ in items)
        linked = struct.pack(">IHB", 1, 1, len(properties)) + bytes(0x80 | n + 1 for n in range(len(properties)))
        return full_box(
            b"meta", 0,
            full_box(b"hdlr", 0, bytes(4), b"pict", bytes(13)),
            full_box(b"pitm", 0, struct.pack(">H", 1)),
            full_box(b"iloc", 0, struct.pack(">BBH", 0x44, 0, len(items)), places),
            full_box(b"iinf", 0, struct.pack(">H", len(items)), entries),
            full_box(b"iref", 0, box(b"cdsc", struct.pack(">HHH", 2, 1, 1))) if exif else b"",
            box(b"iprp", box(b"ipco", *properties), full_box(b"ipma", 0, linked)),
        )  # fmt: skip

    start = box(b"ftyp", brand, bytes(4), b"mif1heic")
    data = box(b"mdat", *(data for _, _, data in items))
    path.write_bytes(start + meta(len(start) + len(meta(0)) + 8) + data)
    return path
