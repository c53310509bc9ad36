"""Packets and decoded frames of a video stream with their times; lengths, sizes and damage found while decoding.

A damaged packet is skipped, as in players. After the last frame, what was decoded is compared with the headers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bindsearch.errors import MediaError
from bindsearch.ingest.media.damage import check_damage
from bindsearch.ingest.media.recordings.av_container import header_length_s, is_cut_short, origin_s
from bindsearch.ingest.media.recordings.video.display import display_matrix, is_turned, is_turned_by_header
from bindsearch.media import Measure, Note

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

_INDEXED = frozenset({"mp4", "m4a", "matroska", "avi"})
"""Kinds of container in which FFmpeg seeks to key frames exactly; in others it guesses a place from the bit rate."""

_MAX_GROUP_BYTES = 64 << 20
"""Maximum bytes of packets from a key frame on that are held while the start is searched."""

_JUMP_S = 1.0
"""A time stamp that is so much before the previous one begins another recording: two were concatenated."""


def packets_from(
    container: InputContainer, stream: VideoStream, kind: str, start_s: float, note: Note
) -> Iterator[Packet[VideoStream]]:
    """Yield the packets of a stream from the last key frame at or before `start_s` seconds on.

    The same packets follow a key frame whether a file is read from its beginning or from `start_s`.
    """
    if kind in _INDEXED and start_s > 0:
        if (sought := _sought(container, stream, start_s)) is not None:
            yield from sought
            return
        container.seek(container.start_time or 0)
    packets, begin_s = container.demux(stream), origin_s(container)
    if kind not in _INDEXED:
        packets = _continuous(packets, stream, begin_s, note)
    yield from _skipped(packets, stream, begin_s, start_s) if start_s > 0 else packets


def packet_time_s(packet: Packet[VideoStream], stream: VideoStream, begin_s: float) -> float | None:
    """Return when a packet is displayed, else decoded, in seconds from `begin_s`; None if it has no time stamp."""
    stamp = packet.dts if packet.pts is None else packet.pts
    return None if stamp is None or stream.time_base is None else float(stamp * stream.time_base) - begin_s


def _sought(container: InputContainer, stream: VideoStream, start_s: float) -> Iterator[Packet[VideoStream]] | None:
    """Seek to the last key frame before `start_s`; None if that does not lead there."""
    import av

    if stream.time_base is None:
        return None
    begin_s = origin_s(container)
    try:
        container.seek(int((start_s + begin_s) / stream.time_base), backward=True, any_frame=False, stream=stream)
        packets = container.demux(stream)
        for packet in packets:
            if packet.is_keyframe:
                time_s = packet_time_s(packet, stream, begin_s)
                return chain([packet], packets) if time_s is not None and time_s <= start_s + 1e-3 else None
    except av.FFmpegError:
        return None
    return None


def _skipped(
    packets: Iterator[Packet[VideoStream]], stream: VideoStream, begin_s: float, start_s: float
) -> Iterator[Packet[VideoStream]]:
    """Yield packets without those before the last key frame at or before `start_s`."""
    group: list[Packet[VideoStream]] = []
    size = 0
    for packet in packets:
        time_s = packet_time_s(packet, stream, begin_s)
        if packet.is_keyframe and time_s is not None and time_s <= start_s + 1e-3:
            group, size = [], 0
        group.append(packet)
        size += packet.size
        is_decoded_later = packet.dts is not None and float(packet.dts * (stream.time_base or 0)) - begin_s > start_s
        if size > _MAX_GROUP_BYTES or is_decoded_later:
            break
    yield from group
    yield from packets


def _continuous(
    packets: Iterator[Packet[VideoStream]], stream: VideoStream, begin_s: float, note: Note
) -> Iterator[Packet[VideoStream]]:
    """Yield packets with time stamps that continue where those of a stream jump back."""
    shift, last, step = 0, None, 0
    jump = _JUMP_S / float(stream.time_base or 1)
    for packet in packets:
        if packet.dts is not None:
            if last is not None and packet.dts + shift < last - jump:
                shift = last + step - packet.dts
                time_s = float(last * (stream.time_base or 0)) - begin_s
                note(f"the time stamps jump back at {time_s:.1f} s: what follows is placed behind it")
            packet.dts += shift
            if last is not None:
                step = max(0, packet.dts - last)
            last = packet.dts
        if shift and packet.pts is not None:
            packet.pts += shift
        yield packet


Timed = tuple[float, Any]
"""(time_s, av.VideoFrame or PIL.Image.Image), or (end_s, None) once after the last frame."""

_MAX_STEP_S = 1.0
"""Longest time for which a frame without a duration is taken to be displayed."""

_TOLERANCE_S = 0.1
"""Difference between a length in a header and what is decoded that is none."""


@dataclass(frozen=True, slots=True)
class VideoSource:
    """An open video."""

    path: Path
    kind: str
    container: InputContainer
    stream: VideoStream  # the main one
    coded_px: tuple[int, int]  # width and height of its frames by the header; the decoder replaces those of the stream
    note: Note
    measure: Measure  # takes values of metadata columns that differ from the headers


@dataclass(slots=True)
class _Tally:
    """Counts of what is decoded."""

    intact: int = 0  # frames
    lost: int = 0  # packets and frames that are damaged
    last_s: float = 0.0  # time of the last frame
    end_s: float = 0.0  # its end
    sizes: dict[tuple[int, int], None] = field(default_factory=dict)  # of frames in pixels, in order of appearance
    is_turned: bool = False  # the first frame is displayed with width and height swapped
    reason: str = ""  # the last error of the decoder
    is_broken: bool = False  # the file cannot be read to its end


def timed_video(
    source: VideoSource, start_s: float | None, decode: Callable[[Packet[VideoStream]], list[Any]]
) -> Iterator[Timed]:
    """Yield every intact frame with its time from the beginning of the file, then the end.

    `start_s`: only frames from the last key frame before this time on; None: the whole video, whose lengths, sizes and
    damage are noted.

    Raises:
        MediaError: nothing can be decoded, or less than `check_damage` allows.
    """
    stream, tally = source.stream, _Tally()
    begin_s, step_s = origin_s(source.container), _step_s(stream)
    duration, shown_s = 0, 0.0
    packets = packets_from(source.container, stream, source.kind, start_s or 0.0, source.note)
    for frame in _decoded(packets, decode, tally):
        time_s = tally.end_s if frame.time is None else max(0.0, frame.time - begin_s)
        if frame.duration != duration:  # almost always the same: fractions are slow
            duration = frame.duration
            shown_s = float(duration * frame.time_base) if duration and frame.time_base else 0.0
        tally.last_s = max(tally.last_s, time_s)
        tally.end_s = max(tally.end_s, time_s + (shown_s or step_s))
        if frame.is_corrupt:
            tally.lost += 1
            continue
        if not tally.intact:
            tally.is_turned = is_turned(display_matrix(frame))
        tally.intact += 1
        tally.sizes[frame.width, frame.height] = None
        yield time_s, frame
    if not tally.intact:
        reason = f" ({tally.reason})" if tally.reason else ""
        raise MediaError(f"no frame of the video can be decoded{reason}")
    header_s = _header_length_s(source)
    if tally.last_s < header_s < tally.end_s:  # how long the last frame is shown is often unknown
        tally.end_s = header_s
    if start_s is None:
        _check_length(source, tally, header_s)
        _measure_size(source, tally)
    yield tally.end_s, None


def _step_s(stream: VideoStream) -> float:
    """Return the usual time between two frames in seconds."""
    return min(_MAX_STEP_S, float(1 / stream.average_rate)) if stream.average_rate else 0.04


def _decoded(
    packets: Iterator[Packet[VideoStream]], decode: Callable[[Packet[VideoStream]], list[Any]], tally: _Tally
) -> Iterator[Any]:
    """Yield the frames of packets; errors are counted."""
    import av

    while True:
        packet = None
        try:
            packet = next(packets, None)
            frames = [] if packet is None else decode(packet)
        except (av.FFmpegError, ValueError) as error:
            tally.reason, frames = str(getattr(error, "strerror", None) or error), []
            tally.lost += packet is not None
            tally.is_broken = packet is None or tally.lost > 100 + tally.intact
        if packet is None or tally.is_broken:
            return
        yield from frames


def _header_length_s(source: VideoSource) -> float:
    """Return the length of the video stream by the headers in seconds, else that of the file; 0 if unknown."""
    stream, file_s = source.stream, header_length_s(source.container, source.kind)
    stream_s = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
    if source.kind == "avi" and stream.average_rate:  # FFmpeg shortens the length of a truncated file by its size
        return max(stream_s, float(stream.frames / stream.average_rate))
    return min(stream_s, file_s) if stream_s > 0 and file_s > 0 else max(stream_s, file_s)


def _check_length(source: VideoSource, tally: _Tally, header_s: float) -> None:
    """Compare what is decoded with the headers: parts that are missing are noted, a length that differs is measured."""
    file_s = header_length_s(source.container, source.kind)
    slack_s = max(_TOLERANCE_S, 2 * _step_s(source.stream))
    is_short = tally.end_s < header_s - slack_s
    reach_s = whole_s = tally.end_s
    if is_short or not file_s:  # other streams may be longer
        reach_s = max(reach_s, _last_time_s(source, tally.end_s))
    share = tally.intact / (tally.intact + tally.lost)
    is_missing = is_short and (source.stream.duration or reach_s < header_s - slack_s)
    if is_missing and (tally.is_broken or is_cut_short(source.path, source.kind)):
        whole_s = header_s
        share *= tally.end_s / header_s
    check_damage(share, f"{share * whole_s:.1f} of {whole_s:.1f} s of video", source.note)
    if reach_s < header_s - slack_s or reach_s > file_s + slack_s:
        source.measure("length_s", reach_s)


def _last_time_s(source: VideoSource, start_s: float) -> float:
    """Return the end of the last packet of any stream after `start_s`, in seconds; 0 if there is none."""
    import av

    container, begin_s, last_s = source.container, origin_s(source.container), 0.0
    if len(container.streams) == 1:
        return 0.0
    with suppress(av.FFmpegError, ValueError):
        container.seek(int((start_s + begin_s) * 1_000_000))
        for packet in container.demux():
            stamp = packet.dts if packet.pts is None else packet.pts
            if stamp is not None and packet.time_base and packet.stream.type in ("video", "audio"):
                last_s = max(last_s, float((stamp + (packet.duration or 0)) * packet.time_base) - begin_s)
    return last_s


def _measure_size(source: VideoSource, tally: _Tally) -> None:
    """Note changes of the size, and measure it where the headers are wrong."""
    largest = max(tally.sizes, key=lambda size: size[0] * size[1])
    if len(tally.sizes) > 1:
        first, second, *more = (f"{width}x{height}" for width, height in tally.sizes)
        others = f" and {len(more)} more" if more else ""
        source.note(f"the frame size changes from {first} to {second}{others}: all frames are used, in one size a span")
    if largest == source.coded_px and not tally.is_turned:
        return
    if largest != source.coded_px or not is_turned_by_header(source.path, source.kind, source.stream):
        width, height = reversed(largest) if tally.is_turned else largest
        source.measure("width_px", width)
        source.measure("height_px", height)
