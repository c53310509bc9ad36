"""Damaged pictures: what decodes is used if it is most of the picture, with a note; never silently a part."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bindsearch.errors import MediaError
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.image import read_image
from bindsearch.media import DecodeHints
from bindsearch.types import Modality
from helpers import damaged_files, heic_file
from helpers.tiff_file import Page, write_tiff

HEIGHT, WIDTH = 160, 200
FORMATS: dict[str, dict[str, Any]] = {
    "a.jpg": {"quality": 95, "subsampling": 0}, "progressive.jpg": {"quality": 95, "progressive": True},
    "a.png": {}, "a.gif": {"interlace": 0}, "a.bmp": {}, "a.tif": {}, "lzw.tif": {"compression": "tiff_lzw"},
    "a.webp": {"lossless": True}, "a.avif": {},
}  # fmt: skip


def photo() -> np.ndarray:
    """Return smooth colours with some noise, no two rows alike."""
    rng = np.random.default_rng(0)
    rows = np.asarray(Image.fromarray(rng.integers(0, 255, (8, 10, 3), np.uint8)).resize((WIDTH, HEIGHT)))
    return (rows // 2 + rng.integers(0, 60, rows.shape, np.uint8) + 20).astype(np.uint8)


def write(path: Path) -> Path:
    Image.fromarray(photo()).save(path, **FORMATS[path.name])
    return path


def decode(path: Path, side: int = 224) -> tuple[np.ndarray, list[str]]:
    notes: list[str] = []
    return read_image(path, DecodeHints(side, 1), DecodeOptions(), notes.append).rgb, notes


def cut(path: Path, share: float) -> Path:
    raw = path.read_bytes()
    other = path.with_name(f"cut_{path.name}")
    other.write_bytes(raw[: round(share * len(raw))])
    return other


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.bmp"])
def test_most_of_a_truncated_picture_is_used_and_told(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    whole, none = decode(path)
    assert none == []
    part, notes = decode(cut(path, 0.8))
    count = len(part)
    assert 0.6 * HEIGHT < count < 0.9 * HEIGHT
    assert notes == [f"damaged or truncated: {count} of {HEIGHT} rows of pixels can be decoded, the rest is missing"]
    expected = whole[-count:] if name == "a.bmp" else whole[:count]
    assert np.abs(part.astype(int) - expected).max() <= (40 if name == "a.jpg" else 0)
    with pytest.raises(MediaError, match=rf"^damaged or truncated: \d+ of {HEIGHT} rows of pixels can be decoded$"):
        decode(cut(path, 0.3))


@pytest.mark.parametrize("strips", [8, 160])
def test_a_tiff_whose_last_strips_are_missing(tmp_path: Path, strips: int) -> None:
    whole = photo()
    Image.fromarray(whole).save(tmp_path / "b.tif", compression="tiff_lzw", tiffinfo={278: HEIGHT // strips})
    raw = bytearray((tmp_path / "b.tif").read_bytes())
    with Image.open(tmp_path / "b.tif") as picture:
        place = picture.tag_v2[273][strips * 3 // 4]  # type: ignore[attr-defined]
        length = picture.tag_v2[279][strips * 3 // 4]  # type: ignore[attr-defined]
    raw[place : place + length] = b"\xff" * length
    (tmp_path / "b.tif").write_bytes(raw)
    part, notes = decode(tmp_path / "b.tif")
    count = HEIGHT * 3 // 4
    assert notes == [f"damaged or truncated: {count} of {HEIGHT} rows of pixels can be decoded, the rest is missing"]
    assert np.array_equal(part, whole[:count])


@pytest.mark.parametrize("name", ["a.jpg", "progressive.jpg"])
@pytest.mark.parametrize("lost", [1, 2])
def test_a_jpeg_without_its_end_mark_is_whole(tmp_path: Path, name: str, lost: int) -> None:
    path = write(tmp_path / name)
    whole, _ = decode(path)
    path.write_bytes(path.read_bytes()[:-lost])
    part, notes = decode(path)
    assert np.array_equal(part, whole)
    assert notes == []


def test_a_jpeg_is_read_to_where_its_copy_was_interrupted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg")
    whole, _ = decode(path)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) * 4 // 5] + bytes(len(raw) // 5))
    part, notes = decode(path)
    assert "rows of pixels" in notes[0]
    assert np.abs(part.astype(int) - whole[: len(part)]).max() <= 40


@pytest.mark.parametrize("share", [0.4, 0.6, 0.9])
def test_a_truncated_progressive_jpeg_has_fewer_details(tmp_path: Path, share: float) -> None:
    path = write(tmp_path / "progressive.jpg")
    part, notes = decode(cut(path, share))
    assert part.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(part.astype(int) - photo()).mean() < 30
    assert len(notes) == 1
    assert "complete of a progressive JPEG, finer details are missing" in notes[0]
    raw = path.read_bytes()
    path.write_bytes(raw[: raw.index(b"\xff\xda") + 60])
    with pytest.raises(MediaError, match="not even the first scan of a progressive JPEG is complete"):
        decode(path)


def test_a_large_truncated_jpeg_comes_reduced(tmp_path: Path) -> None:
    Image.fromarray(photo()).resize((2000, 1600)).save(tmp_path / "a.jpg")
    part, notes = decode(cut(tmp_path / "a.jpg", 0.8), side=50)
    assert part.shape[1] < 400
    assert "rows of pixels can be decoded" in notes[0]


def test_the_missing_rows_of_an_interlaced_png_are_their_neighbours(tmp_path: Path) -> None:
    whole = photo()
    rows = Image.fromarray(whole)
    rows.save(tmp_path / "a.gif", interlace=1)
    shares = []
    for share in (0.6, 0.8, 0.95):
        part, notes = decode(cut(tmp_path / "a.gif", share))
        assert part.shape == whole.shape
        assert "rows of pixels can be decoded" in notes[0]
        shares.append(np.abs(part.astype(int) - whole).mean())
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize("name", ["a.webp", "a.avif"])
def test_formats_that_decode_as_a_whole_tell_what_is_missing(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    size = path.stat().st_size
    with pytest.raises(MediaError, match=rf"^damaged or truncated: {round(0.8 * size)} of {size} bytes exist$"):
        decode(cut(path, 0.8))


def test_black_rows_are_no_missing_ones(tmp_path: Path) -> None:
    whole = photo()
    whole[100:140] = 0
    Image.fromarray(whole).save(tmp_path / "a.png")
    raw = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(raw[: len(raw) * 99 // 100])
    part, _ = decode(tmp_path / "a.png")
    assert len(part) > 140
    assert np.array_equal(part, whole[: len(part)])


@pytest.mark.parametrize("name", [*FORMATS, "a.heic"])
def test_whatever_is_done_to_a_picture_it_is_read_with_a_note_or_refused(tmp_path: Path, name: str) -> None:
    if name == "a.heic":
        pytest.importorskip("pi_heif")
        path = heic_file.write_heic(tmp_path / name)
    else:
        path = write(tmp_path / name)
    raw, rng = path.read_bytes(), random.Random(name)
    whole, _ = decode(path)
    for turn in range(60):
        path.write_bytes(damaged_files.damage(raw, rng))
        damaged_files.decode(path, Modality.IMAGE)
        path.write_bytes(raw[: rng.randrange(1, len(raw) - 12)])  # beyond its end mark nothing is lost
        try:
            part, notes = decode(path)
        except (MediaError, OSError) as error:
            assert "\n" not in str(error), turn  # noqa: PT017
            continue
        assert notes or np.array_equal(part, whole), turn


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(3)
    for name in FORMATS:
        path = write(tmp_path / name)
        raw = path.read_bytes()
        for _ in range(10):
            path.write_bytes(damaged_files.damage(raw, rng))
            damaged_files.decode(path, Modality.IMAGE)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_pngs_of_every_mode_keep_the_rows_that_decode(tmp_path: Path, mode: str) -> None:
    if mode == "I;16":
        picture = Image.fromarray(photo()[..., 0].astype(np.uint16) * 200)
    else:
        picture = Image.fromarray(photo()).convert(mode)
    picture.save(tmp_path / "a.png")
    whole, _ = decode(tmp_path / "a.png")
    part, notes = decode(cut(tmp_path / "a.png", 0.8))
    assert notes == [
        f"damaged or truncated: {len(part)} of {HEIGHT} rows of pixels can be decoded, the rest is missing"
    ]
    assert np.array_equal(part, whole[: len(part)])


@pytest.mark.parametrize("dtype", ["u4", "i4"])
def test_a_truncated_tiff_of_integers(tmp_path: Path, dtype: str) -> None:
    values = (photo()[..., 0].astype(np.int64) * 9_000_000).astype(dtype)
    path = write_tiff(tmp_path / "a.tif", Page(values))
    raw = path.read_bytes()
    # the directory before the pixels
    start = int.from_bytes(raw[4:8], "little")
    shift = len(raw) - start + 6
    directory = bytearray(raw[start:])
    moved = raw[:4] + (8).to_bytes(4, "little") + bytes(shift) + raw[8:start]
    entry = directory.index((273).to_bytes(2, "little"))
    directory[entry + 8 : entry + 12] = (8 + shift).to_bytes(4, "little")
    path.write_bytes(moved[:8] + bytes(directory) + moved[8 + len(directory) :])
    whole, _ = decode(path)
    part, notes = decode(cut(path, 0.8))
    assert "rows of pixels can be decoded" in notes[0]
    assert np.array_equal(part, whole[: len(part)])
