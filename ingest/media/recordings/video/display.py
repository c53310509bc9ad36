"""Video streams: choice of one, display of its frames (turned, flipped, square pixels), and their colours as RGB.

Without a tag of the matrix, frames of 720 lines or more are BT.709 and smaller ones BT.601, as in players (FFmpeg's
command takes BT.601 for all).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bindsearch.errors import MediaError
from bindsearch.ingest.media.hdr import HLG, PQ, to_sdr
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.recordings.containers import rotated_tracks, turned_tracks
from bindsearch.media import Note

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
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
    most, size = options.max_pixels, f"{codec.width}x{codec.height}"
    if codec.width * codec.height > most:
        raise MediaError(f"the video is {size} pixels: more than {most} are not decoded (--limit pixels=N)")
    codec.options = {"max_pixels": str(most)}
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


UPRIGHT = (1, 0, 0, 1)
"""The display matrix of frames that are shown as they are coded."""

Matrix = tuple[int, int, int, int]
"""Signs (a, b, c, d) of a display matrix: a pixel at (x, y) is shown at (a x + c y, b x + d y)."""


def display_matrix(frame: Any) -> Matrix:
    """Return the nearest of the eight orientations to a frame's display matrix; `UPRIGHT` if it has none.

    The matrix a b u c d v x y w is that of ISO 14496-12, 8.3.2. FFmpeg gives it for every container, and for the
    display orientation in H.264 and H.265. Its angle alone does not distinguish turned from flipped frames.
    """
    entry = frame.side_data.get("DISPLAYMATRIX")
    if entry is None or len(content := bytes(entry)) < 20:
        return UPRIGHT
    a, b, _, c, d = np.frombuffer(content[:20], "=i4").astype(int).tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        return (0, 1 if b > 0 else -1, 1 if c > 0 else -1, 0)
    return (-1 if a < 0 else 1, 0, 0, -1 if d < 0 else 1)


def is_turned(matrix: Matrix) -> bool:
    """Return whether width and height are swapped."""
    return matrix[0] == 0


def as_displayed(rgb: NDArray[np.uint8], matrix: Matrix) -> NDArray[np.uint8]:
    """Return a frame (height, width, 3) as it is shown: turned and flipped."""
    if matrix == UPRIGHT:
        return rgb
    a, b, c, d = matrix
    shown = rgb.swapaxes(0, 1) if is_turned(matrix) else rgb
    return np.ascontiguousarray(shown[:: b + d, :: a + c])


def in_one_size(frames: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Return frames (height, width, 3) in the size of the largest: scaled, with black bars, as in players."""
    height, width = max((frame.shape[:2] for frame in frames), key=lambda shape: shape[0] * shape[1])
    return [frame if frame.shape[:2] == (height, width) else _boxed(frame, width, height) for frame in frames]


def _boxed(frame: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Return a frame scaled to fit into a size, in the middle of a black one of that size."""
    scale = min(width / frame.shape[1], height / frame.shape[0])
    size = max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale))
    boxed = Image.new("RGB", (width, height))
    scaled = Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR)
    boxed.paste(scaled, ((width - size[0]) // 2, (height - size[1]) // 2))
    return np.array(boxed)


def pixel_ratio(stream: VideoStream) -> float:
    """Return width over height of a pixel; 1 if unknown, implausible or almost 1."""
    value = float(stream.sample_aspect_ratio or 1)
    return value if 0.25 <= value <= 4 and abs(value - 1) > 0.01 else 1.0


def header_size(path: Path, kind: str, stream: VideoStream) -> tuple[int, int]:
    """Return the width and height in pixels of a video as it is shown, by the headers of its container."""
    codec: Any = stream.codec_context  # None if FFmpeg has no decoder
    if codec is None:
        return 0, 0
    return (codec.height, codec.width) if is_turned_by_header(path, kind, stream) else (codec.width, codec.height)


def is_turned_by_header(path: Path, kind: str, stream: VideoStream) -> bool:
    """Return whether the headers of the container say that width and height are swapped."""
    match kind:
        case "mp4" | "m4a":
            return stream.id in rotated_tracks(path)
        case "matroska":
            return stream.container.streams.video.index(stream) in turned_tracks(path)
    return False


_UNSPECIFIED = 2
"""Matrix coefficients of ITU-T H.273, table 4, that are not stated."""

_HD_LINES = 720

_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""FFmpeg's decoders of the transparency in WebM, by codec; its own decoders ignore it."""


def frame_rgb(frame: Any, floor_px: int, ratio: float = 1.0) -> NDArray[np.uint8]:
    """Return a frame as uint8 (height, width, 3): square pixels, as displayed, shorter side at most about `floor_px`.

    `ratio`: width over height of a pixel.
    """
    width, height = frame.width * max(ratio, 1.0), frame.height / min(ratio, 1.0)
    scale = min(1.0, floor_px / min(width, height))
    size = max(1, math.ceil(width * scale)), max(1, math.ceil(height * scale))
    if frame.color_trc in (PQ, HLG):
        rgb = to_sdr(_pixels(frame, size, "rgb48le"), int(frame.color_trc), int(frame.color_primaries))
    elif has_alpha(frame.format.name):
        rgba = _pixels(frame, size, "rgba")
        alpha = rgba[:, :, 3:].astype(np.uint16)
        rgb = ((rgba[:, :, :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)  # straight alpha on white
    else:
        rgb = _pixels(frame, size, "rgb24")
    return as_displayed(rgb, display_matrix(frame))


def packet_decoder(stream: VideoStream) -> Callable[[Packet[VideoStream]], list[Any]]:
    """Return what decodes the packets of a stream, with its transparency."""
    import av

    name = _ALPHA_DECODERS.get(stream.codec_context.name)
    if name is not None and stream.metadata.get("alpha_mode") == "1":
        with suppress(av.FFmpegError):  # not in this build: shown without transparency
            codec: Any = av.CodecContext.create(name, "r")
            codec.extradata = stream.codec_context.extradata
            codec.options = stream.codec_context.options
            return lambda packet: codec.decode(packet if packet.size else None)
    return lambda packet: packet.decode()


@cache
def has_alpha(pixel_format: str) -> bool:
    """Return whether the pixels of one of FFmpeg's formats have transparency."""
    import av

    return any(component.is_alpha for component in av.VideoFormat(pixel_format).components)


def _pixels(frame: Any, size: tuple[int, int], pixel_format: str) -> NDArray[Any]:
    """Return a frame scaled to (width, height) in one of FFmpeg's RGB formats."""
    from av.video.reformatter import Colorspace

    is_hd = frame.colorspace == _UNSPECIFIED and frame.height >= _HD_LINES
    matrix = Colorspace.ITU709 if is_hd else None
    scaled = frame.reformat(width=size[0], height=size[1], format=pixel_format, src_colorspace=matrix, threads=1)
    pixels: NDArray[Any] = scaled.to_ndarray()
    return pixels
