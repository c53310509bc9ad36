"""One file to its segments: every modality through one table of decoders, streamed, every failure a MediaError."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from bindsearch.encoders.base import Encoder, libraries_of
from bindsearch.environment import raise_installation_fault
from bindsearch.errors import BindSearchError, InstallationError, MediaError
from bindsearch.ingest.media.imu.recording import describe_imu, read_imu
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.depth import describe_depth, read_depth
from bindsearch.ingest.media.pictures.image import read_image
from bindsearch.ingest.media.pictures.thermal import read_thermal
from bindsearch.ingest.media.recordings.audio import read_sound, read_sound_track
from bindsearch.ingest.media.recordings.video import read_video, video_kind
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.ingest.media.sniff import ANIMATIONS
from bindsearch.ingest.media.text import CountTokens, passages, read_text
from bindsearch.media import DecodeHints, Media, Passage
from bindsearch.types import Modality, Span

__all__ = ["DECODERS", "DecodedSegment", "Job", "describe", "passages", "pieces"]


@dataclass(frozen=True, slots=True)
class DecodedSegment:
    """Medium that becomes one segment: the medium, its place in seconds where it is a span, its text where it is
    one."""

    modality: Modality
    media: Media
    start_s: float | None = None
    end_s: float | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One file to decode, and all that decides how."""

    path: Path
    wants: DecodeHints
    options: DecodeOptions
    sidecar: Sidecar
    count_tokens: CountTokens
    max_tokens: int
    span: Span | None


def pieces(
    path: Path,
    modality: Modality,
    *,
    wants: DecodeHints,
    options: DecodeOptions,
    sidecar: Sidecar,
    count_tokens: Callable[[str], int],
    max_tokens: int,
    span: Span | None = None,
) -> Iterator[DecodedSegment]:
    """Decode one file as `modality`, lazily and in order of time; with `span` only what lies inside it.

    A video gives its pictures, then its sound track as audio. Captions in the sidecar are text pieces at the end
    (without `span`). Memory stays within a span or two, however long the recording. A damaged file may give pieces
    before it fails: take them for good only when the iteration has ended.

    Raises:
        MediaError: the file cannot be decoded, or there is nothing in it; the message does not name the file.
    """
    job = Job(path, wants, options, sidecar, count_tokens, max_tokens, span)
    try:
        _check_file(path)
        found = False
        for piece in DECODERS[modality](job):
            found = True
            yield piece
        if not found:
            raise MediaError(f"the file holds no {modality}")
        if span is None:
            for caption in sidecar.captions:
                yield from _text_pieces(caption, job)
    except BindSearchError:
        raise
    except Exception as error:  # the one place where a library's failure on a strange file becomes ours
        raise_installation_fault(error)
        raise MediaError(f"cannot be decoded as {modality}: {reason_of(error)}") from error


LIBRARIES: Mapping[Modality, tuple[str, ...]] = MappingProxyType(
    {
        Modality.TEXT: (),
        Modality.IMAGE: ("PIL",),
        Modality.VIDEO: ("av", "PIL"),
        Modality.AUDIO: ("soundfile", "av"),
        Modality.DEPTH: ("PIL",),
        Modality.THERMAL: ("PIL",),
        Modality.IMU: ("pyarrow",),
    }
)
"""Modules that decode files of each modality."""


def required_libraries(encoder: Encoder, modalities: Iterable[Modality]) -> list[str]:
    """Return the modules that decoding and embedding files of these modalities imports, each once."""
    chosen = sorted(modalities)
    return [*dict.fromkeys(name for one in chosen for name in (*LIBRARIES[one], *libraries_of(encoder, one)))]


