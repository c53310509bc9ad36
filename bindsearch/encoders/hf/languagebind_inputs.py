"""Preprocessing of LanguageBind (arXiv 2310.01852), as in its published code (PKU-YuanGroup/LanguageBind, MIT).

* Pictures: 0..1, the shorter side resized to 224 pixels, bicubic, then the middle square.
* Thermal pictures: the same, in three equal channels; higher is hotter, as in the published examples.
* Depth: metres, clipped to 0.01 m and `max_depth` (10 m) and divided by the latter, then as pictures, in three
  channels. Missing pixels get the depth of the nearest one; the published code takes them for 0 m.
* Video: frames at even distances, the shorter side resized to 224 pixels, bilinear without antialiasing, then the
  middle square. The published code draws a square, and mirrors it, at random, which is left from training.
* Sounds: 16 kHz, log-mels as Kaldi's; of a sound longer than the model takes three parts, which begin where the thirds
  of all possible ones begin; a shorter one is repeated. Channels are mixed down; the published code takes the first.

Pictures are resized with antialiasing, as by torchvision from 0.17 on; before, its tensors were resized without.
Colours are normalised by the mean and deviation of OpenAI's CLIP.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bindsearch.encoders.preprocessing.crops import fill_nearest, square_crop_plane
from bindsearch.encoders.preprocessing.resampling import at_rate, kaldi_log_mel
from bindsearch.encoders.torch_runtime.threads import single_threaded
from bindsearch.errors import MediaError
from bindsearch.media import DepthMap

SIDE_PX = 224
MEAN = np.array((0.48145466, 0.4578275, 0.40821073), np.float32)[:, None, None]
STD = np.array((0.26862954, 0.26130258, 0.27577711), np.float32)[:, None, None]
"""Mean and standard deviation of each colour in 0..1, of OpenAI's CLIP (constants of open_clip)."""

MIN_DEPTH_M = 0.01
LARGEST_MAP = 1 << 22
"""Most pixels of a depth map; of a larger one, every second or third row and column is taken, which bounds memory."""

WINDOW_S, HOP_S = 0.025, 0.01  # of `kaldi_log_mel`
PARTS = 3


def normalized(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return colours in 0..1, float32 (..., 3, height, width), normalised."""
    scaled: NDArray[np.float32] = (planes - MEAN) / STD
    return scaled


def prepare_picture(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the middle square of a picture, uint8 (height, width, 3): float32 (3, 224, 224)."""
    scaled = rgb.astype(np.float32) / np.float32(255)
    return normalized(np.stack([square_crop_plane(scaled[..., colour], SIDE_PX) for colour in range(3)]))


def prepare_plane(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the middle square of one channel in 0..1, float32 (height, width), as three: float32 (3, 224, 224).

    Raises:
        MediaError: there are no pixels, or some hold NaN or infinity.
    """
    if values.ndim != 2 or not np.isfinite(values).all():
        raise MediaError(f"values of shape {values.shape}: expected finite ones of (height, width)")
    return normalized(np.broadcast_to(square_crop_plane(values, SIDE_PX), (3, SIDE_PX, SIDE_PX)))


def prepare_depth(depth: DepthMap, max_depth_m: float) -> NDArray[np.float32]:
    """Return a depth map as three channels, float32 (3, 224, 224).

    Args:
        depth: Depth in metres; zero, NaN and infinity are missing, whatever its mask says.
        max_depth_m: Depth that becomes 1; 0: the greatest of the map.

    Raises:
        MediaError: no pixel has a value.
    """
    step = max(1, math.ceil(math.sqrt(depth.depth_m.size / LARGEST_MAP)))
    depth_m = depth.depth_m[::step, ::step]
    known = depth.valid[::step, ::step] & np.isfinite(depth_m) & (depth_m > 0)
    if not known.any():
        raise MediaError("no pixel of the depth map has a value above 0")
    farthest = max_depth_m or float(depth_m[known].max())
    clipped = np.clip(np.where(known, depth_m, 0), MIN_DEPTH_M, max(farthest, MIN_DEPTH_M))
    return prepare_plane(fill_nearest((clipped / farthest).astype(np.float32), known))


def prepare_frames(rgb: NDArray[np.uint8], count: int) -> NDArray[np.float32]:
    """Return `count` frames at even distances, float32 (3, count, 224, 224), of uint8 (n, height, width, 3).

    Raises:
        MediaError: there are no frames, or they have no pixels.
    """
    import torch

    if 0 in rgb.shape:
        raise MediaError(f"the video has no frames with pixels (shape {rgb.shape})")
    chosen = np.linspace(0, len(rgb) - 1, count, dtype=int)
    height, width = rgb.shape[1:3]
    size = (SIDE_PX, width * SIDE_PX // height) if height < width else (height * SIDE_PX // width, SIDE_PX)
    top, left = (round((length - SIDE_PX) / 2) for length in size)
    squares = []
    with single_threaded(), torch.inference_mode():
        for frame in rgb[chosen]:
            scaled = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].float() / 255
            resized = torch.nn.functional.interpolate(scaled, size, mode="bilinear", align_corners=False)
            squares.append(resized[0, :, top : top + SIDE_PX, left : left + SIDE_PX].numpy())
    return np.ascontiguousarray(normalized(np.stack(squares)).swapaxes(0, 1))


@dataclass(frozen=True, slots=True)
class SoundShape:
    """Sizes of the log-mels of a model, in frames of 10 ms, and their mean and deviation; missing frames are 0."""

    rate_hz: int
    bins: int
    frames: int
    mean: float
    std: float


def prepare_sound(samples: NDArray[np.float32], sample_rate_hz: int, shape: SoundShape) -> NDArray[np.float32]:
    """Return log-mels of three parts of a mono sound, float32 (n,): float32 (3, bins, frames).

    Raises:
        MediaError: as `resampling.at_rate`.
    """
    import torch

    rate_hz, bins, frames = shape.rate_hz, shape.bins, shape.frames
    sound = at_rate(samples, sample_rate_hz, rate_hz, float32_filter=True)
    longest = frames * rate_hz // 100
    with single_threaded(), torch.inference_mode():
        if len(sound) <= longest:
            repeated = np.tile(sound, longest // len(sound))
            whole = np.pad(repeated, (0, longest - len(repeated)))
            mels = [kaldi_log_mel(torch.from_numpy(whole - whole.mean()), rate_hz, bins)] * PARTS
        else:
            centred, parts = torch.from_numpy(sound - sound.mean()), _parts(len(sound), frames, rate_hz)
            mels = [kaldi_log_mel(centred[start:stop], rate_hz, bins) for start, stop in parts]
        result = np.zeros((PARTS, frames, bins), np.float32)
        for row, mel in zip(result, mels, strict=True):
            row[: min(frames, len(mel))] = mel[:frames].numpy()
    return np.ascontiguousarray(((result - np.float32(shape.mean)) / np.float32(shape.std)).swapaxes(1, 2))


def _parts(length: int, frames: int, rate_hz: int) -> list[tuple[int, int]]:
    """Return the samples, from and to, of the parts of a sound: they begin where thirds of all possible ones begin."""
    window, hop = round(WINDOW_S * rate_hz), round(HOP_S * rate_hz)
    total = 1 + (length - window) // hop
    thirds = np.array_split(np.arange(max(1, total - frames + 1)), PARTS)
    starts = [int(third[0]) if len(third) else 0 for third in thirds]
    return [(start * hop, (start + frames - 1) * hop + window) for start in starts]
