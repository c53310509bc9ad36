from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bindsearch.errors import MediaError
from bindsearch.ingest.inspect.classify import Classification, classify
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.image import read_image
from bindsearch.media import DecodeHints
from bindsearch.types import Modality
from helpers.heic_file import corners, write_heic

pytest.importorskip("pi_heif")


def sideways() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


def decode(path: Path, side_px: int = 24, **limits: int) -> NDArray[np.uint8]:
    return read_image(path, DecodeHints(side_px, 1.0), DecodeOptions(**limits)).rgb


@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_a_heic_picture_is_an_image(tmp_path: Path, brand: bytes) -> None:
    path = write_heic(tmp_path / "IMG_1.HEIC", brand=brand)
    assert classify(path, path.name, ()) == Classification(Modality.IMAGE, "heif content")
    rgb = decode(path)
    assert (rgb.dtype, rgb.shape) == (np.uint8, (64, 128, 3))
    assert np.abs(rgb.astype(int) - corners()).mean() < 6


@pytest.mark.parametrize(
    ("turns", "mirror", "turn"),
    [
        (1, None, lambda rgb: np.rot90(rgb, 1)),
        (2, None, lambda rgb: np.rot90(rgb, 2)),
        (3, None, lambda rgb: np.rot90(rgb, 3)),
        (0, 0, lambda rgb: rgb[::-1]),
        (0, 1, lambda rgb: rgb[:, ::-1]),
    ],
)
def test_the_turn_that_the_file_asks_for_is_made_once(tmp_path: Path, turns: int, mirror: int | None, turn) -> None:  # type: ignore[no-untyped-def]
    upright = turn(corners())
    for exif in (b"", sideways()):  # phones write both: EXIF says then what has been done already
        rgb = decode(write_heic(tmp_path / "a.heic", turns=turns, mirror=mirror, exif=exif))
        assert rgb.shape == upright.shape
        assert np.abs(rgb.astype(int) - upright).mean() < 6


def test_exif_alone_turns_nothing(tmp_path: Path) -> None:
    rgb = decode(write_heic(tmp_path / "a.heic", exif=sideways()))
    assert np.abs(rgb.astype(int) - corners()).mean() < 6


def test_large_pictures_come_reduced(tmp_path: Path) -> None:
    assert decode(write_heic(tmp_path / "a.heic"), side_px=4).shape == (8, 16, 3)


def test_too_many_pixels_are_refused_by_the_header(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"is 128x64 pixels: more than 8000 are not decoded \(--limit pixels=N\)"):
        decode(write_heic(tmp_path / "a.heic"), max_pixels=8000)


def test_a_header_that_lies_of_the_size_is_not_believed(tmp_path: Path) -> None:
    path = write_heic(tmp_path / "a.heic", says=(16, 16))
    with pytest.raises(MediaError, match=r"damaged image \(.*maximum image size"):
        decode(path)


def test_a_file_too_large_to_be_read_whole_is_refused(tmp_path: Path) -> None:
    path = write_heic(tmp_path / "a.heic")
    with pytest.raises(MediaError, match=r"the image has \d+ bytes: more than 500 are not read \(--limit array=N\)"):
        decode(path, max_array_bytes=500)


def test_damaged_pictures_fail(tmp_path: Path) -> None:
    raw = write_heic(tmp_path / "a.heic").read_bytes()
    for cut in (20, 200, len(raw) - 300):
        (tmp_path / "a.heic").write_bytes(raw[:cut])
        with pytest.raises(MediaError, match="damaged"):
            decode(tmp_path / "a.heic")


def test_without_the_extra_the_message_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_heic(tmp_path / "a.heic")
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    assert classify(path, "depth/a.heic", ()).modality is Modality.IMAGE
    with pytest.raises(MediaError, match=r"HEIC images need the extra \[heic\]: pip install 'bindsearch\[heic\]'"):
        decode(path)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_avif_is_read_and_turned_once(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(corners()).save(tmp_path / "a.avif", exif=exif, quality=95)
    assert classify(tmp_path / "a.avif", "a.avif", ()) == Classification(Modality.IMAGE, "avif content")
    upright = np.rot90(corners(), {1: 0, 3: 2, 6: 3, 8: 1}[orientation])
    rgb = decode(tmp_path / "a.avif")
    assert rgb.shape == upright.shape
    assert np.abs(rgb.astype(int) - upright).mean() < 6


def test_avif_needs_no_name_and_has_limits(tmp_path: Path) -> None:
    Image.fromarray(corners()).save(tmp_path / "a.avif")
    raw = (tmp_path / "a.avif").read_bytes()
    assert raw[8:12] == b"avif"
    (tmp_path / "b.jpg").write_bytes(raw[:8] + b"mif1" + raw[12:])
    assert classify(tmp_path / "b.jpg", "b.jpg", ()).why == "avif content"
    assert decode(tmp_path / "b.jpg").shape == (64, 128, 3)
    with pytest.raises(MediaError, match="128x64 pixels: more than 8000"):
        decode(tmp_path / "b.jpg", max_pixels=8000)
    (tmp_path / "b.jpg").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(MediaError, match="damaged"):
        decode(tmp_path / "b.jpg")
