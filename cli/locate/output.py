"""Output of `bindsearch locate`: a list of boxes and spans in words, and JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bindsearch.cli.output import print_line, print_message, print_notices
from bindsearch.operations.locate import words
from bindsearch.operations.locate.dense import MAX_DETAIL
from bindsearch.operations.locate.located import asked_data, located_data, place_data

if TYPE_CHECKING:
    from bindsearch.operations.locate.locate import LocatedFile
    from bindsearch.operations.locate.located import Asked, Located

HEAT_DECIMALS, LIST_DECIMALS = 4, 3
NEARER = 0.5
"""Relevance of a part that is as near to the query as to what it is compared with."""


def print_files(located: Sequence[LocatedFile]) -> None:
    """Print where each file answers; what is to be known of it, and files that could not be read, on stderr."""
    notices: list[str] = []
    for file in located:
        if file.located is None:
            continue
        print_line(f"{file.source}  ({file.located.modality}, {file.located.method})")
        found = located_data(file.located)
        for line in _lines(found) or [_nothing(file.located, found, file.asked)]:
            print_line(f"  {line}")
        notices += file.located.notices
    print_notices(dict.fromkeys(notices))
    for file in located:
        if file.failure:
            print_message(f"failed: {file.source}: {file.failure}")


def _lines(found: Mapping[str, Any]) -> list[str]:
    """Return a line for each box or span, best first; of a video, for the best box of each frame in order of time."""

    def relevance(place: Mapping[str, Any]) -> str:
        return words.relevance_in_words(place["relevance"], LIST_DECIMALS)

    boxes: list[dict[str, Any]] = found["boxes"]
    if not boxes or boxes[0]["at_s"] is None:
        lines = [f"{relevance(box)}  {words.box_in_words(box)}" for box in boxes]
        return lines + [f"{relevance(span)}  {words.span_in_words(span)}" for span in found["spans"]]
    frames: dict[float, list[dict[str, Any]]] = {}
    for box in boxes:
        frames.setdefault(box["at_s"], []).append(box)
    best_s = boxes[0]["at_s"]
    return [
        f"{relevance(inside[0])}{words.at_in_words(at_s)}  {words.box_in_words(inside[0])}"
        f"{words.others_in_words(inside)}{'  (best)' if at_s == best_s and len(frames) > 1 else ''}"
        for at_s, inside in sorted(frames.items())
    ]


def _nothing(located: Located, found: Mapping[str, Any], asked: Asked) -> str:
    """Return one line for a file of which no part reaches the threshold: the best value, and what to try."""
    line = f"nothing has a relevance of {asked.threshold:g}"
    ways = ["another wording"]
    if (nearest := words.nearest_in_words(found)) is not None:
        place, relevance = nearest
        line += f"; the best is {words.relevance_in_words(relevance, LIST_DECIMALS)}, {place}"
        lower = words.relevance_in_words(relevance)
        is_detector = located.heat is None and located.curve is None
        ways += [f"--threshold {lower}"] if float(lower) > (0 if is_detector else NEARER) else []
        if asked.detail < MAX_DETAIL and not is_detector:
            ways.append(f"--detail {asked.detail + 1}")
    return f"{line}: try {', '.join(ways)}"


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
