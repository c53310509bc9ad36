"""PDF documents: the text of each page, and the pages as pictures."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from bindsearch.environment import installation_faults
from bindsearch.errors import MediaError
from bindsearch.media import Note, Picture

MAX_PAGES = 2000
"""Pages of which the text is read."""

MAX_PICTURES = 100
"""Pages that are pictures: 20 ms each, and an embedding."""

_LONGEST_SIDE_PX = 2000
_MAX_CHARACTERS = 200_000
"""Maximum characters of a page."""

_PDFIUM = threading.Lock()
"""PDFium is not safe for several threads, not even with several documents (pypdfium2's README)."""


def read_pdf(path: Path, picture_side_px: int, note: Note) -> Iterator[str | Picture]:
    """Yield the text of each page that has any, then its picture.

    `picture_side_px`: least length of a picture's shorter side, in pixels.

    Raises:
        MediaError: the extra [pdf] is not installed, or the file is encrypted, damaged or without pages.
    """
    if find_spec("pypdfium2") is None:
        raise MediaError("PDF documents need the extra [pdf]: pip install 'bindsearch[pdf]'")
    with installation_faults():
        import pypdfium2
    with _PDFIUM:
        try:
            document = pypdfium2.PdfDocument(path)
        except pypdfium2.PdfiumError as error:
            if "password" in str(error).lower():
                raise MediaError("the PDF is encrypted: save it without a password") from error
            raise MediaError("damaged PDF, or none: it cannot be opened") from error
    try:
        count, damaged = len(document), 0
        read = min(count, MAX_PAGES)
        if not count:
            raise MediaError("the PDF has no pages")
        if count > MAX_PAGES:
            note(f"only the first {MAX_PAGES} of {count} pages are read")
        if read > MAX_PICTURES:
            note(f"the first {MAX_PICTURES} of {count} pages are indexed as pictures, too")
        for number in range(read):
            try:
                with _PDFIUM:
                    parts = _page(document, number, picture_side_px)
            except pypdfium2.PdfiumError:
                damaged += 1
                continue
            yield from parts
        if damaged == read:
            raise MediaError("damaged PDF: none of its pages can be read")
        if damaged:
            note(f"{damaged} of {count} pages are damaged and left out")
    finally:
        with _PDFIUM:
            document.close()


def _page(document: Any, number: int, picture_side_px: int) -> list[str | Picture]:
    """Return the text and the picture of a page."""
    with closing(document[number]) as page:
        text_page = page.get_textpage()
        characters = min(text_page.count_chars(), _MAX_CHARACTERS)
        text = text_page.get_text_range(0, characters) if characters > 0 else ""
        text_page.close()
        text = text.replace("\r\n", "\n").replace("\ufffe", "-").replace("\x02", "-").replace("\0", "")
        parts: list[str | Picture] = [text] if text.strip() else []
        if number < MAX_PICTURES:
            width, height = page.get_size()
            if width > 0 and height > 0:
                scale = min(2 * picture_side_px / min(width, height), _LONGEST_SIDE_PX / max(width, height))
                bitmap = page.render(scale=scale, rev_byteorder=True)
                rows = np.array(bitmap.to_numpy()[..., :3], np.uint8)
                bitmap.close()
                parts.append(Picture(np.broadcast_to(rows, (*rows.shape[:2], 3)) if rows.ndim == 3 else rows))
        return parts
