"""Subtitles for tests: files, and tracks in containers."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from helpers.media_files import write_video

Line = tuple[float, float, str]
"""Start and end in seconds, and the text."""


def clock(time_s: float, mark: str = ",") -> str:
    """Return hours, minutes, seconds and milliseconds."""
    whole = round(1000 * time_s)
    return f"{whole // 3_600_000:02d}:{whole // 60_000 % 60:02d}:{whole // 1000 % 60:02d}{mark}{whole % 1000:03d}"


def srt(lines: Sequence[Line]) -> str:
    """Return SubRip."""
    return "".join(f"{n}\n{clock(s)} --> {clock(e)}\n{text}\n\n" for n, (s, e, text) in enumerate(lines, 1))


def vtt(lines: Sequence[Line]) -> str:
    """Return WebVTT."""
    return "WEBVTT\n\n" + "".join(f"{clock(s, '.')} --> {clock(e, '.')} line:0\n{text}\n\n" for s, e, text in lines)


def ass(lines: Sequence[Line]) -> str:
    """Return SubStation Alpha."""
    head = "[Script Info]\nScriptType: v4.00+\n\n[Events]\n"
    head += "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
    times = [(clock(s, ".")[1:-1], clock(e, ".")[1:-1], text.replace("\n", "\\N")) for s, e, text in lines]
    return head + "".join(f"Dialogue: 0,{s},{e},Default,,0,0,0,,{text}\n" for s, e, text in times)


def film(path: Path, seconds: float = 12.0) -> Path:
    """Write a silent video with content."""
    rgb = np.random.default_rng(1).integers(0, 255, (48, 64, 3)).astype(np.uint8)

    def picture(time_s: float) -> NDArray[np.uint8]:
        return np.roll(rgb, int(9 * time_s), 0)

    return write_video(path, seconds, picture=picture)


def with_track(source: Path, path: Path, text: str, extension: str) -> Path:
    """Write a video again as Matroska, with subtitles as a track of its own."""
    words = path.with_name(f"{path.stem}-words{extension}")
    words.write_text(text)
    with av.open(str(source)) as video, av.open(str(words)) as subtitles, av.open(str(path), "w") as target:
        pictures = target.add_stream_from_template(video.streams.video[0])
        track = target.add_stream_from_template(subtitles.streams[0])
        packets: list[tuple[Any, Any]] = [
            (packet, pictures) for packet in video.demux(video.streams.video[0]) if packet.dts is not None
        ]
        packets += [(packet, track) for packet in subtitles.demux(subtitles.streams[0]) if packet.size]
        _mux(target, packets)
    words.unlink()
    return path


def with_timed_text(source: Path, path: Path, lines: Sequence[Line]) -> Path:
    """Write a video again as MP4, with subtitles as 3GPP timed text (TS 26.245, 5.16 and 5.17)."""
    with av.open(str(source)) as video, av.open(str(path), "w") as target:
        pictures = target.add_stream_from_template(video.streams.video[0])
        track: Any = target.add_stream("mov_text")
        track.codec_context.subtitle_header = ass([]).encode()
        track.codec_context.time_base = track.time_base = Fraction(1, 1000)
        packets: list[tuple[Any, Any]] = [
            (packet, pictures) for packet in video.demux(video.streams.video[0]) if packet.dts is not None
        ]
        for start_s, end_s, text in lines:
            raw = text.encode()
            packet = av.Packet(len(raw).to_bytes(2) + raw)
            packet.time_base, packet.pts, packet.duration = track.time_base, round(1000 * start_s), 0
            packet.dts, packet.duration = packet.pts, round(1000 * (end_s - start_s))
            packets.append((packet, track))
        _mux(target, packets)
    return path


def _mux(target: Any, packets: list[tuple[Any, Any]]) -> None:
    """Write packets by their times."""
    for packet, stream in sorted(packets, key=lambda pair: float((pair[0].pts or 0) * pair[0].time_base)):
        packet.stream = stream
        target.mux(packet)
