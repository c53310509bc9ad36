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
from bindsearch.encoders.preprocessing.crops import square_crops, wide_parts
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

    from bindsearch.encoders.torch_runtime.picture_tower import PictureTower

PREPROCESSING_VERSION = 2
"""Version of the preprocessing code; increased when code, not weights or options, changes the vectors."""

FRAMES_PER_S = 1.0

_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_TOWER_OF = {Modality.TEXT: "text", Modality.IMAGE: "image", Modality.VIDEO: "image"}


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Preprocessing of pictures by the authors of a model, in the terms of open_clip.

    Attributes:
        size_px: Side of the square in pixels.
        mean: Mean of each colour in 0..1.
        std: Standard deviation of each colour in 0..1.
        interpolation: "bicubic" or "bilinear".
        resize_mode: "shortest", which crops to the middle square, or "squash", which changes the aspect ratio.
    """

    size_px: int
    mean: Sequence[float]
    std: Sequence[float]
    interpolation: str
    resize_mode: str


class OpenClipEncoder:
    """Encoder with the towers of a CLIP model; see `bindsearch.encoders.base.Encoder`.

    The frames of a video are embedded separately and averaged.
    """

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

    def __reduce__(self) -> tuple[Callable[[], OpenClipEncoder], tuple[()]]:
        """Recreate the encoder in another process; towers load there on first use."""
        return partial(OpenClipEncoder, self._manifest, runtime=self._runtime), ()

    @property
    def name(self) -> str:
        """Name of the model, such as "openclip:ViT-B-32/laion2b_s34b_b79k"."""
        return self._manifest.name

    @property
    def dim(self) -> int:
        """Dimension d of the embedding space of the model."""
        return int(self._config["embed_dim"])

    @cached_property
    def digest(self) -> str:
        """Digest of the published checkpoint and the architecture; conversions to other formats share its space."""
        architecture = json.dumps(self._config, sort_keys=True)
        return fingerprint_of(str(PREPROCESSING_VERSION), self._manifest.source_sha256, architecture)

    @property
    def options(self) -> Mapping[str, str | int | float | bool]:
        """Preprocessing options of the model's authors."""
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
        """Logit scales: learned and clipped at 100 for text, 1 for pictures."""
        return MappingProxyType({Modality(name): value for name, value in self._manifest.temperatures.items()})

    @property
    def wants(self) -> DecodeHints:
        """Pictures of the model's size, and one frame per second."""
        return DecodeHints(picture_side_px=self._preprocessing.size_px, frames_per_s=FRAMES_PER_S)

    @property
    def loaded_towers(self) -> frozenset[str]:
        """Names of the towers in memory: "image", "text"."""
        return self._towers.loaded

    @property
    def max_tokens(self) -> int:
        """Maximum number of tokens: 77, the window of CLIP."""
        return self._tokenizer.max_tokens

    def count_tokens(self, text: str) -> int:
        """Return the number of byte pairs of a text, plus the start and end tokens."""
        return self._tokenizer.count_tokens(text)

    def prepare(self, media: Media) -> NDArray[Any]:
        """Return tokens, int64 (1, length), or squares, uint8 (views, side, side, 3); thread-safe.

        There is a view for each frame of a video, and for each part of a wide picture.

        Raises:
            MediaError: the text is empty or too long, or the picture has no pixels.
            EncoderError: the model has no tower for that modality.
        """
        match media:
            case Passage(text=text):
                return self._tokenizer.tokenize(text)
            case Picture(rgb=rgb):
                return np.concatenate([self._squares(part) for part in wide_parts(rgb)])
            case Frames(rgb=frames):
                return np.concatenate([self._squares(frame) for frame in frames])
        raise EncoderError(f"{self.name} encodes text, images and video, not {MODALITY_OF[type(media)]}")

    def features(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return temperature-scaled features, averaged over the views of each of n media: float32 (n, d)."""
        if modality not in _TOWER_OF:
            raise EncoderError(f"{self.name} encodes text, images and video, not {modality}")
        views = [view for medium in prepared for view in medium]
        text = modality == Modality.TEXT
        raw = run_texts(self._towers, views) if text else self._towers.run("image", views, self._pixels)
        return mean_of_views(scale_features(l2_normalize(raw), self.temperatures[modality]), prepared)

    def encode(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Embed n prepared media of one modality: float32 (n, d), unit L2 norm."""
        return l2_normalize(self.features(modality, prepared))

    def picture_tower(self) -> PictureTower:
        """Return the image tower in fp32 as a module that can be trained; it is not shared with this encoder."""
        from bindsearch.encoders.torch_runtime.picture_tower import PictureTower, on_cpu

        return PictureTower(on_cpu(self._load), self._normalized, self.dim)

    @property
    def _tokenizer(self) -> ClipTokenizer:
        return clip_tokenizer()

    def _squares(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize and crop a picture (height, width, 3) for the model: uint8 (1, side, side, 3)."""
        side, resample = self._preprocessing.size_px, _RESAMPLING[self._preprocessing.interpolation]
        if self._preprocessing.resize_mode == "shortest":
            return square_crops(rgb, side, resample=resample)
        if 0 in rgb.shape:
            raise MediaError(f"the picture has no pixels (height {rgb.shape[0]}, width {rgb.shape[1]})")
        return np.asarray(Image.fromarray(rgb).resize((side, side), resample))[None]

    def _pixels(self, squares: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
        """Convert squares, uint8 (n, side, side, 3), to normalised pixels, float32 (n, 3, side, side)."""
        return self._normalized(on_device(squares, device))

    def _normalized(self, squares: torch.Tensor) -> torch.Tensor:
        """Return the pixels of squares, uint8 (n, side, side, 3), normalised: float32 (n, 3, side, side)."""
        import torch

        facts, device = self._preprocessing, squares.device
        mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (facts.mean, facts.std))
        return squares.permute(0, 3, 1, 2).float().div_(255).sub_(mean).div_(std)

    def _load(self, tower: str, device: torch.device) -> nn.Module:
        """Load a tower from the files of the installed model."""
        from bindsearch.encoders.openclip.networks import ImageTower, TextTower

        build = ImageTower if tower == "image" else TextTower
        return load_installed_tower(self._manifest, tower, lambda: build(self._config), device)
