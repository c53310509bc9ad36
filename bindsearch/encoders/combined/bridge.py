"""Bridges: linear maps from the space of one encoder to that of another, fitted to what both embed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.encoders.model_store.installed import MANIFEST_FILE, ModelManifest, how_to_repair, tower_file
from bindsearch.errors import EncoderError
from bindsearch.types import Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

BRIDGE_TOWER = "bridge"
"""Name of the file of a bridge in the folder of its model."""

_MATRIX, _TARGET = "matrix", "target_mean"
_MEAN = "mean."


@dataclass(frozen=True)
class Bridge:
    """A linear map from one space to another.

    Attributes:
        matrix: float32 (d of the second encoder, d of the first).
        means: Mean vector of each modality in the second space, float32 (d,), which is subtracted: it is what the
            vectors of a modality have in common, and says nothing about their content.
        target_mean: Mean of the texts in the first space, float32 (d,), which is added.
        digest: Digest of the values.
    """

    matrix: NDArray[np.float32]
    means: Mapping[Modality, NDArray[np.float32]]
    target_mean: NDArray[np.float32]
    digest: str

    def map(self, modality: Modality, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return vectors of the second space (..., d) in the first: float32 (..., d), not of unit length.

        Of modalities without a mean of their own, that of texts is subtracted.
        """
        mean = self.means.get(modality, self.means[Modality.TEXT])
        return np.asarray((vectors - mean) @ self.matrix + self.target_mean, np.float32)


def bridge_tensors(bridge: Bridge) -> dict[str, NDArray[np.float32]]:
    """Return the arrays of a bridge by name, for its file."""
    means = {f"{_MEAN}{modality}": mean for modality, mean in bridge.means.items()}
    return {_MATRIX: bridge.matrix, _TARGET: bridge.target_mean, **means}


def load_bridge(manifest: ModelManifest, dims: tuple[int, int]) -> Bridge:
    """Load the bridge of an installed model.

    Args:
        manifest: Manifest of the model.
        dims: Dimensions of the first and the second encoder.

    Raises:
        EncoderError: the file is missing or damaged, or is a bridge between other spaces.
    """
    from bindsearch.encoders.torch_runtime.tensor_files import map_tensors

    tensors = {name: tensor.numpy() for name, tensor in map_tensors(tower_file(manifest, BRIDGE_TOWER)).items()}
    first, second = dims
    means = {name.removeprefix(_MEAN): array for name, array in tensors.items() if name.startswith(_MEAN)}
    shapes = [array.shape == (second,) for array in means.values()]
    fits = tensors.keys() >= {_MATRIX, _TARGET} and tensors[_MATRIX].shape == (second, first)
    if not (fits and tensors[_TARGET].shape == (first,) and all(shapes) and Modality.TEXT in means):
        raise EncoderError(
            f"the bridge of {manifest.name} is damaged ({MANIFEST_FILE}): {how_to_repair(manifest.name)}"
        )
    return Bridge(
        tensors[_MATRIX],
        {Modality(name): mean for name, mean in means.items() if name in list(Modality)},
        tensors[_TARGET],
        manifest.source_sha256,
    )
