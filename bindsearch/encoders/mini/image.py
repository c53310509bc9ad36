"""Image tower: features of EfficientNet-Lite0, mapped to the text space by texts about its classes.

Depth and thermal are embedded by it too, as grey pictures.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bindsearch.encoders.mini.class_prototypes import BANK_FILE, ClassMap, load_class_map, map_features
from bindsearch.encoders.mini.efficientnet import (
    CLASSES,
    GRID,
    PIXEL_MEAN,
    POOLING_LAYERS,
    SIDE_PX,
    build_network,
    read_weights,
)
from bindsearch.encoders.mini.weights import image_network_file
from bindsearch.encoders.torch_runtime.device import has_fast_bf16
from bindsearch.encoders.torch_runtime.threads import parallel_passes
from bindsearch.errors import EncoderError, MediaError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

DIM = 384
PICTURES_PER_PASS = 4
"""Pictures per pass of the network: their activations still fit into the cache of a core (measured)."""


def prepare_picture(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the middle square of a picture, resized to 224 pixels.

    The Hamming filter keeps edges sharper than the usual ones: the network was trained on pictures that were scaled
    without smoothing.

    Args:
        rgb: Picture, uint8 (height, width, 3).

    Returns:
        Square, uint8 (1, 224, 224, 3).

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
    small = square.resize((SIDE_PX, SIDE_PX), Image.Resampling.HAMMING, reducing_gap=3.0)
    return np.array(small, dtype=np.uint8)[None]


class _Loaded(NamedTuple):
    """Network up to pooled features, the map of these to the text space, and the threads that run passes."""

    network: torch.nn.Sequential
    class_map: ClassMap
    passes: ThreadPoolExecutor


class ImageTower:
    """Tower that maps prepared pictures to unit vectors of the text space; the network loads on first use."""

    def __init__(self, *, exclude_classes: frozenset[int] = frozenset(), bf16: bool | None = None) -> None:
        """Prepare for loading.

        Args:
            exclude_classes: ImageNet classes (0..999, in the order of their WordNet ids) whose texts and classifier
                weights are not used, to measure the tower on things without a class.
            bf16: Run the network in bfloat16; None: if the CPU multiplies bfloat16 in hardware.

        Raises:
            EncoderError: a class is out of range.
        """
        if not exclude_classes <= frozenset(range(CLASSES)):
            raise EncoderError(f"classes to exclude must be 0..{CLASSES - 1}, got {sorted(exclude_classes)}")
        self._exclude = exclude_classes
        self._bf16 = bf16
        self._lock = threading.Lock()
        self._loaded: _Loaded | None = None

    @property
    def files(self) -> tuple[Path, Path]:
        """Files of the network weights and of the class bank, which determine the vectors.

        Raises:
            EncoderError: the package of the weights is missing.
        """
        return image_network_file(), BANK_FILE

    def encode(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embed n prepared pictures, each uint8 (224, 224, 3): float32 (n, 384), unit L2 norm."""
        features = self._features(pictures, pooled=True)
        return self._mapped(features) if features else np.empty((0, DIM), dtype=np.float32)

    def locate(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embed the cells of the last feature map of n prepared pictures: float32 (n, 7, 7, 384), unit L2 norm.

        This is the class activation map (Zhou et al., CVPR 2016, arXiv 1512.04150): pooling and classifier are linear,
        so the logits of a picture are exactly the mean of those of its cells. The map to the text space, which is not
        linear, is applied to each cell.
        """
        cells = [part.permute(0, 2, 3, 1).flatten(0, 2) for part in self._features(pictures, pooled=False)]
        return self._mapped(cells).reshape(-1, *GRID, DIM) if cells else np.empty((0, *GRID, DIM), dtype=np.float32)

    def _load(self) -> _Loaded:
        """Return the network, loaded on first use."""
        import torch

        with self._lock:
            if self._loaded is None:
                weights = read_weights(self.files[0])
                bf16 = has_fast_bf16() if self._bf16 is None else self._bf16
                network = build_network(weights).to(torch.bfloat16 if bf16 else torch.float32)
                self._loaded = _Loaded(network, load_class_map(weights, self._exclude), parallel_passes())
            return self._loaded

    def _features(self, pictures: Sequence[NDArray[np.uint8]], *, pooled: bool) -> list[torch.Tensor]:
        """Run passes of the network over pictures: features, float32 (n, 1280); not pooled: (n, 1280, 7, 7)."""
        network, _, passes = self._load()
        run = partial(_run, network if pooled else network[:-POOLING_LAYERS])
        starts = range(0, len(pictures), PICTURES_PER_PASS)
        return list(passes.map(run, (pictures[start : start + PICTURES_PER_PASS] for start in starts)))

    def _mapped(self, features: list[torch.Tensor]) -> NDArray[np.float32]:
        """Map the features of all passes to unit vectors of the text space, float32 (n, 384)."""
        import torch

        _, class_map, passes = self._load()

        def run() -> NDArray[np.float32]:
            with torch.inference_mode():  # the mode applies to the current thread only
                vectors: NDArray[np.float32] = map_features(torch.cat(features), class_map).numpy()
            return vectors

        return passes.submit(run).result()


def _run(network: torch.nn.Sequential, pictures: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
    """Run one pass of a network over n pictures, uint8 (224, 224, 3)."""
    import torch

    # As a permuted view, pictures stay channels-last in memory, the fastest layout for the convolutions.
    pixels = torch.from_numpy(np.stack(pictures))
    with torch.inference_mode():
        centred = pixels.permute(0, 3, 1, 2).to(next(network.parameters()).dtype) - PIXEL_MEAN
        features: torch.Tensor = network(centred)
        return features.float()
