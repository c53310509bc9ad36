"""Packets of a video stream from a time on: by seeking where containers have an index, else by reading up to it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

from bindsearch.ingest.media.recordings.av_container import origin_s
from bindsearch.media import Note

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
    if kind in _INDEXED:
        if start_s <= 0:
            yield from container.demux(stream)
            return
        if (packets := _sought(container, stream, start_s)) is not None:
            yield from packets
            return
        container.seek(container.start_time or 0)
        yield from _skipped(container.demux(stream), stream, origin_s(container), start_s)
        return
    continuous = _continuous(container.demux(stream), stream, origin_s(container), note)
    yield from _skipped(continuous, stream, origin_s(container), start_s) if start_s > 0 else continuous


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
        decoded_s = None if packet.dts is None else float(packet.dts * (stream.time_base or 0)) - begin_s
        if size > _MAX_GROUP_BYTES or (decoded_s is not None and decoded_s > start_s):
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
