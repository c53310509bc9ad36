"""Declarations about a media file, as a sidecar, a list or a folder's settings make them."""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, TypeGuard

from bindsearch.errors import MediaError
from bindsearch.ingest.media.text_fields import MAX_TEXT, normalize_text, without_zone
from bindsearch.types import DOCUMENTED_COLUMNS, FACT_COLUMNS, METADATA_COLUMNS, Metadata, Modality

MAX_SIDECAR_BYTES = 1 << 20
_NO_METADATA = Metadata()
"""Shared: a manifest has a million entries."""
MAX_COLUMNS = 64
MAX_COLUMN_NAME = 64
COLUMN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
MAX_TABLE_COLUMNS = 10_000
MAX_INVALID = 16
_NO_TEXTS = ("idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape", "utf-7")
"""Codecs of Python that are no encodings of text files."""

LARGEST_INTEGER = 2**63 - 1
"""Integers further from zero are stored as floating-point numbers."""

SUBTITLE_FACTS = ("encoding",)
"""Fields that tell how the subtitles beside a video or sound are read."""

RECORDINGS = frozenset((Modality.VIDEO, Modality.AUDIO))
"""Modalities that may have subtitles."""

FACTS: Mapping[Modality, tuple[str, ...]] = MappingProxyType(
    {
        Modality.DEPTH: ("depth_unit", "fx", "baseline_m", "invalid", "rotate"),
        Modality.THERMAL: ("temperature_unit", "palette", "invalid", "rotate"),
        Modality.IMU: ("layout", "sample_rate_hz", "axes", "units", "time", "frame"),
        Modality.TEXT: ("encoding",),
        Modality.VIDEO: SUBTITLE_FACTS,
        Modality.AUDIO: SUBTITLE_FACTS,
    }
)
"""Fields that tell how files of a modality are read; in other files they have no effect."""

FACT_NAMES = (*dict.fromkeys(name for names in FACTS.values() for name in names),)

DECIDING = (*FACT_NAMES, "captions")
"""Fields that decide which vectors a file has."""

FRAMES = ("android", "enu", "ios", "ned")
"""Conventions of axes of motion recordings: Android's is BindSearch's own."""

COMMON_WORDS = frozenset({"encoding", "layout", "time", "frame", "invalid", "rotate", "palette"})
"""Keys that files of other programs have too: among unknown keys they do not make a sidecar."""

EVERYDAY_WORDS = COMMON_WORDS - {"rotate"}
"""Keys that are usual names of columns too: the user's own in `columns`, and in a list for files that do not use them.
"""

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Sidecar:
    """Metadata of one file; absent fields are None (or empty).

    `depth_unit` is "m", "cm", "mm", or metres per step such as "0.0002 m"; "sunrgbd" for the 16-bit PNGs of SUN RGB-D,
    whose bits are rotated. Values of `columns` under the names of metadata (`taken`, `camera`, ...) are in `metadata`,
    which takes precedence over embedded metadata. `found` is what JSON of other programs beside the file says, for what
    neither `metadata` nor the file says; `found_captions` are its texts, for files without `captions`.
    """

    fx: float | None = None  # focal length of this file in pixels
    baseline_m: float | None = None  # that disparity is computed with
    depth_unit: str | None = None
    sample_rate_hz: float | None = None  # of a motion recording
    axes: tuple[str, ...] | tuple[int, ...] = ()  # its six columns (names, or numbers from 0): accelerometer, gyroscope
    units: Mapping[str, str] = field(default_factory=dict)  # of "accelerometer" and "gyroscope", such as "g", "deg/s"
    layout: str | None = None  # program or data set that wrote a motion recording, such as "phyphox"
    time: str | int | None = None  # its time column (name, or number from 0)
    frame: str | None = None  # one of FRAMES
    invalid: tuple[float, ...] = ()  # stored values of depth and thermal pictures that stand for no value
    rotate: int | None = None  # degrees, clockwise, by which such a picture is turned to be upright
    temperature_unit: str | None = None  # of the stored values of a thermal picture, such as "kelvin/100"
    palette: str | None = None  # false colours of a thermal picture, such as "iron"; "grey" for none
    encoding: str | None = None  # Python name of that of a text or of subtitles that are not UTF-8, such as "cp1251"
    captions: tuple[str, ...] = ()  # texts about the file, each indexed with it
    columns: Mapping[str, Scalar] = field(default_factory=dict)  # the user's own, for filters; names in lower case
    metadata: Metadata = Metadata()  # noqa: RUF009  (frozen)
    found: Metadata = Metadata()  # noqa: RUF009  (frozen)
    found_captions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # what was read from such JSON, one line each


