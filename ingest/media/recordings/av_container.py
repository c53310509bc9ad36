"""Audio and video containers, opened with PyAV: only requested formats, and no other file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bindsearch.errors import MediaError
from bindsearch.ingest.media.sniff import HEAD_BYTES, sniff

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.stream import Stream

_DEMUXERS = {
    "mp4": "mov", "m4a": "mov", "matroska": "matroska", "avi": "avi", "wav": "wav", "flac": "flac",
    "ogg": "ogg", "mp3": "mp3", "aac": "aac", "aiff": "aiff", "caf": "caf", "au": "au",
}  # fmt: skip
"""FFmpeg's demuxer for each kind of file. It is set explicitly, because a detected playlist would open other files."""

_READ_BYTES = 1 << 18


def kind_of(path: Path) -> str | None:
    """Return the kind of a file by `sniff`.

    Raises:
        MediaError: the file is empty.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        raise MediaError("the file is empty")
    return sniff(head, path.suffix)


@contextmanager
def open_container(path: Path, kind: str, *, probe_bytes: int | None = None) -> Iterator[InputContainer]:
    """Open the container at `path`; it is closed when the block ends.

    The file is passed opened, so that its name is never read as a URL. `probe_bytes`: maximum that FFmpeg reads to
    detect the contents of streams; None: FFmpeg's default.
    """
    import av

    options = {} if probe_bytes is None else {"probesize": str(probe_bytes)}
    with (
        path.open("rb") as file,
        av.open(
            file,
            mode="r",
            format=_DEMUXERS[kind],
            metadata_errors="ignore",
            buffer_size=_READ_BYTES,
            container_options=options,
        ) as container,
    ):
        yield container


def origin_s(container: InputContainer) -> float:
    """Return the time stamp of the container's beginning in seconds, the origin of all times."""
    return 0.0 if container.start_time is None else container.start_time / 1_000_000


def seek_before(container: InputContainer, time_s: float) -> None:
    """Seek to a key frame at or before `time_s` seconds from the beginning."""
    if time_s > 0:
        container.seek(int((time_s + origin_s(container)) * 1_000_000), backward=True, any_frame=False)


def decoded(container: InputContainer, stream: Stream) -> Iterator[Any]:
    """Yield the frames of one stream; a damaged packet is skipped, as in players, unless most packets are damaged.

    Raises:
        MediaError: nothing can be decoded, or more packets fail than succeed.
    """
    import av

    if stream.codec_context is None:
        raise MediaError(f"the {stream.type} codec is unknown")
    bad, good, reason = 0, 0, ""
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except (av.FFmpegError, ValueError) as error:
            bad, reason = bad + 1, str(getattr(error, "strerror", None) or error)
            if bad > 100 + good:
                break
            continue
        good += 1
        yield from frames
    if bad > good:
        raise MediaError(f"{bad} of {bad + good} packets are damaged ({reason})")
