"""Text of documents: Word, OpenDocument, PowerPoint, EPUB, HTML, RTF and notebooks; PDF has its own module.

The text is that which a reader sees, one paragraph after the other; layout, notes on changes and pictures are left out.
Formats of ZIP and XML: ECMA-376 part 1 (docx, pptx), OpenDocument 1.3 part 3, EPUB 3.3 (container, package, spine).
What they unpack is limited, and XML that defines entities is refused: neither needs any.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from html import unescape
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from urllib.parse import unquote
from xml.parsers import expat

from bindsearch.environment import installation_faults
from bindsearch.errors import MediaError
from bindsearch.ingest.media.kinds import extensions_of
from bindsearch.ingest.media.subtitles.cues import Counts, parse_cues
from bindsearch.ingest.media.texts.encoding import decode_text
from bindsearch.media import Note

NOTEBOOK = "ipynb"
_COMPOUND_FILE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""Beginning of Word's and PowerPoint's old formats, and of encrypted new ones (MS-CFB 2.2, MS-OFFCRYPTO 2.2)."""

_BY_NAME: Mapping[str, str] = MappingProxyType(
    {f".{NOTEBOOK}": NOTEBOOK}
    | {extension: kind for kind in ("html", "subtitles") for extension in extensions_of(kind)}
)
"""Kinds that their first bytes do not show, by extension."""

