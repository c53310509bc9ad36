"""Cues of subtitles: SubRip, WebVTT, and Advanced SubStation Alpha, told apart by their content.

SubRip has no standard: a cue is a line of two times with an arrow and the lines up to the next empty one. So is it in
WebVTT (w3.org/TR/webvtt1, section 4), where a line with a space is not empty. In SubStation Alpha, the line "Format:"
of the section [Events] names the fields of the lines "Dialogue:"; the text is the last one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from itertools import pairwise
from typing import NamedTuple

MAX_CUES = 50_000
"""Most cues of a file or track: a film has 2,000, a day of speech 30,000."""

SHORTEST_S = 1.0
"""Length in seconds of a cue that ends when it starts, as some programs write them for single words."""

_TIME = r"\s*(-?)(?:(\d{1,4}):)?(\d{1,3}):(\d{1,2})(?:[.,:](\d{1,9}))?\s*"
_TIMES = re.compile(f"{_TIME}-{{1,3}}>{_TIME}(?:\\s.*)?", re.DOTALL)
_ARROW = "-->"
_HEAD = 4096
_TAG = re.compile(r"</?[A-Za-z0-9][^<>\n]{0,200}>")
_STYLE = re.compile(r"\{[^{}\n]{0,4000}\}")
_DRAWING = re.compile(r"\\p[1-9]")
_BREAKS = re.compile(r"\\[Nnh]")
_SCRIPT = "[script info]"
_ROLLING_S = 0.1
"""Greatest pause in seconds between cues that repeat lines: on the screen a line moves up while the next appears."""


class Cue(NamedTuple):
    """A text with its time: start and end in seconds from the beginning of the recording, start < end."""

    start_s: float
    end_s: float
    text: str


@dataclass(slots=True)
class Counts:
    """Numbers of cues: all of them, and those that were left out as damaged or outside of the recording."""

    total: int = 0
    skipped: int = 0


def parse_cues(text: str, counts: Counts) -> list[Cue]:
    """Return the cues of a subtitle file by their times, without marks and without lines that are only repeated.

    Their numbers are added to `counts`.
    """
    is_ass = _ARROW not in text or _SCRIPT in text[:_HEAD].lower()
    return tidy_cues(_ass_cues(text) if is_ass else _arrow_cues(text), counts)


def tidy_cues(found: Iterator[Cue | None], counts: Counts) -> list[Cue]:
    """Return cues by their times, without empty ones and repeated lines; None, and what is behind MAX_CUES, is skipped.

    A cue that begins before the recording begins with it.
    """
    cues: list[Cue] = []
    for cue in found:
        counts.total += 1
        if cue is None or cue.end_s < cue.start_s or cue.end_s < 0 or len(cues) >= MAX_CUES:
            counts.skipped += 1
        elif cue.text:
            start_s = max(0.0, cue.start_s)
            cues.append(Cue(start_s, cue.end_s if cue.end_s > start_s else start_s + SHORTEST_S, cue.text))
    cues.sort(key=lambda cue: cue.start_s)
    return _unrolled(cues)


def plain_text(text: str) -> str:
    """Return the text of a cue without marks of SubRip and WebVTT: a line for each of its lines."""
    without_styles = _STYLE.sub(lambda style: "" if style[0][1:2] == "\\" else style[0], text)  # such as "{\an8}"
    return _shown(unescape(_TAG.sub("", without_styles)))


def ass_text(text: str) -> str:
    """Return the text of a cue of SubStation Alpha; empty for a drawing."""
    if any(_DRAWING.search(style) for style in _STYLE.findall(text)):
        return ""
    return _shown(_BREAKS.sub(lambda mark: " " if mark[0] == "\\h" else "\n", _STYLE.sub("", text)))


def _shown(text: str) -> str:
    """Return the lines of a text that are not blank, with single spaces."""
    lines = (" ".join(line.replace("\0", "").split()) for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def _lines(text: str) -> list[str]:
    """Return the lines of a text; line breaks that were converted twice count once."""
    return text.replace("\r\r\n", "\n").replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _arrow_cues(text: str) -> Iterator[Cue | None]:
    """Yield the cues of SubRip or WebVTT; None for one whose times are damaged."""
    lines = _lines(text)
    starts = [n for n, line in enumerate(lines) if "->" in line and (_ARROW in line or _TIMES.fullmatch(line))]
    for place, following in pairwise([*starts, len(lines) + 1]):
        last = following - 1  # the line before the next cue's times is its number or name, as a rule
        body: list[str] = []
        for line in lines[place + 1 : last]:
            if line:
                body.append(line)
            elif body:  # an empty line behind the times is no end: some programs double all line breaks
                break
        if place < last < len(lines) and lines[last] and len(body) == last - place - 1:
            is_label = lines[last].strip().isdecimal() or not lines[last - 1]  # a number, or a name behind a blank
            body += [] if is_label else [lines[last]]
        yield _cue(lines[place], plain_text("\n".join(body)))


def _cue(times: str, text: str) -> Cue | None:
    """Return the cue of a line of times; None if it is damaged."""
    found = _TIMES.fullmatch(times)
    return None if found is None else Cue(_seconds(*found.groups()[:5]), _seconds(*found.groups()[5:]), text)


def _seconds(sign: str, hours: str | None, minutes: str, seconds: str, fraction: str | None) -> float:
    value = 3600 * int(hours or 0) + 60 * int(minutes) + int(seconds) + float(f"0.{fraction or 0}")
    return -value if sign else value


def _ass_cues(text: str) -> Iterator[Cue | None]:
    """Yield the cues of SubStation Alpha; None for one whose times are damaged."""
    fields = ["layer", "start", "end", "style", "name", "marginl", "marginr", "marginv", "effect", "text"]
    for line in _lines(text):
        key, colon, content = line.partition(":")
        match key.strip().lower():
            case "format" if "text" in content.lower():
                fields = [name.strip().lower() for name in content.split(",")][:64]
            case "dialogue" if colon:
                values = dict(zip(fields, content.split(",", len(fields) - 1), strict=False))
                times = f"{values.get('start', '')}-->{values.get('end', '')}"
                yield _cue(times, ass_text(values.get("text", "")))


def _unrolled(cues: list[Cue]) -> list[Cue]:
    """Return cues without the lines that the cue directly before them has shown, as in captions that roll."""
    kept: list[Cue] = []
    before: list[str] = []
    until_s = 0.0
    for cue in cues:
        lines = cue.text.split("\n")
        new = lines
        if kept and cue.start_s - until_s <= _ROLLING_S:
            most = min(len(before), len(lines), 8)
            repeated = next((n for n in range(most, 0, -1) if before[-n:] == lines[:n]), 0)
            new = lines[repeated:]
        if new:
            kept.append(cue._replace(text=" ".join(new)))
        else:
            kept[-1] = kept[-1]._replace(end_s=max(kept[-1].end_s, cue.end_s))
        before, until_s = lines, max(until_s, cue.end_s)
    return kept
