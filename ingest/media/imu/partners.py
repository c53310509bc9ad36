"""Recordings in several files, by their names alone: one sensor a file, one axis a file, one sample a file.

"Accelerometer.csv" and "Gyroscope.csv" of a folder are one recording, "walk_acc_1.txt" and "walk_gyro_1.txt", and
"accel/data_1600_accel_phone.txt" and "gyro/data_1600_gyro_phone.txt". One of the files is the item: that of the
accelerometer with gravity, if there is one, else that of the accelerometer. The others are its parts.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from types import MappingProxyType

from bindsearch.hashing import files_version

TEXT_TABLES = (".csv", ".tsv", ".txt", ".dat", ".csv.gz", ".tsv.gz")
"""Extensions of text tables that are parts of recordings."""

_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "total": ("total acceleration", "total acc"),
        "linear": ("linear acceleration", "linear accelerometer", "linear acc", "user acceleration", "user acc"),
        "accelerometer": ("accelerometer", "acceleration", "accel", "acc"),
        "gyroscope": ("gyroscope", "gyro", "gyr", "rotation rate", "angular velocity"),
        "gravity": ("gravity",),
    }
)
"""Words for sensors in names of files, by role; the order of roles is that of the search."""

_UNCALIBRATED = re.compile(r"[ _]?uncalibrated", re.IGNORECASE)
_ROLES = (f"(?P<{role}>{'|'.join(words).replace(' ', '[ _]?')})" for role, words in _WORDS.items())
_SENSOR = re.compile(f"(?<![A-Za-z])(?:{'|'.join(_ROLES)})(?![a-z])", re.IGNORECASE)
UCI_SIGNAL = re.compile(r"(total_acc|body_acc|body_gyro)_([xyz])(_train|_test)?(\.txt)")
UCI_SIGNALS = tuple(f"{signal}_{axis}" for signal in ("total_acc", "body_gyro") for axis in "xyz")
_OXTS = re.compile(r"(.*oxts/data/)(\d{10})(\.txt)")
_FIRST_SAMPLE = f"oxts/data/{0:010d}.txt"
_MAX_FILES = 100_000
_OF_APP = MappingProxyType({"metadata": "Metadata.csv", "orientation": "Orientation.csv"})
"""Files that tell whether an iPhone wrote a recording of Sensor Logger, by role."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording in several files."""

    form: str  # "sensors", "uci-har" or "kitti-oxts"
    main: str  # path of the file that is the item
    parts: Mapping[str, str]  # paths of the other files, by role; roles of "kitti-oxts" are numbers, and "times"


def recording_of(path: str, exists: Callable[[str], bool] = os.path.isfile) -> Recording | None:
    """Return the recording in several files that a path with forward slashes is part of; None if it is none.

    `exists` says whether there is a file at a path.
    """
    if not path.lower().endswith(TEXT_TABLES):
        return None
    folder, slash, name = path.rpartition("/")
    if (signal := UCI_SIGNAL.fullmatch(name)) is not None:
        return _uci_recording(folder + slash, signal[3] or "", signal[4], exists)
    if (sample := _OXTS.fullmatch(path)) is not None:
        return _oxts_recording(sample[1], exists)
    return _sensor_recording(path, exists)


def recording_key(path: str) -> str | None:
    """Return what the names of all files of a recording have in common; None for other names."""
    folder, slash, name = path.rpartition("/")
    if not name.lower().endswith(TEXT_TABLES):
        return None
    if (signal := UCI_SIGNAL.fullmatch(name)) is not None:
        return f"{folder}{slash}*{signal[3] or ''}"
    if name in _OF_APP.values():
        return f"{folder}{slash}*.csv"
    if _SENSOR.search(name) is None:
        return None
    above, above_slash, last = folder.rpartition("/")
    shared_folder = f"{above}{above_slash}*" if _SENSOR.fullmatch(last) else folder
    return f"{shared_folder}{slash}{_SENSOR.sub('*', name, count=1)}"


