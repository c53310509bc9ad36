"""OpenEXR files of scan lines, plain or deflated, as renderers and OpenCV write depth: one channel of them.

The layout is that of "OpenEXR File Layout" (openexr.com). The library of the format is not used: it prints errors of
damaged files to the standard output and returns what it has.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.pillow import check_size

_MAGIC = b"v/1\x01"
_MAX_HEADER_BYTES = 1 << 20
_OTHER_FORMS = {0x200: "tiles", 0x800: "deep pixels", 0x1000: "several parts"}
"""Flags of the version field."""
_COMPRESSIONS = ("no", "RLE", "ZIPS", "ZIP", "PIZ", "PXR24", "B44", "B44A", "DWAA", "DWAB")
_LINES_OF_BLOCK = {0: 1, 2: 1, 3: 16}
"""Lines of a block, by the compressions that are read."""
_TYPES = ("<u4", "<f2", "<f4")
_SAVE_AS = "save it as scan lines with ZIP compression, 32-bit TIFF or .npy"


@dataclass(frozen=True, slots=True)
class _Header:
    """Header of an EXR file: channels as (name, dtype) in the order of storage, size, compression, and first line."""

    channels: Sequence[tuple[str, np.dtype[Any]]]
    width: int
    height: int
    compression: int
    top: int

    @property
    def line_bytes(self) -> int:
        """Bytes of one line of all channels."""
        return self.width * sum(dtype.itemsize for _, dtype in self.channels)


def read_exr_channel(path: Path, options: DecodeOptions) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Read the depth channel of an EXR file: the one named depth or Z, else the only one, else equal colours.

    Returns:
        Values (height, width), and a note on the channel if there are several.

    Raises:
        MediaError: not such an EXR file, damaged, truncated, too large, or without depth.
    """
    with path.open("rb") as file:
        raw = file.read(_MAX_HEADER_BYTES)
        header, end = _parse_header(raw)
        check_size((header.width, header.height), options.max_pixels, what="the array")
        needed = header.line_bytes * header.height
        if needed > options.max_array_bytes:
            raise MediaError(
                f"its {len(header.channels)} channels have {needed} bytes: more than {options.max_array_bytes} "
                "are not read (--limit array=N)"
            )
        chosen = _depth_channels([name for name, _ in header.channels])
        channels = _read_lines(file, end, header, chosen)
    if not all(np.array_equal(channels[0], other, equal_nan=True) for other in channels[1:]):
        raise MediaError(f"the EXR has colours and no channel named Z or depth: its channels are {', '.join(chosen)}")
    return channels[0], () if len(header.channels) == 1 else (f"depth is the channel {chosen[0]!r} of the EXR",)


def _parse_header(raw: bytes) -> tuple[_Header, int]:
    """Return the header and its length in bytes."""
    if raw[:4] != _MAGIC:
        raise MediaError("not an EXR file")
    version = int.from_bytes(raw[4:8], "little")
    for flag, form in _OTHER_FORMS.items():
        if version & flag:
            raise MediaError(f"EXR files of {form} are not read: {_SAVE_AS}")
    attributes: dict[str, bytes] = {}
    place = 8
    try:
        while raw[place] != 0:
            name_end = raw.index(0, place)
            type_end = raw.index(0, name_end + 1)
            (size,) = struct.unpack_from("<i", raw, type_end + 1)
            start = type_end + 5
            if size < 0 or start + size > len(raw):
                raise ValueError("size of an attribute")
            attributes[raw[place:name_end].decode("latin-1")] = raw[start : start + size]
            place = start + size
        channels = _parse_channels(attributes["channels"])
        left, top, right, bottom = struct.unpack("<4i", attributes["dataWindow"])
        compression = attributes["compression"][0]
    except (KeyError, IndexError, ValueError, struct.error) as error:
        raise MediaError(f"damaged EXR header ({error})") from error
    if compression not in _LINES_OF_BLOCK:
        name = _COMPRESSIONS[compression] if compression < len(_COMPRESSIONS) else str(compression)
        raise MediaError(f"EXR files of {name} compression are not read: {_SAVE_AS}")
    return _Header(channels, right - left + 1, bottom - top + 1, compression, top), place + 1


