"""What is suggested where nothing stands out."""

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bindsearch as bs
from bindsearch.indexes.words import postings_of
from bindsearch.search.words.spelling import _edited, near_words
from helpers.command import Run
from helpers.stores import connect


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store of texts about kitchens and dogs; vectors of the null encoder mean nothing."""
    folder = tmp_path_factory.mktemp("media")
    for number in range(30):
        (folder / f"{number}.txt").write_text(f"the kitchen of house {number}, with a window and a table")
    (folder / "IMG_5308.txt").write_text("a straße in the sunshine, a dog, a café, и кошка")
    path = tmp_path_factory.mktemp("store") / "store"
    with connect(path, encoder="null") as opened:
        opened.index(folder)
    return path


def texts(store: Path, query: bs.Query) -> list[str]:
    with connect(store) as opened:
        return [one.text for one in opened.answer(query).suggestions]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("kitchn", "kitchen"),
        ("kitcehn", "kitchen"),
        ("kitchenn", "kitchen"),
        ("bitchen", "kitchen"),
        ("sunshnie", "sunshine"),
        ("sonschine", "sunshine"),  # two errors in a long word
        ("hosue, TABEL!", "house, table!"),
        ("dgo", "dog"),
        ("Strase", "strasse"),
        ("кохка", "кошка"),
    ],
)
def test_typing_errors_are_found(store: Path, written: str, meant: str) -> None:
    with connect(store) as opened:
        best = opened.answer(bs.make_query(written, words="only", min_match=1.0)).suggestions[0]
    assert (best.query, best.text) == (meant, f"did you mean {meant!r}?")


@pytest.mark.parametrize("written", ["kitchen", "zebra", "giraffes", "fog", "Straße", "café", "kitchen 42", "x" * 3000])
def test_words_that_occur_and_short_or_far_ones_are_left_alone(store: Path, written: str) -> None:
    found = texts(store, bs.make_query(written, words="only", min_match=1.0))
    assert not any("did you mean" in text for text in found)


def test_words_of_removed_files_are_not_suggested(tmp_path: Path) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    for word in ("harbour", "orchard"):
        (folder / f"{word}.txt").write_text(f"the {word} in spring")
    query = bs.make_query("harbuor", words="only")
    with connect(tmp_path / "store", encoder="null") as opened:
        opened.index(folder)
        assert "did you mean 'harbour'?" in [one.text for one in opened.answer(query).suggestions]
        (folder / "harbour.txt").unlink()
        opened.index(folder)
        assert "did you mean 'harbour'?" not in [one.text for one in opened.answer(query).suggestions]


def test_a_long_text_of_unknown_words_takes_bounded_time(store: Path) -> None:
    with connect(store) as opened:
        generation = opened.generation()
        started = time.process_time()
        words = [letter * 23 + "q" for letter in "abcdefgh"]
        assert near_words(words, generation.words, generation.snapshot) == {}
    assert time.process_time() - started < 1  # about 0.05 s on a quiet machine


def test_other_ways_out(store: Path) -> None:
    assert texts(store, bs.make_query("IMG_53", words="only")) == [
        "for names that contain it: --where \"name like '%IMG_53%'\"",
        "search by meaning, too: leave out --words",
    ]
    query = bs.make_query("nothing", to="text", filter=bs.make_filter("item_id = 1"), min_match=1.0, words="off")
    assert texts(store, query) == [
        "the filter leaves 1 segment: widen it, or leave it out",
        "no match is good enough: lower --min-match",
        "search all kinds: leave out --to",
    ]


def test_an_answer_that_stands_out_has_none(store: Path) -> None:
    with connect(store) as opened:
        answer = opened.answer(bs.make_query("IMG_5308", words="only"))
    assert answer.stands_out
    assert answer.suggestions == ()


def test_the_command_prints_them(store: Path, bindsearch_command: Run) -> None:
    done = bindsearch_command(["search", "kitchn", "--words", "--store", store])
    assert done.returncode == 1
    assert "try: did you mean 'kitchen'?" in done.stderr


WORDS = st.text("abcde", min_size=1, max_size=6)


@given(st.text("abcde", min_size=4, max_size=6), WORDS)
def test_one_edit_makes_all_words_at_a_distance_of_1(word: str, other: str) -> None:
    assert (other in {*_edited(word, 1)} - {word}) == (distance(word, other) == 1)


@settings(max_examples=20, deadline=None)
@given(st.text("abcdefgh", min_size=8, max_size=10), st.data())
def test_two_edits_find_a_letter_too_many_and_another_error(word: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(word)))
    longer = word[:at] + data.draw(st.sampled_from("abcz")) + word[at:]
    written = data.draw(st.sampled_from(sorted({*_edited(longer, 1)})))
    assert word in {*_edited(written, 2)}


def distance(a: str, b: str) -> int:
    """Return the optimal string alignment distance (Damerau-Levenshtein, restricted), by its recursion."""
    rows = [[max(i, j) if not i or not j else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            rows[i][j] = min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + (a[i - 1] != b[j - 1]))
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                rows[i][j] = min(rows[i][j], rows[i - 2][j - 2] + 1)
    return rows[-1][-1]


@given(st.lists(st.sets(WORDS)), st.lists(WORDS))
def test_counts_are_the_number_of_fields(fields: list[set[str]], asked: list[str]) -> None:
    postings = postings_of(fields)
    assert postings.counts_of(asked).tolist() == [sum(word in field for field in fields) for word in asked]
