from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from bindsearch.errors import MediaError
from bindsearch.ingest.media.imu.columns import find_columns
from bindsearch.ingest.media.imu.recording import MotionSpan, read_imu
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.media import NO_READING
from bindsearch.types import Span
from helpers.media_files import motion
from helpers.media_files import write_motion_csv as write_csv

PLAIN = Sidecar()
AXES = ("acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z")


def decode(
    path: Path, sidecar: Sidecar = PLAIN, *, rate_hz: float | None = None, span: Span | None = None
) -> list[MotionSpan]:
    return list(read_imu(path, sidecar, DecodeOptions(imu_rate_hz=rate_hz), span))


def write(path: Path, columns: dict[str, np.ndarray]) -> Path:
    """Write a csv, parquet or npz of these columns."""
    if path.suffix == ".parquet":
        parquet.write_table(pa.table(columns), path)
    elif path.suffix == ".npz":
        np.savez(path, **cast(Any, columns))
    else:
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        path.write_text(",".join(columns) + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    return path


def table(samples: np.ndarray, names: tuple[str, ...] = AXES, **extra: np.ndarray) -> dict[str, np.ndarray]:
    return {**extra, **dict(zip(names, samples.T, strict=True))}


@pytest.mark.parametrize("extension", ["csv", "parquet", "npz"])
def test_every_table_gives_six_axes_at_the_rate_of_its_time_stamps(tmp_path: Path, extension: str) -> None:
    samples = motion(6)
    path = write(tmp_path / f"a.{extension}", table(samples, time_s=np.arange(300) / 50))
    spans = decode(path)
    assert [(span.start_s, span.end_s) for span in spans] == [(0, 5), (5, pytest.approx(6))]
    assert spans[0].motion.samples.dtype == np.float32
    assert spans[0].motion.sample_rate_hz == pytest.approx(50)
    assert np.allclose(np.concatenate([span.motion.samples for span in spans]), samples, atol=1e-5)


def test_an_array_has_the_standard_order_with_or_without_time(tmp_path: Path) -> None:
    samples = motion(4)
    np.save(tmp_path / "a.npy", samples)
    (span,) = decode(tmp_path / "a.npy", rate_hz=50)
    assert np.allclose(span.motion.samples, samples, atol=1e-6)
    np.save(tmp_path / "b.npy", np.column_stack([np.arange(200) * 20, samples]))
    (span,) = decode(tmp_path / "b.npy")
    assert span.motion.sample_rate_hz == pytest.approx(50)


@pytest.mark.parametrize(
    "arrays",
    [
        {"accelerometer": motion(4)[:, :3], "gyroscope": motion(4)[:, 3:], "sample_rate_hz": np.array(50.0)},
        {"acc": motion(4)[:, :3], "gyro": motion(4)[:, 3:], "timestamp": np.arange(200) / 50},
        {"imu": motion(4), "rate_hz": np.array(50)},
        {"anything": motion(4)},
    ],
)
def test_npz_files_hold_sensors_columns_or_one_array(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(tmp_path / "a.npz", **cast(Any, arrays))
    (span,) = decode(tmp_path / "a.npz", rate_hz=50)
    assert span.motion.sample_rate_hz == pytest.approx(50)
    assert np.allclose(span.motion.samples, motion(4), atol=1e-6)


def test_a_table_without_a_header_has_the_standard_order(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "imu.csv", motion(4), delimiter=";")
    (span,) = decode(tmp_path / "imu.csv", rate_hz=50)
    assert np.allclose(span.motion.samples, motion(4), atol=1e-6)


@pytest.mark.parametrize(
    "names",
    [
        ("ax", "ay", "az", "gx", "gy", "gz"),
        ("accelerometer_x", "accelerometer_y", "accelerometer_z", "gyroscope_x", "gyroscope_y", "gyroscope_z"),
        ("AccX", "AccY", "AccZ", "GyrX", "GyrY", "GyrZ"),
        ("Accel X", "Accel Y", "Accel Z", "Gyro X", "Gyro Y", "Gyro Z"),
        ("total_acc_x", "total_acc_y", "total_acc_z", "body_gyro_x", "body_gyro_y", "body_gyro_z"),
        (
            "linear_acceleration.x", "linear_acceleration.y", "linear_acceleration.z",
            "angular_velocity.x", "angular_velocity.y", "angular_velocity.z",
        ),
        ("imu_acc_z", "imu_acc_x", "imu_acc_y", "wx", "wy", "wz"),
    ],
)  # fmt: skip
def test_column_names_are_recognised(names: tuple[str, ...]) -> None:
    columns = find_columns(["frame", *names, "label"])
    assert columns is not None
    assert set(columns.axes) == set(names)
    assert [name.lower()[-1] for name in columns.axes] == list("xyzxyz")
    assert (columns.accelerometers[0].unit, columns.gyroscopes[0].unit) == (None, None)


@pytest.mark.parametrize(
    ("accelerometer", "gyroscope", "units"),
    [
        ("acc_{}_g", "gyro_{}_dps", ("g", "deg/s")),
        ("acc_{} (m/s^2)", "gyro_{} (rad/s)", ("m/s^2", "rad/s")),
        ("Acc{} [m/s²]", "Gyro{} [°/s]", ("m/s^2", "deg/s")),
        ("a{}_mg", "g{}_mrad_s", ("mg", "mrad/s")),
    ],
)
def test_units_in_column_names_are_read(accelerometer: str, gyroscope: str, units: tuple[str, str]) -> None:
    columns = find_columns([pattern.format(axis) for pattern in (accelerometer, gyroscope) for axis in "xyz"])
    assert columns is not None
    assert (columns.accelerometers[0].unit, columns.gyroscopes[0].unit) == units


@pytest.mark.parametrize("names", [("path", "label", "x", "y", "z"), ("body_acc_x", "axis", "gray", "ax", "ay", "gz")])
def test_other_columns_are_not_taken_for_motion(names: tuple[str, ...]) -> None:
    assert find_columns(names) is None


def test_units_are_converted_by_name_or_sidecar(tmp_path: Path) -> None:
    samples = motion(4)
    in_g = samples / np.repeat((9.80665, np.pi / 180), 3)
    named = write(
        tmp_path / "a.csv", table(in_g, tuple(f"{n}_{u}" for n, u in zip(AXES, ["g"] * 3 + ["dps"] * 3, strict=True)))
    )
    plain = write(tmp_path / "b.csv", table(in_g))
    units = {"accelerometer": "g", "gyroscope": "deg/s"}
    for path, sidecar in ((named, PLAIN), (plain, Sidecar(units=units))):
        (span,) = decode(path, sidecar, rate_hz=50)
        assert np.allclose(span.motion.samples, samples, atol=1e-4)
    with pytest.raises(MediaError, match=r"accelerometer unit 'furlong': expected m/s\^2 or g"):
        decode(plain, Sidecar(units={"accelerometer": "furlong"}), rate_hz=50)


def test_the_sidecar_names_the_axes(tmp_path: Path) -> None:
    samples = motion(4)
    path = write(tmp_path / "a.csv", table(samples, ("c", "a", "b", "r", "p", "q")))
    (span,) = decode(path, Sidecar(axes=("a", "b", "c", "p", "q", "r")), rate_hz=50)
    assert np.allclose(span.motion.samples, samples[:, [1, 2, 0, 4, 5, 3]], atol=1e-5)
    (span,) = decode(path, Sidecar(axes=(1, 2, 0, 4, 5, 3)), rate_hz=50)
    assert np.allclose(span.motion.samples, samples[:, [1, 2, 0, 4, 5, 3]], atol=1e-5)
    with pytest.raises(MediaError, match="no column 'nope'"):
        decode(path, Sidecar(axes=("nope", "b", "c", "p", "q", "r")), rate_hz=50)


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("time_s", 1),
        ("t_ms", 1e3),
        ("timestamp_us", 1e6),
        ("time (ns)", 1e9),
        ("Timestamp", 1e3),
        ("t", 1),
        ("ts", 1e9),
    ],
)
def test_time_units_come_from_the_name_else_from_the_step(tmp_path: Path, name: str, scale: float) -> None:
    stamps = np.round(1.7e9 * scale * (scale > 1) + np.arange(200) / 50 * scale, 3)
    stamps = stamps.astype(np.int64) if scale > 1 else stamps
    (span,) = decode(write(tmp_path / "a.csv", table(motion(4), **cast(Any, {name: stamps}))))
    assert span.motion.sample_rate_hz == pytest.approx(50, rel=1e-3)


