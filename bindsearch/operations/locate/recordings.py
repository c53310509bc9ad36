"""Relevance over a sound or a motion recording: overlapping views, embedded like what is indexed, and spans of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bindsearch.environment import check_libraries
from bindsearch.errors import MediaError
from bindsearch.ingest.media.decode import required_libraries
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.media import NO_CONTENT, DecodeHints, Motion, Sound, missing_content
from bindsearch.operations.locate.located import Curve, Located, RelevantSpan, left_out_notice
from bindsearch.operations.locate.relevance import Probe, margins
from bindsearch.operations.segment_media import DecodedSpan, Place, read_spans
from bindsearch.reports import OnStage
from bindsearch.types import Modality, Span

VIEW_S = 2.5
"""Length of a view of a sound or motion: `mini` was trained with 2.3 s of sound and 2.56 s of motion."""

VIEWS_A_LENGTH = 2
"""Views that begin within the length of one, at detail 1: each moment is embedded twice."""

_CHUNK_S = 60.0
"""Seconds of a recording that are decoded at a time."""

_LEAST_REACH = 0.5
"""Least share of the way to the middle of the next view that a span has: times are known to the step of the views."""

_VIEWS_A_PASS = 16
_JOINED_S = 1e-3
"""Gap of two spans that is none."""


class Views(NamedTuple):
    """Division of a recording: length and distance of the views in seconds."""

    length_s: float
    step_s: float


class View(NamedTuple):
    """A part of a recording, with its start and end in seconds."""

    media: Sound | Motion
    start_s: float
    end_s: float


def locate_spans(probe: Probe, place: Place, decode: DecodeOptions, on_stage: OnStage) -> Located:
    """Return the spans of a sound or motion recording that answer a query.

    Args:
        probe: The query.
        place: The recording; a video stands for its sound, or for the motion that its camera recorded.
        decode: Limits of decoders.
        on_stage: Called with how far the recording is located.

    Raises:
        MediaError: the recording cannot be decoded, or has no content.
    """
    encoder, modality = probe.encoder, place.modality
    check_libraries(required_libraries(encoder, [modality]))
    length_s = max(VIEW_S, encoder.wants.motion_s) if modality is Modality.IMU else VIEW_S
    length_s = min(length_s, encoder.wants.longest_s.get(modality, length_s))
    views = Views(length_s, length_s / (VIEWS_A_LENGTH * probe.options.detail))
    chunks = replace(decode, audio_segment_s=_CHUNK_S, imu_segment_s=_CHUNK_S)
    cut = sliding(read_spans(place, chunks, DecodeHints(1, 1.0)), views)
    vectors = probe.for_target(modality).vectors
    spans: list[Span] = []
    found: list[NDArray[np.float32]] = []
    empty: Counter[str] = Counter()
    while batch := list(islice(cut, _VIEWS_A_PASS)):
        reasons = [missing_content(view.media) for view in batch]
        values = np.zeros(len(batch), np.float32)
        sounding = [row for row, reason in enumerate(reasons) if reason is None]
        if sounding:
            embedded = encoder.encode(modality, [encoder.prepare(batch[row].media) for row in sounding])
            values[sounding] = probe.relevance(margins((embedded @ vectors.T).T), modality)
        empty.update(filter(None, reasons))
        spans += [Span(view.start_s, view.end_s) for view in batch]
        found.append(values)
        on_stage(f"{place.path.name}: {batch[-1].end_s:.0f} s")
    if empty.total() == len(spans):
        raise MediaError(NO_CONTENT + next(iter(empty), f"no {modality}"))
    relevance = np.concatenate(found)
    middles_s = np.array([(span.start_s + span.end_s) / 2 for span in spans])
    curve = Curve(middles_s, relevance, spans[0].start_s, spans[-1].end_s)
    reached, most = spans_of(spans, relevance, probe.options.threshold), probe.options.max_boxes
    without = (f"{count} of {len(spans)} views have no content: {reason}" for reason, count in empty.items())
    notices = (*probe.notices_of(modality), *without, *left_out_notice(len(reached) - most))
    method = f"overlapping spans embedded by {encoder.name}"
    return Located(place.path, modality, method, spans=tuple(reached[:most]), curve=curve, notices=notices)


def sliding(spans: Iterable[DecodedSpan], views: Views) -> Iterator[View]:
    """Yield overlapping views of a recording; the last one of each part without a gap ends with it.

    Args:
        spans: Spans of sound or motion, in order of time.
        views: Length and distance of the views.
    """
    held: Sound | Motion | None = None
    start_s = 0.0
    for span in spans:
        media = span.media
        assert isinstance(media, Sound | Motion)
        held_s = 0.0 if held is None else len(held.samples) / held.sample_rate_hz
        if held is not None and abs(span.start_s - start_s - held_s) <= _JOINED_S:
            held = replace(held, samples=np.concatenate([held.samples, media.samples]))
        else:
            if held is not None:
                yield from _rest(held, start_s, views)
            held, start_s = media, span.start_s
        length, step = (max(1, round(seconds * held.sample_rate_hz)) for seconds in (views.length_s, views.step_s))
        first = 0
        while len(held.samples) - first >= length + step:
            yield _view(held, start_s, first, length)
            first += step
        held, start_s = replace(held, samples=held.samples[first:]), start_s + first / held.sample_rate_hz
    if held is not None:
        yield from _rest(held, start_s, views)


def _rest(held: Sound | Motion, start_s: float, views: Views) -> Iterator[View]:
    """Yield the views of what is held at the end of a part: one, or two if it is longer than a view."""
    length = max(1, round(views.length_s * held.sample_rate_hz))
    if len(held.samples) > length:
        yield _view(held, start_s, 0, length)
    length = min(len(held.samples), length)
    yield _view(held, start_s, len(held.samples) - length, length)


def _view(held: Sound | Motion, start_s: float, first: int, length: int) -> View:
    begin_s = start_s + first / held.sample_rate_hz
    media = replace(held, samples=held.samples[first : first + length].copy())
    return View(media, begin_s, begin_s + length / held.sample_rate_hz)


def spans_of(views: list[Span], relevance: NDArray[np.float32], threshold: float) -> list[RelevantSpan]:
    """Return the spans whose relevance reaches a threshold, most relevant first.

    Views that reach it and overlap or follow each other are one span. It begins where the line between the middle of
    its first view and that of the view before crosses the threshold, and ends likewise; at a gap, or at an end of the
    recording, it reaches as far as the view.

    Args:
        views: Spans of n views, in order of time.
        relevance: Relevance of each, 0..1, float32 (n,).
        threshold: Least relevance.
    """
    found, first = [], None
    reached = [*(relevance >= threshold).tolist(), False]
    for number, is_reached in enumerate(reached):
        apart = number < len(views) and number > 0 and views[number].start_s > views[number - 1].end_s + _JOINED_S
        if first is not None and (not is_reached or apart):
            start_s = _crossing(views, relevance, threshold, first, -1)
            end_s = _crossing(views, relevance, threshold, number - 1, 1)
            found.append(RelevantSpan(Span(start_s, end_s), float(relevance[first:number].max())))
            first = None
        if is_reached and first is None:
            first = number
    return sorted(found, key=lambda one: -one.relevance)


def _crossing(views: list[Span], relevance: NDArray[np.float32], threshold: float, row: int, direction: int) -> float:
    """Return the time at which the relevance falls below a threshold, from a view on in one direction."""
    own, other = views[row], row + direction
    edge_s = own.start_s if direction < 0 else own.end_s
    if not 0 <= other < len(views):
        return edge_s
    gap_s = own.start_s - views[other].end_s if direction < 0 else views[other].start_s - own.end_s
    if gap_s > _JOINED_S:
        return edge_s
    middle_s, other_s = ((view.start_s + view.end_s) / 2 for view in (own, views[other]))
    high, low = float(relevance[row]), float(relevance[other])
    share = (high - threshold) / (high - low) if high > low else 0.0
    return middle_s + min(1.0, max(_LEAST_REACH, share)) * (other_s - middle_s)
