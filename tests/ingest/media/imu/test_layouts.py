"""Layouts of apps, loggers and data sets: a file written exactly so is read as the motion that is in it.

The headers are those of the sources that `presets.PRESETS` names per layout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.inspect.classify import classify
from bindsearch.ingest.media.imu.layouts import lay_out
from bindsearch.ingest.media.imu.presets import PRESETS
from bindsearch.ingest.media.imu.recording import read_imu
from bindsearch.ingest.media.imu.tables import read_table
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.types import Modality

N, RATE_HZ, G = 200, 50.0, 9.80665
RANDOM = np.random.default_rng(15)
T = np.arange(N) / RATE_HZ
GRAVITY = np.tile([0.3, -1.2, 9.7], (N, 1))
USER = RANDOM.normal(0, 0.8, (N, 3))
ACC = GRAVITY + USER
GYRO = RANDOM.normal(0, 0.7, (N, 3))
TRUTH = np.hstack([ACC, GYRO])
DEG = np.rad2deg(GYRO)
PRESET_NAMES = sorted({preset.name for preset in PRESETS})

Columns = Mapping[str, Any]


def xyz(pattern: str, values: NDArray[np.float64], axes: str = "xyz") -> dict[str, NDArray[np.float64]]:
    """Return three columns, named by a pattern with {}."""
    return {pattern.format(axis): values[:, i] for i, axis in enumerate(axes)}


def lines(columns: Columns, delimiter: str = ",", *, header: bool = True, end: str = "") -> str:
    """Return a table as text."""
    cells = [[f"{v:.7f}" if isinstance(v, float) else str(v) for v in np.asarray(c).tolist()] for c in columns.values()]
    rows = [delimiter.join(row) + end for row in zip(*cells, strict=True)]
    return "\n".join([*([delimiter.join(columns)] if header else []), *rows]) + "\n"


def nanoseconds() -> NDArray[np.int64]:
    return 1_700_000_000_000_000_000 + np.round(T * 1e9).astype(np.int64)


def dates(form: str = "%Y-%m-%dT%H:%M:%S", digits: int = 3, mark: str = ".") -> list[str]:
    moments = np.datetime64("2023-11-14T22:13:20", "ns") + np.round(T * 1e9).astype("timedelta64[ns]")
    return [
        m.astype("datetime64[s]").item().strftime(form) + mark + f"{m.astype(np.int64) % 10**9:09d}"[:digits]
        for m in moments
    ]


def phyphox() -> str:
    table = {"Time (s)": T, **xyz("Acceleration {} (m/s^2)", ACC), **xyz("Gyroscope {} (rad/s)", GYRO)}
    head = ",".join(f'"{name}"' for name in table)
    return head + "\n" + lines(table, header=False)


def phyphox_german() -> str:
    return phyphox().replace(",", ";").replace(".", ",")


def actigraph() -> str:
    preamble = (
        "------------ Data File Created By ActiGraph GT9X ActiLife v6.13.4 Firmware v1.7.2 date format M/d/yyyy at "
        "50 Hz  Filter Normal -----------\nSerial Number: TAS1\nStart Time 22:13:20\nStart Date 11/14/2023\n"
        "Epoch Period (hh:mm:ss) 00:00:00\nDownload Time 10:28:51\nDownload Date 11/15/2023\n"
        "Current Memory Address: 0\nCurrent Battery Voltage: 3.97     Mode = 12\n"
        "--------------------------------------------------\n"
    )
    stamps = dates("%m/%d/%Y %H:%M:%S", 7)
    columns = {"Timestamp": stamps, **xyz("Accelerometer {}", ACC / G, "XYZ"), "Temperature": np.full(N, 25.1)}
    return preamble + lines({**columns, **xyz("Gyroscope {}", DEG, "XYZ")})


def actigraph_without_time() -> str:
    preamble = "------------ Data File Created By ActiGraph GT9X ActiLife v6.13.4 at 50 Hz  Filter Normal -----------\n"
    return preamble + lines({**xyz("Accelerometer {}", ACC / G, "XYZ"), **xyz("Gyroscope {}", DEG, "XYZ")})


def movella_dot() -> str:
    ticks = {"PacketCounter": np.arange(N), "SampleTimeFine": 192_856_375 + np.arange(N) * 20_000}
    preamble = "DeviceTag:,D1\nFirmwareVersion:,2.0.0\nOutputRate:,50Hz\n\n"
    return preamble + lines({**ticks, **xyz("Acc_{}", ACC, "XYZ"), **xyz("Gyr_{}", DEG, "XYZ")})


def xsens_mt() -> str:
    ticks = {"PacketCounter": np.arange(N), "SampleTimeFine": 5_000 + np.arange(N) * 200}
    preamble = (
        "// Start Time: Unknown\n// Update Rate: 50.0Hz\n// Filter Profile: human (46.1)\n// Firmware Version: 4.6\n"
    )
    return preamble + lines({**ticks, **xyz("Acc_{}", ACC, "XYZ"), **xyz("Gyr_{}", GYRO, "XYZ")}, "\t")


def shimmer() -> str:
    columns = {
        "Shimmer_8665_Timestamp_Unix_CAL": 1_700_000_000_000 + T * 1e3,
        **xyz("Shimmer_8665_Accel_LN_{}_CAL", ACC, "XYZ"),
        **xyz("Shimmer_8665_Gyro_{}_CAL", DEG, "XYZ"),
        "Shimmer_8665_Battery_CAL": np.full(N, 4100.0),
    }
    units = "\t".join(["ms", *["m/(s^2)"] * 3, *["deg/s"] * 3, "mV"])
    names, _, rows = lines(columns, "\t", end="\t").partition("\n")
    return f'"sep=\t"\n{names}\t\n{units}\t\n{rows}'


def openlog() -> str:
    columns = {
        "rtcDate": ["11/14/2023"] * N,
        "rtcTime": dates("%H:%M:%S", 2),
        **xyz("a{}", ACC / G * 1000, "XYZ"),
        **xyz("g{}", DEG, "XYZ"),
        **xyz("m{}", ACC, "XYZ"),
        "imu_degC": np.full(N, 25.1),
        "output_Hz": np.full(N, 50.0),
    }
    names, _, rows = lines(columns, end=",").partition("\n")
    return f"{names},\n{rows}"


def rostopic() -> str:
    covariance = {f"field.orientation_covariance{i}": np.zeros(N) for i in range(9)}
    return lines(
        {
            "%time": nanoseconds(),
            "field.header.seq": np.arange(N),
            "field.header.stamp": nanoseconds(),
            "field.header.frame_id": ["imu"] * N,
            **covariance,
            **xyz("field.angular_velocity.{}", GYRO),
            **xyz("field.linear_acceleration.{}", ACC),
        }
    )


def bagpy() -> str:
    return lines(
        {
            "Time": 1_700_000_000 + T,
            "header.seq": np.arange(N),
            "header.stamp.secs": np.full(N, 1_700_000_000),
            **xyz("angular_velocity.{}", GYRO),
            **xyz("linear_acceleration.{}", ACC),
        }
    )


def gcsv() -> str:
    scales = "tscale,0.001\ngscale,0.0005\nascale,0.0001\n"
    raw = {"t": np.arange(N) * 20, **xyz("g{}", np.round(GYRO / 0.0005)), **xyz("a{}", np.round(ACC / G / 0.0001))}
    head = "GYROFLOW IMU LOG\nversion,1.3\nid,custom_logger\norientation,XYZ\nvendor,potatocam\n"
    return head + scales + lines(raw)


def pamap2() -> str:
    other = np.zeros((N, 54))
    other[:, 0], other[:, 1], other[:, 2] = 8.38 + T, 4, np.nan
    other[:, 4:7], other[:, 7:10], other[:, 10:13] = ACC, ACC * 0.99, GYRO
    return lines({str(i): column for i, column in enumerate(other.T)}, " ", header=False)


def sensorlog(delimiter: str = ",") -> str:
    return lines(
        {
            "loggingTime(txt)": [f"{stamp}+01:00" for stamp in dates()],
            "loggingSample(N)": np.arange(N),
            "accelerometerTimestamp_sinceReboot(s)": 1000 + T,
            **xyz("accelerometerAcceleration{}(G)", ACC / G, "XYZ"),
            **xyz("gyroRotation{}(rad/s)", GYRO, "XYZ"),
        },
        delimiter,
    )


def androsensor() -> str:
    return lines(
        {
            **xyz("ACCELEROMETER {} (m/s²)", ACC, "XYZ"),
            **xyz("GRAVITY {} (m/s²)", GRAVITY, "XYZ"),
            **xyz("LINEAR ACCELERATION {} (m/s²)", USER, "XYZ"),
            **xyz("GYROSCOPE {} (rad/s)", GYRO, "XYZ"),
            "Time since start in ms ": np.round(T * 1e3).astype(np.int64),
            "YYYY-MO-DD HH-MI-SS_SSS": dates("%Y-%m-%d %H:%M:%S", 3, ":"),
        },
        ";",
    )


FILES: dict[str, tuple[str, str, Callable[[], str]]] = {
    "phyphox": ("Raw Data.csv", "phyphox", phyphox),
    "phyphox, decimal commas": ("Raw Data.csv", "phyphox", phyphox_german),
    "sensorlog": ("log.csv", "sensorlog", sensorlog),
    "sensorlog, pipes": ("log.csv", "sensorlog", lambda: sensorlog("|")),
    "sensorlog, motion": (
        "log.csv",
        "sensorlog",
        lambda: lines(
            {
                "loggingTime(txt)": dates(),
                **xyz("motionUserAcceleration{}(G)", USER / G, "XYZ"),
                **xyz("motionGravity{}(G)", GRAVITY / G, "XYZ"),
                **xyz("motionRotationRate{}(rad/s)", GYRO, "XYZ"),
            }
        ),
    ),
    "androsensor": ("Sensor_record.csv", "androsensor", androsensor),
    "physics toolbox": (
        "walk.csv",
        "physics-toolbox",
        lambda: lines({"time": T, **xyz("gF{}", ACC / G), **xyz("a{}", USER), **xyz("w{}", GYRO)}),
    ),
    "physics toolbox, time of day": (
        "walk.csv",
        "physics-toolbox",
        lambda: lines({"time": dates("%H:%M:%S", 3, ":"), **xyz("gF{}", ACC / G), **xyz("w{}", GYRO)}),
    ),
    "motionsense": (
        "sub_1.csv",
        "motionsense",
        lambda: lines(
            {
                "": np.arange(N),
                "attitude.roll": np.zeros(N),
                **xyz("gravity.{}", GRAVITY / G),
                **xyz("rotationRate.{}", GYRO),
                **xyz("userAcceleration.{}", USER / G),
            }
        ),
    ),
    "ego4d": (
        "0ce20f1b-104c-48aa-a957-75f772238639.csv",
        "ego4d",
        lambda: lines(
            {
                "component_idx": np.zeros(N, np.int64),
                "component_timestamp_ms": T * 1e3,
                "canonical_timestamp_ms": T * 1e3,
                **xyz("gyro_{}", GYRO),
                **xyz("accl_{}", ACC),
            }
        ),
    ),
    "euroc": (
        "data.csv",
        "euroc",
        lambda: lines(
            {
                "#timestamp [ns]": nanoseconds(),
                **xyz("w_RS_S_{} [rad s^-1]", GYRO),
                **xyz("a_RS_S_{} [m s^-2]", ACC),
            }
        ),
    ),
    "actigraph": ("TAS1.csv", "actigraph", actigraph),
    "actigraph without time": ("TAS1.csv", "actigraph", actigraph_without_time),
    "movella dot": ("D1_20231114.csv", "movella-dot", movella_dot),
    "xsens mt": ("MT_012005D6-000.txt", "xsens-mt", xsens_mt),
    "shimmer": ("Session1.csv", "shimmer", shimmer),
    "openlog artemis": ("dataLog00001.TXT", "openlog-artemis", openlog),
    "rostopic": ("imu_data.csv", "rostopic", rostopic),
    "bagpy": ("imu-data.csv", "bagpy", bagpy),
    "gcsv": ("clip.gcsv", "gcsv", gcsv),
    "pamap2": ("subject101.dat", "pamap2", pamap2),
}


def decode(
    path: Path, sidecar: Sidecar | None = None, imu_rate_hz: float | None = None
) -> tuple[NDArray[np.float32], float]:
    spans = list(read_imu(path, sidecar or Sidecar(), DecodeOptions(imu_rate_hz=imu_rate_hz)))
    return np.concatenate([span.motion.samples for span in spans]), spans[0].motion.sample_rate_hz


@pytest.mark.parametrize("case", FILES)
def test_a_layout_is_recognised_and_read(tmp_path: Path, case: str) -> None:
    name, layout, write = FILES[case]
    path = tmp_path / name
    path.write_text(write())

    verdict = classify(path, name, [])
    samples, rate_hz = decode(path)

    assert verdict.modality is Modality.IMU
    assert layout in verdict.why
    assert rate_hz == pytest.approx(RATE_HZ, rel=1e-3)
    np.testing.assert_allclose(samples, TRUTH, atol=6e-3 if case == "gcsv" else 1e-3)
    table, _ = lay_out(read_table(path, DecodeOptions()), Sidecar())
    assert table.notes[0] == f"layout: {layout}"


def test_every_preset_has_a_file_here() -> None:
    assert {layout for _, layout, _ in FILES.values()} | {"sensor-logger", "arduino"} == set(PRESET_NAMES)


def test_arduino_needs_a_rate(tmp_path: Path) -> None:
    path = tmp_path / "punch.csv"
    path.write_text(lines({**xyz("a{}", ACC, "XYZ"), **xyz("g{}", GYRO, "XYZ")}))

    samples, rate_hz = decode(path, imu_rate_hz=119.0)

    assert (len(samples), rate_hz) == (N, 119.0)
    assert "119 Hz" in " ".join(lay_out(read_table(path, DecodeOptions()), Sidecar())[0].notes)
    with pytest.raises(MediaError, match="sample rate is unknown"):
        decode(path)


def test_wrist_motion_of_sensor_logger_adds_gravity(tmp_path: Path) -> None:
    path = tmp_path / "WristMotion.csv"
    path.write_text(
        lines(
            {
                "time": nanoseconds(),
                "seconds_elapsed": T,
                **xyz("rotationRate{}", GYRO, "XYZ"),
                **xyz("gravity{}", GRAVITY / G, "XYZ"),
                **xyz("acceleration{}", USER / G, "XYZ"),
            }
        )
    )

    samples, rate_hz = decode(path, Sidecar(units={"accelerometer": "g"}))

    assert rate_hz == pytest.approx(RATE_HZ)
    np.testing.assert_allclose(samples, TRUTH, atol=1e-3)


def test_a_sidecar_chooses_a_layout_that_is_not_certain_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(lines({"ms": T, **xyz("gF{}", ACC / G), **xyz("w{}", GYRO)}))

    samples, _ = decode(path, Sidecar(layout="physics-toolbox", sample_rate_hz=50.0))

    np.testing.assert_allclose(samples, TRUTH, atol=1e-3)


def test_a_sidecar_overrides_facts_of_the_layout(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(sensorlog())

    samples, _ = decode(path, Sidecar(units={"accelerometer": "m/s^2"}))

    np.testing.assert_allclose(samples[:, :3], ACC / G, atol=1e-3)
    np.testing.assert_allclose(samples[:, 3:], GYRO, atol=1e-3)


@pytest.mark.parametrize(
    ("layout", "reason"),
    [
        ("phyfox", "sidecar layout 'phyfox': expected one of actigraph, .*phyphox.*xsens-mt"),
        ("euroc", "sidecar layout 'euroc': its columns are not among"),
        ("uci-har", "sidecar layout 'uci-har': the other files of the recording are not beside this one"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused(tmp_path: Path, layout: str, reason: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text(sensorlog())

    with pytest.raises(MediaError, match=reason):
        decode(path, Sidecar(layout=layout))


def test_equal_names_are_refused_unless_axes_are_positions(tmp_path: Path) -> None:
    path = tmp_path / "two.csv"
    one = lines({"t": T, **xyz("acc_{}", ACC), **xyz("gyro_{}", GYRO)}).splitlines()
    path.write_text("\n".join(f"{row},{row}" for row in one))

    with pytest.raises(MediaError, match=r"several columns are named 'acc_x': list the positions"):
        decode(path)
    samples, _ = decode(path, Sidecar(axes=(8, 9, 10, 11, 12, 13), sample_rate_hz=50.0))
    np.testing.assert_allclose(samples, TRUTH, atol=1e-3)
