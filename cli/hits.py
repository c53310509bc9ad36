"""Hits as people read them: the match as a word and a bar, and one line for each further kind."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bindsearch.cli.output import can_print, plural, print_line, print_message, span_label
from bindsearch.results import may_be_there, missing_paths
from bindsearch.types import STANDS_OUT, Match, Modality

if TYPE_CHECKING:
    from bindsearch.results import Answer
    from bindsearch.types import Hit

SHOWN_TEXT_CHARACTERS = 80
BAR_CELLS = 5

NOUNS = {
    Modality.TEXT: "text",
    Modality.IMAGE: "picture",
    Modality.VIDEO: "video",
    Modality.AUDIO: "sound",
    Modality.DEPTH: "depth map",
    Modality.THERMAL: "thermal picture",
    Modality.IMU: "motion recording",
}


def print_hits(answer: Answer, *, flat: bool) -> None:
    """Print hits, best first, and say so if none is better than what chance finds.

    Args:
        answer: The answer.
        flat: Whether to list all hits; else see `grouped`.
    """
    if answer.hits and max(hit.probability for hit in answer.hits) < STANDS_OUT:
        print_message(f"nothing stands out; the best of {searched_in(answer)} below")
    listed, others = (answer.hits, {}) if flat else grouped(answer.hits)
    missing = missing_paths(answer.hits)
    for hit in map(partial(_of_living_file, missing=missing), listed):
        copies = f"  +{'1 copy' if len(hit.copies) == 1 else f'{len(hit.copies)} copies'}" if hit.copies else ""
        gone = "  (no longer there)" if hit.path in missing else ""
        print_line(f"{hit.rank:3}  {_match(hit)}  {hit.modality:8} {_place(hit)}{copies}{gone}")
        if hit.text:
            line = " ".join(hit.text.split())
            shown = line if len(line) <= SHOWN_TEXT_CHARACTERS else line[: SHOWN_TEXT_CHARACTERS - 3] + "..."
            print_line(f"{'':29}{shown}")
    for modality, hits in others.items():
        kind = plural(len(hits), NOUNS[modality])
        print_line(f"{'':3}  {_match(hits[0])}  +{kind}, best: {_place(hits[0])}")
    if others:
        print_message("--flat lists all hits, --to those of one kind")


def _of_living_file(hit: Hit, missing: Container[Path]) -> Hit:
    """Return a hit whose file is gone with a copy that is there in its place."""
    if hit.path not in missing or not hit.copies:
        return hit
    there = next(filter(may_be_there, hit.copies), None)
    if there is None:
        return hit
    return replace(hit, path=there, copies=tuple(copy for copy in (hit.path, *hit.copies) if copy != there))


def searched_in(answer: Answer) -> str:
    """Return what was searched, such as `1,234 segments`, or by words alone, names and texts."""
    words = answer.plan.words
    if words is not None and words.alone:
        return f"{words.fields:,} names and texts"
    return plural(sum(step.matching_rows for step in answer.plan.partitions), "segment")


def grouped(hits: Sequence[Hit]) -> tuple[list[Hit], dict[Modality, list[Hit]]]:
    """Return the hits to list, and the others by kind, both best first.

    Listed are all hits of the best one's kind, and those of other kinds that are likely at least; all hits if the best
    one is weak, as then no kind is better than the others.
    """
    if hits and hits[0].match is Match.WEAK:
        return [*hits], {}
    listed: list[Hit] = []
    others: dict[Modality, list[Hit]] = {}
    for hit in hits:
        if hit.modality is hits[0].modality or hit.match is not Match.WEAK:
            listed.append(hit)
        else:
            others.setdefault(hit.modality, []).append(hit)
    return listed, others


def _match(hit: Hit) -> str:
    """Return the match as a word and a bar of BAR_CELLS, such as `likely ##...`."""
    filled = round(BAR_CELLS * hit.probability)
    full, empty = ("█", "░") if can_print("█░") else ("#", ".")
    return f"{hit.match:6} {full * filled}{empty * (BAR_CELLS - filled)}"


def _line(hit: Hit, passage: str) -> int | None:
    """Return the line of a text that a passage starts in; what is declared is looked up only if it is not found."""
    from bindsearch.ingest.media.texts.read import line_of_passage

    line = line_of_passage(hit.path, passage)
    if line is not None or not hit.path.is_file():
        return line
    from bindsearch.ingest.inspect.find_file import declared_encoding

    encoding = declared_encoding(hit.path, hit.collection)
    return None if encoding is None else line_of_passage(hit.path, passage, encoding)


def _place(hit: Hit) -> str:
    """Return path and place of a hit: the span of a recording, or the line of a text as editors take it."""
    line = _line(hit, hit.text) if hit.text is not None and hit.start_s is None else None
    return " ".join(part for part in (f"{hit.path}:{line}" if line else str(hit.path), span_label(hit)) if part)
