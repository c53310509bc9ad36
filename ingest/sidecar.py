"""Sidecars: what a file cannot say about itself, in `<file>.json` next to it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from bindsearch.errors import MediaError
from bindsearch.items import DOCUMENTED_COLUMNS

MAX_SIDECAR_BYTES = 1 << 20
MAX_COLUMNS = 64
MAX_COLUMN_NAME = 64
COLUMN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
LARGEST_INTEGER = 2**63 - 1
"""Integers further from zero are kept as floating-point numbers."""

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Sidecar:
    """The facts of one file; what is absent is None (or empty).

    `fx`: focal length in pixels of this file. `baseline_m`: baseline in metres that disparity is computed with.
    `depth_unit`: "m", "cm", "mm", or metres per step as a number, such as 0.0002 (kept as the text "0.0002 m");
    "sunrgbd" for the 16-bit PNGs of SUN RGB-D, whose bits are rotated.
    `sample_rate_hz`: rate of a motion recording. `axes`: its six columns (names, or numbers from 0), accelerometer
    x, y, z, then gyroscope x, y, z. `units`: {"accelerometer": "m/s^2" or "g", "gyroscope": "rad/s" or "deg/s"}.
    `caption`: a text about the file, indexed with it. `columns`: facts of the user's own that filters may ask for, such
    as {"camera": "X100", "rating": 4, "indoor": true}; names in lower case.
    """

    fx: float | None = None
    baseline_m: float | None = None
    depth_unit: str | None = None
    sample_rate_hz: float | None = None
    axes: tuple[str, ...] | tuple[int, ...] = ()
    units: Mapping[str, str] = field(default_factory=dict)
    caption: str | None = None
    columns: Mapping[str, Scalar] = field(default_factory=dict)


def sidecar_path(path: Path) -> Path:
    """Where the sidecar of `path` would be: the full name plus ".json"."""
    return path.with_name(path.name + ".json")


def read_sidecar(path: Path) -> Sidecar:
    """The sidecar of the media file `path`; an empty one where there is none.

    Raises:
        MediaError: it is no JSON object, too large, or has an unknown key or a value of the wrong kind.
    """
    place = sidecar_path(path)
    try:
        with place.open("rb") as file:
            raw = file.read(MAX_SIDECAR_BYTES + 1)
    except FileNotFoundError:
        return Sidecar()
    except OSError as error:
        raise MediaError(f"sidecar {place.name} cannot be read: {error.strerror}") from error
    if len(raw) > MAX_SIDECAR_BYTES:
        raise MediaError(f"sidecar {place.name} is larger than {MAX_SIDECAR_BYTES} bytes")
    try:
        return parse_sidecar(raw)
    except MediaError as error:
        raise MediaError(f"sidecar {place.name}: {error}") from error


def parse_sidecar(raw: bytes) -> Sidecar:
    """A sidecar from its JSON; an object with none of the known keys is another program's and counts as none.

    Raises:
        MediaError: as `read_sidecar`.
    """
    try:
        facts = json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise MediaError(f"not JSON ({_short(error)})") from error
    if not isinstance(facts, dict):
        raise MediaError(f"expected an object, found {type(facts).__name__}")
    known = [entry.name for entry in fields(Sidecar)]
    if not any(key in known for key in facts):  # another program's, such as a photo service's export
        return Sidecar()
    for key in facts:
        if key not in known:
            raise MediaError(f"unknown key {_short(key)!r}: expected {', '.join(known)}")
    facts = {key: value for key, value in facts.items() if value is not None}
    return Sidecar(
        fx=_positive(facts, "fx"),
        baseline_m=_positive(facts, "baseline_m"),
        depth_unit=_depth_unit(facts),
        sample_rate_hz=_positive(facts, "sample_rate_hz"),
        axes=_axes(facts),
        units=_units(facts),
        caption=_caption(facts),
        columns=_columns(facts),
    )


def _positive(facts: Mapping[str, Any], key: str) -> float | None:
    value = facts.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(key, value, "a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not (math.isfinite(number) and number > 0):
        raise _wrong(key, value, "a number above 0")
    return number


def _depth_unit(facts: Mapping[str, Any]) -> str | None:
    value = facts.get("depth_unit")
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = _positive(facts, "depth_unit")
        return f"{number!r} m"
    if value is None or isinstance(value, str):
        return value
    raise _wrong("depth_unit", value, 'a unit such as "mm", or metres per step')


def _axes(facts: Mapping[str, Any]) -> tuple[str, ...] | tuple[int, ...]:
    value = facts.get("axes", [])
    expected = "six column names (or numbers from 0): accelerometer x, y, z, gyroscope x, y, z"
    if not isinstance(value, list) or len(value) not in (0, 6):
        raise _wrong("axes", value, expected)
    if all(isinstance(name, str) for name in value):
        axes: tuple[str, ...] | tuple[int, ...] = tuple(value)
    elif all(isinstance(name, int) and not isinstance(name, bool) and name >= 0 for name in value):
        axes = tuple(value)
    else:
        raise _wrong("axes", value, expected)
    if len(set(axes)) != len(axes):
        raise _wrong("axes", value, expected + ", each once")
    return axes


def _units(facts: Mapping[str, Any]) -> Mapping[str, str]:
    value = facts.get("units", {})
    expected = '{"accelerometer": "m/s^2" or "g", "gyroscope": "rad/s" or "deg/s"}'
    names = {"accelerometer", "gyroscope"}
    if not isinstance(value, dict) or not set(value) <= names or not all(isinstance(v, str) for v in value.values()):
        raise _wrong("units", value, expected)
    return dict(value)


def _caption(facts: Mapping[str, Any]) -> str | None:
    value = facts.get("caption")
    if value is not None and not isinstance(value, str):
        raise _wrong("caption", value, "a text")
    if not value or not value.strip():
        return None
    return _storable(value)


def _columns(facts: Mapping[str, Any]) -> Mapping[str, Scalar]:
    value = facts.get("columns", {})
    if not isinstance(value, dict):
        raise _wrong("columns", value, 'an object such as {"camera": "X100", "rating": 4}')
    if len(value) > MAX_COLUMNS:
        raise MediaError(f"columns holds {len(value)} names: expected at most {MAX_COLUMNS}")
    columns: dict[str, Scalar] = {}
    for name, content in value.items():
        key = name.lower()
        if len(name) > MAX_COLUMN_NAME or not COLUMN_NAME.fullmatch(name):
            raise MediaError(
                f"columns has the name {_short(name)!r}: expected a letter or _, then letters, digits or _, "
                f"at most {MAX_COLUMN_NAME} in all"
            )
        if key in DOCUMENTED_COLUMNS:
            raise MediaError(f"columns has the name {name!r}, which every item has already: choose another one")
        if key in columns:
            raise MediaError(f"columns has the name {name!r} twice: case makes no difference")
        columns[key] = _scalar(name, content)
    return columns


def _scalar(name: str, value: object) -> Scalar:
    if isinstance(value, str):
        return _storable(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise _wrong(f"column {name}", value, "a finite number")
        return value if abs(value) <= LARGEST_INTEGER else number
    if value is None or isinstance(value, bool):
        return value
    raise _wrong(f"column {name}", value, "a text, a number, true, false or null")


def _storable(value: str) -> str:
    """`value` without the halves of letters that JSON can hold and nothing can store."""
    return value.encode(errors="replace").decode()


def _wrong(key: str, value: object, expected: str) -> MediaError:
    return MediaError(f"{key} is {_short(value)}: expected {expected}")


def _short(value: object) -> str:
    """`value` on one line of at most 80 characters."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 200:
        return "a huge number"  # str() refuses integers of more than 4300 digits
    text = " ".join((value if isinstance(value, str | Exception) and str(value) else repr(value)).__str__().split())
    return text if len(text) <= 80 else text[:77] + "..."
