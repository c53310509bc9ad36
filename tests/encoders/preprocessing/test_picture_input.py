"""Pictures are fitted like by the transforms of open_clip and torchvision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, Resize

from bindsearch.encoders.preprocessing.picture_input import PictureInput
from bindsearch.errors import MediaError

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
SHAPES = [(90, 140), (141, 77), (33, 33), (64, 65), (17, 400), (501, 40)]


def picture(height: int, width: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("size", [(64, 64), (63, 96), (96, 50)])
@pytest.mark.parametrize("fit", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pixels_are_those_of_open_clip(size: tuple[int, int], fit: str, interpolation: str) -> None:
    given = PictureInput(*size, MEAN, STD, interpolation, fit, fill=90)
    facts = PreprocessCfg(size=size, mean=MEAN, std=STD, interpolation=interpolation, resize_mode=fit, fill_color=90)
    transform = image_transform_v2(facts, is_train=False)
    for shape in SHAPES:
        rgb = picture(*shape)
        pixels = given.normalized(torch.from_numpy(given.picture(rgb).copy()))
        torch.testing.assert_close(pixels[0], transform(Image.fromarray(rgb)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("crop_pct", [0.875, 1.0, 1.15])
def test_parts_of_pictures_are_those_of_torchvision(crop_pct: float) -> None:
    given = PictureInput(64, 64, MEAN, STD, "bicubic", "shortest", crop_pct=crop_pct)
    transform = Compose([Resize(int(64 / crop_pct), Image.Resampling.BICUBIC), CenterCrop(64)])
    for shape in SHAPES:
        rgb = picture(*shape)
        np.testing.assert_array_equal(given.picture(rgb)[0], np.asarray(transform(Image.fromarray(rgb))))


def test_long_strips_are_cut_and_empty_pictures_refused() -> None:
    strip = np.broadcast_to(picture(1, 3), (200_000, 3, 3))
    for size in ((64, 64), (64, 96)):
        for fit in ("shortest", "longest", "squash"):
            assert PictureInput(*size, MEAN, STD, "bicubic", fit).picture(strip).shape == (1, *size, 3)
    with pytest.raises(MediaError, match=r"the picture has no pixels \(height 0, width 4\)"):
        PictureInput(64, 96, MEAN, STD, "bicubic", "longest").picture(np.zeros((0, 4, 3), np.uint8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"interpolation": "cubic"}, "cannot be resized by 'cubic' and 'squash'"),
        ({"fit": "fold"}, "by 'bicubic' and 'fold'"),
        ({"height_px": 0}, "pictures of 0 x 64 pixels"),
        ({"fit": "shortest", "crop_pct": 0.9, "width_px": 70}, "a part of a picture can be a square only"),
    ],
)
def test_impossible_settings(change: dict[str, str | int | float], message: str) -> None:
    settings = {"height_px": 64, "width_px": 64, "interpolation": "bicubic", "fit": "squash", **change}
    with pytest.raises(ValueError, match=message):
        PictureInput(mean=MEAN, std=STD, **settings)  # type: ignore[arg-type]
