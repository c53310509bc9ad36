"""Sound tracks of containers, decoded by FFmpeg (PyAV), each sample at the time that the container says.

The samples of a track follow each other, whatever small errors its time stamps have. Where a stamp is later than the
samples before it by more than `_HOLE_S`, and the next frame agrees, sound is missing there: silence. A stamp that is
earlier than the samples before it has no effect: of two recordings behind each other the second begins again at 0.

A span is found by walking from the beginning, with packets of equal frames counted instead of decoded: seeking is
inexact in many containers, and the samples of a span have to be those of the whole file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.media.damage import check_damage
from bindsearch.ingest.media.kinds import SOUNDS
from bindsearch.ingest.media.recordings.av_container import origin_s
from bindsearch.ingest.media.recordings.containers import is_chained
from bindsearch.ingest.media.sniff import content_start
from bindsearch.media import Note

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.stream import Stream

Block = tuple[int, NDArray[np.float32]]
"""Place of the first sample, counted from the beginning of the recording, and the samples of one channel (n,)."""

_RATES_HZ = (1_000, 1_000_000)
_FULL_SCALE = {"uint8": 128.0, "int16": 32768.0, "int32": 2147483648.0, "int64": 9223372036854775808.0}
_CANCELLED = 0.01
"""Share of the channels' energy below which their mean is no mix: an inverted channel has cancelled the other."""
_HOLE_S = 0.05
_LONGEST_HOLE_S = 86_400.0
"""Bounds of a hole in seconds: stamps are rounded below, and damaged above."""
_ROUNDING_S = 0.0016
"""Rounding of the difference of two time stamps in milliseconds, and that of the container's beginning."""
_LEAD_S = 60.0
"""Sound decoded before a span, in seconds: a frame depends on earlier ones. The overlap is short, but the noise that
decoders of AAC and AC-3 put in for quiet sound depends on all before it."""
_ALIKE = 4
"""Frames of equal length, one a packet, after which packets are counted instead of decoded."""
_MOST_BAD_PACKETS = 100
_EXACT_S = 0.1
"""Padding of codecs: less than this many seconds fewer than the header says are no damage."""
_BY_BIT_RATE = frozenset(("aac", "ac3", "eac3", "amr", "dts"))
_ESTIMATED = _BY_BIT_RATE | {"mpegts", "mpeg", "mpegvideo", "dv", "mjpeg", "ogg"}
"""Kinds without a length in their header: FFmpeg guesses it by the bit rate, or takes the last time stamp."""
_FIRST_FRAME = 256
"""Bytes of the first frame of an mp3 in which its header is."""
_WITHOUT_HOLES = SOUNDS - {"m4a"}
"""Kinds whose samples have no time stamps of their own, so that a hole is damage."""


class SoundStream(NamedTuple):
    """An open sound."""

    sample_rate_hz: int
    first: int  # place of the first sample that is asked for
    blocks: Iterator[Block]  # in order, without overlap; what is missing between two of them is silence
    length_s: float = 0.0  # of the whole recording by its header; 0 if it says none or an estimate


def check_rate(rate_hz: int) -> int:
    """Return the sample rate in Hz after checking its range; MediaError: it is out of range."""
    low, high = _RATES_HZ
    if not low <= rate_hz <= high:
        raise MediaError(f"the sample rate is {rate_hz} Hz: expected {low} to {high}")
    return int(rate_hz)


