"""Positions of views in a recording: evenly spaced for embedding, and those of the published sampler for parity."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from bindsearch.errors import MediaError, UsageError

PUBLISHED_VIEW_S = 2
"""Length of a view of sound and video (paper, appendix B.1; clip_duration of the published code)."""

MAX_VIEWS = 4_000
"""Maximum number of views: more than two hours in views of 2 s; the prepared views of a sound take 400 MB."""


def count_views(length_s: float, view_s: float) -> int:
    """Return ceil(length / view) (paper, appendix B.1), at least 1; both in seconds.

    Raises:
        MediaError: the length is not a finite number above 0, or needs more than 4000 views.
    """
    if not (math.isfinite(length_s) and length_s > 0):
        raise MediaError(f"a recording of {length_s:g} s cannot be embedded; expected a length above 0 s")
    # Tolerance of 1e-6 views: lengths are sums of floats, and 10.000000000000002 s are five views of 2 s.
    count = max(1, math.ceil(length_s / view_s - 1e-6))
    if count > MAX_VIEWS:
        raise MediaError(f"a recording of {length_s:g} s is too long: split it into parts of {MAX_VIEWS * view_s:g} s")
    return count


def even_views(length_s: float, view_s: float) -> list[tuple[float, float]]:
    """Return start and end in seconds of `count_views` evenly placed views, from the start to the end of the recording.

    A recording shorter than a view has one view, which ends with the recording.

    Raises:
        MediaError: as `count_views`.
    """
    count = count_views(length_s, view_s)
    view_s = min(view_s, length_s)
    starts = np.linspace(0.0, length_s - view_s, count) if count > 1 else np.zeros(1)
    return [(float(start), float(start) + view_s) for start in starts]


def clip_timepoints(duration_s: float, n: int) -> list[tuple[float, float]]:
    """Return start and end in seconds of the n views of 2 s of the published code, for parity.

    start_i = i * max(duration - 2, 0) / n, like ConstantClipsPerVideoSampler of pytorchvideo at that time: the last
    part of the recording is not covered, and in a short recording all views are the same and end after it.

    Raises:
        UsageError: n is less than 1, or the duration is not a finite number of at least 0.
    """
    return [(float(start), float(end)) for start, end in exact_timepoints(duration_s, n)]


def exact_timepoints(duration_s: float, n: int) -> list[tuple[Fraction, Fraction]]:
    """Return `clip_timepoints` without rounding; the published code computes sample numbers from these values.

    Raises:
        UsageError: as `clip_timepoints`.
    """
    if n < 1 or not (math.isfinite(duration_s) and duration_s >= 0):
        raise UsageError(f"{n} views of {duration_s:g} s: expected at least one view, and 0 s or more")
    step = Fraction(max(duration_s - PUBLISHED_VIEW_S, 0)) / n
    return [(step * i, step * i + PUBLISHED_VIEW_S) for i in range(n)]
