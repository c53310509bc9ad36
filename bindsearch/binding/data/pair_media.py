"""Media of pairs: decoded once as indexing does, kept as arrays on disk, cropped alike on both sides."""

from __future__ import annotations

import json
import math
import threading
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bindsearch.binding.augmentations.crops import Box, apply_box, apply_span, crop_box, crop_span
from bindsearch.binding.augmentations.options import Options, SpatialOptions
from bindsearch.binding.data.array_files import read_arrays, write_arrays
from bindsearch.binding.training.training_step import seed_of
from bindsearch.errors import MediaError
from bindsearch.hashing import fingerprint_of, hash_file
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.media import (
    MODALITY_OF,
    NO_CONTENT,
    DecodeHints,
    DepthMap,
    Frames,
    Media,
    Motion,
    Picture,
    Sound,
    ThermalPicture,
    missing_content,
)
from bindsearch.operations.segment_media import Place, read_segment
from bindsearch.small_files import NOT_REGULAR, is_not_regular
from bindsearch.types import Modality, Span

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST_SIDE_PX = 512
"""Longer side of pictures that are kept; larger ones are averaged down by whole factors."""

KEPT_BYTES = 512 << 20
"""Memory for decoded media."""

RECORDING_S = 30.0
"""Most seconds of a recording that are read where the table gives no span."""

VIEW_S = {Modality.AUDIO: 2.0, Modality.IMU: 5.0}
"""Seconds of a crop of recordings: a view of ImageBind's towers."""

_CLASSES: dict[str, type[Any]] = {kind.__name__: kind for kind in MODALITY_OF}

Crop = Box | Span | None
"""Part of both files of a pair: a box of pictures, a span of recordings, or None: the whole."""


def read_pair_media(path: Path, modality: Modality, span: Span | None, hints: DecodeHints) -> Media:
    """Return one file's medium, decoded with its sidecar and the settings of its folder.

    Raises:
        MediaError: the file is gone, is damaged, or has no content to embed.
    """
    options = DecodeOptions()
    if span is None:
        options = replace(options, audio_segment_s=RECORDING_S, video_segment_s=RECORDING_S, imu_segment_s=RECORDING_S)
    start_s, end_s = (None, None) if span is None else (span.start_s, span.end_s)
    media = read_segment(Place(path, path.parent, modality, start_s, end_s), options, hints).media
    if isinstance(media, Frames) and span is not None:
        media = replace(media, times_s=media.times_s - span.start_s)  # counted as in sound and motion of a span
    check_content(media)
    return media


def check_content(media: Media) -> None:
    """Raise MediaError if a medium has nothing that could be found."""
    if (reason := missing_content(media)) is not None:
        raise MediaError(f"{NO_CONTENT}{reason}")


@dataclass(frozen=True)
class MediaCache:
    """Decoded media on disk, a file for each; two processes may share it. The first ones are also kept in memory.

    Attributes:
        folder: Folder of the cache.
        hints: Sizes and rates that decoders deliver.
        kept: Media in memory by the name of their entry.
    """

    folder: Path
    hints: DecodeHints
    kept: KeptMedia = field(default_factory=lambda: KeptMedia())

    def key(self, path: Path, modality: Modality, span: Span | None) -> str:
        """Return the name of the entry of a file, which depends on its content.

        Raises:
            MediaError: the file cannot be read.
        """
        try:
            digest = hash_file(path)
        except OSError as error:
            raise MediaError(NOT_REGULAR if is_not_regular(error) else str(error.strerror or error)) from error
        return fingerprint_of(digest, path.name, modality, repr(span), repr(self.hints))

    def get(self, path: Path, modality: Modality, span: Span | None, key: str) -> Media:
        """Return a medium, decoded if it is not in the cache yet.

        Raises:
            MediaError: as for `read_pair_media`.
        """
        if (kept := self.kept.get(key)) is not None:
            return kept
        entry = self.folder / key[:2] / f"{key}.safetensors"
        if (found := _read(entry)) is not None:
            return self.kept.add(key, found)
        media = _smaller(read_pair_media(path, modality, span, self.hints))
        arrays = _arrays(media)
        others = {field.name: getattr(media, field.name) for field in fields(media) if field.name not in arrays}
        write_arrays(entry, arrays, {"kind": type(media).__name__, "others": json.dumps(others)})
        return self.kept.add(key, media)


