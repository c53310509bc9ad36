"""Recordings of iPhones: Core Motion's signs are the opposite of Android's; what the files tell decides, else a note.

Sensor Logger's Metadata.csv (platform, standardisation), Orientation.csv and TotalAcceleration.csv, by UNITS.md and
CROSSPLATFORM.md of github.com/tszheichoi/awesome-sensor-logger; roll and pitch of Core Motion's `CMAttitude` in
MotionSense and SensorLog. True signs are those of a phone that Android's axes describe: +9.8 along what points up.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bindsearch.ingest.media.imu.frames import frame_by_attitude
from bindsearch.ingest.media.imu.layouts import SIGNS_UNKNOWN
from bindsearch.ingest.media.imu.recording import read_recording
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.sidecar import Sidecar
from helpers.stores import connect

N, RATE_HZ, G = 400, 50.0, 9.80665
NEGATED = "the accelerometer is negated"

Table = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Walk:
    """A walk with a phone: acceleration (n, 3) and its gravity, rotation, Core Motion's roll and pitch."""

    user: NDArray[np.float64]
    gravity: NDArray[np.float64]
    gyro: NDArray[np.float64]
    roll: NDArray[np.float64]
    pitch: NDArray[np.float64]

    @property
    def samples(self) -> NDArray[np.float64]:
        return np.hstack([self.user + self.gravity, self.gyro])


def walk(roll: float = 0.5, pitch: float = 0.9, seed: int = 0, strength: float = 1.5) -> Walk:
    """Return someone walking with a phone that swings by 0.2 rad about a roll and a pitch."""
    rng = np.random.default_rng(seed)
    phase = 2 * np.pi * 1.8 * np.arange(N) / RATE_HZ
    rolls, pitches = roll + 0.2 * np.sin(phase), pitch + 0.2 * np.cos(phase)
    core = [np.cos(pitches) * np.sin(rolls), -np.sin(pitches), -np.cos(pitches) * np.cos(rolls)]
    user = strength * np.sin(phase[:, None] * (1, 2, 1)) + rng.normal(0, 0.2, (N, 3))
    return Walk(user, -G * np.column_stack(core), rng.normal(0, 0.7, (N, 3)), rolls, pitches)


def xyz(pattern: str, values: NDArray[np.float64], axes: str = "xyz") -> dict[str, NDArray[np.float64]]:
    return {pattern.format(axis): values[:, i] for i, axis in enumerate(axes)}


