"""Squares out of pictures, against torchvision's Resize and CenterCrop."""

from __future__ import annotations

import numpy as np
import pytest
import torchvision.transforms.functional as tv
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import InterpolationMode

from bindsearch.encoders.mini import MiniEncoder
from bindsearch.encoders.preprocessing.crops import (
    LONGEST_ASPECT,
    MAX_PARTS,
    WIDE_ASPECT,
    centre_strip,
    square_crop_plane,
    square_crops,
    wide_parts,
)
from bindsearch.errors import MediaError, UsageError
from bindsearch.media import Picture

SIZES = [(224, 224), (100, 100), (320, 400), (401, 320), (333, 500), (77, 1231), (1024, 31), (1, 1), (1, 60), (60, 1)]


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("side", [224, 225, 32])
def test_the_middle_square_is_torchvisions(height: int, width: int, side: int) -> None:
    rgb = picture(height, width)
    expected = tv.center_crop(tv.resize(Image.fromarray(rgb), side, InterpolationMode.BICUBIC), side)
    squares = square_crops(rgb, side)
    assert squares.shape == (1, side, side, 3)
    assert squares.dtype == np.uint8
    np.testing.assert_array_equal(squares[0], np.asarray(expected))


def test_another_filter_is_torchvisions_too() -> None:
    rgb = picture(300, 451)
    expected = tv.center_crop(tv.resize(Image.fromarray(rgb), 224, InterpolationMode.BILINEAR), 224)
    np.testing.assert_array_equal(square_crops(rgb, 224, resample=Image.Resampling.BILINEAR)[0], np.asarray(expected))


@pytest.mark.parametrize(("height", "width"), [(320, 400), (401, 320), (50, 301), (1, 1)])
def test_one_channel_is_torchvisions(height: int, width: int) -> None:
    values = np.random.default_rng(1).normal(size=(height, width)).astype(np.float32)
    expected = tv.center_crop(tv.resize(Image.fromarray(values), 224, InterpolationMode.BICUBIC), 224)
    square = square_crop_plane(values, 224)
    assert square.dtype == np.float32
    np.testing.assert_array_equal(square, np.asarray(expected))


@pytest.mark.parametrize("upright", [False, True])
def test_three_squares_lie_at_start_middle_and_end_of_the_longer_side(upright: bool) -> None:
    rgb = picture(230, 500)
    resized = np.asarray(tv.resize(Image.fromarray(rgb), 224, InterpolationMode.BICUBIC))
    squares = square_crops(rgb.swapaxes(0, 1) if upright else rgb, 224, crops=3)
    longer = resized.shape[1]
    for square, left in zip(squares, (0, round((longer - 224) / 2), longer - 224), strict=True):
        cut = resized[:, left : left + 224]
        # Pillow resizes columns first: a transposed picture may differ by one step of rounding.
        np.testing.assert_allclose(square.swapaxes(0, 1) if upright else square, cut, atol=1 if upright else 0)
    np.testing.assert_array_equal(square_crops(rgb, 224)[0], square_crops(rgb, 224, crops=3)[1])