_EMPTY = Sidecar()
KEYS = (*FACT_NAMES, "caption", "columns")
"""Keys of a sidecar."""


def parse_record(record: Mapping[str, Any]) -> Sidecar:
    """Return the sidecar of a record whose keys are all among KEYS; a value of None is no value.

    Raises:
        MediaError: a value of the wrong type.
    """
    given = {key: value for key, value in record.items() if value is not None}
    columns, metadata = _columns(given.get("columns", {}))
    facts = {name: parse(name, given[name]) for name, parse in _FACT_PARSERS.items() if name in given}
    return Sidecar(**facts, captions=_captions(given.get("caption", [])), columns=columns, metadata=metadata)


def parse_columns(value: Mapping[str, object]) -> tuple[Mapping[str, Scalar], Metadata]:
    """Return the user's own columns, names in lower case, and the values under the names of metadata (None: no value).

    `taken` is a text in ISO 8601, in UTC or with its offset, else local; see `Metadata` for the units. A name of what
    decoders measure is an own column, with a number, which filters prefer to the measured one.

    Raises:
        MediaError: too many columns, a name that is invalid, reserved or repeated, or a value of the wrong type.
    """
    if len(value) > MAX_COLUMNS:
        raise MediaError(f"columns has {len(value)} names: expected at most {MAX_COLUMNS}")
    columns: dict[str, Scalar] = {}
    metadata: dict[str, Any] = {}
    for name, content in value.items():
        key = name.lower()
        if len(name) > MAX_COLUMN_NAME or not COLUMN_NAME.fullmatch(name):
            raise MediaError(
                f"columns has the name {short_value(name)!r}: expected a letter or _, then letters, digits or _, "
                f"at most {MAX_COLUMN_NAME} in total"
            )
        if key in DOCUMENTED_COLUMNS and key not in METADATA_COLUMNS:
            raise MediaError(f"columns has the name {name!r}, which is reserved: choose another name")
        if key in columns or key in metadata:
            raise MediaError(f"columns has the name {name!r} twice: names are case-insensitive")
        if key in FACT_COLUMNS:
            columns[key] = None if content is None else _number(key, content, -math.inf, math.inf, "a finite number")
        elif key in METADATA_COLUMNS:
            metadata[key] = None if content is None else _metadata_value(key, content)
        else:
            columns[key] = _scalar(name, content)
    return columns, Metadata(**metadata) if metadata else _NO_METADATA


def decode_facts(sidecar: Sidecar) -> str:
    """Return the fields of a sidecar that decide the vectors, as JSON: equal for equal fields, "" for none."""
    deciding = {name: getattr(sidecar, name) for name in DECIDING if is_given(sidecar, name)}
    return json.dumps(deciding, sort_keys=True) if deciding else ""


def merge_sidecars(*sidecars: Sidecar) -> Sidecar:
    """Return for each key the value of the first sidecar that has it; `units`, `columns`, `metadata` entry by entry."""
    merged, *rest = [sidecar for sidecar in sidecars if sidecar != _EMPTY] or [_EMPTY]  # most files have none or one
    for sidecar in rest:
        added = {name: getattr(sidecar, name) for name in DECIDING if not is_given(merged, name)}
        added["units"] = {**sidecar.units, **merged.units}
        added["columns"] = {**sidecar.columns, **merged.columns}
        added["metadata"] = merged.metadata.merge_over(sidecar.metadata)
        added["found"] = merged.found.merge_over(sidecar.found)
        added["found_captions"] = merged.found_captions or sidecar.found_captions
        merged = replace(merged, **added, notes=(*dict.fromkeys((*merged.notes, *sidecar.notes)),))
    return merged


