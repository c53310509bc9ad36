"""Facts in the cells of a list: a value as in a sidecar, its JSON, or a short text.

Short texts: numbers; for `axes` six names or numbers with spaces, commas or semicolons between them; for `units` the
accelerometer's and the gyroscope's, "g, deg/s"; for `invalid` numbers, "0 65535".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from bindsearch.errors import MediaError
from bindsearch.ingest.media.sidecar import Sidecar, parse_record
from bindsearch.ingest.media.text_fields import normalize_text

MAX_CELL = 10_000
"""Maximum characters of a fact."""


def parse_facts(cells: Mapping[str, object], source: str) -> Sidecar:
    """Return the facts in cells, by their names; `source` names the row in errors.

    Raises:
        MediaError: a value that no sidecar can have.
    """
    try:
        return parse_record({name: _value(name, cell) for name, cell in cells.items()})
    except MediaError as error:
        raise MediaError(f"{source}: {error}") from error


def _value(name: str, cell: object) -> Any:
    """Return the value of a cell as JSON would give it."""
    if isinstance(cell, Mapping):  # of a table in Parquet, whose rows have all keys
        return {key: value for key, value in cell.items() if value is not None}
    if not isinstance(cell, str):
        return cell
    if len(cell) > MAX_CELL or "\0" in cell:
        raise MediaError(f"{name} has {len(cell)} characters, or a zero byte: expected at most {MAX_CELL}, and none")
    text = cell.strip()
    if text[:1] in ("[", "{"):
        return _json(name, text)
    match name:
        case "axes":
            axes = [axis for axis in re.split(r"[\s,;]+", text) if axis]
            return [int(axis) for axis in axes] if all(map(_is_column_number, axes)) else axes
        case "units":
            return _units(text)
        case "invalid":
            return [_number(number) for number in re.split(r"[\s,;]+", text) if number]
        case "fx" | "baseline_m" | "sample_rate_hz" | "depth_unit" | "rotate":
            return _number(text)
    return text


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise MediaError(f"{name} is {normalize_text(text[:80])}, which is not valid JSON") from None


def _units(text: str) -> dict[str, str]:
    """Return the units of the accelerometer and the gyroscope."""
    units = [unit.strip() for unit in re.split("[,;]", text)]
    if len(units) != 2 or not all(units):
        raise MediaError(
            f"units is {normalize_text(text[:80])}: expected those of accelerometer and gyroscope, such as 'g, deg/s'"
        )
    return {"accelerometer": units[0], "gyroscope": units[1]}


def _is_column_number(text: str) -> bool:
    return re.fullmatch("[0-9]{1,9}", text) is not None


def _number(text: str) -> float | int | str:
    """Return a text as a number; unchanged if it is none."""
    if re.fullmatch("[+-]?[0-9]{1,18}", text):
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text