@pytest.mark.parametrize("crops", [1, 3])
def test_of_a_thin_picture_only_parts_are_resized(crops: int) -> None:
    """In full, 1 x 1,000,001 pixels would become 224 x 224,000,224: 150 GB."""
    rgb = np.zeros((1, 1_000_001, 3), np.uint8)
    rgb[0, 0], rgb[0, 500_000], rgb[0, -1] = 50, 100, 150
    squares = square_crops(rgb, 224, crops=crops)
    assert squares.shape == (crops, 224, 224, 3)
    brightest = [int(square.max()) for square in squares]
    assert brightest[crops // 2] >= 95
    if crops == 3:
        assert 45 < squares[0, 112, 0, 0] < 60  # bicubic overshoots
        assert 140 < squares[2, 112, -1, 0] < 170
    np.testing.assert_array_equal(square_crops(rgb.swapaxes(0, 1), 224, crops=crops), squares.swapaxes(1, 2))


def test_cutting_a_thin_picture_keeps_its_middle() -> None:
    """Both around the limit: the same picture, once in one piece and once cut."""
    width = 10 * LONGEST_ASPECT
    ramp = np.linspace(0, 1, width + 2, dtype=np.float32)[None].repeat(10, axis=0)
    whole, cut = square_crop_plane(ramp[:, 1:-1], 224), square_crop_plane(ramp, 224)
    np.testing.assert_allclose(cut, whole, atol=1e-6)


def test_a_strip_is_the_middle_and_no_longer_than_asked() -> None:
    assert centre_strip(10, 100, 4) == (slice(0, 40), slice(30, 70))
    assert np.zeros((10, 100))[centre_strip(10, 100, 4)].shape == (10, 40)
    assert np.zeros((100, 10))[centre_strip(100, 10, 4)].shape == (40, 10)
    assert np.zeros((30, 40))[centre_strip(30, 40, 4)].shape == (30, 40)


def test_views_of_arrays_and_read_only_arrays_are_taken() -> None:
    rgb = picture(320, 400)
    rgb.flags.writeable = False
    flipped = rgb[:, ::-1]
    np.testing.assert_array_equal(square_crops(flipped, 224), square_crops(flipped.copy(), 224))
    square_crops(rgb, 224)[0, 0, 0] = 7  # what comes out is the caller's
    square_crop_plane(np.ones((5, 5), np.float32), 3)[0, 0] = 7


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3)])
def test_a_picture_without_pixels_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(MediaError, match=r"no pixels \(height"):
        square_crops(np.zeros(shape, np.uint8), 224)


@pytest.mark.parametrize("crops", [0, 2, 5])
def test_other_numbers_of_squares_are_refused(crops: int) -> None:
    with pytest.raises(UsageError, match=f"crops is {crops}: expected 1 or 3"):
        square_crops(picture(10, 10), 224, crops=crops)


@given(height=st.integers(1, 60), width=st.integers(1, 900), upright=st.booleans())
def test_the_parts_of_a_wide_picture_are_squares_and_cover_it(height: int, width: int, upright: bool) -> None:
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[..., 0], rgb[..., 1] = np.arange(width) % 256, np.arange(width) // 256
    rgb[::2, :, 2] = 255  # no part is of one colour
    parts = wide_parts(rgb.swapaxes(0, 1) if upright else rgb)
    if upright:
        parts = [part.swapaxes(0, 1) for part in parts]
    aspect = max(height, width) / min(height, width)
    if aspect < WIDE_ASPECT:
        assert len(parts) == 1
        np.testing.assert_array_equal(parts[0], rgb)
    elif width > height > 1 and aspect <= MAX_PARTS:
        assert len(parts) in (int(aspect), int(aspect) + 1)
        seen = set()
        for part in parts:
            assert part.shape[0] == height
            assert height <= part.shape[1] <= 1.1 * height + 1
            seen |= {int(low) + 256 * int(high) for low, high, _ in part[0]}
        assert len(seen) >= width - 0.1 * height - 1


def test_a_very_long_picture_is_squeezed_into_the_most_parts() -> None:
    rgb = picture(30, 3000)
    parts = wide_parts(rgb)
    assert [part.shape for part in parts] == [(30, 30, 3)] * MAX_PARTS


def test_blank_parts_of_a_wide_picture_are_left_out() -> None:
    rgb = np.full((30, 900, 3), 128, np.uint8)
    assert len(wide_parts(rgb)) == 1
    rgb[5:25, :20] = (200, 20, 20)
    (part,) = wide_parts(rgb)
    assert part[..., 0].max() > 190


@pytest.mark.parametrize("encoder", [MiniEncoder()])
def test_the_edge_of_a_panorama_reaches_the_encoder(encoder: MiniEncoder) -> None:
    rgb = picture(60, 300)
    changed = rgb.copy()
    changed[:, :60] = 255 - changed[:, :60]
    assert not np.array_equal(encoder.prepare(Picture(rgb)), encoder.prepare(Picture(changed)))
    assert len(encoder.prepare(Picture(rgb))) == 5
    assert len(encoder.prepare(Picture(rgb[:, :90]))) == 1
