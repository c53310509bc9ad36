"""Files built byte by byte, so that their headers may say anything."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MIB = 1 << 20


def png(width: int, height: int, bits: int, colour: int, pixels: bytes, before: bytes = b"") -> bytes:
    facts = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", facts) + before + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def riff(kind: bytes, data: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + len(data)) + kind + data


def wav(
    rate_hz: int, channels: int, data: bytes, *, kind: int = 1, bits: int = 16, declared: int | None = None
) -> bytes:
    frame = channels * bits // 8
    facts = struct.pack("<HHIIHH", kind, channels, rate_hz, rate_hz * frame & 0xFFFFFFFF, frame & 0xFFFF, bits)
    size = len(data) if declared is None else declared
    return riff(b"WAVE", b"fmt " + struct.pack("<I", 16) + facts + b"data" + struct.pack("<I", size) + data)


def tiff(tags: dict[int, int]) -> bytes:
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4 + 64)


def npy(shape: tuple[int, ...], kind: str, data: bytes) -> bytes:
    facts = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape!r}}}".encode()
    facts = facts.ljust(-(-(len(facts) + 13) // 64) * 64 - 13) + b"\n"
    return b"\x93NUMPY\2\0" + struct.pack("<I", len(facts)) + facts + data


def nested_boxes(depth: int) -> bytes:
    return b"".join(struct.pack(">I", 8 * (depth - n)) + b"moov" for n in range(depth))


def saved(array: NDArray[Any] | np.generic, *, pickled: bool = False) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=pickled)
    return out.getvalue()


def encoded(picture: Image.Image, extension: str) -> bytes:
    out = io.BytesIO()
    picture.save(out, {"jpg": "jpeg", "tif": "tiff"}.get(extension, extension))
    return out.getvalue()


def zip_of(members: dict[str, bytes]) -> bytes:
    """Return a zip of members with a fixed date, so that the same members give the same bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, raw in members.items():
            member = zipfile.ZipInfo("x")
            member.filename, member.compress_type = name, zipfile.ZIP_DEFLATED
            archive.writestr(member, raw)
    return out.getvalue()


def tar_of(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", errors="surrogateescape") as archive:
        for name, raw in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    return out.getvalue()


def pax_tar(picture: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("a.jpg")
        member.size = len(picture)
        facts = {"size": "99999999999999999999", "path": "x" * 100_000, "mtime": "nan", "comment": "c" * MIB}
        member.pax_headers = facts
        archive.addfile(member, io.BytesIO(picture))
    return out.getvalue()


def nested_zip(depth: int) -> bytes:
    inner = zip_of({"a.txt": b"two cups"})
    for _ in range(depth):
        inner = zip_of({"1.zip": inner, "2.zip": inner})
    return inner


def gzipped(raw: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return packer.compress(raw) + packer.flush()


def deflated_zeros(n: int, start: bytes = b"") -> bytes:
    """Return a deflate stream of `start` and then zeros, `n` bytes in total, at a thousandth of the size."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    whole, rest = divmod(n - len(start), MIB)
    out = packer.compress(start + bytes(rest)) + packer.flush(zlib.Z_FULL_FLUSH)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    return out + block * whole + b"\3\0"


def zlib_zeros(n: int) -> bytes:
    """Return a zlib stream of `n` zeros."""
    return b"\x78\x9c" + deflated_zeros(n) + struct.pack(">I", n % 65521 << 16 | 1)


def zeros_crc(n: int, start: bytes = b"") -> int:
    crc, block = zlib.crc32(start), bytes(16 * MIB)
    whole, rest = divmod(n - len(start), len(block))
    for _ in range(whole):
        crc = zlib.crc32(block, crc)
    return zlib.crc32(bytes(rest), crc)


def zip_of_zeros(name: str, start: bytes, n: int) -> bytes:
    raw = deflated_zeros(n, start)
    facts = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, zeros_crc(n, start), len(raw), n, len(name), 0)
    local = b"PK\3\4" + facts + name.encode() + raw
    central = b"PK\1\2\x14\0" + facts + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name.encode()
    return local + central + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)


def gzip_of_zeros(start: bytes, n: int) -> bytes:
    ends = struct.pack("<II", zeros_crc(n, start), n & 0xFFFFFFFF)
    return b"\x1f\x8b\x08\0\0\0\0\0\2\xff" + deflated_zeros(n, start) + ends


def exr(channels: dict[str, NDArray[Any]], compression: int) -> bytes:
    """Write an OpenEXR file of scan lines ("OpenEXR File Layout", openexr.com): 0 plain, 2 ZIPS, 3 ZIP."""
    ordered = {name: channels[name] for name in sorted(channels)}
    height, width = next(iter(ordered.values())).shape
    kinds = {np.dtype(np.uint32): 0, np.dtype(np.float16): 1, np.dtype(np.float32): 2}
    listed = b"".join(
        name.encode() + b"\0" + struct.pack("<iiii", kinds[values.dtype], 0, 1, 1) for name, values in ordered.items()
    )
    window = struct.pack("<4i", 5, 7, width + 4, height + 6)
    attributes = [(b"channels", b"chlist", listed + b"\0"), (b"compression", b"compression", bytes([compression])),
                  (b"dataWindow", b"box2i", window), (b"displayWindow", b"box2i", window)]  # fmt: skip
    head = b"v/1\x01\2\0\0\0" + b"".join(
        name + b"\0" + kind + b"\0" + struct.pack("<i", len(data)) + data for name, kind, data in attributes
    )
    lines = 16 if compression == 3 else 1
    blocks = []
    for first in range(0, height, lines):
        rows = range(first, min(first + lines, height))
        raw = b"".join(values[row].tobytes() for row in rows for values in ordered.values())
        if compression:
            split = np.frombuffer(raw[0::2] + raw[1::2], np.uint8)
            steps = np.diff(split, prepend=split[:1]) + np.uint8(128)
            steps[0] = split[0]
            packed = zlib.compress(steps.tobytes())
            raw = packed if len(packed) < len(raw) else raw
        blocks.append(struct.pack("<ii", 7 + first, len(raw)) + raw)
    place = len(head) + 1 + 8 * len(blocks)
    table = b""
    for block in blocks:
        table += struct.pack("<Q", place)
        place += len(block)
    return head + b"\0" + table + b"".join(blocks)


def packed(row: bytes) -> bytes:
    """Return a row in PackBits without repeats."""
    parts = [row[start : start + 128] for start in range(0, len(row), 128)]
    return b"".join(bytes([len(part) - 1]) + part for part in parts)


def write_psd(
    path: Path, channels: np.ndarray, *, mode: int = 3, bits: int = 8, version: int = 1, is_packed: bool = False
) -> Path:
    """Write the flattened picture (height, width, channels) of a Photoshop file without layers."""
    height, width, count = channels.shape
    head = b"8BPS" + struct.pack(">H6xHIIHH", version, count, height, width, bits, mode) + bytes(12)
    rows = [channels[row, :, channel].tobytes() for channel in range(count) for row in range(height)]
    if is_packed:
        rows = [packed(row) for row in rows]
        head += struct.pack(">H", 1) + b"".join(struct.pack(">H", len(row)) for row in rows)
    else:
        head += struct.pack(">H", 0)
    path.write_bytes(head + b"".join(rows))
    return path