class KeptMedia:
    """Media in memory, up to KEPT_BYTES; later ones are not kept: each is drawn as often as every other one."""

    def __init__(self) -> None:
        self._media: dict[str, Media] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: str) -> Media | None:
        """Return a medium that is kept."""
        return self._media.get(key)

    def add(self, key: str, media: Media) -> Media:
        """Keep a medium if there is room, and return it."""
        size = sum(value.nbytes for value in _arrays(media).values())
        with self._lock:
            if key not in self._media and self._bytes + size <= KEPT_BYTES:
                self._media[key] = media
                self._bytes += size
        return media


def _arrays(media: Media) -> dict[str, NDArray[Any]]:
    """Return the fields of a medium that are arrays."""
    values = {field.name: getattr(media, field.name) for field in fields(media)}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def _read(entry: Path) -> Media | None:
    """Return the medium of an entry of the cache; None: it is missing or damaged."""
    found = read_arrays(entry)
    if found is None:
        return None
    arrays, facts = found
    try:
        media: Media = _CLASSES[facts["kind"]](**arrays, **json.loads(facts["others"]))
    except (KeyError, TypeError, ValueError):
        return None
    return media


def _smaller(media: Media) -> Media:
    """Return a picture whose longer side is at most LARGEST_SIDE_PX; other media as they are."""
    if not isinstance(media, Picture | ThermalPicture | DepthMap):
        return media
    height, width = next(iter(_arrays(media).values())).shape[:2]
    step = -(-max(height, width) // LARGEST_SIDE_PX)
    if step == 1:
        return media
    from PIL import Image

    match media:
        case Picture(rgb=rgb):
            return Picture(np.array(Image.fromarray(rgb).reduce(step)))
        case ThermalPicture(values=values):
            return ThermalPicture(np.array(Image.fromarray(values).reduce(step)))
    # The nearest pixel: a mean over an edge is the depth of nothing.
    kept = (slice(step // 2, None, step),) * 2
    return replace(media, depth_m=media.depth_m[kept], valid=media.valid[kept])


def duration_of(media: Media) -> float:
    """Return the length of a recording in seconds; infinity for what has none, such as a picture."""
    match media:
        case Sound() | Motion():
            return len(media.samples) / media.sample_rate_hz
        case Frames(times_s=times_s) if len(times_s) > 1:
            return float(times_s[-1] + (times_s[-1] - times_s[0]) / (len(times_s) - 1))
    return math.inf


def draw_crop(group: int, number: int, duration_s: float, modality: Modality, options: Options, seed: int) -> Crop:
    """Return a crop of a file of the hub and of all files that belong to it, which depends on the arguments alone.

    Args:
        group: Number of the hub's file.
        number: Number of the crop.
        duration_s: Length of the shortest of these files in seconds; infinity: none has a length.
        modality: The new modality.
        options: Bounds of crops of pictures.
        seed: Seed of the run.
    """
    rng = np.random.default_rng(seed_of(seed, group, number))
    if isinstance(options, SpatialOptions):
        return crop_box(rng, options)
    if modality in VIEW_S and math.isfinite(duration_s):
        return crop_span(rng, duration_s, VIEW_S[modality])
    return None


def crop_media(media: Media, crop: Crop) -> Media:
    """Return the part of a medium in a crop; what has no such parts, such as a text, is returned whole."""
    part: Any = media
    match media, crop:
        case Picture() | Frames() | ThermalPicture() | DepthMap(), Box():
            part = apply_box(part, crop)
        case Frames() | Sound() | Motion(), Span():
            part = apply_span(part, crop)
    return cast("Media", part)