def is_given(sidecar: Sidecar, name: str) -> bool:
    """Return whether a sidecar has a value of one of DECIDING."""
    value = getattr(sidecar, name)
    return value is not None and value not in ("", (), {})


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_position(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _positive(key: str, value: object) -> float:
    if not _is_number(value):
        raise _wrong(key, value, "a number")
    number = _to_float(value)
    if not (math.isfinite(number) and number > 0):
        raise _wrong(key, value, "a number above 0")
    return number


def _depth_unit(key: str, value: object) -> str:
    """Return the unit of depth as text."""
    if _is_number(value):
        return f"{_positive(key, value)!r} m"
    if isinstance(value, str):
        return value
    raise _wrong(key, value, 'a unit such as "mm", or metres per step')


def _axes(key: str, value: Any) -> tuple[str, ...] | tuple[int, ...]:
    """Return the six columns of a motion recording, or ()."""
    expected = "six column names (or numbers from 0): accelerometer x, y, z, gyroscope x, y, z"
    if not isinstance(value, list) or len(value) not in (0, 6):
        raise _wrong(key, value, expected)
    if not (all(isinstance(name, str) for name in value) or all(map(_is_position, value))):
        raise _wrong(key, value, expected)
    if len(set(value)) != len(value):
        raise _wrong(key, value, expected + ", without repetition")
    return tuple(value)


def _units(key: str, value: object) -> Mapping[str, str]:
    """Return the units of the two sensors."""
    names = {"accelerometer", "gyroscope"}
    if not isinstance(value, dict) or not set(value) <= names or not all(isinstance(v, str) for v in value.values()):
        raise _wrong(key, value, '{"accelerometer": "m/s^2" or "g", "gyroscope": "rad/s" or "deg/s"}')
    return dict(value)


def _name(key: str, value: object) -> str:
    """Return a name in lower case, which the decoder checks."""
    if not isinstance(value, str) or not value.strip():
        raise _wrong(key, value, "a name")
    return value.strip().lower()


def _encoding(key: str, value: object) -> str:
    """Return Python's name of an encoding of texts, such as "cp1251" for "windows-1251"."""
    name = _name(key, value)
    with suppress(LookupError, ValueError):
        encoding = codecs.lookup(name[:MAX_TEXT]).name
        b"a".decode(encoding, "replace")  # refused for codecs between bytes, such as base64
        if encoding.replace("_", "-") not in _NO_TEXTS:
            return encoding
    raise _wrong(key, name, "an encoding such as windows-1251, koi8-r, gb18030, shift_jis")


def _frame(key: str, value: object) -> str:
    name = _name(key, value)
    if name not in FRAMES:
        raise _wrong(key, name, f"one of {', '.join(FRAMES)}")
    return name


def _column(key: str, value: str | int) -> str | int:
    """Return the name or the number of a column."""
    if isinstance(value, str) or (_is_position(value) and value <= MAX_TABLE_COLUMNS):
        return value
    raise _wrong(key, value, "a column name, or its number from 0")


def _invalid(key: str, value: Any) -> tuple[float, ...]:
    """Return the stored values that stand for no value."""
    numbers = value if isinstance(value, list) else [value]
    if not all(_is_number(number) and math.isfinite(_to_float(number)) for number in numbers):
        raise _wrong(key, value, "a number, or a list of numbers")
    if len(numbers) > MAX_INVALID:
        raise _wrong(key, f"a list of {len(numbers)} numbers", f"at most {MAX_INVALID}")
    return tuple(sorted({_to_float(number) for number in numbers}))


def _rotate(key: str, value: Any) -> int:
    """Return degrees, clockwise."""
    if isinstance(value, bool) or value not in (0, 90, 180, 270):
        raise _wrong(key, value, "0, 90, 180 or 270 degrees, clockwise")
    return int(value)


_FACT_PARSERS: Mapping[str, Callable[[str, Any], Any]] = MappingProxyType(
    {
        "fx": _positive,
        "baseline_m": _positive,
        "depth_unit": _depth_unit,
        "sample_rate_hz": _positive,
        "axes": _axes,
        "units": _units,
        "layout": _name,
        "time": _column,
        "frame": _frame,
        "invalid": _invalid,
        "rotate": _rotate,
        "temperature_unit": _name,
        "palette": _name,
        "encoding": _encoding,
    }
)
"""Functions of a key and its value that return the field of the same name, in the order in which they are checked."""


def _captions(value: Any) -> tuple[str, ...]:
    """Return the captions, without blank and repeated ones."""
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in texts):
        raise _wrong("caption", value, "a string, or a list of strings")
    return tuple(dict.fromkeys(_storable(text) for text in texts if text.strip()))


