"""Motion recordings: accelerometer (with gravity) and gyroscope tables, converted to m/s^2 and rad/s at an even rate.

Columns are found by name (acc_x, ax, accelerometer_x, gyro_x, gx, ...), or listed in the sidecar's `axes`. Units: the
sidecar's, else the one in the column name (acc_x_g, "gyro_x (deg/s)"), else m/s^2 and rad/s.
Rate: the sidecar's `sample_rate_hz`, else a time column, else the file's own rate (npz), else --imu-rate; it is never
guessed. A time column's unit is the one in its name (time_ms, t_us), else the one of s, ms, us, ns with a median rate
between 4 Hz and 4 kHz. Uneven time stamps are resampled linearly at the median rate; a pause longer than 1 s (and ten
steps) ends a span, and the recording continues in a new one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError, UsageError
from bindsearch.ingest.media.imu.columns import ACCELERATION, ROTATION, MotionColumns, find_columns
from bindsearch.ingest.media.imu.tables import Table, column_names, read_table
from bindsearch.ingest.media.options import DecodeOptions, check_imu_rate
from bindsearch.ingest.media.recordings.segmenting import check_span, shortest_tail_s, span_edges
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.media import NO_READING, Motion, Reading
from bindsearch.types import Span

NO_RATE = (
    "the sample rate is unknown: give sample_rate_hz in the sidecar <file>.json, a timestamp column, or --imu-rate HZ"
)
_LONGEST_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class MotionSpan:
    """A span of a motion recording.

    Attributes:
        motion: its samples.
        start_s: its start in seconds.
        end_s: its end in seconds.
        reading: what was found out about the recording; only the first span has it.
    """

    motion: Motion
    start_s: float
    end_s: float
    reading: Reading = NO_READING


@dataclass(frozen=True, slots=True)
class ImuRun:
    """A recording without pauses: `samples` float32 (n, 6) evenly spaced from `start_s` (seconds) on."""

    samples: NDArray[np.float32]
    start_s: float


def read_imu(path: Path, sidecar: Sidecar, options: DecodeOptions, span: Span | None = None) -> Iterator[MotionSpan]:
    """Yield the motion recording at `path` in spans of `options.imu_segment_s` seconds.

    Args:
        path: the file.
        sidecar: its sidecar, with axes, units and rate.
        options: length of spans, maximum size, and default rate.
        span: only this span of seconds; None: the whole recording.

    Raises:
        MediaError: no table, axes or rate unknown, a value missing, time not ascending, or `span` after the end.
    """
    check_span(span)
    runs, rate_hz = read_motion(path, sidecar, options)
    is_empty = True
    for piece in motion_spans(runs, rate_hz, options.imu_segment_s, span):
        is_empty = False
        yield piece
    if is_empty and span:
        raise MediaError(f"the recording has no samples between {span.start_s:g} s and {span.end_s:g} s")


def motion_spans(
    runs: Sequence[ImuRun], rate_hz: float, segment_s: float, span: Span | None = None
) -> Iterator[MotionSpan]:
    """Yield runs in spans of `segment_s` seconds; very short runs are left out if there are longer ones."""
    tail = shortest_tail_s(segment_s) * rate_hz
    long = [run for run in runs if len(run.samples) >= tail]
    for run in long or runs:
        yield from _cut(run, rate_hz, segment_s, span)


def read_motion(path: Path, sidecar: Sidecar, options: DecodeOptions) -> tuple[list[ImuRun], float]:
    """Read the whole recording in runs without pauses, and its rate in Hz.

    Raises:
        MediaError: as for `read_imu`.
    """
    table = read_table(path, options)
    columns = _columns(table, sidecar)
    samples = _samples(table, columns, _scales(columns, sidecar))
    if len(samples) < 2:
        raise MediaError(f"the table has {len(samples)} rows: a recording needs at least 2")
    if len(samples) > options.max_samples:
        raise MediaError(
            f"the table has {len(samples)} rows: more than {options.max_samples} are not read (--limit samples=N)"
        )
    rate_hz = _stated_rate(sidecar.sample_rate_hz, "sidecar sample_rate_hz")
    if rate_hz is None and columns.time is not None:
        times_s = _times(table, columns)
        return resample(samples, times_s, options.max_samples)
    rate_hz = rate_hz or _stated_rate(table.rate_hz, "the file's sample rate") or options.imu_rate_hz
    if rate_hz is None:
        raise MediaError(NO_RATE)
    return [ImuRun(samples, 0.0)], rate_hz


def describe_imu(path: Path, sidecar: Sidecar, options: DecodeOptions) -> str:
    """Return the source of a recording's rate, by its header alone: "50 Hz (sidecar)".

    Raises:
        MediaError: the header cannot be read.
    """
    if sidecar.sample_rate_hz is not None:
        return f"{sidecar.sample_rate_hz:g} Hz (sidecar)"
    names = column_names(path)
    columns = find_columns(names, sidecar.axes) if names else None
    if columns is not None and columns.time is not None:
        return f"rate from column {columns.time!r}"
    if options.imu_rate_hz is not None:
        return f"{options.imu_rate_hz:g} Hz (--imu-rate)"
    return "sample rate unknown: it needs sample_rate_hz in the sidecar, a timestamp column, or --imu-rate HZ"


def _columns(table: Table, sidecar: Sidecar) -> MotionColumns:
    names = list(table.columns)
    columns = find_columns(names, sidecar.axes)
    if columns is None:
        raise MediaError(
            f"no accelerometer and gyroscope x, y, z among the columns {', '.join(names)[:120] or '(none)'}: "
            "name them acc_x, ..., gyro_z, or list them under axes in the sidecar <file>.json"
        )
    return columns


def _scales(columns: MotionColumns, sidecar: Sidecar) -> tuple[float, float]:
    """Return the factors of the two sensors' values to m/s^2 and rad/s."""
    sidecar_units = sidecar.units.get("accelerometer"), sidecar.units.get("gyroscope")
    factors = []
    for i, (sensor, table, default) in enumerate(
        (("accelerometer", ACCELERATION, "m/s^2"), ("gyroscope", ROTATION, "rad/s"))
    ):
        unit = sidecar_units[i] or columns.units[i] or default
        normalized = unit.strip().lower().replace("²", "^2").replace("m/s2", "m/s^2").replace("dps", "deg/s")
        if normalized not in table:
            raise MediaError(f"{sensor} unit {unit[:40]!r}: expected {' or '.join(table)}")
        factors.append(table[normalized])
    return factors[0], factors[1]


