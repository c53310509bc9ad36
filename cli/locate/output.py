"""Output of `bindsearch locate`: a list of boxes and spans in words, and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bindsearch.atomic import atomic_write
from bindsearch.cli.output import SCHEMA, clock, print_json, print_line, print_message
from bindsearch.operations.locate.located import located_data
from bindsearch.operations.locate.record import asked_data, place_data
from bindsearch.operations.recording import read_record
from bindsearch.small_files import read_small_file

if TYPE_CHECKING:
    from bindsearch.operations.locate.locate import LocatedFile
    from bindsearch.operations.locate.located import Box, Located

MAX_OWN_BYTES = 1 << 30
WHOLE = 0.8
"""Share of a side from which a box is said to cover it."""

HEAT_DECIMALS = 4


def print_files(located: Sequence[LocatedFile]) -> None:
    """Print where each file answers; what is to be known of it, and files that could not be read, on stderr."""
    notices: list[str] = []
    for file in located:
        if file.located is None:
            continue
        print_line(f"{file.source}  ({file.located.modality}, {file.located.method})")
        lines = _lines(file.located)
        for line in lines or [_nothing(file.located, file.asked.threshold)]:
            print_line(f"  {line}")
        notices += file.located.notices
    for notice in dict.fromkeys(notices):
        print_message(f"note: {notice}")
    for file in located:
        if file.failure:
            print_message(f"failed: {file.source}: {file.failure}")


def _lines(located: Located) -> list[str]:
    boxes = [f"{box.relevance:.3f}{_at(box.at_s)}  {where(box)}  {_sides(box)}" for box in located.boxes]
    spans = [f"{one.relevance:.3f}  {clock(one.span.start_s)}-{clock(one.span.end_s)}" for one in located.spans]
    return boxes + spans


def _nothing(located: Located, threshold: float) -> str:
    """Return one line for a file of which no part reaches the threshold, with the best one."""
    if located.peak is not None:
        peak = located.peak
        best = f"{peak.relevance:.3f}{_at(peak.at_s)}  {_words((peak.x, peak.y))}"
    elif located.curve is not None:
        row = int(located.curve.relevance.argmax())
        best = f"{float(located.curve.relevance[row]):.3f} at {clock(float(located.curve.times_s[row]))}"
    else:
        best = "none"
    return f"nothing has a relevance of {threshold:g}; the best is {best}"


def where(box: Box) -> str:
    """Return the place of a box in words, such as "left, upper"; "whole" if it covers most of both sides."""
    is_wide, is_tall = box.right - box.left >= WHOLE, box.bottom - box.top >= WHOLE
    if is_wide and is_tall:
        return "whole"
    middle = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    across, down = _words(middle).split(", ")
    return f"{'all across' if is_wide else across}, {'full height' if is_tall else down}"


def _words(point: tuple[float, float]) -> str:
    return f"{('left', 'centre', 'right')[_third(point[0])]}, {('upper', 'middle', 'lower')[_third(point[1])]}"


def _third(share: float) -> int:
    return min(2, max(0, int(3 * share)))


def _at(at_s: float | None) -> str:
    return "" if at_s is None else f"  at {clock(at_s)}"


def _sides(box: Box) -> str:
    left, top, right, bottom = (f"{100 * side:.0f}" for side in (box.left, box.top, box.right, box.bottom))
    return f"x {left}-{right}%, y {top}-{bottom}%"


def print_files_json(located: Sequence[LocatedFile]) -> None:
    """Print the result as one JSON object."""
    print_json(files_data(located))


def files_data(located: Sequence[LocatedFile]) -> dict[str, Any]:
    """Return the result with the query as values that JSON can hold."""
    asked = asked_data(located[0].asked)
    del asked["against"]  # which depends on the modality of the file
    return {**asked, "files": [_file_data(file) for file in located]}


def _file_data(file: LocatedFile) -> dict[str, Any]:
    found = file.located
    nothing: dict[str, Any] = {"method": None, "boxes": [], "spans": [], "peak": None, "curve": None, "notices": []}
    heat = None if found is None or found.heat is None else found.heat.astype(float).round(HEAT_DECIMALS).tolist()
    return {
        "file": file.source,
        "against": list(file.asked.against),
        **place_data(file.place),
        **(nothing if found is None else located_data(found)),
        "heat": None if heat is None else [[None if math.isnan(value) else value for value in row] for row in heat],
        "failure": file.failure or None,
    }


def write_json(path: Path, located: Sequence[LocatedFile]) -> None:
    """Write the result as a JSON file; an existing one is replaced at once or not at all.

    Raises:
        OSError: it cannot be written.
    """
    with atomic_write(path) as file:
        text = json.dumps({"schema": SCHEMA, **files_data(located)}, ensure_ascii=False, indent=2)
        file.write(text.encode("utf-8", "backslashreplace"))  # names of files need not be UTF-8


def is_own(path: Path) -> bool:
    """Return whether a PNG or JSON file is one that `locate` wrote."""
    if path.suffix.lower() == ".png":
        record: Any = read_record(path)
    else:
        try:
            record = json.loads(read_small_file(path, MAX_OWN_BYTES))
        except (OSError, ValueError, RecursionError):
            return False
    return isinstance(record, dict) and record.get("command") == "locate"
