"""Preparation: decoding of one file and the encoder's preprocessing, as far as no tower is needed."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from bindsearch.encoders.base import Encoder
from bindsearch.environment import installation_fault
from bindsearch.errors import BindSearchError, EncoderError, InstallationError, MediaError, VectorError
from bindsearch.ingest.inspect.inspect_file import InspectResult, SourceFile
from bindsearch.ingest.media.decode import DecodedSegment, pieces
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.text_fields import normalize_text
from bindsearch.media import NO_CONTENT, NO_READING, SegmentOf, merge_readings, missing_content
from bindsearch.types import Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray


PreparedSegment: TypeAlias = "SegmentOf[NDArray[Any]]"
"""A segment ready for its tower, with its views; its reading includes that of segments without content before it."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Failure of a file.

    Attributes:
        reason: one line.
        is_transient: the machine is the cause, not the file, so it is tried again.
        ends_run: the encoder or the installation is the cause, so all files would fail: the exception to raise; None:
            the run goes on.
    """

    reason: str
    is_transient: bool = False
    ends_run: type[BindSearchError] | None = None


_TRANSIENT_ERRORS = frozenset(
    getattr(errno, name)
    for name in ("EACCES", "EPERM", "EIO", "ENOENT", "EMFILE", "ENFILE", "ENOMEM", "ESTALE", "ENODEV", "EINTR")
    if hasattr(errno, name)
)


def prepare_file(
    file: SourceFile, inspection: InspectResult, encoder: Encoder, options: DecodeOptions
) -> Iterator[PreparedSegment]:
    """Decode a file and yield its prepared segments, lazily; valid only if the iteration ends without an error.

    Raises:
        MediaError: it cannot be decoded, contains nothing that the encoder can embed, or has no content.
    """
    modality = inspection.verdict.modality
    assert modality is not None
    segments = pieces(
        file.path,
        modality,
        wants=encoder.wants,
        options=options,
        sidecar=inspection.sidecar,
        count_tokens=encoder.count_tokens,
        max_tokens=encoder.max_tokens,
        subtitles=file.subtitles,
    )
    missing: list[str] = []
    reading = NO_READING
    held: PreparedSegment | None = None  # what is found at the end of a file may come with a segment without content
    for piece in _embeddable(segments, encoder):
        reading = merge_readings(reading, piece.reading)
        if (reason := missing_content(piece.media)) is not None:
            missing.append(reason)
            continue
        if held is not None:
            yield held
        views = encoder.prepare(piece.media)
        text = None if piece.text is None else printable(piece.text)
        held = SegmentOf(piece.modality, views, piece.start_s, piece.end_s, text, reading)
        reading = NO_READING
    if held is None:
        raise MediaError(NO_CONTENT + ", ".join(dict.fromkeys(missing)))
    yield replace(held, reading=merge_readings(held.reading, reading))


def _embeddable(segments: Iterator[DecodedSegment], encoder: Encoder) -> Iterator[DecodedSegment]:
    """Yield the segments that the encoder can embed: without audio, a video's frames only."""
    skipped: set[Modality] = set()
    empty = True
    for piece in segments:
        if piece.modality in encoder.modalities:
            empty = False
            yield piece
        else:
            skipped.add(piece.modality)
    if empty:
        raise MediaError(f"the file contains only {', '.join(skipped)}, which the encoder {encoder.name} cannot embed")


def failure_of(error: BaseException) -> Failed:
    """Return the failure of a file for an exception."""
    if (fault := installation_fault(error)) is not None:
        return Failed(str(fault), ends_run=InstallationError)
    is_transient = any(
        isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno in _TRANSIENT_ERRORS)
        for cause in (error, error.__cause__)
    )
    reason = normalize_text(_reason(error)) or type(error).__name__
    return Failed(reason, is_transient, EncoderError if isinstance(error, EncoderError) else None)


def _reason(error: BaseException) -> str:
    """Return the reason in an exception."""
    if isinstance(error, VectorError):
        return f"the encoder returned no usable vector ({error})"
    if isinstance(error, BindSearchError):
        return str(error)
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no details'}"


def printable(text: str) -> str:
    """Return `text` without lone surrogates, which can be neither stored nor printed."""
    return text.encode(errors="replace").decode()