def _samples(table: Table, columns: MotionColumns, scales: tuple[float, float]) -> NDArray[np.float32]:
    """Return the six columns as float32 (n, 6) in m/s^2 and rad/s."""
    samples = np.column_stack([table.columns[name].astype(np.float64) for name in columns.axes])
    with np.errstate(over="ignore"):
        samples *= np.repeat(scales, 3)
        narrow = samples.astype(np.float32)
    bad = np.argwhere(~np.isfinite(narrow))
    if len(bad):
        row, column = bad[0]
        raise MediaError(f"row {row + 1} has no number in column {columns.axes[column]!r}")
    return narrow


def _stated_rate(rate_hz: float | None, source: str) -> float | None:
    if rate_hz is None:
        return None
    try:
        return check_imu_rate(rate_hz, source)
    except UsageError as error:
        raise MediaError(str(error)) from error


def _times(table: Table, columns: MotionColumns) -> NDArray[np.float64]:
    """Return seconds from the first row, float64 (n,), not descending."""
    name = str(columns.time)
    raw = table.columns[name]
    if len(raw) != len(table.columns[columns.axes[0]]):
        raise MediaError(f"time column {name!r} has {len(raw)} rows, the axes {len(table.columns[columns.axes[0]])}")
    if not np.isfinite(raw).all():
        raise MediaError(f"time column {name!r} has a row without a number")
    with np.errstate(over="ignore"):  # subtracted as integers: nanoseconds since 1970 exceed float64
        ticks: NDArray[np.float64] = (raw - raw[0]).astype(np.float64)
    if not np.isfinite(ticks).all():
        raise MediaError(f"time column {name!r} runs from {raw.min():g} to {raw.max():g}: the span is too long")
    steps = np.diff(ticks)
    if (steps < 0).any():
        raise MediaError(f"time column {name!r} runs backwards in row {int(np.argmax(steps < 0)) + 2}")
    if not (steps > 0).any():
        raise MediaError(f"time column {name!r} does not advance: give sample_rate_hz in the sidecar <file>.json")
    if name in table.seconds:
        return ticks
    return ticks * (columns.time_step_s or time_step_s(float(np.median(steps[steps > 0]))))


