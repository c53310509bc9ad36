"""Places where a medium answers a query, as values that other modules draw, print and send."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bindsearch.environment import PROJECT, version_of
from bindsearch.operations.locate.relevance import Probe, UsedTerm
from bindsearch.types import Modality, Span

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from bindsearch.operations.segment_media import Place


@dataclass(frozen=True, slots=True)
class Box:
    """A part of a picture. Sides are shares of its width and height, 0..1, from the top left of the upright picture.

    Attributes:
        left: Left side.
        top: Upper side.
        right: Right side.
        bottom: Lower side.
        relevance: Greatest relevance in the box, 0..1.
        at_s: Time of the frame of a video in seconds; None: a picture.
    """

    left: float
    top: float
    right: float
    bottom: float
    relevance: float
    at_s: float | None = None


@dataclass(frozen=True, slots=True)
class Peak:
    """The point of a picture, or of a frame of a video, that answers best: at the same shares as a `Box`."""

    x: float
    y: float
    relevance: float
    at_s: float | None = None


@dataclass(frozen=True, slots=True)
class RelevantSpan:
    """A span of a recording with its greatest relevance, 0..1."""

    span: Span
    relevance: float


@dataclass(frozen=True, slots=True)
class Curve:
    """Relevance over a recording.

    Attributes:
        times_s: Middle of each view in seconds from the start of the recording, float64 (t,).
        relevance: Relevance of each view, 0..1, float32 (t,).
        start_s: Start of the first view: that of the segment or file.
        end_s: End of the last view: that of the segment or file.
    """

    times_s: NDArray[np.float64] = field(repr=False)
    relevance: NDArray[np.float32] = field(repr=False)
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Located:
    """Places where one medium answers a query.

    Attributes:
        path: The file.
        modality: Modality of the medium.
        method: How it was located, such as "dense features of mini" or "owlv2:google/owlv2-base-patch16-ensemble".
        boxes: Parts of the picture, or of a video's frames, with a relevance of at least the threshold, best first.
        spans: Spans of the recording with a relevance of at least the threshold, best first.
        peak: The point of a picture that answers best, of a video in the frame of its best box; None: not a picture.
        heat: Relevance over the picture, or over the frame of the peak, 0..1, NaN where it is not known:
            float32 (h, w); None: not a picture.
        curve: Relevance over the recording; None: not a recording.
        notices: What was assumed, and what of the file is not used.
    """

    path: Path
    modality: Modality
    method: str
    boxes: tuple[Box, ...] = ()
    spans: tuple[RelevantSpan, ...] = ()
    peak: Peak | None = None
    heat: NDArray[np.float32] | None = field(default=None, repr=False)
    curve: Curve | None = None
    notices: tuple[str, ...] = ()


def located_data(located: Located) -> dict[str, Any]:
    """Return the places where a medium answers as values that JSON can hold, without the heat map and the path."""
    data: dict[str, Any] = {
        "method": located.method,
        "boxes": [_rounded(box, "left", "top", "right", "bottom", "relevance") for box in located.boxes],
        "spans": [
            {"start_s": one.span.start_s, "end_s": one.span.end_s, "relevance": round(one.relevance, 6)}
            for one in located.spans
        ],
        "peak": None if located.peak is None else _rounded(located.peak, "x", "y", "relevance"),
        "curve": None,
        "notices": list(located.notices),
    }
    if (curve := located.curve) is not None:
        data["curve"] = {
            "times_s": [round(time_s, 3) for time_s in curve.times_s.tolist()],
            "relevance": [round(value, 6) for value in curve.relevance.tolist()],
            "start_s": round(curve.start_s, 3),
            "end_s": round(curve.end_s, 3),
        }
    return data


def has_place(data: Mapping[str, Any] | None) -> bool:
    """Return whether a part of a medium reaches the threshold, by its places as data; None: it was not located."""
    return data is not None and bool(data["boxes"] or data["spans"])


def _rounded(place: Box | Peak, *names: str) -> dict[str, float | None]:
    """Return values of a place by name, rounded, and its time."""
    return {**{name: round(getattr(place, name), 6) for name in names}, "at_s": place.at_s}


def left_out_notice(count: int) -> tuple[str, ...]:
    """Return the notice that less relevant boxes or spans are left out; none if none are."""
    return (f"less relevant boxes or spans are left out: {count}",) if count > 0 else ()


@dataclass(frozen=True, slots=True)
class Asked:
    """Query and settings of locating, as they are recorded.

    Attributes:
        terms: Terms of the query.
        encoder: Name of the encoder.
        encoder_digest: Digest of its weights.
        against: Names of what the query was compared with.
        threshold: Least relevance of what was located.
        detail: Detail of pictures and recordings.
    """

    terms: tuple[UsedTerm, ...]
    encoder: str
    encoder_digest: str
    against: tuple[str, ...]
    threshold: float
    detail: int


def asked_of(probe: Probe, target: Modality | None) -> Asked:
    """Return what is recorded of an encoded query that is located in a modality; None: in none."""
    encoder, options, against = probe.encoder, probe.options, probe.for_target(target).names
    return Asked(probe.terms, encoder.name, encoder.digest, against, options.threshold, options.detail)


def asked_data(asked: Asked) -> dict[str, Any]:
    """Return the record of a query as values that JSON can hold."""
    record = asdict(asked)
    return {
        "made_by": f"bindsearch {version_of(PROJECT)}",
        "command": "locate",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "query": list(record.pop("terms")),
        **record,
        "against": list(asked.against),
    }


def place_data(place: Place | None) -> dict[str, Any]:
    """Return the segment or file that was looked in as values that JSON can hold; null: it was not found."""
    if place is None:
        return dict.fromkeys(("path", "modality", "start_s", "end_s"))
    span = {"start_s": place.start_s, "end_s": place.end_s}
    return {"path": str(place.path), "modality": place.modality.value, **span}