def describe(path: Path, modality: Modality, sidecar: Sidecar, options: DecodeOptions) -> str:
    """A short note on what decoding takes for granted, from headers alone ("" where there is nothing to say).

    Depth: unit, focal length and baseline; motion: where the rate comes from. A file whose header cannot be read
    gets the reason instead.
    """
    describer = _DESCRIBERS.get(modality)
    if describer is None:
        return ""
    try:
        _check_file(path)
        return describer(path, sidecar, options)
    except InstallationError:
        raise
    except BindSearchError as error:
        return f"cannot be decoded: {error}"
    except Exception as error:
        raise_installation_fault(error)
        return f"cannot be decoded: {reason_of(error)}"


def reason_of(error: Exception) -> str:
    """A library's exception in one short line, without the file's name."""
    text = getattr(error, "strerror", None) or str(error)
    if isinstance(error, MemoryError):
        text = "not enough memory"
    line = " ".join(str(text).split())
    return (line if line else type(error).__name__)[:200]


def _check_file(path: Path) -> None:
    if not stat.S_ISREG(path.stat().st_mode):
        raise MediaError("not a regular file")


def _decode_text(job: Job) -> Iterator[DecodedSegment]:
    _refuse_span(job, Modality.TEXT)
    yield from _text_pieces(read_text(job.path, job.options), job)


def _text_pieces(text: str, job: Job) -> Iterator[DecodedSegment]:
    for passage in passages(text, job.count_tokens, job.max_tokens):
        yield DecodedSegment(Modality.TEXT, Passage(passage), text=passage)


def _decode_image(job: Job) -> Iterator[DecodedSegment]:
    _refuse_span(job, Modality.IMAGE)
    yield DecodedSegment(Modality.IMAGE, read_image(job.path, job.wants, job.options))


def _decode_video(job: Job) -> Iterator[DecodedSegment]:
    for part in read_video(job.path, job.wants, job.options, job.span):
        yield DecodedSegment(Modality.VIDEO, part.frames, part.start_s, part.end_s)
    kind = video_kind(job.path)
    if kind in ANIMATIONS:
        return
    for sound in read_sound_track(job.path, kind, job.options.audio_segment_s, job.span, max_s=job.options.max_sound_s):
        yield DecodedSegment(Modality.AUDIO, sound.sound, sound.start_s, sound.end_s)


def _decode_audio(job: Job) -> Iterator[DecodedSegment]:
    for part in read_sound(job.path, job.options.audio_segment_s, job.span, max_s=job.options.max_sound_s):
        yield DecodedSegment(Modality.AUDIO, part.sound, part.start_s, part.end_s)


def _decode_depth(job: Job) -> Iterator[DecodedSegment]:
    _refuse_span(job, Modality.DEPTH)
    yield DecodedSegment(Modality.DEPTH, read_depth(job.path, job.sidecar, job.options))


def _decode_thermal(job: Job) -> Iterator[DecodedSegment]:
    _refuse_span(job, Modality.THERMAL)
    yield DecodedSegment(Modality.THERMAL, read_thermal(job.path, job.options))


def _decode_imu(job: Job) -> Iterator[DecodedSegment]:
    for part in read_imu(job.path, job.sidecar, job.options, job.span):
        yield DecodedSegment(Modality.IMU, part.motion, part.start_s, part.end_s)


def _refuse_span(job: Job, modality: Modality) -> None:
    if job.span is not None:
        raise MediaError(f"a span of seconds means nothing for {modality}")


DECODERS: Mapping[Modality, Callable[[Job], Iterator[DecodedSegment]]] = MappingProxyType(
    {
        Modality.TEXT: _decode_text,
        Modality.IMAGE: _decode_image,
        Modality.VIDEO: _decode_video,
        Modality.AUDIO: _decode_audio,
        Modality.DEPTH: _decode_depth,
        Modality.THERMAL: _decode_thermal,
        Modality.IMU: _decode_imu,
    }
)

_DESCRIBERS: Mapping[Modality, Callable[[Path, Sidecar, DecodeOptions], str]] = MappingProxyType(
    {Modality.DEPTH: describe_depth, Modality.IMU: describe_imu}
)