def _uci_recording(folder: str, suffix: str, extension: str, exists: Callable[[str], bool]) -> Recording | None:
    """Return the recording of the Inertial Signals of UCI HAR, one axis a file."""
    paths = {role: f"{folder}{role}{suffix}{extension}" for role in UCI_SIGNALS}
    if not all(exists(path) for path in paths.values()):
        return None
    main = paths.pop("total_acc_x")
    bodies = {f"body_acc_{axis}": f"{folder}body_acc_{axis}{suffix}{extension}" for axis in "xyz"}
    return Recording("uci-har", main, paths | {role: body for role, body in bodies.items() if exists(body)})


def _oxts_recording(folder: str, exists: Callable[[str], bool]) -> Recording | None:
    """Return the recording of the oxts folder of a KITTI drive, one sample a file."""
    paths = ((str(i), f"{folder}{i:010d}.txt") for i in range(1, _MAX_FILES))
    parts = dict(takewhile(lambda part: exists(part[1]), paths))
    main = f"{folder}{0:010d}.txt"
    if not parts or not exists(main):
        return None
    times = folder.removesuffix("data/") + "timestamps.txt"
    return Recording("kitti-oxts", main, parts | ({"times": times} if exists(times) else {}))


def _sensor_recording(path: str, exists: Callable[[str], bool]) -> Recording | None:
    """Return the recording with one sensor a file; None without an accelerometer and a gyroscope."""
    folder, slash, name = path.rpartition("/")
    match = _SENSOR.search(name)
    if match is None:
        return None
    files: dict[str, str] = {}
    for role in _WORDS:
        if role == match.lastgroup:
            files[role] = path
            continue
        names = [f"{name[: match.start()]}{word}{name[match.end() :]}" for word in _spellings(role, match[0])]
        candidates = (f"{place}{slash}{other}" for place in _folders(folder, role) for other in names)
        if (found := next(filter(exists, candidates), None)) is not None:
            files[role] = found
    wanted = ("total", "accelerometer", *(["linear"] if "gravity" in files else []))
    main = next((role for role in wanted if role in files), None)
    if main is None or "gyroscope" not in files:
        return None
    if _UNCALIBRATED.search(name):
        calibrated = _sensor_recording(f"{folder}{slash}{_UNCALIBRATED.sub('', name)}", exists)
        if calibrated is not None and exists(calibrated.main):
            return Recording("sensors", calibrated.main, {**calibrated.parts, "uncalibrated": path})
    if main != "total" and match.start() == 0 and name[match.end() :] == ".csv":
        beside = {role: f"{folder}{slash}{other}" for role, other in _OF_APP.items()}
        files |= {role: file for role, file in beside.items() if exists(file)}
    return Recording("sensors", files[main], {role: file for role, file in files.items() if role != main})


def _folders(folder: str, role: str) -> list[str]:
    """Return the folders where the file of another sensor may be: the same; beside "accel" also "gyro"."""
    above, slash, last = folder.rpartition("/")
    if _SENSOR.fullmatch(last) is None:
        return [folder]
    return [folder, *(f"{above}{slash}{word}" for word in _spellings(role, last))]


def _spellings(role: str, like: str) -> list[str]:
    """Return the words of a role in the case of the word `like`."""
    spellings: dict[str, None] = {}
    for word in _WORDS[role]:
        title = word.title()
        if like.isupper():
            forms = [word.upper().replace(" ", "_"), word.upper().replace(" ", "")]
        elif like[0].isupper():
            forms = [title.replace(" ", ""), title, word.capitalize(), title.replace(" ", "_")]
        else:
            joined = title.replace(" ", "")
            forms = [word.replace(" ", "_"), word.replace(" ", ""), word, word[0] + joined[1:]]
        spellings.update(dict.fromkeys(forms))
    return list(spellings)


def parts_version(path: str) -> int:
    """Return a number that changes with the sizes and times of the other files of a recording; 0 without any.

    Files that are not the item of a recording have no parts.
    """
    if recording_key(path) is None and not path.endswith(_FIRST_SAMPLE):
        return 0
    recording = recording_of(path)
    if recording is None or recording.main != path:
        return 0
    return files_version(sorted(recording.parts.values()))


def sensor_role(name: str) -> str | None:
    """Return the role of the sensor that a file is named after: "accelerometer", "gyroscope", ...; else None."""
    match = _SENSOR.search(name)
    return None if match is None else match.lastgroup
