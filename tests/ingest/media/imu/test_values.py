"""Motion tables as programs write them: any order, unit, clock and frame gives the motion of the plain table."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from pyarrow import parquet

from bindsearch.errors import MediaError
from bindsearch.ingest.media.imu.frames import parse_axis
from bindsearch.ingest.media.imu.recording import Recording, read_recording
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.ingest.media.sidecar_file import parse_sidecar
from bindsearch.media import Reading

PLAIN = Sidecar()
G = 9.80665
RATE_HZ = 50.0
NAMES = ("acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z")


def walk(count: int = 500, seed: int = 0) -> NDArray[np.float64]:
    """Return someone walking with a phone, float64 (n, 6): m/s^2 with gravity (6.6, 5.5, 4.8), and rad/s up to 2.4."""
    rng = np.random.default_rng(seed)
    phase = 2 * np.pi * 1.8 * np.arange(count)[:, None] / RATE_HZ + rng.uniform(0, 6, 6)
    return np.sin(phase) * (1.5, 2, 1, 1.1, 0.9, 1.4) + (6.6, 5.5, 4.8, 0, 0, 0) + rng.normal(0, 0.01, (count, 6))


def write(path: Path, columns: dict[str, NDArray[np.generic]]) -> Path:
    """Write a parquet table, or a CSV one with full digits."""
    if path.suffix == ".parquet":
        parquet.write_table(pa.table(columns), path)
        return path
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    path.write_text(",".join(columns) + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    return path


def read(path: Path, sidecar: Sidecar = PLAIN, rate_hz: float | None = None) -> Recording:
    """Return a recording, without the note on the source of its rate."""
    recording = read_recording(path, sidecar, DecodeOptions(imu_rate_hz=rate_hz))
    notes = tuple(note for note in recording.reading.notes if note != f"rate {recording.source}")
    return replace(recording, reading=Reading(notes, recording.reading.facts))


def table(samples: NDArray[np.float64], names: tuple[str, ...] = NAMES) -> dict[str, NDArray[np.generic]]:
    return dict(zip(names, samples.T, strict=True))


def check(
    path: Path, samples: NDArray[np.float64], sidecar: Sidecar = PLAIN, rate_hz: float | None = None
) -> Recording:
    """Check that a file is one run of `samples` at 50 Hz."""
    recording = read(path, sidecar, rate_hz)
    (run,) = recording.runs
    assert run.samples.shape == samples.shape
    assert np.allclose(run.samples, samples, atol=2e-3)
    assert recording.rate_hz == pytest.approx(RATE_HZ, rel=5e-3)
    assert recording.reading.facts == {"rate_hz": recording.rate_hz}
    return recording


@settings(max_examples=60, deadline=None)
@given(
    order=st.permutations(range(7)),
    acc=st.sampled_from(
        [("", 1), ("", G), ("_g", G), ("_mg", G / 1000), ("", G / 1000), (" (m/s²)", 1), (" [m s^-2]", 1)]
    ),
    gyro=st.sampled_from(
        [("", 1), ("", np.pi / 180), (" (deg/s)", np.pi / 180), ("_dps", np.pi / 180), (" (rad/s)", 1)]
    ),
    clock=st.sampled_from(
        [("time_s", 1), ("time", 1), ("t_ms", 1e3), ("Timestamp", 1e6), ("time [ns]", 1e9), ("epoch", 1e9)]
    ),
    jitter=st.floats(0, 0.4),
    start=st.sampled_from([0, 17, 1.7e9]),
    extension=st.sampled_from(["csv", "parquet"]),
    seed=st.integers(0, 99),
)
def test_any_order_unit_and_jitter_gives_the_same_motion(
    order: list[int], acc: tuple[str, float], gyro: tuple[str, float], clock: tuple[str, float], jitter: float,
    start: float, extension: str, seed: int,
) -> None:  # fmt: skip
    samples = walk(seed=seed)
    times_s = (
        np.arange(len(samples)) / RATE_HZ + np.random.default_rng(seed).uniform(-jitter, jitter, 500) / 2 / RATE_HZ
    )
    stamps = (
        start * clock[1] + times_s * clock[1] if clock[1] < 1e6 else (start * clock[1] + times_s * clock[1]).astype(int)
    )
    names = tuple(name + (acc if name.startswith("a") else gyro)[0] for name in NAMES)
    columns = table(samples / np.repeat((acc[1], gyro[1]), 3), names) | {clock[0]: stamps}
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / f"a.{extension}", {list(columns)[i]: list(columns.values())[i] for i in order})
        recording = check(path, samples)
    notes = "; ".join(recording.reading.notes)
    assert recording.source.startswith(f"from {clock[0]!r}")
    assert ("accelerometer in" in notes) == (acc[0] == "" and acc[1] != 1)
    assert ("gyroscope in deg/s" in notes) == (gyro[0] == "" and gyro[1] != 1)


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(range(3)), signs=st.tuples(*[st.sampled_from((-1, 1))] * 3))
def test_signed_axes_turn_any_right_angle_frame(order: list[int], signs: tuple[int, int, int]) -> None:
    samples = walk()
    turned = np.empty_like(samples)
    axes = [""] * 6
    for stored, axis in enumerate(order):  # the column of number `stored` is an axis of ours with a sign
        for sensor in (0, 3):
            turned[:, sensor + stored] = signs[stored] * samples[:, sensor + axis]
            axes[sensor + axis] = ("-" if signs[stored] < 0 else "") + NAMES[sensor + stored]
    with tempfile.TemporaryDirectory() as folder:
        check(write(Path(folder) / "a.csv", table(turned)), samples, Sidecar(axes=tuple(axes), sample_rate_hz=50.0))


@pytest.mark.parametrize(
    ("frame", "matrix", "gyro_sign"),
    [
        ("android", np.eye(3), 1),
        ("enu", np.eye(3), 1),
        ("ios", -np.eye(3), -1),
        ("ned", np.array([[0, 1, 0], [1, 0, 0], [0, 0, -1]]), 1),
    ],
)
def test_a_device_face_up_reports_gravity_along_z_in_every_frame(
    tmp_path: Path, frame: str, matrix: NDArray[np.float64], gyro_sign: int
) -> None:
    samples = np.column_stack([np.zeros((200, 2)), np.full(200, G), np.tile((0.1, 0.2, 0.3), (200, 1))])
    stored = np.hstack([samples[:, :3] @ matrix, gyro_sign * samples[:, 3:] @ matrix])
    check(write(tmp_path / "a.csv", table(stored)), samples, Sidecar(frame=frame, sample_rate_hz=50.0))


# Core Motion: total acceleration = gravity + userAcceleration (Apple, CMDeviceMotion). MotionSense's columns are its
# names (github.com/mmalekzadeh/motion-sense); Sensor Logger's WristMotion.csv has accelerationX for the second.
@pytest.mark.parametrize(
    "user", ["userAcceleration.{}", "acceleration{}", "linear_acceleration_{}", "motionUserAcceleration{}(G)"]
)
@pytest.mark.parametrize("unit", [1.0, G])
def test_gravity_and_acceleration_without_it_are_added(tmp_path: Path, user: str, unit: float) -> None:
    samples = walk()
    gravity = np.tile((6.6, 5.5, 4.8), (500, 1))
    bracket = "(G)" if "(G)" in user else ""
    if bracket and unit == 1.0:
        return
    columns = {f"gravity.{a}" + bracket: v for a, v in zip("xyz", gravity.T / unit, strict=True)}
    columns |= {user.format(a): v for a, v in zip("xyz", (samples[:, :3] - gravity).T / unit, strict=True)}
    columns |= {f"rotationRate.{a}": v for a, v in zip("xyz", samples[:, 3:].T, strict=True)}
    recording = check(write(tmp_path / "a.csv", columns), samples, rate_hz=50)
    notes = recording.reading.notes
    assert any("gravity and acceleration without it added" in note or note == "layout: motionsense" for note in notes)
    if unit != 1.0:
        said = Sidecar(
            axes=tuple(f"{g}+{u}" for g, u in zip(list(columns)[:3], list(columns)[3:6], strict=True))
            + tuple(list(columns)[6:])
        )
        check(tmp_path / "a.csv", samples, said, rate_hz=50)


def test_of_several_accelerometers_the_one_with_gravity_is_read(tmp_path: Path) -> None:
    """Physics Toolbox: gFx in g, ax in m/s^2 without gravity; AndroSensor: LINEAR ACCELERATION comes first."""
    samples = walk()
    linear = samples[:, :3] - (6.6, 5.5, 4.8)
    toolbox = {f"gF{a}": v for a, v in zip("xyz", samples[:, :3].T / G, strict=True)}
    toolbox |= {f"a{a}": v for a, v in zip("xyz", linear.T, strict=True)} | table(samples[:, 3:], ("wx", "wy", "wz"))
    check(write(tmp_path / "a.csv", toolbox), samples, rate_hz=50)
    androsensor = table(linear, tuple(f"LINEAR ACCELERATION {a} (m/s²)" for a in "XYZ"))
    androsensor |= table(samples[:, :3], tuple(f"ACCELEROMETER {a} (m/s²)" for a in "XYZ"))
    androsensor |= table(samples[:, 3:], tuple(f"GYROSCOPE {a} (rad/s)" for a in "XYZ"))
    assert not check(write(tmp_path / "b.csv", androsensor), samples, rate_hz=50).reading.notes


def test_linear_acceleration_of_ros_has_gravity(tmp_path: Path) -> None:
    """sensor_msgs/Imu: linear_acceleration is the accelerometer's value (ROS REP 145)."""
    names = tuple(f"{s}.{a}" for s in ("linear_acceleration", "angular_velocity") for a in "xyz")
    check(write(tmp_path / "a.csv", table(walk(), names)), walk(), rate_hz=50)


