"""Real motion recordings (UCI HAR) as files in the layouts of phones, loggers and data sets."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mini_motion import MOTION_PHRASES, STANDARD_GRAVITY
from numpy.typing import NDArray

from bindsearch.encoders.mini.imu import VIEW_HOP

RATE_HZ = 50.0
AXES = ("acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z")
START_S = 1_700_000_000.3
"""Start of clocks that count from 1970."""

GYROSCOPE_DELAY_S = 0.007
"""Delay of the clock of the gyroscope in a file of its own."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Recording:
    """A recording of one activity by one person.

    Attributes:
        total: Accelerometer (n, 3) in m/s^2, with gravity.
        user: The same without gravity, as the data set tells it.
        gyroscope: (n, 3) in rad/s.
        activity: Sentence of the activity.
        subject: Number of the person.
    """

    total: Values
    user: Values
    gyroscope: Values
    activity: str
    subject: int

    @property
    def times_s(self) -> Values:
        """Return the times of the samples in seconds."""
        return np.arange(len(self.total)) / RATE_HZ


Write = Callable[[Recording, Path], Path]
"""Function that writes a recording below a path without extension, and returns the file that is the item."""


@dataclass(frozen=True)
class MotionLayout:
    """A layout of motion files.

    Attributes:
        name: Name, as in the table.
        write: Writes a recording.
        before: Share that was named rightly when units, gravity and order were assumed; None: not measured.
        is_refused: Whether all files must be refused.
        remark: Why nothing can be expected; empty: the files tell enough.
    """

    name: str
    write: Write
    before: float | None = None
    is_refused: bool = False
    remark: str = ""


def load_recordings(data: Path) -> list[Recording]:
    """Return all runs of UCI HAR, windows joined."""
    with np.load(data / "imu_uci_har" / "windows.npz", allow_pickle=False) as archive:
        windows, run_of, label_of, subject_of = (archive[name] for name in ("x", "run", "y", "subject"))
        labels = [str(name) for name in archive["labels"]]
    recordings = []
    for number in np.unique(run_of):
        rows = np.flatnonzero(run_of == number)
        signal = np.concatenate([windows[rows[0]], *(windows[row][-VIEW_HOP:] for row in rows[1:])]).astype(np.float64)
        user, total, gyroscope = signal[:, :3] * STANDARD_GRAVITY, signal[:, 3:6] * STANDARD_GRAVITY, signal[:, 6:]
        activity = MOTION_PHRASES[labels[label_of[rows[0]]]][1]
        recordings.append(Recording(total, user, gyroscope, activity, int(subject_of[rows[0]])))
    return recordings


def layouts() -> list[MotionLayout]:
    """Return the layouts: those that are readable, then those that are not."""
    deg, g = 180 / np.pi, 1 / STANDARD_GRAVITY
    return [
        MotionLayout("m/s^2, rad/s", _table(), 0.99),
        MotionLayout("g, rad/s, no units said", _table(g), 0.15),
        MotionLayout("mg, deg/s, no units said", _table(1000 * g, deg)),
        MotionLayout("m/s^2, deg/s, no units said", _table(1.0, deg), 0.60),
        MotionLayout("g, deg/s, units in names", _table(g, deg, units=(" (g)", " (deg/s)"))),
        MotionLayout("gravity and user acceleration, two triples", _gravity_apart, 0.28),
        MotionLayout("gyroscope first, no names", _without_names, 0.27),
        MotionLayout("axes as iOS, said by frame", _as_ios(is_said=True)),
        MotionLayout("one sensor a file", _apart),
        MotionLayout("preamble, units row, decimal commas", _with_preamble),
        MotionLayout("time in whole seconds", _in_whole_seconds),
        MotionLayout("axes as iOS, not said", _as_ios(is_said=False), 0.13, remark="nothing in it tells"),
        MotionLayout("user acceleration only", _without_gravity, is_refused=True),
        MotionLayout("raw counts, no scale said", _counts, is_refused=True),
    ]


