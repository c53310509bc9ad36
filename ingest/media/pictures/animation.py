"""Animations: the frames of a GIF, WebP or PNG with their times, composed one by one."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bindsearch.errors import MediaError
from bindsearch.ingest.media.damage import check_damage
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.frame_count import count_frames, gif_frames
from bindsearch.ingest.media.pictures.image import screen_colours, to_rgb
from bindsearch.ingest.media.pictures.pillow import check_size, open_picture
from bindsearch.media import Note, drop_note

_COPIES = 8
"""Approximate copies of a frame in memory: canvases, their previous content, a copy for the encoder."""

_PIXELS_IN_ALL = 100
"""Maximum pixels composed for one file, in multiples of `max_pixels`: 10,000 frames of 1920x1040; files may be tiny."""

_NO_DURATION_S = 0.1
_SHORTEST_S = 0.01
"""Browsers show a frame of at most 10 ms for 100 ms, because many files state it without intending it."""

_OPTION = "an eighth of --limit pixels=N"


def timed_frames(
    path: Path, kind: str, options: DecodeOptions, note: Note = drop_note
) -> Iterator[tuple[float, Image.Image | None]]:
    """Yield every frame of the animation at `path` with its start in seconds, then (end_s, None).

    Only one frame is in memory at a time. Of a damaged animation, the frames before the damage.

    Raises:
        MediaError: less than half of the frames decode, larger than `options.max_pixels` / 8, or too many frames for
            their size.
    """
    max_pixels = options.max_pixels // _COPIES
    count, width, height = _canvas(path, kind, max_pixels)
    with open_picture(path, max_pixels=max_pixels, max_bytes=options.max_array_bytes, option=_OPTION) as picture:
        width, height = max(width, picture.width), max(height, picture.height)
        check_size((width, height), max_pixels, _OPTION)
        if count * width * height > _PIXELS_IN_ALL * options.max_pixels:
            raise MediaError(
                f"the animation has {count} frames of {width}x{height} pixels: "
                f"more than {_PIXELS_IN_ALL * options.max_pixels} in total are not decoded (100 x --limit pixels=N)"
            )
        first = 1 if kind == "png" and count > 1 and getattr(picture, "default_image", False) else 0
        time_s = 0.0
        for index in range(first, first + count):
            try:
                picture.seek(index)
                picture.load()
            except (EOFError, OSError, SyntaxError, ValueError, IndexError, struct.error):
                check_damage((index - first) / count, f"{index - first} of {count} frames", note)
                break
            yield time_s, picture.copy()
            duration_s = float(picture.info.get("duration", 0)) / 1000
            time_s += duration_s if duration_s > _SHORTEST_S else _NO_DURATION_S
        yield time_s, None


def _canvas(path: Path, kind: str, max_pixels: int) -> tuple[int, int, int]:
    """Return the number of frames, and the right and bottom edge of all; frames of a GIF may enlarge the canvas.

    Raises:
        MediaError: the canvas has more than `max_pixels` pixels.
    """
    with path.open("rb") as file:
        if kind != "gif":
            return count_frames(file, kind), 1, 1
        count = width = height = 1
        for count, (right, bottom) in enumerate(gif_frames(file), start=1):  # noqa: B007
            width, height = max(width, right), max(height, bottom)
            check_size((width, height), max_pixels, _OPTION)
    return count, width, height


def picture_rgb(picture: Image.Image, floor_px: int) -> NDArray[np.uint8]:
    """Return a frame of an animation as uint8 (height, width, 3), sides at most `floor_px` and 16 times that."""
    width, height = picture.size
    scale = min(1.0, floor_px / min(width, height), 16 * floor_px / max(width, height))
    size = max(1, math.ceil(width * scale)), max(1, math.ceil(height * scale))
    rgb = to_rgb(screen_colours(picture, drop_note))
    return np.asarray(rgb if size == rgb.size else rgb.resize(size, Image.Resampling.BILINEAR))
