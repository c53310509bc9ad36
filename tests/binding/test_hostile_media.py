"""Augmentations keep shapes, ranges, validity and finite values of any media, hostile ones included."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from bindsearch.binding.augmentations.augment import augment
from bindsearch.binding.augmentations.crops import Box, apply_box, apply_span, crop_box, crop_span
from bindsearch.binding.augmentations.options import (
    OPTIONS,
    DepthOptions,
    MotionOptions,
    Options,
    PictureOptions,
    SoundOptions,
    SpatialOptions,
    ThermalOptions,
)
from bindsearch.binding.augmentations.sound import augment_levels, mask_levels
from bindsearch.media import DepthMap, Motion, Picture, Sound, ThermalPicture

SEEDS = st.integers(0, 2**32 - 1)
SIDES = st.integers(1, 12)
SHAPES = st.tuples(SIDES, SIDES)
ANY_FLOAT = st.floats(width=32)
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


def any_options(kind: type[Options]) -> st.SearchStrategy[Any]:
    """Return options with any values within their bounds, the bounds themselves often among them."""
    values = {}
    for option in dataclasses.fields(kind):
        low, high = option.metadata["low"], option.metadata["high"]
        number = st.integers(low, high) if isinstance(option.default, int) else st.floats(low, high)
        values[option.name] = st.one_of(st.just(low), st.just(high), number)
    return st.builds(kind, **values)


@settings(max_examples=100, deadline=None)
@given(shape=SHAPES, data=st.data(), options=any_options(PictureOptions), seed=SEEDS)
def test_pictures(shape: tuple[int, int], data: st.DataObject, options: PictureOptions, seed: int) -> None:
    picture = Picture(data.draw(st_numpy.arrays(np.uint8, (*shape, 3))))
    before = picture.rgb.copy()
    changed = augment(picture, options, np.random.default_rng(seed))
    assert (changed.rgb.shape, changed.rgb.dtype) == (before.shape, np.uint8)
    np.testing.assert_array_equal(picture.rgb, before)


@settings(max_examples=100, deadline=None)
@given(shape=SHAPES, data=st.data(), options=any_options(ThermalOptions), seed=SEEDS)
def test_thermal_pictures(shape: tuple[int, int], data: st.DataObject, options: ThermalOptions, seed: int) -> None:
    thermal = ThermalPicture(data.draw(st_numpy.arrays(np.float32, shape, elements=FINITE)))
    changed = augment(thermal, options, np.random.default_rng(seed)).values
    assert (changed.shape, changed.dtype) == (shape, np.float32)
    assert np.isfinite(changed).all()
    assert changed.min() >= 0
    assert changed.max() <= 1


@settings(max_examples=150, deadline=None)
@given(shape=SHAPES, data=st.data(), options=any_options(DepthOptions), seed=SEEDS)
def test_depth_maps(shape: tuple[int, int], data: st.DataObject, options: DepthOptions, seed: int) -> None:
    """Depth that is not valid may be NaN or infinite; valid depth stays above 0."""
    depth_m = data.draw(st_numpy.arrays(np.float32, shape, elements=ANY_FLOAT))
    valid = data.draw(st_numpy.arrays(np.bool_, shape)) & np.isfinite(depth_m) & (depth_m > np.float32(1e-20))
    changed = augment(DepthMap(depth_m, valid, 500.0, 0.1), options, np.random.default_rng(seed))
    assert (changed.depth_m.shape, changed.depth_m.dtype, changed.valid.dtype) == (shape, np.float32, np.bool_)
    assert not (changed.valid & ~valid).any()
    assert changed.valid.any() == valid.any()
    assert np.isfinite(changed.depth_m).all()
    assert (changed.depth_m[changed.valid] > 0).all()
    assert (changed.depth_m[~changed.valid] == 0).all()


@settings(max_examples=100, deadline=None)
@given(
    samples=st_numpy.arrays(np.float32, st.integers(1, 200), elements=FINITE),
    rate_hz=st.sampled_from([1, 8_000, 44_100, 1_000_000]),
    options=any_options(SoundOptions),
    seed=SEEDS,
)
def test_sound(samples: np.ndarray[Any, Any], rate_hz: int, options: SoundOptions, seed: int) -> None:
    changed = augment(Sound(samples, rate_hz), options, np.random.default_rng(seed)).samples
    assert (changed.shape, changed.dtype) == (samples.shape, np.float32)
    assert np.isfinite(changed).all()
    if not samples.any():
        assert not changed.any()  # silence stays silent


@settings(max_examples=100, deadline=None)
@given(
    levels=st_numpy.arrays(np.float32, SHAPES, elements=st.floats(-200, 100, width=32)),
    frames=st.one_of(st.none(), st.integers(1, 40)),
    options=any_options(SoundOptions),
    seed=SEEDS,
)
def test_levels(levels: np.ndarray[Any, Any], frames: int | None, options: SoundOptions, seed: int) -> None:
    rng = np.random.default_rng(seed)
    view = augment_levels(levels, rng, options, frames)
    assert (view.shape, view.dtype) == ((levels.shape[0], frames or levels.shape[1]), np.float32)
    assert np.isfinite(view).all()
    masked = mask_levels(view, rng, options)
    assert (masked.shape, masked.dtype) == (view.shape, np.float32)
    assert masked.min() >= view.min() - 1e-4
    assert masked.max() <= view.max() + 1e-4


@settings(max_examples=100, deadline=None)
@given(
    samples=st_numpy.arrays(np.float32, st.tuples(st.integers(1, 60), st.just(6)), elements=FINITE),
    options=any_options(MotionOptions),
    seed=SEEDS,
)
def test_motion(samples: np.ndarray[Any, Any], options: MotionOptions, seed: int) -> None:
    changed = augment(Motion(samples, 50.0), options, np.random.default_rng(seed)).samples
    assert (changed.shape, changed.dtype) == (samples.shape, np.float32)
    assert np.isfinite(changed).all()


@settings(max_examples=100, deadline=None)
@given(shape=SHAPES, other=SHAPES, options=any_options(SpatialOptions), side=st.none() | SIDES, seed=SEEDS)
def test_crops_of_a_pair(
    shape: tuple[int, int], other: tuple[int, int], options: SpatialOptions, side: int | None, seed: int
) -> None:
    """A crop is inside both media of a pair; each has at least one pixel, and those of the file alone."""
    box = crop_box(np.random.default_rng(seed), options)
    picture = Picture(np.full((*shape, 3), 7, np.uint8))
    depth = DepthMap(np.arange(1, 1 + other[0] * other[1], dtype=np.float32).reshape(other), np.ones(other, bool), 1, 1)
    rgb, cropped = apply_box(picture, box, side).rgb, apply_box(depth, box, side)
    assert set(rgb.ravel()) == {7}
    assert set(cropped.depth_m.ravel()) <= set(depth.depth_m.ravel())
    assert cropped.valid.all()
    if side is not None:
        assert rgb.shape == (side, side, 3)
        assert cropped.depth_m.shape == cropped.valid.shape == (side, side)
    else:
        assert all(1 <= length <= full for length, full in zip(rgb.shape[:2], shape, strict=True))
        assert all(1 <= length <= full for length, full in zip(cropped.valid.shape, other, strict=True))


@settings(max_examples=100, deadline=None)
@given(
    count=st.integers(1, 50),
    view_s=st.floats(0, 10),
    short_s=st.floats(0, 10),
    seed=SEEDS,
)
def test_spans_of_a_pair(count: int, view_s: float, short_s: float, seed: int) -> None:
    span = crop_span(np.random.default_rng(seed), short_s, view_s)
    assert 0 <= span.start_s <= span.end_s <= short_s + 1e-9
    sound = Sound(np.zeros(count, np.float32), 10)
    assert 1 <= len(apply_span(sound, span).samples) <= count


@pytest.mark.parametrize("value", [3e38, -3e38, 0.0, 9.81])
def test_constant_motion(value: float) -> None:
    motion = Motion(np.full((30, 6), value, np.float32), 50.0)
    for seed in range(20):
        changed = augment(motion, MotionOptions(noise=0.0), np.random.default_rng(seed)).samples
        assert np.isfinite(changed).all()
        limit = 1e6 * np.sqrt(3) * 1.001
        np.testing.assert_allclose(
            np.linalg.norm(changed[:, :3], axis=1), min(abs(value) * np.sqrt(3), limit), rtol=1e-3
        )


@pytest.mark.parametrize("start", [0.0, 0.3, 0.5, 1.0])
def test_a_box_without_area_is_one_pixel(start: float) -> None:
    thermal = ThermalPicture(np.arange(20, dtype=np.float32).reshape(4, 5))
    assert apply_box(thermal, Box(start, start, 0.0, 0.0)).values.shape == (1, 1)
    assert apply_box(thermal, Box(start, start, 0.0, 0.0), 3).values.shape == (3, 3)


@pytest.mark.parametrize("kind", OPTIONS.values())
def test_bounds_themselves_are_valid(kind: type[Options]) -> None:
    for bound in ("low", "high"):
        values = {option.name: option.metadata[bound] for option in dataclasses.fields(kind)}
        assert dataclasses.asdict(kind(**values)) == values
