"""Format of a file by its first bytes, regardless of its name."""

from __future__ import annotations

from typing import BinaryIO

from bindsearch.ingest.media.kinds import RAW_EXTENSIONS, SOUND_EXTENSIONS, extensions_of
from bindsearch.ingest.media.sniff_recordings import sniff_behind, sniff_recording

HEAD_BYTES = 4096
"""Bytes read to detect the kind of a file: one page, enough for every header checked and a CSV header line."""

_STARTS = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"FUJIFILMCCD-RAW", "raw"),
    (b"IIU\x00", "raw"),  # RW2
    (b"IIRO", "raw"),  # ORF
    (b"IIRS", "raw"),
    (b"MMOR", "raw"),
    (b"\x00MRM", "raw"),
    (b"FOVb", "raw"),  # X3F
    (b"II\x1a\x00\x00\x00HEAPCCDR", "raw"),  # CRW
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"II+\x00", "tiff"),  # BigTIFF
    (b"MM\x00+", "tiff"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "jp2"),
    (b"\xff\x4f\xff\x51", "jp2"),  # a bare codestream
    (b"8BPS\x00\x01", "psd"),
    (b"8BPS\x00\x02", "psd"),  # PSB
    *((f"P{number}{space}".encode(), "pnm") for number in (4, 5, 6) for space in "\n\r "),
    *((f"P{number}\n{first}".encode(), "pnm") for number in (1, 2, 3) for first in "#123456789"),
    (b"\x93NUMPY", "npy"),
    (b"v/1\x01", "exr"),
    (b"Pf\n", "pfm"),
    (b"PF\n", "pfm"),
    (b"Pf\r\n", "pfm"),
    (b"PF\r\n", "pfm"),
    (b"PAR1", "parquet"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
)
_JPEG_VIDEOS = extensions_of("mjpeg")
_MP4_BOXES = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_M4A_BRANDS = (b"M4A ", b"M4B ", b"M4P ")
_AVIF_BRANDS = (b"avif", b"avis")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1", b"mif2")
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)


def sniff(head: bytes, extension: str = "") -> str | None:
    """Return the kind of file that begins with `head` ("jpeg", "mp4", "npy", ...); None if it is not recognised.

    `extension`: of the name, with its dot. It distinguishes a camera's raw image from other TIFF files, a video of
    JPEGs from a picture, and it must promise a sound where the content is a single header of a frame.
    """
    extension = extension.lower()
    for start, kind in _STARTS:
        if head.startswith(start):
            if kind == "jpeg" and extension in _JPEG_VIDEOS:
                return "mjpeg"
            is_raw = kind == "tiff" and (head[8:10] == b"CR" or extension in RAW_EXTENSIONS)
            return "raw" if is_raw else kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp":
        # the major brand tells; for a still image (MIAF) of two possible codecs, the other brands do
        brand = head[8:12]
        if brand in _M4A_BRANDS:
            return "m4a"
        if brand == b"crx ":
            return "raw"
        compatible_brands = {head[i : i + 4] for i in range(16, min(int.from_bytes(head[:4], "big"), len(head)), 4)}
        if brand in _AVIF_BRANDS or (brand in _HEIF_BRANDS and compatible_brands.intersection(_AVIF_BRANDS)):
            return "avif"
        return "heif" if brand in _HEIF_BRANDS else "mp4"
    if head[4:8] in _MP4_BOXES:
        return "mp4"
    if head[:2] == b"BM" and head[6:10] == bytes(4) and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "bmp"
    return sniff_recording(head, promised=extension in SOUND_EXTENSIONS)


def sniff_file(file: BinaryIO, extension: str = "") -> tuple[str | None, bytes]:
    """Return the kind of an open file and its first bytes; tags and padding before a sound are skipped.

    Only `HEAD_BYTES` are read unless there are some.
    """
    head = file.read(HEAD_BYTES)
    kind = sniff(head, extension)
    if head[:3] == b"ID3" or kind is None:
        kind = sniff_behind(file, head) or kind
    return kind, head
