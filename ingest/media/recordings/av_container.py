"""Audio and video containers, opened with PyAV: only requested formats, and no other file."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from bindsearch.errors import MediaError
from bindsearch.ingest.media.kinds import SOUNDS
from bindsearch.ingest.media.recordings.containers import last_segment_end
from bindsearch.ingest.media.sniff import content_start, is_padded, sniff_file

if TYPE_CHECKING:
    from av.container import InputContainer

_DEMUXERS = {
    "mp4": "mov", "m4a": "mov", "matroska": "matroska", "avi": "avi", "ogv": "ogg", "mpegts": "mpegts", "mpeg": "mpeg",
    "mpegvideo": "mpegvideo", "asf": "asf", "flv": "flv", "rm": "rm", "mxf": "mxf", "dv": "dv", "mjpeg": "mjpeg",
    "wav": "wav", "flac": "flac", "ogg": "ogg", "mp3": "mp3", "aac": "aac", "aiff": "aiff", "caf": "caf", "au": "au",
    "w64": "w64", "amr": "amr", "ape": "ape", "wv": "wv", "tta": "tta", "mpc": "mpc", "mpc8": "mpc8", "dsf": "dsf",
    "voc": "voc", "sph": "nistsphere", "ac3": "ac3", "eac3": "eac3", "dts": "dts",
}  # fmt: skip
"""FFmpeg's demuxer for each kind of file. It is set explicitly, because a detected playlist would open other files."""
_PROBED = {demuxer: kind for kind, demuxer in reversed(_DEMUXERS.items())}
"""Kind by demuxer: of several kinds the first."""
_TAGGED = frozenset(("mp3", "aac", "flac"))
"""Kinds whose demuxers read the ID3 tags before them."""
_NO_OTHER_FILES = {"protocol_whitelist": "none"}

_READ_BYTES = 1 << 18


class _Part(io.RawIOBase):
    """A part of an open file, without its name, which FFmpeg would judge by."""

    def __init__(self, file: BinaryIO, start: int, end: int | None = None) -> None:
        self._file, self._start = file, start
        self._end = os.fstat(file.fileno()).st_size if end is None else end
        file.seek(start)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._end - self._file.tell())
        return self._file.read(left if size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = 0) -> int:
        origin = {0: self._start, 1: self._file.tell(), 2: self._end}[whence]
        return self._file.seek(max(self._start, origin + offset)) - self._start


def kind_of(path: Path) -> str | None:
    """Return the kind of a file by `sniff_file`.

    Raises:
        MediaError: the file is empty.
    """
    with path.open("rb") as file:
        kind, head = sniff_file(file, path.suffix)
    if not head:
        raise MediaError("the file is empty")
    return kind


def recording_kind(path: Path) -> str | None:
    """Return the kind of a file that is to be a sound or video; where `sniff_file` does not tell, FFmpeg does.

    Raises:
        MediaError: the file is empty.
    """
    import av

    kind = kind_of(path)
    if kind is not None:
        return kind
    options = {**_NO_OTHER_FILES, "format_whitelist": ",".join(_PROBED)}
    try:
        with path.open("rb") as file, av.open(_Part(file, 0), mode="r", container_options=options) as container:
            return next((_PROBED[name] for name in container.format.name.split(",") if name in _PROBED), None)
    except (av.FFmpegError, ValueError):
        return None


@contextmanager
def open_container(
    path: Path, kind: str, *, probe_bytes: int | None = None, part: tuple[int, int] | None = None
) -> Iterator[InputContainer]:
    """Open the container at `path`, or in its bytes `part`, start and end; it is closed when the block ends.

    The file is passed opened, so that its name is never read as a URL; without zeros and
    tags at its start that the demuxer does not skip. `probe_bytes`: maximum that FFmpeg reads to detect the contents of
    streams; None: FFmpeg's default.
    """
    import av

    options = _NO_OTHER_FILES if probe_bytes is None else {**_NO_OTHER_FILES, "probesize": str(probe_bytes)}
    with path.open("rb") as file:
        head = file.read(32)
        is_skipped = kind in _TAGGED and head[:3] == b"ID3" and not is_padded(file, head)  # by the demuxer
        start = content_start(file, head) if kind in SOUNDS - {"m4a"} and not is_skipped else 0
        file.seek(0)
        source = _Part(file, *(part or (start,))) if part or start else file
        with av.open(
            source,
            mode="r",
            format=_DEMUXERS[kind],
            metadata_errors="ignore",
            buffer_size=_READ_BYTES,
            container_options=options,
        ) as container:
            yield container


def origin_s(container: InputContainer) -> float:
    """Return the time stamp of the container's beginning in seconds, the origin of all times."""
    return 0.0 if container.start_time is None else container.start_time / 1_000_000


def header_length_s(container: InputContainer, kind: str) -> float:
    """Return the length of a recording by its headers in seconds; 0 if they do not state it.

    Matroska states the time stamp of the end (as FFmpeg writes it), which may be hours after the first one.
    """
    length_s = (container.duration or 0) / 1_000_000
    begin_s = origin_s(container) if kind == "matroska" else 0.0
    return length_s - begin_s if 0 < begin_s < length_s else max(0.0, length_s)


def is_cut_short(path: Path, kind: str) -> bool:
    """Return whether a file is shorter than the sizes in it say; for MP4, whose lengths are those of its samples, True.

    Without it, a length in a header that is not reached is merely wrong, as in recordings of live streams.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        match kind:
            case "mp4" | "m4a":
                return True
            case "matroska":
                return last_segment_end(file) > size
            case "avi":
                end = 0
                while end + 12 <= size:
                    file.seek(end)
                    head = file.read(8)
                    if head[:4] != b"RIFF" or head[4:] == bytes(4):  # another chunk, or a size that was never written
                        break
                    end += 8 + int.from_bytes(head[4:], "little")
                return end > size + 1
    return False
