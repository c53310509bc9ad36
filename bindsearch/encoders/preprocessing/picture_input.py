"""Pictures as the input of a published tower: resized, cropped or filled, and normalised."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from bindsearch.encoders.preprocessing.crops import LONGEST_ASPECT, centre_strip, square_crops
from bindsearch.errors import MediaError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

FILTERS = {name: Image.Resampling[name.upper()] for name in ("nearest", "bilinear", "bicubic", "lanczos")}
"""Filters of Pillow by their names in open_clip and timm."""

FITS = ("shortest", "longest", "squash")


@dataclass(frozen=True, slots=True)
class PictureInput:
    """Preprocessing of pictures by the authors of a model.

    Attributes:
        height_px: Height of the input in pixels.
        width_px: Width of the input in pixels.
        mean: Mean of each colour in 0..1.
        std: Standard deviation of each colour in 0..1.
        interpolation: Filter for resizing, of FILTERS.
        fit: "shortest": the whole input is covered, and what is over is cropped; "longest": the whole picture is shown,
            and the rest is filled; "squash": the aspect ratio is changed.
        crop_pct: Size of the input as a share of what the picture is resized to before it is cropped; above 1, it is
            filled.
        fill: Brightness of the rest, in 0..255.
    """

    height_px: int
    width_px: int
    mean: Sequence[float]
    std: Sequence[float]
    interpolation: str
    fit: str
    crop_pct: float = 1.0
    fill: int = 0

    def __post_init__(self) -> None:
        if self.interpolation not in FILTERS or self.fit not in FITS:
            raise ValueError(f"pictures cannot be resized by {self.interpolation!r} and {self.fit!r}")
        if min(self.height_px, self.width_px) < 1 or not self.crop_pct > 0:
            size = f"{self.height_px} x {self.width_px} pixels"
            raise ValueError(f"pictures of {size} at {self.crop_pct} are not possible")
        if self.fit != "squash" and self.crop_pct != 1 and self.height_px != self.width_px:
            raise ValueError("a part of a picture can be a square only")

    @property
    def resized_px(self) -> int:
        """Longer side that a picture is resized to before it is cropped, rounded down like in timm."""
        return math.floor(max(self.height_px, self.width_px) / self.crop_pct)

    def picture(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize and crop a picture (height, width, 3): uint8 (1, height_px, width_px, 3).

        Raises:
            MediaError: the picture has no pixels.
        """
        if 0 in rgb.shape:
            raise MediaError(f"the picture has no pixels (height {rgb.shape[0]}, width {rgb.shape[1]})")
        if self.fit == "squash":
            height, width = (math.floor(side / self.crop_pct) for side in (self.height_px, self.width_px))
            return _centre(_resize(rgb, height, width, FILTERS[self.interpolation]), self)[None]
        if self.fit == "longest" or self.height_px != self.width_px:
            return _keep_ratio(rgb, self)[None]
        if self.resized_px < self.height_px:
            return _small(rgb, self)[None]
        resample = FILTERS[self.interpolation]
        return square_crops(rgb, self.height_px, resized_px=self.resized_px, resample=resample)

    def normalized(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return the pixels of pictures, uint8 (n, height, width, 3), normalised: float32 (n, 3, height, width)."""
        import torch

        device = pictures.device
        mean, std = (torch.tensor(list(values), device=device)[:, None, None] for values in (self.mean, self.std))
        return pictures.permute(0, 3, 1, 2).float().div_(255).sub_(mean).div_(std)


def _small(rgb: NDArray[np.uint8], facts: PictureInput) -> NDArray[np.uint8]:
    """Resize the shorter side to less than the input, rounding like torchvision's Resize, and fill the rest."""
    height, width = rgb.shape[:2]
    rgb = rgb[centre_strip(height, width, LONGEST_ASPECT)]
    shorter = min(rgb.shape[:2])
    height, width = (int(facts.resized_px * side / shorter) for side in rgb.shape[:2])
    return _centre(_filled(_resize(rgb, height, width, FILTERS[facts.interpolation]), facts), facts)


def _keep_ratio(rgb: NDArray[np.uint8], facts: PictureInput) -> NDArray[np.uint8]:
    """Resize, and crop or fill like open_clip's ResizeKeepRatio and CenterCropOrPad: bicubically if all is covered."""
    height, width = rgb.shape[:2]
    ratios = (height / facts.height_px, width / facts.width_px)
    ratio = max(ratios) if facts.fit == "longest" else min(ratios)
    if facts.fit == "shortest":  # resizing 1 x 100,000 pixels would take 15 GB
        kept = [math.ceil(side * ratio * LONGEST_ASPECT) for side in (facts.height_px, facts.width_px)]
        top, left = max(0, (height - kept[0]) // 2), max(0, (width - kept[1]) // 2)
        rgb = rgb[top : height - top, left : width - left]
        height, width = rgb.shape[:2]
    resample = FILTERS[facts.interpolation] if facts.fit == "longest" else Image.Resampling.BICUBIC
    resized = _resize(rgb, max(1, round(height / ratio)), max(1, round(width / ratio)), resample)
    return _centre(_filled(resized, facts), facts)


def _resize(rgb: NDArray[np.uint8], height: int, width: int, resample: Image.Resampling) -> NDArray[np.uint8]:
    """Resize a picture to a size, antialiased."""
    return np.asarray(Image.fromarray(np.ascontiguousarray(rgb)).resize((width, height), resample))


def _filled(rgb: NDArray[np.uint8], facts: PictureInput) -> NDArray[np.uint8]:
    """Fill around a picture up to the size of the input; where the rest is odd, right and below have one more."""
    rest = (max(0, facts.height_px - rgb.shape[0]), max(0, facts.width_px - rgb.shape[1]))
    edges = [(amount // 2, amount - amount // 2) for amount in rest]
    return np.pad(rgb, [*edges, (0, 0)], constant_values=facts.fill)


def _centre(rgb: NDArray[np.uint8], facts: PictureInput) -> NDArray[np.uint8]:
    """Crop the middle; a half pixel is rounded to even, like in torchvision's CenterCrop."""
    top, left = round((rgb.shape[0] - facts.height_px) / 2), round((rgb.shape[1] - facts.width_px) / 2)
    return rgb[top : top + facts.height_px, left : left + facts.width_px]
