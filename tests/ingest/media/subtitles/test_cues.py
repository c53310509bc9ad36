"""Cues of SubRip, WebVTT and SubStation Alpha: the words and times that were written, whatever else is in the file."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindsearch.ingest.media.subtitles.cues import SHORTEST_S, Counts, Cue, parse_cues
from bindsearch.ingest.media.subtitles.read import LONGEST_S, timed_passages
from helpers.subtitle_files import Line, ass, srt, vtt

FORMATS = {"srt": srt, "vtt": vtt, "ass": ass}
WORDS = st.text("abcdefgh äöü лод 漢字", min_size=1, max_size=30).filter(str.strip)
CENTISECONDS = st.integers(0, 30_000)


def told(text: str) -> list[tuple[float, float, str]]:
    return [(round(cue.start_s, 2), round(cue.end_s, 2), cue.text) for cue in parse_cues(text, Counts())]


@given(
    st.lists(st.tuples(CENTISECONDS, st.integers(1, 900), WORDS), max_size=12),
    st.sampled_from(sorted(FORMATS)),
    st.sampled_from(["\n", "\r\n", "\r", "\r\r\n"]),
)
def test_what_is_written_is_read_in_order(found: list[tuple[int, int, str]], kind: str, newline: str) -> None:
    lines = [(start / 100, (start + length) / 100, f"{n} {text}") for n, (start, length, text) in enumerate(found)]
    expected = sorted(lines, key=lambda line: line[0])
    text = FORMATS[kind](lines).replace("\n", newline)
    assert told(text) == [(s, e, " ".join(words.split())) for s, e, words in expected]


@given(st.text(max_size=300), st.text("0123456789:,.->\n abDialogue:{\\}<", max_size=300))
def test_any_text_gives_cues_with_positive_lengths(anything: str, alike: str) -> None:
    for text in (anything, alike, "00:00:01,000 --> 00:00:02,000\n" + anything):
        counts = Counts()
        cues = parse_cues(text, counts)
        assert all(0 <= cue.start_s < cue.end_s and cue.text for cue in cues)
        assert [cue.start_s for cue in cues] == sorted(cue.start_s for cue in cues)
        assert 0 <= counts.skipped <= counts.total


@pytest.mark.parametrize(
    ("text", "expected", "skipped"),
    [
        ("1\n00:00:01,000 --> 00:00:01,000\nword\n", [(1, 1 + SHORTEST_S, "word")], 0),
        ("1\n-00:00:01,000 --> 00:00:01,000\nearly\n", [(0, 1, "early")], 0),
        ("1\n-00:00:09,000 --> -00:00:01,000\nbefore\n\n2\n00:01.5 --> 00:02\nb\n", [(1.5, 2, "b")], 1),
        ("1\n00:00:05,000 --> 00:00:01,000\nback\n\n2\n00:00:06,0 --> 00:00:07,0\nb\n", [(6, 7, "b")], 1),
        ("1\n00:00:0x,000 --> 00:00:03,000\nbad\n\n2\n00:00:06,000 --> 00:00:07,000\nb\n", [(6, 7, "b")], 1),
        ("00:00:01,000 --> 00:00:02,000\na\n00:00:03,000 --> 00:00:04,000\nb\n", [(1, 2, "a"), (3, 4, "b")], 0),
        ("1\n\n00:00:01,000 --> 00:00:02,000\n\na\n\n2\n\n00:00:03,000 --> 00:00:04,000\n\nb\n",
         [(1, 2, "a"), (3, 4, "b")], 0),
        ("WEBVTT\nKind: captions\n\nSTYLE\n::cue { color: red }\n\nNOTE no cue\n\nx1\n00:01.000 --> 00:02.000 line:0\n"
         "<v Ann>Hi &amp; <00:01.500><c.a>bye</c></v>\n\nNOTE no\nmore\n\n00:03.000 --> 00:04.000\n3 < 4 {no}\n",
         [(1, 2, "Hi & bye"), (3, 4, "3 < 4 {no}")], 0),
        ("1\n00:00:01,000 --> 00:00:02,000 X1:1 X2:2\n{\\an8}<i>a</i>\n- b\n", [(1, 2, "a - b")], 0),
        ("[Script Info]\n[Events]\nFormat: Start, End, Text\nDialogue: 0:00:01.00,0:00:02.00,{\\i1}a, b\\Nc\\hd\n"
         "Comment: 0:00:01.00,0:00:02.00,no\nDialogue: 0:00:03.00,0:00:04.00,{\\p1}m 0 0 l 9 9{\\p0}\n"
         "Dialogue: x,0:00:04.00,no\n", [(1, 2, "a, b c d")], 1),
        # captions of YouTube, which roll: a line of a space is not empty
        ("WEBVTT\n\n00:00.000 --> 00:02.000\n \none<00:01.000><c> two</c>\n\n00:02.000 --> 00:02.010\none two\n \n\n"
         "00:02.010 --> 00:04.000\none two\nthree\n\n00:04.000 --> 00:05.000\nthree\n \n",
         [(0, 2.01, "one two"), (2.01, 5, "three")], 0),
        ("", [], 0),
        ("no cues\n\nat all", [], 0),
    ],
)  # fmt: skip
def test_files_as_they_are_written(text: str, expected: list[Line], skipped: int) -> None:
    counts = Counts()
    assert [(round(c.start_s, 2), round(c.end_s, 2), c.text) for c in parse_cues(text, counts)] == expected
    assert counts.skipped == skipped


@pytest.mark.parametrize(
    "part", ["<", "<a ", "{\\", "-->", "00:00:01,000 --> 00:00:02,000\n", " ", "\r", "&", "Dialogue: ,", "0:0", "\n"]
)
def test_hostile_files_take_no_longer(part: str) -> None:
    text = "00:00:01,000 --> 00:00:02,000\nword " + part * (1_000_000 // len(part))
    started = time.monotonic()
    parse_cues(text, Counts())
    parse_cues(text.replace("-->", "->"), Counts())
    assert time.monotonic() - started < 10


def count_words(text: str) -> int:
    return len(text.split()) + 2


@given(
    st.lists(
        st.tuples(st.integers(0, 600), st.integers(1, 90), st.lists(st.sampled_from("abc"), min_size=1, max_size=30)),
        max_size=20,
    ),
    st.integers(6, 20),
)
def test_passages_fit_and_lose_nothing(found: list[tuple[int, int, list[str]]], most: int) -> None:
    cues = [Cue(start, start + length, " ".join(words)) for start, length, words in sorted(found)]
    parts: Sequence[Cue] = list(timed_passages(cues, count_words, most))
    assert " ".join(part.text for part in parts).split() == " ".join(cue.text for cue in cues).split()
    starts = {cue.start_s for cue in cues}
    for part in parts:
        assert count_words(part.text) <= most
        assert part.start_s in starts
        assert part.end_s - part.start_s <= LONGEST_S or "\n" not in part.text
        lines = part.text.split("\n")
        if len(lines) > 1:
            ends = [cue.end_s for cue in cues if cue.start_s >= part.start_s and cue.text in lines]
            assert part.end_s in ends
