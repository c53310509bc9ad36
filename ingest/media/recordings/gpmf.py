"""Motion in the videos of GoPro cameras: the GPMF track of an mp4, accelerometer and gyroscope.

The format is that of github.com/gopro/gpmf-parser (README.md): nested entries of key, type, size and repeat,
big-endian, each padded to four bytes. A payload (a sample of the track, about a second) holds DEVC, in it a STRM for
each sensor: SCAL (divisor), SIUN (unit), ORIN (axes of the channels), STMP (microseconds), then ACCL or GYRO.

Order of channels: ORIN, such as "YxZ" (lower case: reversed), else MTRX with ORIO, else the name of the stream or the
camera (README: HERO5 Z,X,Y; HERO6 and HERO7 Y,-X,Z; Fusion -Y,X,Z). The axes are GoPro's: x right/left, y forward/back,
z up/down. Times: STMP if all payloads have it, else those of the track; samples of a payload are spread evenly, so that
TSMP, the number of samples so far, is not needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.media.imu.clock import even_runs, read_clock
from bindsearch.ingest.media.imu.recording import MotionSpan, motion_spans
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.recordings.containers import SampleTable, read_sample_table
from bindsearch.media import NO_READING, Reading
from bindsearch.types import Span

CODEC = b"gpmd"
MAX_DEPTH = 6
MAX_ENTRIES = 100_000
"""Maximum entries of a payload; cameras write some hundreds."""

MAX_PAYLOAD_BYTES = 32 << 20

_TYPES = {
    "b": "i1", "B": "u1", "s": ">i2", "S": ">u2", "l": ">i4", "L": ">u4", "j": ">i8", "J": ">u8",
    "f": ">f4", "d": ">f8",
}  # fmt: skip
_FIXED_POINT = {"q": (">i4", 16), "Q": (">i8", 32)}
_UNITS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "ACCL": {"": 1.0, "m/s2": 1.0, "m/s^2": 1.0, "g": 9.80665},
        "GYRO": {"": 1.0, "rad/s": 1.0, "deg/s": math.pi / 180, "dps": math.pi / 180},
    }
)
_NAMED_ORDERS = {"hero5": "ZXY", "hero6": "YxZ", "hero7": "YxZ", "fusion": "yXZ"}
DEFAULT_ORDER = "ZXY"
"""Order of HERO5, whose device is named "Camera", and of outputs without ORIO."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry: its key, the letter of its type ("" for nested entries), size of a sample and content."""

    key: str
    kind: str
    size: int
    content: bytes


@dataclass(slots=True)
class SensorStream:
    """Samples of one sensor over all payloads."""

    device: str
    properties: dict[str, Entry] = field(default_factory=dict)  # of its last STRM before the samples, by key
    spans_s: list[tuple[float, float]] = field(default_factory=list)  # start and end of each payload
    stamps_us: list[float] = field(default_factory=list)  # time stamp of each payload (STMP); NaN: none
    parts: list[NDArray[np.float64]] = field(default_factory=list)  # samples (n, 3) of each payload, as stored


def read_motion_track(path: Path, options: DecodeOptions, span: Span | None) -> tuple[list[MotionSpan], Reading]:
    """Read the motion in the mp4 video at `path`.

    Returns:
        Spans of `options.imu_segment_s` seconds (none: no track, or `span` is outside of it), and what is to be said of
        the video if its track cannot be read, which costs the video nothing.
    """
    try:
        table = read_sample_table(path, CODEC)
        if table is None:
            return [], NO_READING
        samples, times_s, notes = join_sensors(*_read_streams(path, table, options))
        clock = read_clock(times_s, "of the track", 1.0)
        start_s = float(times_s[0])
        runs = [replace(run, start_s=start_s + run.start_s) for run in even_runs(samples, clock, options.max_samples)]
        spans = list(motion_spans(runs, clock.rate_hz, options.imu_segment_s, span))
    except (MediaError, OSError, ValueError, ArithmeticError) as error:
        return [], Reading((f"the motion track (GPMF) is left out: {error}",))
    if spans:
        spans[0] = replace(spans[0], reading=Reading((*notes, *clock.notes), {"rate_hz": clock.rate_hz}))
    return spans, NO_READING


def entries(content: bytes, depth: int = 0) -> Iterator[Entry]:
    """Yield the entries of a payload, or those nested in one.

    Raises:
        MediaError: an entry is longer than what contains it, or they are nested too deeply.
    """
    if depth > MAX_DEPTH:
        raise MediaError(f"entries are nested more than {MAX_DEPTH} deep")
    place = 0
    while place + 8 <= len(content):
        key, size = content[place : place + 4], content[place + 5]
        repeat = int.from_bytes(content[place + 6 : place + 8])
        if key == bytes(4):  # padding
            return
        end = place + 8 + size * repeat
        if end > len(content):
            raise MediaError(f"entry {key!r} of {size * repeat} bytes is cut")
        kind = chr(content[place + 4]) if content[place + 4] else ""
        yield Entry(key.decode("latin-1"), kind, size, content[place + 8 : end])
        place = end + -end % 4


