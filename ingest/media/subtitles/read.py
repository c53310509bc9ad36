"""Reading of the subtitles of a recording: of files beside it, else of its text tracks; passages of them.

The content of a packet is the text of a cue: for SubStation Alpha the fields of a line "Dialogue:" without times, in
the order of FFmpeg and Matroska (matroska.org/technical/subtitles.html), for timed text two bytes of its length and
then the text (3GPP TS 26.245, 5.17). Pictures of words, as on DVDs, are not read.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bindsearch.errors import MediaError
from bindsearch.hashing import hash_file
from bindsearch.ingest.media.recordings.av_container import open_container, origin_s
from bindsearch.ingest.media.recordings.containers import has_text_track as has_matroska_text
from bindsearch.ingest.media.recordings.containers import has_track
from bindsearch.ingest.media.subtitles.cues import MAX_CUES, Counts, Cue, ass_text, parse_cues, plain_text, tidy_cues
from bindsearch.ingest.media.subtitles.names import MAX_FILES
from bindsearch.ingest.media.texts.encoding import decode_text
from bindsearch.ingest.media.texts.passages import CountTokens, passages
from bindsearch.media import Note
from bindsearch.small_files import is_not_regular, read_small_file

if TYPE_CHECKING:
    from av.container import InputContainer

MAX_BYTES = 8 << 20
"""Largest subtitle file: a film's has 100 kB, one with fonts and effects a few megabytes."""


def hash_subtitles(paths: Sequence[Path]) -> str:
    """Return the hashes of the subtitle files that are read, in their order: equal for equal contents."""
    return " ".join(_hash(path) for path in paths[:MAX_FILES])


def read_subtitles(paths: Sequence[Path], encoding: str | None, note: Note) -> list[list[Cue]]:
    """Return the cues of each subtitle file that can be read; of the others a note says why.

    `encoding`: that declared for them; None: it is found out.
    """
    counts = Counts()
    found = []
    for path in paths[:MAX_FILES]:
        try:
            raw = read_small_file(path, MAX_BYTES)
            text = decode_text(raw, encoding, lambda said, name=path.name: note(f"subtitles {name}: {said}"))  # type: ignore[misc]
            if not (cues := parse_cues(text, counts)):
                raise MediaError("no cue with a time and a text")
            found.append(cues)
        except MediaError as error:
            note(f"subtitles {path.name} are not used: {error}")
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise  # deleted meanwhile: the next run sees it
            note(f"subtitles {path.name} are not used: {error.strerror}")
    if len(paths) > MAX_FILES:
        note(f"{len(paths)} subtitle files beside it: the first {MAX_FILES} are used")
    note_cues(found, counts, f"{len(found)} subtitle file{'s' * (len(found) > 1)} beside it", note)
    return found


def note_cues(found: Sequence[Sequence[Cue]], counts: Counts, source: str, note: Note) -> None:
    """Note the number of cues that are read, and of those that are skipped."""
    if found:
        note(f"{source}: texts with times, {sum(map(len, found))} cues")
    if counts.skipped:
        note(f"{counts.skipped} of {counts.total} cues of subtitles have damaged times, or are too many: skipped")


def inside(cues: Sequence[Cue], length_s: float) -> list[Cue]:
    """Return the cues that begin inside a recording of some length in seconds, cut at its end."""
    return [Cue(cue.start_s, min(cue.end_s, length_s), cue.text) for cue in cues if cue.start_s < length_s]


def _hash(path: Path) -> str:
    """Return the hash of a file, or why it cannot be read; OSError: it was deleted meanwhile."""
    try:
        return hash_file(path) if path.stat().st_size <= MAX_BYTES else "too large"
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise
        return "not a file" if is_not_regular(error) else str(error.errno)


LONGEST_S = 60.0
"""Longest passage of several cues in seconds: its time is to tell where in the recording the words are."""

_CHARS_A_TOKEN = 100
"""As for passages of texts: a longer cue does not fit and is not counted."""