def _columns(value: object) -> tuple[Mapping[str, Scalar], Metadata]:
    if not isinstance(value, dict):
        raise _wrong("columns", value, 'an object such as {"camera": "X100", "rating": 4}')
    for name in value:
        if name.lower() in FACT_NAMES and name.lower() not in EVERYDAY_WORDS:
            raise MediaError(f"columns has the name {name!r}, which has no effect there: write it beside columns")
    return parse_columns(value)


_RANGES = {
    "latitude": (-90, 90, "degrees from -90 to 90"),
    "longitude": (-180, 180, "degrees from -180 to 180"),
    "length_s": (0, math.inf, "seconds, 0 or more"),
}


def _metadata_value(key: str, value: object) -> str | datetime | float | int | None:
    """Return the value of a metadata column, given as JSON."""
    if METADATA_COLUMNS[key] == "large_string":
        if not isinstance(value, str):
            raise _wrong(f"column {key}", value, "a string")
        return normalize_text(value)
    if key == "taken":
        taken = None
        with suppress(ValueError):
            taken = without_zone(datetime.fromisoformat(value.strip())) if isinstance(value, str) else None
        if taken is None:
            raise _wrong(f"column {key}", value, "a time such as 2024-05-01T12:30:00 or 2024-05-01T12:30:00+02:00")
        return taken
    if key in _RANGES:
        return _number(key, value, *_RANGES[key])
    expected = "an integer number of pixels above 0"
    pixels = _number(key, value, 1, LARGEST_INTEGER, expected)
    if not pixels.is_integer():
        raise _wrong(f"column {key}", value, expected)
    return int(pixels)


def _number(key: str, value: object, lowest: float, highest: float, expected: str) -> float:
    number = _to_float(value) if _is_number(value) else math.nan
    if not (math.isfinite(number) and lowest <= number <= highest):
        raise _wrong(f"column {key}", value, expected)
    return number


def _scalar(name: str, value: object) -> Scalar:
    if isinstance(value, str):
        return _storable(value)
    if _is_number(value):
        number = _to_float(value)
        if not math.isfinite(number):
            raise _wrong(f"column {name}", value, "a finite number")
        return value if abs(value) <= LARGEST_INTEGER else number
    if value is None or isinstance(value, bool):
        return value
    raise _wrong(f"column {name}", value, "a string, a number, true, false or null")


def _to_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _storable(value: str) -> str:
    """Return `value` without unpaired surrogates, which JSON can contain but which cannot be stored."""
    return value.encode(errors="replace").decode()


def _wrong(key: str, value: object, expected: str) -> MediaError:
    return MediaError(f"{key} is {short_value(value)}: expected {expected}")


def short_value(value: object) -> str:
    """Return `value` on one line of at most 80 characters."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 200:
        return "a huge number"  # str() refuses integers of more than 4300 digits
    text = " ".join((value if isinstance(value, str) and str(value) else repr(value)).__str__().split())
    return text if len(text) <= 80 else text[:77] + "..."
