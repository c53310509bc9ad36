"""Hits as people read them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

import bindsearch as bs
from bindsearch.cli.hits.table import Style, grouped, hit_lines, print_hits
from bindsearch.cli.hits.terminal import Color, cell_width, shorten, shorten_path
from bindsearch.cli.output import visible
from bindsearch.types import Modality, match_of
from helpers import vector_store
from helpers.command import Run
from helpers.media_files import write_picture
from helpers.stores import connect


def hit(rank: int, modality: Modality, probability: float, **values: Any) -> dict[str, Any]:
    return {
        "rank": rank,
        "path": f"/m/{rank}",
        "modality": modality.value,
        "match": match_of(probability).value,
        "probability": probability,
        "copies": [],
        "is_missing": False,
        "start_s": None,
        "end_s": None,
        "line": None,
        "text": None,
        "located": None,
        **values,
    }


def test_weak_hits_are_a_line_a_kind() -> None:
    hits = [
        hit(1, Modality.IMAGE, 0.8),
        hit(2, Modality.AUDIO, 0.4),
        hit(3, Modality.TEXT, 0.2),
        hit(4, Modality.IMAGE, 0.1),
        hit(5, Modality.TEXT, 0.05),
        hit(6, Modality.AUDIO, 0.01),
    ]
    listed, others = grouped(hits)
    assert [one["rank"] for one in listed] == [1, 2]
    assert {kind: [one["rank"] for one in some] for kind, some in others.items()} == {
        Modality.TEXT: [3, 5],
        Modality.IMAGE: [4],
        Modality.AUDIO: [6],
    }


def test_weak_hits_of_which_a_part_answers_are_listed() -> None:
    nothing: dict[str, Any] = {"boxes": [], "spans": []}
    hits = [
        hit(1, Modality.IMAGE, 0.8, located=nothing),
        hit(2, Modality.AUDIO, 0.1, located={**nothing, "spans": [{"start_s": 0, "end_s": 1, "relevance": 0.9}]}),
        hit(3, Modality.IMAGE, 0.1, located=nothing),
        hit(4, Modality.IMAGE, 0.1, located={**nothing, "boxes": [{}]}),
        hit(5, Modality.IMAGE, 0.1),
    ]
    listed, others = grouped(hits)
    assert [one["rank"] for one in listed] == [1, 2, 4]
    assert [one["rank"] for one in others[Modality.IMAGE]] == [3, 5]


def test_weak_matches_are_folded_with_their_number(capsys: pytest.CaptureFixture[str]) -> None:
    answer = {
        "query": {"terms": [], "to": ["image"]},
        "stands_out": True,
        "hits": [hit(1, Modality.IMAGE, 0.8), *(hit(rank, Modality.IMAGE, 0.1) for rank in (2, 3))],
    }
    print_hits(answer, flat=False, color=Color.NEVER)
    assert capsys.readouterr() == (
        "  1  strong ████░  image    /m/1\n     weak   ░░░░░  +2 pictures, best: /m/2\n",
        "2 weak matches: --flat lists them\n",
    )
    print_hits(answer, flat=True, color=Color.NEVER)
    out, errors = capsys.readouterr()
    assert (len(out.splitlines()), errors) == (3, "")


def test_one_kind_is_listed_whole() -> None:
    hits = [hit(rank, Modality.TEXT, 0.01) for rank in range(1, 5)]
    assert grouped(hits) == (hits, {})


def test_all_hits_are_listed_if_the_best_is_weak() -> None:
    hits = [hit(1, Modality.TEXT, 0.2), hit(2, Modality.IMAGE, 0.1), hit(3, Modality.AUDIO, 0.05)]
    assert grouped(hits) == (hits, {})


def test_a_line_fits_the_terminal() -> None:
    path = "/m/" + "漢字" * 60 + "/a name with ünïcode.jpg"
    for width in (60, 80, 200):
        one = hit(1, Modality.AUDIO, 0.5, path=path, start_s=5.0, end_s=10.0, copies=["/m/x"])
        (line,) = hit_lines(one, Style(width, has_styles=False, has_links=False))
        assert cell_len(line) <= max(width, 75)
        assert line.endswith(" 0:05-0:10  +1 copy")
        assert ".jpg" in line


def test_words_of_the_query_are_bold_and_weak_matches_dim() -> None:
    style = Style(80, has_styles=True, has_links=True, words=frozenset({"dog", "a", "straße"}))
    strong, weak = (
        hit(1, Modality.TEXT, 0.9, text="A Dog,\nnot dogs: STRASSE"),
        hit(2, Modality.TEXT, 0.1, text="x\x1b[31m"),
    )
    place, passage = hit_lines(strong, style)
    assert passage.strip() == "A \x1b[1mDog\x1b[0m, not dogs: STRASSE"
    assert "\x1b]8;;file:///m/1\x1b\\/m/1\x1b]8;;\x1b\\" in place
    assert all(line.startswith("\x1b[2m") and "\x1b[31m" not in line for line in hit_lines(weak, style))
    (_, dim_passage) = hit_lines(hit(3, Modality.TEXT, 0.1, text="a dog, a cat"), style)
    assert dim_passage.strip().endswith("a \x1b[1mdog\x1b[0m\x1b[2m, a cat\x1b[0m")
    plain = hit_lines(strong, Style(None, has_styles=False, has_links=False, words=frozenset({"dog"})))
    assert not any("\x1b" in line for line in plain)


@given(st.text(), st.integers(20, 100))
def test_shortened_texts_fit(text: str, width: int) -> None:
    text = visible(text)
    assert cell_width(shorten(text, width)) <= width
    assert cell_width(shorten_path(text, width)) <= width


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """Return a folder with texts, a picture with two equal copies, and a store of it beside it."""
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "long.md").write_text("# Title\n\nfirst line\n\nthe words to find\n")
    (folder / "short.txt").write_text("something else")
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for name in ("a.png", "b.png", "c.png"):
        write_picture(folder / name, pixels)
    with connect(tmp_path / "store", encoder="null") as store:
        store.index(folder)
    return folder


def run(bindsearch_command: Run, media: Path, *arguments: str | Path) -> tuple[str, str]:
    done = bindsearch_command(["search", *arguments, "--store", media.parent / "store"])
    assert done.returncode in (0, 1), done.stderr
    return done.stdout, done.stderr


def test_copies_are_one_hit_with_their_number(media: Path, bindsearch_command: Run) -> None:
    arguments: list[str | Path] = ["--like", media / "short.txt", "--to", "image"]
    out, _ = run(bindsearch_command, media, *arguments)
    assert out.splitlines() == [out.strip("\n")]
    assert "a.png  +2 copies" in out
    out, _ = run(bindsearch_command, media, *arguments, "--copies")
    assert [line.rsplit("/")[-1] for line in out.splitlines()] == ["a.png", "b.png", "c.png"]


def test_files_that_are_gone_are_marked(media: Path, bindsearch_command: Run) -> None:
    (media / "short.txt").unlink()
    out, _ = run(bindsearch_command, media, "something else", "--to", "text")
    assert [("(no longer there)" in line) for line in out.splitlines() if "/media/" in line].count(True) == 1


def test_a_copy_that_is_there_stands_for_a_hit_that_is_gone(media: Path, bindsearch_command: Run) -> None:
    (media / "a.png").unlink()
    arguments: list[str | Path] = ["--like", media / "short.txt", "--to", "image"]
    out, _ = run(bindsearch_command, media, *arguments)
    assert "b.png  +2 copies" in out
    assert "no longer there" not in out
    _, errors = run(bindsearch_command, media, *arguments, "--paths")
    assert "note: 1 file of these is no longer there" in errors
    (hit,) = json.loads(run(bindsearch_command, media, *arguments, "--json")[0])["hits"]
    assert hit["is_missing"]


def test_a_file_among_words_is_told_to_be_a_text(media: Path, bindsearch_command: Run) -> None:
    _, errors = run(bindsearch_command, media, str(media / "a.png"), "in", "the", "snow")
    assert f"note: {media / 'a.png'} is searched for as a text" in errors


def test_a_folder_and_a_missing_file_with_spaces_are_no_silent_texts(media: Path, bindsearch_command: Run) -> None:
    folder = media / "My Stuff"
    folder.mkdir()
    done = bindsearch_command(["search", str(folder), "--store", media.parent / "store"])
    assert done.returncode == 2
    assert f"{folder} is a folder: `search WORDS --under '{folder}'` searches what is in it" in done.stderr
    _, errors = run(bindsearch_command, media, str(folder / "IMG_9.JPG"))
    assert f"note: {folder / 'IMG_9.JPG'} is not a file: searching for it as a text" in errors


def test_a_hit_of_a_text_names_its_line(media: Path, bindsearch_command: Run) -> None:
    out, _ = run(bindsearch_command, media, "the words to find", "--to", "text")
    assert "long.md:1" in out  # the passage is the whole file


def test_a_list_by_chance_says_that_nothing_stands_out(tmp_path: Path, bindsearch_command: Run) -> None:
    store = connect(tmp_path / "store", encoder="null")
    vectors = vector_store.gap_vectors(np.random.default_rng(0), {"image": 300, "text": 20})
    vector_store.write_items(store.path, vectors)
    arguments: list[str | Path] = ["search", "--query", "like:301 - like:302", "--to", "image", "--store", store.path]
    done = bindsearch_command(arguments)
    assert done.stderr.startswith("nothing stands out; the best of 300 segments below")
    assert len(done.stdout.splitlines()) == 10
    done = bindsearch_command([*arguments, "--min-match", "strong"])
    assert done.returncode == 1
    assert done.stdout == ""


def test_equal_content_is_first_and_certain(media: Path) -> None:
    with connect(media.parent / "store") as store:
        best = store.search(bs.image(media / "a.png"), include_query=True, k=1)[0]
        assert (best.probability, best.copies) == (1.0, (media / "b.png", media / "c.png"))
