"""Recordings in several files, read to one table."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.media.imu.clock import time_unit
from bindsearch.ingest.media.imu.columns import find_columns
from bindsearch.ingest.media.imu.partners import UCI_SIGNAL, UCI_SIGNALS, Recording, recording_of, sensor_role
from bindsearch.ingest.media.imu.table import AXES, SI, Layout, Table, parse_dates
from bindsearch.ingest.media.imu.text_table import read_text_table, text_structure

_LONGEST_GAP_S = 1.0
_EQUAL_RATES = 0.02
"""Rates that differ by less than this share count as equal."""

_METADATA_BYTES = 1 << 16
_UCI_RATE_HZ = 50.0
_UCI_WINDOW = 128
_KITTI_AXES = (11, 12, 13, 17, 18, 19)
"""Columns ax, ay, az and wx, wy, wz of dataformat.txt of the KITTI raw data."""

_KITTI_WIDTH = 30
_UNIT = re.compile(r"\s*[(\[].*[)\]]\s*$")


@dataclass(frozen=True, slots=True)
class _Sensor:
    """One sensor: `times_s` float64 (n,) ascending, `values` float64 (n, 3), and the unit in its column names."""

    name: str
    times_s: NDArray[np.float64]
    values: NDArray[np.float64]
    unit: str


def find_recording(path: Path) -> Recording | None:
    """Return the recording in several files that a file is part of; None if it is a recording by itself."""
    recording = recording_of(path.as_posix())
    if recording is not None and recording.form == "sensors":
        for file in {path.as_posix(), recording.main}:
            structure = text_structure(Path(file))
            if structure is not None and structure.names and find_columns(structure.names) is not None:
                return None
    return recording


def part_paths(path: Path) -> list[Path]:
    """Return the other files of the recording whose item is at `path`; [] for all other files."""
    recording = find_recording(path)
    if recording is None or recording.main != path.as_posix():
        return []
    return [Path(part) for part in recording.parts.values()]


def lone_sensor(name: str, names: Sequence[str]) -> str | None:
    """Return why a table of one sensor, by the names of its file and columns, is no recording; None if it may be."""
    if UCI_SIGNAL.fullmatch(name) is not None:
        return "one axis of UCI HAR: it needs total_acc_x, _y, _z and body_gyro_x, _y, _z in the same folder"
    if find_columns(names) is not None:
        return None
    role = None
    if find_columns([*names, *AXES[3:]]) is not None:
        role = "accelerometer"
    elif find_columns([*names, *AXES[:3]]) is not None:
        role = "gyroscope"
    elif _xyz(names) is not None and len(names) < 10:
        role = sensor_role(name)
    if role in ("accelerometer", "total", "linear"):
        return "only an accelerometer: BindSearch needs a gyroscope too, in the same table or a file beside it"
    if role == "gyroscope":
        return "only a gyroscope: BindSearch needs an accelerometer too, in the same table or a file beside it"
    return None


def read_recording(recording: Recording, max_bytes: int) -> Table:
    """Read a recording in several files.

    Raises:
        MediaError: a file cannot be read, or the files do not fit each other.
    """
    read = {"uci-har": _read_uci, "kitti-oxts": _read_oxts, "sensors": _read_sensors}[recording.form]
    return read(recording, max_bytes)


def _read_sensors(recording: Recording, max_bytes: int) -> Table:
    """Read accelerometer and gyroscope from two files, and gravity from a third one if it is missing."""
    main = Path(recording.main)
    files = {role: Path(path) for role, path in recording.parts.items()}
    origin, turns = read_text_table(main, max_bytes), read_text_table(files["gyroscope"], max_bytes)
    acceleration = _sensor(main, origin, None)
    gyroscope = _sensor(files["gyroscope"], turns, origin)
    read = ((main, origin), (files["gyroscope"], turns))
    notes = [f"{path.name}: {note}" for path, table in read for note in table.notes]
    if "gravity" in files and sensor_role(main.name) != "total":
        gravity = _sensor(files["gravity"], read_text_table(files["gravity"], max_bytes), origin)
        acceleration, added = _with_gravity(acceleration, gravity)
        notes += [f"gravity added from {files['gravity'].name}"] if added else []
    base, other = acceleration, gyroscope
    if _rate_hz(gyroscope) > (1 + _EQUAL_RATES) * _rate_hz(acceleration):
        base, other = gyroscope, acceleration
    times_s, *values = _at_times_of(base, other)
    if base is gyroscope:
        values.reverse()
    units = [acceleration.unit] * 3 + [gyroscope.unit] * 3
    names = [f"{axis} {unit}".strip() for axis, unit in zip(AXES, units, strict=True)]
    columns = {"time": times_s, **dict(zip(names, np.hstack(values).T, strict=True))}
    notes.insert(0, f"{main.name} and {files['gyroscope'].name} joined by time, at the times of {base.name}")
    if left_out := len(base.times_s) - len(times_s):
        notes.append(f"{left_out} samples of {base.name} where {other.name} has none left out")
    header = origin.columns
    layout = None
    if "seconds_elapsed" in header:
        frame, source = _sensor_logger_frame(main, files)
        layout = Layout("sensor-logger", units=SI, frame=frame, frame_source=source)
        if frame is None and "orientation" in files:
            columns |= _attitude(read_text_table(files["orientation"], max_bytes), origin, times_s)
    elif "Time (s)" in header:
        layout = Layout("phyphox")
    elif len(header) == 6 and re.fullmatch(r"data_\d+_accel_(?:phone|watch)\.txt", main.name) is not None:
        layout = Layout("wisdm", units=SI)
    return Table(columns, seconds=frozenset({"time"}), notes=tuple(notes), layout=layout)


def _sensor_logger_frame(main: Path, files: Mapping[str, Path]) -> tuple[str | None, str]:
    """Return the frame of a recording of Sensor Logger and what tells it; None: it is not said.

    Only Android has TotalAcceleration.csv (UNITS.md); Metadata.csv has the columns platform and standardisation, which
    turns iOS's values into Android's frame (CROSSPLATFORM.md).
    """
    if sensor_role(main.name) == "total":
        return "android", main.name
    if "metadata" not in files:
        return None, ""
    with files["metadata"].open("rb") as file:
        lines = file.read(_METADATA_BYTES).decode(errors="replace").splitlines()
    names, values = (next(csv.reader([line]), []) for line in [*lines[:2], "", ""][:2])
    said = {name.strip().lower(): value.strip().lower() for name, value in zip(names, values, strict=False)}
    frame = said.get("platform")
    if frame not in ("ios", "android"):
        return None, ""
    return "android" if said.get("standardisation") == "true" else frame, files["metadata"].name


def _attitude(table: Table, origin: Table, times_s: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Return roll and pitch at some times; {} if the table does not have them."""
    needed = [table.columns.get(name) for name in ("time", "roll", "pitch")]
    if "time" not in origin.columns or any(column is None or column.dtype.kind not in "iuf" for column in needed):
        return {}
    ticks, roll, pitch = (np.asarray(column) for column in needed)
    own_s = (ticks - origin.columns["time"][0]).astype(np.float64) * 1e-9
    if not len(own_s) or not (np.diff(own_s) >= 0).all():
        return {}
    places = np.searchsorted(own_s, times_s).clip(0, len(own_s) - 1)  # not interpolated: angles jump by a turn
    return {"roll": roll[places], "pitch": pitch[places]}


