"""Cutting of a recording into spans: equal lengths, and no sliver at the end.

The rule: spans of `segment_s` from the start; what is left at the end makes a span of its own when it is at least
`shortest_tail_s(segment_s)` long (1 s, or half a segment where segments are shorter than 2 s), else it joins the span
before it. A recording shorter than that is one span.
"""

from __future__ import annotations

from bindsearch.errors import MediaError
from bindsearch.types import Span


def shortest_tail_s(segment_s: float) -> float:
    """The shortest last span in seconds that is not joined to the one before it."""
    return min(1.0, segment_s / 2)


def span_edges(length_s: float, segment_s: float) -> list[tuple[float, float]]:
    """(start_s, end_s) of the spans of a recording of `length_s` seconds, in order, without gaps."""
    whole = int(length_s / segment_s + 1e-9)
    rest = length_s - whole * segment_s
    if whole and rest < shortest_tail_s(segment_s) - 1e-9:
        edges = [i * segment_s for i in range(whole)]
    else:
        edges = [i * segment_s for i in range(whole + 1)]
    return list(zip(edges, [*edges[1:], length_s], strict=True))


def check_span(span: Span | None) -> None:
    """A span runs forward from 0 or later.

    Raises:
        MediaError: it does not.
    """
    if span is not None and not 0 <= span.start_s < span.end_s < float("inf"):
        raise MediaError(f"span {span.start_s:g}s-{span.end_s:g}s: expected a start of 0 or later and a later end")
