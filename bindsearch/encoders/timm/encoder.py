"""TimmEncoder: images and video in the space of an image model of the timm library; it embeds no text."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from bindsearch.encoders.model_store.installed import MANIFEST_FILE, ModelManifest, load_installed_tower
from bindsearch.encoders.preprocessing.crops import square_crops, wide_parts
from bindsearch.encoders.preprocessing.pooling import mean_of_views
from bindsearch.encoders.torch_runtime.device import Runtime
from bindsearch.encoders.torch_runtime.towers import Towers, on_device
from bindsearch.errors import EncoderError, MediaError
from bindsearch.hashing import fingerprint_of
from bindsearch.media import MODALITY_OF, DecodeHints, Frames, Media, Picture
from bindsearch.types import Modality
from bindsearch.vectors import l2_normalize

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

PREPROCESSING_VERSION = 1
"""Version of the preprocessing code; increased when code, not weights or options, changes the vectors."""

FRAMES_PER_S = 1.0

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_MODALITIES = (Modality.IMAGE, Modality.VIDEO)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Preprocessing of pictures for evaluation, in the terms of timm.

    Attributes:
        size_px: Side of the square in pixels.
        crop_pct: That side as a share of what the picture is resized to before it is cropped.
        crop_mode: "center": the shorter side is resized; "squash": both are.
        mean: Mean of each colour in 0..1.
        std: Standard deviation of each colour in 0..1.
        interpolation: "nearest", "bilinear", "bicubic" or "lanczos".
    """

    size_px: int
    crop_pct: float
    crop_mode: str
    mean: Sequence[float]
    std: Sequence[float]
    interpolation: str

    @property
    def resized_px(self) -> int:
        """Side that a picture is resized to before it is cropped, rounded down like in timm."""
        return math.floor(self.size_px / self.crop_pct)


class TimmEncoder:
    """Encoder with an image model of timm; see `bindsearch.encoders.base.Encoder`.

    The frames of a video are embedded separately and averaged.
    """

    modalities = frozenset(_MODALITIES)
    libraries: Mapping[Modality, tuple[str, ...]] = MappingProxyType(
        dict.fromkeys(_MODALITIES, ("torch", "torchvision", "timm", "safetensors"))
    )

    max_tokens = 0
    """There is no text tower."""

    def __init__(
        self,
        manifest: ModelManifest,
        *,
        runtime: Runtime = Runtime(),  # noqa: B008  (frozen)
    ) -> None:
        """Create the encoder of an installed model.

        Raises:
            EncoderError: the manifest is damaged.
        """
        self._manifest = manifest
        try:
            self._config: Mapping[str, Any] = manifest.architecture["config"]
            self._preprocessing = Preprocessing(**manifest.architecture["preprocess"])
        except (KeyError, TypeError) as error:
            raise EncoderError(
                f"{MANIFEST_FILE} of {manifest.name} is damaged ({error}): "
                f"`bindsearch model pull {manifest.name}` downloads it again"
            ) from error
        self._towers = Towers(self._load, runtime)
        self._runtime = runtime

    def __reduce__(self) -> tuple[Callable[[], TimmEncoder], tuple[()]]:
        """Recreate the encoder in another process; the tower loads there on first use."""
        return partial(TimmEncoder, self._manifest, runtime=self._runtime), ()

    @property
    def name(self) -> str:
        """Name of the model, such as "timm:vit_small_patch16_224.dino"."""
        return self._manifest.name

    @property
    def dim(self) -> int:
        """Dimension d of the features of the model."""
        return int(self._config["embed_dim"])

    @cached_property
    def digest(self) -> str:
        """Digest of the checkpoint and the architecture; conversions to other formats share its space."""
        architecture = json.dumps(self._config, sort_keys=True)
        return fingerprint_of(str(PREPROCESSING_VERSION), self._manifest.source_sha256, architecture)

    @property
    def options(self) -> Mapping[str, str | int | float | bool]:
        """Preprocessing options of the model's authors."""
        facts = self._preprocessing
        return {
            "picture_side_px": facts.size_px,
            "crop_pct": facts.crop_pct,
            "crop_mode": facts.crop_mode,
            "interpolation": facts.interpolation,
            "mean": " ".join(map(str, facts.mean)),
            "std": " ".join(map(str, facts.std)),
            "frames_per_s": FRAMES_PER_S,
        }

    @cached_property
    def temperatures(self) -> Mapping[Modality, float]:
        """Logit scales: 1, since the model was trained without one."""
        return MappingProxyType({Modality(name): value for name, value in self._manifest.temperatures.items()})

    @property
    def wants(self) -> DecodeHints:
        """Pictures of the size that they are resized to, and one frame per second."""
        return DecodeHints(picture_side_px=self._preprocessing.resized_px, frames_per_s=FRAMES_PER_S)

    @property
    def loaded_towers(self) -> frozenset[str]:
        """Names of the towers in memory: "image"."""
        return self._towers.loaded

    def count_tokens(self, text: str) -> int:  # noqa: ARG002  (of the protocol)
        """Raise EncoderError: there is no text tower."""
        raise self._refusal(Modality.TEXT)

    def prepare(self, media: Media) -> NDArray[Any]:
        """Return squares, uint8 (views, side, side, 3); thread-safe.

        There is a view for each frame of a video, and for each part of a wide picture.

        Raises:
            MediaError: the picture has no pixels.
            EncoderError: the model has no tower for that modality.
        """
        match media:
            case Picture(rgb=rgb):
                return np.concatenate([self._squares(part) for part in wide_parts(rgb)])
            case Frames(rgb=frames):
                return np.concatenate([self._squares(frame) for frame in frames])
        raise self._refusal(MODALITY_OF[type(media)])

    def features(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return unit vectors averaged over the views of each of n media: float32 (n, d)."""
        if modality not in _MODALITIES:
            raise self._refusal(modality)
        views = [view for medium in prepared for view in medium]
        return mean_of_views(l2_normalize(self._towers.run("image", views, self._pixels)), prepared)

    def encode(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Embed n prepared media of one modality: float32 (n, d), unit L2 norm."""
        return l2_normalize(self.features(modality, prepared))

    def _refusal(self, modality: Modality) -> EncoderError:
        """Return the error for a modality without a tower."""
        return EncoderError(f"{self.name} has no {modality} tower: it encodes images and video")

    def _squares(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize and crop a picture (height, width, 3) for the model: uint8 (1, side, side, 3)."""
        facts = self._preprocessing
        resample = _RESAMPLING[facts.interpolation]
        if 0 in rgb.shape:
            raise MediaError(f"the picture has no pixels (height {rgb.shape[0]}, width {rgb.shape[1]})")
        if facts.crop_mode == "squash":
            rgb = np.asarray(Image.fromarray(rgb).resize((facts.resized_px, facts.resized_px), resample))
        return square_crops(rgb, facts.size_px, resized_px=facts.resized_px, resample=resample)

    def _pixels(self, squares: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
        """Convert squares, uint8 (n, side, side, 3), to normalised pixels, float32 (n, 3, side, side)."""
        import torch

        facts = self._preprocessing
        mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (facts.mean, facts.std))
        pixels = on_device(squares, device).permute(0, 3, 1, 2).float().div_(255)
        return pixels.sub_(mean).div_(std)

    def _load(self, tower: str, device: torch.device) -> nn.Module:
        """Load the tower from the file of the installed model."""
        from bindsearch.encoders.timm.networks import ImageTower, fill_tables

        build = partial(ImageTower, self._config)
        loaded = load_installed_tower(self._manifest, tower, build, device)
        fill_tables(loaded, build, device)
        return loaded
