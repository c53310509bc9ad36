"""ImageBind's options, views, pictures and text as its towers see them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision import transforms

from bindsearch.encoders.imagebind.preprocessing import Preprocessing, parse_preprocessing
from bindsearch.encoders.imagebind.preprocessing.image import SIDE_PX, preprocess_image, to_pixels
from bindsearch.encoders.imagebind.preprocessing.views import clip_timepoints, count_views, even_views
from bindsearch.encoders.preprocessing.clip_tokenizer import clip_tokenizer, pad_tokens
from bindsearch.encoders.preprocessing.crops import square_crops
from bindsearch.encoders.preprocessing.resampling import even_parts
from bindsearch.errors import MediaError, UsageError

GOLDEN = Path(__file__).parents[3] / "golden" / "imagebind"
PUBLISHED = Preprocessing()


# --- options ---


def test_the_defaults_are_the_published_values() -> None:
    assert asdict(PUBLISHED) == {
        "spatial_crops": 1,
        "view_s": 2.0,
        "frames_per_s": 1.0,
        "audio_mean": -4.268,
        "audio_std": 9.138,
        "depth_min_m": 0.01,
        "depth_max_m": 50.0,
        "disparity_max": 75.0,
        "depth_mean": 0.0418,
        "depth_std": 0.0295,
        "thermal_mean": 0.0,
        "thermal_std": 1.0,
        "imu_rate_hz": 400.0,
    }


def test_options_survive_the_stores_json() -> None:
    options = parse_preprocessing({"spatial_crops": "3", "view_s": "1.5", "imu_rate_hz": 200})
    assert options == Preprocessing(spatial_crops=3, view_s=1.5, imu_rate_hz=200.0)
    assert parse_preprocessing(json.loads(json.dumps(asdict(options)))) == options
    assert {type(value) for value in asdict(options).values()} == {int, float}
    assert parse_preprocessing({}) == PUBLISHED
    assert parse_preprocessing({"spatial_crops": 3.0}).spatial_crops == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crops": 3}, r"unknown preprocessing option 'crops': expected spatial_crops, view_s, .*imu_rate_hz"),
        ({"spatial_crops": 2}, "spatial_crops is 2: expected 1 or 3"),
        ({"spatial_crops": "1.5"}, r"spatial_crops is '1\.5': expected a whole number"),
        ({"spatial_crops": True}, "spatial_crops is 'True': expected a whole number"),
        ({"view_s": "long"}, "view_s is 'long': expected a number"),
        ({"view_s": "nan"}, "view_s is 'nan': expected a number"),
        ({"view_s": 10**400}, "view_s is '1000.*': expected a number"),
        ({"view_s": 3}, r"view_s is 3: expected 0\.1 to 2\.05"),
        ({"audio_std": 0}, r"audio_std is 0: expected 0\.01 to 100"),
        ({"thermal_std": -1}, "thermal_std is -1: expected"),
        ({"depth_min_m": 50}, "depth_min_m is 50: expected less than depth_max_m, 50"),
        ({"imu_rate_hz": 5000}, "imu_rate_hz is 5000: expected 10 to 2000"),
    ],
)
def test_wrong_options_are_named(options: Mapping[str, str | int | float | bool], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_preprocessing(options)


@pytest.mark.parametrize("name", [field.name for field in fields(Preprocessing)])
def test_every_option_has_a_range(name: str) -> None:
    for value in (float("nan"), 1e9, -1e9):
        with pytest.raises(UsageError, match=f"{name} is "):
            Preprocessing(**{name: value})  # type: ignore[arg-type]


# --- views ---


@pytest.mark.parametrize("view_s", [0.5, 2.0, 5.0])
def test_even_views_cover_the_recording(view_s: float) -> None:
    rng = np.random.default_rng(3)
    for length_s in [view_s, 2 * view_s, 10.0, 10.000000000000002, *rng.uniform(view_s, 100, 50)]:
        views = even_views(float(length_s), view_s)
        starts, ends = np.array(views).T
        assert len(views) == max(1, int(np.ceil(round(length_s / view_s, 9))))
        assert starts[0] == 0
        assert ends[-1] == pytest.approx(length_s)
        np.testing.assert_allclose(ends - starts, view_s)
        np.testing.assert_allclose(np.diff(starts), np.diff(starts)[0] if len(starts) > 1 else 0)
        assert (starts[1:] <= ends[:-1] + 2e-6).all()  # no gap


def test_a_short_recording_is_one_view() -> None:
    assert even_views(0.3, 2.0) == [(0.0, 0.3)]
    assert [len(part) for part in even_parts(np.arange(100, dtype=np.float32), 2_000, 1)] == [100]


def test_views_in_samples_begin_at_the_start_and_end_at_the_end() -> None:
    parts = even_parts(np.arange(80_001, dtype=np.float32), 32_000, count_views(80_001 / 16_000, 2.0))
    assert [part[0] for part in parts] == [0, 24_000, 48_001]
    assert {len(part) for part in parts} == {32_000}


@pytest.mark.parametrize("length_s", [0.0, -1.0, float("nan"), float("inf"), 1e9])
def test_recordings_without_or_with_too_much_time_are_refused(length_s: float) -> None:
    with pytest.raises(MediaError, match=r"a recording of .* s (cannot be embedded|is too long: split it into parts)"):
        even_views(length_s, 2.0)


@pytest.mark.parametrize(("case", "points"), json.loads((GOLDEN / "clip_timepoints.json").read_text()).items())
def test_the_published_sampler(case: str, points: list[list[float]]) -> None:
    seconds, clips = case.removesuffix("clips").split("s_")
    assert clip_timepoints(float(seconds), int(clips)) == [tuple(point) for point in points]


def test_the_published_sampler_refuses_no_views() -> None:
    with pytest.raises(UsageError, match="0 views of 5 s: expected at least one view"):
        clip_timepoints(5.0, 0)


# --- pictures ---


def golden_picture() -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the synthetic image of the goldens' README, and its published pixels."""
    golden = np.load(GOLDEN / "image_preprocess.npz")
    height, width = int(golden["height"]), int(golden["width"])
    y, x = np.mgrid[:height, :width].astype(np.float64)
    disc = (x - width / 2) ** 2 + (y - height / 2) ** 2 <= (min(height, width) / 3) ** 2
    rgb = np.stack([255 * x / (width - 1), 255 * y / (height - 1), 255.0 * disc], axis=2)
    return np.round(rgb).astype(np.uint8), golden["pixels"]


