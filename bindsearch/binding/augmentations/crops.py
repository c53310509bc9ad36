"""Aligned crops: a box or a span is drawn once, and applied to both media of a pair, whatever their sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from bindsearch.errors import MediaError
from bindsearch.media import DepthMap, Frames, Motion, Picture, Sound, ThermalPicture
from bindsearch.types import Span

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bindsearch.binding.augmentations.options import SpatialOptions

Plane = TypeVar("Plane", Picture, Frames, ThermalPicture, DepthMap)
"""Media with rows and columns."""

Recording = TypeVar("Recording", Frames, Sound, Motion)
"""Media with times."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of a picture, in shares of its width and height.

    Attributes:
        left: Left edge, in 0..1.
        top: Upper edge, in 0..1.
        width: Width, in 0..1.
        height: Height, in 0..1.
        flip: Whether the cropped picture is mirrored left to right.
    """

    left: float = 0.0
    top: float = 0.0
    width: float = 1.0
    height: float = 1.0
    flip: bool = False


def crop_box(rng: np.random.Generator, options: SpatialOptions) -> Box:
    """Return a random box inside the picture.

    Area and ratio are those of torchvision's RandomResizedCrop; where it draws again because a box is too wide or too
    tall, the ratio is drawn among those that fit, so that each box takes the same number of draws.

    Args:
        rng: Source of all randomness.
        options: Smallest area, largest ratio, and probability of a flip.
    """
    area = rng.uniform(options.crop_scale, 1.0)
    width, height = random_sides(rng, area, options.crop_ratio)
    left, top, flip = rng.random(3)
    return Box(left * (1.0 - width), top * (1.0 - height), width, height, bool(flip < options.flip))


def random_sides(rng: np.random.Generator, area: float, ratio: float) -> tuple[float, float]:
    """Return width and height, as shares, of a rectangle of an area whose ratio is drawn from 1 / ratio to ratio.

    Args:
        rng: Source of all randomness.
        area: Area as a share, above 0, at most 1; with `area` <= width / height <= 1 / `area` both sides fit.
        ratio: Largest ratio of width to height, at least 1.
    """
    limit = min(math.log(ratio), -math.log(area))
    drawn = math.exp(rng.uniform(-1.0, 1.0) * limit)
    return min(1.0, math.sqrt(area * drawn)), min(1.0, math.sqrt(area / drawn))


def apply_box(media: Plane, box: Box, side_px: int | None = None) -> Plane:
    """Return the part of a picture in a box.

    Focal length and baseline of depth stay those of the file, in whose pixels the encoders compute disparity.

    Args:
        media: Picture, frames of video, thermal picture or depth map, of any size.
        box: The same for both media of a pair.
        side_px: Side in pixels of the square that the part is resized to, so that an encoder sees all of it; None: the
            pixels of the file. Colours and thermal values are averaged (antialiased, bilinear); depth is that of the
            nearest pixel, since a mean over an edge is the depth of nothing.

    Returns:
        A medium of the same kind with pixels of its own.

    Raises:
        MediaError: the picture has no pixels.
    """
    match media:
        case Picture():
            return replace(media, rgb=_resized(_cropped(media.rgb, box), side_px))
        case Frames():
            frames = [_resized(_cropped(rgb, box), side_px) for rgb in media.rgb]
            return replace(media, rgb=np.stack(frames)) if frames else media
        case ThermalPicture():
            return replace(media, values=_resized(_cropped(media.values, box), side_px))
        case DepthMap():
            depth, valid = _cropped(media.depth_m, box), _cropped(media.valid, box)
            if side_px is not None:
                middles = np.arange(side_px) + 0.5
                nearest = np.ix_(*((middles * (length / side_px)).astype(np.int64) for length in depth.shape))
                depth, valid = depth[nearest], valid[nearest]
            return replace(media, depth_m=depth, valid=valid)


def check_pixels(shape: tuple[int, ...]) -> None:
    """Raise MediaError for a picture without pixels."""
    if 0 in shape[:2]:
        raise MediaError(f"the picture has no pixels (height {shape[0]}, width {shape[1]})")


def _cropped(pixels: NDArray[Any], box: Box) -> NDArray[Any]:
    """Return a copy of the pixels (height, width[, 3]) in a box, at least one."""
    check_pixels(pixels.shape)
    height, width = pixels.shape[:2]
    part = pixels[_pixels(box.top, box.height, height), _pixels(box.left, box.width, width)]
    return np.array(part[:, ::-1] if box.flip else part, order="C")


def _pixels(start: float, length: float, count: int) -> slice:
    """Return the pixels of a range in shares, of `count`: at least one."""
    first = min(round(start * count), count - 1)
    return slice(first, max(first + 1, min(round((start + length) * count), count)))


def _resized(pixels: NDArray[Any], side_px: int | None) -> NDArray[Any]:
    """Return pixels (height, width[, 3]) resized to a square; None: as they are."""
    if side_px is None or pixels.shape[:2] == (side_px, side_px):
        return pixels
    from PIL import Image

    return np.array(Image.fromarray(pixels).resize((side_px, side_px), Image.Resampling.BILINEAR))


def crop_span(rng: np.random.Generator, duration_s: float, view_s: float) -> Span:
    """Return a random span of a recording; the whole one if it is shorter than a view.

    Args:
        rng: Source of all randomness.
        duration_s: Length of the recording in seconds; of a pair, that of the shorter one.
        view_s: Length of the span in seconds.
    """
    start_s = rng.random() * max(0.0, duration_s - view_s)
    return Span(start_s, min(start_s + view_s, max(duration_s, 0.0)))


def apply_span(media: Recording, span: Span) -> Recording:
    """Return the part of a recording in a span: at least one sample, or the frame next to the middle of the span.

    Args:
        media: Frames of video, sound or motion.
        span: The same for both media of a pair that were recorded at the same time.

    Raises:
        MediaError: the recording is empty.
    """
    match media:
        case Frames(rgb=rgb, times_s=times_s):
            if len(times_s) == 0:
                raise MediaError("the video has no frames: record it again, or leave it out")
            kept = np.flatnonzero((times_s >= span.start_s) & (times_s < span.end_s))
            if len(kept) == 0:
                kept = np.array([np.abs(times_s - (span.start_s + span.end_s) / 2).argmin()])
            return replace(media, rgb=rgb[kept], times_s=times_s[kept])
        case Sound() | Motion():
            count = len(media.samples)
            if count == 0:
                raise MediaError("the recording has no samples: record it again, or leave it out")
            first = min(max(0, round(span.start_s * media.sample_rate_hz)), count - 1)
            last = max(first + 1, round(span.end_s * media.sample_rate_hz))
            return replace(media, samples=media.samples[first:last].copy())
