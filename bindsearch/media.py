"""Decoded media as plain arrays with units: the output of decoders and the input of encoders."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from bindsearch.types import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage of text that fits the encoder's context window."""

    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """An image.

    Attributes:
        rgb: uint8 (height, width, 3), upright, alpha composited on white.
        caption: Text to embed with it as one input, "" for none; see `DecodeHints.joint`.
    """

    rgb: NDArray[np.uint8]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Sound:
    """Mono sound.

    Attributes:
        samples: float32 (n,), nominally in -1..1.
        sample_rate_hz: Samples per second.
    """

    samples: NDArray[np.float32]
    sample_rate_hz: int


@dataclass(frozen=True, slots=True)
class Frames:
    """Sampled frames of a span of video.

    Attributes:
        rgb: uint8 (n, height, width, 3).
        times_s: float64 (n,), time of each frame in seconds.
        caption: Text to embed with them as one input, "" for none; see `DecodeHints.joint`.
        sound: Sound of the same span to embed with them as one input; None: there is none.
    """

    rgb: NDArray[np.uint8]
    times_s: NDArray[np.float64]
    caption: str = ""
    sound: Sound | None = None


@dataclass(frozen=True, slots=True)
class DepthMap:
    """A depth map.

    Attributes:
        depth_m: float32 (height, width) in metres.
        valid: bool (height, width), False where the sensor has no measurement.
        fx_px: Focal length in pixels of this file.
        baseline_m: Stereo baseline in metres for computing disparity.
    """

    depth_m: NDArray[np.float32]
    valid: NDArray[np.bool_]
    fx_px: float
    baseline_m: float


@dataclass(frozen=True, slots=True)
class ThermalPicture:
    """A thermal image.

    Attributes:
        values: float32 (height, width) in 0..1; higher is hotter.
    """

    values: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Motion:
    """A motion (IMU) recording.

    Attributes:
        samples: float32 (n, 6): accelerometer x, y, z in m/s^2 including gravity, then gyroscope x, y, z in rad/s.
        sample_rate_hz: Samples per second.
    """

    samples: NDArray[np.float32]
    sample_rate_hz: float


Media = Passage | Picture | Frames | Sound | DepthMap | ThermalPicture | Motion

MODALITY_OF: dict[type[Media], Modality] = {
    Passage: Modality.TEXT,
    Picture: Modality.IMAGE,
    Frames: Modality.VIDEO,
    Sound: Modality.AUDIO,
    DepthMap: Modality.DEPTH,
    ThermalPicture: Modality.THERMAL,
    Motion: Modality.IMU,
}


@dataclass(frozen=True, slots=True)
class Reading:
    """Findings of a decoder about a file, besides its media.

    Attributes:
        notes: What was inferred, converted, repaired or left out, one short line each, such as "accelerometer in g
            (median 1.02): converted to m/s^2". Empty if the file says everything itself.
        facts: Values by the name of a metadata column, such as {"rate_hz": 50.0}.
    """

    notes: tuple[str, ...] = ()
    facts: Mapping[str, float] = field(default_factory=dict)


NO_READING = Reading()

_Payload = TypeVar("_Payload", covariant=True)


@dataclass(frozen=True, slots=True)
class SegmentOf(Generic[_Payload]):
    """A segment of a file on its way into a store.

    Attributes:
        modality: Modality of the segment.
        payload: Its decoded medium, its views (views, ...) as an encoder prepares them for a tower, or its embedding.
        start_s: Start of a span in seconds; None: not a span.
        end_s: End of a span in seconds; None: not a span.
        text: Text of a passage; None: not a text.
        reading: What the decoder found out about the file up to this segment and no earlier one has.
    """

    modality: Modality
    payload: _Payload
    start_s: float | None = None
    end_s: float | None = None
    text: str | None = None
    reading: Reading = NO_READING


Note = Callable[[str], None]
"""Takes a note of a decoder, one short line; see `Reading`."""


def drop_note(note: str) -> None:
    """Ignore a note, for callers that only need the media."""