@pytest.mark.parametrize("names", [("linear_acceleration_", "gyro_"), ("acc_", "gyro_"), ("body_acc_", "body_gyro_")])
@pytest.mark.parametrize("scale", [0.3, 0.7, 1, 2, 5, 1 / G])
@pytest.mark.parametrize("unit", ["", " (m/s^2)"])
def test_without_gravity_a_file_is_refused(tmp_path: Path, names: tuple[str, str], scale: float, unit: str) -> None:
    samples = (walk() - (6.6, 5.5, 4.8, 0, 0, 0)) * np.repeat((scale, 1), 3)
    columns = table(samples, (*(f"{names[0]}{a}{unit}" for a in "xyz"), *(f"{names[1]}{a}" for a in "xyz")))
    with pytest.raises(MediaError, match=r"no gravity in it \(median .*list columns with gravity under axes"):
        read(write(tmp_path / "a.csv", columns), rate_hz=50)


def test_columns_without_names_are_told_apart_by_gravity(tmp_path: Path) -> None:
    samples = walk()
    for unit in (1, G, G / 1000):
        stored = samples / np.repeat((unit, 1), 3)
        for part, name in ((stored, "a"), (stored[:, [3, 4, 5, 0, 1, 2]], "b")):
            np.savetxt(tmp_path / f"{name}.csv", part, delimiter=",")
            check(tmp_path / f"{name}.csv", samples, rate_hz=50)
            np.save(tmp_path / f"{name}.npy", part)
            check(tmp_path / f"{name}.npy", samples, rate_hz=50)
    np.save(tmp_path / "c.npy", samples / np.repeat((G / 16384, np.pi / 180 / 131), 3))
    with pytest.raises(MediaError, match="the columns have no names, and their values do not show"):
        read(tmp_path / "c.npy", rate_hz=50)


