"""The media of one segment, decoded as an indexing run does, but no more of the file than the segment needs."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

from bindsearch.environment import raise_installation_fault
from bindsearch.errors import BindSearchError, MediaError
from bindsearch.ingest.archives.limits import sample_key
from bindsearch.ingest.archives.samples import ArchiveLimits, Member, archive_kind, read_members
from bindsearch.ingest.inspect.find_file import find_file
from bindsearch.ingest.inspect.inspect_file import declared_of
from bindsearch.ingest.media.decode import pieces, reason_of
from bindsearch.ingest.media.imu.recording import MotionSpan, read_imu
from bindsearch.ingest.media.options import LONGEST_SPAN_S, DecodeOptions
from bindsearch.ingest.media.pictures.depth import read_depth
from bindsearch.ingest.media.pictures.depth_map.units import unit_by_name
from bindsearch.ingest.media.pictures.image import read_image
from bindsearch.ingest.media.pictures.thermal import read_scene
from bindsearch.ingest.media.recordings.audio import read_sound
from bindsearch.ingest.media.recordings.av_container import kind_of
from bindsearch.ingest.media.recordings.gpmf import read_motion_track
from bindsearch.ingest.media.recordings.video.read import read_video
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.ingest.media.texts.documents import document_kind
from bindsearch.ingest.media.texts.pdf import read_pdf
from bindsearch.media import DecodeHints, Media, Passage, Picture, ThermalPicture, drop_note
from bindsearch.small_files import NOT_REGULAR, is_not_regular, open_regular
from bindsearch.types import Modality, Span

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_Found = TypeVar("_Found")

LARGE = DecodeHints(picture_side_px=480, frames_per_s=2.0)
"""Pictures with a shorter side of at least 960 pixels, if the file has them, and two frames a second."""

INSTANT_S = 1e-3
"""Length of a span of video that has one frame, and of the cells that it is sampled in."""

_HEAD_BYTES = 4096
_PASSAGE_CHARACTERS = 4000
"""Characters of the first passage of a text whose passage is not given."""


@dataclass(frozen=True)
class Place:
    """A segment of an indexed file, or a whole file.

    Attributes:
        path: The file; a member of an archive is named below it, as in hits.
        root: Root of its collection, whose settings, sidecars and lists apply; of a file that is in none, its folder.
        modality: Modality of the segment.
        start_s: Start in seconds; None: not a span.
        end_s: End in seconds; None: not a span.
        text: The passage of a text; None: the first one of the file.
    """

    path: Path
    root: Path
    modality: Modality
    start_s: float | None = None
    end_s: float | None = None
    text: str | None = None

    @property
    def span(self) -> Span | None:
        """The span; None: the whole file."""
        return None if self.start_s is None or self.end_s is None else Span(self.start_s, self.end_s)


@dataclass(frozen=True)
class SegmentMedia:
    """A decoded segment.

    Attributes:
        media: The medium.
        degrees_c: float64 (height, width) of a thermal picture, NaN where missing; None: not known.
        is_relative: Whether the metres of a depth map are a convention, as it only tells nearer from farther.
        is_page: Whether it is the first page of a document.
    """

    media: Media
    degrees_c: NDArray[np.float64] | None = None
    is_relative: bool = False
    is_page: bool = False


@dataclass(frozen=True)
class DecodedSpan:
    """A decoded span of a recording, with its start and end in seconds."""

    media: Media
    start_s: float
    end_s: float


def read_media(place: Place, options: DecodeOptions | None = None) -> Media:
    """Return the medium of a segment, decoded as it was for the index; pictures may be larger.

    Args:
        place: The segment; without a span, of a recording its first segment.
        options: Limits and lengths of segments; None: the defaults.

    Raises:
        MediaError: the file is gone, has changed so that there is no such segment, or is damaged.
    """
    return read_segment(place, options or DecodeOptions(), LARGE).media


def read_segment(place: Place, options: DecodeOptions, hints: DecodeHints) -> SegmentMedia:
    """Return a decoded segment.

    Args:
        place: The segment.
        options: Limits, and lengths of segments.
        hints: Sizes of pictures and rate of frames that are needed.

    Raises:
        MediaError: as for `read_media`.
    """
    with _media_faults(place), _on_disk(place) as (path, own):
        return _decode(replace(place, path=path), _declared(place, path, own), _as_long(options, place), hints)


def read_spans(place: Place, options: DecodeOptions, hints: DecodeHints) -> Generator[DecodedSpan]:
    """Yield the spans of a video, sound or motion recording in order of time; one or two of them are in memory.

    Args:
        place: The recording; its span limits what is decoded.
        options: Limits, and lengths of spans.
        hints: Sizes and rate of frames.

    Raises:
        MediaError: as for `read_media`, or there is nothing of the modality.
    """
    with _media_faults(place), _on_disk(place) as (path, own):
        spans = _spans(replace(place, path=path), _declared(place, path, own), options, hints)
        yield _first(spans, place)
        yield from spans


@contextmanager
def _media_faults(place: Place) -> Generator[None]:
    """Raise the errors of decoders as MediaError."""
    try:
        yield
    except BindSearchError:
        raise
    except OSError as error:
        raise MediaError(NOT_REGULAR if is_not_regular(error) else reason_of(error)) from error
    except Exception as error:  # libraries raise many errors for damaged files
        raise_installation_fault(error)
        raise MediaError(f"cannot decode as {place.modality}: {reason_of(error)}") from error


def _spans(place: Place, sidecar: Sidecar, options: DecodeOptions, hints: DecodeHints) -> Iterator[DecodedSpan]:
    """Yield the spans of a recording whose bytes are at its path."""
    match place.modality:
        case Modality.VIDEO:
            for video in read_video(place.path, hints, options, place.span):
                yield DecodedSpan(video.frames, video.start_s, video.end_s)
        case Modality.AUDIO:
            max_s = options.max_sound_s
            for sound in read_sound(place.path, options.audio_segment_s, place.span, max_s=max_s):
                yield DecodedSpan(sound.sound, sound.start_s, sound.end_s)
        case Modality.IMU:
            for motion in _motion(place, sidecar, options):
                yield DecodedSpan(motion.motion, motion.start_s, motion.end_s)
        case other:
            raise MediaError(f"{other} has no spans of time")


@contextmanager
def _on_disk(place: Place) -> Generator[tuple[Path, Sidecar | None]]:
    """Yield where the bytes of a file are, and its sidecar in an archive: a member is extracted for the time being."""
    try:
        open_regular(place.path).close()
    except (FileNotFoundError, NotADirectoryError):
        pass
    else:
        yield place.path, None
        return
    archive = next((above for above in place.path.parents if above.is_file()), None)
    if archive is None or archive_kind(archive) is None:
        raise MediaError("the file is gone: it was deleted or moved, or its disk is not mounted")
    name = place.path.relative_to(archive).as_posix()
    sample = sample_key(name)
    with TemporaryDirectory(prefix="bindsearch-") as spool:
        members = read_members(
            archive, ArchiveLimits(), Path(spool), wanted=lambda other: other == name or sample_key(other) == sample
        )
        for member in members:
            if isinstance(member, Member) and member.name == name:
                yield member.path, member.sidecar or Sidecar()
                return
    raise MediaError(f"the archive {archive.name} has no such member now")


def _declared(place: Place, path: Path, own: Sidecar | None) -> Sidecar:
    """Return what is declared about a file with its bytes at `path`; `own`: its sidecar in an archive, if any."""
    modality = place.modality
    uses_it = modality in (Modality.TEXT, Modality.DEPTH, Modality.THERMAL, Modality.IMU) and place.text is None
    if not uses_it or (modality is Modality.IMU and kind_of(path) == "mp4"):
        return Sidecar()
    found = find_file(place.path, [place.root])
    sidecar = declared_of(replace(found.file, path=path, sidecar=own), found.options).for_modality(modality)
    if modality is Modality.DEPTH and sidecar.depth_unit is None:
        return replace(sidecar, depth_unit=unit_by_name(f"{found.options.root_name}/{found.file.rel_path}"))
    return sidecar


def _as_long(options: DecodeOptions, place: Place) -> DecodeOptions:
    """Return options with which the span of a place is one segment."""
    span = place.span
    if span is None:
        return options
    length_s = min(max(span.end_s - span.start_s, 0.1), LONGEST_SPAN_S)
    return replace(options, audio_segment_s=length_s, video_segment_s=length_s, imu_segment_s=length_s)


def _decode(place: Place, sidecar: Sidecar, options: DecodeOptions, hints: DecodeHints) -> SegmentMedia:
    """Return the medium of a place whose bytes are at its path."""
    path, span = place.path, place.span
    match place.modality:
        case Modality.TEXT if place.text is not None:
            return SegmentMedia(Passage(place.text))
        case Modality.TEXT:
            return SegmentMedia(_first_passage(path, sidecar, options))
        case Modality.IMAGE:
            return _picture(path, options, hints)
        case Modality.VIDEO:
            return SegmentMedia(_first(read_video(path, hints, options, span), place).frames)
        case Modality.AUDIO:
            return SegmentMedia(_first(read_sound(path, options.audio_segment_s, span), place).sound)
        case Modality.DEPTH:
            depth, reading = read_depth(path, sidecar, options)
            return SegmentMedia(depth, is_relative="depth_median_m" not in reading.facts)
        case Modality.THERMAL:
            scene = read_scene(path, sidecar, options)
            return SegmentMedia(ThermalPicture(scene.levels), degrees_c=scene.degrees_c)
        case Modality.IMU:
            return SegmentMedia(_first(_motion(place, sidecar, options), place).motion)


def _first(found: Iterator[_Found], place: Place) -> _Found:
    """Return the first of the segments that were found. Raises MediaError: there is none."""
    if (first := next(found, None)) is None:
        raise MediaError(f"the file contains no {place.modality} {'in this span ' if place.span else ''}now")
    return first


def _picture(path: Path, options: DecodeOptions, hints: DecodeHints) -> SegmentMedia:
    """Return a picture; of a document, that of its first page."""
    with path.open("rb") as file:
        is_pdf = document_kind(path, file.read(_HEAD_BYTES)) == "pdf"
    if not is_pdf:
        return SegmentMedia(read_image(path, hints, options))
    parts = read_pdf(path, hints.picture_side_px, drop_note)
    if (picture := next((part for part in parts if isinstance(part, Picture)), None)) is None:
        raise MediaError("the document has no picture of a page now")
    return SegmentMedia(picture, is_page=True)


def _motion(place: Place, sidecar: Sidecar, options: DecodeOptions) -> Iterator[MotionSpan]:
    """Return the motion of a recording, or that of a camera in its video."""
    if kind_of(place.path) == "mp4":
        return iter(read_motion_track(place.path, options, place.span)[0])
    return read_imu(place.path, sidecar, options, place.span)


def _first_passage(path: Path, sidecar: Sidecar, options: DecodeOptions) -> Passage:
    """Return the beginning of a text."""
    limits: dict[str, Any] = {"count_tokens": len, "max_tokens": _PASSAGE_CHARACTERS}
    segments = pieces(path, Modality.TEXT, wants=DecodeHints(1, 1.0), options=options, sidecar=sidecar, **limits)
    with closing(segments):
        for segment in segments:
            if isinstance(segment.media, Passage):
                return segment.media
    raise MediaError("the file contains no text now")
