"""An open sound as blocks of samples, each at its place; channels mixed down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.media import Note

Block = tuple[int, NDArray[np.float32]]
"""Place of the first sample, counted from the beginning of the recording, and the samples of one channel (n,)."""

_RATES_HZ = (1_000, 1_000_000)
_FULL_SCALE = {"uint8": 128.0, "int16": 32768.0, "int32": 2147483648.0, "int64": 9223372036854775808.0}
_CANCELLED = 0.01
"""Share of the channels' energy below which their mean is no mix: an inverted channel has cancelled the other."""


class SoundStream(NamedTuple):
    """An open sound."""

    sample_rate_hz: int
    first: int  # place of the first sample that is asked for
    blocks: Iterator[Block]  # in order, without overlap; what is missing between two of them is silence
    length_s: float = 0.0  # of the whole recording by its header; 0 if it says none or an estimate


def check_rate(rate_hz: int) -> int:
    """Return the sample rate in Hz after checking its range; MediaError: it is out of range."""
    low, high = _RATES_HZ
    if not low <= rate_hz <= high:
        raise MediaError(f"the sample rate is {rate_hz} Hz: expected {low} to {high}")
    return int(rate_hz)


def make_mixer(note: Note) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return a function that mixes samples (n, channels) down to (n,) by their mean.

    Where the mean has less than a hundredth of the channels' energy, they cancel each other (microphones wired the
    other way round): it returns the first channel, and notes it once.
    """
    notes: list[str] = []

    def mix_down(block: NDArray[np.float32]) -> NDArray[np.float32]:
        channels = block.shape[1]
        if channels == 1:
            return block[:, 0].copy()
        with np.errstate(over="ignore", invalid="ignore"):  # values that are not finite are counted later
            mixed: NDArray[np.float32] = block.mean(axis=1, dtype=np.float32)
            flat = block.ravel("K")  # a view
            if np.dot(mixed, mixed) * channels < _CANCELLED * np.dot(flat, flat):
                if not notes:
                    notes.append("the channels are inverted and cancel each other: the first one is used")
                    note(notes[0])
                return np.array(block[:, 0], np.float32)
        return mixed

    return mix_down


def frame_channels(frame: Any) -> NDArray[np.float32]:
    """Return the samples (n, channels) of an av.AudioFrame, integers scaled to -1..1."""
    raw = frame.to_ndarray()
    block = raw.T if frame.format.is_planar else raw.reshape(-1, len(frame.layout.channels))
    if block.dtype.kind == "f":
        return np.asarray(block, np.float32)
    scale = _FULL_SCALE[block.dtype.name]
    centred = block.astype(np.float64) - (scale if block.dtype == np.uint8 else 0.0)
    return np.asarray(centred / scale, np.float32)