def test_a_gyroscope_as_long_as_one_g_is_told_apart_by_its_turns(tmp_path: Path) -> None:
    """On stairs rotation has a median of 0.9 rad/s, the length of gravity in g, mostly about one axis."""
    chance = np.random.default_rng(3)
    samples = walk()
    steps = np.where(chance.random((500, 1)) < 0.3, 15, 8) / G  # short strong steps, and between them less than gravity
    samples[:, :3] = steps * chance.normal((6.6, 5.5, 4.8), 1, (500, 3))
    samples[:, 3:] = chance.normal((0.5, 0, 0), 0.45, (500, 3))
    for part, name in ((samples, "a"), (samples[:, [3, 4, 5, 0, 1, 2]], "b")):
        np.savetxt(tmp_path / f"{name}.csv", part, delimiter=",")
        check(tmp_path / f"{name}.csv", samples, rate_hz=50)


def test_raw_counts_are_refused_unless_a_scale_is_said(tmp_path: Path) -> None:
    """MPU-6050: 16384 LSB/g and 131 LSB/(deg/s) in its smallest ranges (InvenSense, register map)."""
    samples = walk()
    path = write(tmp_path / "a.csv", table(np.round(samples / np.repeat((G / 16384, np.pi / 180 / 131), 3))))
    with pytest.raises(MediaError, match=r'unit of the accelerometer is not clear .*median 16...; .*"16384 LSB/g"'):
        read(path, rate_hz=50)
    with pytest.raises(MediaError, match=r'unit of the gyroscope is not clear .*"131 LSB/\(deg/s\)"'):
        read(path, Sidecar(units={"accelerometer": "16384 LSB/g"}), rate_hz=50)
    units = {"accelerometer": "16384 LSB/g", "gyroscope": "131 LSB/(deg/s)"}
    assert not check(path, samples, Sidecar(units=units), rate_hz=50).reading.notes