def test_dates_are_time_stamps(tmp_path: Path) -> None:
    stamps = np.datetime64("2024-01-01T10:00:00", "ms") + (np.arange(200) * 20).astype("timedelta64[ms]")
    for name in ("a.csv", "a.parquet"):
        (span,) = decode(write(tmp_path / name, table(motion(4), timestamp_ms=stamps)))
        assert span.motion.sample_rate_hz == pytest.approx(50)


def test_without_a_rate_the_file_fails_with_the_ways_out(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", motion(), rate_hz=None)
    with pytest.raises(MediaError, match=r"sample_rate_hz in the sidecar .*, a timestamp column, or --imu-rate HZ"):
        decode(path)
    assert decode(path, Sidecar(sample_rate_hz=100.0))[0].motion.sample_rate_hz == 100
    assert decode(path, rate_hz=25)[0].motion.sample_rate_hz == 25
    timed = write_csv(tmp_path / "b.csv", motion())
    for one, sidecar, options, notes in (
        (path, Sidecar(sample_rate_hz=100.0), DecodeOptions(), ()),
        (path, PLAIN, DecodeOptions(imu_rate_hz=25), ("rate from --imu-rate",)),
        (timed, PLAIN, DecodeOptions(), ("rate from 'time_s'",)),
    ):
        first, *others = read_imu(one, sidecar, options)
        assert first.reading.notes == notes
        assert first.reading.facts == {"rate_hz": pytest.approx(first.motion.sample_rate_hz)}
        assert all(span.reading == NO_READING for span in others)


def test_uneven_time_stamps_are_resampled(tmp_path: Path) -> None:
    times_s = np.sort(np.random.default_rng(0).uniform(0, 8, 800))
    samples = np.sin(times_s)[:, None] + np.array((0, 0, 9.8, 0, 0, 0))
    spans = decode(write(tmp_path / "a.csv", table(samples, time_s=times_s)))
    rate_hz = spans[0].motion.sample_rate_hz
    for span in spans:
        grid = times_s[0] + span.start_s + np.arange(len(span.motion.samples)) / rate_hz
        assert np.allclose(span.motion.samples[:, 0], np.sin(grid), atol=0.02)


def test_a_pause_is_not_bridged(tmp_path: Path) -> None:
    times_s = np.concatenate([np.arange(200), 10_000_000 + np.arange(300)]) / 50
    spans = decode(write(tmp_path / "a.csv", table(motion(10), time_s=times_s)))
    assert [(span.start_s, round(span.end_s - span.start_s, 2)) for span in spans] == [
        (0, 4),
        (200_000, 5),
        (200_005, 1),
    ]


@pytest.mark.parametrize(
    ("stamps", "reason"),
    [
        (np.arange(200)[::-1] / 50, "runs backwards in row 2"),
        (np.zeros(200), "does not advance"),
        (np.arange(200) * 1e6, "the rate of the time column is"),
        (np.where(np.arange(200) % 9 == 7, np.nan, np.arange(200) / 50), "no number in 22 of 200 rows, first in row 8"),
    ],
)
def test_time_stamps_that_make_no_sense_fail(tmp_path: Path, stamps: np.ndarray, reason: str) -> None:
    with pytest.raises(MediaError, match=reason):
        decode(write(tmp_path / "a.parquet", table(motion(4), time_s=stamps)))


def test_time_stamps_of_another_length_fail(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", imu=motion(4), time_s=np.arange(150) / 50)
    with pytest.raises(MediaError, match="time column 'time_s' has 150 rows, the axes 200"):
        decode(tmp_path / "a.npz")


def test_many_missing_values_fail_with_the_first_place(tmp_path: Path) -> None:
    samples = motion(4)
    samples[9:60, 2] = np.nan
    reason = "row 10 has no number in column 'acc_z': 51 of 200 rows lack numbers, which is too many to interpolate"
    with pytest.raises(MediaError, match=reason):
        decode(write(tmp_path / "a.parquet", table(samples)), rate_hz=50)


def test_a_span_gives_only_what_lies_inside(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", motion(20))
    spans = decode(path, span=Span(4, 11))
    assert [(span.start_s, span.end_s) for span in spans] == [(4, 9), (9, 11)]
    assert np.allclose(spans[0].motion.samples, motion(20)[200:450], atol=1e-5)
    with pytest.raises(MediaError, match="no samples between 30 s and 40 s"):
        decode(path, span=Span(30, 40))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,b,c\n1,2,3\n", "no accelerometer and gyroscope x, y, z among the columns a, b, c"),
        ("", "the file is empty"),
        ("\n\n", "the table is empty"),
        ("1,2,3\n4,5,6\n", "3 columns without names: expected 6"),
        ("ax,ay,az,gx,gy,gz\n", "0 rows"),
        ("ax,ay,az,gx,gy,gz\n1,2,3,4,5,6\n1,2\n", "the table has 1 rows"),
        ("ax,ay,az,gx,gy,gz\n1,2,3,4,5,6\n1,2,x,4,5,6\n", "no number in column 'az'"),
    ],
)
def test_tables_that_are_no_motion_fail(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(MediaError, match=reason):
        decode(tmp_path / "a.csv", rate_hz=50)


def test_pickles_and_bombs_in_npz_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", imu=np.array([{}], object), allow_pickle=True)
    with pytest.raises(MediaError, match="no accelerometer"):
        decode(tmp_path / "a.npz", rate_hz=50)
    np.savez_compressed(tmp_path / "b.npz", imu=np.zeros((100_000, 6)))
    with pytest.raises(MediaError, match=r"4800128 bytes: more than 1000 are not read \(--limit array=N\)"):
        list(read_imu(tmp_path / "b.npz", PLAIN, DecodeOptions(max_array_bytes=1000)))


def test_a_rate_of_no_sensor_fails(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"sidecar sample_rate_hz is 1000000000.0: expected 0.5 to 20000 Hz"):
        decode(write_csv(tmp_path / "a.csv", motion()), Sidecar(sample_rate_hz=1e9))