def make_mixer(note: Note) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return a function that mixes samples (n, channels) down to (n,) by their mean.

    Where the mean has less than a hundredth of the channels' energy, they cancel each other (microphones wired the
    other way round): it returns the first channel, and notes it once.
    """
    notes: list[str] = []

    def mix_down(block: NDArray[np.float32]) -> NDArray[np.float32]:
        channels = block.shape[1]
        if channels == 1:
            return block[:, 0].copy()
        with np.errstate(over="ignore", invalid="ignore"):  # values that are not finite are counted later
            mixed: NDArray[np.float32] = block.mean(axis=1, dtype=np.float32)
            flat = block.ravel("K")  # a view
            if np.dot(mixed, mixed) * channels < _CANCELLED * np.dot(flat, flat):
                if not notes:
                    notes.append("the channels are inverted and cancel each other: the first one is used")
                    note(notes[0])
                return np.array(block[:, 0], np.float32)
        return mixed

    return mix_down


def frame_channels(frame: Any) -> NDArray[np.float32]:
    """Return the samples (n, channels) of an av.AudioFrame, integers scaled to -1..1."""
    raw = frame.to_ndarray()
    block = raw.T if frame.format.is_planar else raw.reshape(-1, len(frame.layout.channels))
    if block.dtype.kind == "f":
        return np.asarray(block, np.float32)
    scale = _FULL_SCALE[block.dtype.name]
    centred = block.astype(np.float64) - (scale if block.dtype == np.uint8 else 0.0)
    return np.asarray(centred / scale, np.float32)


@dataclass(slots=True)
class _Piece:
    """A frame, or one that was not decoded: its time by the container in seconds, and its samples at a rate in Hz."""

    time_s: float | None
    samples: int
    rate_hz: int
    frame: Any = None


@dataclass(slots=True)
class _Packets:
    """Numbers of packets that were decoded, and that could not be; and why not, and whether the last one could not."""

    good: int = 0
    bad: int = 0
    reason: str = ""
    is_last_bad: bool = False

    def count_bad(self, error: Exception) -> None:
        """Count a packet that cannot be decoded."""
        self.bad, self.reason = self.bad + 1, str(getattr(error, "strerror", None) or error)


def open_track(
    container: InputContainer, path: Path, kind: str, start_s: float, note: Note, rate_hz: int | None = None
) -> SoundStream | None:
    """Return the first sound track that decodes, the default one before others, from `start_s` on; None without any.

    Blocks begin at or before `start_s`, and are at `rate_hz` (None: the track's own rate). At the end of the track it
    is checked how much of it could be decoded.

    Raises:
        MediaError: there are tracks, but none decodes; or while reading, most of the track does not.
    """
    from av.stream import Discard

    tracks = list(enumerate(container.streams.audio, 1))
    tracks.sort(key=lambda numbered: not numbered[1].disposition & numbered[1].disposition.default)
    reasons: list[str] = []
    for stream in container.streams:
        stream.discard = Discard.all
    for number, track in tracks:
        track.discard = Discard.default
        packets = _Packets()
        pieces = _pieces(container, track, start_s, packets)
        first = next((piece for piece in pieces if piece.samples), None)
        if first is not None:
            if len(tracks) > 1:
                reasons.append(f"only sound track {number} of {len(tracks)} is indexed")
            for reason in reasons:
                note(reason)
            length_s = _stated_length_s(container, track, path, kind)
            return _stream(kind, start_s, length_s, packets, first, pieces, note, rate_hz)
        if packets.bad or track.codec_context is None:
            reasons.append(f"sound track {number} cannot be decoded ({packets.reason or 'the codec is unknown'})")
        track.discard = Discard.all
        container.seek(0)
    if reasons:
        raise MediaError("; ".join(reasons[:3]))
    return None


def _stream(
    kind: str,
    start_s: float,
    length_s: float,
    packets: _Packets,
    first: _Piece,
    rest: Iterator[_Piece],
    note: Note,
    wanted_rate_hz: int | None,
) -> SoundStream:
    """Return the stream of a track whose first frame is known."""
    rate_hz = check_rate(first.rate_hz) if wanted_rate_hz is None else wanted_rate_hz
    second = next(rest, None)
    begin_s = _begin_s(first, second)
    rest = rest if second is None else chain([second], rest)
    begin = round(begin_s * rate_hz) if begin_s > 0.001 else 0  # the container's beginning is rounded to microseconds
    first_asked = round(start_s * rate_hz)

    def blocks() -> Iterator[Block]:
        holes: list[int] = []
        place = begin
        for place, piece, samples in _placed(first, rest, begin, rate_hz, holes, note):
            if piece.frame is not None:
                yield place, samples
            place += len(samples)
        yield place, np.empty(0, np.float32)  # the end, for what follows
        in_all_s = sum(holes) / rate_hz
        if holes and kind in _WITHOUT_HOLES:
            whole_s = max(place / rate_hz, length_s)
            check_damage(1 - in_all_s / whole_s, f"{whole_s - in_all_s:.2f} of {whole_s:.2f} s of sound", note)
            return
        if packets.bad == 1 and packets.is_last_bad and (kind == "mp3" or kind in _BY_BIT_RATE):
            packets.bad = 0  # what programs write behind the frames, such as lyrics
        decoded_s = place / rate_hz
        if length_s - decoded_s > _EXACT_S:
            check_damage(decoded_s / length_s, f"{decoded_s:.1f} of {length_s:.1f} s of sound", note)
        elif packets.bad:
            count = packets.good + packets.bad
            check_damage(packets.good / count, f"{packets.good} of {count} packets of sound", note)
        if holes:
            note(f"{len(holes)} {'hole' if len(holes) == 1 else 'holes'} in the sound, {in_all_s:.1f} s: silence there")

    return SoundStream(rate_hz, first_asked if begin_s < _HOLE_S else max(begin, first_asked), blocks(), length_s)


def _begin_s(first: _Piece, second: _Piece | None) -> float:
    """Return the time of the first frame in seconds: by the second one if they disagree, as at a wrap of a counter."""
    begin_s = 0.0 if first.time_s is None else first.time_s
    if second is not None and second.time_s is not None:
        by_second_s = second.time_s - first.samples / first.rate_hz
        begin_s = begin_s if abs(by_second_s - begin_s) < _HOLE_S else by_second_s
    return begin_s if 0 < begin_s < _LONGEST_HOLE_S else 0.0


def _stated_length_s(container: InputContainer, track: AudioStream, path: Path, kind: str) -> float:
    """Return the length of a track by the header, in seconds; 0 if it says none."""
    if kind in _ESTIMATED or is_guessed(path, kind):
        return 0.0
    if track.duration is not None and track.time_base is not None:
        start_s = 0.0 if track.start_time is None else float(track.start_time * track.time_base) - origin_s(container)
        return max(0.0, start_s + float(track.duration * track.time_base))
    return (container.duration or 0) / 1_000_000 if len(container.streams) == len(container.streams.audio) else 0.0


def is_guessed(path: Path, kind: str) -> bool:
    """Return whether FFmpeg guesses the length of a sound: by its bit rate, or by the first of several recordings.

    An mp3 may say the number of its frames and bytes, in the first frame. FFmpeg guesses where there are more bytes.
    """
    if kind == "ogg":
        return is_chained(path)
    if kind != "mp3":
        return kind in _BY_BIT_RATE
    with path.open("rb") as file:
        start = content_start(file, file.read(32))
        file.seek(start)
        frame = file.read(_FIRST_FRAME)
        size = file.seek(0, os.SEEK_END) - start
    if (place := frame.find(b"VBRI")) >= 0:
        stated = int.from_bytes(frame[place + 10 : place + 14])
    elif (place := max(frame.find(b"Xing"), frame.find(b"Info"))) >= 0:
        has_frames, has_bytes = frame[place + 7] & 1, frame[place + 7] & 2
        stated = int.from_bytes(frame[place + 12 : place + 16]) if has_frames and has_bytes else 0
    else:
        return True
    return 0 < stated < size - (stated >> 4)


def _pieces(container: InputContainer, track: Stream, start_s: float, packets: _Packets) -> Iterator[_Piece]:
    """Yield the frames of a track, those long before `start_s` without their samples if that is exact."""
    import av

    codec: Any = track.codec_context  # None where FFmpeg has no decoder
    if codec is None:
        return
    begin_s, alike, size, rate_hz = origin_s(container), 0, 0, 0
    skip_below_s = start_s - _LEAD_S
    for packet in _demuxed(container, track, packets):
        if skip_below_s > 0 and alike >= _ALIKE and packet.pts is not None:
            time_s = float(packet.pts * packet.time_base) - begin_s
            if time_s < skip_below_s and _lasts(packet, size / rate_hz):
                yield _Piece(time_s, size, rate_hz)
                continue
        try:
            frames = packet.decode()
        except (av.FFmpegError, ValueError) as error:
            packets.count_bad(error)
            packets.is_last_bad = True
            if packets.bad > _MOST_BAD_PACKETS + packets.good:
                break
            if size and packet.duration:  # silence as long as it should have been
                stated = min(rate_hz, round(float(packet.duration * packet.time_base) * rate_hz))
                due_s = None if packet.pts is None else float(packet.pts * packet.time_base) - begin_s
                yield _Piece(due_s, size if _lasts(packet, size / rate_hz) else stated, rate_hz)
            continue
        if packet.size:  # else what the decoder still held
            packets.good, packets.is_last_bad = packets.good + 1, False
        for frame in frames:
            alike = alike + 1 if frame.samples == size and len(frames) == 1 else 0
            stamp_s, size, rate_hz = frame.time, frame.samples, frame.sample_rate
            yield _Piece(None if stamp_s is None else stamp_s - begin_s, size, rate_hz, frame)


def _demuxed(container: InputContainer, track: Stream, packets: _Packets) -> Iterator[Any]:
    """Yield the packets of a track up to the end or to where the container cannot be read."""
    import av

    try:
        yield from container.demux(track)
    except (av.FFmpegError, ValueError) as error:
        packets.count_bad(error)


def _lasts(packet: Any, length_s: float) -> bool:
    """Return whether a packet says that it lasts `length_s` seconds, as exactly as its container counts."""
    exactness_s = max(0.001, float(packet.time_base))
    return bool(packet.duration) and abs(float(packet.duration * packet.time_base) - length_s) < exactness_s


def _placed(
    first: _Piece, rest: Iterator[_Piece], begin: int, rate_hz: int, holes: list[int], note: Note
) -> Iterator[tuple[int, _Piece, NDArray[np.float32]]]:
    """Yield the place of each piece, the piece and its samples at `rate_hz`; append the sizes of holes to `holes`."""
    to_rate, mix_down = _make_resampler(rate_hz, note), make_mixer(note)
    place, piece = begin, first
    while True:
        following = next(rest, None)
        if piece.time_s is not None and following is not None and following.time_s is not None:
            hole_s, length_s = piece.time_s - place / rate_hz, piece.samples / piece.rate_hz
            is_hole = _HOLE_S < hole_s < _LONGEST_HOLE_S
            if is_hole and abs(following.time_s - piece.time_s - length_s) < _HOLE_S:
                size, frame = round(hole_s * rate_hz), round(length_s * rate_hz)
                whole = round(size / max(1, frame)) * frame
                holes.append(whole if abs(whole - size) < _ROUNDING_S * rate_hz else size)
                place += holes[-1]
        if piece.frame is None:
            samples = np.broadcast_to(np.float32(0), (piece.samples,))
        else:
            parts = [mix_down(channels) for channels in to_rate(piece.frame, following is None)]
            samples = parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.float32), *parts])
        yield place, piece, samples
        place += len(samples)
        if following is None:
            return
        piece = following


def _make_resampler(rate_hz: int, note: Note) -> Callable[[Any, bool], list[NDArray[np.float32]]]:
    """Return a function of a frame and whether it is the last: its samples (n, channels) at `rate_hz`.

    Frames of another rate go through one filter as long as it lasts, so that they join without a click.
    """
    import av

    resampler: Any = None
    source: tuple[int, str] | None = None

    def to_rate(frame: Any, is_last: bool) -> list[NDArray[np.float32]]:
        nonlocal resampler, source
        if resampler is None and frame.sample_rate == rate_hz:
            return [frame_channels(frame)]
        found: list[Any] = []
        if resampler is not None and source != (frame.sample_rate, frame.layout.name):
            found += resampler.resample(None)
            resampler = source = None
        if frame.sample_rate == rate_hz:
            found.append(frame)
        else:
            if resampler is None:
                source = frame.sample_rate, frame.layout.name
                note(f"the sample rate changes from {rate_hz} to {check_rate(frame.sample_rate)} Hz: resampled")
                resampler = av.AudioResampler(format="fltp", layout=frame.layout, rate=rate_hz)
            frame.pts = None
            found += resampler.resample(frame)
            if is_last:
                found += resampler.resample(None)
        return [frame_channels(part) for part in found if part.samples]

    return to_rate
