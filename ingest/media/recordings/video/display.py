"""Display of the frames of a video: turned, flipped, with pixels that are not square."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bindsearch.ingest.media.recordings.matroska import turned_tracks
from bindsearch.ingest.media.recordings.mp4 import rotated_tracks

if TYPE_CHECKING:
    from av.video.stream import VideoStream

UPRIGHT = (1, 0, 0, 1)
"""The display matrix of frames that are shown as they are coded."""

Matrix = tuple[int, int, int, int]
"""Signs (a, b, c, d) of a display matrix: a pixel at (x, y) is shown at (a x + c y, b x + d y)."""


def display_matrix(frame: Any) -> Matrix:
    """Return the nearest of the eight orientations to a frame's display matrix; `UPRIGHT` if it has none.

    The matrix a b u c d v x y w is that of ISO 14496-12, 8.3.2. FFmpeg gives it for every container, and for the
    display orientation in H.264 and H.265. Its angle alone does not distinguish turned from flipped frames.
    """
    entry = frame.side_data.get("DISPLAYMATRIX")
    if entry is None or len(content := bytes(entry)) < 20:
        return UPRIGHT
    a, b, _, c, d = np.frombuffer(content[:20], "=i4").astype(int).tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        return (0, 1 if b > 0 else -1, 1 if c > 0 else -1, 0)
    return (-1 if a < 0 else 1, 0, 0, -1 if d < 0 else 1)


def is_turned(matrix: Matrix) -> bool:
    """Return whether width and height are swapped."""
    return matrix[0] == 0


def as_displayed(rgb: NDArray[np.uint8], matrix: Matrix) -> NDArray[np.uint8]:
    """Return a frame (height, width, 3) as it is shown: turned and flipped."""
    if matrix == UPRIGHT:
        return rgb
    a, b, c, d = matrix
    shown = rgb.swapaxes(0, 1) if is_turned(matrix) else rgb
    return np.ascontiguousarray(shown[:: b + d, :: a + c])


def in_one_size(frames: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Return frames (height, width, 3) in the size of the largest: scaled, with black bars, as in players."""
    height, width = max((frame.shape[:2] for frame in frames), key=lambda shape: shape[0] * shape[1])
    return [frame if frame.shape[:2] == (height, width) else _boxed(frame, width, height) for frame in frames]


def _boxed(frame: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Return a frame scaled to fit into a size, in the middle of a black one of that size."""
    scale = min(width / frame.shape[1], height / frame.shape[0])
    size = max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale))
    boxed = np.zeros((height, width, 3), np.uint8)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    scaled = Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR)
    boxed[top : top + size[1], left : left + size[0]] = np.asarray(scaled)
    return boxed


def pixel_ratio(stream: VideoStream) -> float:
    """Return width over height of a pixel; 1 if unknown, implausible or almost 1."""
    value = float(stream.sample_aspect_ratio or 1)
    return value if 0.25 <= value <= 4 and abs(value - 1) > 0.01 else 1.0


def header_size(path: Path, kind: str, stream: VideoStream) -> tuple[int, int]:
    """Return the width and height in pixels of a video as it is shown, by the headers of its container."""
    codec: Any = stream.codec_context  # None if FFmpeg has no decoder
    if codec is None:
        return 0, 0
    turned = is_turned_by_header(path, kind, stream)
    return (codec.height, codec.width) if turned else (codec.width, codec.height)


def is_turned_by_header(path: Path, kind: str, stream: VideoStream) -> bool:
    """Return whether the headers of the container say that width and height are swapped."""
    match kind:
        case "mp4" | "m4a":
            return stream.id in rotated_tracks(path)
        case "matroska":
            return stream.container.streams.video.index(stream) in turned_tracks(path)
    return False
