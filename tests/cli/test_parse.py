"""What people type after `search`: words without quotes, files, and flags with values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bindsearch.search.query_encoding import MAX_PASSAGES
from helpers.command import Run


@pytest.fixture
def notes(tmp_path: Path, bindsearch_command: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of notes, which is indexed and is the current folder."""
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "dog.txt").write_text("a dog runs on the beach")
    (folder / "rain.md").write_text("rain on a roof")
    monkeypatch.chdir(folder)
    done = bindsearch_command(["index", ".", "--encoder", "null"])
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(
    ("words", "terms", "note"),
    [
        (["rain", "on", "a", "roof"], [("text", "rain on a roof")], ""),
        (["rain on a", "roof"], [("text", "rain on a roof")], ""),
        (["text:dog.txt"], [("text", "dog.txt")], ""),
        (["text:a", "dog"], [("text", "a dog")], ""),
        (["dog.txt"], [("text", "dog.txt")], "dog.txt is a file, and its content is the query; text:dog.txt"),
        (["like:1"], [("text", "1")], ""),
        (["cat.txt"], [("text", "cat.txt")], "cat.txt is not a file: searching for it as a text"),
        (["cats", "and/or", "dogs"], [("text", "cats and/or dogs")], ""),
        (["time: flies"], [("text", "time: flies")], ""),
    ],
)
def test_words_are_one_text_or_a_file_that_exists(
    notes: Path, bindsearch_command: Run, words: list[str], terms: list[tuple[str, str]], note: str
) -> None:
    for command in ("search", "explain"):
        done = bindsearch_command([command, *words, "--include-query", "--json"])
        assert done.returncode == 0, done.stderr
        assert (note in done.stderr) if note else done.stderr == ""
    done = bindsearch_command(["search", *words, "--include-query", "--json"])
    assert [(term["modality"], term["source"]) for term in json.loads(done.stdout)["query"]["terms"]] == terms


def test_a_file_among_the_words_is_searched_by_its_content(notes: Path, bindsearch_command: Run) -> None:
    by_file = json.loads(bindsearch_command(["search", "dog.txt", "--include-query", "--json"]).stdout)["hits"]
    by_text = json.loads(bindsearch_command(["search", "a dog runs on the beach", "--json"]).stdout)["hits"]
    assert [hit["cosine"] for hit in by_file] == [hit["cosine"] for hit in by_text]
    assert by_file[0]["path"] == str(notes / "dog.txt")
    assert bindsearch_command(["search", "image:none.jpg"]).returncode == 2


def test_a_long_text_file_is_used_in_part_with_a_notice(notes: Path, bindsearch_command: Run) -> None:
    text = "a dog runs on the beach. " * 40 * MAX_PASSAGES
    (notes / "long.txt").write_text(text)
    (notes / "longer.txt").write_text(text + "rain on a roof. " * 9000)
    answers = [bindsearch_command(["search", file, "--json"]) for file in ("long.txt", "longer.txt")]
    assert all(f"only its first {MAX_PASSAGES} passages are used" in done.stderr for done in answers)
    cosines = [[hit["cosine"] for hit in json.loads(done.stdout)["hits"]] for done in answers]
    assert cosines[0] == cosines[1]
    assert "passages" not in bindsearch_command(["search", "dog.txt", "--json"]).stderr


@pytest.mark.parametrize(
    ("arguments", "flag", "value"),
    [
        (["search", "a", "dog", "--json", "true"], "--json", "true"),
        (["search", "--json=false", "a dog"], "--json", "false"),
        (["search", "a dog", "--json", "False", "-k", "3"], "--json", "False"),
        (["search", "a dog", "--include-query=yes"], "--include-query", "yes"),
        (["status", "--failed", "true"], "--failed", "true"),
        (["model", "list", "--json=1"], "--json", "1"),
    ],
)
def test_a_flag_with_a_value_is_one_line(
    notes: Path, bindsearch_command: Run, arguments: list[str], flag: str, value: str
) -> None:
    done = bindsearch_command(arguments)
    message = f"bindsearch: {flag} takes no value, but {value!r} is given: write {flag} alone, or leave it out\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)


def test_words_after_a_flag_are_words(notes: Path, bindsearch_command: Run) -> None:
    for words in (["true", "love"], ["rain"], ["--", "true"]):
        done = bindsearch_command(["search", "--json", *words])
        assert done.returncode == 0, done.stderr
        (term,) = json.loads(done.stdout)["query"]["terms"]
        assert term["source"] == " ".join(word for word in words if word != "--")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serach", "x"], "Did you mean 'search'?"),
        (["search", "x", "--to", "pictrue"], "did you mean 'pictures'"),
        (["search", "x", "--where", "widthpx > 3"], "did you mean 'width_px'?"),
        (["search", "x", "--collection", "note"], "did you mean 'notes'?"),
        (["index", ".", "--modality-rule", "dept=*.png"], "did you mean 'depth'"),
        (["index", ".", "--limit", "pixel=3"], "did you mean 'pixels'?"),
        (["index", ".", "--encoder", "minni"], "did you mean 'mini'?"),
        (["optimize", "--index", "ivpq"], "did you mean 'ivfpq'?"),
    ],
)
def test_near_names_are_suggested(notes: Path, bindsearch_command: Run, arguments: list[str], message: str) -> None:
    done = bindsearch_command(arguments)
    assert done.returncode in (2, 4)
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