def _table(scale: float = 1.0, turn_scale: float = 1.0, units: tuple[str, str] = ("", "")) -> Write:
    """Return a function that writes a table with the usual names, values multiplied by the scales."""
    names = ["time_s", *(name + unit for name, unit in zip(AXES, np.repeat(units, 3), strict=True))]

    def write(recording: Recording, path: Path) -> Path:
        values = [recording.times_s, recording.total * scale, recording.gyroscope * turn_scale]
        return _save(path.with_suffix(".csv"), values, names)

    return write


def _counts(recording: Recording, path: Path) -> Path:
    """Write whole numbers as an MPU-6050 gives them: 16384 LSB/g and 131 LSB/(deg/s)."""
    total = np.round(16384 * recording.total / STANDARD_GRAVITY)
    gyroscope = np.round(np.rad2deg(recording.gyroscope) * 131)
    return _save(path.with_suffix(".csv"), [recording.times_s, total, gyroscope], ["time_s", *AXES])


def _gravity_apart(recording: Recording, path: Path) -> Path:
    names = [f"{kind}_{axis}" for kind in ("gravity", "user_acceleration", "rotation_rate") for axis in "xyz"]
    values = [recording.times_s, recording.total - recording.user, recording.user, recording.gyroscope]
    return _save(path.with_suffix(".csv"), values, ["time", *names])


def _without_gravity(recording: Recording, path: Path) -> Path:
    return _save(path.with_suffix(".csv"), [recording.times_s, recording.user, recording.gyroscope], ["time_s", *AXES])


def _without_names(recording: Recording, path: Path) -> Path:
    return _save(path.with_suffix(".csv"), [recording.times_s, recording.gyroscope, recording.total], [])


def _as_ios(*, is_said: bool) -> Write:
    """Return a function that writes g as Core Motion reports it: -1 along z with the screen up."""

    def write(recording: Recording, path: Path) -> Path:
        names = ["timestamp", *(f"{kind}_{axis}" for kind in ("acceleration", "rotation") for axis in "xyz")]
        values = [recording.times_s, -recording.total / STANDARD_GRAVITY, recording.gyroscope]
        file = _save(path.with_suffix(".csv"), values, names)
        if is_said:
            file.with_name(f"{file.name}.json").write_text(json.dumps({"frame": "ios"}), "utf-8")
        return file

    return write


def _apart(recording: Recording, path: Path) -> Path:
    path.mkdir()
    times = recording.times_s
    _save(path / "Gyroscope.csv", [times + GYROSCOPE_DELAY_S, recording.gyroscope], ["seconds_elapsed", *"xyz"])
    return _save(path / "Accelerometer.csv", [times, recording.total], ["seconds_elapsed", *"xyz"])


def _with_preamble(recording: Recording, path: Path) -> Path:
    values = np.column_stack([recording.times_s * 1000, recording.total / STANDARD_GRAVITY, recording.gyroscope])
    head = ["sep=;", "# Device: logger", "# Firmware 1.2", "", "Time;" + ";".join(f"Acc_{axis}" for axis in "XYZ")]
    head[-1] += ";" + ";".join(f"Gyr_{axis}" for axis in "XYZ")
    head.append("ms;g;g;g;rad/s;rad/s;rad/s")
    rows = [";".join(f"{value:.6g}".replace(".", ",") for value in row) for row in values]
    file = path.with_suffix(".csv")
    file.write_text("\n".join([*head, *rows]) + "\n", "utf-8")
    return file


def _in_whole_seconds(recording: Recording, path: Path) -> Path:
    seconds = np.floor(START_S + recording.times_s)
    values = [seconds, recording.total, recording.gyroscope]
    return _save(path.with_suffix(".csv"), values, ["unix_time", *AXES], "%.10g")


def _save(path: Path, values: Sequence[Values], names: Sequence[str], time_format: str = "%.3f") -> Path:
    table = np.column_stack(values)
    formats = [time_format, *["%.6g"] * (table.shape[1] - 1)]
    np.savetxt(path, table, formats, ",", header=",".join(names), comments="")
    if not names:
        path.write_text(path.read_text("utf-8").lstrip("\n"), "utf-8")
    return path