@pytest.mark.parametrize("as_pil", [False, True])
def test_pixels_are_the_published_codes(as_pil: bool) -> None:
    rgb, expected = golden_picture()
    pixels = preprocess_image(Image.fromarray(rgb) if as_pil else rgb)
    assert pixels.shape == (1, 3, 224, 224)
    assert pixels.dtype == torch.float32
    assert np.abs(pixels.numpy() - expected).max() <= 2e-4 * np.abs(expected).max()


@pytest.mark.parametrize("size", [(224, 224), (333, 500), (51, 1000), (1, 1)])
def test_pixels_are_torchvisions(size: tuple[int, int]) -> None:
    rgb = np.random.default_rng(4).integers(0, 256, (*size, 3), dtype=np.uint8)
    published = transforms.Compose(
        [
            transforms.Resize(224, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        ]
    )
    torch.testing.assert_close(preprocess_image(rgb)[0], published(Image.fromarray(rgb)), rtol=0, atol=1e-6)


def test_prepared_pictures_stay_small_and_become_pixels_later() -> None:
    rgb, _ = golden_picture()
    prepared = square_crops(rgb, SIDE_PX, crops=PUBLISHED.spatial_crops)
    assert (prepared.shape, prepared.dtype) == ((1, 224, 224, 3), np.uint8)
    pixels = to_pixels(torch.from_numpy(prepared))
    torch.testing.assert_close(pixels, preprocess_image(rgb))
    assert pixels.is_contiguous(memory_format=torch.channels_last)
    crops = square_crops(rgb, SIDE_PX, crops=3)
    assert crops.shape == (3, 224, 224, 3)
    np.testing.assert_array_equal(crops[1], prepared[0])


def test_other_modes_become_rgb_and_other_arrays_are_refused() -> None:
    grey = Image.fromarray(np.arange(100, dtype=np.uint8).reshape(10, 10))
    torch.testing.assert_close(preprocess_image(grey), preprocess_image(grey.convert("RGB")))
    for array in (np.zeros((5, 5), np.uint8), np.zeros((5, 5, 4), np.uint8), np.zeros((5, 5, 3), np.float32)):
        with pytest.raises(MediaError, match=r"a picture of shape .* and type .*: expected uint8 \(height, width, 3\)"):
            preprocess_image(array)  # type: ignore[arg-type]
    with pytest.raises(MediaError, match="no pixels"):
        square_crops(np.zeros((0, 5, 3), np.uint8), SIDE_PX)


# --- text ---


def test_text_is_padded_to_the_longest_only() -> None:
    tokens = pad_tokens([clip_tokenizer().tokenize(text) for text in ("a dog", "a photo of a dog")])
    assert tokens.shape == (2, 7)
    assert (tokens[0, 4:] == 0).all()
    with pytest.raises(MediaError, match="split it into passages"):
        clip_tokenizer().tokenize("word " * 76)


def test_importing_loads_no_torch() -> None:
    modules = ["audio", "depth", "image", "imu", "options", "views"]
    imports = ", ".join(f"bindsearch.encoders.imagebind.preprocessing.{module}" for module in modules)
    code = f"import sys, {imports}\nprint([m for m in ('torch', 'open_clip', 'scipy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
