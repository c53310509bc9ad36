"""OpenClipEncoder: text, images and video in the space of a CLIP model of the open_clip library."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from bindsearch.encoders.model_store.installed import MANIFEST_FILE, ModelManifest, load_installed_tower
from bindsearch.encoders.preprocessing.clip_tokenizer import ClipTokenizer, clip_tokenizer
from bindsearch.encoders.preprocessing.crops import square_crops
from bindsearch.encoders.preprocessing.pooling import mean_of_views
from bindsearch.encoders.torch_runtime.device import Runtime
from bindsearch.encoders.torch_runtime.towers import Towers, on_device, run_texts
from bindsearch.errors import EncoderError, MediaError
from bindsearch.hashing import fingerprint_of
from bindsearch.media import MODALITY_OF, DecodeHints, Frames, Media, Passage, Picture
from bindsearch.types import Modality
from bindsearch.vectors import l2_normalize, scale_features

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

PREPROCESSING_VERSION = 1
"""Raised when code, not weights or options, changes what a vector means."""

FRAMES_PER_S = 1.0

_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_TOWER_OF = {Modality.TEXT: "text", Modality.IMAGE: "image", Modality.VIDEO: "image"}


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Preprocessing of pictures by a model's authors, in open_clip's words.

    `size_px`: of the square. `mean`, `std`: of each colour in 0..1. `interpolation`: "bicubic" or "bilinear".
    `resize_mode`: "shortest", which crops to the middle square, or "squash", which does not keep the aspect.
    """

    size_px: int
    mean: Sequence[float]
    std: Sequence[float]
    interpolation: str
    resize_mode: str


class OpenClipEncoder:
    """See `bindsearch.encoders.base.Encoder`. A video's frames are embedded one by one and averaged."""

    modalities = frozenset(_TOWER_OF)
    libraries: Mapping[Modality, tuple[str, ...]] = MappingProxyType(
        dict.fromkeys(_TOWER_OF, ("torch", "torchvision", "open_clip", "safetensors"))
    )

    def __init__(
        self,
        manifest: ModelManifest,
        *,
        runtime: Runtime = Runtime(),  # noqa: B008  (frozen)
    ) -> None:
        self._manifest = manifest
        try:
            self._config: Mapping[str, Any] = manifest.architecture["config"]
            self._preprocessing = Preprocessing(**manifest.architecture["preprocess"])
        except (KeyError, TypeError) as error:
            raise EncoderError(
                f"{MANIFEST_FILE} of {manifest.name} is damaged ({error}): "
                f"run `bindsearch model pull {manifest.name}` again"
            ) from error
        self._towers = Towers(self._load, runtime)
        self._runtime = runtime

    def __reduce__(self) -> tuple[Callable[[], OpenClipEncoder], tuple[()]]:
        """Made anew in another process: towers load there when they are needed."""
        return partial(OpenClipEncoder, self._manifest, runtime=self._runtime), ()

    @property
    def name(self) -> str:
        """Such as "openclip:ViT-B-32/laion2b_s34b_b79k"."""
        return self._manifest.name

    @property
    def dim(self) -> int:
        """d, as the model has it."""
        return int(self._config["embed_dim"])

    @cached_property
    def digest(self) -> str:
        """Over the published checkpoint and how it is read: conversions to other number formats share its space."""
        architecture = json.dumps(self._config, sort_keys=True)
        return fingerprint_of(str(PREPROCESSING_VERSION), self._manifest.source_sha256, architecture)

    @property
    def options(self) -> Mapping[str, str | int | float | bool]:
        """Preprocessing as the model's authors have it."""
        facts = self._preprocessing
        return {
            "picture_side_px": facts.size_px,
            "resize_mode": facts.resize_mode,
            "interpolation": facts.interpolation,
            "mean": " ".join(map(str, facts.mean)),
            "std": " ".join(map(str, facts.std)),
            "frames_per_s": FRAMES_PER_S,
        }

    @cached_property
    def temperatures(self) -> Mapping[Modality, float]:
        """Text: learned and clipped at 100; pictures: 1."""
        return MappingProxyType({Modality(name): value for name, value in self._manifest.temperatures.items()})

    @property
    def wants(self) -> DecodeHints:
        """Pictures of the model's size, a frame a second."""
        return DecodeHints(picture_side_px=self._preprocessing.size_px, frames_per_s=FRAMES_PER_S)

    @property
    def loaded_towers(self) -> frozenset[str]:
        """Names of the towers in memory: "image", "text"."""
        return self._towers.loaded

    @property
    def max_tokens(self) -> int:
        """77, as CLIP was trained."""
        return self._tokenizer.max_tokens

    def count_tokens(self, text: str) -> int:
        """Byte pairs of `text`, with the start and end tokens."""
        return self._tokenizer.count_tokens(text)

    def prepare(self, media: Media) -> NDArray[Any]:
        """Tokens int64 (1, length), or squares uint8 (views, side, side, 3), one a frame. Thread-safe.

        Raises:
            MediaError: the text is empty or too long, or the picture has no pixels.
            EncoderError: the model has no tower for that modality.
        """
        match media:
            case Passage(text=text):
                return self._tokenizer.tokenize(text)
            case Picture(rgb=rgb):
                return self._squares(rgb)
            case Frames(rgb=frames):
                return np.concatenate([self._squares(frame) for frame in frames])
        raise EncoderError(f"{self.name} encodes text, images and video, not {MODALITY_OF[type(media)]}")

    def features(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Temperature-scaled features averaged over the views of each of n media: float32 (n, d)."""
        if modality not in _TOWER_OF:
            raise EncoderError(f"{self.name} encodes text, images and video, not {modality}")
        views = [view for medium in prepared for view in medium]
        text = modality == Modality.TEXT
        raw = run_texts(self._towers, views) if text else self._towers.run("image", views, self._pixels)
        return mean_of_views(scale_features(l2_normalize(raw), self.temperatures[modality]), prepared)

    def encode(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Embed n prepared media of one modality: float32 (n, d), unit L2 norm."""
        return l2_normalize(self.features(modality, prepared))

    @property
    def _tokenizer(self) -> ClipTokenizer:
        return clip_tokenizer()

    def _squares(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """One picture (height, width, 3) as the model takes it: uint8 (1, side, side, 3)."""
        side, resample = self._preprocessing.size_px, _RESAMPLING[self._preprocessing.interpolation]
        if self._preprocessing.resize_mode == "shortest":
            return square_crops(rgb, side, resample=resample)
        if 0 in rgb.shape:
            raise MediaError(f"the picture has no pixels (height {rgb.shape[0]}, width {rgb.shape[1]})")
        return np.asarray(Image.fromarray(rgb).resize((side, side), resample))[None]

    def _pixels(self, squares: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
        """Squares uint8 (n, side, side, 3) to normalised float32 (n, 3, side, side)."""
        import torch

        facts = self._preprocessing
        mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (facts.mean, facts.std))
        pixels = on_device(squares, device).permute(0, 3, 1, 2).float().div_(255)
        return pixels.sub_(mean).div_(std)

    def _load(self, tower: str, device: torch.device) -> nn.Module:
        from bindsearch.encoders.openclip.networks import ImageTower, TextTower

        build = ImageTower if tower == "image" else TextTower
        return load_installed_tower(self._manifest, tower, lambda: build(self._config), device)