def write(path: Path, columns: Table) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    path.write_text(",".join(columns) + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    return path


def motionsense(one: Walk, sign: float) -> Table:
    return {
        "": np.arange(N),
        "attitude.roll": one.roll,
        "attitude.pitch": one.pitch,
        "attitude.yaw": np.zeros(N),
        **xyz("gravity.{}", sign * one.gravity / G),
        **xyz("rotationRate.{}", one.gyro),
        **xyz("userAcceleration.{}", sign * one.user / G),
    }


def sensorlog(one: Walk, sign: float) -> Table:
    return {
        "accelerometerTimestamp_sinceReboot(s)": 5_000 + np.arange(N) / RATE_HZ,
        **xyz("accelerometerAcceleration{}(G)", sign * one.samples[:, :3] / G, "XYZ"),
        **xyz("gyroRotation{}(rad/s)", one.gyro, "XYZ"),
        "motionYaw(rad)": np.zeros(N),
        "motionRoll(rad)": one.roll,
        "motionPitch(rad)": one.pitch,
    }


def wrist_motion(one: Walk, sign: float) -> Table:
    return {
        **times(),
        **xyz("rotationRate{}", one.gyro, "XYZ"),
        **xyz("gravity{}", sign * one.gravity / G, "XYZ"),
        **xyz("acceleration{}", sign * one.user / G, "XYZ"),
        "pitch": one.pitch,
        "roll": one.roll,
        "yaw": np.zeros(N),
    }


def times(offset_ns: int = 0) -> dict[str, NDArray[np.generic]]:
    seconds = np.arange(N) / RATE_HZ
    stamps = 1_700_000_000_000_000_000 + offset_ns + np.round(seconds * 1e9).astype(np.int64)
    return {"time": stamps, "seconds_elapsed": seconds + offset_ns / 1e9}


def sensor_logger(folder: Path, one: Walk, sign: float) -> Path:
    """Write a folder of Sensor Logger, as on iOS without TotalAcceleration.csv."""
    write(folder / "Gravity.csv", times() | xyz("{}", sign * one.gravity))
    write(folder / "Gyroscope.csv", times() | xyz("{}", one.gyro))
    return write(folder / "Accelerometer.csv", times() | xyz("{}", sign * one.user))


def metadata(folder: Path, platform: str, standardisation: str) -> None:
    (folder / "Metadata.csv").write_text(
        "version,device name,recording epoch time,recording time,recording timezone,platform,appVersion,device id,"
        "sensors,sampleRateMs,standardisation,platform version\n"
        f'3,"Phone, mine",1700000000000,2023-11-14_22-13-20,Europe/Berlin,{platform},1.30,1,'
        f"Accelerometer|Gravity|Gyroscope,20|20|20,{standardisation},17\n"
    )


def orientation(folder: Path, one: Walk) -> None:
    write(folder / "Orientation.csv", {**times(3_000_000), "pitch": one.pitch, "roll": one.roll, "yaw": one.roll * 0})


def read(path: Path, frame: str | None = None) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    recording = read_recording(path, Sidecar(frame=frame), DecodeOptions())
    return np.concatenate([run.samples for run in recording.runs]), recording.reading.notes


@pytest.mark.parametrize("form", [motionsense, sensorlog, wrist_motion])
def test_roll_and_pitch_in_the_table_tell_the_signs(form, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    one = walk()
    ios, notes = read(write(tmp_path / "a.csv", form(one, -1.0)))
    np.testing.assert_allclose(ios, one.samples, atol=2e-5)
    assert any(note == "frame: ios, by roll and pitch: " + NEGATED for note in notes)
    android, notes = read(write(tmp_path / "b.csv", form(one, 1.0)))
    np.testing.assert_allclose(android, one.samples, atol=2e-5)
    assert not [note for note in notes if "frame" in note or note == SIGNS_UNKNOWN]


def test_a_row_of_an_iphone_fits() -> None:
    """The kind of numbers that MotionSense has: a phone in a pocket, gravity as Core Motion reports it."""
    roll, pitch = np.full(50, 1.528), np.full(50, -0.734)
    gravity = np.tile([0.7419, 0.6698, -0.0317], (50, 1))
    assert frame_by_attitude(gravity, roll, pitch) == "ios"
    assert frame_by_attitude(-gravity, roll, -pitch) == "android"


@settings(max_examples=60, deadline=None)
@given(
    roll=st.floats(-3, 3),
    pitch=st.floats(-1.2, 1.2),
    seed=st.integers(0, 99),
    strength=st.floats(0, 4),
    sign=st.sampled_from([1.0, -1.0]),
)
def test_a_decision_is_never_wrong(roll: float, pitch: float, seed: int, strength: float, sign: float) -> None:
    one = walk(roll, pitch, seed, strength)
    found = frame_by_attitude(sign * one.samples[:, :3], one.roll, one.pitch)
    assert found in (None, "android" if sign > 0 else "ios")
    if strength < 1.5:
        assert found is not None


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), scale=st.sampled_from([0.0, 57.3]))
def test_angles_that_do_not_fit_decide_nothing(seed: int, scale: float) -> None:
    """Zeros, as converters write them, and degrees."""
    one = walk(*np.random.default_rng(seed).uniform((0.9, 0.5), (2.2, 1.2)))
    assert frame_by_attitude(one.samples[:, :3], scale * one.roll, scale * one.pitch) is None


def test_upright_phones_and_missing_angles_decide_nothing() -> None:
    one = walk(pitch=np.pi / 2, strength=0)
    assert frame_by_attitude(one.samples[:, :3], one.roll, np.full(N, np.pi / 2)) is None
    assert frame_by_attitude(one.samples[:, :3], one.roll * np.nan, one.pitch) is None
    assert frame_by_attitude(np.zeros((N, 3)), one.roll, one.pitch) is None