def test_a_unit_that_the_values_contradict_is_a_note(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", table(walk() / np.repeat((G, np.pi / 180), 3)))
    notes = read(path, Sidecar(units={"accelerometer": "m/s^2", "gyroscope": "rad/s"}), rate_hz=50).reading.notes
    assert "the unit is given as m/s^2, but the median 1" in notes[0]
    assert "the unit is given as rad/s, but the 99th percentile" in notes[1]


def test_a_slow_gyroscope_is_judged_by_the_turns_of_gravity(tmp_path: Path) -> None:
    """The direction of gravity turns by -w x u: 10 deg/s about x move it from y to z and back."""
    angle = 0.4 * np.sin(2 * np.pi * 0.1 * np.arange(1000) / RATE_HZ)
    rate = np.gradient(angle) * RATE_HZ
    samples = np.column_stack(
        [0 * angle, G * np.sin(angle), G * np.cos(angle), rate, np.zeros((1000, 2))]
    ) + np.random.default_rng(0).normal(0, 0.02, (1000, 6)) * np.repeat((1, 0.05), 3)
    assert not check(write(tmp_path / "a.csv", table(samples)), samples, rate_hz=50).reading.notes
    stored = samples / np.repeat((G, np.pi / 180), 3)
    recording = check(write(tmp_path / "b.csv", table(stored)), samples, rate_hz=50)
    assert "gyroscope in deg/s (by the turns of gravity): converted to rad/s" in recording.reading.notes


@pytest.mark.parametrize("offset", [(0, 0, 0), (0.3, -0.2, 0.1)])
@pytest.mark.parametrize("unit", [1.0, np.pi / 180])
def test_at_rest_a_gyroscope_that_tells_turns_of_gravity_is_in_degrees(
    tmp_path: Path, offset: tuple[float, float, float], unit: float
) -> None:
    """A person sits: averages over 0.2 s of up to 0.1 rad/s (UCI HAR), and a few wrong samples."""
    chance = np.random.default_rng(4)
    gyroscope = chance.normal(offset, 0.04, (60, 3)).repeat(10, axis=0)
    gyroscope[chance.integers(0, 600, 3)] = 0.5
    acc = chance.normal((0.3, 9.5, 2.0), 0.02, (600, 3))
    samples = np.hstack([acc, gyroscope])
    stored = samples / np.repeat((1.0, unit), 3)
    recording = check(write(tmp_path / "a.csv", table(stored)), samples, rate_hz=50)
    is_noted = any("gyroscope in deg/s" in note for note in recording.reading.notes)
    assert is_noted == (unit != 1.0)


def test_a_gyroscope_on_other_axes_is_not_taken_for_degrees(tmp_path: Path) -> None:
    """Turns by 1 rad/s about the axes y, z, x instead of x, y, z: gravity turns as far, but elsewhere."""
    times = np.arange(1000) / RATE_HZ
    angle = np.sin(2 * np.pi * times / 4) * 4 / (2 * np.pi)
    rate = np.cos(2 * np.pi * times / 4)
    acc = 9.8 * np.column_stack([np.zeros(1000), np.sin(angle), np.cos(angle)])
    samples = np.column_stack([acc, np.zeros(1000), rate, np.zeros(1000)])
    recording = check(write(tmp_path / "a.csv", table(samples)), samples, rate_hz=50)
    assert not any("deg/s" in note for note in recording.reading.notes)


def test_units_in_the_names_of_said_axes_are_read(tmp_path: Path) -> None:
    """SensorLog: accelerometerAccelerationX(G)."""
    names = tuple(f"{s}" for a in "XYZ" for s in (f"accelerometerAcceleration{a}(G)",)) + tuple(
        f"gyroRotation{a}(rad/s)" for a in "XYZ"
    )
    path = write(tmp_path / "a.csv", table(walk() / np.repeat((G, 1), 3), names))
    notes = check(path, walk(), Sidecar(axes=names, sample_rate_hz=50.0, frame="android")).reading.notes
    assert notes == ("layout: sensorlog",)


def test_the_time_column_can_be_said(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", {"ticks": np.arange(500) * 20} | table(walk()))
    for time in (b'"ticks"', b"0"):
        check(path, walk(), parse_sidecar(b'{"sample_rate_hz": null, "units": {}, "time": ' + time + b"}"))
    with pytest.raises(MediaError, match="sidecar time: no column 'tocks'"):
        read(path, Sidecar(time="tocks"))


def test_short_gaps_are_interpolated_with_a_count(tmp_path: Path) -> None:
    samples = walk()
    stored = samples.copy()
    stored[100:103, 1], stored[300, 4] = np.nan, np.inf
    (run,) = (recording := read(write(tmp_path / "a.parquet", table(stored)), rate_hz=50)).runs
    assert np.allclose(run.samples, samples, atol=0.2)
    assert recording.reading.notes == ("row 101 has no number in column 'acc_y': 4 rows interpolated",)


def test_a_text_among_numbers_is_named_with_its_row(tmp_path: Path) -> None:
    lines = write(tmp_path / "a.csv", {"time_s": np.arange(500) / 50} | table(walk())).read_text().splitlines()
    again = [*lines[:201], lines[0], *lines[201:]]
    (tmp_path / "b.csv").write_text("\n".join(again))
    assert check(tmp_path / "b.csv", walk()).reading.notes == ("1 repeated header left out",)
    (tmp_path / "c.csv").write_text("\n".join(line.replace(",", ";").replace(".", ",") for line in lines))
    check(tmp_path / "c.csv", walk())
    words = [*lines[:201], lines[201].rsplit(",", 1)[0] + ",off", *lines[202:]]
    (tmp_path / "d.csv").write_text("\n".join(words))
    notes = read(tmp_path / "d.csv").reading.notes
    assert notes == ("row 201 has no number in column 'gyro_z' ('off'): 1 row interpolated",)


def test_equal_names_are_refused(tmp_path: Path) -> None:
    header = ",".join((*NAMES, *NAMES[:2]))
    (tmp_path / "a.csv").write_text(header + "\n" + "0,0,9.8,0,0,0,1,1\n" * 100)
    with pytest.raises(MediaError, match="several columns are named 'acc_x': list the positions"):
        read(tmp_path / "a.csv", rate_hz=50)
    (tmp_path / "b.csv").write_text(",".join(NAMES) + ",note,note\n" + "0,0,9.8,0,0,0,1,1\n" * 100)
    assert len(read(tmp_path / "b.csv", rate_hz=50).runs[0].samples) == 100


@settings(max_examples=150, deadline=None)
@given(
    samples=arrays.arrays(np.float64, st.tuples(st.integers(2, 40), st.just(6)), elements=st.floats()),
    names=st.sampled_from(
        [NAMES, ("gFx", "gFy", "gFz", "wx", "wy", "wz"), ("lin_acc_x", "lin_acc_y", "lin_acc_z", "gx", "gy", "gz")]
    ),
    units=st.dictionaries(
        st.sampled_from(["accelerometer", "gyroscope"]),
        st.sampled_from(
            ["g", "mg", "m/s²", "deg/s", "1e-300 g", "1e300 LSB/g", "0 g", "16384 LSB/g", "counts", "", "(" * 90]
        ),
    ),
    frame=st.sampled_from([None, "ios", "ned"]),
)
def test_any_values_give_finite_samples_or_an_error(
    samples: NDArray[np.float64], names: tuple[str, ...], units: dict[str, str], frame: str | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "a.parquet", table(samples, names))
        try:
            recording = read(path, Sidecar(units=units, frame=frame), rate_hz=50)
        except MediaError:
            return
    assert all(np.isfinite(run.samples).all() for run in recording.runs)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("a", ((1, "a"),)),
        ("-a", ((-1, "a"),)),
        ("+a", ((1, "a"),)),
        ("a+b", ((1, "a"), (1, "b"))),
        ("-a - b", ((-1, "a"), (-1, "b"))),
        ("x-axis (g)", ((1, "x-axis (g)"),)),
        ("-x-axis (g)+a", ((-1, "x-axis (g)"), (1, "a"))),
        ("a+a+a+a+a", None),
        ("c", None),
        ("a+", None),
        ("a b", None),
        ("", None),
        ("-", None),
        ("--a", None),
    ],
)
def test_axes_are_signed_sums_of_columns(text: str, terms: object) -> None:
    assert parse_axis(text, ["a", "b", "x-axis (g)", "x"]) == terms