def numbers(entry: Entry) -> NDArray[np.float64]:
    """Return the numbers of an entry, float64 (samples, numbers a sample).

    Raises:
        MediaError: its type is not a number, or its size is not a multiple of that of its type.
    """
    stored, bits = _FIXED_POINT.get(entry.kind, (_TYPES.get(entry.kind), 0))
    if stored is None or not entry.size or entry.size % np.dtype(stored).itemsize:
        raise MediaError(f"entry {entry.key} of type {entry.kind!r} and size {entry.size} has no numbers")
    values = np.frombuffer(entry.content, stored).astype(np.float64) / 2.0**bits
    return values.reshape(-1, entry.size // np.dtype(stored).itemsize)


def _text(entry: Entry | None) -> str:
    return "" if entry is None else entry.content.decode("latin-1").partition("\0")[0].strip()


def _read_streams(
    path: Path, table: SampleTable, options: DecodeOptions
) -> tuple[SensorStream, SensorStream, tuple[str, ...]]:
    """Return accelerometer and gyroscope of the first device that has both, and a note on damaged payloads.

    Raises:
        MediaError: the track is too large, or no device has both.
    """
    if (total := int(table.sizes.sum())) > options.max_array_bytes:
        raise MediaError(f"its size is {total} bytes: more than {options.max_array_bytes} are not read")
    streams: dict[str, dict[str, SensorStream]] = {}
    damaged, reason = 0, ""
    spans_s = pairwise(table.times_s.tolist())
    with path.open("rb") as file:
        for offset, size, span_s in zip(table.offsets.tolist(), table.sizes.tolist(), spans_s, strict=True):
            try:
                if size > MAX_PAYLOAD_BYTES:
                    raise MediaError(f"a payload of {size} bytes")
                file.seek(offset)
                payload = file.read(size)
                if len(payload) < size:
                    raise MediaError("the file is cut")
                _add_payload(streams, payload, span_s)
            except (MediaError, ValueError) as error:
                damaged, reason = damaged + 1, str(error)
    notes = (f"{damaged} of {len(table.sizes)} payloads of the motion track are damaged ({reason})",) if damaged else ()
    for sensors in streams.values():
        if {"ACCL", "GYRO"} <= sensors.keys():
            return sensors["ACCL"], sensors["GYRO"], notes
    found = ", ".join(sorted({key for sensors in streams.values() for key in sensors})) or "neither"
    raise MediaError(f"no device in it has accelerometer and gyroscope, but {found}{'; ' * bool(reason)}{reason}")


def _add_payload(streams: dict[str, dict[str, SensorStream]], payload: bytes, span_s: tuple[float, float]) -> None:
    """Add the samples of one payload to the streams, by device and key; MediaError: the payload is damaged."""
    budget = MAX_ENTRIES
    for device in entries(payload):
        if device.key != "DEVC":
            continue
        identity, name = "", ""
        for nested in entries(device.content, 1):
            if nested.key == "DVID":
                identity = nested.content.hex()
            elif nested.key == "DVNM":
                name = _text(nested)
            elif nested.key == "STRM":
                properties: dict[str, Entry] = {}
                for entry in entries(nested.content, 2):
                    budget -= 1
                    if budget < 0:
                        raise MediaError(f"a payload has more than {MAX_ENTRIES} entries")
                    if entry.key in ("ACCL", "GYRO"):
                        stream = streams.setdefault(identity, {}).setdefault(entry.key, SensorStream(name))
                        _add_samples(stream, entry, properties, span_s)
                    else:
                        properties[entry.key] = entry


def _add_samples(stream: SensorStream, entry: Entry, properties: dict[str, Entry], span_s: tuple[float, float]) -> None:
    """Add the samples of one sensor in one payload."""
    samples = numbers(entry)
    if not len(samples):
        return
    if samples.shape[1] != 3:
        raise MediaError(f"{entry.key} has {samples.shape[1]} channels: expected 3")
    if "SCAL" in properties:
        scale = numbers(properties["SCAL"]).ravel()
        if len(scale) not in (1, 3) or not (np.isfinite(scale) & (scale != 0)).all():
            raise MediaError(f"SCAL of {entry.key} is not a divisor")
        samples = samples / scale
    if not np.isfinite(samples).all():
        raise MediaError(f"{entry.key} has values that are not finite")
    stamp = numbers(properties["STMP"]).ravel().tolist() if "STMP" in properties else []
    stream.properties.update(properties)
    stream.spans_s.append(span_s)
    stream.stamps_us.append(stamp[0] if stamp else math.nan)
    stream.parts.append(samples)


def join_sensors(
    accelerometer: SensorStream, gyroscope: SensorStream, notes: tuple[str, ...] = ()
) -> tuple[NDArray[np.float32], NDArray[np.float64], tuple[str, ...]]:
    """Return both sensors at the times of the faster one, the slower one interpolated linearly.

    Returns:
        float32 (n, 6) in m/s^2 and rad/s, seconds (n,), and notes.

    Raises:
        MediaError: a unit or an order of axes is unknown, or the sensors have no time in common.
    """
    sensors, said = [], list(notes)
    for key, stream in (("ACCL", accelerometer), ("GYRO", gyroscope)):
        turn, assumed = _turn(stream)
        said += [f"{key}: {assumed}"] if assumed else []
        unit = _text(stream.properties.get("SIUN") or stream.properties.get("UNIT")).replace("²", "2").lower()
        factor = _UNITS[key].get(unit)
        if factor is None:
            raise MediaError(f"unit {unit[:20]!r} of {key}: expected {' or '.join(filter(None, _UNITS[key]))}")
        sensors.append((_times(stream), np.concatenate(stream.parts) @ turn.T * factor))
    first_s = max(float(times[0]) for times, _ in sensors)
    last_s = min(float(times[-1]) for times, _ in sensors)
    fastest = max((times for times, _ in sensors), key=len)
    times_s = fastest[(fastest >= first_s) & (fastest <= last_s)]
    if len(times_s) < 2:
        raise MediaError("accelerometer and gyroscope have no time in common")
    columns = [np.interp(times_s, times, values[:, axis]) for times, values in sensors for axis in range(3)]
    return np.column_stack(columns).astype(np.float32), times_s, tuple(dict.fromkeys(said))


def _times(stream: SensorStream) -> NDArray[np.float64]:
    """Return the time of each sample in seconds, ascending: evenly spread over its payload."""
    starts_s, ends_s = np.array(stream.spans_s).T
    follows = np.isclose(ends_s[:-1], starts_s[1:])  # no payload is missing between them
    stamps_s = np.array(stream.stamps_us) / 1e6
    if np.isfinite(stamps_s).all() and (np.diff(stamps_s) > 0).all():
        lengths_s = ends_s - starts_s
        starts_s = starts_s[0] + stamps_s - stamps_s[0]
        ends_s = starts_s + lengths_s
        ends_s[:-1][follows] = starts_s[1:][follows]
    ends_s[:-1] = np.minimum(ends_s[:-1], starts_s[1:])
    spread = [
        start_s + (end_s - start_s) * np.arange(len(part)) / len(part)
        for start_s, end_s, part in zip(starts_s, ends_s, stream.parts, strict=True)
    ]
    return np.concatenate(spread)


def _turn(stream: SensorStream) -> tuple[NDArray[np.float64], str]:
    """Return the matrix (3, 3) from channels to x, y, z, and what was assumed (empty: the file says it)."""
    said = {name: _text(stream.properties.get(name)) for name in ("ORIN", "ORIO", "STNM")}
    if said["ORIN"]:
        return _axes(said["ORIN"]), ""
    if "MTRX" in stream.properties:
        matrix = numbers(stream.properties["MTRX"])
        if matrix.size != 9 or not np.allclose((matrix := matrix.reshape(3, 3)) @ matrix.T, np.eye(3), atol=0.01):
            raise MediaError("MTRX is not a rotation or reflection")
        return _axes(said["ORIO"] or DEFAULT_ORDER) @ matrix, ""
    if "up/down, right/left, forward/back" in said["STNM"].lower():
        return _axes("ZXY"), ""
    camera = stream.device.lower().replace(" ", "")
    for name, order in _NAMED_ORDERS.items():
        if name in camera:
            return _axes(order), f"channels in the order of {stream.device}, {_described(order)}"
    return _axes(DEFAULT_ORDER), f"order of channels unknown: read as {_described(DEFAULT_ORDER)}, as of HERO5"


def _described(order: str) -> str:
    return ",".join(f"-{letter.upper()}" if letter.islower() else letter for letter in order)


def _axes(order: str) -> NDArray[np.float64]:
    """Return the matrix from channels in an order such as "YxZ" (lower case: reversed) to x, y, z."""
    if sorted(order.upper()) != ["X", "Y", "Z"]:
        raise MediaError(f"order of axes {order[:20]!r}: expected X, Y and Z, such as YxZ")
    matrix = np.zeros((3, 3))
    for channel, letter in enumerate(order):
        matrix["XYZ".index(letter.upper()), channel] = 1.0 if letter.isupper() else -1.0
    return matrix
