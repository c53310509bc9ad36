"""Turned pictures: pixels upright and columns with the size of the upright picture, whatever the format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bindsearch.ingest.media.file_tags import read_metadata
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.image import read_image
from bindsearch.ingest.media.pictures.pillow import upright
from bindsearch.media import DecodeHints
from bindsearch.types import Modality
from helpers import heic_file
from helpers.tiff_file import Page, write_tiff

ORIENTATION = 0x0112
FORMATS: dict[str, dict[str, Any]] = {
    "a.jpg": {"quality": 95, "subsampling": 0}, "a.png": {}, "a.webp": {"lossless": True}, "a.avif": {"quality": 95},
    "lzw.tif": {"compression": "tiff_lzw"}, "plain.tif": {}, "jpeg.tif": {"compression": "jpeg", "quality": 95},
}  # fmt: skip


def gradient(height: int, width: int) -> np.ndarray:
    """Red grows to the right, green downwards: no turn and no mirror leaves it alike."""
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[..., 0], rgb[..., 1] = np.linspace(0, 250, width), np.linspace(0, 250, height)[:, None]
    return rgb


def check(path: Path, expected: np.ndarray, tolerance: float = 6) -> None:
    rgb = read_image(path, DecodeHints(224, 1), DecodeOptions()).rgb
    assert rgb.shape == expected.shape
    assert np.abs(rgb.astype(int) - expected).mean() < tolerance
    found = read_metadata(path, Modality.IMAGE)
    assert (found.width_px, found.height_px) == (expected.shape[1], expected.shape[0])


@settings(max_examples=80, deadline=None)
@given(
    name=st.sampled_from(sorted(FORMATS)),
    orientation=st.integers(1, 8),
    height=st.integers(16, 90),
    width=st.integers(16, 90),
    source=st.sampled_from(["exif", "xmp"]),
)
def test_pixels_and_columns_are_alike(
    tmp_path_factory: pytest.TempPathFactory, name: str, orientation: int, height: int, width: int, source: str
) -> None:
    stored = gradient(height, width)
    exif = Image.Exif()
    if source == "exif":
        exif[ORIENTATION] = orientation
        how: dict[str, Any] = {"exif": exif}
    elif name.endswith(("jpg", "webp")):
        xmp = f'<x xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="{orientation}"/>'
        how = {"xmp": xmp.encode()}
    else:
        return
    path = tmp_path_factory.mktemp("turned") / name
    Image.fromarray(stored).save(path, **FORMATS[name], **how)
    check(path, upright(stored, orientation))


@pytest.mark.parametrize("is_big", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_written_by_hand(tmp_path: Path, orientation: int, is_big: bool) -> None:
    stored = gradient(20, 50)
    path = write_tiff(tmp_path / "a.tif", Page(stored, {ORIENTATION: orientation}), is_big=is_big)
    check(path, upright(stored, orientation), 0.1)


@pytest.mark.parametrize("mirror", [None, 0, 1])
@pytest.mark.parametrize("turns", range(4))
def test_heic(tmp_path: Path, turns: int, mirror: int | None) -> None:
    pytest.importorskip("pi_heif")
    expected = np.rot90(heic_file.corners(), turns)
    if mirror is not None:
        expected = expected[::-1] if mirror == 0 else expected[:, ::-1]
    check(heic_file.write_heic(tmp_path / "a.heic", turns=turns, mirror=mirror), expected, 30)
