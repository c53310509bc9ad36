"""Boxes of a detector that fit a query, in pictures and in frames of videos."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.encoders.base import Encoder
from bindsearch.environment import installation_faults
from bindsearch.errors import MediaError, UsageError
from bindsearch.ingest.media.options import DecodeOptions, check_imu_rate
from bindsearch.media import Picture
from bindsearch.operations.locate.boxes import Rectangles, to_boxes
from bindsearch.operations.locate.locate import LocatedFile, library_without_store, locate_files, pictures_of
from bindsearch.operations.locate.located import Box, Located, Peak, left_out_notice
from bindsearch.operations.locate.relevance import LocateOptions, Probe, make_probe
from bindsearch.operations.segment_media import Place
from bindsearch.reports import OnStage, ignore_stage
from bindsearch.search.query import Searchable, make_query
from bindsearch.types import Item, Modality, PathLike

if TYPE_CHECKING:
    from bindsearch.encoders.detectors.detector import Detector

DETECTOR_THRESHOLD = 0.2
"""Least score of a box by default: that of the examples of OWLv2."""

DETECTOR_OPTIONS = LocateOptions(threshold=DETECTOR_THRESHOLD)


@installation_faults()
def locate_by_detector(
    query: Searchable,
    files: PathLike | Iterable[PathLike],
    detector: str | Detector,
    *,
    options: LocateOptions = DETECTOR_OPTIONS,
    encoder: str | Encoder | None = None,
    imu_rate_hz: float | None = None,
    device: str = "auto",
    roots: Sequence[Path] = (),
    find: Callable[[str], Item] | None = None,
    on_stage: OnStage = ignore_stage,
) -> list[LocatedFile]:
    """Return the boxes of a detector that fit a query.

    The relevance of a box is the detector's score. It is not compared with other queries.

    Args:
        query: A text, a term or a composition, as for `search`.
        files: Pictures and videos; as texts also FILE@10s-20s, as in queries.
        detector: Detector, or its name.
        options: Threshold and number of boxes.
        encoder: Encoder of the query, or its name, which must share the detector's space; None: the detector itself,
            which embeds texts and pictures.
        imu_rate_hz: Sample rate in Hz of motion files that do not contain one.
        device: Device as in `connect`.
        roots: Root folders of the collections of a store.
        find: Returns the indexed item with an id or path, or raises UsageError; None: there is no store.
        on_stage: Called with what is being located.

    Returns:
        One result a file, in their order; a file that cannot be read has a failure.

    Raises:
        UsageError: there are no files, the query or an option is invalid, or an option has no effect.
        EncoderError: there is no such detector or encoder, it is not installed, or the encoder has another space.
        InstallationError: the extra `detect` is missing.
    """
    from bindsearch.encoders.detectors.detector import check_shared_space, lacks_encoder, load_detector
    from bindsearch.encoders.registry import load_encoder, supports_device
    from bindsearch.encoders.torch_runtime.device import Runtime

    usual = LocateOptions()
    for name, given in (("against", options.against), ("detail", options.detail)):
        if given != getattr(usual, name):
            raise UsageError(f"{name} has no effect on a detector, whose scores are its own: omit it")
    rate_hz = None if imu_rate_hz is None else check_imu_rate(imu_rate_hz, "imu_rate_hz")
    runtime = Runtime(device=device)
    if isinstance(detector, str):
        detector = load_detector(detector, runtime=runtime)
    if isinstance(encoder, str):
        encoder = load_encoder(encoder, runtime=runtime if supports_device(encoder) else Runtime())
    if encoder is not None:
        check_shared_space(detector, encoder)
    else:
        for term in make_query(query).terms:
            if term.kind in set(Modality) - detector.encoder.modalities:
                raise lacks_encoder(detector, str(term.kind))
    chosen = detector.encoder if encoder is None else encoder
    library = library_without_store(chosen, rate_hz, roots, find)
    probe = make_probe(query, options, chosen, library.encode, compared=False)
    return locate_files(files, probe, library, on_stage, partial(_look, detector))


def _look(detector: Detector, probe: Probe, place: Place, decode: DecodeOptions, on_stage: OnStage) -> Located:
    """Return the boxes of a picture or of a video's frames that reach the threshold; raise MediaError for others."""
    wants, most = detector.encoder.wants, probe.options.max_boxes
    if place.modality not in (Modality.IMAGE, Modality.VIDEO):
        raise MediaError(f"is {place.modality}: a detector looks in pictures and videos")
    pictures, notices = pictures_of(place, decode, wants, wants.picture_side_px, on_stage)
    boxes: list[Box] = []
    peaks: list[Peak] = []
    for time_s, picture in pictures:
        assert isinstance(picture, Picture)
        detected = detector.detect(picture.rgb, probe.for_target(Modality.IMAGE).vectors[:1])
        found = Rectangles(detected.boxes.astype(np.float64), detected.scores[:, 0].astype(np.float64))
        boxes += reached_boxes(found, probe.options, time_s)
        peaks += [peak] if (peak := peak_of(found, time_s)) is not None else []
    boxes.sort(key=lambda box: -box.relevance)
    best = max(peaks, key=lambda peak: peak.relevance, default=None)
    told = (*probe.notices, *notices, *left_out_notice(len(boxes) - most))
    return Located(place.path, place.modality, detector.name, tuple(boxes[:most]), peak=best, notices=told)


def reached_boxes(found: Rectangles, options: LocateOptions, at_s: float | None) -> list[Box]:
    """Return the boxes that reach the threshold and overlap no better one, best first."""
    reached = found.relevance >= options.threshold
    return to_boxes(Rectangles(found.sides[reached], found.relevance[reached]), at_s)


def peak_of(found: Rectangles, at_s: float | None) -> Peak | None:
    """Return the middle of the best box; None if there is no box."""
    if len(found.relevance) == 0:
        return None
    row = int(found.relevance.argmax())
    left, top, right, bottom = found.sides[row].tolist()
    return Peak((left + right) / 2, (top + bottom) / 2, float(found.relevance[row]), at_s)
