from __future__ import annotations

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bindsearch.errors import MediaError
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.image import read_image
from bindsearch.media import DecodeHints

SMALL = DecodeHints(picture_side_px=32, frames_per_s=1)


def halves(width: int = 60, height: int = 40) -> Image.Image:
    """Red on the left, blue on the right."""
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[:, : width // 2, 0] = 255
    rgb[:, width // 2 :, 2] = 255
    return Image.fromarray(rgb)


def decode(path: Path, wants: DecodeHints = SMALL, **limits: int) -> np.ndarray:
    return read_image(path, wants, DecodeOptions(**limits)).rgb


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "gif", "tif", "bmp"])
def test_every_format_gives_upright_rgb(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"a.{extension}"
    halves().save(path)
    rgb = decode(path)
    assert rgb.dtype == np.uint8
    assert rgb.shape == (40, 60, 3)
    assert rgb[20, 10].tolist() == pytest.approx([255, 0, 0], abs=12)
    assert rgb[20, 50].tolist() == pytest.approx([0, 0, 255], abs=12)


def test_the_extension_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    halves().save(path, format="PNG")
    assert decode(path)[20, 10].tolist() == [255, 0, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension", ["jpg", "png", "tif", "webp"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, extension: str) -> None:
    upright = Image.fromarray(np.dstack([np.linspace(0, 255, 2400).reshape(40, 60)] * 3).astype(np.uint8))
    undo = {
        1: [], 2: [Image.Transpose.FLIP_LEFT_RIGHT], 3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM], 5: [Image.Transpose.TRANSPOSE], 6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE], 8: [Image.Transpose.ROTATE_270],
    }  # fmt: skip
    stored = upright
    for step in undo[orientation]:
        stored = stored.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{extension}"
    stored.save(path, exif=exif)
    assert np.abs(decode(path).astype(int) - np.asarray(upright)).mean() < 6


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[:, 4:, 3] = 255
    Image.fromarray(rgba).save(tmp_path / "a.png")
    rgb = decode(tmp_path / "a.png")
    assert rgb[0, 0].tolist() == [255, 255, 255]
    assert rgb[0, 7].tolist() == [0, 0, 0]


def test_a_palette_with_transparency_is_looked_up(tmp_path: Path) -> None:
    picture = Image.fromarray(np.repeat([[0, 1, 2, 3]], 4, 0).astype(np.uint8), "P")
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    picture.save(tmp_path / "a.png", transparency=bytes([255, 255, 255, 0]))
    assert decode(tmp_path / "a.png")[0].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path, extension: str) -> None:
    Image.fromarray(np.array([[0, 32768, 65535]], np.uint16)).save(tmp_path / f"a.{extension}")
    assert decode(tmp_path / f"a.{extension}")[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "CMYK", "YCbCr"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.png" if mode in ("1", "L", "LA") else "a.jpg")
    halves().convert(mode).save(path)
    assert decode(path).shape == (40, 60, 3)


def test_the_first_frame_of_a_gif_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert decode(tmp_path / "a.gif")[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("extension", ["jpg", "png", "webp"])
def test_large_pictures_come_reduced_but_not_below_twice_the_wanted_side(tmp_path: Path, extension: str) -> None:
    halves(1200, 800).save(tmp_path / f"a.{extension}")
    height, width, _ = decode(tmp_path / f"a.{extension}").shape
    assert 64 <= height <= 128
    assert width == pytest.approx(1.5 * height, abs=2)


def test_reduction_agrees_with_exact_resizing(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (600, 900, 3), np.uint8))
    picture = noise.resize((1800, 1200), Image.Resampling.BICUBIC)
    picture.save(tmp_path / "a.jpg", quality=95)
    ours = Image.fromarray(decode(tmp_path / "a.jpg", DecodeHints(100, 1))).resize((150, 100), Image.Resampling.BOX)
    exact = picture.resize((150, 100), Image.Resampling.BOX)
    assert np.abs(np.asarray(ours, float) - np.asarray(exact, float)).mean() < 3


def test_too_many_pixels_are_refused_by_the_header(tmp_path: Path) -> None:
    halves(200, 200).save(tmp_path / "a.png")
    with pytest.raises(MediaError, match=r"200x200 pixels: more than 10000"):
        decode(tmp_path / "a.png", max_pixels=10_000)


def png_bomb(side: int) -> bytes:
    """Return a valid PNG of `side` x `side` white pixels in one bit each."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = zlib.compress((b"\0" + b"\xff" * (side // 8)) * 64, 9)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_bomb(60_000))
    with pytest.raises(MediaError, match="60000x60000"):
        decode(tmp_path / "a.png")


@pytest.mark.parametrize("header", [b"VP8X\x0a\0\0\0\x10\0\0\0" + b"\xfe\xff\xff" * 2])
def test_a_webp_with_a_huge_canvas_is_refused_before_it_is_allocated(tmp_path: Path, header: bytes) -> None:
    raw = b"RIFF" + struct.pack("<I", 4 + len(header)) + b"WEBP" + header
    (tmp_path / "a.webp").write_bytes(raw)
    with pytest.raises(MediaError, match="16777215x16777215"):
        decode(tmp_path / "a.webp")


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "gif", "tif", "bmp"])
def test_truncated_pictures_fail(tmp_path: Path, extension: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (100, 100, 3), np.uint8))
    noise.save(tmp_path / f"a.{extension}")
    raw = (tmp_path / f"a.{extension}").read_bytes()
    (tmp_path / f"a.{extension}").write_bytes(raw[: len(raw) // 2])
    with pytest.raises((MediaError, OSError)):
        decode(tmp_path / f"a.{extension}")


def test_an_empty_file_and_another_content_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(MediaError, match="the file is empty"):
        decode(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_text("<html>not found</html>")
    with pytest.raises(MediaError, match="not a picture: expected avif, bmp"):
        decode(tmp_path / "b.jpg")


def test_a_damaged_exif_block_costs_nothing_but_the_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description " * 20
    exif[0x0112] = 6
    plain = io.BytesIO()
    halves().save(plain, "JPEG", exif=exif)
    raw = bytearray(plain.getvalue())
    place = raw.index(b"Exif\0\0") + 6
    raw[place + 10 : place + 40] = b"\xff" * 30
    (tmp_path / "a.jpg").write_bytes(raw)
    assert decode(tmp_path / "a.jpg").shape == (40, 60, 3)


def test_decoding_in_threads_leaves_warning_filters_alone(tmp_path: Path) -> None:
    import warnings

    halves(300, 200).save(tmp_path / "a.jpg")
    decode(tmp_path / "a.jpg")
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        shapes = {rgb.shape for rgb in pool.map(decode, [tmp_path / "a.jpg"] * 64)}
    assert len(shapes) == 1
    assert list(warnings.filters) == before