Measure = Callable[[str, float], None]
"""Takes the name of a metadata column and its value, where what is decoded differs from the header; see `Reading`."""


def drop_measure(name: str, value: float) -> None:
    """Ignore a measured value, for callers that only need the media."""


MAX_NOTES = 32
MAX_NOTE_LENGTH = 300
"""Most notes on a file, and most letters of a note: names in a file may be as long as the file."""


def merge_readings(first: Reading, second: Reading) -> Reading:
    """Return what two segments of a file tell, with notes of one line each and facts that are finite."""
    if not (second.notes or second.facts):
        return first
    lines = (" ".join(note.encode(errors="replace").decode().split()) for note in second.notes)
    notes = dict.fromkeys((*first.notes, *(line[:MAX_NOTE_LENGTH] for line in lines)))
    facts = {name: float(value) for name, value in second.facts.items() if math.isfinite(value)}
    return Reading(tuple(notes)[:MAX_NOTES], {**facts, **first.facts})


@dataclass(frozen=True, slots=True)
class DecodeHints:
    """Hints of an encoder to the decoders, so that no more pixels and frames are decoded than it uses.

    Attributes:
        picture_side_px: Minimum length of an image's shorter side in pixels (JPEGs are decoded at a reduced scale).
        frames_per_s: Sampling rate of video frames.
        motion_s: Duration in seconds below which the encoder pads motion; a notice reports it to the user.
        longest_s: Longest span in seconds that the encoder embeds whole, by modality; segments are at most as long.
        joint: What indexed pictures and videos are embedded with as one input, if there is any: TEXT, their captions;
            AUDIO, the sound of a video.
    """

    picture_side_px: int
    frames_per_s: float
    motion_s: float = 0.0
    longest_s: Mapping[Modality, float] = field(default_factory=dict)
    joint: frozenset[Modality] = frozenset()


NO_CONTENT = "no content: "
"""Start of the reason why a file without content has no vector; see `missing_content`."""

SILENCE_PEAK = 1e-4
"""Greatest amplitude of silence, -80 dB of full scale: dither of 16-bit sound is below, noise above."""

FLAT_RANGE = 4
"""Greatest range of a picture of one colour, in levels of 255: what JPEG makes of it."""

FLAT_SHARE = FLAT_RANGE / 255.0
"""The same for values in 0..1, and for depth relative to its mean."""


def missing_content(media: Media) -> str | None:
    """Return why a medium has nothing that could be found; None if it has content.

    The vector of silence or of a blank picture is where an encoder puts what it cannot tell; it is near anything.
    """
    match media:
        case Passage(text=text):
            return None if any(letter.isalnum() for letter in text) else "no words"
        case Picture(rgb=pixels) | Frames(rgb=pixels):
            # most pictures show their content in a few rows; all pixels are read only if those are of one colour
            parts = (pixels[..., ::16, :, :], pixels)
            return "one colour" if all(_range_of_channels(part) <= FLAT_RANGE for part in parts) else None
        case Sound(samples=samples):
            return "digital silence" if _range_of_channels(samples[:, None]) < 2 * SILENCE_PEAK else None
        case DepthMap(depth_m=depth, valid=valid):
            known = depth[valid]
            is_flat = _range_of_channels(known[:, None]) <= FLAT_SHARE * float(
                known.mean(dtype=float) if known.size else 0
            )
            return "the same depth everywhere" if is_flat else None
        case ThermalPicture(values=values):
            return "one temperature" if _range_of_channels(values[..., None]) <= FLAT_SHARE else None
        case Motion(samples=motion):
            return "no signal" if _range_of_channels(motion) == 0 else None


def _range_of_channels(values: NDArray[Any]) -> float:
    """Return the greatest range of a channel of values (..., channels); infinite for none, whose cause is another."""
    rows = values.reshape(-1, values.shape[-1])
    return float((rows.max(axis=0).astype(float) - rows.min(axis=0)).max()) if rows.size else math.inf


Wants = DecodeHints
"""The former name of `DecodeHints`, for encoders in other packages."""
