"""TimmEncoder: images and video in the space of an image model of the timm library; it embeds no text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from bindsearch.encoders.model_store.installed import load_installed_tower
from bindsearch.encoders.picture_model import Options, PictureModelEncoder
from bindsearch.encoders.preprocessing.picture_input import PictureInput
from bindsearch.encoders.torch_runtime.towers import mean_of_views
from bindsearch.errors import EncoderError
from bindsearch.media import MODALITY_OF, Frames, Media, Picture
from bindsearch.types import Modality

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

_MODALITIES = (Modality.IMAGE, Modality.VIDEO)
_FITS = {"center": "shortest", "squash": "squash"}


class TimmEncoder(PictureModelEncoder):
    """Encoder with an image model of timm; see `bindsearch.encoders.base.Encoder`."""

    preprocessing_version = 1
    modalities = frozenset(_MODALITIES)
    libraries: Mapping[Modality, tuple[str, ...]] = MappingProxyType(
        dict.fromkeys(_MODALITIES, ("torch", "torchvision", "timm", "safetensors"))
    )
    max_tokens = 0

    def count_tokens(self, text: str) -> int:  # noqa: ARG002  (of the protocol)
        """Raise EncoderError: there is no text tower."""
        raise self._refusal(Modality.TEXT)

    def prepare(self, media: Media) -> NDArray[Any]:
        """Return pictures, uint8 (views, side, side, 3); thread-safe.

        There is a view for each frame of a video, and for each part of a wide picture.

        Raises:
            MediaError: the picture has no pixels.
            EncoderError: the model has no tower for that modality.
        """
        if isinstance(media, Picture | Frames):
            return self._prepare_pictures(media)
        raise self._refusal(MODALITY_OF[type(media)])

    def features(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return unit vectors averaged over the views of each of n media: float32 (n, d)."""
        if modality not in _MODALITIES:
            raise self._refusal(modality)
        return mean_of_views(self._picture_vectors([view for medium in prepared for view in medium]), prepared)

    def _refusal(self, modality: Modality) -> EncoderError:
        return EncoderError(f"{self.name} has no {modality} tower: it encodes images and video")

    def _read_input(self, preprocess: Mapping[str, Any]) -> tuple[PictureInput, Options]:
        facts = dict(preprocess)
        side, mode = facts.pop("size_px"), facts.pop("crop_mode")
        found = PictureInput(height_px=side, width_px=side, fit=_FITS[mode], **facts)
        return found, {"crop_pct": found.crop_pct, "crop_mode": mode}

    def _load(self, tower: str, device: torch.device) -> nn.Module:
        """Load the tower from the file of the installed model."""
        from bindsearch.encoders.timm.networks import ImageTower

        return load_installed_tower(self._manifest, tower, partial(ImageTower, self._config), device)
