"""Format of a file by its first bytes, regardless of its name."""

from __future__ import annotations

HEAD_BYTES = 4096
"""Bytes read to detect the kind of a file: one page, enough for every header checked and a CSV header line."""

PICTURES = frozenset({"jpeg", "png", "webp", "gif", "tiff", "bmp", "heif", "avif", "raw"})
ANIMATIONS = frozenset({"gif", "webp", "png"})
"""Kinds of image that may contain several frames with times."""
SOUNDS = frozenset({"wav", "flac", "ogg", "mp3", "aac", "m4a", "aiff", "caf", "au"})
VIDEOS = frozenset({"mp4", "matroska", "avi"})

RAW_EXTENSIONS = frozenset(
    f".{name}"
    for name in (
        "3fr", "arw", "cr2", "cr3", "crw", "dcr", "dng", "erf", "iiq", "kdc", "mef", "mrw", "nef", "nrw", "orf", "pef",
        "raf", "rw2", "rwl", "sr2", "srf", "srw", "x3f",
    )
)  # fmt: skip
"""Extensions of cameras' raw images; most are TIFF files that differ from other images by their name only."""

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
    (b"\x93NUMPY", "npy"),
    (b"v/1\x01", "exr"),
    (b"Pf\n", "pfm"),
    (b"PF\n", "pfm"),
    (b"Pf\r\n", "pfm"),
    (b"PF\r\n", "pfm"),
    (b"PAR1", "parquet"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\x1aE\xdf\xa3", "matroska"),
    (b"fLaC", "flac"),
    (b"OggS", "ogg"),
    (b"ID3", "mp3"),
    (b"caff", "caf"),
    (b".snd", "au"),
)
_RIFF = {b"WAVE": "wav", b"AVI ": "avi", b"WEBP": "webp"}
_MP4_BOXES = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_M4A_BRANDS = (b"M4A ", b"M4B ", b"M4P ")
_AVIF_BRANDS = (b"avif", b"avis")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1", b"mif2")
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)


def sniff(head: bytes, extension: str = "") -> str | None:
    """Return the kind of file that begins with `head` ("jpeg", "mp4", "npy", ...); None if it is not recognised.

    `extension`: of the name, with its dot; it distinguishes a camera's raw image from other TIFF files.
    """
    for start, kind in _STARTS:
        if head.startswith(start):
            is_raw = kind == "tiff" and (head[8:10] == b"CR" or extension.lower() in RAW_EXTENSIONS)
            return "raw" if is_raw else kind
    if head[:4] in (b"RIFF", b"RF64"):
        return _RIFF.get(head[8:12])
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    if head[4:8] == b"ftyp":
        return _iso_media(head)
    if head[4:8] in _MP4_BOXES:
        return "mp4"
    if head[:2] == b"BM" and head[6:10] == bytes(4) and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "bmp"
    return _mpeg_audio(head)


def _iso_media(head: bytes) -> str:
    """Return the kind by the major brand; for a still image (MIAF) of two possible codecs, by the other brands."""
    brand = head[8:12]
    if brand in _M4A_BRANDS:
        return "m4a"
    if brand == b"crx ":
        return "raw"
    compatible_brands = {head[i : i + 4] for i in range(16, min(int.from_bytes(head[:4], "big"), len(head)), 4)}
    if brand in _AVIF_BRANDS or (brand in _HEIF_BRANDS and compatible_brands.intersection(_AVIF_BRANDS)):
        return "avif"
    return "heif" if brand in _HEIF_BRANDS else "mp4"


def _mpeg_audio(head: bytes) -> str | None:
    """Recognise MPEG audio without a tag: a frame header whose fields are all valid (ISO 11172-3, 13818-7)."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0 or head[1] == 0xFE:  # 0xFFFE begins a UTF-16 text
        return None
    if head[1] & 0xF6 == 0xF0:
        return "aac" if (head[2] >> 2) & 0xF < 13 else None
    version, layer = (head[1] >> 3) & 3, (head[1] >> 1) & 3
    bitrate, rate = head[2] >> 4, (head[2] >> 2) & 3
    if version != 1 and layer != 0 and bitrate not in (0, 15) and rate != 3:
        return None if head[:3] == b"\xff\xfe\x00" else "mp3"
    return None