def _xyz(names: Sequence[str]) -> tuple[str, ...] | None:
    """Return the first three columns that end in x, y and z and are equal before it."""
    groups: dict[str, dict[str, str]] = {}
    for name in names:
        bare = _UNIT.sub("", name).strip()
        if bare[-1:].lower() in ("x", "y", "z"):
            groups.setdefault(bare[:-1].lower(), {}).setdefault(bare[-1].lower(), name)
    found = next((group for group in groups.values() if len(group) == 3), None)
    return None if found is None else tuple(found[axis] for axis in "xyz")


def _sensor(path: Path, table: Table, origin: Table | None) -> _Sensor:
    """Return the sensor of a table: x, y, z by name, else the last three columns, with the time before them.

    `origin`: the table whose first time is 0; None: this one.
    """
    names = list(table.columns)
    axes = _xyz(names)
    time: str | None = "seconds_elapsed"
    if axes is None:
        if len(names) < 4 or not all(name.startswith("column ") for name in names):
            raise MediaError(f"{path.name}: no x, y and z among the columns {', '.join(names)[:120]}")
        axes, time = tuple(names[-3:]), names[-4]
    elif time not in names:
        columns = find_columns([*names, *AXES])
        time = None if columns is None else columns.time
    if time is None:
        raise MediaError(f"{path.name}: no time among the columns {', '.join(names)[:120]}: sensors are joined by time")
    values = np.column_stack([np.asarray(table.columns[name], np.float64) for name in axes])
    raw = table.columns[time]
    start = raw[0] if origin is None or time not in origin.columns else origin.columns[time][0]
    if not (np.isfinite(raw).all() and np.isfinite(values).all()):
        bad = next((cell for name, cell in table.texts.items() if name in (*axes, time)), None)
        raise MediaError(f"{path.name}: " + (f"row {bad[0]} says {bad[1]!r}" if bad else "a cell without a number"))
    times_s = (raw - start).astype(np.float64)
    if time not in table.seconds:  # by the name of the column, else as of a table of both sensors
        columns = find_columns([time, *AXES])
        step_s = None if columns is None else dict(columns.times).get(time)
        times_s *= time_unit(np.diff(times_s), float(raw[0]), time)[0] if step_s is None else step_s
    order = np.argsort(times_s, kind="stable")
    unit = _UNIT.search(axes[0])
    return _Sensor(path.name, times_s[order], values[order], unit[0].strip() if unit else "")


