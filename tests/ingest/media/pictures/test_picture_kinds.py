"""Kinds of picture: what is valid is read or named, "damaged" is only what is damaged; libraries print nothing."""

from __future__ import annotations

import struct
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bindsearch.errors import MediaError
from bindsearch.ingest.inspect.classify import classify
from bindsearch.ingest.media.file_tags import read_metadata
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.image import read_image
from bindsearch.media import DecodeHints, drop_note
from bindsearch.types import Modality
from helpers import damaged_files
from helpers.tiff_file import Page, write_tiff

COLOURS = ((220, 30, 30), (30, 200, 30), (30, 30, 220), (230, 220, 40))


def corners(height: int = 64, width: int = 96) -> np.ndarray:
    """Red, green, blue, yellow quarters."""
    rgb = np.empty((height, width, 3), np.uint8)
    half, middle = height // 2, width // 2
    rgb[:half, :middle], rgb[:half, middle:], rgb[half:, :middle], rgb[half:, middle:] = COLOURS
    return rgb


def decode(path: Path, notes: list[str] | None = None, side: int = 224) -> np.ndarray:
    return read_image(path, DecodeHints(side, 1), DecodeOptions(), drop_note if notes is None else notes.append).rgb


def test_bigtiff_is_a_tiff(tmp_path: Path) -> None:
    ascii_tags: Any = {306: b"2024:05:06 07:08:09\0", 272: b"Scanner\0"}
    path = write_tiff(tmp_path / "a.tif", Page(corners(), ascii_tags), is_big=True)
    assert classify(path, path.name, ()).modality is Modality.IMAGE
    assert np.array_equal(decode(path), corners())
    found = read_metadata(path, Modality.IMAGE)
    assert (found.width_px, found.height_px, found.camera) == (96, 64, "Scanner")
    assert found.taken == datetime(2024, 5, 6, 7, 8, 9)
    write_tiff(path, corners(), is_big=True, order=">")
    with pytest.raises(MediaError, match=r"this kind of TIFF is not read \(BigTIFF of big-endian byte order\)"):
        decode(path)


def write_mpo(path: Path) -> Path:
    first, second = Image.fromarray(corners()), Image.new("RGB", (96, 64), "white")
    first.save(path, format="MPO", save_all=True, append_images=[second], quality=95)
    return path


@pytest.mark.parametrize("name", ["a.mpo", "a.jpg", "a.MPO"])
def test_of_a_jpeg_with_further_pictures_the_first_is_read(tmp_path: Path, name: str) -> None:
    path = write_mpo(tmp_path / name)
    assert classify(path, path.name, ()).modality is Modality.IMAGE
    assert np.abs(decode(path).astype(int) - corners()).mean() < 5
    assert read_metadata(path, Modality.IMAGE).width_px == 96


def test_an_mpo_whose_second_picture_is_missing_is_its_first(tmp_path: Path) -> None:
    raw = write_mpo(tmp_path / "a.mpo").read_bytes()
    (tmp_path / "a.mpo").write_bytes(raw[: raw.index(b"\xff\xd9") + 2])
    assert np.abs(decode(tmp_path / "a.mpo").astype(int) - corners()).mean() < 5


def floats(channels: int, dtype: str = "f4") -> np.ndarray:
    return np.random.default_rng(0).random((16, 16, channels)).astype(dtype)


VALID_TIFFS: dict[str, tuple[Page, str]] = {
    "float RGB": (Page(floats(3)), "3 channels of 32-bit floating-point numbers, RGB"),
    "double grey": (Page(floats(1, "f8")[:, :, 0]), "1 channel of 64-bit floating-point numbers, grey"),
    "complex": (Page(floats(1, "c8")[:, :, 0]), "1 channel of 64-bit complex numbers, grey"),
    "32-bit RGB": (Page((floats(3) * 1e9).astype("u4")), "3 channels of 32-bit integer numbers, RGB"),
    "16-bit grey with alpha": (
        Page((floats(2) * 6e4).astype("u2"), {262: 1, 338: 2}), "2 channels of 16-bit integer numbers, grey"
    ),
    "ten channels": (Page((floats(10) * 255).astype("u1"), {262: 1, 338: [0] * 9}), "10 channels of 8-bit"),
    "LERC": (Page(corners(), {259: 34887}), "LERC compression"),
    "WebP": (Page(corners(), {259: 50001}), "WebP compression"),
    "unknown compression": (Page(corners(), {259: 40123}), "number 40123 compression"),
    "sensor values": (Page(corners()[:, :, 0], {262: 32803}), "1 channel of 8-bit integer numbers, colour filter"),
}  # fmt: skip


