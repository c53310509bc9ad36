"""One file to prepared segments: its decoder and the encoder's preprocessing, in one go, where no tower is needed."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bindsearch.encoders.base import Encoder
from bindsearch.environment import installation_fault
from bindsearch.errors import BindSearchError, EncoderError, InstallationError, MediaError, VectorError
from bindsearch.ingest.inspect.inspect_file import InspectResult, SourceFile
from bindsearch.ingest.media.decode import DecodedSegment, pieces
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.text_fields import normalize_text
from bindsearch.types import Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PreparedSegment:
    """A segment ready for its tower: `views` (views, ...), as the encoder's `prepare` gave it."""

    views: NDArray[Any]
    modality: Modality
    start_s: float | None
    end_s: float | None
    text: str | None


@dataclass(frozen=True, slots=True)
class Failed:
    """Failure of a file, in one line; `is_transient`: the machine, not the file, is at fault, so it is worth another
    try; `ends_run`: the encoder or the installation is, so that no other file would fare better, and this is to be
    raised."""

    reason: str
    is_transient: bool = False
    ends_run: type[BindSearchError] | None = None


_PASSING_ERRORS = frozenset(
    getattr(errno, name)
    for name in ("EACCES", "EPERM", "EIO", "ENOENT", "EMFILE", "ENFILE", "ENOMEM", "ESTALE", "ENODEV", "EINTR")
    if hasattr(errno, name)
)


def prepare_file(
    file: SourceFile, look: InspectResult, encoder: Encoder, options: DecodeOptions
) -> Iterator[PreparedSegment]:
    """Decode a file and prepare its segments, lazily. Good only when the iteration has ended.

    Raises:
        MediaError: it cannot be decoded, or holds nothing that the encoder can embed.
    """
    modality = look.verdict.modality
    assert modality is not None
    found = pieces(
        file.path,
        modality,
        wants=encoder.wants,
        options=options,
        sidecar=look.sidecar,
        count_tokens=encoder.count_tokens,
        max_tokens=encoder.max_tokens,
    )
    for piece in _embeddable(found, encoder):
        views = encoder.prepare(piece.media)
        text = None if piece.text is None else printable(piece.text)
        yield PreparedSegment(views, piece.modality, piece.start_s, piece.end_s, text)


def _embeddable(found: Iterator[DecodedSegment], encoder: Encoder) -> Iterator[DecodedSegment]:
    """Yield what the encoder can embed: without ears it takes a video's pictures and leaves the sound."""
    left_out: set[Modality] = set()
    empty = True
    for piece in found:
        if piece.modality in encoder.modalities:
            empty = False
            yield piece
        else:
            left_out.add(piece.modality)
    if empty:
        raise MediaError(f"it holds only {', '.join(left_out)}, which the encoder {encoder.name} cannot embed")


def failure_of(error: BaseException) -> Failed:
    """Return what to record of a file that raised this."""
    if (fault := installation_fault(error)) is not None:
        return Failed(str(fault), ends_run=InstallationError)
    causes = (error, error.__cause__)
    passing = any(
        isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno in _PASSING_ERRORS)
        for cause in causes
    )
    reason = normalize_text(_reason(error)) or type(error).__name__
    return Failed(reason, passing, EncoderError if isinstance(error, EncoderError) else None)


def _reason(error: BaseException) -> str:
    if isinstance(error, VectorError):
        return f"the encoder gave no usable vector for it ({error})"
    if isinstance(error, BindSearchError):
        return str(error)
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no details'}"


def printable(text: str) -> str:
    """`text` without lone surrogates, which can be neither stored nor printed."""
    return text.encode(errors="replace").decode()
