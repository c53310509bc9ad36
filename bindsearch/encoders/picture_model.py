"""Encoder with a picture tower of an installed model: what those of open_clip and timm have in common."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from bindsearch.encoders.model_store.installed import ModelManifest, damaged_manifest
from bindsearch.encoders.preprocessing.crops import wide_parts
from bindsearch.encoders.preprocessing.picture_input import PictureInput
from bindsearch.encoders.torch_runtime.device import DEFAULT_RUNTIME, Runtime
from bindsearch.encoders.torch_runtime.towers import Towers, on_device
from bindsearch.hashing import fingerprint_of
from bindsearch.media import DecodeHints, Frames, Picture
from bindsearch.types import Modality
from bindsearch.vectors import l2_normalize

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

FRAMES_PER_S = 1.0
Options = Mapping[str, str | int | float | bool]


class PictureModelEncoder(ABC):
    """Part of an encoder for pictures and videos; see `bindsearch.encoders.base.Encoder`.

    The frames of a video are embedded separately and averaged.

    Attributes:
        preprocessing_version: Version of the preprocessing code; increased when code, not weights or options, changes
            the vectors.
    """

    preprocessing_version: ClassVar[int]

    def __init__(self, manifest: ModelManifest, *, runtime: Runtime = DEFAULT_RUNTIME) -> None:
        """Create the encoder of an installed model.

        Raises:
            EncoderError: the manifest is damaged.
        """
        self._manifest, self._runtime = manifest, runtime
        self.name = manifest.name
        try:
            self._config: Mapping[str, Any] = manifest.architecture["config"]
            self._input, fit = self._read_input(manifest.architecture["preprocess"])
            self.dim = int(self._config["embed_dim"])
            self.temperatures: Mapping[Modality, float] = MappingProxyType(
                {Modality(name): value for name, value in manifest.temperatures.items()}
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise damaged_manifest(manifest, error) from error
        self._towers = Towers(self._load, runtime)
        architecture = json.dumps(self._config, sort_keys=True)
        self.digest = fingerprint_of(str(self.preprocessing_version), manifest.source_sha256, architecture)
        height, width = self._input.height_px, self._input.width_px
        self.options: Mapping[str, str | int | float | bool] = {
            "picture_side_px": height if height == width else f"{height} x {width}",
            "interpolation": self._input.interpolation,
            "mean": " ".join(map(str, self._input.mean)),
            "std": " ".join(map(str, self._input.std)),
            "frames_per_s": FRAMES_PER_S,
            **fit,
        }
        self.wants = DecodeHints(picture_side_px=self._input.resized_px, frames_per_s=FRAMES_PER_S)

    def __reduce__(self) -> tuple[Callable[[], Self], tuple[()]]:
        """Recreate the encoder in another process; towers load there on first use."""
        return partial(type(self), self._manifest, runtime=self._runtime), ()

    @property
    def loaded_towers(self) -> frozenset[str]:
        """Names of the towers in memory."""
        return self._towers.loaded

    def encode(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Embed n prepared media of one modality: float32 (n, d), unit L2 norm."""
        return l2_normalize(self.features(modality, prepared))

    @abstractmethod
    def features(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return temperature-scaled features, averaged over the views of each of n media: float32 (n, d)."""

    @abstractmethod
    def _read_input(self, preprocess: Mapping[str, Any]) -> tuple[PictureInput, Options]:
        """Return the preprocessing of the manifest, and how pictures are fitted, as options of the library."""

    @abstractmethod
    def _load(self, tower: str, device: torch.device) -> nn.Module:
        """Load a tower from the files of the installed model."""

    def _prepare_pictures(self, media: Picture | Frames) -> NDArray[np.uint8]:
        """Return a view for each part of a wide picture or frame of a video: uint8 (views, height, width, 3)."""
        parts = wide_parts(media.rgb) if isinstance(media, Picture) else list(media.rgb)
        return np.concatenate([self._input.picture(part) for part in parts])

    def _picture_vectors(self, views: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embed n views: float32 (n, d), unit L2 norm."""
        return l2_normalize(self._towers.run("image", views, self._pixels))

    def _pixels(self, views: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
        """Convert views, uint8 (n, height, width, 3), to pixels, float32 (n, 3, height, width)."""
        return self._input.normalized(on_device(views, device))