@pytest.mark.parametrize("name", VALID_TIFFS)
def test_a_valid_tiff_of_a_kind_that_is_not_read_is_named(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    page, what = VALID_TIFFS[name]
    path = write_tiff(tmp_path / "a.tif", page)
    with pytest.raises(MediaError) as caught:
        decode(path)
    message = str(caught.value)
    assert message.startswith("this kind of TIFF is not read (")
    assert what in message
    assert message.endswith("save it as PNG, JPEG or TIFF of 8 bits per channel")
    assert capfd.readouterr() == ("", "")


def test_libtiff_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits", "zstd", "group4"):
        (noise.convert("1") if compression == "group4" else noise).save(tmp_path / "a.tif", compression=compression)
        raw = bytearray((tmp_path / "a.tif").read_bytes())
        raw[20 : len(raw) // 2] = bytes(len(raw) // 2 - 20)
        (tmp_path / "b.tif").write_bytes(raw)
        with suppress(MediaError, OSError):
            decode(tmp_path / "b.tif")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("alpha", [1, 2, 0])
def test_of_cmyk_with_a_fifth_channel_the_colours_are_read(tmp_path: Path, alpha: int) -> None:
    cmyk = np.asarray(Image.fromarray(corners()).convert("CMYK"))
    five = np.dstack([cmyk, np.full(cmyk.shape[:2], 200, np.uint8)])
    path = write_tiff(tmp_path / "a.tif", Page(five, {262: 5, 338: alpha}))
    assert np.abs(decode(path).astype(int) - corners()).max() <= 2


def jpeg_with(marker: int, bits: int = 8, channels: int = 3) -> bytes:
    """Return the head of a JPEG whose frame has a marker, bits and channels."""
    frame = struct.pack(">BHHB", bits, 16, 16, channels) + b"".join(bytes([i, 0x11, 0]) for i in range(channels))
    scan = bytes([channels]) + b"".join(bytes([i, 0]) for i in range(channels)) + b"\0\x3f\0"
    return (
        b"\xff\xd8"
        + b"".join(
            struct.pack(">BBH", 0xFF, mark, 2 + len(data)) + data
            for mark, data in ((0xE0, b"JFIF\0" + bytes(9)), (marker, frame), (0xDA, scan))
        )
        + bytes(300)
        + b"\xff\xd9"
    )


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (jpeg_with(0xC1, bits=12), "12-bit"),
        (jpeg_with(0xC3, bits=16), "16-bit"),
        (jpeg_with(0xC0, channels=2), "2 channels"),
        (jpeg_with(0xC0, channels=6), "6 channels"),
        (jpeg_with(0xF7), "JPEG-LS"),
    ],
)
def test_a_valid_jpeg_of_a_kind_that_is_not_read_is_named(tmp_path: Path, raw: bytes, what: str) -> None:
    (tmp_path / "a.jpg").write_bytes(raw)
    with pytest.raises(MediaError, match=rf"^this kind of JPEG is not read \({what}\): save it as PNG"):
        decode(tmp_path / "a.jpg")


def test_a_bmp_of_a_kind_that_is_not_read_is_named(tmp_path: Path) -> None:
    Image.fromarray(corners()).save(tmp_path / "a.bmp")
    raw = bytearray((tmp_path / "a.bmp").read_bytes())
    raw[30:34] = struct.pack("<L", 4)  # BI_JPEG
    (tmp_path / "a.bmp").write_bytes(raw)
    with pytest.raises(MediaError, match=r"^this kind of BMP is not read \(Unsupported BMP compression \(4\)\): save"):
        decode(tmp_path / "a.bmp")


@settings(max_examples=60, deadline=None)
@given(tag=st.sampled_from([256, 257, 258, 262, 277, 339]), value=st.integers(0, 65535))
def test_a_tiff_with_one_wrong_number_is_read_named_or_damaged(
    tmp_path_factory: pytest.TempPathFactory, tag: int, value: int
) -> None:
    path = write_tiff(tmp_path_factory.mktemp("t") / "a.tif", Page(corners(), {tag: value}))
    damaged_files.decode(path, Modality.IMAGE)
