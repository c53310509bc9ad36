"""Decoding of one file to its segments: a table of decoders by modality, streamed; every failure is a MediaError."""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from types import MappingProxyType

from bindsearch.encoders.base import Encoder, libraries_of
from bindsearch.environment import raise_installation_fault
from bindsearch.errors import BindSearchError, InstallationError, MediaError
from bindsearch.ingest.media.imu.recording import read_imu
from bindsearch.ingest.media.kinds import ANIMATIONS
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.depth import read_depth
from bindsearch.ingest.media.pictures.image import read_pages
from bindsearch.ingest.media.pictures.thermal import read_thermal
from bindsearch.ingest.media.recordings.audio import SoundSpan, read_sound, read_sound_track
from bindsearch.ingest.media.recordings.gpmf import read_motion_track
from bindsearch.ingest.media.recordings.video.read import VideoSpan, read_video, video_kind
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.ingest.media.sniff import HEAD_BYTES
from bindsearch.ingest.media.subtitles.read import inside, read_subtitles, read_text_tracks, timed_passages
from bindsearch.ingest.media.texts.documents import document_kind, read_document
from bindsearch.ingest.media.texts.encoding import read_text
from bindsearch.ingest.media.texts.passages import CountTokens, passages
from bindsearch.ingest.media.texts.pdf import read_pdf
from bindsearch.media import (
    NO_CONTENT,
    NO_READING,
    DecodeHints,
    Media,
    Passage,
    Reading,
    SegmentOf,
    merge_readings,
    missing_content,
)
from bindsearch.small_files import NOT_REGULAR, open_regular
from bindsearch.types import Modality, Span

__all__ = ["DECODERS", "DecodedSegment", "Job", "describe", "passages", "pieces"]


class DecodedSegment(SegmentOf[Media]):
    """A segment with its decoded medium; its other fields are those of `SegmentOf`."""

    __slots__ = ()

    @property
    def media(self) -> Media:
        """The medium: the payload."""
        return self.payload


_NO_HINTS = DecodeHints(picture_side_px=1, frames_per_s=1.0)
_FEW_TOKENS = 500
"""Characters of the passages of a text that is read only to tell how: the first one is enough."""

_DESCRIBED = frozenset((Modality.TEXT, Modality.DEPTH, Modality.THERMAL, Modality.IMU))
"""Modalities of files that are read to tell how."""

_NO_LIMIT = 1 << 62
"""For files that are read only to tell how: their captions are one passage each."""


@dataclass(frozen=True, slots=True)
class Job:
    """One file to decode, with all parameters; `notes` and `facts` of the decoder are those that no segment has yet."""

    path: Path
    wants: DecodeHints
    options: DecodeOptions
    sidecar: Sidecar
    count_tokens: CountTokens
    max_tokens: int
    span: Span | None
    subtitles: Sequence[Path] = ()
    notes: list[str] = field(default_factory=list)
    facts: dict[str, float] = field(default_factory=dict)


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
    subtitles: Sequence[Path] = (),
) -> Generator[DecodedSegment]:
    """Decode one file as `modality`, lazily and in order of time.

    A video yields its frames, then its sound track as audio, then the motion that a GoPro camera recorded. Subtitles of
    a video or sound follow as text segments with times, then captions in the sidecar as text segments (both without
    `span`, which is to choose pictures and sound). Memory is limited to one or two spans and the motion,
    regardless of the length. A damaged file may yield segments before it fails: they are valid only if the iteration
    ends without an error.

    Args:
        path: the file.
        modality: modality to decode it as.
        wants: what the encoder needs of each modality.
        options: options of the decoders.
        sidecar: the file's sidecar.
        count_tokens: returns the number of tokens of a text.
        max_tokens: maximum tokens of a passage.
        span: decode only this span of seconds; None: the whole file.
        subtitles: subtitle files beside a video or sound.

    Raises:
        MediaError: the file cannot be decoded, or is empty; the message does not contain the file's name.
    """
    job = Job(path, wants, options, sidecar, count_tokens, max_tokens, span, subtitles, notes=[*sidecar.notes])
    try:
        _check_file(path)
        is_empty = True
        for piece in _with_findings(DECODERS[modality](job), job):
            is_empty = False
            yield piece
        if is_empty:
            raise MediaError(f"the file contains no {modality}")
        if span is None:
            for caption in sidecar.captions:
                yield from _text_pieces(caption, job)
    except BindSearchError:
        raise
    except Exception as error:  # libraries raise many errors for damaged files
        raise_installation_fault(error)
        raise MediaError(f"cannot decode as {modality}: {reason_of(error)}") from error


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
    """Return the modules that decoding and embedding files of these modalities imports, without repetition."""
    chosen = sorted(modalities)
    return [*dict.fromkeys(name for key in chosen for name in (*LIBRARIES[key], *libraries_of(encoder, key)))]


