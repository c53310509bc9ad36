"""Places in files that answer a query: boxes of pictures and of frames of videos, spans of sounds and of motion."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bindsearch.arguments import is_existing_file, to_absolute, to_integer, to_list, to_path_text
from bindsearch.encoders.base import Encoder, locatable_modalities
from bindsearch.environment import check_libraries, installation_faults
from bindsearch.errors import InstallationError, MediaError, UsageError, VectorError
from bindsearch.ingest.media.decode import required_libraries
from bindsearch.ingest.media.options import DecodeOptions, check_imu_rate
from bindsearch.media import NO_CONTENT, DecodeHints, DepthMap, Frames, Picture, ThermalPicture, missing_content
from bindsearch.operations.encode_query import encode_without_store
from bindsearch.operations.locate.boxes import boxes_of
from bindsearch.operations.locate.dense import PictureLike, cosine_map
from bindsearch.operations.locate.located import Asked, Box, Located, Peak, asked_of, left_out_notice
from bindsearch.operations.locate.recordings import locate_spans
from bindsearch.operations.locate.relevance import EncodeTerms, LocateOptions, Probe, make_probe, margins
from bindsearch.operations.segment_media import LARGE, Place, read_segment, read_spans
from bindsearch.operations.show.show_file import find_root, parse_file
from bindsearch.reports import OnStage, ignore_stage
from bindsearch.search.query import LIKE, Searchable
from bindsearch.search.query_encoding import modality_of_file
from bindsearch.types import Hit, Item, Modality, PathLike

MAX_FRAMES = 64
"""Most frames of a video that are located; of a longer one every second, fourth, ... of the sampled frames."""

LookInPlace: TypeAlias = Callable[[Probe, Place, DecodeOptions, OnStage], Located]
"""Returns where a segment or file answers a query, as `locate_place`."""

Where: TypeAlias = Hit | int | PathLike
"""A hit; the id of an item; or a file, as text also MODALITY:FILE, FILE@10s-20s or like:ITEM."""


@dataclass(frozen=True)
class Library:
    """The files that can be named, and how terms are encoded."""

    encode: EncodeTerms
    decode: DecodeOptions
    roots: Sequence[Path] = ()  # of the collections
    find: Callable[[str], Item] | None = None  # finds an item by id or path, or raises UsageError; None: no store


@dataclass(frozen=True, slots=True)
class LocatedFile:
    """One of several files that a query was located in.

    Attributes:
        source: The file, as given.
        asked: The query.
        place: The segment or file that was read; None if there is none.
        located: Where it answers; None if it could not be read.
        failure: Why it could not be read; empty if it could.
    """

    source: str
    asked: Asked
    place: Place | None
    located: Located | None
    failure: str = ""


@installation_faults()
def locate(
    query: Searchable,
    files: PathLike | Iterable[PathLike],
    *,
    options: LocateOptions | None = None,
    encoder: str | Encoder = "mini",
    encoder_options: Mapping[str, str | int | float | bool] = MappingProxyType({}),
    imu_rate_hz: float | None = None,
    device: str = "auto",
    on_stage: OnStage = ignore_stage,
) -> list[LocatedFile]:
    """Return where files answer a query, without a store.

    Args:
        query: A text, a term or a composition, as for `search`.
        files: Files of any modality but text; as texts also MODALITY:FILE or FILE@10s-20s, as in queries.
        options: Options of locating (None: the defaults).
        encoder: Encoder, or its name.
        encoder_options: Preprocessing options of the encoder.
        imu_rate_hz: Sample rate in Hz of motion files that do not contain one.
        device: Device as in `connect`.
        on_stage: Called with what is being located.

    Returns:
        One result a file, in their order; a file that cannot be read has a failure.

    Raises:
        UsageError: there are no files, or the query or an option is invalid.
        EncoderError: there is no such encoder, or its model is not installed.
    """
    from bindsearch.encoders import load_encoder
    from bindsearch.encoders.torch_runtime.device import Runtime

    rate_hz = None if imu_rate_hz is None else check_imu_rate(imu_rate_hz, "imu_rate_hz")
    if isinstance(encoder, str):
        encoder = load_encoder(encoder, options=encoder_options, runtime=Runtime(device=device))
    library = library_without_store(encoder, rate_hz)
    probe = make_probe(query, options or LocateOptions(), encoder, library.encode)
    return locate_files(files, probe, library, on_stage)


def library_without_store(
    encoder: Encoder,
    imu_rate_hz: float | None,
    roots: Sequence[Path] = (),
    find: Callable[[str], Item] | None = None,
) -> Library:
    """Return the files that can be named, and how terms are encoded without the vectors of a store."""
    encode = partial(encode_without_store, encoder=encoder, imu_rate_hz=imu_rate_hz)
    return Library(encode, DecodeOptions(imu_rate_hz=imu_rate_hz), roots, find)


def locate_files(
    files: PathLike | Iterable[PathLike],
    probe: Probe,
    library: Library,
    on_stage: OnStage = ignore_stage,
    look: LookInPlace | None = None,
) -> list[LocatedFile]:
    """Return where files answer an encoded query, in their order; one that cannot be read has a failure.

    Args:
        files: The files.
        probe: The query.
        library: The files that can be named.
        on_stage: Called with what is being located.
        look: Locates in a place; None: `locate_place`.

    Raises:
        UsageError: there are no files.
        InstallationError: a library that is needed cannot be loaded.
    """
    sources = [to_path_text(file) for file in to_list(files, "the list of files")]
    if not sources:
        raise UsageError("nothing to look in: give at least one file")
    return [_locate_source(source, probe, library, on_stage, look or locate_place) for source in sources]


def _locate_source(source: str, probe: Probe, library: Library, on_stage: OnStage, look: LookInPlace) -> LocatedFile:
    place = None
    try:
        place, notices = to_place(source, library)
        located = look(probe, place, library.decode, on_stage)
    except InstallationError:
        raise
    except (UsageError, VectorError) as error:  # MediaError is one
        return LocatedFile(source, asked_of(probe, None), place, None, str(error))
    asked = asked_of(probe, place.modality)
    return LocatedFile(source, asked, place, replace(located, notices=(*notices, *located.notices)))


def to_place(where: Where, library: Library) -> tuple[Place, tuple[str, ...]]:
    """Return the segment or file that is named, and notices.

    Raises:
        UsageError: there is no such file or item, or its modality cannot be detected.
    """
    if isinstance(where, Hit):
        place = Place(where.path, where.collection, where.modality, where.start_s, where.end_s, where.text)
        item = None
        with suppress(UsageError):  # the item is not there any more, or the hit is of another store
            item = None if library.find is None else library.find(str(where.item_id))
        return place, () if item is None else _changes_of(item)
    if not isinstance(where, str | os.PathLike):
        where = f"{LIKE}:{to_integer(where, 'the item', 'give a hit, the id of an item, or a file')}"
    source = to_path_text(where)
    kind, _, rest = source.partition(":")
    if kind == LIKE and rest.strip():
        if library.find is None:
            way_out = "give a file, or a store without another encoder"
            raise UsageError(f"{source} is an item of a store, and none is used: {way_out}")
        item = library.find(rest.strip())
    else:
        item = None if library.find is None else _item_at(source, library.find)
    if item is not None:
        return Place(item.path, item.collection, item.modality), _changes_of(item)
    term = parse_file(source)
    path = to_absolute(term.source)
    modality = modality_of_file(path, library.roots) if term.kind is None else Modality(term.kind)
    times = (None, None) if term.span is None else (term.span.start_s, term.span.end_s)
    return Place(path, find_root(term, None, library.roots), modality, *times), ()


def _item_at(source: str, find: Callable[[str], Item]) -> Item | None:
    """Return the indexed item at a path; None if there is none, or if the text is an id."""
    if source.isdecimal() and not is_existing_file(Path(source)):
        return None
    try:
        return find(str(to_absolute(source)))
    except UsageError:
        return None


def _changes_of(item: Item) -> tuple[str, ...]:
    """Return a notice if a file has changed since it was indexed."""
    try:
        state = item.path.stat()
    except OSError:
        return ()  # decoding it says why, or it is a member of an archive
    if (state.st_size, state.st_mtime_ns) == (item.size_bytes, item.mtime_ns):
        return ()
    return (f"{item.path} has changed since it was indexed: located in the file as it is now",)


def locate_place(probe: Probe, place: Place, decode: DecodeOptions, on_stage: OnStage = ignore_stage) -> Located:
    """Return where a segment or file answers a query.

    Args:
        probe: The query.
        place: The segment or file.
        decode: Limits of decoders, and lengths of segments.
        on_stage: Called with what is being located.

    Raises:
        MediaError: it cannot be decoded, has no content, or is a text.
        UsageError: the encoder cannot embed its modality.
    """
    encoder, modality = probe.encoder, place.modality
    if modality is Modality.TEXT:
        raise MediaError("is a text: pictures, videos, sounds and motion have parts that are located")
    embedded = Modality.IMAGE if modality is Modality.VIDEO else modality  # frame by frame
    if embedded not in encoder.modalities:
        supported = ", ".join(known for known in Modality if known in encoder.modalities)
        raise UsageError(f"the encoder {encoder.name} cannot embed {embedded}: it supports {supported}")
    if modality in (Modality.AUDIO, Modality.IMU):
        return locate_spans(probe, place, decode, on_stage)
    check_libraries([*required_libraries(encoder, [modality]), "scipy.ndimage"])
    side_px = max(LARGE.picture_side_px, encoder.wants.picture_side_px)
    pictures, notices = pictures_of(place, decode, encoder.wants, side_px, on_stage)
    boxes: list[Box] = []
    best: tuple[_Map, float | None] | None = None
    for time_s, picture in pictures:
        shown = _map(probe, picture, embedded)
        boxes += boxes_of(shown.relevance, probe.options.threshold, time_s)
        if best is None or shown.margin > best[0].margin:
            best = shown, time_s
    assert best is not None  # there is a picture
    shown, best_s = best
    boxes.sort(key=lambda box: (-box.relevance, box.at_s != best_s))
    located = _located(probe, place, boxes, shown, best_s)
    return replace(located, notices=(*located.notices, *notices))


def pictures_of(
    place: Place, decode: DecodeOptions, wants: DecodeHints, side_px: int, on_stage: OnStage
) -> tuple[Iterator[tuple[float | None, PictureLike]], Sequence[str]]:
    """Return a picture, or the frames of a video with their times in seconds, and notices; raise MediaError."""
    if place.modality is not Modality.VIDEO:
        on_stage(place.path.name)
        media, notes = read_picture(place, decode, side_px)
        return iter([(None, media)]), notes
    frames, notices = frames_with_content(place, decode, wants)

    def taken() -> Iterator[tuple[float | None, PictureLike]]:
        for time_s, picture in frames:
            on_stage(f"{place.path.name}: {time_s:.0f} s")
            yield time_s, picture

    return taken(), notices


def read_picture(place: Place, decode: DecodeOptions, side_px: int) -> tuple[PictureLike, tuple[str, ...]]:
    """Return a picture, depth map or thermal picture, and a notice if it is a page of a document.

    Files of several sizes have one of at least `side_px` pixels.

    Raises:
        MediaError: it cannot be decoded, or has no content.
    """
    found = read_segment(place, decode, DecodeHints(side_px, 1.0))
    assert isinstance(found.media, Picture | DepthMap | ThermalPicture)
    if (reason := missing_content(found.media)) is not None:
        raise MediaError(NO_CONTENT + reason)
    return found.media, (f"of the document {place.path.name} the first page is located",) if found.is_page else ()


@dataclass(frozen=True, slots=True)
class _Map:
    """Relevance over a picture, and the row, column and margin of the cell that answers best."""

    relevance: NDArray[np.float32]  # (h, w), NaN where it is not known
    best: tuple[int, int]
    margin: float


def _map(probe: Probe, media: PictureLike, modality: Modality) -> _Map:
    """Return the map of a picture; the best cell has the greatest margin: several may have a relevance of 1."""
    cosines = cosine_map(probe.encoder, media, probe.for_target(modality).vectors, probe.options.detail)
    margin = margins(cosines)
    row, column = np.unravel_index(int(np.nanargmax(margin)), margin.shape)
    return _Map(probe.relevance(margin, modality), (int(row), int(column)), float(np.nanmax(margin)))


def _located(probe: Probe, place: Place, boxes: list[Box], shown: _Map, at_s: float | None) -> Located:
    """Return what was located in a picture, or in a video with its best frame, of boxes with the best first."""
    heat, (row, column) = shown.relevance, shown.best
    x, y = (column + 0.5) / heat.shape[1], (row + 0.5) / heat.shape[0]
    peak = Peak(x, y, float(heat[row, column]), at_s)
    encoder, modality, most = probe.encoder.name, place.modality, probe.options.max_boxes
    notices = [*probe.notices_of(modality)]
    method = f"dense features of {encoder}"
    if (Modality.IMAGE if modality is Modality.VIDEO else modality) not in locatable_modalities(probe.encoder):
        method = f"overlapping parts embedded by {encoder}"
        notices.append(f"the encoder {encoder} has no dense features of {modality}: {method}, which is slower")
    notices += left_out_notice(len(boxes) - most)
    return Located(place.path, modality, method, tuple(boxes[:most]), peak=peak, heat=heat, notices=tuple(notices))


def frames_with_content(
    place: Place, decode: DecodeOptions, wants: DecodeHints
) -> tuple[list[tuple[float, Picture]], list[str]]:
    """Return frames of a video with their times in seconds, and notices of those that are not located.

    Raises:
        MediaError: it cannot be decoded, or all frames are of one colour.
    """
    frames, total = _sampled_frames(place, decode, wants)
    kept = [(time_s, picture) for time_s, picture in frames if missing_content(picture) is None]
    if not kept:
        raise MediaError(f"{NO_CONTENT}one colour")
    looked, blank = len(frames), len(frames) - len(kept)
    notices = [f"{looked} of {total} sampled frames are located, evenly spread"] if looked < total else []
    return kept, [*notices, f"{blank} of {looked} frames have no content: one colour"] if blank else notices


def _sampled_frames(place: Place, decode: DecodeOptions, wants: DecodeHints) -> tuple[list[tuple[float, Picture]], int]:
    """Return at most MAX_FRAMES frames of a video with their times in seconds, and the number that was sampled."""
    kept: list[tuple[float, Picture]] = []
    every, total = 1, 0
    for span in read_spans(place, decode, wants):
        assert isinstance(span.media, Frames)
        for time_s, rgb in zip(span.media.times_s.tolist(), span.media.rgb, strict=True):
            if total % every == 0:
                kept.append((time_s, Picture(rgb.copy())))  # a view would keep the frames of the whole segment
                if len(kept) > MAX_FRAMES:
                    kept, every = kept[::2], 2 * every
            total += 1
    return kept, total
