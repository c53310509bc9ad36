"""Encodings of texts: which are read, which are refused, and that hardly any is read wrongly."""

from __future__ import annotations

import json
import random
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bindsearch.errors import MediaError, UsageError
from bindsearch.ingest.inspect.find_file import declared_encoding
from bindsearch.ingest.media.decode import describe
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.ingest.media.sidecar_file import parse_sidecar
from bindsearch.ingest.media.texts.encoding import decode_text, line_of_passage
from bindsearch.types import Modality
from helpers.sentences import PAIRS, TEXTS
from helpers.stores import connect

RUSSIAN = "Лодки стоят в гавани на рассвете."


def parts(language: str, encoding: str, length: int, count: int) -> list[str]:
    """Return texts of about `length` characters that begin with a word, in what the encoding can say."""
    text = TEXTS[language].encode(encoding, "ignore").decode(encoding)
    spaces = [place + 1 for place, letter in enumerate(text) if letter in " 。，"]
    starts = [0, *spaces[:: max(1, len(spaces) // count)]][:count]
    repeated = f"{text}\n" * (2 + length // len(text))
    return [repeated[start : start + length] for start in starts]


def outcome(raw: bytes, text: str) -> str:
    try:
        return "right" if decode_text(raw) == text else "wrong"
    except MediaError:
        return "refused"


@pytest.mark.parametrize(
    ("length", "most_wrong", "most_refused"), [(40, 0.01, 0.25), (200, 0.0, 0.08), (2000, 0.0, 0.01)]
)
def test_hardly_any_text_is_read_wrongly(length: int, most_wrong: float, most_refused: float) -> None:
    counts: Counter[str] = Counter()
    for language, encoding in PAIRS:
        for text in parts(language, encoding, length, 4):
            if not text.isascii():
                counts[outcome(text.encode(encoding), text)] += 1
    assert counts["wrong"] <= most_wrong * counts.total()
    assert counts["refused"] <= most_refused * counts.total()


@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.parametrize("length", [8, 40, 500])
def test_utf_8_is_never_taken_for_another_encoding(language: str, length: int) -> None:
    for text in parts(language, "utf-8", length, 6):
        notes: list[str] = []
        assert decode_text(text.encode(), None, notes.append) == text
        assert notes == []
        if not text[:-1].isascii():
            cut = decode_text(text.encode()[:-1], None, notes.append)
            assert cut == text[:-1] + "\ufffd" * (not text[-1].isascii())


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(TEXTS)), st.integers(1, 5), st.randoms(use_true_random=False))
def test_isolated_bad_bytes_leave_the_rest(language: str, bad: int, chance: random.Random) -> None:
    words = (TEXTS[language] + " voilà, à demain").split(" ")
    places = sorted(chance.sample(range(len(words)), min(bad, len(words))), reverse=True)
    raw = [word.encode() for word in words]
    for place in places:
        raw.insert(place, bytes([chance.choice([0xE9, 0xFC, 0x93, 0xFF])]))
        words.insert(place, "\ufffd")
    notes: list[str] = []
    assert decode_text(b" ".join(raw), None, notes.append) == " ".join(words)
    assert notes == [f"{len(places)} bytes are not UTF-8, as the rest is: each is replaced by a sign"]


def test_a_latin_1_byte_in_a_text_of_utf_8() -> None:
    raw = "Line one café.\n".encode() + b"Line two caf\xe9.\n"
    assert decode_text(raw) == "Line one café.\nLine two caf\ufffd.\n"


@pytest.mark.parametrize(
    "text",
    [
        "café",
        "naïve – but “nice”",
        "It’s £5.",
        "Größe: 10 °C",
        "El Niño",
        "© 2020 Café Müller",
        "ça va",
        "für Öl",
        "50 €",
    ],
)
def test_short_western_texts_are_windows_1252(text: str) -> None:
    assert decode_text(text.encode("cp1252")) == text


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8-r"),
        ("黎明时分的港口，船只停靠在码头。", "gbk"),
        ("夜明けの港に船が並んでいる。", "iso2022_jp"),
    ],
)
def test_short_texts_of_other_scripts(text: str, encoding: str) -> None:
    notes: list[str] = []
    assert decode_text(text.encode(encoding), None, notes.append) == text
    assert notes[0].endswith("(detected): convert the file to UTF-8, or say encoding, to be sure")


