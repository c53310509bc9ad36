"""Cutting of a recording into spans of equal length, without a very short one at the end.

The rule: spans of `segment_s` from the start; the rest at the end is a span of its own if it is at least
`shortest_tail_s(segment_s)` long (1 s, or half a segment if segments are shorter than 2 s), else it is added to the
previous span. A recording shorter than that is one span.
"""

from __future__ import annotations

from bindsearch.errors import MediaError
from bindsearch.types import Span


def shortest_tail_s(segment_s: float) -> float:
    """Return the minimum length in seconds of a last span that is not added to the previous one."""
    return min(1.0, segment_s / 2)


def span_edges(length_s: float, segment_s: float) -> list[tuple[float, float]]:
    """Return (start_s, end_s) of the spans of a recording of `length_s` seconds, in order, without gaps."""
    full_spans = int(length_s / segment_s + 1e-9)
    rest = length_s - full_spans * segment_s
    if full_spans and rest < shortest_tail_s(segment_s) - 1e-9:
        edges = [i * segment_s for i in range(full_spans)]
    else:
        edges = [i * segment_s for i in range(full_spans + 1)]
    return list(zip(edges, [*edges[1:], length_s], strict=True))


def check_span(span: Span | None) -> None:
    """Check that a span starts at 0 or later and ends after its start.

    Raises:
        MediaError: it does not.
    """
    if span is not None and not 0 <= span.start_s < span.end_s < float("inf"):
        raise MediaError(f"span {span.start_s:g}s-{span.end_s:g}s: expected a start of 0 or later and a later end")
