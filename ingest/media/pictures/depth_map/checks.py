"""Checks of the values of depth maps: which stand for no value, and whether distances are plausible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError

FARTHEST_M = 1000.0
"""Distance in metres beyond which a value is no measurement, but a mark such as 65504 or 1e10."""

LEAST_MEDIAN_M, LARGEST_MEDIAN_M = 0.05, 100.0
"""Plausible medians in metres: cameras of depth measure from 7 cm (RealSense D405), lidars of cars up to 120 m."""

NOTED_SHARE = 0.01
"""Share of the pixels without a value for one reason from which on it is noted."""

_MOST_MARKS = 16
"""Number of different negative values that may be marks of no value; more are a quantity that has a sign."""


def has_value(raw: NDArray[Any], invalid: Sequence[float], *, largest_is_value: bool) -> NDArray[np.bool_]:
    """Return which stored values (height, width) are numbers, not declared invalid, and not their type's largest."""
    known: NDArray[np.bool_] = np.isfinite(raw)
    if raw.dtype.kind in "iu" and not largest_is_value:
        known &= raw != np.iinfo(raw.dtype).max
    for value in invalid:
        known &= raw != value
    return known


def notes_of_holes(raw: NDArray[Any], invalid: Sequence[float], *, largest_is_value: bool) -> list[str]:
    """Return notes on the pixels whose stored values are declared invalid or their type's largest."""
    marks = [(value, "declared invalid") for value in invalid]
    if raw.dtype.kind in "iu" and not largest_is_value:
        marks.append((float(np.iinfo(raw.dtype).max), f"the largest value of {raw.dtype.name}"))
    shares = [(float((raw == value).mean()), value, why) for value, why in marks]
    return [
        f"{share:.0%} of the pixels are {value:g}, {why}: no value"
        for share, value, why in shares
        if share >= NOTED_SHARE
    ]


def median_of(depth_m: NDArray[np.float32], known: NDArray[np.bool_]) -> float | None:
    """Return the median distance in metres of the known pixels above 0, also of those beyond FARTHEST_M; None: none."""
    values = depth_m[known & (depth_m > 0)]
    return float(np.median(values)) if values.size else None


def check_assumed(raw: NDArray[Any], known: NDArray[np.bool_], median_m: float | None, source: str) -> None:
    """Check that values in a unit that nobody said can be distances in it.

    Args:
        raw: Stored values (height, width).
        known: Pixels that have a value.
        median_m: Their median distance in the assumed unit.
        source: The unit and why it is assumed, such as "m, the default of floating-point values".

    Raises:
        MediaError: they are scaled to a range, have a sign, or the median is implausible.
    """
    way_out = 'say "depth_unit" in its sidecar: m, cm, mm, metres per step, or "inverse" for relative depth, greater is'
    if (span := _full_range(raw)) is not None:
        raise MediaError(
            f"the values span exactly {span}, as relative depth does that was scaled to its range: {way_out} nearer"
        )
    negative = raw[known & (raw < 0)] if raw.dtype.kind == "f" else raw[:0]
    if negative.size and len(np.unique(negative[: 1 << 16])) > _MOST_MARKS:
        share = negative.size / raw.size
        raise MediaError(
            f"{share:.1%} of the values are below 0, down to {negative.min():g}: not distances; {way_out} nearer"
        )
    if median_m is not None and not LEAST_MEDIAN_M <= median_m <= LARGEST_MEDIAN_M:
        raise MediaError(f"the median would be {median_m:.4g} m in {source}: {way_out} nearer")


def _full_range(raw: NDArray[Any]) -> str | None:
    """Return the range of values that were scaled to it: 0..65535 of 16-bit integers, 0..1 of others; else None."""
    if raw.dtype == np.uint16:
        low, high = int(raw.min()), int(raw.max())
        return "0..65535" if (low, high) == (0, 65535) else None
    if raw.dtype.kind == "f":
        finite = raw[np.isfinite(raw)]
        return "0..1" if finite.size and (float(finite.min()), float(finite.max())) == (0.0, 1.0) else None
    return None
