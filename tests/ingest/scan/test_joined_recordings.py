"""Recordings with one sensor a file: one item in a folder and in a zip, read again when any of its files changes.

Layouts: the zip of Sensor Logger (github.com/tszheichoi/awesome-sensor-logger), the separate files of phyphox, WISDM
2019 (raw/phone/accel/data_1600_accel_phone.txt), the Inertial Signals of UCI HAR, the oxts folder of KITTI raw data.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import bindsearch as bs
from bindsearch.errors import MediaError
from bindsearch.ingest.inspect.classify import classify
from bindsearch.ingest.media.imu.layouts import lay_out
from bindsearch.ingest.media.imu.partners import recording_key, recording_of
from bindsearch.ingest.media.imu.recording import read_imu
from bindsearch.ingest.media.imu.tables import read_table
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.sidecar import Sidecar
from helpers.stores import connect

N, RATE_HZ = 400, 50.0
T = np.arange(N) / RATE_HZ
DOWN = np.tile([0.4, -1.3, 9.6], (N, 1))


def wave(seed: int, t: NDArray[np.float64] = T) -> NDArray[np.float64]:
    """Return a smooth motion (n, 3), the same at any rate."""
    phases = np.random.default_rng(seed).uniform(0, 6, 3)
    return np.sin(2 * np.pi * 0.7 * t[:, None] + phases)


USER, GYRO = wave(1), wave(2)
TRUTH = np.hstack([DOWN + USER, GYRO])


def sensor_csv(values: NDArray[np.float64], t: NDArray[np.float64] = T, axes: str = "zyx") -> str:
    """Return a file of Sensor Logger: time in ns, seconds_elapsed, and the axes in its order."""
    head = f"time,seconds_elapsed,{','.join(axes)}\n"
    order = ["xyz".index(axis) for axis in axes]
    rows = (
        f"{1_700_000_000_000_000_000 + round(s * 1e9)},{s:.6f},{','.join(f'{v:.7f}' for v in row)}\n"
        for s, row in zip(t.tolist(), values[:, order], strict=True)
    )
    return head + "".join(rows)


def sensor_logger(*, total: bool = True, gyro: NDArray[np.float64] = GYRO) -> dict[str, str]:
    """Return a recording: on Android with TotalAcceleration, on iOS without."""
    files = {
        "Accelerometer.csv": sensor_csv(USER),
        "Gravity.csv": sensor_csv(DOWN),
        "Gyroscope.csv": sensor_csv(gyro),
        "Metadata.csv": "version,device name\n3,Pixel 7\n",
    }
    return files | ({"TotalAcceleration.csv": sensor_csv(DOWN + USER)} if total else {})


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def write_zip(path: Path, files: dict[str, str]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def decode(path: Path) -> tuple[NDArray[np.float32], float]:
    spans = list(read_imu(path, Sidecar(), DecodeOptions()))
    return np.concatenate([span.motion.samples for span in spans]), spans[0].motion.sample_rate_hz


def notes(path: Path) -> str:
    return "; ".join(lay_out(read_table(path, DecodeOptions()), Sidecar())[0].notes)


@pytest.mark.parametrize(("total", "item"), [(True, "TotalAcceleration.csv"), (False, "Accelerometer.csv")])
def test_sensor_logger_on_android_and_ios(tmp_path: Path, total: bool, item: str) -> None:
    write(tmp_path, sensor_logger(total=total))

    verdicts = {path.name: classify(path, path.name, []) for path in sorted(tmp_path.iterdir())}
    samples, rate_hz = decode(tmp_path / item)

    assert [name for name, verdict in verdicts.items() if verdict.modality is not None] == [item]
    assert verdicts["Gyroscope.csv"].why == f"part of {item}"
    assert rate_hz == pytest.approx(RATE_HZ)
    np.testing.assert_allclose(samples, TRUTH, atol=1e-4)
    assert notes(tmp_path / item).startswith("layout: sensor-logger")
    assert ("gravity added from Gravity.csv" in notes(tmp_path / item)) is not total


def test_an_accelerometer_with_gravity_gets_none_again(tmp_path: Path) -> None:
    files = {"Accelerometer.csv": sensor_csv(DOWN + USER), "Gravity.csv": sensor_csv(DOWN)}
    write(tmp_path, files | {"Gyroscope.csv": sensor_csv(GYRO)})

    np.testing.assert_allclose(decode(tmp_path / "Accelerometer.csv")[0], TRUTH, atol=1e-4)


@pytest.mark.parametrize("decimal", [".", ","])
def test_separate_files_of_phyphox_at_different_rates(tmp_path: Path, decimal: str) -> None:
    fast = np.arange(0, 8, 1 / 200)
    for name, label, t, values in (
        ("Accelerometer", "Acceleration {} (m/s^2)", T, DOWN + USER),
        ("Gyroscope", "Gyroscope {} (rad/s)", fast, wave(2, fast)),
    ):
        head = ",".join(f'"{cell}"' for cell in ["Time (s)", *(label.format(axis) for axis in "xyz")])
        rows = "".join(",".join(f"{v:.9E}" for v in [s, *row]) + "\n" for s, row in zip(t, values, strict=True))
        content = f"{head}\n{rows}"
        if decimal == ",":
            content = content.replace(",", ";").replace(".", ",")
        (tmp_path / f"{name}.csv").write_text(content)

    samples, rate_hz = decode(tmp_path / "Accelerometer.csv")

    assert rate_hz == pytest.approx(200)
    inside = fast <= T[-1]
    truth = np.hstack([DOWN[:1] + wave(1, fast), wave(2, fast)])[inside]
    np.testing.assert_allclose(samples[: len(truth)], truth, atol=6e-3)
    assert "joined by time" in notes(tmp_path / "Accelerometer.csv")


def test_wisdm_has_its_sensors_in_two_folders(tmp_path: Path) -> None:
    for sensor, values in (("accel", DOWN + USER), ("gyro", GYRO)):
        rows = (
            f"1600,A,{252_207_666_810_782 + round(s * 1e9)},{','.join(f'{v:.7f}' for v in row)};\n"
            for s, row in zip(T, values, strict=True)
        )
        write(tmp_path, {f"raw/phone/{sensor}/data_1600_{sensor}_phone.txt": "".join(rows)})
    item = tmp_path / "raw/phone/accel/data_1600_accel_phone.txt"
    part = tmp_path / "raw/phone/gyro/data_1600_gyro_phone.txt"

    assert classify(part, "raw/phone/gyro/data_1600_gyro_phone.txt", []).why == "part of data_1600_accel_phone.txt"
    np.testing.assert_allclose(decode(item)[0], TRUTH, atol=1e-4)
    assert "layout: wisdm" in notes(item)


def test_uci_har_windows_are_joined_without_their_overlap(tmp_path: Path) -> None:
    starts = [0, 64, 128, 400, 464]
    long = np.arange(700) / RATE_HZ
    truth = np.hstack([wave(5, long) + 1, wave(6, long)])
    names = [f"{signal}_{axis}_train.txt" for signal in ("total_acc", "body_gyro") for axis in "xyz"]
    for i, name in enumerate(names):
        rows = ("".join(f"{v: .7e} " for v in truth[start : start + 128, i]) for start in starts)
        (tmp_path / name).write_text("\n".join(f" {row}" for row in rows) + "\n")
    item = tmp_path / "total_acc_x_train.txt"

    spans = list(read_imu(item, Sidecar(), DecodeOptions(imu_segment_s=60)))

    assert [len(span.motion.samples) for span in spans] == [256, 192]
    assert spans[0].motion.sample_rate_hz == pytest.approx(50)
    np.testing.assert_allclose(spans[0].motion.samples[:, 3:], truth[:256, 3:], atol=1e-5)
    np.testing.assert_allclose(spans[0].motion.samples[:, :3], truth[:256, :3] * 9.80665, atol=1e-4)
    np.testing.assert_allclose(spans[1].motion.samples[:, 3:], truth[400:592, 3:], atol=1e-4)
    assert classify(tmp_path / names[4], names[4], []).why == "part of total_acc_x_train.txt"
    (tmp_path / names[4]).unlink()
    verdict = classify(item, item.name, [])
    assert verdict.modality is None
    assert "one axis of UCI HAR" in verdict.why


def test_kitti_oxts_is_one_recording_of_its_drive(tmp_path: Path) -> None:
    folder = tmp_path / "2011_09_26_drive_0001_sync" / "oxts"
    for i in range(30):
        row = np.zeros(30)
        row[11:14], row[17:20] = TRUTH[i, :3], TRUTH[i, 3:]
        write(folder, {f"data/{i:010d}.txt": " ".join(f"{v:.7f}" for v in row) + "\n"})
    write(folder, {"timestamps.txt": "".join(f"2011-09-26 13:02:{25 + i / 10:.9f}\n" for i in range(30))})
    item = folder / "data/0000000000.txt"

    samples, rate_hz = decode(item)

    assert rate_hz == pytest.approx(10)
    np.testing.assert_allclose(samples, TRUTH[:30], atol=1e-4)
    assert classify(folder / "data/0000000007.txt", "oxts/data/0000000007.txt", []).why == "part of 0000000000.txt"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("Accelerometer.csv", "only an accelerometer"), ("Gyroscope.csv", "only a gyroscope")],
)
def test_a_sensor_alone_is_left_out_with_a_reason(tmp_path: Path, name: str, reason: str) -> None:
    write(tmp_path, {name: sensor_csv(USER)})

    assert classify(tmp_path / name, name, []).why.startswith(f"{reason}: BindSearch needs")
    with pytest.raises(MediaError, match=f"{reason}: BindSearch needs"):
        decode(tmp_path / name)


def test_files_without_common_time_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {"acc.csv": sensor_csv(DOWN), "gyro.csv": sensor_csv(GYRO, T + 1000)})

    with pytest.raises(MediaError, match=r"acc\.csv and gyro\.csv have no time in common: 0 to 7\.98 s and 1000 to"):
        decode(tmp_path / "acc.csv")


@pytest.mark.parametrize(
    ("item", "parts"),
    [
        ("Accelerometer.csv", ["Gyroscope.csv"]),
        ("a/walk_acc_1.txt", ["a/walk_gyr_1.txt"]),
        ("TotalAcceleration.csv", ["Accelerometer.csv", "Gyroscope.csv", "Gravity.csv"]),
        ("LinearAcceleration.csv", ["Gravity.csv", "Gyroscope.csv"]),
        ("Accelerometer.csv", ["Gyroscope.csv", "LinearAcceleration.csv"]),
        ("ACC.csv", ["GYRO.csv"]),
        ("x/accel/data_1_accel_watch.txt", ["x/gyro/data_1_gyro_watch.txt"]),
        ("userAcceleration.csv", ["gravity.csv", "rotationRate.csv"]),
    ],
)
def test_every_file_of_a_recording_finds_the_same_item(item: str, parts: list[str]) -> None:
    files = {item, *parts}

    recordings = [recording_of(file, files.__contains__) for file in sorted(files)]

    assert {recording.main for recording in recordings if recording} == {item}
    assert all(recording and set(recording.parts.values()) == set(parts) for recording in recordings)
    assert len({recording_key(file) for file in files}) == 1


@pytest.mark.parametrize("name", ["access.csv", "Account.csv", "gyroid.csv", "notes.txt", "acc.npy", "accel.parquet"])
def test_other_names_are_no_recording(name: str) -> None:
    assert recording_of(name, lambda _: True) is None


@pytest.fixture
def store(tmp_path: Path) -> Iterator[bs.Store]:
    with connect(tmp_path / "store", encoder="null") as opened:
        yield opened


def paths(store: bs.Store) -> set[str]:
    return set(store._reader.current().snapshot.live_tables()[0].column("rel_path").to_pylist())


def touch(path: Path, content: str) -> None:
    path.write_text(content)
    later = path.stat().st_mtime_ns + 2_000_000_000
    os.utime(path, ns=(later, later))


def test_a_changed_part_in_a_folder_is_read_again(tmp_path: Path, store: bs.Store) -> None:
    media = write(tmp_path / "media", sensor_logger())

    first = store.index(media)
    again = store.index(media)
    touch(media / "Gyroscope.csv", sensor_csv(3 * GYRO))
    changed = store.index(media)

    assert (first.added, first.failed) == (1, 0)
    assert first.skipped["part of TotalAcceleration.csv"] == 3
    assert (again.unchanged, again.changed) == (1, 0)
    assert (changed.changed, changed.unchanged) == (1, 0)
    assert paths(store) == {"TotalAcceleration.csv"}


def test_the_item_moves_when_a_better_accelerometer_appears(tmp_path: Path, store: bs.Store) -> None:
    media = write(tmp_path / "media", sensor_logger(total=False))
    store.index(media)
    assert paths(store) == {"Accelerometer.csv"}

    write(media, {"TotalAcceleration.csv": sensor_csv(DOWN + USER)})
    store.index(media)
    assert paths(store) == {"TotalAcceleration.csv"}

    (media / "Gyroscope.csv").unlink()
    report = store.index(media)
    assert any(reason.startswith("only an accelerometer") for reason in report.skipped)
    assert paths(store) == set()


def test_a_zip_of_sensor_logger_is_one_recording(tmp_path: Path, store: bs.Store) -> None:
    media = tmp_path / "media"
    media.mkdir()
    write_zip(media / "walk.zip", sensor_logger())

    first = store.index(media)
    write_zip(media / "walk.zip", sensor_logger(gyro=3 * GYRO))
    later = (media / "walk.zip").stat().st_mtime_ns + 2_000_000_000
    os.utime(media / "walk.zip", ns=(later, later))
    changed = store.index(media)

    assert (first.added, first.failed, first.skipped["part of TotalAcceleration.csv"]) == (1, 0, 3)
    assert (changed.changed, changed.added, changed.failed) == (1, 0, 0)
    assert paths(store) == {"walk.zip/TotalAcceleration.csv"}
    assert not [*(tmp_path / "store").rglob("*.parts")]


def test_a_zip_of_many_recordings_has_one_item_each(tmp_path: Path, store: bs.Store) -> None:
    media = tmp_path / "media"
    media.mkdir()
    files = {f"walk{i}/{name}": content for i in range(3) for name, content in sensor_logger(gyro=i * GYRO).items()}
    wisdm = {
        f"raw/{s}/data_1_{s}_phone.txt": f"1,A,0,1,2,{k};\n1,A,20000000,2,3,4;\n1,A,40000000,2,3,4;\n"
        for k, s in enumerate(("accel", "gyro"))
    }
    write_zip(media / "all.zip", files | wisdm)

    report = store.index(media)

    assert report.failed == 0
    assert paths(store) == {
        *(f"all.zip/walk{i}/TotalAcceleration.csv" for i in range(3)),
        "all.zip/raw/accel/data_1_accel_phone.txt",
    }
