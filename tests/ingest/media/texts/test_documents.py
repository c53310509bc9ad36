"""Passages from documents; what is damaged, encrypted or hostile fails alone, in one line."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bindsearch.errors import MediaError
from bindsearch.ingest.inspect.classify import classify
from bindsearch.ingest.inspect.rules import parse_rule
from bindsearch.ingest.media import texts
from bindsearch.ingest.media.decode import describe, pieces
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.ingest.media.texts import documents, pdf
from bindsearch.ingest.media.texts.documents import html_text
from bindsearch.media import DecodeHints
from bindsearch.types import Modality
from helpers.document_files import DOCX, EPUB, HTML, NOTEBOOK, ODT, PPTX, RTF, make_pdf, make_zip
from helpers.stores import connect

HINTS = DecodeHints(picture_side_px=64, frames_per_s=1.0)


def read(path: Path) -> str:
    found = pieces(
        path,
        Modality.TEXT,
        wants=HINTS,
        options=DecodeOptions(),
        sidecar=Sidecar(),
        count_tokens=len,
        max_tokens=10_000,
    )
    return "|".join(piece.text or "" for piece in found)


@pytest.mark.parametrize(
    ("name", "members", "text"),
    [
        ("a.docx", DOCX, "A harbour & café.\n\nA mill."),
        ("a.pptx", PPTX, "Slide 1\n\nSlide 2\n\nSlide 10"),
        ("a.odt", ODT, "Boats\n\nA harbour."),
        ("a.epub", EPUB, "One\n\nA harbour.\n\nA mill."),
    ],
)
def test_documents_that_are_zip_files(tmp_path: Path, name: str, members: dict[str, str], text: str) -> None:
    path = make_zip(tmp_path / name, members)
    assert classify(path, name, []).modality is Modality.TEXT
    assert read(path) == text


@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-1", "utf-16"])
def test_html_in_the_encoding_that_it_names(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.html"
    path.write_bytes(HTML.format(encoding).encode(encoding))
    assert classify(path, "a.html", []).modality is Modality.TEXT
    assert read(path) == 'Häfen\n\nA "harbour"\nof boats and nets\n\na mill'


def test_html_of_another_encoding_than_it_names(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_bytes(HTML.format("utf-8").encode("cp1252"))
    assert "Häfen" in read(path)
    assert "encoding windows-1252 (detected)" in describe(path, Modality.TEXT, Sidecar(), DecodeOptions())


def test_rtf(tmp_path: Path) -> None:
    path = tmp_path / "letter.doc"
    path.write_text(RTF)
    assert read(path) == "A harbour лодка\nA mill."
    assert classify(path.rename(tmp_path / "letter.rtf"), "letter.rtf", []).why == "rtf document"


def test_a_notebook_is_a_text_only_when_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps(NOTEBOOK))
    assert classify(path, "a.ipynb", []).modality is None
    assert classify(path, "a.ipynb", [parse_rule("text=*.ipynb")]).modality is Modality.TEXT
    assert read(path) == "# Boats\nin the harbour\n\ncount = 3"
    (tmp_path / "a.py").write_text("def mill(): pass  # turns")
    assert read(tmp_path / "a.py") == "def mill(): pass  # turns"


def test_pages_of_a_pdf_are_texts_and_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    path = make_pdf(folder / "a.pdf", ["A harbour of boats.", "A mill on a hill."])
    assert classify(path, "a.pdf", []).modality is Modality.TEXT
    assert classify(path.rename(folder / "a"), "a", []).why == "pdf document"
    assert read(folder / "a") == "A harbour of boats.||A mill on a hill.|"
    (folder / "a").rename(path)
    with connect(tmp_path / "store", encoder="null") as store:
        report = store.index(folder)
        assert (report.added, report.segments, report.failures) == (1, 4, [])
        hits = store.search("mill hill", words="only")
        assert [hit.path for hit in hits] == [path]
        assert store.search("boats", to="image")[0].path == path
    note = describe(path, Modality.TEXT, Sidecar(), DecodeOptions())
    assert note == ""


def test_a_scanned_pdf_has_pictures(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).integers(0, 255, (8, 8, 3), np.uint8)
    Image.fromarray(rows).resize((200, 200)).save(tmp_path / "scan.pdf")
    assert read(tmp_path / "scan.pdf") == ""


def test_a_pdf_has_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "MAX_PAGES", 3)
    monkeypatch.setattr(pdf, "MAX_PICTURES", 1)
    path = make_pdf(tmp_path / "a.pdf", [f"page {n}" for n in range(9)])
    notes: list[str] = []
    parts = list(pdf.read_pdf(path, 64, notes.append))
    assert [part for part in parts if isinstance(part, str)] == ["page 0", "page 1", "page 2"]
    assert len(parts) == 4
    assert notes == ["only the first 3 of 9 pages are read", "the first 1 of 9 pages are indexed as pictures, too"]


@pytest.mark.parametrize(
    ("name", "members", "reason"),
    [
        ("a.docx", {"x": "y"}, "damaged document: There is no item named 'word/document.xml'"),
        ("a.docx", {"word/document.xml": "<a><b></a>"}, "damaged document: its XML is not well-formed"),
        (
            "a.docx",
            {"word/document.xml": '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><a>&c;</a>'},
            "damaged document: its XML defines entities",
        ),
        ("a.docx", {"word/document.xml": "<t>" + "x" * (33 << 20) + "</t>"}, "unpacks to more than"),
        ("a.pptx", {"x": "y"}, "the presentation contains no slides"),
        ("a.odt", {"content.xml": "<p> </p>"}, "the document contains no text"),
        ("a.epub", {**EPUB, "META-INF/container.xml": "<c/>"}, "damaged document"),
    ],
)
def test_damaged_and_hostile_documents(tmp_path: Path, name: str, members: dict[str, str], reason: str) -> None:
    with pytest.raises(MediaError, match=reason):
        read(make_zip(tmp_path / name, members))


def test_a_damaged_or_encrypted_pdf(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.4\nno more")
    with pytest.raises(MediaError, match="damaged PDF, or none"):
        read(tmp_path / "a.pdf")


@pytest.mark.parametrize(
    ("module", "name", "content", "extra"),
    [(pdf, "a.pdf", b"%PDF-1.4", "pdf"), (documents, "a.rtf", RTF.encode(), "rtf")],
)
def test_a_missing_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: object, name: str, content: bytes, extra: str
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MediaError, match=rf"need the extra \[{extra}\]: pip install 'bindsearch\[{extra}\]'"):
        read(tmp_path / name)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["docx", "odt", "epub", "pptx", "html", "rtf", "ipynb", "pdf"]), st.randoms())
def test_bytes_changed_anywhere_never_raise_anything_else(
    tmp_path_factory: pytest.TempPathFactory, kind: str, chance: random.Random
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / f"a.{kind}"
    if kind == "pdf":
        make_pdf(path, ["one", "two"])
    elif kind in ("html", "rtf", "ipynb"):
        path.write_text({"html": HTML, "rtf": RTF, "ipynb": json.dumps(NOTEBOOK)}[kind])
    else:
        make_zip(path, {"docx": DOCX, "odt": ODT, "epub": EPUB, "pptx": PPTX}[kind])
    raw = bytearray(path.read_bytes())
    for _ in range(chance.randint(1, 20)):
        raw[chance.randrange(len(raw))] = chance.randrange(256)
    path.write_bytes(raw[: chance.randint(len(raw) // 2, len(raw))])
    try:
        read(path)
    except MediaError as error:
        message = str(error)
        assert "\n" not in message


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("<>/!-ab &;\"'=[]p")))
def test_any_markup_has_a_text(markup: str) -> None:
    html_text(markup)


def test_hostile_markup_takes_no_longer(tmp_path: Path) -> None:
    assert texts.__doc__
    for markup in ("<" * 100_000, "<!--" * 25_000, "<a " * 30_000, "&" * 100_000, "<p>" * 100_000):
        (tmp_path / "a.html").write_text(f"word {markup}")
        assert read(tmp_path / "a.html").startswith("word")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.srt", "1\r\n00:00:01,000 --> 00:00:02,500\r\n<i>Лодки</i> стоят\r\nв гавани.\r\n\r\n2\r\n"
         "00:00:03,000 --> 00:00:04,000\r\n{\\an8}Утро.\r\n"),
        ("a.vtt", "WEBVTT\n\nNOTE no\n\nx1\n00:01.000 --> 00:02.500 align:start\nЛодки стоят\nв гавани.\n\n"
         "00:03.000 --> 00:04.000\nУтро.\n"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "cp1251"])
def test_subtitles_alone_are_texts_without_times(tmp_path: Path, name: str, content: str, encoding: str) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode(encoding))
    assert classify(path, name, []).modality is Modality.TEXT
    assert read(path) == "Лодки стоят в гавани.\nУтро."
    path.write_text("no cues")
    with pytest.raises(MediaError, match="subtitles without times, or none"):
        read(path)


@pytest.mark.parametrize("name", ["a.docx", "a.pptx"])
def test_documents_with_a_password_are_compound_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + b"EncryptedPackage")
    assert classify(path, name, []).modality is Modality.TEXT
    with pytest.raises(MediaError, match="encrypted, or of an old format"):
        read(path)


@pytest.mark.parametrize("name", ["a.html", "a.htm", "a.srt"])
def test_a_zip_under_another_name_is_no_document(tmp_path: Path, name: str) -> None:
    with pytest.raises(MediaError, match="not a text"):
        read(make_zip(tmp_path / name, {"a": "words" * 100}))