@pytest.mark.parametrize(
    ("platform", "standardisation", "sign", "is_noted"),
    [("ios", "false", -1.0, True), ("ios", "true", 1.0, False), ("android", "false", 1.0, False)],
)
def test_metadata_of_sensor_logger_tell_the_signs(
    platform: str, standardisation: str, sign: float, is_noted: bool, tmp_path: Path
) -> None:
    one = walk()
    path = sensor_logger(tmp_path, one, sign)
    metadata(tmp_path, platform, standardisation)
    samples, notes = read(path)
    np.testing.assert_allclose(samples, one.samples, atol=2e-5)
    assert (f"frame: ios, by Metadata.csv: {NEGATED}" in notes) is is_noted
    assert SIGNS_UNKNOWN not in notes


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_orientation_of_sensor_logger_tells_the_signs(sign: float, tmp_path: Path) -> None:
    one = walk()
    path = sensor_logger(tmp_path, one, sign)
    orientation(tmp_path, one)
    samples, notes = read(path)
    np.testing.assert_allclose(samples, one.samples, atol=2e-5)
    assert any(NEGATED in note for note in notes) is (sign < 0)


@pytest.mark.parametrize("text", ["", "version\n3\n", "platform,standardisation\nweb,false\n", "\0\xff,\n\n"])
def test_metadata_that_tell_nothing_leave_a_note(text: str, tmp_path: Path) -> None:
    path = sensor_logger(tmp_path, walk(), 1.0)
    (tmp_path / "Metadata.csv").write_text(text, encoding="latin-1")
    write(tmp_path / "Orientation.csv", {"time": np.zeros(2), "qx": np.zeros(2)})
    samples, notes = read(path)
    np.testing.assert_allclose(samples, walk().samples, atol=2e-5)
    assert SIGNS_UNKNOWN in notes


def test_a_frame_that_is_said_counts(tmp_path: Path) -> None:
    one = walk()
    path = sensor_logger(tmp_path, one, -1.0)
    for frame in ("ios", "android"):
        samples, notes = read(path, frame)
        np.testing.assert_allclose(samples[:, :3], one.samples[:, :3] * (1 if frame == "ios" else -1), atol=2e-5)
        assert not [note for note in notes if "frame" in note]


def test_said_axes_with_signs_have_no_other_frame(tmp_path: Path) -> None:
    one = walk()
    path = write(tmp_path / "a.csv", sensorlog(one, -1.0))
    names = [f"-accelerometerAcceleration{axis}(G)" for axis in "XYZ"] + [f"gyroRotation{a}(rad/s)" for a in "XYZ"]
    recording = read_recording(path, Sidecar(axes=tuple(names)), DecodeOptions())
    np.testing.assert_allclose(recording.runs[0].samples, one.samples, atol=2e-5)
    assert SIGNS_UNKNOWN not in recording.reading.notes
    plain = Sidecar(axes=tuple(name.removeprefix("-") for name in names))
    assert SIGNS_UNKNOWN in read_recording(path, plain, DecodeOptions()).reading.notes


def test_total_acceleration_is_androids(tmp_path: Path) -> None:
    one = walk()
    sensor_logger(tmp_path, one, 1.0)
    metadata(tmp_path, "ios", "false")
    path = write(tmp_path / "TotalAcceleration.csv", times() | xyz("{}", one.samples[:, :3]))
    samples, notes = read(path)
    np.testing.assert_allclose(samples, one.samples, atol=2e-5)
    assert not [note for note in notes if "frame" in note]


def test_a_zip_is_read_as_its_folder(tmp_path: Path) -> None:
    sensor_logger(tmp_path / "walk", walk(), -1.0)
    metadata(tmp_path / "walk", "ios", "false")
    collection = tmp_path / "media"
    collection.mkdir()
    with zipfile.ZipFile(collection / "walk.zip", "w") as archive:
        for file in sorted((tmp_path / "walk").iterdir()):
            archive.write(file, file.name)
    with connect(tmp_path / "store", encoder="null") as store:
        report = store.index(collection)
    assert report.added == 1
    assert any(NEGATED in str(note) for note in report.notes)
