"""Decoded frames as 8-bit RGB of BT.709: matrix and range of the stream, HDR tone-mapped, transparency on white.

Without a tag of the matrix, frames of 720 lines or more are BT.709 and smaller ones BT.601, as in players (FFmpeg's
command takes BT.601 for all).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.ingest.media.hdr import HLG, PQ, to_sdr
from bindsearch.ingest.media.recordings.video.display import as_displayed, display_matrix

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

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
    name = _ALPHA_DECODERS.get(stream.codec_context.name)
    if name is None or stream.metadata.get("alpha_mode") != "1":
        return lambda packet: packet.decode()
    import av

    try:
        codec: Any = av.CodecContext.create(name, "r")
    except av.FFmpegError:  # not in this build: shown without transparency
        return lambda packet: packet.decode()
    codec.extradata = stream.codec_context.extradata
    codec.options = stream.codec_context.options
    return lambda packet: codec.decode(packet if packet.size else None)


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
