"""Title, creator, date and place in XMP and IPTC, as photo programs write them; strange packets, which never fail."""

from __future__ import annotations

import random
import struct
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from PIL import Image

from bindsearch.ingest.media.file_tags import read_metadata
from bindsearch.ingest.media.pictures.exif import Described, read_xmp
from bindsearch.types import Metadata, Modality
from helpers.damaged_files import damage

SPACES = (
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    'xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" '
    'xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
)


def packet(inside: str = "", attributes: str = "") -> bytes:
    return (
        f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        f'<rdf:RDF {SPACES}><rdf:Description rdf:about="" {attributes}>{inside}</rdf:Description></rdf:RDF>'
        f'</x:xmpmeta>{" " * 200}<?xpacket end="w"?>'
    ).encode()


LIGHTROOM = packet(
    '<dc:title><rdf:Alt><rdf:li xml:lang="x-default">Hafen im Nebel &amp; Möwen</rdf:li></rdf:Alt></dc:title>'
    "<dc:creator><rdf:Seq><rdf:li>Ana</rdf:li><rdf:li>Bo</rdf:li></rdf:Seq></dc:creator>",
    'exif:GPSLatitude="48,51.462N" exif:GPSLongitude="2,17,42W" xmp:CreateDate="2023-01-01T00:00:00" '
    'photoshop:DateCreated="2024-06-01T14:30:05+02:00"',
)
DIGIKAM = packet(
    "<exif:DateTimeOriginal>2024-06-01T12:30:05</exif:DateTimeOriginal><dc:description><rdf:Alt>"
    '<rdf:li xml:lang="x-default">A boat</rdf:li></rdf:Alt></dc:description>'
)
FOUND = Metadata(datetime(2024, 6, 1, 12, 30, 5), 48.8577, -2.295, title="Hafen im Nebel & Möwen", artist="Ana, Bo")


def facts_of(path: Path) -> Metadata:
    return replace(read_metadata(path, Modality.IMAGE), width_px=None, height_px=None)


@pytest.mark.parametrize("name", ["a.jpg", "a.webp", "a.avif", "a.tif", "a.png"])
def test_xmp_alone_tells_title_creator_date_and_place(tmp_path: Path, name: str) -> None:
    picture = Image.new("RGB", (40, 20))
    if name == "a.tif":
        picture.save(tmp_path / name, tiffinfo={700: LIGHTROOM})
    elif name == "a.png":
        from PIL import PngImagePlugin

        texts = PngImagePlugin.PngInfo()
        texts.add_itxt("XML:com.adobe.xmp", LIGHTROOM.decode())
        picture.save(tmp_path / name, pnginfo=texts)
    else:
        picture.save(tmp_path / name, xmp=LIGHTROOM)
    assert facts_of(tmp_path / name) == FOUND


def test_values_may_be_elements(tmp_path: Path) -> None:
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", xmp=DIGIKAM)
    assert facts_of(tmp_path / "a.jpg") == Metadata(datetime(2024, 6, 1, 12, 30, 5), title="A boat")


def test_exif_precedes_xmp(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E], exif[0x0132] = "By EXIF", "2020:02:02 02:02:02"
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", xmp=LIGHTROOM, exif=exif)
    assert facts_of(tmp_path / "a.jpg") == replace(FOUND, title="By EXIF", taken=datetime(2020, 2, 2, 2, 2, 2))


def iptc(*datasets: tuple[int, bytes]) -> bytes:
    """Return the APP13 segment of datasets of record 2."""
    data = b"".join(struct.pack(">BBBH", 0x1C, 2, number, len(content)) + content for number, content in datasets)
    block = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(data)) + data + bytes(len(data) % 2)
    content = b"Photoshop 3.0\0" + block
    return b"\xff\xed" + struct.pack(">H", 2 + len(content)) + content


def test_iptc_of_a_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (40, 20)).save(path)
    raw = path.read_bytes()
    segment = iptc((5, "Möwen".encode()), (80, b"Ana"), (55, b"20240601"), (60, b"143005+0200"))
    path.write_bytes(raw[:2] + segment + raw[2:])
    assert facts_of(path) == Metadata(datetime(2024, 6, 1, 12, 30, 5), title="Möwen", artist="Ana")


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"<", b"\xff\xfe<\0", LIGHTROOM[: len(LIGHTROOM) // 2], b"<a>" * 10_000, LIGHTROOM * 3_000,
        b'<!DOCTYPE a [<!ENTITY b "cc"><!ENTITY d "&b;&b;">]>' + LIGHTROOM, b'<?xml version="1.0" encoding="foo"?><a/>',
    ],
)  # fmt: skip
def test_strange_packets_tell_nothing(raw: bytes) -> None:
    start = time.monotonic()
    assert read_xmp(raw) == Described()
    assert time.monotonic() - start < 2


def test_damaged_packets_never_fail() -> None:
    rng = random.Random(0)
    for _ in range(300):
        read_xmp(damage(LIGHTROOM, rng))
