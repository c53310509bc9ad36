"""What is suggested where nothing stands out."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bindsearch as bs
from bindsearch.indexes.words import postings_of
from bindsearch.search.suggestions import _edits
from helpers.command import Run
from helpers.stores import connect


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store of texts about kitchens and dogs; vectors of the null encoder mean nothing."""
    folder = tmp_path_factory.mktemp("media")
    for number in range(30):
        (folder / f"{number}.txt").write_text(f"the kitchen of house {number}, with a window and a table")
    (folder / "IMG_5308.txt").write_text("a straße in the sunshine")
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
        ("Kithcen table", "kitchen table"),
    ],
)
def test_typing_errors_are_found(store: Path, written: str, meant: str) -> None:
    query = bs.make_query(written, words="only")
    with connect(store) as opened:
        answer = opened.answer(query)
    if not answer.hits:
        assert answer.suggestions[0].query == meant
        assert answer.suggestions[0].text == f"did you mean {meant!r}?"
    else:
        assert "table" in written


def test_words_that_occur_and_short_or_far_ones_are_left_alone(store: Path) -> None:
    for written in ("kitchen", "zebra", "tabl", "giraffes"):
        found = texts(store, bs.make_query(written, words="only", min_match=1.0))
        assert [text for text in found if "did you mean" in text] == (
            ["did you mean 'table'?"] if written == "tabl" else []
        )


def test_other_ways_out(store: Path) -> None:
    assert texts(store, bs.make_query("IMG_53", words="only")) == [
        "for names that contain it: --where \"name like '%IMG_53%'\"",
        "search by meaning, too: leave out --words",
    ]
    query = bs.make_query("nothing", to="text", filter=bs.make_filter("item_id = 1"), min_match=1.0, words="off")
    assert texts(store, query) == [
        "the filter leaves 1 segments: widen it, or leave it out",
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


@given(WORDS, WORDS)
def test_edits_are_all_words_one_edit_away(word: str, other: str) -> None:
    assert (other in _edits(word)) == (distance(word, other) == 1)


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
