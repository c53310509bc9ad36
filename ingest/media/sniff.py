"""Format of a file by its first bytes, regardless of its name; of sounds and videos also by those behind tags."""

from __future__ import annotations

import re
from typing import BinaryIO

from bindsearch.ingest.media.kinds import RAW_EXTENSIONS, SOUND_EXTENSIONS, extensions_of

RECORDING_STARTS = (
    (b"\x1aE\xdf\xa3", "matroska"),
    (b"fLaC", "flac"),
    (b"ID3", "mp3"),  # unless something else is behind the tag
    (b"caff", "caf"),
    (b".snd", "au"),
    (b"riff\x2e\x91\xcf\x11", "w64"),
    (b"#!AMR\n", "amr"),
    (b"#!AMR-WB\n", "amr"),
    (b"MAC ", "ape"),
    (b"wvpk", "wv"),
    (b"TTA1", "tta"),
    (b"MPCK", "mpc8"),
    (b"MP+", "mpc"),
    (b"DSD \x1c\0\0\0\0\0\0\0", "dsf"),
    (b"Creative Voice File\x1a", "voc"),
    (b"NIST_1A\n", "sph"),
    (b"\x7f\xfe\x80\x01", "dts"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9", "asf"),
    (b"FLV\x01", "flv"),
    (b".RMF\0\0\0", "rm"),
    (b"\0\0\x01\xba", "mpeg"),
    (b"\0\0\x01\xb3", "mpegvideo"),
    (b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02", "mxf"),
    (b"\x1f\x07\0\x3f", "dv"),
    (b"\x1f\x07\0\xbf", "dv"),
)
_RIFF = {b"WAVE": "wav", b"AVI ": "avi", b"RMP3": "mp3"}
_OGG_VIDEO = (b"\x80theora", b"OVP80", b"BBCD\0", b"\x01video")
"""First packets of streams of pictures in Ogg."""

_MOST_TAGS = 16
_MOST_PADDING = 1 << 20
"""Maximum bytes of zeros before a sound."""
_SYNCHRONOUS = {size: re.compile(rb"G(?:..{%d}G){4}" % (size - 2), re.DOTALL) for size in (188, 192, 204)}
"""First packets of a transport stream (ISO 13818-1, 2.4.3.2), by size: alone, with a time stamp, with a checksum."""
_MPEG_1_KBPS = (
    (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
)
_MPEG_2_KBPS = (
    (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
"""Bit rates of layers I, II and III (ISO 11172-3, 2.4.2.3; ISO 13818-3, 2.4.2.3)."""
_MPEG_HZ = (44_100, 48_000, 32_000)
_AC3_KBPS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_AC3_HZ = (48_000, 44_100, 32_000)


def sniff_recording(head: bytes, *, promised: bool) -> str | None:
    """Return the kind of sound or video that begins with `head`; None if it is not recognised.

    `promised`: the name is one of a sound, so that a single header of a frame is enough; else a second must follow.
    """
    for start, kind in RECORDING_STARTS:
        if head.startswith(start):
            return kind
    if head[:4] in (b"RIFF", b"RF64", b"BW64", b"RIFX"):
        return _RIFF.get(head[8:12])
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    if head[:4] == b"OggS":
        return "ogv" if any(start in head[:512] for start in _OGG_VIDEO) else "ogg"
    if _is_transport_stream(head):
        return "mpegts"
    frame = _frame(head)
    if frame is None or not (promised or _frame(head[frame[1] :], frame[0]) is not None):
        return None
    return frame[0]


def content_start(file: BinaryIO, head: bytes) -> int:
    """Return the offset in bytes behind the tags (ID3v2, APE) and zeros that begin a file; `head`: its first bytes."""
    start, left = 0, _MOST_PADDING
    for _ in range(_MOST_TAGS):
        size = tag_size(head)
        if not size and head[:1] == b"\0":
            size = _zeros(file, start, left)
            left -= size
        if not size:
            break
        start += size
        file.seek(start)
        head = file.read(32)
    return start


def is_padded(file: BinaryIO, head: bytes) -> bool:
    """Return whether zeros follow the tag that begins a file; `head`: its first bytes."""
    file.seek(tag_size(head))
    return file.read(1) == b"\0"


def tag_size(head: bytes) -> int:
    """Return the size in bytes of the tag that begins with `head`: ID3v2 (section 3.1 of its texts) or APE; else 0."""
    if head[:3] == b"ID3" and len(head) >= 10 and max(head[6:10]) < 0x80:
        size = 10 + sum(byte << 7 * (3 - place) for place, byte in enumerate(head[6:10]))
        return size + 10 if head[5] & 0x10 else size  # bit 4: a footer
    if head[:8] == b"APETAGEX" and len(head) >= 32:
        return 32 + int.from_bytes(head[12:16], "little")
    return 0


def _zeros(file: BinaryIO, start: int, most: int) -> int:
    """Return the number of zero bytes from `start` on; 0 if there are more than `most`."""
    file.seek(start)
    count = 0
    while count <= most and (block := file.read(1 << 16)):
        rest = block.lstrip(b"\0")
        count += len(block) - len(rest)
        if rest:
            return count if count <= most else 0
    return 0


def _is_transport_stream(head: bytes) -> bool:
    """Return whether packets of a transport stream follow each other: 0x47, no error, and some content."""
    for size, begins in _SYNCHRONOUS.items():
        if (found := begins.search(head, 0, 6 * size)) is not None:
            starts = range(found.start(), len(head) - 3, size)
            if all(head[start] == 0x47 and not head[start + 1] & 0x80 and head[start + 3] & 0x30 for start in starts):
                return True
    return False


def _frame(head: bytes, kind: str | None = None) -> tuple[str, int] | None:
    """Return kind and size in bytes of the frame of MPEG sound, AAC or AC-3 that begins here; None if it is none.

    `kind`: only of this kind.
    """
    if len(head) < 7:
        return None
    found = _ac3_frame(head) if head[:2] == b"\x0bw" else _mpeg_frame(head)
    return found if found is None or kind in (None, found[0]) else None


def _mpeg_frame(head: bytes) -> tuple[str, int] | None:
    """Return the frame of MPEG sound (ISO 11172-3, 2.4.1.3) or AAC (ISO 13818-7, 6.2); its fields are all valid."""
    if head[0] != 0xFF or head[1] & 0xE0 != 0xE0 or head[1] == 0xFE:  # 0xFFFE begins a UTF-16 text
        return None
    if head[1] & 0xF6 == 0xF0:
        size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
        return ("aac", size) if (head[2] >> 2) & 0xF < 13 and size > 7 else None
    version, layer = (head[1] >> 3) & 3, (head[1] >> 1) & 3
    bitrate, rate = head[2] >> 4, (head[2] >> 2) & 3
    if version == 1 or layer == 0 or bitrate in (0, 15) or rate == 3 or head[:3] == b"\xff\xfe\x00":
        return None
    kbps = (_MPEG_1_KBPS if version == 3 else _MPEG_2_KBPS)[3 - layer][bitrate - 1]
    rate_hz = _MPEG_HZ[rate] >> {3: 0, 2: 1, 0: 2}[version]
    padding = (head[2] >> 1) & 1
    if layer == 3:
        return "mp3", (12_000 * kbps // rate_hz + padding) * 4
    samples = 72_000 if layer == 1 and version != 3 else 144_000
    return "mp3", samples * kbps // rate_hz + padding


def _ac3_frame(head: bytes) -> tuple[str, int] | None:
    """Return the frame of AC-3 or E-AC-3 (ETSI TS 102 366, 4.4.1 and E.1.2)."""
    version = head[5] >> 3
    if 10 < version <= 16:
        return "eac3", (((head[2] & 7) << 8 | head[3]) + 1) * 2
    rate, size = head[4] >> 6, head[4] & 0x3F
    if version > 10 or rate == 3 or size >= 2 * len(_AC3_KBPS):
        return None
    words = _AC3_KBPS[size >> 1] * 96_000 // _AC3_HZ[rate] + (size & 1 if rate == 1 else 0)
    return "ac3", words * 2


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
    if (head[:3] == b"ID3" or kind is None) and (start := content_start(file, head)):
        file.seek(start)
        kind = sniff_recording(file.read(len(head)), promised=tag_size(head) > 0) or kind
    return kind, head
