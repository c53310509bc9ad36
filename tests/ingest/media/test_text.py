from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindsearch.errors import MediaError
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.texts.encoding import decode_text, line_of_passage, read_text
from bindsearch.ingest.media.texts.passages import passages


def count_words(text: str) -> int:
    """Tokens as a word tokenizer with two special tokens counts them; a word has a token every 8 characters."""
    return 2 + sum(-(-len(word) // 8) for word in text.split())


def cut(text: str, max_tokens: int = 12) -> list[str]:
    return list(passages(text, count_words, max_tokens))


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be", "utf-32-be", "cp1252"]
)
def test_encodings_are_told_apart(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes("Ein Käse für das Café.".encode(encoding))
    assert read_text(tmp_path / "a.txt", DecodeOptions()) == "Ein Käse für das Café."


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "the file is empty"),
        (b" \n\t\r\n ", "contains no text"),
        (b"\xef\xbb\xbf", "contains no text"),
        (b"PK\x03\x04\x00\x00", "zero bytes"),
        ("no mark: 黎明时分的港口".encode("utf-16-le")[7:], "zero bytes.*say encoding"),
        (b"\xff\xfea", "not in utf-16-le"),
        (bytes(range(1, 32)) * 5, "control characters"),
    ],
)
def test_what_is_no_text_fails(tmp_path: Path, raw: bytes, reason: str) -> None:
    (tmp_path / "a.txt").write_bytes(raw)
    with pytest.raises(MediaError, match=reason):
        read_text(tmp_path / "a.txt", DecodeOptions())


def test_a_text_beyond_the_limit_fails(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("word " * 100)
    with pytest.raises(MediaError, match=r"500 bytes: more than 100 are not read \(--limit text=N\)"):
        read_text(tmp_path / "a.txt", DecodeOptions(max_text_bytes=100))


def test_one_stray_control_character_is_no_reason_to_fail() -> None:
    assert decode_text(b"page one\x0cpage two\x7f") == "page one\x0cpage two\x7f"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_every_passage_has_the_line_that_it_starts_in(tmp_path: Path, encoding: str, newline: str) -> None:
    lines = [f"Sätze in Zeile {number}, und noch einer. " * (number % 3) for number in range(1, 60)]
    (tmp_path / "a.txt").write_bytes(newline.join(lines).encode(encoding))
    text = read_text(tmp_path / "a.txt", DecodeOptions())
    split = cut(text, 20)
    assert len(split) > 20
    for passage in split:
        line = line_of_passage(tmp_path / "a.txt", passage)
        assert line is not None
        assert lines[line - 1].startswith(passage.split(".")[0])


def test_a_passage_is_found_between_spaces_first(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a cathedral\n\nbobcats\n a cat\n")
    assert line_of_passage(tmp_path / "a.txt", "a cat") == 4
    assert line_of_passage(tmp_path / "a.txt", "cats") == 3
    assert line_of_passage(tmp_path / "a.txt", "") is None


def test_a_passage_that_is_not_in_the_file_has_no_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    assert line_of_passage(path, "a dog") is None
    path.write_text("a dog")
    assert line_of_passage(path, "a dog") == 1
    path.write_text("a cat")
    assert line_of_passage(path, "a dog") is None
    path.write_bytes(b"a dog\0\1")
    assert line_of_passage(path, "a dog") is None
    os.mkfifo(tmp_path / "pipe.txt")
    assert line_of_passage(tmp_path / "pipe.txt", "a dog") is None
    assert line_of_passage(tmp_path, "a dog") is None


def test_a_large_file_is_not_searched_for_a_passage(tmp_path: Path) -> None:
    for size, line in ((DecodeOptions().max_text_bytes, 1), (DecodeOptions().max_text_bytes + 1, None)):
        (tmp_path / "a.txt").write_bytes(b"a dog".ljust(size))
        assert line_of_passage(tmp_path / "a.txt", "a dog") == line


def test_a_short_text_is_one_passage() -> None:
    assert cut("A cat sat. It slept.") == ["A cat sat. It slept."]


def test_passages_end_where_sentences_end() -> None:
    text = 'One two three four. Five six seven! "Eight nine?" Ten eleven twelve thirteen fourteen. Fifteen.'
    assert cut(text) == [
        'One two three four. Five six seven! "Eight nine?"',
        "Ten eleven twelve thirteen fourteen. Fifteen.",
    ]


def test_sentences_end_without_a_space_in_chinese() -> None:
    assert list(passages("猫在睡觉。狗在跑。", lambda text: 2 + len(text), 8)) == ["猫在睡觉。", "狗在跑。"]


def test_blank_lines_and_headings_end_sentences() -> None:
    text = "# Title one two three\nalpha beta gamma delta\n\nepsilon zeta eta theta iota\n- kappa lambda mu\n- nu xi"
    assert cut(text, 11)[0] == "# Title one two three\nalpha beta gamma delta"


def test_a_sentence_too_long_is_cut_at_words() -> None:
    text = " ".join(f"w{i}" for i in range(25))
    assert cut(text) == [" ".join(f"w{i}" for i in part) for part in (range(10), range(10, 20), range(20, 25))]


def test_a_word_too_long_is_cut_at_characters() -> None:
    assert cut("x" * 200) == ["x" * 80, "x" * 80, "x" * 40]


def test_a_huge_word_takes_few_counts() -> None:
    calls = 0

    def counting(text: str) -> int:
        nonlocal calls
        calls += 1
        return count_words(text)

    parts = list(passages("y" * 100_000, counting, 102))
    assert "".join(parts) == "y" * 100_000
    assert calls < 30 * len(parts)


def test_a_tokenizer_that_counts_a_whole_higher_than_its_parts_is_obeyed() -> None:
    def superadditive(text: str) -> int:
        return 2 + int(len(text.split()) ** 1.5)

    parts = list(passages("a. b. c. d. e. f. g. h. i. j.", superadditive, 10))
    assert all(superadditive(part) <= 10 for part in parts)
    assert " ".join(parts) == "a. b. c. d. e. f. g. h. i. j."


def test_a_window_too_short_for_a_character_fails() -> None:
    with pytest.raises(MediaError, match="too short for the character 'a'"):
        cut("abc", 2)


@given(st.text(alphabet=st.sampled_from("ab .!?\n\"'。#-xé\t"), max_size=400), st.integers(3, 20))
def test_nothing_is_lost_and_everything_fits(text: str, max_tokens: int) -> None:
    parts = cut(text, max_tokens)
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert all(count_words(part) <= max_tokens for part in parts)
    assert all(part == part.strip() != "" for part in parts)
