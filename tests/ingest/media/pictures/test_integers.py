"""Grey pictures of 16 and 32 bits, signed and unsigned, compared with plain arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.image import read_image
from bindsearch.ingest.media.pictures.pillow import open_picture, picture_values
from bindsearch.media import DecodeHints
from helpers.tiff_file import DEFLATE, Page, write_tiff


def decode(path: Path, side: int = 224) -> np.ndarray:
    rgb = read_image(path, DecodeHints(side, 1), DecodeOptions()).rgb
    assert (rgb[..., 0] == rgb[..., 1]).all()
    assert (rgb[..., 0] == rgb[..., 2]).all()
    return rgb[..., 0]


def expected(values: np.ndarray) -> list[list[int]]:
    """Return grey levels by whole numbers of any size."""
    least, most = int(values.min()), int(values.max())
    bits = 10
    while most >= 1 << bits or least < -(1 << bits):
        bits += 2
    if least >= 0:
        return [[int(value) * 256 // (1 << bits) for value in row] for row in values]
    return [[(int(value) + (1 << bits)) * 256 // (2 << bits) for value in row] for row in values]


@settings(max_examples=150, deadline=None)
@given(
    dtype=st.sampled_from(["u2", "i2", "u4", "i4"]),
    bits=st.integers(1, 32),
    is_signed=st.booleans(),
    order=st.sampled_from(["<", ">"]),
    compression=st.sampled_from([1, DEFLATE]),
    is_inverted=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_integers_are_scaled_by_their_largest(
    tmp_path_factory: pytest.TempPathFactory, dtype: str, bits: int, is_signed: bool, order: Literal["<", ">"],
    compression: int, is_inverted: bool, seed: int,
) -> None:  # fmt: skip
    info = np.iinfo(dtype)
    most = min((1 << bits) - 1, int(info.max))
    least = max(-(1 << bits), int(info.min)) if is_signed else 0
    values = np.random.default_rng(seed).integers(least, most, (12, 17), dtype, endpoint=True)
    values[0, 0], values[0, 1] = least, most
    path = tmp_path_factory.mktemp("grey") / "a.tif"
    write_tiff(path, Page(values, {259: compression, 262: 0 if is_inverted else 1}), order=order)
    levels = np.array(expected(values))
    seen = decode(path)
    assert np.array_equal(seen, 255 - levels if is_inverted else levels)
    with open_picture(path, max_pixels=10_000) as picture:
        assert np.array_equal(picture_values(picture), values)


def test_the_whole_range_of_unsigned_32_bits(tmp_path: Path) -> None:
    values = np.array([[0, 1 << 24, 1 << 31, (1 << 32) - 1]], np.uint32)
    assert decode(write_tiff(tmp_path / "a.tif", values)).tolist() == [[0, 1, 128, 255]]


@pytest.mark.parametrize("extension", ["png", "tif"])
@pytest.mark.parametrize(("most", "bits"), [(900, 10), (4000, 12), (16_000, 14), (60_000, 16)])
def test_sixteen_bits_in_every_format(tmp_path: Path, extension: str, most: int, bits: int) -> None:
    values = np.linspace(0, most, 600).astype(np.uint16).reshape(20, 30)
    Image.fromarray(values).save(tmp_path / f"a.{extension}")
    assert np.array_equal(decode(tmp_path / f"a.{extension}"), values >> (bits - 8))


def test_large_ones_come_reduced(tmp_path: Path) -> None:
    values = np.tile(np.linspace(0, 65535, 900).astype(np.uint16), (600, 1))
    Image.fromarray(values).save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png", 100).shape == (200, 300)


def test_a_sixteen_bit_value_may_be_transparent(tmp_path: Path) -> None:
    values = np.array([[0, 1000, 40_000, 65_535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png", transparency=1000)
    assert decode(tmp_path / "a.png").tolist() == [[0, 255, 156, 255]]
