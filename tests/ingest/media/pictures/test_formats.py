"""JPEG 2000, Photoshop and PNM files."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bindsearch.errors import MediaError
from bindsearch.ingest.inspect.classify import classify
from bindsearch.ingest.media.file_tags import read_metadata
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.image import read_image
from bindsearch.media import DecodeHints
from bindsearch.types import Modality
from helpers import damaged_files
from helpers.file_bytes import write_psd


def photo(height: int = 60, width: int = 80) -> np.ndarray:
    small = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height)))


def decode(path: Path) -> np.ndarray:
    return read_image(path, DecodeHints(224, 1), DecodeOptions()).rgb


def check(path: Path, expected: np.ndarray, tolerance: float = 0) -> None:
    assert classify(path, path.name, ()).modality is Modality.IMAGE
    assert np.abs(decode(path).astype(int) - expected).max() <= tolerance
    found = read_metadata(path, Modality.IMAGE)
    assert (found.width_px, found.height_px) == (expected.shape[1], expected.shape[0])


@pytest.mark.parametrize("name", ["a.jp2", "a.j2k", "a.jpf", "a.jpx", "a.j2c"])
@pytest.mark.parametrize("how", [{}, {"tile_size": (32, 32)}, {"irreversible": True}])
def test_jpeg_2000(tmp_path: Path, name: str, how: dict[str, Any]) -> None:
    Image.fromarray(photo()).save(tmp_path / "b.jp2", no_jp2=name in ("a.j2k", "a.j2c"), **how)
    check((tmp_path / "b.jp2").rename(tmp_path / name), photo(), 12 if how.get("irreversible") else 0)


@pytest.mark.parametrize("is_packed", [False, True])
def test_photoshop(tmp_path: Path, is_packed: bool) -> None:
    check(write_psd(tmp_path / "a.psd", photo(), is_packed=is_packed), photo())


def test_photoshop_in_grey_and_cmyk(tmp_path: Path) -> None:
    grey = photo()[..., :1]
    check(write_psd(tmp_path / "a.psd", grey, mode=1), np.repeat(grey, 3, axis=2))
    inks = 255 - np.asarray(Image.fromarray(photo()).convert("CMYK"))
    check(write_psd(tmp_path / "b.psd", inks, mode=4), photo(), 2)


@pytest.mark.parametrize(
    ("how", "what"), [({"bits": 16}, "16 bits per channel"), ({"version": 2}, "large document, PSB")]
)
def test_photoshop_files_that_are_not_read_are_named(tmp_path: Path, how: dict[str, Any], what: str) -> None:
    path = write_psd(tmp_path / "a.psd", photo(), **how)
    with pytest.raises(MediaError, match=rf"^this kind of PSD is not read \({what}\): save it as PNG"):
        decode(path)


@pytest.mark.parametrize("name", ["a.ppm", "a.pnm", "a.bin.ppm"])
def test_pnm(tmp_path: Path, name: str) -> None:
    Image.fromarray(photo()).save(tmp_path / name)
    check(tmp_path / name, photo())


def test_pnm_as_text_and_of_16_bits(tmp_path: Path) -> None:
    rgb = photo(6, 8)
    (tmp_path / "a.ppm").write_text("P3\n# a comment\n8 6\n255\n" + " ".join(map(str, rgb.ravel().tolist())) + "\n")
    check(tmp_path / "a.ppm", rgb)
    values = np.linspace(0, 65535, 480).astype(np.uint16).reshape(20, 24)
    (tmp_path / "b.pgm").write_bytes(b"P5\n24 20\n65535\n" + values.astype(">u2").tobytes())
    check(tmp_path / "b.pgm", np.repeat((values >> 8)[..., None], 3, axis=2))
    (tmp_path / "notes.txt").write_text("P3 is a note.\nP1\nand another")
    assert classify(tmp_path / "notes.txt", "notes.txt", ()).modality is Modality.TEXT


@pytest.mark.parametrize("name", ["a.jp2", "a.psd", "a.ppm"])
def test_damaged_ones_are_read_with_a_note_or_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a.psd":
        write_psd(path, photo(), is_packed=True)
    else:
        Image.fromarray(photo()).save(path)
    raw, whole, rng = path.read_bytes(), decode(path), random.Random(name)
    for turn in range(60):
        path.write_bytes(damaged_files.damage(raw, rng))
        damaged_files.decode(path, Modality.IMAGE)
        assert classify(path, path.name, ()).why
        path.write_bytes(raw[: rng.randrange(1, len(raw) - 2)])
        notes: list[str] = []
        try:
            part = read_image(path, DecodeHints(224, 1), DecodeOptions(), notes.append).rgb
        except (MediaError, OSError) as error:
            assert "\n" not in str(error), turn  # noqa: PT017
            continue
        assert notes or np.array_equal(part, whole), turn
