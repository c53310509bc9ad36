"""Pictures: 224 pixels, bicubic and antialiased, middle square, CLIP's mean and standard deviation (published code)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bindsearch.encoders.imagebind.preprocessing.options import Preprocessing
from bindsearch.encoders.preprocessing.crops import square_crops
from bindsearch.errors import MediaError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from PIL.Image import Image

SIDE_PX = 224

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
"""Mean of red, green and blue in 0..1 over CLIP's training pictures (Radford et al. 2021, published code)."""

CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Standard deviation, like CLIP_MEAN."""


def prepare_picture(rgb: NDArray[np.uint8], options: Preprocessing) -> NDArray[np.uint8]:
    """Crop squares of a picture; thread-safe.

    Args:
        rgb: Picture, uint8 (height, width, 3).
        options: Number of squares.

    Returns:
        Squares, uint8 (spatial_crops, 224, 224, 3).

    Raises:
        MediaError: the picture has no pixels.
    """
    return square_crops(rgb, SIDE_PX, crops=options.spatial_crops)


def to_pixels(squares: torch.Tensor) -> torch.Tensor:
    """Convert squares, uint8 (..., 224, 224, 3) on any device, to the input of the tower, float32 (..., 3, 224, 224).

    The values are (value / 255 - mean) / std, like those of torchvision's ToTensor and Normalize. In memory the
    channels stay last.
    """
    import torch

    mean = torch.tensor(CLIP_MEAN, device=squares.device)
    std = torch.tensor(CLIP_STD, device=squares.device)
    return (squares.float() / 255.0).sub_(mean).div_(std).movedim(-1, -3)


def preprocess_image(image: Image | NDArray[np.uint8]) -> torch.Tensor:
    """Preprocess a picture like the published code, for parity.

    Args:
        image: PIL picture, or array uint8 (height, width, 3).

    Returns:
        Normalised pixels, float32 (1, 3, 224, 224).

    Raises:
        MediaError: the picture has no pixels, or the array has another shape or type.
    """
    import torch

    if not isinstance(image, np.ndarray) and not hasattr(image, "convert"):
        raise MediaError(f"expected a PIL picture or an array, not {type(image).__name__}: open the file first")
    rgb = image if isinstance(image, np.ndarray) else np.asarray(image.convert("RGB"))
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise MediaError(f"a picture of shape {rgb.shape} and type {rgb.dtype}: expected uint8 (height, width, 3)")
    return to_pixels(torch.from_numpy(prepare_picture(rgb, Preprocessing()))).contiguous()
