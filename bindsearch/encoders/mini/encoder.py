"""MiniEncoder: small towers that share the text space of all-MiniLM-L6-v2."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from bindsearch.encoders.base import locating
from bindsearch.encoders.mini.weights import weight_files
from bindsearch.encoders.torch_runtime.device import has_fast_bf16
from bindsearch.encoders.torch_runtime.threads import parallel_passes, single_threaded
from bindsearch.errors import MediaError
from bindsearch.hashing import fingerprint_of, hash_file
from bindsearch.media import DecodeHints, Frames, Media, Motion, Passage, Picture, Sound
from bindsearch.types import Modality
from bindsearch.vectors import l2_normalize, scale_features

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bindsearch.encoders.mini.audio import AudioTower
    from bindsearch.encoders.mini.image import ImageTower
    from bindsearch.encoders.mini.imu import ImuTower
    from bindsearch.encoders.mini.picture_tower import MiniPictureTower
    from bindsearch.encoders.mini.text import TextTower

PREPROCESSING_VERSION = 3
"""Version of the code; increased when code (preprocessing, a network, a formula), not weights, changes the vectors."""

PICTURE_SIDE_PX = 224
VIEWS_PER_PASS = 16
"""Views of motion per pass of its tower; the image tower has its own number."""

_LOCATABLE = frozenset({Modality.IMAGE, Modality.DEPTH, Modality.THERMAL})
_PICTURE_LIKE = _LOCATABLE | {Modality.VIDEO}


class MiniEncoder:
    """Encoder with small towers; see `bindsearch.encoders.base.Encoder`.

    Depth and thermal are rendered as grey pictures, which is ImageBind's baseline.
    """

    name = "mini"
    dim = 384
    libraries: Mapping[Modality, tuple[str, ...]] = MappingProxyType(
        {
            **dict.fromkeys(Modality, ("torch", "safetensors")),
            Modality.TEXT: ("tokenizers",),
            Modality.AUDIO: ("torch", "safetensors", "torchaudio"),
            Modality.IMU: ("torch", "safetensors", "torchaudio"),
        }
    )
    wants = DecodeHints(picture_side_px=PICTURE_SIDE_PX, frames_per_s=1.0)
    options: Mapping[str, str | int | float | bool] = MappingProxyType(
        {"picture_side_px": PICTURE_SIDE_PX, "frames_per_s": wants.frames_per_s}
    )
    # ImageBind's published values (text: learned, clipped at 100). They scale softmaxes, not directions.
    temperatures: Mapping[Modality, float] = MappingProxyType(
        {Modality.TEXT: 100.0, Modality.IMAGE: 1.0, Modality.VIDEO: 1.0, Modality.AUDIO: 20.0}
        | {Modality.DEPTH: 5.0, Modality.THERMAL: 10.0, Modality.IMU: 5.0}
    )
    modalities = frozenset(temperatures)
    locatable = _LOCATABLE

    def __init__(self, *, exclude_classes: frozenset[int] = frozenset()) -> None:
        self._exclude_classes = exclude_classes
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Callable[[], MiniEncoder], tuple[()]]:
        """Recreate the encoder in another process; towers load there on first use."""
        return partial(MiniEncoder, exclude_classes=self._exclude_classes), ()

    @cached_property
    def digest(self) -> str:
        """Digest of the weight files of all towers, of PREPROCESSING_VERSION and of the excluded classes.

        Raises:
            EncoderError: a file is missing.
        """
        classes = repr(sorted(self._exclude_classes))
        return fingerprint_of(str(PREPROCESSING_VERSION), classes, *map(hash_file, weight_files()))

    @property
    def max_tokens(self) -> int:
        """Maximum number of tokens: 256, the window that all-MiniLM-L6-v2 was trained with."""
        return self._text.max_tokens

    def dtype(self, modality: Modality) -> str:
        """Return the number format that the tower of a modality multiplies in: "fp32" or "bf16"."""
        return "bf16" if modality in _PICTURE_LIKE and has_fast_bf16() else "fp32"

    def count_tokens(self, text: str) -> int:
        """Return the number of word pieces of a text, plus the two special tokens."""
        return self._text.count_tokens(text)

    def prepare(self, media: Media) -> NDArray[Any]:
        """Preprocess one medium to an array (views, ...); thread-safe.

        Raises:
            MediaError: the medium has no content to encode.
        """
        match media:
            case Sound(samples=samples, sample_rate_hz=rate_hz):
                from bindsearch.encoders.mini.audio import prepare_sound

                with single_threaded():
                    return prepare_sound(samples, rate_hz)
            case Motion(samples=motion, sample_rate_hz=motion_rate_hz):
                from bindsearch.encoders.mini.imu import prepare_motion

                with single_threaded():
                    return prepare_motion(motion, motion_rate_hz)
            case Passage(text=text):
                if not text.strip():
                    raise MediaError("the text is empty: write at least one word")
                return self._text.tokenize(text)
        from bindsearch.encoders.mini.image import prepare_picture
        from bindsearch.encoders.preprocessing.crops import as_picture, wide_parts

        match media:
            case Picture(rgb=rgb):
                return np.concatenate([prepare_picture(part) for part in wide_parts(rgb)])
            case Frames(rgb=frames):
                return np.concatenate([prepare_picture(frame) for frame in frames])
        return prepare_picture(as_picture(media).rgb)

    def features(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return the vectors of `encode`, scaled by the temperature of the modality: float32 (n, 384)."""
        return scale_features(self.encode(modality, prepared), self.temperatures[modality])

    def encode(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Embed n prepared media of one modality: float32 (n, 384), unit L2 norm; one call at a time runs."""
        with self._lock:
            if modality is Modality.TEXT:
                return self._text.encode(prepared)
            from bindsearch.encoders.torch_runtime.towers import mean_of_views

            if modality in _PICTURE_LIKE:
                embedded = self._image.encode([picture for views in prepared for picture in views])
            elif modality is Modality.AUDIO:
                pieces = [piece for views in prepared for piece in views]  # of different lengths: one a pass
                embedded = np.stack(list(self._passes.map(self._audio.encode, pieces)))
            else:
                views = np.concatenate(list(prepared))
                groups = [views[start : start + VIEWS_PER_PASS] for start in range(0, len(views), VIEWS_PER_PASS)]
                embedded = np.concatenate(list(self._passes.map(self._imu.encode, groups)))
            return l2_normalize(mean_of_views(embedded, prepared))

    def locate(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Embed the cells of a grid of 7 x 7 over each prepared view: float32 (views, 7, 7, 384), unit L2 norm.

        Raises:
            UsageError: the modality is not of pictures.
        """
        locating(self, modality)
        with self._lock:
            return self._image.locate([picture for views in prepared for picture in views])

    def relevance_scale(self, source: Modality, target: Modality) -> float:
        """Return what cosines are multiplied by for the relevance of a part of a medium; docs/locate.md has figures."""
        if target in _PICTURE_LIKE and source is Modality.AUDIO:
            return 20.0
        return 15.0 if target in _PICTURE_LIKE and source in _PICTURE_LIKE else 10.0

    def picture_tower(self) -> MiniPictureTower:
        """Return the image tower as a module that can be trained; it is not shared with this encoder."""
        from bindsearch.encoders.mini.picture_tower import MiniPictureTower

        return MiniPictureTower()

    @cached_property
    def _passes(self) -> ThreadPoolExecutor:
        return parallel_passes()

    @cached_property
    def _text(self) -> TextTower:
        from bindsearch.encoders.mini.text import TextTower

        return TextTower()

    @cached_property
    def _image(self) -> ImageTower:
        from bindsearch.encoders.mini.image import ImageTower

        return ImageTower(exclude_classes=self._exclude_classes)

    @cached_property
    def _audio(self) -> AudioTower:
        from bindsearch.encoders.mini.audio import AudioTower

        return AudioTower()

    @cached_property
    def _imu(self) -> ImuTower:
        from bindsearch.encoders.mini.imu import ImuTower

        return ImuTower()
