"""Opening audio and video containers with PyAV: only formats that are asked for, and only this one file."""

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
"""FFmpeg's demuxer for a kind of file. Named, so that nothing is probed: a playlist would open other files."""

_READ_BYTES = 1 << 18


def kind_of(path: Path) -> str | None:
    """Return what `sniff` says of the file.

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
    """The container at `path`; closed on leaving. The file is passed open: its name is never read as an address.

    `probe_bytes`: how much FFmpeg may read to find out what its streams hold; None: as much as it likes.
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
    """Time stamp of the container's beginning in seconds: what all times are counted from."""
    return 0.0 if container.start_time is None else container.start_time / 1_000_000


def seek_before(container: InputContainer, time_s: float) -> None:
    """Go to a key frame at or before `time_s` seconds from the beginning."""
    if time_s > 0:
        container.seek(int((time_s + origin_s(container)) * 1_000_000), backward=True, any_frame=False)


def decoded(container: InputContainer, stream: Stream) -> Iterator[Any]:
    """Frames of one stream. A damaged packet is left out, as players do, unless most of the file is damaged.

    Raises:
        MediaError: nothing can be decoded, or more packets fail than succeed.
    """
    import av

    if stream.codec_context is None:
        raise MediaError(f"the {stream.type} codec is not known")
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
