"""Inputs of a model: media to plain arrays, and those to what sentence-transformers takes.

Texts are UTF-8 bytes, uint8 (1, n); pictures uint8 (1, height, width, 3); sounds float32 (1, n) at the model's rate.
Videos and joint inputs have several parts, and are packed into bytes, uint8 (1, n): the length of a header, the header
in JSON, and the parts one after the other.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bindsearch.encoders.preprocessing.resampling import check_sound, resample_sound
from bindsearch.errors import MediaError
from bindsearch.media import Frames, Sound
from bindsearch.types import Modality

MAX_PICTURE_PX = 1 << 21
"""Most pixels of a picture, 2.1 million: larger ones are reduced. Most models reduce them further."""

MAX_FRAME_PX = 1 << 19
"""Most pixels of a frame of a video, likewise."""

MAX_ASPECT = 100.0
"""Greatest ratio of the sides of a picture: models make patches of some 16 to 32 pixels, and refuse lines."""

MIN_SOUND_S = 0.25
"""Shorter sounds are filled up with silence: models make nothing of less than one window."""

_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class Parts:
    """Parts of an input that has several, or of a video; text and sound may be empty, `frames_per_s` is 0 of pictures.

    Pictures are uint8 (height, width, 3), of a video (n, height, width, 3); sound is float32 (n,) at the model's rate.
    """

    text: str
    pictures: NDArray[np.uint8]
    frames_per_s: float
    sound: NDArray[np.float32]


def pack(parts: Parts) -> NDArray[np.uint8]:
    """Pack an input into bytes, uint8 (1, n)."""
    facts = {"text": parts.text, "shape": parts.pictures.shape, "frames_per_s": parts.frames_per_s}
    header = json.dumps({**facts, "samples": len(parts.sound)}).encode()
    length = len(header).to_bytes(_LENGTH_BYTES, "little")
    content = b"".join((length, header, parts.pictures.tobytes(), parts.sound.tobytes()))
    return np.frombuffer(content, np.uint8)[None]


def unpack(packed: NDArray[np.uint8]) -> Parts:
    """Return the parts of packed bytes, uint8 (1, n)."""
    content = packed.tobytes()
    start = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    header = json.loads(content[_LENGTH_BYTES:start])
    shape = tuple(header["shape"])
    end = start + math.prod(shape)
    return Parts(
        text=header["text"],
        pictures=np.frombuffer(content[start:end], np.uint8).reshape(shape).copy(),  # libraries want writable arrays
        frames_per_s=header["frames_per_s"],
        sound=np.frombuffer(content[end:], np.float32).copy(),
    )


def reduced(rgb: NDArray[np.uint8], most_px: int) -> NDArray[np.uint8]:
    """Return a picture (height, width, 3) with at most so many pixels.

    Raises:
        MediaError: it has no pixels, or is a line.
    """
    height, width = rgb.shape[:2]
    if 0 in rgb.shape:
        raise MediaError(f"the picture has no pixels (height {height}, width {width})")
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise MediaError(f"the picture has {width} x {height} pixels: sides may differ by {MAX_ASPECT:g} times")
    scale = math.sqrt(most_px / (height * width))
    if scale >= 1:
        return np.ascontiguousarray(rgb)
    size = max(1, int(width * scale)), max(1, int(height * scale))
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0))


def chosen_frames(frames: Frames, fewest: int, most: int) -> tuple[NDArray[np.uint8], float]:
    """Return evenly chosen frames of a video, at most so many, with their rate per second; too few are repeated."""
    n = len(frames.rgb)
    if n == 0:
        raise MediaError("the video has no frames")
    indexes = np.linspace(0, n - 1, min(max(n, fewest), most)).round().astype(int)
    pictures = np.stack([reduced(frames.rgb[index], MAX_FRAME_PX) for index in indexes])
    span_s = float(frames.times_s[-1] - frames.times_s[0])
    return pictures, (len(indexes) - 1) / span_s if span_s > 0 else float(len(indexes))


def at_rate(sound: Sound, sample_rate_hz: int) -> NDArray[np.float32]:
    """Return a sound at a rate, float32 (n,), of at least MIN_SOUND_S.

    Raises:
        MediaError: it is empty, or holds NaN or infinity.
    """
    import torch

    checked = check_sound(sound.samples, sound.sample_rate_hz, sample_rate_hz)
    resampled = resample_sound(torch.from_numpy(checked), sound.sample_rate_hz, sample_rate_hz)
    samples: NDArray[np.float32] = resampled.numpy()
    missing = math.ceil(MIN_SOUND_S * sample_rate_hz) - len(samples)
    return np.pad(samples, (0, missing)) if missing > 0 else np.ascontiguousarray(samples)


def library_input(modality: Modality, prepared: NDArray[Any], sample_rate_hz: int, *, text_only: bool) -> Any:
    """Return what sentence-transformers takes for a prepared medium.

    Texts are given with the name of their modality, so that one that looks like an address or a path is not opened.

    Args:
        modality: Modality of the medium.
        prepared: Result of `prepare`.
        sample_rate_hz: Rate of sounds.
        text_only: Whether the model takes texts alone, as they are.
    """
    if modality == Modality.TEXT:
        text = prepared.tobytes().decode()
        return text if text_only else {"text": text}
    if modality == Modality.AUDIO:
        return {"array": prepared[0].copy(), "sampling_rate": sample_rate_hz}
    if prepared.ndim == 4:
        return Image.fromarray(prepared[0])
    parts = unpack(prepared)
    whole: dict[str, Any] = {}
    if parts.frames_per_s:  # all frames, at their rate, in the terms of transformers
        (n, height, width, _), fps = parts.pictures.shape, parts.frames_per_s
        metadata: dict[str, Any] = {"total_num_frames": n, "fps": fps, "duration": n / fps}
        metadata |= {"frames_indices": list(range(n)), "height": height, "width": width}
        whole["video"] = {"array": parts.pictures, "video_metadata": metadata}
    else:
        whole["image"] = Image.fromarray(parts.pictures)
    if len(parts.sound):
        whole["audio"] = {"array": parts.sound, "sampling_rate": sample_rate_hz}
    if parts.text:
        whole["text"] = parts.text
    return whole