def timed_passages(cues: Sequence[Cue], count_tokens: CountTokens, max_tokens: int) -> Iterator[Cue]:
    """Yield consecutive cues as passages of at most `max_tokens` tokens, a line for each cue.

    A cue that does not fit is several passages, all with its time.

    Args:
        cues: cues by their start.
        count_tokens: returns the number of tokens of a text, special tokens included.
        max_tokens: maximum tokens of a passage.

    Raises:
        MediaError: a single character does not fit.
    """
    special = count_tokens("")
    group: list[Cue] = []
    tokens, end_s = special, 0.0
    for cue in cues:
        is_long = len(cue.text) > _CHARS_A_TOKEN * max_tokens
        cost = max_tokens if is_long else count_tokens(f"\n{cue.text}") - special
        if group and (tokens + cost > max_tokens or max(end_s, cue.end_s) - group[0].start_s > LONGEST_S):
            yield from _fitting(group, count_tokens, max_tokens)
            group, tokens, end_s = [], special, 0.0
        group.append(cue)
        tokens, end_s = tokens + cost, max(end_s, cue.end_s)
    yield from _fitting(group, count_tokens, max_tokens)


def _fitting(group: Sequence[Cue], count_tokens: CountTokens, max_tokens: int) -> Iterator[Cue]:
    """Yield cues as one passage; as several if the tokenizer makes more tokens of the whole than of its parts."""
    if len(group) == 1:
        for passage in passages(group[0].text, count_tokens, max_tokens):
            yield Cue(group[0].start_s, group[0].end_s, passage)
        return
    text = "\n".join(cue.text for cue in group)
    if group and count_tokens(text) > max_tokens:
        half = len(group) // 2
        yield from _fitting(group[:half], count_tokens, max_tokens)
        yield from _fitting(group[half:], count_tokens, max_tokens)
    elif group:
        yield Cue(group[0].start_s, max(cue.end_s for cue in group), text)


MAX_TRACKS = 16
"""Most text tracks of a recording that are read."""

_MAX_PACKET_BYTES = 1 << 16
_MP4_CODECS = frozenset((b"tx3g",))
_ASS_FIELDS = 8
"""Fields of a line of SubStation Alpha before the text: ReadOrder, Layer, Style, Name, three margins, Effect."""

_CODECS = frozenset(("ass", "ssa", "mov_text", "srt", "subrip", "text", "webvtt"))
"""FFmpeg's names of codecs of text."""


def read_text_tracks(path: Path, kind: str, note: Note) -> list[list[Cue]]:
    """Return the cues of each text track of a video; the file is gone through only if its headers name one.

    Damaged packets are skipped, and what is behind a place at which the container cannot be read.
    """
    if not (has_matroska_text(path) if kind == "matroska" else kind == "mp4" and has_track(path, _MP4_CODECS)):
        return []
    counts = Counts()
    with open_container(path, kind) as container:
        tidied = [tidy_cues(iter(cues), counts) for cues in _packets(container)]
    found = [cues for cues in tidied if cues]
    note_cues(found, counts, f"{len(found)} subtitle track{'s' * (len(found) > 1)} in the file", note)
    return found


def _packets(container: InputContainer) -> Iterable[list[Cue | None]]:
    """Return the cues of each text track."""
    import av
    from av.stream import Discard

    codecs = {stream.index: stream.codec_context.name for stream in container.streams.subtitles if stream.codec_context}
    tracks = [stream for stream in container.streams.subtitles if codecs.get(stream.index) in _CODECS][:MAX_TRACKS]
    for stream in container.streams:
        stream.discard = Discard.default if stream in tracks else Discard.all
    found: dict[int, list[Cue | None]] = {track.index: [] for track in tracks}
    begin_s = origin_s(container)
    with suppress(av.FFmpegError, ValueError):  # the pictures and the sound have told it
        for packet in container.demux(*tracks) if tracks else ():
            cues = found[packet.stream.index]
            if packet.size and len(cues) <= MAX_CUES:
                cues += _cues(packet, codecs[packet.stream.index], begin_s)
    return found.values()


def _cues(packet: Any, codec: str, begin_s: float) -> Iterator[Cue | None]:
    """Yield the cue of a packet; None if it is damaged, nothing for an empty one, which ends another."""
    raw = bytes(packet) if packet.size <= _MAX_PACKET_BYTES else None
    if raw is None or packet.pts is None or packet.duration is None:
        yield None
        return
    if codec == "mov_text":
        raw = raw[2 : 2 + int.from_bytes(raw[:2])]
        encoding = {b"\xfe\xff": "utf-16-be", b"\xff\xfe": "utf-16-le"}.get(raw[:2], "utf-8")
        text = raw.decode(encoding, errors="replace").lstrip("\ufeff")
    else:
        text = raw.decode("utf-8", errors="replace")
    text = ass_text(text.split(",", _ASS_FIELDS)[-1]) if codec in ("ass", "ssa") else plain_text(text)
    start_s = float(packet.pts * packet.time_base) - begin_s
    if text:
        yield Cue(start_s, start_s + float(packet.duration * packet.time_base), text)