def _rate_hz(sensor: _Sensor) -> float:
    length_s = float(sensor.times_s[-1] - sensor.times_s[0])
    return (len(sensor.times_s) - 1) / length_s if length_s > 0 else 0.0


def _at_times_of(base: _Sensor, other: _Sensor) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the times of `base` at which `other` is known, and the values of both there.

    At equal rates the nearest sample of `other` is taken, since a mean of two damps what is fast; else it is
    interpolated linearly.

    Raises:
        MediaError: they have no time in common.
    """
    times_s, known_s = base.times_s, other.times_s
    steps = np.diff(known_s)
    step_s = float(np.median(steps)) if len(steps) else 0.0
    after = np.searchsorted(known_s, times_s, "left").clip(1, max(1, len(known_s) - 1))
    is_known = (times_s >= known_s[0] - step_s) & (times_s <= known_s[-1] + step_s)
    if len(steps):
        is_known &= (steps[after - 1] <= max(_LONGEST_GAP_S, 10 * step_s)) | np.isin(times_s, known_s)
    if is_known.sum() < 2:
        raise MediaError(
            f"{base.name} and {other.name} have no time in common: {times_s[0]:g} to {times_s[-1]:g} s and "
            f"{known_s[0]:g} to {known_s[-1]:g} s"
        )
    times_s, after = times_s[is_known], after[is_known]
    if abs(_rate_hz(base) / max(_rate_hz(other), 1e-9) - 1) < _EQUAL_RATES:
        is_after = known_s[after] - times_s < times_s - known_s[after - 1]
        return times_s, base.values[is_known], other.values[np.where(is_after, after, after - 1)]
    values = np.column_stack([np.interp(times_s, known_s, column) for column in other.values.T])
    return times_s, base.values[is_known], values


def _with_gravity(acceleration: _Sensor, gravity: _Sensor) -> tuple[_Sensor, bool]:
    """Return the acceleration with gravity, and whether it had to be added.

    Without gravity in it, an acceleration is further from the gravity vector than from 0.
    """
    times_s, values, down = _at_times_of(acceleration, gravity)
    away, size = (np.median(np.linalg.norm(v, axis=1)) for v in (values - down, values))
    if away <= size:
        return acceleration, False
    return _Sensor(acceleration.name, times_s, values + down, acceleration.unit), True


def _read_uci(recording: Recording, max_bytes: int) -> Table:
    """Read the Inertial Signals of UCI HAR (Anguita 2013): windows of 128 samples at 50 Hz, each half in the next one.

    Windows that follow each other are joined to runs, so that no sample counts twice; between runs is a pause.
    """
    files = {"total_acc_x": recording.main, **recording.parts}
    tables = [read_text_table(Path(files[signal]), max_bytes) for signal in UCI_SIGNALS]
    signals = [np.stack([*table.columns.values()], axis=1, dtype=np.float64) for table in tables]
    shapes = {signal.shape for signal in signals}
    if len(shapes) != 1 or signals[0].shape[1] != _UCI_WINDOW:
        raise MediaError(
            f"UCI HAR: the signals have the shapes {sorted(shapes)}: expected (n, {_UCI_WINDOW}) for all six"
        )
    windows = np.stack(signals, axis=2)
    half = _UCI_WINDOW // 2
    follows = np.array([False, *((windows[1:, :half] == windows[:-1, half:]).all(axis=(1, 2)))], np.bool_)
    pieces = [window[half:] if is_next else window for window, is_next in zip(windows, follows, strict=True)]
    pauses = np.repeat(np.cumsum(~follows) - 1, [len(piece) for piece in pieces])
    times = np.arange(len(pauses)) + pauses * 2 * _UCI_RATE_HZ
    columns = dict(zip(AXES, np.concatenate(pieces).T, strict=True))
    notes = (f"{len(windows)} windows of {_UCI_WINDOW} samples at 50 Hz joined to {int((~follows).sum())} runs",)
    layout = Layout("uci-har", units={"accelerometer": "g", "gyroscope": "rad/s"})
    return Table({"time": times / _UCI_RATE_HZ, **columns}, seconds=frozenset({"time"}), notes=notes, layout=layout)


def _read_oxts(recording: Recording, max_bytes: int) -> Table:
    """Read the oxts folder of a KITTI drive (Geiger 2013): one line of 30 numbers a file, times in timestamps.txt."""
    import pyarrow as pa

    paths = [recording.main, *(path for role, path in recording.parts.items() if role != "times")]
    lines, size = [], 0
    for path in paths:
        with Path(path).open("rb") as file:
            raw = file.read(4096)
        size += len(raw)
        cells = raw.split()
        if len(cells) != _KITTI_WIDTH or size > max_bytes:
            raise MediaError(f"KITTI oxts: {Path(path).name} has {len(cells)} numbers: expected {_KITTI_WIDTH}")
        lines.append(cells)
    try:
        values = np.array(lines).astype(np.float64)
    except ValueError as error:
        raise MediaError(f"KITTI oxts: {error}") from error
    columns: dict[str, NDArray[Any]] = dict(zip(AXES, values[:, _KITTI_AXES].T, strict=True))
    notes = [f"{len(paths)} files joined"]
    if "times" not in recording.parts:
        notes.append("no timestamps.txt: 10 Hz, as in the synchronised data")
        return Table(columns, notes=tuple(notes), layout=Layout("kitti-oxts", units=SI, sample_rate_hz=10.0))
    with Path(recording.parts["times"]).open("rb") as file:  # lines such as "2011-09-26 13:02:25.964389445"
        dates = file.read(64 * (len(paths) + 1)).decode(errors="replace").splitlines()[: len(paths)]
    times_s = parse_dates(pa.array(dates, pa.string())) if dates else None
    if times_s is None or len(times_s) < len(paths):
        raise MediaError(f"KITTI oxts: timestamps.txt has {len(dates)} times for {len(paths)} files")
    columns["time"] = times_s
    return Table(columns, seconds=frozenset({"time"}), notes=tuple(notes), layout=Layout("kitti-oxts", units=SI))
