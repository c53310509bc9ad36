"""Augmentations: ranges, shapes, repeatability, and what each one does, on made media and with hostile values."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bindsearch.binding.augmentations.augment import augment, mix, mixing_shares
from bindsearch.binding.augmentations.crops import Box, apply_box, apply_span, crop_box, crop_span
from bindsearch.binding.augmentations.motion import change_tempo, random_rotation, right_angles
from bindsearch.binding.augmentations.options import (
    OPTIONS,
    DepthOptions,
    MotionOptions,
    Options,
    PictureOptions,
    SoundOptions,
    SpatialOptions,
    ThermalOptions,
    parse_options,
)
from bindsearch.binding.augmentations.picture import LEAST_ERASED, jitter_colours, random_rectangle
from bindsearch.binding.augmentations.sound import (
    augment_levels,
    change_speed,
    low_pass_levels,
    mask_levels,
    shift_pitch,
    stretch_levels,
)
from bindsearch.errors import MediaError, UsageError
from bindsearch.media import DepthMap, Frames, Media, Motion, Passage, Picture, Sound, ThermalPicture
from bindsearch.types import Modality, Span


def made_media(seed: int = 0) -> dict[Modality, Any]:
    """Return a medium of each modality that has augmentations."""
    rng = np.random.default_rng(seed)
    valid = rng.random((48, 64)) > 0.1
    depth = np.where(valid, rng.uniform(0.5, 5.0, (48, 64)), np.nan).astype(np.float32)
    return {
        Modality.IMAGE: Picture(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)),
        Modality.THERMAL: ThermalPicture(rng.random((48, 64), dtype=np.float32)),
        Modality.DEPTH: DepthMap(depth, valid, 500.0, 0.1),
        Modality.AUDIO: Sound((rng.standard_normal(4_000) * 0.1).astype(np.float32), 16_000),
        Modality.IMU: Motion(rng.standard_normal((250, 6)).astype(np.float32), 50.0),
    }


def arrays(media: Media) -> list[NDArray[Any]]:
    """Return the arrays of a medium."""
    values = [getattr(media, field.name) for field in fields(media)]
    return [value for value in values if isinstance(value, np.ndarray)]


def neutral(modality: Modality) -> Options:
    """Return options that change nothing."""
    names = [field.name for field in fields(OPTIONS[modality]) if field.metadata["low"] == 0.0]
    kept = {"mask_bins", "mask_frames", "noise_db", "magnitude", "magnitude_std"}
    crop = ["crop_scale=1", "crop_ratio=1"] if issubclass(OPTIONS[modality], SpatialOptions) else []
    return parse_options(modality, [*(f"{name}=0" for name in names if name not in kept), *crop])


@pytest.mark.parametrize("modality", OPTIONS)
def test_same_generator_same_media(modality: Modality) -> None:
    media, options = made_media()[modality], parse_options(modality)
    before = [array.copy() for array in arrays(media)]
    runs = [[arrays(augment(media, options, np.random.default_rng(seed))) for seed in range(10)] for _ in range(2)]
    for first, second in zip(*runs, strict=True):
        assert all(a.tobytes() == b.tobytes() for a, b in zip(first, second, strict=True))
    assert len({run[0].tobytes() for run in runs[0]}) == 10
    assert all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(before, arrays(media), strict=True))
    for changed in runs[0]:
        assert [(a.shape, a.dtype) for a in changed] == [(a.shape, a.dtype) for a in before]


@pytest.mark.parametrize("modality", OPTIONS)
def test_neutral_options_change_nothing(modality: Modality) -> None:
    media, rng = made_media()[modality], np.random.default_rng(0)
    changed = augment(media, neutral(modality), rng)
    if isinstance(media, DepthMap):
        media = replace(media, depth_m=np.where(media.valid, media.depth_m, 0))
    for before, after in zip(arrays(media), arrays(changed), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-6, atol=1e-6)


def test_options_from_texts() -> None:
    options = parse_options(Modality.THERMAL, ["erase=0.5", " noise = 0.1 ", "erase=0.75"])
    assert options == ThermalOptions(erase=0.75, noise=0.1)
    assert parse_options(Modality.AUDIO, ["mask_bins=12"]) == SoundOptions(mask_bins=12)


@pytest.mark.parametrize(
    ("modality", "setting", "message"),
    [
        (Modality.THERMAL, "erase=2", "erase is 2.0: expected a number from 0 to 1"),
        (Modality.THERMAL, "erase=nan", "erase is nan: expected a number from 0 to 1"),
        (Modality.THERMAL, "erase=often", "erase is 'often': expected a number from 0 to 1"),
        (Modality.AUDIO, "mask_bins=1.5", "mask_bins is '1.5': expected a whole number from 0 to 512"),
        (Modality.AUDIO, "mask_bins", "the augmentation option 'mask_bins' is not NAME=VALUE: write for example"),
        (
            Modality.IMU,
            "tilt=3",
            "unknown augmentation option 'tilt' of imu: did you mean 'tilt_deg'? choose from tempo,",
        ),
        (Modality.TEXT, "erase=1", "text has no augmentations: choose from image, thermal, depth, audio, imu"),
    ],
)
def test_messages_of_options(modality: Modality, setting: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_options(modality, [setting])
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_options_of_another_modality() -> None:
    sound = made_media()[Modality.AUDIO]
    with pytest.raises(UsageError, match="PictureOptions do not apply to Sound: give the options of its modality"):
        augment(sound, PictureOptions(), np.random.default_rng(0))
    with pytest.raises(UsageError, match="ThermalOptions do not apply to Passage"):
        augment(Passage("dog"), ThermalOptions(), np.random.default_rng(0))


def test_options_of_code_are_checked_too() -> None:
    with pytest.raises(UsageError, match=r"mask_bins is 1\.0: expected a whole number from 0 to 512"):
        SoundOptions(mask_bins=1.0)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="erase is True: expected a number from 0 to 1"):
        DepthOptions(erase=True)


# -- aligned crops


def test_boxes_have_the_drawn_distribution() -> None:
    options, rng = SpatialOptions(crop_scale=0.25, crop_ratio=2.0, flip=0.3), np.random.default_rng(0)
    boxes = [crop_box(rng, options) for _ in range(4_000)]
    areas = np.array([box.width * box.height for box in boxes])
    ratios = np.array([box.width / box.height for box in boxes])
    assert areas.min() >= 0.25 - 1e-9
    assert areas.max() <= 1.0
    assert areas.mean() == pytest.approx(0.625, abs=0.02)  # evenly from 0.25 to 1
    assert np.log(ratios).mean() == pytest.approx(0.0, abs=0.02)
    assert ratios.max() <= 2.0 + 1e-9
    assert ratios.min() >= 0.5 - 1e-9
    assert np.mean([box.flip for box in boxes]) == pytest.approx(0.3, abs=0.03)
    assert all(box.left >= 0 and box.left + box.width <= 1 + 1e-9 for box in boxes)
    assert all(box.top >= 0 and box.top + box.height <= 1 + 1e-9 for box in boxes)


def test_a_crop_shows_the_same_part_of_both_media_of_a_pair() -> None:
    """Coordinates are written into the pixels of two media of different sizes; crops show the same ones."""
    y, x = np.mgrid[0:480, 0:640]
    colours = np.stack([x / 640 * 255, y / 480 * 255, 0 * x], axis=2).astype(np.uint8)
    half_y, half_x = np.mgrid[0:120, 0:160]
    depth = DepthMap((1 + half_x / 160).astype(np.float32), half_y < 60, 300.0, 0.1)
    rng = np.random.default_rng(1)
    flips = 0
    for _ in range(20):
        box = crop_box(rng, SpatialOptions())
        flips += box.flip
        picture, thermal = apply_box(Picture(colours), box), apply_box(ThermalPicture(half_x.astype(np.float32)), box)
        cropped = apply_box(depth, box)
        for column in (0, -1):
            in_picture = picture.rgb[0, column, 0] / 255
            assert in_picture == pytest.approx(thermal.values[0, column] / 160, abs=0.01)
            assert in_picture == pytest.approx(cropped.depth_m[0, column] - 1, abs=0.01)
        np.testing.assert_array_equal(cropped.valid.any(axis=1), cropped.valid.all(axis=1))
        assert cropped.valid.any(axis=1).mean() == pytest.approx((picture.rgb[:, 0, 1] < 128).mean(), abs=0.02)
    assert 0 < flips < 20


def test_crops_to_a_square() -> None:
    media = made_media()
    box = Box(0.25, 0.25, 0.5, 0.5, flip=True)
    assert apply_box(media[Modality.IMAGE], box, 32).rgb.shape == (32, 32, 3)
    assert apply_box(media[Modality.THERMAL], box, 32).values.shape == (32, 32)
    depth = media[Modality.DEPTH]
    square = apply_box(depth, box, 32)
    assert square.valid.shape == square.depth_m.shape == (32, 32)
    assert np.isfinite(square.depth_m[square.valid]).all()
    assert set(square.depth_m[square.valid]) <= set(depth.depth_m[depth.valid])  # no depth between two surfaces
    frames = apply_box(Frames(np.stack([media[Modality.IMAGE].rgb] * 2), np.array([0.0, 1.0])), box, 16)
    assert frames.rgb.shape == (2, 16, 16, 3)


def test_whole_box_is_a_copy() -> None:
    picture = made_media()[Modality.IMAGE]
    whole = apply_box(picture, Box())
    assert np.array_equal(whole.rgb, picture.rgb)
    assert not np.shares_memory(whole.rgb, picture.rgb)


def test_spans_of_a_pair_are_aligned() -> None:
    """Times are written into two recordings of different rates; the same span shows the same ones."""
    sound = Sound((np.arange(80_000) / 16_000).astype(np.float32), 16_000)
    motion = Motion(np.repeat(np.arange(250)[:, None] / 50, 6, axis=1).astype(np.float32), 50.0)
    frames = Frames(np.zeros((5, 2, 2, 3), np.uint8), np.arange(5.0))
    rng = np.random.default_rng(0)
    for _ in range(20):
        span = crop_span(rng, 5.0, 2.0)
        assert span.end_s - span.start_s == pytest.approx(2.0)
        assert 0 <= span.start_s <= 3
        first, second = apply_span(sound, span), apply_span(motion, span)
        assert len(first.samples) == 32_000
        assert first.samples[0] == pytest.approx(second.samples[0, 0], abs=0.02)
        assert set(apply_span(frames, span).times_s) <= set(np.arange(5.0)[np.arange(5.0) >= span.start_s])
    assert crop_span(rng, 1.5, 2.0) == Span(0.0, 1.5)
    assert list(apply_span(frames, Span(2.1, 2.4)).times_s) == [2.0]  # no frame in between: the next one
    assert len(apply_span(sound, Span(99.0, 100.0)).samples) == 1


# -- what the changes do


def test_erased_rectangles() -> None:
    options, rng = ThermalOptions(erase=1.0, erase_area=0.3), np.random.default_rng(0)
    areas = []
    for _ in range(500):
        rows, columns = random_rectangle((100, 200), rng, options) or pytest.fail("nothing is erased")
        assert 0 <= rows.start < rows.stop <= 100
        assert 0 <= columns.start < columns.stop <= 200
        areas.append((rows.stop - rows.start) * (columns.stop - columns.start) / 20_000)
    assert min(areas) == pytest.approx(LEAST_ERASED, abs=0.005)
    assert max(areas) == pytest.approx(0.3, abs=0.01)
    drawn = [random_rectangle((100, 200), rng, ThermalOptions(erase=0.25)) is not None for _ in range(2_000)]
    assert np.mean(drawn) == pytest.approx(0.25, abs=0.03)


def test_erased_depth_is_not_valid_and_never_all_of_it() -> None:
    options = DepthOptions(erase=1.0, erase_area=0.9, noise=0.0, depth_scale=0.0)
    for seed in range(50):
        media = made_media(seed)[Modality.DEPTH]
        alone = np.zeros_like(media.valid)
        alone[20, 30] = True
        changed = augment(media, options, np.random.default_rng(seed))
        assert 0 < changed.valid.sum() < media.valid.sum()
        assert not (changed.valid & ~media.valid).any()
        assert (changed.depth_m[~changed.valid] == 0).all()
        np.testing.assert_allclose(changed.depth_m[changed.valid], media.depth_m[changed.valid], rtol=1e-6)
        assert augment(replace(media, valid=alone), options, np.random.default_rng(seed)).valid[20, 30]


def test_colours_against_separate_steps() -> None:
    """The one matrix against saturation, contrast and brightness, one after the other."""
    rgb = np.random.default_rng(0).integers(90, 160, (32, 40, 3), dtype=np.uint8)
    options = PictureOptions(brightness=0.3, contrast=0.3, saturation=0.3)
    luma = np.array([0.299, 0.587, 0.114])
    for seed in range(20):
        brightness, contrast, saturation = 1 + 0.3 * np.random.default_rng(seed).uniform(-1, 1, 4)[:3]
        grey = (rgb @ luma)[:, :, None]
        expected = grey + saturation * (rgb - grey)
        mean = (expected @ luma).mean()
        expected = brightness * (mean + contrast * (expected - mean))
        jittered = jitter_colours(rgb, np.random.default_rng(seed), options)
        assert np.abs(jittered - expected).max() <= 0.51  # half a level, by rounding


def test_hue_keeps_luma_and_grey_has_no_colour() -> None:
    rgb = np.random.default_rng(0).integers(100, 150, (16, 16, 3), dtype=np.uint8)
    no_tone = PictureOptions(brightness=0.0, contrast=0.0, saturation=0.0)
    turned = jitter_colours(rgb, np.random.default_rng(3), replace(no_tone, hue=0.3))
    luma = np.array([0.299, 0.587, 0.114])
    assert np.abs(turned.astype(int) - rgb).max() > 10
    np.testing.assert_allclose(turned @ luma, rgb @ luma, atol=1.0)
    grey = jitter_colours(rgb, np.random.default_rng(3), replace(no_tone, grey=1.0))
    assert np.ptp(grey.astype(int), axis=2).max() <= 1


def test_operations_of_randaugment() -> None:
    rgb = np.random.default_rng(0).integers(50, 200, (24, 24, 3), dtype=np.uint8)
    no_jitter = PictureOptions(brightness=0, contrast=0, saturation=0, erase=0, operations=2)
    results = {augment(Picture(rgb), no_jitter, np.random.default_rng(seed)).rgb.tobytes() for seed in range(40)}
    assert len(results) > 20


def test_speed_changes_the_pitch_of_samples() -> None:
    """A tone of 500 Hz is heard at 500 Hz times the speed that was drawn."""
    tone = np.sin(2 * np.pi * 500 * np.arange(16_000) / 16_000).astype(np.float32)
    for seed in range(5):
        speed = math.exp(np.random.default_rng(seed).uniform(-0.2, 0.2))
        changed = change_speed(tone, np.random.default_rng(seed), 0.2, count=8_000)
        peak_hz = np.abs(np.fft.rfft(changed)).argmax() * 2
        assert peak_hz == pytest.approx(500 * speed, abs=2)


def test_noise_and_low_pass_of_samples() -> None:
    rng = np.random.default_rng(0)
    samples = (rng.standard_normal(32_000) * 0.1).astype(np.float32)
    steady = SoundOptions(speed=0.0, gain_db=0.0, noise=0.0, low_pass=0.0)
    noisy = augment(Sound(samples, 16_000), replace(steady, noise=1.0, snr_db=10.0), rng)
    snr_db = 20 * np.log10(samples.std() / (noisy.samples - samples).std())
    assert 9.5 <= snr_db <= 45.5
    options = replace(steady, low_pass=1.0, low_pass_hz=2_000.0)
    for seed in range(5):
        draws = np.random.default_rng(seed)
        filtered = augment(Sound(samples, 16_000), options, draws).samples
        power = np.abs(np.fft.rfft(filtered)) ** 2 / np.abs(np.fft.rfft(samples)) ** 2
        assert np.median(power[1_000:3_000]) == pytest.approx(1.0, abs=0.02)  # 500 to 1500 Hz
        half = 0.5 * np.flatnonzero(np.convolve(power, np.ones(200) / 200, "same") > 0.5)[-1]
        assert 1_900 <= half <= 7_400  # from low_pass_hz to 0.45 of the rate


def test_gain_is_in_its_range() -> None:
    samples = np.full(100, 0.1, np.float32)
    options = SoundOptions(noise=0.0, low_pass=0.0, speed=0.0, gain_db=6.0)
    gains = [augment(Sound(samples, 16_000), options, np.random.default_rng(seed)).samples[0] for seed in range(200)]
    assert 20 * np.log10(min(gains) / 0.1) == pytest.approx(-6.0, abs=0.3)
    assert 20 * np.log10(max(gains) / 0.1) == pytest.approx(6.0, abs=0.3)


def test_masks_of_levels() -> None:
    levels = np.random.default_rng(0).uniform(-80, 0, (64, 125)).astype(np.float32)
    options = SoundOptions(mask_bands=1, mask_bins=12, mask_spans=1, mask_frames=20)
    widths = []
    for seed in range(300):
        masked = mask_levels(levels, np.random.default_rng(seed), options)
        is_masked = masked == np.float32(levels.mean(dtype=np.float64))
        bands, spans = is_masked.all(axis=1), is_masked.all(axis=0)
        np.testing.assert_array_equal(is_masked, bands[:, None] | spans[None, :])
        np.testing.assert_array_equal(masked[~is_masked], levels[~is_masked])
        assert all(np.diff(np.flatnonzero(rows)).max(initial=1) == 1 for rows in (bands, spans))
        widths.append((bands.sum(), spans.sum()))
    assert np.max(widths, axis=0).tolist() == [12, 20]
    assert np.min(widths, axis=0).tolist() == [0, 0]


def test_levels_of_a_view() -> None:
    levels = np.arange(64, dtype=np.float32)[:, None] + np.zeros((64, 40), np.float32)
    assert shift_pitch(levels, 2)[:4, 0].tolist() == [0, 0, 0, 1]
    assert shift_pitch(levels, -2)[-3:, 0].tolist() == [63, 63, 63]
    drop_db = levels - low_pass_levels(levels, 60)
    assert drop_db[59:, 0].tolist() == [0, 6, 12, 18, 24]
    stretched = [stretch_levels(levels, np.random.default_rng(seed), 0.2, 125) for seed in range(20)]
    assert all(view.shape == (64, 125) for view in stretched)
    assert {round(float(view.min()), 3) for view in stretched} == {0.0, -90.0}  # repeated, or padded with silence
    views = [augment_levels(levels, np.random.default_rng(seed), SoundOptions(), 30) for seed in range(20)]
    assert all(view.shape == (64, 30) and view.dtype == np.float32 and np.isfinite(view).all() for view in views)


def test_stretched_levels_keep_the_pitch() -> None:
    """A ramp in time has another slope after stretching, drawn evenly in the logarithm."""
    ramp = np.arange(400, dtype=np.float32)[None, :] * np.ones((3, 1), np.float32)
    slopes = [np.diff(stretch_levels(ramp, np.random.default_rng(seed), 0.2, 200)[1]).mean() for seed in range(200)]
    assert min(slopes) == pytest.approx(math.exp(-0.2), abs=0.02)
    assert max(slopes) == pytest.approx(math.exp(0.2), abs=0.02)


def test_right_angles_are_the_rotations_of_a_cube() -> None:
    turns = right_angles()
    assert len(np.unique(turns, axis=0)) == 24
    assert np.array_equal(turns[0], np.eye(3))
    np.testing.assert_allclose(np.linalg.det(turns), 1.0)
    products = np.einsum("iab,jbc->ijac", turns, turns).reshape(-1, 3, 3)
    assert len(np.unique(products, axis=0)) == 24  # a group


def test_rotations_turn_by_the_drawn_angle() -> None:
    rng = np.random.default_rng(0)
    rotations = np.stack([random_rotation(rng, 15.0) for _ in range(2_000)])
    np.testing.assert_allclose(
        rotations @ rotations.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (2_000, 3, 3)), atol=1e-12
    )
    cosines = (np.trace(rotations, axis1=1, axis2=2) - 1) / 2
    angles_deg = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    assert np.sqrt((angles_deg**2).mean()) == pytest.approx(15.0, rel=0.05)


def test_motion_keeps_gravity_and_relations_of_axes() -> None:
    rng = np.random.default_rng(0)
    samples = rng.standard_normal((250, 6)) + np.array([0, 0, 9.81, 0, 0, 0])
    media = Motion(samples.astype(np.float32), 50.0)
    options = MotionOptions(noise=0.0, tempo=0.0, intensity=0.3)
    for seed in range(20):
        changed = augment(media, options, np.random.default_rng(seed)).samples
        gravity = np.linalg.norm(changed[:, :3].mean(axis=0))
        assert gravity == pytest.approx(np.linalg.norm(samples[:, :3].mean(axis=0)), rel=1e-4)
        before, after = (np.linalg.norm(array[:, 3:], axis=1) for array in (samples, changed))
        np.testing.assert_allclose(after / after.mean(), before / before.mean(), rtol=1e-3)  # one factor for all


def test_tempo_of_a_longer_recording() -> None:
    ramp = np.tile(np.arange(1_000, dtype=np.float32), (6, 1))
    steps = []
    for seed in range(100):
        part = change_tempo(ramp, np.random.default_rng(seed), 0.15, 128)
        assert part.shape == (6, 128)
        np.testing.assert_allclose(np.diff(part), np.diff(part)[0, 0], rtol=1e-3)
        steps.append(float(np.diff(part)[0, 0]))
    assert min(steps) == pytest.approx(math.exp(-0.15), abs=0.02)
    assert max(steps) == pytest.approx(math.exp(0.15), abs=0.02)
    reflected = change_tempo(ramp[:, :10], np.random.default_rng(0), 0.0, 21)
    assert reflected[0].tolist() == [*range(10), *range(8, -1, -1), 1, 2]


def test_mixing() -> None:
    shares = mixing_shares(np.random.default_rng(0), 4_000, alpha=0.3, chance=0.5)
    assert (shares == 1).mean() == pytest.approx(0.5, abs=0.05)
    assert shares[shares < 1].mean() == pytest.approx(0.5, abs=0.05)
    first, second = np.ones((3, 2, 2), np.float32), np.zeros((3, 2, 2), np.float32)
    assert mix(first, second, np.array([0.25, 0.5, 1.0], np.float32))[:, 0, 0].tolist() == [0.25, 0.5, 1.0]
    assert mix(first[0], second[0], 0.75).tolist() == [[0.75, 0.75], [0.75, 0.75]]
    with pytest.raises(UsageError, match=r"media of shapes \(3, 2, 2\) and \(2, 2, 2\) cannot be mixed"):
        mix(first, second[:2], 0.5)


def test_empty_media() -> None:
    rng = np.random.default_rng(0)
    empty: list[tuple[Media, Options]] = [
        (Picture(np.zeros((0, 5, 3), np.uint8)), PictureOptions()),
        (ThermalPicture(np.zeros((5, 0), np.float32)), ThermalOptions()),
        (DepthMap(np.zeros((0, 0), np.float32), np.zeros((0, 0), bool), 1.0, 1.0), DepthOptions()),
        (Sound(np.zeros(0, np.float32), 16_000), SoundOptions()),
        (Motion(np.zeros((0, 6), np.float32), 50.0), MotionOptions()),
    ]
    for media, options in empty:
        with pytest.raises(MediaError, match=r"no pixels|no samples|at least one sample"):
            augment(media, options, rng)
    with pytest.raises(MediaError, match=r"the picture has no pixels \(height 5, width 0\)"):
        apply_box(ThermalPicture(np.zeros((5, 0), np.float32)), Box())
    with pytest.raises(MediaError, match=r"levels of shape \(64, 0\): expected at least one mel bin and one frame"):
        mask_levels(np.zeros((64, 0), np.float32), rng, SoundOptions())


def test_time_of_a_medium() -> None:
    """Well above what is measured on a quiet core, since others use this machine too."""
    rng = np.random.default_rng(0)
    thermal = ThermalPicture(rng.random((240, 320), dtype=np.float32))
    sound = Sound((rng.standard_normal(32_000) * 0.1).astype(np.float32), 16_000)
    motion = Motion(rng.standard_normal((250, 6)).astype(np.float32), 50.0)
    sound_options = SoundOptions(noise=1.0, low_pass=1.0)
    cases: list[tuple[Callable[[], object], float]] = [
        (lambda: augment(apply_box(thermal, crop_box(rng, ThermalOptions())), ThermalOptions(), rng), 2e-3),
        (lambda: augment(sound, sound_options, rng), 3e-3),
        (lambda: augment(motion, MotionOptions(), rng), 1e-3),
    ]
    for run, limit_s in cases:
        times_s = []
        for _ in range(20):
            start = time.perf_counter()
            run()
            times_s.append(time.perf_counter() - start)
        assert min(times_s) < limit_s
