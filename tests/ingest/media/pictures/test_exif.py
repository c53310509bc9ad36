"""Orientation by EXIF that is hostile: a picture is read upright or as stored, in little memory and time."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
from pathlib import Path

import pytest
from PIL import Image

from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures import exif as exif_module
from bindsearch.ingest.media.pictures.image import read_image
from bindsearch.media import DecodeHints

ORIENTATION = (0x0112, 3, 1, 6)
PHOTO = 0x8769


def block(*tags: tuple[int, int, int, int], after: bytes = bytes(4)) -> bytes:
    """EXIF of one directory: tag, type, count and value or place of each entry."""
    entries = b"".join(struct.pack("<HHLL", *tag) for tag in tags)
    return b"Exif\0\0II*\0" + struct.pack("<LH", 8, len(tags)) + entries + after


def shape_of(path: Path, exif: bytes) -> tuple[int, ...]:
    """Return the shape of a picture of 40x20 pixels with this EXIF."""
    Image.new("RGB", (40, 20)).save(path, exif=exif)
    started = time.perf_counter()
    tracemalloc.start()
    try:
        shape = read_image(path, DecodeHints(8, 1), DecodeOptions()).rgb.shape
        assert tracemalloc.get_traced_memory()[1] < (20 << 20) + 4 * len(exif)
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - started < 2
    return shape


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
@pytest.mark.parametrize(
    "exif",
    [
        block(ORIENTATION, (0x010E, 2, 1 << 31, 8)),
        block(ORIENTATION, (0x010E, 5, 1 << 31, (1 << 32) - 1)),
        block(ORIENTATION, (PHOTO, 4, 1, 8)),
        block(ORIENTATION, after=struct.pack("<L", 8)),
        block(*((tag, 3, 30_000, 8) for tag in range(0x0200, 0x0200 + 900)), ORIENTATION, after=bytes(50_000)),
    ],
    ids=["a count of 2^31", "beyond the file", "a directory in itself", "a directory after itself", "shared bytes"],
)
def test_the_orientation_is_read_beside_hostile_tags(tmp_path: Path, name: str, exif: bytes) -> None:
    assert shape_of(tmp_path / name, exif) == (40, 20, 3)


@pytest.mark.parametrize(
    "exif",
    [
        block((0x0112, 3, 1 << 31, 1 << 31)),
        block((0x0112, 2, 1, 6)),
        block((0x0112, 3, 1, 9)),
        block(ORIENTATION)[:-14],
        b"Exif\0\0no TIFF",
    ],
)
def test_a_damaged_orientation_turns_nothing(tmp_path: Path, exif: bytes) -> None:
    assert shape_of(tmp_path / "a.png", exif) == (20, 40, 3)


def test_a_huge_block_costs_only_its_bytes(tmp_path: Path) -> None:
    """Each of 900 tags has 32 MB, which the tags share: read whole they would be 29 GB."""
    shared = [(tag, 1, 32 << 20, 8) for tag in range(0x0200, 0x0200 + 900)]
    assert shape_of(tmp_path / "a.webp", block(ORIENTATION, *shared, after=bytes(32 << 20))) == (40, 20, 3)


def test_a_value_is_read_once_and_up_to_its_bound() -> None:
    strips = struct.pack("<8L", *range(8))
    entries = b"".join(struct.pack("<HHLL", 273, 4, 8, 100) for _ in range(3))
    file = io.BytesIO((struct.pack("<2sHLH", b"II", 42, 8, 3) + entries).ljust(100, b"\0") + strips)
    header = exif_module.read_header(file)
    assert header is not None
    tags, _ = exif_module.read_directory(file, *header, {273}, convert=exif_module.integers, max_bytes=20)
    assert tags == {273: (0, 1, 2, 3, 4)}
