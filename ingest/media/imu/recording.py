"""Motion recordings: accelerometer (with gravity) and gyroscope tables, converted to m/s^2 and rad/s at an even rate.

Columns are found by name (acc_x, ax, accelerometer_x, gyro_x, gx, ...), or listed in the sidecar's `axes`, with signs
and sums if needed (`frames`). Units: the sidecar's, else the one in the column name (acc_x_g, "gyro_x (deg/s)"), else
the one that the values show (`units`). The accelerometer is the one with gravity in it (`sensors`).
Rate: the sidecar's `sample_rate_hz`, else a time column (`clock`), else the file's own rate (npz), else --imu-rate; it
is never guessed. What was inferred, converted or repaired is a note of the reading, else the file is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bindsearch.errors import MediaError
from bindsearch.ingest.media.imu.clock import Clock, ImuRun, even_clock, even_runs, read_clock, stated_rate
from bindsearch.ingest.media.imu.columns import MotionColumns, find_columns
from bindsearch.ingest.media.imu.frames import turn
from bindsearch.ingest.media.imu.layouts import lay_out
from bindsearch.ingest.media.imu.sensors import read_sensors
from bindsearch.ingest.media.imu.table import Table, count_of
from bindsearch.ingest.media.imu.tables import read_table
from bindsearch.ingest.media.options import DecodeOptions, check_limit
from bindsearch.ingest.media.recordings.segmenting import check_span, shortest_tail_s, span_edges
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.media import NO_READING, Motion, Reading
from bindsearch.types import Span

NO_RATE = (
    "the sample rate is unknown: give sample_rate_hz in the sidecar <file>.json, a timestamp column, or --imu-rate HZ"
)


@dataclass(frozen=True, slots=True)
class MotionSpan:
    """A span of a motion recording: its samples, and its start and end in seconds."""

    motion: Motion
    start_s: float
    end_s: float
    reading: Reading = NO_READING  # what was found out about the recording; only the first span has it


@dataclass(frozen=True, slots=True)
class Recording:
    """A whole motion recording, and what was found out about it."""

    runs: tuple[ImuRun, ...]  # its parts without pauses
    rate_hz: float
    source: str  # of the rate, such as "from 'time_s'" or "from the sidecar"
    reading: Reading


def read_imu(path: Path, sidecar: Sidecar, options: DecodeOptions, span: Span | None = None) -> Iterator[MotionSpan]:
    """Yield the motion recording at `path` in spans of `options.imu_segment_s` seconds.

    Raises:
        MediaError: no table, axes or rate unknown, a value missing, time not ascending, or `span` after the end.
    """
    check_span(span)
    recording = read_recording(path, sidecar, options)
    is_empty = True
    for piece in motion_spans(recording.runs, recording.rate_hz, options.imu_segment_s, span):
        yield replace(piece, reading=recording.reading) if is_empty else piece
        is_empty = False
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


def read_recording(path: Path, sidecar: Sidecar, options: DecodeOptions) -> Recording:
    """Read the whole recording.

    Raises:
        MediaError: as for `read_imu`.
    """
    table, sidecar = lay_out(read_table(path, options), sidecar)
    columns = find_columns(list(table.columns), sidecar.axes, sidecar.time)
    if columns is None:
        raise MediaError(
            "no accelerometer and gyroscope x, y, z among the columns "
            f"{', '.join(table.columns)[:120] or '(none)'}: "
            "name them acc_x, ..., gyro_z, or list them under axes in the sidecar <file>.json"
        )
    table, dropped = _without_blank_rows(table, columns)
    count = len(table.columns[columns.accelerometers[0].terms[0][0][1]])
    if count < 2:
        raise MediaError(f"the table has {count} rows: a recording needs at least 2")
    check_limit(count, options.max_samples, f"the table has {count} rows", "samples")
    clock = _clock(table, columns, sidecar, options, count)
    samples, notes = read_sensors(table, columns, sidecar, clock.rate_hz)
    runs = even_runs(turn(samples, sidecar.frame), clock, options.max_samples)
    source = () if sidecar.sample_rate_hz is not None else (f"rate {clock.source}",)
    reading = Reading((*table.notes, *source, *dropped, *clock.notes, *notes), {"rate_hz": clock.rate_hz})
    return Recording(tuple(runs), clock.rate_hz, clock.source, reading)


def _without_blank_rows(table: Table, columns: MotionColumns) -> tuple[Table, tuple[str, ...]]:
    """Return the table without rows that have no number in any column used, such as a header in the middle.

    Without a time column every row counts as one step: they stay.
    """
    if not columns.times:
        return table, ()
    sensors = (*columns.accelerometers, *columns.gyroscopes, *((columns.gravity,) if columns.gravity else ()))
    names = {name for sensor in sensors for axis in sensor.terms for _, name in axis}
    names.update(name for name, _ in columns.times)
    used = [table.columns[name] for name in sorted(names.intersection(table.columns))]
    used = [column for column in used if column.dtype.kind in "biuf"]
    if len(set(map(len, used))) != 1 or any(column.dtype.kind in "biu" for column in used):
        return table, ()
    is_blank = np.isnan(used[0])
    for column in used[1:]:
        if not is_blank.any():
            return table, ()
        is_blank &= np.isnan(column)
    blank, count = np.flatnonzero(is_blank), len(is_blank)
    if len(blank) in (0, count):
        return table, ()
    kept = {name: column[~is_blank] if len(column) == count else column for name, column in table.columns.items()}
    text = next((text for row, text in table.texts.values() if row == blank[0] + 1), "")
    first = f"row {blank[0] + 1}" + (f", {text!r}" if text else "")
    note = f"{count_of(len(blank), 'row')} without a number left out (the first is {first})"
    return replace(table, columns=kept), (note,)


def _clock(table: Table, columns: MotionColumns, sidecar: Sidecar, options: DecodeOptions, count: int) -> Clock:
    """Return the clock of a table: the sidecar's rate, else a time column, the file's rate or --imu-rate."""
    if sidecar.sample_rate_hz is not None:
        rate_hz = stated_rate(sidecar.sample_rate_hz, "sidecar sample_rate_hz")
        said = even_clock(rate_hz, "from the sidecar", count)
        seen, _ = _column_clock(table, columns, count)
        if seen is None or 0.8 < seen.rate_hz / rate_hz < 1.25:
            return said
        column = seen.source.removeprefix("from ")
        note = f"sample_rate_hz says {rate_hz:g} Hz, but time column {column} shows {seen.rate_hz:.4g} Hz"
        return replace(said, notes=(note,))
    clock, problem = _column_clock(table, columns, count)
    if clock is not None:
        return clock
    if table.rate_hz is not None:
        return even_clock(stated_rate(table.rate_hz, "the file's sample rate"), "from the file", count)
    if problem is not None:
        raise problem
    if options.imu_rate_hz is None:
        raise MediaError(NO_RATE)
    return even_clock(options.imu_rate_hz, "from --imu-rate", count)


def _column_clock(table: Table, columns: MotionColumns, count: int) -> tuple[Clock | None, MediaError | None]:
    """Return the clock of the first time column that can be read, and why the first one cannot."""
    problem: MediaError | None = None
    for name, step_s in columns.times:
        raw = table.columns[name]
        try:
            if len(raw) != count:
                raise MediaError(f"time column {name!r} has {len(raw)} rows, the axes {count}")
            clock = read_clock(raw, name, 1.0 if name in table.seconds else step_s)
            return replace(clock, source=f"from {clock.source}"), problem
        except MediaError as error:
            problem = problem or error
    return None, problem


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
