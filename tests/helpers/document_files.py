"""Small documents, written by hand."""

from __future__ import annotations

import zipfile
from pathlib import Path

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
DRAWING = "http://schemas.openxmlformats.org/drawingml/2006/main"
OFFICE = "urn:oasis:names:tc:opendocument:xmlns"
DOCX = {
    "[Content_Types].xml": "<Types/>",
    "word/document.xml": f'<w:document xmlns:w="{WORD}"><w:body><w:p><w:r><w:t>A har</w:t></w:r><w:r><w:t>bour &amp; '
    "café.</w:t></w:r></w:p><w:p><w:r><w:delText>gone</w:delText><w:t>A</w:t><w:tab/><w:t>mill.</w:t></w:r></w:p>"
    "</w:body></w:document>",
}
PPTX = {
    f"ppt/slides/slide{n}.xml": f'<s xmlns:a="{DRAWING}"><a:p><a:r><a:t>Slide {n}</a:t></a:r></a:p></s>'
    for n in (10, 1, 2)
}
ODT = {
    "mimetype": "application/vnd.oasis.opendocument.text",
    "content.xml": f'<o:d xmlns:o="{OFFICE}:office:1.0" xmlns:t="{OFFICE}:text:1.0"><t:h>Boats</t:h><t:p>A'
    "<t:s/><t:span>harbour</t:span><o:annotation><t:p>a note</t:p></o:annotation>.</t:p></o:d>",
}
EPUB = {
    "mimetype": "application/epub+zip",
    "META-INF/container.xml": '<c><rootfiles><rootfile full-path="x/p.opf"/></rootfiles></c>',
    "x/p.opf": '<package><manifest><item id="b" href="two%20b.xhtml"/><item id="a" href="a.xhtml"/></manifest>'
    '<spine><itemref idref="a"/><itemref idref="b"/></spine></package>',
    "x/a.xhtml": "<html><head><title>One</title></head><body><p>A harbour.</p></body></html>",
    "x/two b.xhtml": "<html><body><p>A mill.</p></body></html>",
}
HTML = (
    "<html><head><meta charset='{}'><style>p {{}}</style><script>var x = '<p>no</p>'</script></head>"
    "<body><h1>Häfen</h1><p>A &quot;harbour&quot;<br>of boats <b>and</b> nets</p><img alt='a mill'></body></html>"
)
RTF = r"{\rtf1\ansi\ansicpg1251{\fonttbl\f0 Arial;}\f0 A harbour \'eb\'ee\'e4\'ea\'e0\par A mill.}"
NOTEBOOK = {
    "cells": [
        {"cell_type": "markdown", "source": ["# Boats\n", "in the harbour"]},
        {"cell_type": "code", "source": "count = 3", "outputs": [{"data": {"image/png": "iVBORw0KGgo" * 50}}]},
    ],
    "nbformat": 4,
}


def make_zip(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def make_pdf(path: Path, pages: list[str]) -> Path:
    """Write a PDF with a line of text on each page."""
    objects = ["<</Type/Catalog/Pages 2 0 R>>", "", "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]
    kids = []
    for text in pages:
        stream = f"BT /F 24 Tf 20 100 Td ({text}) Tj ET 20 20 60 30 re f"
        kids.append(f"{len(objects) + 1} 0 R")
        objects.append(
            "<</Type/Page/Parent 2 0 R/MediaBox[0 0 400 200]/Resources<</Font<</F 3 0 R>>>>"
            f"/Contents {len(objects) + 2} 0 R>>"
        )
        objects.append(f"<</Length {len(stream)}>>stream\n{stream}\nendstream")
    objects[1] = f"<</Type/Pages/Count {len(kids)}/Kids[{' '.join(kids)}]>>"
    raw = b"%PDF-1.4\n"
    places = []
    for number, content in enumerate(objects, 1):
        places.append(len(raw))
        raw += f"{number} 0 obj\n{content}\nendobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    end = f"xref\n0 {len(places) + 1}\n0000000000 65535 f \n{table}trailer<</Size {len(places) + 1}/Root 1 0 R>>\n"
    path.write_bytes(raw + f"{end}startxref\n{len(raw)}\n%%EOF".encode())
    return path


DOCUMENTS = {"docx": DOCX, "pptx": PPTX, "odt": ODT, "odp": ODT, "epub": EPUB}
"""Members by the kind of the document."""
