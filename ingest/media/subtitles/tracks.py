"""Text tracks of Matroska and MP4: SubRip, SubStation Alpha, WebVTT and 3GPP timed text (mov_text).

The content of a packet is the text of a cue: for SubStation Alpha the fields of a line "Dialogue:" without times, in
the order of FFmpeg and Matroska (matroska.org/technical/subtitles.html), for timed text two bytes of its length and
then the text (3GPP TS 26.245, 5.17). Pictures of words, as on DVDs, are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bindsearch.ingest.media.recordings.av_container import open_container, origin_s
from bindsearch.ingest.media.recordings.matroska import has_text_track as has_matroska_text
from bindsearch.ingest.media.recordings.mp4 import has_track
from bindsearch.ingest.media.subtitles.cues import MAX_CUES, Counts, Cue, ass_text, plain_text, tidy_cues
from bindsearch.ingest.media.subtitles.read import note_cues
from bindsearch.media import Note

if TYPE_CHECKING:
    from av.container import InputContainer

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

    Args:
        path: the file.
        kind: its kind.
        note: takes notes.
    """
    if not (has_matroska_text(path) if kind == "matroska" else kind == "mp4" and has_track(path, _MP4_CODECS)):
        return []
    counts = Counts()
    with open_container(path, kind) as container:
        by_track = _packets(container)
        found = [tidy_cues(iter(cues), counts) for cues in by_track.values()]
    found = [cues for cues in found if cues]
    note_cues(found, counts, f"{len(found)} subtitle track{'s' * (len(found) > 1)} in the file", note)
    return found


def _packets(container: InputContainer) -> dict[int, list[Cue | None]]:
    """Return the cues of text tracks by the number of the stream."""
    import av
    from av.stream import Discard

    tracks = [
        stream
        for stream in container.streams
        if stream.type == "subtitle" and stream.codec_context is not None and stream.codec_context.name in _CODECS
    ][:MAX_TRACKS]
    for stream in container.streams:
        stream.discard = Discard.default if stream in tracks else Discard.all
    found: dict[int, list[Cue | None]] = {track.index: [] for track in tracks}
    begin_s = origin_s(container)
    try:
        for packet in container.demux(*tracks) if tracks else ():
            cues = found[packet.stream.index]
            if packet.size and len(cues) <= MAX_CUES:
                cues += _cues(packet, packet.stream.codec_context.name, begin_s)
    except (av.FFmpegError, ValueError):
        pass  # the pictures and the sound have told it
    return found


def _cues(packet: Any, codec: str, begin_s: float) -> Iterator[Cue | None]:
    """Yield the cue of a packet; None if it is damaged, nothing for an empty one, which ends another."""
    raw = bytes(packet) if packet.size <= _MAX_PACKET_BYTES else None
    if raw is None or packet.pts is None or packet.duration is None:
        yield None
        return
    if codec == "mov_text":
        raw = raw[2 : 2 + int.from_bytes(raw[:2])]
        wide = {b"\xfe\xff": "utf-16-be", b"\xff\xfe": "utf-16-le"}.get(raw[:2])
        text = raw.decode("utf-8" if wide is None else wide, errors="replace").lstrip("\ufeff")
    else:
        text = raw.decode("utf-8", errors="replace")
    text = ass_text(text.split(",", _ASS_FIELDS)[-1]) if codec in ("ass", "ssa") else plain_text(text)
    start_s = float(packet.pts * packet.time_base) - begin_s
    if text:
        yield Cue(start_s, start_s + float(packet.duration * packet.time_base), text)
