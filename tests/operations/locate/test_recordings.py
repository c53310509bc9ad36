"""Views of recordings and spans of relevance."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindsearch.media import Sound
from bindsearch.operations.locate.recordings import Views, sliding, spans_of
from bindsearch.operations.segment_media import DecodedSpan
from bindsearch.types import Span

RATE_HZ = 100
VIEWS = Views(2.5, 1.25)


def chunks(lengths: list[int], gap_before: int = -1) -> list[DecodedSpan]:
    """Return spans whose samples are their numbers in the whole; 3 s are missing before one of them."""
    spans, start = [], 0
    for number, length in enumerate(lengths):
        start += 300 if number == gap_before else 0
        samples = np.arange(start, start + length, dtype=np.float32)
        spans.append(DecodedSpan(Sound(samples, RATE_HZ), start / RATE_HZ, (start + length) / RATE_HZ))
        start += length
    return spans


@given(st.lists(st.integers(1, 900), min_size=1, max_size=6), st.integers(-1, 5))
def test_views_cover_a_recording_and_know_where_they_are(lengths: list[int], gap_before: int) -> None:
    spans = chunks(lengths, gap_before)
    views = list(sliding(spans, VIEWS))
    seen: set[int] = set()
    for view in views:
        assert view.media.samples[0] == pytest.approx(view.start_s * RATE_HZ, abs=0.01)
        assert len(view.media.samples) == round((view.end_s - view.start_s) * RATE_HZ) <= 250
        assert (np.diff(view.media.samples) == 1).all()  # no view is over a gap
        seen.update(view.media.samples.astype(int).tolist())
    wanted = {int(sample) for span in spans for sample in span.media.samples}  # type: ignore[union-attr]
    assert seen == wanted
    assert [view.start_s for view in views] == sorted(view.start_s for view in views)


def test_views_of_an_hour_hold_little_at_a_time() -> None:
    def hour() -> Iterator[DecodedSpan]:
        for minute in range(60):
            yield DecodedSpan(Sound(np.zeros(60 * RATE_HZ, np.float32), RATE_HZ), 60.0 * minute, 60.0 * minute + 60)

    count = len([view.start_s for view in sliding(hour(), VIEWS)])
    assert count == pytest.approx(3600 / 1.25, abs=3)


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40), st.floats(0.05, 1))
def test_spans_are_where_the_relevance_reaches_the_threshold(values: list[float], threshold: float) -> None:
    views = [Span(1.25 * number, 1.25 * number + 2.5) for number in range(len(values))]
    relevance = np.array(values, np.float32)
    found = spans_of(views, relevance, threshold)
    reached = relevance >= threshold
    runs = int(reached[0]) + int((reached[1:] & ~reached[:-1]).sum())
    assert len(found) == runs
    assert [one.relevance for one in found] == sorted((one.relevance for one in found), reverse=True)
    for number, view in enumerate(views):
        middle_s = (view.start_s + view.end_s) / 2
        inside = any(one.span.start_s - 1e-6 <= middle_s <= one.span.end_s + 1e-6 for one in found)
        assert inside or not reached[number]
    in_time = sorted(found, key=lambda one: one.span.start_s)
    for first, second in pairwise(in_time):
        assert first.span.end_s <= second.span.start_s + 1e-6
    assert all(0 <= one.span.start_s < one.span.end_s <= views[-1].end_s for one in found)


def test_a_span_ends_where_the_line_crosses_the_threshold() -> None:
    views = [Span(float(number), number + 2.0) for number in range(5)]
    (one,) = spans_of(views, np.array([0, 0.5, 1, 0.5, 0], np.float32), 0.75)
    assert (one.span.start_s, one.span.end_s) == pytest.approx((2.5, 3.5))
    (high,) = spans_of(views, np.array([0, 0, 1, 0, 0], np.float32), 0.9)  # not shorter than the step of the views
    assert (high.span.start_s, high.span.end_s) == pytest.approx((2.5, 3.5))
    (first,) = spans_of(views, np.array([1, 0, 0, 0, 0], np.float32), 0.5)
    assert (first.span.start_s, first.span.end_s) == pytest.approx((0.0, 1.5))


def test_a_span_does_not_reach_over_a_gap() -> None:
    views = [Span(0, 2), Span(1, 3), Span(10, 12), Span(11, 13)]
    found = spans_of(views, np.ones(4, np.float32), 0.9)
    assert sorted((one.span.start_s, one.span.end_s) for one in found) == [(0, 3), (10, 13)]