def _parse_channels(raw: bytes) -> list[tuple[str, np.dtype[Any]]]:
    """Return the names and types of a channel list."""
    channels = []
    place = 0
    while raw[place] != 0:
        end = raw.index(0, place)
        kind, _, x_step, y_step = struct.unpack_from("<iiii", raw, end + 1)
        if not 0 <= kind < len(_TYPES) or (x_step, y_step) != (1, 1):
            raise ValueError("type or sampling of a channel")
        channels.append((raw[place:end].decode("latin-1"), np.dtype(_TYPES[kind])))
        place = end + 17
    return channels


def _depth_channels(names: Sequence[str]) -> list[str]:
    """Return the channels that hold depth: one, or the colours, which must be equal then.

    Blender writes "ViewLayer.Depth.Z" (or .V), others "Z", "depth.Z", "Y", or R, G and B alike.
    """
    for is_depth in (lambda name: "depth" in name.lower(), lambda name: name.rsplit(".", 1)[-1] == "Z"):
        found = [name for name in names if is_depth(name)]
        if found:
            return found[:1]
    if len(names) == 1:
        return list(names)
    last = {name.rsplit(".", 1)[-1].upper(): name for name in names}
    if {"R", "G", "B"} <= set(last):
        return [last["R"], last["G"], last["B"]]
    raise MediaError(f"the EXR has no channel named Z or depth: its channels are {', '.join(sorted(names)[:8])}")


def _read_lines(file: IO[bytes], table: int, header: _Header, chosen: Sequence[str]) -> list[NDArray[Any]]:
    """Return the chosen channels (height, width), read from the blocks that the table at `table` locates."""
    offsets, place = {}, 0
    for name, dtype in header.channels:
        offsets[name] = (place, dtype)
        place += header.width * dtype.itemsize
    result = [np.zeros((header.height, header.width), offsets[name][1]) for name in chosen]
    lines = _LINES_OF_BLOCK[header.compression]
    n_blocks = -(-header.height // lines)
    file.seek(table)
    places = file.read(8 * n_blocks)
    if len(places) < 8 * n_blocks:
        raise MediaError("truncated EXR file")
    for (start,), first in zip(struct.iter_unpack("<Q", places), range(0, header.height, lines), strict=True):
        n_lines = min(lines, header.height - first)
        block = _read_block(file, start, header, header.top + first, n_lines)
        rows = np.frombuffer(block, np.uint8).reshape(n_lines, header.line_bytes)
        for values, name in zip(result, chosen, strict=True):
            place, dtype = offsets[name]
            part = np.ascontiguousarray(rows[:, place : place + header.width * dtype.itemsize])
            values[first : first + n_lines] = part.view(dtype)
    return result


def _read_block(file: IO[bytes], start: int, header: _Header, line: int, n_lines: int) -> bytes:
    """Return the bytes of a block of lines: all channels of a line one after the other."""
    needed = n_lines * header.line_bytes
    file.seek(min(start, os.fstat(file.fileno()).st_size))
    head = file.read(8)
    found, size = struct.unpack("<ii", head) if len(head) == 8 else (line, -1)
    if size < 0 or size > needed or found != line:
        raise MediaError("damaged or truncated EXR file")
    raw = file.read(size)
    if len(raw) < size:
        raise MediaError("truncated EXR file")
    if size == needed:  # a block that compression would not make smaller is stored as it is
        return raw
    try:
        raw = zlib.decompressobj().decompress(raw, needed + 1)
    except zlib.error as error:
        raise MediaError(f"damaged EXR file ({error})") from error
    if len(raw) != needed:
        raise MediaError("damaged EXR file")
    # ZIP blocks have differences of successive bytes, of even and odd ones apart
    steps = np.frombuffer(raw, np.uint8).copy()
    steps[1:] -= np.uint8(128)
    split = np.cumsum(steps, dtype=np.uint8)
    half = (len(split) + 1) // 2
    joined = np.empty_like(split)
    joined[0::2], joined[1::2] = split[:half], split[half:]
    return joined.tobytes()
