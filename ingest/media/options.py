"""Options of decoders: segment lengths, and limits against hostile files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bindsearch.arguments import did_you_mean, shown, to_number
from bindsearch.errors import MediaError, UsageError
from bindsearch.media import DecodeHints
from bindsearch.storage.config import StoreConfig
from bindsearch.types import Modality

_NO_HINTS = DecodeHints(picture_side_px=0, frames_per_s=1.0)

LONGEST_SPAN_S = 600.0
"""Maximum length of a span, which is held in memory: ten minutes of 192 kHz sound are 460 MB."""


_SEGMENTS = {modality: f"{modality}_segment_s" for modality in (Modality.AUDIO, Modality.VIDEO, Modality.IMU)}


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """Options of all decoders; the segment lengths are recorded in the store.

    Attributes:
        audio_segment_s: length of a span of audio in seconds.
        video_segment_s: length of a span of video in seconds.
        imu_segment_s: length of a span of motion in seconds.
        imu_rate_hz: sample rate of motion files without a rate; None: such files fail.
        max_pixels: maximum width * height of an image or video frame, checked before decoding; an eighth of it for
            animations.
        max_samples: maximum rows of a motion recording, after resampling (2 GB in float32 x 6 would be 83 M).
        max_array_bytes: maximum size of a decompressed array or table, or of an image file that can only be read
            completely.
        max_text_bytes: maximum size of a text file.
        max_sound_s: maximum length of a sound or sound track; it limits time, memory does not depend on it.

    Raises:
        UsageError: a segment length or rate is out of range.
    """

    audio_segment_s: float = 10.0
    video_segment_s: float = 10.0
    imu_segment_s: float = 5.0
    imu_rate_hz: float | None = None
    max_pixels: int = 200_000_000
    max_samples: int = 20_000_000
    max_array_bytes: int = 1 << 30
    max_text_bytes: int = 32 << 20
    max_sound_s: float = 86_400.0

    def __post_init__(self) -> None:
        for name in _SEGMENTS.values():
            expected = f"expected 0.1 to {LONGEST_SPAN_S:g} seconds"
            object.__setattr__(self, name, to_number(getattr(self, name), name, expected, 0.1, LONGEST_SPAN_S))
        if self.imu_rate_hz is not None:
            object.__setattr__(self, "imu_rate_hz", check_imu_rate(self.imu_rate_hz, "--imu-rate"))


def check_imu_rate(rate_hz: float, source: str) -> float:
    """Return `rate_hz` after checking that it is plausible for motion (0.5 Hz to 20 kHz).

    Args:
        rate_hz: the rate in Hz.
        source: names its origin in errors.

    Raises:
        UsageError: it is out of range.
    """
    return to_number(rate_hz, source, "expected 0.5 to 20000 Hz", 0.5, 20_000)


def decode_options(config: StoreConfig, imu_rate_hz: float | None) -> DecodeOptions:
    """Return the decode options of a store."""
    return DecodeOptions(config.audio_segment_s, config.video_segment_s, config.imu_segment_s, imu_rate_hz)


def segment_lengths(segment_s: Mapping[str, float], wants: DecodeHints = _NO_HINTS) -> DecodeOptions:
    """Return options with the segment lengths of a new store, from {"audio": 5.0}; others have defaults.

    Args:
        segment_s: the lengths in seconds, by modality.
        wants: hints of the encoder, whose longest span limits the defaults.

    Raises:
        UsageError: the modality has no segment length, or the length is out of range or longer than what the encoder
            embeds whole.
    """
    if not isinstance(segment_s, Mapping):
        raise UsageError(f'segment_s is {shown(segment_s)}: give lengths such as {{"audio": 5.0}}')
    for modality in segment_s:
        if modality not in _SEGMENTS:
            near = did_you_mean(modality, ("audio", "video", "imu"))
            raise UsageError(f"segments of {modality!r} have no length: {near}choose from audio, video, imu")
    given: dict[str, Any] = {f"{modality}_segment_s": length for modality, length in segment_s.items()}
    options = replace(limit_segments(DecodeOptions(), wants), **given)
    if (limited := limit_segments(options, wants)) != options:
        name = next(name for name in given if getattr(options, name) != getattr(limited, name))
        raise UsageError(
            f"segments of {name.removesuffix('_segment_s')} are {getattr(options, name):g} s: "
            f"the encoder embeds at most {getattr(limited, name):g} s"
        )
    return options


def limit_segments(options: DecodeOptions, wants: DecodeHints) -> DecodeOptions:
    """Return options whose segments are no longer than what an encoder embeds whole."""
    lengths: dict[str, Any] = {
        name: min(getattr(options, name), wants.longest_s.get(modality, math.inf))
        for modality, name in _SEGMENTS.items()
    }
    return replace(options, **lengths)


def check_limit(count: int, most: int, subject: str, option: str) -> None:
    """Raise MediaError if `count` is more than `most`; `subject` begins the message: "the table has 5 rows"."""
    if count > most:
        raise MediaError(f"{subject}: more than {most} are not read (--limit {option}=N)")