def describe(
    path: Path, modality: Modality, sidecar: Sidecar, options: DecodeOptions, subtitles: Sequence[Path] = ()
) -> str:
    """Return how a text, depth map, thermal picture or motion recording is read, by reading it.

    For other files, it is what is used of the subtitles and of other programs' JSON beside them.
    For example "50 Hz, rate from column 'time_s'": what is measured, then the notes of the decoder. For a file that
    cannot be indexed, "would fail: " and the reason.

    Raises:
        InstallationError: a library is missing.
    """
    if modality not in _DESCRIBED:
        notes = [*sidecar.notes]
        read_subtitles(subtitles, sidecar.encoding, notes.append)
        return ", ".join(notes)
    reading = NO_READING
    missing: list[str] = []
    decode = partial(pieces, path, modality, wants=_NO_HINTS, options=options, sidecar=sidecar, count_tokens=len)
    try:
        with closing(decode(max_tokens=_FEW_TOKENS if modality is Modality.TEXT else _NO_LIMIT)) as segments:
            for segment in segments:
                reading = merge_readings(reading, segment.reading)
                if (reason := missing_content(segment.media)) is None:
                    return ", ".join((*_measured(reading), *reading.notes))
                missing.append(reason)
    except InstallationError:
        raise
    except BindSearchError as error:
        return f"would fail: {error}"
    return f"would fail: {NO_CONTENT}{', '.join(dict.fromkeys(missing))}"


def _measured(reading: Reading) -> Iterator[str]:
    """Yield the facts of a reading in words."""
    facts = reading.facts
    if (rate_hz := facts.get("rate_hz")) is not None:
        yield f"{rate_hz:.4g} Hz"
    if (depth_m := facts.get("depth_median_m")) is not None:
        yield f"median {depth_m:.3g} m"
    temperatures = [facts.get(f"temperature_{name}_c") for name in ("min", "mean", "max")]
    if None not in temperatures:
        yield "{:.1f} to {:.1f} degrees C (mean {:.1f})".format(*(temperatures[i] for i in (0, 2, 1)))


def reason_of(error: Exception) -> str:
    """Return a library's exception as one short line, without the file's name."""
    text = "not enough memory" if isinstance(error, MemoryError) else getattr(error, "strerror", None) or str(error)
    return (" ".join(str(text).split()) or type(error).__name__)[:200]


def _check_file(path: Path) -> None:
    try:
        open_regular(path).close()
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EISDIR):
            raise MediaError(NOT_REGULAR) from error
        raise


def _with_findings(segments: Iterator[DecodedSegment], job: Job) -> Iterator[DecodedSegment]:
    """Yield segments with the notes so far, the last one with the facts; it is held back, as damage may follow it."""

    def with_notes(segment: DecodedSegment, facts: Mapping[str, float]) -> DecodedSegment:
        return replace(segment, reading=merge_readings(segment.reading, Reading(tuple(job.notes), facts)))

    held: DecodedSegment | None = None
    for segment in segments:
        if held is not None:
            yield held
        held = with_notes(segment, {})
        job.notes.clear()
    if held is not None:
        yield with_notes(held, job.facts)