def test_what_is_unclear_is_refused_with_the_way_out() -> None:
    with pytest.raises(MediaError, match=r"^encoding unclear \(.+ or .+\): say encoding in the sidecar <file>\.json"):
        decode_text("Großmutter verkaufte Äpfel".encode("mac-roman"))


def test_a_large_text_is_detected_by_its_telling_lines() -> None:
    text = "plain line\n" * 50_000 + RUSSIAN + "\n" + "plain line\n" * 50_000
    assert decode_text(text.encode("koi8-r")) == text


def test_a_few_bytes_that_are_not_valid_are_replaced() -> None:
    raw = (TEXTS["ja"] * 4).encode("shift_jis")
    notes: list[str] = []
    assert decode_text(raw + b"\xff\n", "shift_jis", notes.append).endswith("\ufffd\n")
    assert notes == ["1 bytes are not valid in shift-jis: each is replaced by a sign"]
    with pytest.raises(MediaError, match=r"the text is not in utf-8: \d+ of its bytes are not valid"):
        decode_text(TEXTS["ru"].encode("koi8-r"), "utf-8")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_bad_byte_behind_a_byte_order_mark_is_replaced(encoding: str) -> None:
    notes: list[str] = []
    raw = TEXTS["ru"].encode(encoding)
    assert decode_text(raw + b"\xff", None, notes.append) == TEXTS["ru"] + "\ufffd"
    assert len(notes) == 1
    said = f"{TEXTS['ru']}\ufffd"
    assert decode_text(said.encode(encoding), None, notes.append) == said
    assert len(notes) == 1


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_text_or_refused(raw: bytes) -> None:
    with suppress(MediaError):
        decode_text(raw).encode()


@pytest.mark.parametrize("name", ["windows-1251", "CP1251", "cp1251"])
def test_an_encoding_has_all_names_that_python_knows(name: str) -> None:
    assert parse_sidecar(json.dumps({"encoding": name}).encode()).encoding == "cp1251"


@pytest.mark.parametrize("name", ["klingon", "base64", "rot13", "unicode_escape", "utf-7", "idna", "a\0b", ""])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(MediaError, match="encoding is"):
        parse_sidecar(json.dumps({"encoding": name}).encode())


def test_an_encoding_is_declared_by_a_sidecar_a_glob_or_a_list(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    for name in ("a", "b", "c"):
        (folder / name).mkdir(parents=True)
        (folder / name / "x.txt").write_bytes(f"{name} große Äpfel".encode("mac-roman"))
    (folder / "a" / "x.txt.json").write_text('{"encoding": "macintosh"}')
    (folder / ".bindsearch.toml").write_text('[facts."b/*.txt"]\nencoding = "mac-roman"\n')
    (folder / "list.csv").write_text("path,encoding\nc/x.txt,mac_roman\n")
    with connect(tmp_path / "store", encoder="null") as store:
        report = store.index(folder)
        assert (report.added, report.failures) == (3, [])
        assert {hit.path.parent.name for hit in store.search("große Äpfel", words="only")} == {"a", "b", "c"}
        (folder / ".bindsearch.toml").write_text('[facts."b/*.txt"]\nencoding = "latin-1"\n')
        assert store.index(folder).changed == 1
    for name, encoding in (("a", "mac-roman"), ("b", "iso8859-1"), ("c", "mac-roman")):
        assert declared_encoding(folder / name / "x.txt", folder) == encoding
    assert line_of_passage(folder / "a" / "x.txt", "a große Äpfel", "mac-roman") == 1
    (folder / ".bindsearch.toml").write_text('[facts."b/*.txt"]\nencoding = "klingon"\n')
    with (
        pytest.raises(UsageError, match="encoding is klingon: expected an encoding such as windows-1251"),
        connect(tmp_path / "store", encoder="null") as store,
    ):
        store.index(folder)


def test_a_dry_run_tells_a_detected_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for text, note in (
        (RUSSIAN.encode("koi8-r"), "encoding koi8-r (detected)"),
        ("große Äpfel".encode("mac-roman"), "would fail: encoding unclear ("),
        (RUSSIAN.encode(), ""),
    ):
        path.write_bytes(text)
        found = describe(path, Modality.TEXT, Sidecar(), DecodeOptions())
        assert found.startswith(note)
        assert bool(found) == bool(note)
