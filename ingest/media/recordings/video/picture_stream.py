"""Choice of the video stream of a container whose frames are the recording's pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bindsearch.errors import MediaError
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.media import Note

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

_IMAGE_CODECS = frozenset({"mjpeg", "png", "gif", "bmp", "tiff", "webp", "jpegls", "jpeg2000"})
"""Codecs of single images: beside a stream of another codec, such a stream is a cover or a thumbnail."""


def picture_stream(container: InputContainer) -> VideoStream | None:
    """Return the main video stream; None if there is none.

    As in FFmpeg's selection, a cover image counts as none, and streams marked as default precede larger ones. Streams
    of one frame, or of an image codec beside another one, are thumbnails and come last.
    """
    return max(_candidates(container), key=_rank, default=None)  # the first of equal ones


def note_streams(container: InputContainer, chosen: VideoStream, note: Note) -> None:
    """Note that a container has other video streams with moving pictures, which are not read."""
    others = [stream for stream in _candidates(container) if stream is not chosen and _is_moving(stream)]
    if others and _is_moving(chosen):
        codec = chosen.codec_context
        size = "" if codec is None else f" ({codec.width}x{codec.height})"
        note(f"{len(others) + 1} video streams: only number {chosen.index}{size} is used")


def prepare(stream: VideoStream, options: DecodeOptions) -> None:
    """Check the size of a video, and set the limits of its decoder."""
    codec = stream.codec_context
    if codec is None:
        raise MediaError("the video codec is unknown")
    if codec.width * codec.height > options.max_pixels:
        raise MediaError(
            f"the video is {codec.width}x{codec.height} pixels: "
            f"more than {options.max_pixels} are not decoded (--limit pixels=N)"
        )
    codec.options = {"max_pixels": str(options.max_pixels)}
    codec.thread_type = "AUTO"
    codec.thread_count = 2


def _candidates(container: InputContainer) -> list[VideoStream]:
    """Return the video streams that are not cover images."""
    streams = container.streams.video
    return [stream for stream in streams if not stream.disposition & stream.disposition.attached_pic]


def _rank(stream: VideoStream) -> tuple[bool, bool, bool, bool, int, int]:
    """Return a stream's rank: can be decoded, several frames, no images, marked as default, larger, more frames."""
    codec = stream.codec_context
    pixels = 0 if codec is None else codec.width * codec.height
    is_default = bool(stream.disposition & stream.disposition.default)
    is_video = codec is not None and codec.name not in _IMAGE_CODECS
    return codec is not None, _is_moving(stream), is_video, is_default, pixels, stream.frames


def _is_moving(stream: VideoStream) -> bool:
    """Return whether a stream has several frames, by its header (Matroska does not state the number)."""
    if stream.frames:
        return stream.frames > 1
    return stream.codec_context is not None and stream.codec_context.name not in _IMAGE_CODECS