_MAX_MEMBERS = 20_000
_MAX_MARKUP_BYTES = 16 << 20
_SKIPPED = ("script", "style", "noscript", "template", "svg", "math")
_BLOCKS = frozenset(
    {
        *("address", "article", "aside", "blockquote", "body", "br", "caption", "dd", "div", "dl", "dt", "figcaption"),
        *("figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol"),
        *("option", "p", "pre", "section", "table", "td", "th", "title", "tr", "ul"),
    }
)
_TAG = re.compile(r"<(?:(/)?([A-Za-z][A-Za-z0-9]{0,30})|[!?])")
_ALT = re.compile(r"""\balt\s*=\s*(?:"([^"]*)"|'([^']*)')""", re.IGNORECASE)
_MAX_TAG = 4096
_CHARSET = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?([\w.:-]{2,40})""", re.IGNORECASE)

Read = Callable[[str], bytes]
"""Returns a member of a ZIP file."""


def document_kind(path: Path, head: bytes) -> str | None:
    """Return the kind of a document by its first bytes, for HTML and notebooks by its name; None for a plain text."""
    suffix = path.suffix.lower()
    if head.startswith(b"%PDF-"):
        return "pdf"
    if head.startswith(b"{\\rtf"):
        return "rtf"
    if head.startswith((b"PK\x03\x04", _COMPOUND_FILE)) and suffix in _READERS:
        return suffix.lstrip(".")
    return _BY_NAME.get(suffix)


def read_document(path: Path, kind: str, max_bytes: int, encoding: str | None, note: Note) -> str:
    """Return the text of a document of a kind of `document_kind`, besides PDF.

    `max_bytes`: maximum size of its text, with markup and unpacked; `encoding`: that declared for HTML.

    Raises:
        MediaError: damaged, encrypted, too large, without text, or the extra [rtf] is not installed.
    """
    if f".{kind}" in _READERS:
        text = _read_zip(path, _READERS[f".{kind}"], max_bytes)
    else:
        most = min(max_bytes, _MAX_MARKUP_BYTES)
        with path.open("rb") as file:
            raw = file.read(most + 1)
        if len(raw) > most:
            raise MediaError(f"the {kind} document has more than {most} bytes: split it")
        text = {"html": _html_file, "rtf": _rtf, "ipynb": _notebook, "subtitles": _subtitles}[kind](raw, encoding, note)
    text = re.sub(r"[ \t]*\n\s*\n\s*", "\n\n", text).strip()
    if not text:
        raise MediaError("the document contains no text")
    return text


def _read_zip(path: Path, reader: Callable[[Read, list[str]], str], max_bytes: int) -> str:
    """Return the text of a document that is a ZIP file."""
    left = 4 * max_bytes

    def read(name: str) -> bytes:
        nonlocal left
        with archive.open(name) as member:
            raw = member.read(min(left, max_bytes) + 1)
        left -= len(raw)
        if len(raw) > max_bytes or left < 0:
            raise MediaError(f"the document unpacks to more than {max_bytes} bytes (--limit text=N)")
        return raw

    with path.open("rb") as file:
        if file.read(len(_COMPOUND_FILE)) == _COMPOUND_FILE:
            raise MediaError(
                "the document is encrypted, or of an old format: save it in the new one, without a password"
            )
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if len(names) > _MAX_MEMBERS:
                raise MediaError(f"the document has {len(names)} parts: more than {_MAX_MEMBERS} are not read")
            if any(member.flag_bits & 1 for member in archive.infolist()) or "EncryptedPackage" in names:
                raise MediaError("the document is encrypted: save it without a password")
            return reader(read, names)
    except KeyError as error:
        raise MediaError(f"damaged document: {error.args[0]}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise MediaError(f"damaged document: {error}") from error


def _docx(read: Read, names: list[str]) -> str:
    notes = [name for name in ("word/footnotes.xml", "word/endnotes.xml") if name in names]
    return "\n\n".join(_xml_text(read(name), {"t"}, {"p"}) for name in ("word/document.xml", *notes))


def _pptx(read: Read, names: list[str]) -> str:
    slides = [name for name in names if re.fullmatch(r"ppt/slides/slide\d{1,6}\.xml", name)]
    if not slides:
        raise MediaError("the presentation contains no slides")
    slides.sort(key=lambda name: int(re.sub(r"\D", "", name)))
    return "\n\n".join(_xml_text(read(name), {"t"}, {"p"}) for name in slides)


def _odf(read: Read, _: list[str]) -> str:
    return _xml_text(read("content.xml"), {"p", "h"}, {"p", "h"}, skipped={"annotation", "tracked-changes"})


def _epub(read: Read, names: list[str]) -> str:
    """Return the text of the chapters in the order of the spine."""
    roots = _xml_attributes(read("META-INF/container.xml"), "rootfile")
    package = roots[0].get("full-path", "") if roots else ""
    raw = read(package)
    files = {item.get("id"): item.get("href", "") for item in _xml_attributes(raw, "item")}
    folder = PurePosixPath(package).parent
    chapters = (files.get(entry.get("idref")) for entry in _xml_attributes(raw, "itemref"))
    paths = [str(folder / unquote(chapter.partition("#")[0])) for chapter in chapters if chapter]
    return "\n\n".join(html_text(decode_text(read(path)[:_MAX_MARKUP_BYTES])) for path in paths if path in names)


_READERS: Mapping[str, Callable[[Read, list[str]], str]] = MappingProxyType(
    {".docx": _docx, ".pptx": _pptx, ".odt": _odf, ".odp": _odf, ".epub": _epub}
)


def _parse_xml(raw: bytes, start: Callable[[str, dict[str, str]], None], **handlers: Callable[..., None]) -> None:
    """Parse XML by events, with local names; MediaError: it is not well-formed, or defines entities."""
    parser = expat.ParserCreate(namespace_separator=" ")

    def refuse(*_: object) -> None:
        raise MediaError("damaged document: its XML defines entities")

    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = lambda name, attributes: start(name.rpartition(" ")[2], attributes)
    parser.buffer_text = True
    if "end" in handlers:
        parser.EndElementHandler = lambda name: handlers["end"](name.rpartition(" ")[2])
    if "text" in handlers:
        parser.CharacterDataHandler = handlers["text"]
    try:
        parser.Parse(raw, True)
    except expat.ExpatError as error:
        raise MediaError(f"damaged document: its XML is not well-formed ({error})") from error


def _xml_text(raw: bytes, texts: set[str], paragraphs: set[str], skipped: Collection[str] = ()) -> str:
    """Return the characters inside elements `texts`; the end of one of `paragraphs` is a blank line."""
    found: list[str] = []
    inside = {"text": 0, "skipped": 0}

    def start(name: str, _: dict[str, str]) -> None:
        inside["text"] += name in texts
        inside["skipped"] += name in skipped
        if name in ("tab", "br", "line-break", "cr") or (name == "s" and inside["text"]):
            found.append(" " if name in ("tab", "s") else "\n")

    def end(name: str) -> None:
        inside["text"] -= name in texts
        inside["skipped"] -= name in skipped
        if name in paragraphs and not inside["skipped"]:
            found.append("\n\n")

    def text(data: str) -> None:
        if inside["text"] and not inside["skipped"]:
            found.append(data)

    _parse_xml(raw, start, end=end, text=text)
    return "".join(found)


def _xml_attributes(raw: bytes, name: str) -> list[dict[str, str]]:
    """Return the attributes of all elements of a name."""
    found: list[dict[str, str]] = []

    def start(element: str, attributes: dict[str, str]) -> None:
        if element == name:
            found.append(attributes)

    _parse_xml(raw, start)
    return found


def html_text(markup: str) -> str:
    """Return the text of HTML that a browser shows, with line breaks at blocks.

    It goes through the markup once, whatever is in it: Python's parser takes minutes for 100 kB of "<a ".
    """
    found: list[str] = []
    place = 0
    while (start := markup.find("<", place)) >= 0:
        found.append(_shown(markup[place:start]))
        tag = _TAG.match(markup, start)
        if tag is None:
            found.append("<")
            place = start + 1
            continue
        is_comment = markup.startswith("<!--", start)
        end = markup.find("-->" if is_comment else ">", start + 4 * is_comment)
        if end < 0:
            return "".join(found)
        name, closing = (tag[2] or "").lower(), bool(tag[1])
        if name in _BLOCKS:
            found.append("\n" if name in ("br", "td", "th", "li", "tr") else "\n\n")
        if name == "img" and (alternative := _ALT.search(markup[start : min(end, start + _MAX_TAG)])) is not None:
            found.append(f" {_shown(alternative[1] or alternative[2] or '')} ")
        place = end + (3 if is_comment else 1)
        if name in _SKIPPED and not closing and markup[end - 1] != "/":
            closed = re.compile(f"</{name}", re.IGNORECASE).search(markup, place)
            if closed is None:
                return "".join(found)
            place = closed.start()
    return "".join([*found, _shown(markup[place:])])


def _shown(text: str) -> str:
    return re.sub(r"\s+", " ", unescape(text))


def _html_file(raw: bytes, encoding: str | None, note: Note) -> str:
    """Return the text of an HTML file in the encoding that it names, else as texts are decoded."""
    named = _CHARSET.search(raw[:2048])
    name = named[1].decode("ascii", "ignore").lower() if named else "utf-8"
    if encoding is None and name not in ("utf-8", "utf8"):
        try:  # browsers read the names of Latin-1 as Windows-1252 (encoding.spec.whatwg.org, names and labels)
            return html_text(decode_text(raw, "cp1252" if name in ("iso-8859-1", "latin1", "us-ascii") else name))
        except (LookupError, MediaError):
            note(f"it is not in the encoding {name} that it names")
    return html_text(decode_text(raw, encoding, note))


def _rtf(raw: bytes, _encoding: str | None, _note: Note) -> str:
    if find_spec("striprtf") is None:
        raise MediaError("RTF documents need the extra [rtf]: pip install 'bindsearch[rtf]'")
    with installation_faults():
        from striprtf import striprtf
    convert: Callable[..., str] = striprtf.rtf_to_text
    return convert(raw.decode("latin-1"), errors="replace")


def _subtitles(raw: bytes, encoding: str | None, note: Note) -> str:
    """Return the words of subtitles without times and marks, a line for each cue."""
    cues = parse_cues(decode_text(raw, encoding, note), Counts())
    if not cues:
        raise MediaError("subtitles without times, or none")
    return "\n".join(cue.text for cue in cues)


def _notebook(raw: bytes, encoding: str | None, note: Note) -> str:
    """Return the cells of a Jupyter notebook, without their outputs (nbformat 4: `cells`; 3: `worksheets`)."""
    try:
        data = json.loads(decode_text(raw, encoding, note))
    except (ValueError, RecursionError) as error:
        raise MediaError("the notebook is not JSON") from error
    sheets = data.get("worksheets") if isinstance(data, dict) else None
    cells = [data] if isinstance(data, dict) else []
    cells += sheets if isinstance(sheets, list) else []
    return "\n\n".join(text for sheet in cells if isinstance(sheet, dict) for text in _cells(sheet))


def _cells(sheet: Mapping[str, object]) -> Iterator[str]:
    entries = sheet.get("cells")
    for cell in entries if isinstance(entries, list) else ():
        source = cell.get("source", cell.get("input")) if isinstance(cell, dict) else None
        lines = source if isinstance(source, list) else [source]
        yield "".join(line for line in lines if isinstance(line, str))