def _decode_text(job: Job) -> Iterator[DecodedSegment]:
    _refuse_span(job, Modality.TEXT)
    with job.path.open("rb") as file:
        kind = document_kind(job.path, file.read(HEAD_BYTES))
    if kind == "pdf":
        for part in read_pdf(job.path, job.wants.picture_side_px, job.notes.append):
            if isinstance(part, str):
                yield from _text_pieces(part, job)
            else:
                yield DecodedSegment(Modality.IMAGE, part)
        return
    max_bytes, encoding = job.options.max_text_bytes, job.sidecar.encoding
    if kind is None:
        text = read_text(job.path, job.options, encoding, job.notes.append)
    else:
        text = read_document(job.path, kind, max_bytes, encoding, job.notes.append)
    yield from _text_pieces(text, job)


def _text_pieces(text: str, job: Job) -> Iterator[DecodedSegment]:
    for passage in passages(text, job.count_tokens, job.max_tokens):
        yield DecodedSegment(Modality.TEXT, Passage(passage), text=passage)


def _decode_image(job: Job) -> Iterator[DecodedSegment]:
    _refuse_span(job, Modality.IMAGE)
    caption = _caption(job)
    for picture in read_pages(job.path, job.wants, job.options, job.notes.append):
        yield DecodedSegment(Modality.IMAGE, replace(picture, caption=caption) if caption else picture)


def _caption(job: Job) -> str:
    """Return the captions to embed with a picture or video, as far as the encoder's window goes; "" for none."""
    text = "\n".join(job.sidecar.captions)
    if Modality.TEXT not in job.wants.joint or not text.strip():
        return ""
    first, *more = islice(passages(text, job.count_tokens, job.max_tokens), 2)
    if more:
        job.notes.append(f"the caption is longer than {job.max_tokens} tokens: its beginning is embedded with the file")
    return first


def _decode_video(job: Job) -> Iterator[DecodedSegment]:
    """Yield frames, sound and motion; a part that cannot be decoded is noted if another one can."""
    kind = video_kind(job.path)
    motion, reading = read_motion_track(job.path, job.options, job.span) if kind == "mp4" else ([], NO_READING)
    count, end_s, failure = 0, 0.0, None
    try:
        parts = read_video(job.path, job.wants, job.options, job.span, job.notes.append, job.facts.__setitem__)
        for part in _with_companions(parts, job, kind):
            count, end_s = count + 1, part.end_s
            yield DecodedSegment(Modality.VIDEO, part.frames, part.start_s, part.end_s, reading=reading)
            reading = NO_READING
    except MediaError as error:
        if count or kind in ANIMATIONS:  # what was yielded cannot be taken back
            raise
        failure = error
    if kind not in ANIMATIONS:
        for sound in _sound_of_video(job, kind, failure, has_pictures=count > 0):
            end_s = max(end_s, sound.end_s or 0.0)
            yield sound
    for moved in motion:
        yield DecodedSegment(Modality.IMU, moved.motion, moved.start_s, moved.end_s, reading=moved.reading)
    yield from _subtitles(job, end_s, kind)


def _with_companions(parts: Iterator[VideoSpan], job: Job, kind: str) -> Iterator[VideoSpan]:
    """Yield spans of frames with the caption and the sound that the encoder embeds with them as one input."""
    caption = _caption(job)
    if kind in ANIMATIONS or Modality.AUDIO not in job.wants.joint:
        for part in parts:
            yield part._replace(frames=replace(part.frames, caption=caption)) if caption else part
        return
    with closing(_sound_of_frames(job, kind)) as sounds:
        sound = next(sounds, None)
        for part in parts:
            middle_s = (part.start_s + part.end_s) / 2
            while sound is not None and sound.end_s <= middle_s:  # spans of silence are left out
                sound = next(sounds, None)
            heard = None if sound is None or sound.start_s > middle_s else sound.sound
            yield part._replace(frames=replace(part.frames, caption=caption, sound=heard))


def _sound_of_frames(job: Job, kind: str) -> Generator[SoundSpan]:
    """Yield the sound of a video in the spans of its frames, up to its first fault.

    `_sound_of_video`, which reads the track again, notes what is wrong with it.
    """
    options = job.options
    with suppress(MediaError):
        yield from read_sound_track(job.path, kind, options.video_segment_s, job.span, max_s=options.max_sound_s)


