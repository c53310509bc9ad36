"""ImageBindEncoder: the published model as an encoder whose towers load separately on first use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from bindsearch.encoders.base import locating
from bindsearch.encoders.imagebind.config import IMU_SAMPLES
from bindsearch.encoders.imagebind.preprocessing import parse_preprocessing
from bindsearch.encoders.imagebind.preprocessing.audio import prepare_sound
from bindsearch.encoders.imagebind.preprocessing.depth import prepare_depth
from bindsearch.encoders.imagebind.preprocessing.image import (
    SIDE_PX,
    prepare_frames,
    prepare_thermal,
    to_frames,
    to_pixels,
)
from bindsearch.encoders.imagebind.preprocessing.imu import prepare_motion
from bindsearch.encoders.model_store.installed import FORMAT, ModelManifest, load_installed_tower
from bindsearch.encoders.model_store.source import HUGE_NAME
from bindsearch.encoders.preprocessing.clip_tokenizer import clip_tokenizer
from bindsearch.encoders.preprocessing.crops import square_crops, wide_parts
from bindsearch.encoders.torch_runtime.device import DEFAULT_RUNTIME, Runtime, compute_dtype, torch_dtype
from bindsearch.encoders.torch_runtime.towers import Towers, mean_of_views, on_device, run_texts
from bindsearch.hashing import fingerprint_of
from bindsearch.media import DecodeHints, DepthMap, Frames, Media, Motion, Passage, Picture, Sound, ThermalPicture
from bindsearch.types import Modality
from bindsearch.vectors import l2_normalize

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from bindsearch.encoders.torch_runtime.picture_tower import PictureTower

PREPROCESSING_VERSION = 2
"""Version of the preprocessing code; increased when code, not weights or options, changes the vectors."""

TOWER_OF: Mapping[Modality, str] = MappingProxyType(
    {**{modality: modality.value for modality in Modality}, Modality.VIDEO: "image"}
)
"""Name of the tower of each modality."""

LoadTower = Callable[[str, "torch.device"], "nn.Module"]


class ImageBindEncoder:
    """Encoder with the towers of ImageBind; see `bindsearch.encoders.base.Encoder`.

    Only model.json is read before a tower runs.
    """

    modalities = frozenset(TOWER_OF)
    locatable = frozenset({Modality.IMAGE, Modality.DEPTH, Modality.THERMAL})
    libraries: Mapping[Modality, tuple[str, ...]] = MappingProxyType(
        {
            **dict.fromkeys(Modality, ("torch", "safetensors")),
            Modality.AUDIO: ("torch", "safetensors", "torchaudio"),
            Modality.DEPTH: ("torch", "safetensors", "scipy.ndimage"),
            Modality.IMU: ("torch", "safetensors", "torchaudio"),
        }
    )

    def __init__(
        self,
        manifest: ModelManifest,
        *,
        options: Mapping[str, str | int | float | bool] | None = None,
        runtime: Runtime = DEFAULT_RUNTIME,
        load: LoadTower | None = None,
    ) -> None:
        """Create the encoder of a model.

        Args:
            manifest: Manifest of the installed model.
            options: Preprocessing options by name, see `Preprocessing`.
            runtime: Device and settings that towers run with.
            load: Returns a tower, ready to run on a device; None: read from the files of the installed model.

        Raises:
            UsageError: an option is unknown, is not a number, or is out of range.
        """
        self._manifest = manifest
        self._preprocessing = preprocessing = parse_preprocessing(options or {})
        self._load = load or self._load_file
        self._towers = Towers(self._load, runtime)
        self._make = partial(ImageBindEncoder, manifest, options=dict(options or {}), runtime=runtime, load=load)
        self.name, self.dim = manifest.name, int(manifest.architecture["out_embed_dim"])
        self.max_tokens, self.count_tokens = clip_tokenizer().max_tokens, clip_tokenizer().count_tokens
        self.digest = fingerprint_of(str(PREPROCESSING_VERSION), manifest.source_sha256)
        self.options: Mapping[str, str | int | float | bool] = asdict(preprocessing)
        # As published: audio 20, depth 5, thermal 10, IMU 5, text learned, vision 1.
        self.temperatures = {Modality(name): scale for name, scale in manifest.temperatures.items()}
        self.wants = DecodeHints(SIDE_PX, preprocessing.frames_per_s, motion_s=IMU_SAMPLES / preprocessing.imu_rate_hz)

    def __reduce__(self) -> tuple[Callable[[], ImageBindEncoder], tuple[()]]:
        """Recreate the encoder in another process; towers load there on first use."""
        return self._make, ()

    @property
    def loaded_towers(self) -> frozenset[str]:
        """Names of the towers in memory."""
        return self._towers.loaded

    def prepare(self, media: Media) -> NDArray[Any]:
        """Preprocess one medium to an array (views, ...); thread-safe.

        Raises:
            MediaError: the medium has no content to encode.
        """
        options = self._preprocessing
        match media:
            case Passage(text=text):
                return clip_tokenizer().tokenize(text)
            case Picture(rgb=rgb):
                parts = wide_parts(rgb) if options.spatial_crops == 1 else [rgb]
                return np.concatenate([square_crops(part, SIDE_PX, crops=options.spatial_crops) for part in parts])
            case Frames(rgb=rgb, times_s=times_s):
                return prepare_frames(rgb, times_s, options)
            case Sound(samples=samples, sample_rate_hz=rate_hz):
                return prepare_sound(samples, rate_hz, options)
            case DepthMap():
                return prepare_depth(media, options)
            case ThermalPicture(values=values):
                return prepare_thermal(values, options)
            case Motion(samples=motion, sample_rate_hz=motion_rate_hz):
                return prepare_motion(motion, motion_rate_hz, options)

    def features(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return temperature-scaled features of n prepared media, averaged over views as published: float32 (n, d)."""
        views = [view for medium in prepared for view in medium]
        if modality == Modality.TEXT:
            features = run_texts(self._towers, views)
        else:
            features = self._towers.run(TOWER_OF[modality], views, partial(to_input, modality))
        return mean_of_views(features, prepared)

    def encode(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Embed n prepared media of one modality: float32 (n, d), unit L2 norm."""
        return l2_normalize(self.features(modality, prepared))

    def locate(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Embed the patches of all views of prepared media: float32 (views, h, w, d), unit L2 norm.

        imagebind-huge has 16 x 16 patches of pictures, and 14 x 14 of depth maps and thermal pictures.

        Raises:
            UsageError: the modality is not one of `locatable`.
        """
        locating(self, modality)
        views = [view for medium in prepared for view in medium]
        return self._towers.run(TOWER_OF[modality], views, partial(to_input, modality), "locate")

    def picture_tower(self) -> PictureTower:
        """Return the image tower in fp32 as a module that can be trained; it is not shared with this encoder."""
        from bindsearch.encoders.torch_runtime.picture_tower import PictureTower

        return PictureTower(self._load, to_pixels, self.dim)

    def _load_file(self, tower: str, device: torch.device) -> nn.Module:
        """Load a tower from the files of the installed model."""
        from bindsearch.encoders.imagebind.config import make_config
        from bindsearch.encoders.imagebind.towers import build_tower

        config = make_config(**self._manifest.architecture)
        return load_installed_tower(self._manifest, tower, lambda: build_tower(tower, config), device)


def random_encoder(dtype: str, runtime: Runtime, *, seed: int = 0) -> ImageBindEncoder:
    """Return imagebind-huge with random weights, created when each tower loads; for speed measurements."""
    from bindsearch.encoders.imagebind.config import HUGE
    from bindsearch.encoders.imagebind.towers import TEMPERATURES

    def load(tower: str, device: torch.device) -> nn.Module:
        from bindsearch.encoders.imagebind.published_weights import random_tower

        number_format = compute_dtype(torch_dtype(dtype), device)
        return random_tower(tower, HUGE, number_format, device, seed=seed)

    temperatures = {"image": 1.0, "video": 1.0, **TEMPERATURES}
    source, digest = f"random weights, seed {seed}", f"random-{seed}"
    manifest = ModelManifest(
        FORMAT, HUGE_NAME, "imagebind", asdict(HUGE), dtype, source, digest, 0, "none", "", temperatures, files={}
    )
    return ImageBindEncoder(manifest, runtime=runtime, load=load)


def to_input(modality: Modality, views: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Convert prepared views (n, ...) of one modality to the input of its tower.

    Pixels are copied to the device as bytes and converted there, since floats have four times the size.
    """
    media = on_device(views, device)
    if modality == Modality.VIDEO:
        return to_frames(media)
    return to_pixels(media) if modality == Modality.IMAGE else media
