"""Which subtitle files belong to which recording, by their names."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindsearch.ingest.media.subtitles.names import pair_subtitles

FILM = "My.Film (2020).mp4"


@pytest.mark.parametrize(
    "name",
    ["My.Film (2020).srt", "My.Film (2020).mp4.vtt", "My.Film (2020).en.srt", "My.Film (2020).pt-BR.forced.ASS",
     "my.film (2020).EN.SRT", "My.Film (2020).zh-Hans.vtt", "My.Film (2020).mp4.en-orig.vtt",
     "My.Film (2020).English [SDH].srt", "My.Film (2020).es-419.default.ssa"],
)  # fmt: skip
def test_the_stem_with_tags_is_of_the_recording(name: str) -> None:
    assert pair_subtitles([FILM, name, "other.mp4"]).recordings == {name: [FILM]}


@pytest.mark.parametrize(
    "name",
    ["My.Film.srt", "My.Film (2020)-en.srt", "My.Film (2020).s01e02.srt", "My.Film (2020).2.srt", "srt", ".srt",
     "My.Film (2020).a.bb.cc.dd.srt", "My.Film (2020).en.txt", "My.Film (2020)..srt", "My.Film (2020).x.srt"],
)  # fmt: skip
def test_other_names_stay_alone(name: str) -> None:
    assert pair_subtitles([FILM, name]).recordings == {}


def test_the_recording_that_shares_most_of_the_name_counts() -> None:
    names = ["film.mp4", "film.en.mp4", "film.en.srt", "film.srt", "film.de.srt", "film.mp3", "film.txt", "film.png"]
    found = pair_subtitles(names)
    assert found.recordings == {
        "film.en.srt": ["film.en.mp4"],
        "film.srt": ["film.mp4", "film.mp3"],
        "film.de.srt": ["film.mp4", "film.mp3"],
    }
    assert found.of_recording["film.mp4"] == ["film.srt", "film.de.srt"]


def test_composed_and_decomposed_letters_are_the_same() -> None:
    names = ["Löwe.mkv", unicodedata.normalize("NFD", "Löwe.en.srt")]
    assert pair_subtitles(names).recordings == {names[1]: [names[0]]}


@given(
    st.lists(st.text("ab.-é", max_size=8).map(lambda s: s + ".srt") | st.text("ab.é", max_size=5).map("{}.mp4".format))
)
def test_pairs_are_the_same_both_ways(names: list[str]) -> None:
    found = pair_subtitles(names)
    pairs = {(name, recording) for name, recordings in found.recordings.items() for recording in recordings}
    assert pairs == {(name, recording) for recording, texts in found.of_recording.items() for name in texts}
    for name, recording in pairs:
        stem = unicodedata.normalize("NFC", recording.removesuffix(".mp4")).casefold()
        assert unicodedata.normalize("NFC", name).casefold().startswith(stem)


def test_a_long_tag_takes_no_time() -> None:
    name = "film." + "en" + "-" * 200_000 + ".srt"
    assert pair_subtitles(["film.mp4", name]).recordings == {}
