"""Videos with a GPMF track as GoPro cameras write it (github.com/gopro/gpmf-parser, README.md), made of boxes.

FFmpeg cannot write such a track: it is added to a video that FFmpeg wrote, as a further `trak` of its `moov`, with the
payloads in an `mdat` at the end.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from helpers.heic_file import box, full_box


def klv(key: str, kind: str, size: int, content: bytes) -> bytes:
    """Return an entry of samples of `size` bytes, padded to four bytes; kind "": nested entries."""
    if not kind:
        size = 4 if len(content) // 4 < 1 << 16 else 128
        content += bytes(-len(content) % size)
    head = key.encode("latin-1") + struct.pack(">cBH", kind.encode() or b"\0", size, len(content) // size)
    return head + content + bytes(-len(content) % 4)


def text(key: str, value: str) -> bytes:
    return klv(key, "c", 1, value.encode("latin-1"))


def stream(key: str, values: NDArray[np.float64], scale: int, *properties: bytes, unit: str = "") -> bytes:
    """Return the STRM of values (n, 3) in SI units, stored as 16-bit integers after SCAL."""
    stored = np.round(values * scale).astype(">i2").tobytes()
    return klv("STRM", "", 4, b"".join(properties) + (text("SIUN", unit) if unit else b"")
               + klv("SCAL", "s", 2, struct.pack(">h", scale)) + klv(key, "s", 6, stored))  # fmt: skip


def payload(*streams: bytes, device: str = "Camera") -> bytes:
    return klv("DEVC", "", 4, klv("DVID", "L", 4, struct.pack(">I", 1)) + text("DVNM", device) + b"".join(streams))


def motion_payloads(
    accelerometer: NDArray[np.float64],
    gyroscope: NDArray[np.float64],
    count: int,
    *properties: bytes,
    device: str = "Camera",
    stamps_us: Sequence[int] | None = None,
) -> list[bytes]:
    """Return `count` payloads of equal parts of both sensors, whose columns are in the order of the channels."""
    made = []
    parts = zip(np.array_split(accelerometer, count), np.array_split(gyroscope, count), strict=True)
    for number, (acceleration, rotation) in enumerate(parts):
        stamp = () if stamps_us is None else (klv("STMP", "J", 8, struct.pack(">Q", stamps_us[number])),)
        made.append(
            payload(
                stream("ACCL", acceleration, 418, *stamp, *properties, unit="m/s²"),
                stream("GYRO", rotation, 939, *stamp, *properties, unit="rad/s"),
                device=device,
            )
        )
    return made


def add_track(path: Path, payloads: Sequence[bytes], *, payload_s: float = 1.0, codec: bytes = b"gpmd") -> Path:
    """Add a track of payloads to an mp4, each `payload_s` long."""
    video = path.read_bytes()
    place, size = find_box(video, b"moov")
    ms = round(1000 * payload_s)

    def movie(first: int) -> bytes:
        offsets = first + np.concatenate([[0], np.cumsum([len(one) for one in payloads])])[:-1]
        count = len(payloads)
        table = box(
            b"stbl",
            full_box(b"stsd", 0, struct.pack(">I", 1), box(codec, bytes(6), struct.pack(">HI", 1, 0))),
            full_box(b"stts", 0, struct.pack(">III", 1, count, ms)),
            full_box(b"stsc", 0, struct.pack(">IIII", 1, 1, 1, 1)),
            full_box(b"stsz", 0, struct.pack(">II", 0, count), *(struct.pack(">I", len(one)) for one in payloads)),
            full_box(b"stco", 0, struct.pack(">I", count), offsets.astype(">u4").tobytes()),
        )
        header = full_box(b"mdhd", 0, struct.pack(">IIIIHH", 0, 0, 1000, ms * count, 0, 0))
        handler = full_box(b"hdlr", 0, b"mhlrmeta", bytes(12), b"\x09GoPro MET")
        data = box(b"dinf", full_box(b"dref", 0, struct.pack(">I", 1), box(b"url ", b"\0\0\0\1")))
        media = box(b"mdia", header, handler, box(b"minf", box(b"gmhd", full_box(b"gmin", 0, bytes(12))), data, table))
        matrix = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
        track = struct.pack(">IIIII", 0, 0, 9, 0, ms * count) + bytes(16) + matrix + bytes(8)
        trak = box(b"trak", full_box(b"tkhd", 0, track), media)
        return box(b"moov", video[place + 8 : place + size], trak)

    rest = video[:place] + video[place + size :]  # FFmpeg writes moov last, so that nothing before it moves
    assert place + size == len(video)
    start = len(rest) + len(movie(0)) + 8
    path.write_bytes(rest + movie(start) + box(b"mdat", *payloads))
    return path


def find_box(data: bytes, name: bytes) -> tuple[int, int]:
    """Return place and size of a box at the top of a file."""
    place = 0
    while place < len(data):
        size = int.from_bytes(data[place : place + 4])
        if data[place + 4 : place + 8] == name:
            return place, size
        place += size
    raise AssertionError(name)
