"""Hits as people read them: the match as a word and a bar, and one line for each further kind."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bindsearch.cli.hits import terminal
from bindsearch.cli.output import can_print, plural, print_message, visible
from bindsearch.operations.locate.located import has_place
from bindsearch.operations.locate.words import place_in_words
from bindsearch.types import Match, Modality, clock_span

if TYPE_CHECKING:
    from bindsearch.cli.hits.pictures import Preview

HitData = Mapping[str, Any]
"""A hit of an answer as data."""

SHOWN_TEXT_CHARACTERS = 80
"""Characters of a passage where the output is no terminal."""

BAR_CELLS = 5
TEXT_INDENT = 29
MIN_PATH_COLUMNS = 20
MIN_EMPHASISED = 3
"""Letters of the shortest word of a query that is emphasised."""

NOUNS = {
    Modality.TEXT: "text",
    Modality.IMAGE: "picture",
    Modality.VIDEO: "video",
    Modality.AUDIO: "sound",
    Modality.DEPTH: "depth map",
    Modality.THERMAL: "thermal picture",
    Modality.IMU: "motion recording",
}


@dataclass(frozen=True, slots=True)
class Style:
    """Form of printed lines: columns of the terminal, None: no limit; bold and dim; links; words to emphasise."""

    width: int | None
    has_styles: bool
    has_links: bool
    words: frozenset[str] = frozenset()


def print_hits(answer: HitData, *, flat: bool, color: terminal.Color, preview: Preview | None = None) -> None:
    """Print hits, best first, and say so if none stands out; with `flat` all of them, else see `grouped`."""
    hits = answer["hits"]
    if hits and not answer["stands_out"]:
        print_message(f"nothing stands out; the best of {searched_in(answer)} below")
    listed, weak = (hits, {}) if flat else grouped(hits)
    style = Style(terminal.columns(), terminal.has_styles(color), terminal.has_links(), query_words(answer))
    for hit in map(_of_living_file, listed):
        for line in [*hit_lines(hit, style), *([] if preview is None else preview(hit))]:
            terminal.print_codes(line)
    for modality, some in weak.items():
        kind = plural(len(some), NOUNS[Modality(modality)])
        head = f"{'':3}  {_match(some[0])}  +{kind}, best: "
        line = head + _place(some[0], style, len(head))
        terminal.print_codes(terminal.styled(line, terminal.DIM) if style.has_styles else line)
    if n := sum(map(len, weak.values())):
        print_message(f"{n} weak {'match' if n == 1 else 'matches'}: --flat lists {'it' if n == 1 else 'them'}")


def hit_lines(hit: HitData, style: Style) -> list[str]:
    """Return the lines of a hit: match, modality and place, then the passage of a text."""
    n = len(hit["copies"])
    copies = f"  +{n} {'copy' if n == 1 else 'copies'}" if n else ""
    gone = "  (no longer there)" if hit["is_missing"] else ""
    head = f"{hit['rank']:3}  {_match(hit)}  {hit['modality']:8} "
    lines = [head + _place(hit, style, len(head) + len(copies) + len(gone)) + copies + gone]
    if hit["text"]:
        line = visible(" ".join(hit["text"].split()))
        room = SHOWN_TEXT_CHARACTERS if style.width is None else max(style.width - TEXT_INDENT, MIN_PATH_COLUMNS)
        lines.append(" " * TEXT_INDENT + emphasised(terminal.shorten(line, room), style))
    if hit["located"]:
        lines.append(" " * TEXT_INDENT + visible(place_in_words(hit["located"])))
    if style.has_styles and hit["match"] == Match.WEAK:
        return [terminal.styled(line, terminal.DIM) for line in lines]
    return lines


def query_words(answer: HitData) -> frozenset[str]:
    """Return the words of the texts of a query, in lower case."""
    texts = [term["source"] for term in answer["query"]["terms"] if term["modality"] == Modality.TEXT]
    return frozenset(word for text in texts for word in re.findall(r"\w+", text.casefold()))


def emphasised(line: str, style: Style) -> str:
    """Return a line with the words of the query in bold, where styles are printed."""
    words = [word for word in style.words if len(word) >= MIN_EMPHASISED]
    if not style.has_styles or not words:
        return line
    pattern = rf"\b(?:{'|'.join(map(re.escape, sorted(words, key=len, reverse=True)))})\b"
    return re.sub(pattern, lambda found: terminal.styled(found.group(), terminal.BOLD), line, flags=re.IGNORECASE)


def _of_living_file(hit: HitData) -> HitData:
    """Return a hit whose file is gone with a copy that is there in its place."""
    if not hit["is_missing"] or not hit["copies"]:
        return hit
    from bindsearch.results import may_be_there

    there = next((copy for copy in hit["copies"] if may_be_there(Path(copy))), None)
    if there is None:
        return hit
    copies = [copy for copy in (hit["path"], *hit["copies"]) if copy != there]
    return {**hit, "path": there, "copies": copies, "is_missing": False}


def searched_in(answer: HitData) -> str:
    """Return what was searched, such as `1,234 segments`, or by words alone, names and texts."""
    searched = answer["searched"]
    if searched["words_alone"]:
        return f"{searched['fields']:,} names and texts"
    return plural(searched["segments"], "segment")


def grouped(hits: Sequence[HitData]) -> tuple[list[HitData], dict[str, list[HitData]]]:
    """Return the hits to list, and the weak ones by kind, both in their order; all are listed if the first is weak.

    A weak hit of which a part answers is listed.
    """
    if hits and hits[0]["match"] == Match.WEAK:
        return [*hits], {}
    listed: list[HitData] = []
    weak: dict[str, list[HitData]] = {}
    for hit in hits:
        is_listed = hit["match"] != Match.WEAK or has_place(hit["located"])
        (listed if is_listed else weak.setdefault(hit["modality"], [])).append(hit)
    return listed, weak


def _match(hit: HitData) -> str:
    """Return the match as a word and a bar of BAR_CELLS, such as `likely ##...`."""
    filled = round(BAR_CELLS * hit["probability"])
    full, empty = ("█", "░") if can_print("█░") else ("#", ".")
    return f"{hit['match']:6} {full * filled}{empty * (BAR_CELLS - filled)}"


def _place(hit: HitData, style: Style, taken: int) -> str:
    """Return path and place of a hit: the span of a recording, or the line of a text as editors take it.

    On a terminal they fit into its width beside the columns that are `taken`.
    """
    line = "" if hit["line"] is None else f":{hit['line']}"
    span = clock_span(hit["start_s"], hit["end_s"])
    path = terminal.shown_path(hit["path"])
    if style.width is not None:
        room = style.width - taken - terminal.cell_width(line + span)
        path = terminal.shorten_path(path, max(room, MIN_PATH_COLUMNS))
    return (terminal.linked(path, Path(hit["path"])) if style.has_links else path) + line + span