def _subtitles(job: Job, length_s: float, kind: str | None = None) -> Iterator[DecodedSegment]:
    """Yield the subtitles of a recording of some length in seconds, of files beside it, else of its own tracks.

    `kind`: that of a video; None: a sound, of which only files beside it are read.
    """
    if job.span is not None or not length_s:
        return
    note = job.notes.append
    found = read_subtitles(job.subtitles, job.sidecar.encoding, note)
    if not found and kind is not None:
        found = read_text_tracks(job.path, kind, note)
    late = 0
    for cues in found:
        shown = inside(cues, length_s)
        late += len(cues) - len(shown)
        for cue in timed_passages(shown, job.count_tokens, job.max_tokens):
            yield DecodedSegment(Modality.TEXT, Passage(cue.text), cue.start_s, cue.end_s, text=cue.text)
    if late:
        note(f"{late} cues of subtitles are after the end, {length_s:.1f} s: left out")


def _sound_of_video(job: Job, kind: str, failure: MediaError | None, *, has_pictures: bool) -> Iterator[DecodedSegment]:
    """Yield the sound of a video; MediaError: neither pictures nor sound can be decoded.

    `failure`: why its pictures cannot be decoded; None: they can, or there are none.
    """
    options, note, end_s = job.options, job.notes.append, None
    sounds = read_sound_track(job.path, kind, options.audio_segment_s, job.span, max_s=options.max_sound_s, note=note)
    try:
        for sound in sounds:
            if failure is not None and end_s is None:
                note(f"the pictures cannot be decoded ({failure}): only the sound is indexed")
            end_s = sound.end_s
            yield DecodedSegment(Modality.AUDIO, sound.sound, sound.start_s, sound.end_s)
    except Exception as error:  # of libraries too, as in `pieces`
        if not has_pictures:
            raise
        raise_installation_fault(error)
        reason = str(error) if isinstance(error, BindSearchError) else reason_of(error)
        after = "" if end_s is None else f" after {end_s:.1f} s"
        note(f"the sound track cannot be decoded{after} ({reason}): the pictures are indexed")
    if failure is not None and end_s is None:
        raise failure


def _decode_audio(job: Job) -> Iterator[DecodedSegment]:
    length_s, end_s, note = job.options.audio_segment_s, 0.0, job.notes.append
    for part in read_sound(job.path, length_s, job.span, max_s=job.options.max_sound_s, note=note):
        end_s = part.end_s
        yield DecodedSegment(Modality.AUDIO, part.sound, part.start_s, end_s)
    if job.span is None:
        job.facts["length_s"] = end_s
    yield from _subtitles(job, end_s)


def _decode_map(job: Job, modality: Modality) -> Iterator[DecodedSegment]:
    _refuse_span(job, modality)
    read = read_depth if modality is Modality.DEPTH else read_thermal
    picture, reading = read(job.path, job.sidecar, job.options)
    yield DecodedSegment(modality, picture, reading=reading)


def _decode_imu(job: Job) -> Iterator[DecodedSegment]:
    for part in read_imu(job.path, job.sidecar, job.options, job.span):
        yield DecodedSegment(Modality.IMU, part.motion, part.start_s, part.end_s, reading=part.reading)


def _refuse_span(job: Job, modality: Modality) -> None:
    if job.span is not None:
        raise MediaError(f"a span of seconds is not possible for {modality}")


DECODERS: Mapping[Modality, Callable[[Job], Iterator[DecodedSegment]]] = MappingProxyType(
    {
        Modality.TEXT: _decode_text,
        Modality.IMAGE: _decode_image,
        Modality.VIDEO: _decode_video,
        Modality.AUDIO: _decode_audio,
        Modality.DEPTH: partial(_decode_map, modality=Modality.DEPTH),
        Modality.THERMAL: partial(_decode_map, modality=Modality.THERMAL),
        Modality.IMU: _decode_imu,
    }
)