def time_step_s(median_step: float) -> float:
    """Return seconds per tick of a time column without a unit in its name, by the rule in the module docstring."""
    for unit_s in (1.0, 1e-3, 1e-6):
        if median_step * unit_s < 0.25:
            return unit_s
    return 1e-9


def resample(
    samples: NDArray[np.float32], times_s: NDArray[np.float64], max_samples: int
) -> tuple[list[ImuRun], float]:
    """Return a recording as runs with an even rate, and the rate in Hz.

    Args:
        samples: (n, 6).
        times_s: (n,), seconds, ascending.
        max_samples: maximum number of samples.

    Raises:
        MediaError: the rate is not that of a motion sensor, or the time stamps spread over too long a time.
    """
    ascending = np.concatenate([[True], np.diff(times_s) > 0])
    samples, times_s = samples[ascending], times_s[ascending]
    step_s = float(np.median(np.diff(times_s)))
    rate_hz = _stated_rate(1 / step_s, "the rate of the time column")
    assert rate_hz is not None
    breaks = np.flatnonzero(np.diff(times_s) > max(_LONGEST_PAUSE_S, 10 * step_s)) + 1
    edges = [0, *breaks.tolist(), len(times_s)]
    parts = [(times_s[a:b], samples[a:b]) for a, b in pairwise(edges)]
    count = sum(int((t[-1] - t[0]) * rate_hz) + 1 for t, _ in parts)
    if count > max_samples:
        raise MediaError(
            f"at {rate_hz:g} Hz the recording has {count} samples: more than {max_samples} are not read "
            "(--limit samples=N)"
        )
    if len(parts) == 1 and np.abs(times_s - np.linspace(times_s[0], times_s[-1], len(times_s))).max() < step_s / 2:
        return [ImuRun(samples, 0.0)], float((len(times_s) - 1) / (times_s[-1] - times_s[0]))
    return [_even(t, part, rate_hz) for t, part in parts], rate_hz


def _even(times_s: NDArray[np.float64], samples: NDArray[np.float32], rate_hz: float) -> ImuRun:
    """Return one run on an even grid, by linear interpolation."""
    grid = times_s[0] + np.arange(int((times_s[-1] - times_s[0]) * rate_hz + 1e-6) + 1) / rate_hz
    columns = [np.interp(grid, times_s, samples[:, axis]) for axis in range(samples.shape[1])]
    return ImuRun(np.column_stack(columns).astype(np.float32), float(times_s[0]))


def _cut(run: ImuRun, rate_hz: float, segment_s: float, span: Span | None) -> Iterator[MotionSpan]:
    """Yield spans of a run, limited to `span`."""
    count = len(run.samples)
    first, last = 0, count
    if span is not None:
        first = min(count, max(0, round((span.start_s - run.start_s) * rate_hz)))
        last = min(count, max(first, round((span.end_s - run.start_s) * rate_hz)))
    if first == last:
        return
    begin_s = run.start_s + first / rate_hz
    for start_s, end_s in span_edges((last - first) / rate_hz, segment_s):
        a, b = first + round(start_s * rate_hz), first + round(end_s * rate_hz)
        yield MotionSpan(Motion(run.samples[a:b].copy(), rate_hz), begin_s + start_s, begin_s + end_s)
