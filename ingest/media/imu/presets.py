"""Layouts of motion tables as data, with the source of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np

from bindsearch.errors import MediaError
from bindsearch.ingest.media.imu.table import SI, Table

_SI_DEG = MappingProxyType({"accelerometer": "m/s^2", "gyroscope": "deg/s"})
_G_RAD = MappingProxyType({"accelerometer": "g", "gyroscope": "rad/s"})
_G_DEG = MappingProxyType({"accelerometer": "g", "gyroscope": "deg/s"})


@dataclass(frozen=True, slots=True)
class Preset:
    """A layout of one table. Patterns are regular expressions for whole names, without case; "{}" is x, y and z."""

    name: str
    source: str  # where it is described
    accelerometer: tuple[tuple[str, ...], ...]  # alternatives: one triple, or several to be added; the first counts
    gyroscope: tuple[str, ...]  # alternatives
    needs: tuple[str, ...] = ()  # patterns that must each match a column
    units: Mapping[str, str] = field(default_factory=dict)
    time: tuple[tuple[str, float | None], ...] = ()  # alternatives: pattern, seconds per step (None: by name or values)
    rate_hz: float | None = None  # without a time column
    rate_pattern: str = ""  # regular expression for the rate in the lines before the header
    marks: str = ""  # regular expression for a line before the header, without which the layout is not recognised
    width: int | None = None  # number of columns that the table must have; None: any
    check: Callable[[Table], bool] | None = None  # returns whether the values fit too
    prepare: Callable[[Table], Table] | None = None  # scales the table by the factors in its preamble
    note: str = ""  # what is assumed
    attitude: tuple[str, ...] = ()  # roll and pitch in radians, of layouts that may have iOS's signs: they show which


def _has_dot_ticks(table: Table) -> bool:
    """Return whether SampleTimeFine counts microseconds: at most 120 Hz, so at least 8333 a sample."""
    values = np.asarray(table.columns.get("SampleTimeFine", ()), np.float64)
    steps = np.diff(values[np.isfinite(values)])
    return bool((steps > 0).any() and np.median(steps[steps > 0]) > 2000)


def _has_activity_numbers(table: Table) -> bool:
    """Return whether a table has the 54 columns of PAMAP2, of which the second is an activity from 0 to 24."""
    activity = np.asarray(table.columns["column 1"], np.float64)
    return bool(np.isin(activity, np.arange(25)).all())


_GCSV_AXES = {"tscale": ("",), "gscale": "xyz", "ascale": "xyz"}


def _scale_gcsv(table: Table) -> Table:
    """Return a table of gyroflow in seconds, g and rad/s by the factors in its preamble."""
    factors = dict(line.split(",", 1) for line in table.preamble if "," in line)
    columns = dict(table.columns)
    try:
        scales = {f"{key[0]}{axis}": float(factors.get(key, "1")) for key, axes in _GCSV_AXES.items() for axis in axes}
    except ValueError as error:
        raise MediaError(f"gyroflow log: tscale, gscale or ascale is not a number ({error})") from error
    for name in scales.keys() & columns.keys():
        columns[name] = np.asarray(columns[name], np.float64) * scales[name]
    note = f"orientation {factors['orientation']} not applied" if factors.get("orientation", "XYZ") != "XYZ" else ""
    notes = (*table.notes, note) if note else table.notes
    return replace(table, columns=columns, seconds=table.seconds | {"t"}, notes=notes)


PRESETS: tuple[Preset, ...] = (
    Preset(
        "sensor-logger",
        "WristMotion.csv, github.com/tszheichoi/awesome-sensor-logger/blob/main/UNITS.md",
        (("gravity{}", "acceleration{}"),),
        ("rotationRate{}",),
        needs=("seconds_elapsed",),
        units=MappingProxyType({"gyroscope": "rad/s"}),
        time=(("seconds_elapsed", 1.0),),
        attitude=("roll", "pitch"),
    ),
    Preset(
        "phyphox",
        "csv export of the raw sensors, phyphox.org/wiki (Data Export); iOS's values negated (phyphox-ios: kG = -9.81)",
        ((r"(?:Acceleration|Accelerometer) {} \(m/s\^?[2²]\)",),),
        (r"Gyroscope {} \(rad/s\)",),
        needs=(r"Time \(s\)",),
        units=SI,
        time=((r"Time \(s\)", 1.0),),
    ),
    Preset(
        "sensorlog",
        "csv export of SensorLog for iOS, sensorlog.berndthomas.net; names as in its csv header",
        ((r"accelerometerAcceleration{}\(G\)",), (r"motionUserAcceleration{}\(G\)", r"motionGravity{}\(G\)")),
        (r"gyroRotation{}\(rad/s\)", r"motionRotationRate{}\(rad/s\)"),
        units=_G_RAD,
        time=(
            (r"accelerometerTimestamp_sinceReboot\(s\)", 1.0),
            (r"motionTimestamp_sinceReboot\(s\)", 1.0),
            (r"loggingTime\(txt\)", 1.0),
        ),
        attitude=(r"motionRoll\(rad\)", r"motionPitch\(rad\)"),
    ),
    Preset(
        "androsensor",
        "csv export of AndroSensor (fivasim), fivasim.com/androsensor.html",
        ((r"ACCELEROMETER {} \(m/s[2²]\)",), (r"GRAVITY {} \(m/s[2²]\)", r"LINEAR ACCELERATION {} \(m/s[2²]\)")),
        (r"GYROSCOPE {} \(rad/s\)",),
        needs=(r"Time(?: since start in ms| ?\(ms\)).*|YYYY.*",),
        units=SI,
        time=((r"Time(?: since start in ms| ?\(ms\))\s*", 1e-3), (r"YYYY.*", 1.0)),
    ),
    Preset(
        "physics-toolbox",
        "csv of the multi record of Physics Toolbox Sensor Suite, vieyrasoftware.net",
        (("gF{}",),),
        ("w{}",),
        needs=("time",),
        units=_G_RAD,
        time=(("time", None),),
    ),
    Preset(
        "motionsense",
        "DeviceMotion of MotionSense (iPhone 6s, 50 Hz), github.com/mmalekzadeh/motion-sense",
        ((r"gravity\.{}", r"userAcceleration\.{}"),),
        (r"rotationRate\.{}",),
        units=_G_RAD,
        time=((r"time(?:stamp)?", None),),
        rate_hz=50.0,
        attitude=(r"attitude\.roll", r"attitude\.pitch"),
    ),
    Preset(
        "ego4d",
        "ego4d-data.org/docs/data/imu",
        (("accl_{}",),),
        ("gyro_{}",),
        needs=("component_timestamp_ms|canonical_timestamp_ms",),
        units=SI,
        time=(("canonical_timestamp_ms", 1e-3), ("component_timestamp_ms", 1e-3)),
    ),
    Preset(
        "euroc",
        "imu0/data.csv of EuRoC MAV (Burri et al. 2016) and TUM-VI (Schubert et al. 2018)",
        ((r"a_RS_S_{} ?\[m s\^-2\]",),),
        (r"w_RS_S_{} ?\[rad s\^-1\]",),
        units=SI,
        time=((r"timestamp(?: ?\[ns\])?", 1e-9),),
    ),
    Preset(
        "actigraph",
        "raw IMU csv of ActiLife: header lines, then Timestamp, Accelerometer X, ... in g, Gyroscope X, ... in deg/s",
        (("Accelerometer {}",),),
        ("Gyroscope {}",),
        needs=("Timestamp", "Temperature"),
        units=_G_DEG,
        time=(("Timestamp", 1.0),),
    ),
    Preset(
        "actigraph",
        "the same without time stamps; the rate is in the first line",
        (("Accelerometer {}",),),
        ("Gyroscope {}",),
        units=_G_DEG,
        marks=r"Data (?:File|Table) Created By ActiGraph",
        rate_pattern=r"\bat (\d+(?:\.\d+)?) Hz",
    ),
    Preset(
        "movella-dot",
        "csv of Movella (Xsens) DOT: m/s^2, deg/s, SampleTimeFine in us, base.movella.com (DOT data export)",
        (("Acc_{}",),),
        ("Gyr_{}",),
        needs=("PacketCounter", "SampleTimeFine"),
        units=_SI_DEG,
        time=(("SampleTimeFine", 1e-6),),
        check=_has_dot_ticks,
    ),
    Preset(
        "xsens-mt",
        "txt and csv export of MT Manager: m/s^2, rad/s, SampleTimeFine in 0.1 ms (MT Low Level Documentation)",
        (("Acc_{}",),),
        ("Gyr_{}",),
        needs=("PacketCounter", "SampleTimeFine"),
        units=SI,
        time=(("SampleTimeFine", 1e-4),),
        rate_pattern=r"Update Rate:\s*(\d+(?:\.\d+)?)\s*Hz",
    ),
    Preset(
        "shimmer",
        "csv of Consensys: sep= line, names, a line of units; calibrated to m/s^2 and deg/s",
        ((r"(?:.*_)?Accel_LN_{}_CAL",), (r"(?:.*_)?Accel_WR_{}_CAL",)),
        (r"(?:.*_)?Gyro_{}_CAL",),
        units=_SI_DEG,
        time=(
            (r"(?:.*_)?Timestamp(?:Sync)?_Unix_CAL", 1e-3),
            (r"(?:.*_)?Timestamp(?:Sync)?_CAL", 1e-3),
            (r"(?:.*_)?Timestamp(?:Sync)?_FormattedUnix_CAL", 1.0),
        ),
    ),
    Preset(
        "openlog-artemis",
        "SparkFun OpenLog Artemis: ICM-20948 in milli g and degrees per second, learn.sparkfun.com",
        (("a{}",),),
        ("g{}",),
        needs=("rtcTime|output_Hz|imu_degC",),
        units=MappingProxyType({"accelerometer": "mg", "gyroscope": "deg/s"}),
        time=(("micros", 1e-6), ("rtcDate+rtcTime", 1.0), ("rtcTime", 1.0)),
    ),
    Preset(
        "arduino",
        "IMU_Capture.ino of github.com/arduino/ArduinoTensorFlowLiteTutorials: aX, ..., gZ in g and deg/s",
        (("a{}",),),
        ("g{}",),
        width=6,
        note="an Arduino Nano 33 BLE samples at 119 Hz, a Nano 33 IoT at 104 Hz",
    ),
    Preset(
        "rostopic",
        "rostopic echo -p of sensor_msgs/Imu, wiki.ros.org/rostopic; units by REP 103",
        ((r"field\.(?:imu\.)?linear_acceleration\.{}",),),
        (r"field\.(?:imu\.)?angular_velocity\.{}",),
        units=SI,
        time=((r"field\.(?:imu\.)?header\.stamp", 1e-9), ("%?time", 1e-9)),
    ),
    Preset(
        "bagpy",
        "message_by_topic of bagpy for sensor_msgs/Imu, jmscslgroup.github.io/bagpy; units by REP 103",
        ((r"linear_acceleration\.{}",),),
        (r"angular_velocity\.{}",),
        needs=("Time",),
        units=SI,
        time=(("Time", 1.0),),
    ),
    Preset(
        "gcsv",
        "docs.gyroflow.xyz/app/technical-details/gcsv-format: raw numbers with tscale, gscale, ascale",
        (("a{}",),),
        ("g{}",),
        needs=("t",),
        units=_G_RAD,
        time=(("t", 1.0),),
        marks=r"(?:GYROFLOW|CAMERA) IMU LOG",
        prepare=_scale_gcsv,
    ),
    Preset(
        "pamap2",
        "readme.pdf of PAMAP2 (Reiss and Stricker 2012): 54 columns, hand, chest and ankle from columns 3, 20 and 37",
        (("column [456]",),),
        ("column (?:10|11|12)",),
        width=54,
        units=SI,
        time=(("column 0", 1.0),),
        check=_has_activity_numbers,
        note="the sensor at the hand, +-16 g",
    ),
)
