"""Tokens, and postings in memory and in files."""

import random
from pathlib import Path

import numpy as np
import pytest

from bindsearch.errors import IndexDamagedError
from bindsearch.indexes.words import (
    BLOCK_BYTES,
    check_postings,
    open_postings,
    postings_of,
    token_of_name,
    tokens_of,
    tokens_of_path,
    write_postings,
)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("LH 1234", ["lh", "1234"]),
        ("LH1234, gate B7", ["lh", "1234", "gate", "b", "7"]),
        ("Café Zürich", ["cafe", "zurich"]),
        ("Cafe\u0301 ZU\u0308RICH", ["cafe", "zurich"]),
        ("STRASSE Straße", ["strasse", "strasse"]),
        ("ｆｕｌｌ　ｗｉｄｔｈ ①", ["full", "width", "1"]),
        ("東京 Tower", ["東", "京", "tower"]),
        ("under_score-dash.dot", ["under", "score", "dash", "dot"]),
        ("!?", []),
    ],
)
def test_a_text_is_folded_and_split(text: str, tokens: list[str]) -> None:
    assert tokens_of(text) == tokens


def test_a_path_has_the_words_of_camel_case_and_the_name() -> None:
    tokens = tokens_of_path("Fotos 2019/MyHTMLPage2.tar.gz")
    assert {"fotos", "2019", "my", "html", "page", "2", "tar", "gz", "myhtmlpage"} < tokens
    assert token_of_name("myhtmlpage2.TAR.gz") in tokens
    assert token_of_name("MyHTMLPage2.tar") in tokens
    assert token_of_name("MyHTMLPage2") not in tokens


def random_fields(n: int) -> list[set[str]]:
    chance = random.Random(1)
    return [{f"t{int(chance.paretovariate(0.5)) % 3000}" for _ in range(chance.randrange(12))} for _ in range(n)]


@pytest.mark.parametrize("run_pairs", [50, 1000, 10**9])
def test_a_file_holds_what_the_fields_contain(tmp_path: Path, run_pairs: int) -> None:
    fields = random_fields(2000)
    write_postings(tmp_path / "1.words", "source", fields, run_pairs=run_pairs)
    opened, memory = open_postings(tmp_path / "1.words", "source"), postings_of(fields)
    assert opened is not None
    for token in ("t1", "t2", "t17", "t2999", "never"):
        expected = [number for number, tokens in enumerate(fields) if token in tokens]
        assert opened.find(token).tolist() == memory.find(token).tolist() == expected
    numbers = np.arange(2000)
    assert opened.lengths_of(numbers).tolist() == memory.lengths_of(numbers).tolist() == [len(one) for one in fields]
    assert opened.used == memory.used == sum(bool(one) for one in fields)
    assert [path.name for path in tmp_path.iterdir()] == ["1.words"]


def test_no_fields_make_a_file_too(tmp_path: Path) -> None:
    write_postings(tmp_path / "1.words", "source", [])
    opened = open_postings(tmp_path / "1.words", "source")
    assert opened is not None
    assert opened.find("any").tolist() == []


def test_a_missing_file_or_one_of_another_source_is_none(tmp_path: Path) -> None:
    write_postings(tmp_path / "1.words", "source", [{"a"}])
    assert open_postings(tmp_path / "2.words", "source") is None
    assert open_postings(tmp_path / "1.words", "another") is None


def test_every_changed_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "1.words"
    write_postings(path, "source", random_fields(300))
    content = path.read_bytes()
    for place in range(0, len(content), max(1, len(content) // 400)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(IndexDamagedError, match="bindsearch optimize"):
            check_postings(path, "source")
    path.write_bytes(content)
    assert check_postings(path, "source")


@pytest.mark.parametrize("kept", [0, 1, 8, 100])
def test_a_truncated_file_is_damaged(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "1.words"
    write_postings(path, "source", random_fields(300))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(IndexDamagedError):
        open_postings(path, "source")


def test_damage_of_one_block_is_found_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "1.words"
    tokens = [f"t{number}" for number in range(BLOCK_BYTES)]
    write_postings(path, "source", ({token} for token in tokens))
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    opened = open_postings(path, "source")
    assert opened is not None
    outcomes = set()
    for token in tokens[:200]:
        try:
            outcomes.add(len(opened.find(token)))
        except IndexDamagedError:
            outcomes.add(-1)
    assert outcomes == {1, -1}
