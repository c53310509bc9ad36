"""Opening picture files safely, for images, depth maps and thermal pictures alike."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from PIL import BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin
from PIL.ImageFile import ImageFile

from bindsearch.errors import MediaError
from bindsearch.ingest.media.sniff import HEAD_BYTES, sniff

_READERS: dict[str, Callable[[IO[bytes], str], ImageFile]] = {
    "jpeg": JpegImagePlugin.jpeg_factory,
    "png": PngImagePlugin.PngImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
}
"""Pillow's readers by kind. They are called directly, not through `Image.open`: that warns of large pictures by its own
global limit and tries formats that are never wanted here (EPS, PSD, FITS, ...)."""

_QUIET = ("ignore", None, UserWarning, re.compile(r"PIL\."), 0)


@contextmanager
def open_picture(path: Path, *, max_pixels: int) -> Iterator[ImageFile]:
    """The picture at `path` with its header read and its pixels not; closed on leaving.

    Raises:
        MediaError: the file is empty, no picture, or has more than `max_pixels` pixels.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        if not head:
            raise MediaError("the file is empty")
        kind = sniff(head)
        if kind not in _READERS:
            found = f": it holds {kind}" if kind else ""
            raise MediaError(f"not a JPEG, PNG, WebP, GIF, TIFF or BMP picture{found}")
        _check_webp_size(head, kind, max_pixels)
        file.seek(0)
        _silence_pillow()
        try:
            picture = _READERS[kind](file, "")
        except (SyntaxError, IndexError, TypeError, KeyError, AssertionError) as error:
            raise MediaError(f"damaged {kind.upper()} header ({error or type(error).__name__})") from error
        with picture:
            _check_size(picture.size, max_pixels)
            yield picture


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise MediaError(f"the picture is {width}x{height} pixels")
    if width * height > max_pixels:
        raise MediaError(f"the picture is {width}x{height} pixels: more than {max_pixels} are not decoded")


def _check_webp_size(head: bytes, kind: str, max_pixels: int) -> None:
    """WebP's reader allocates the whole canvas on opening, so its size is read beforehand (VP8X header)."""
    if kind == "webp" and head[12:16] == b"VP8X" and len(head) >= 30:
        width, height = (int.from_bytes(head[i : i + 3], "little") + 1 for i in (24, 27))
        _check_size((width, height), max_pixels)


def _silence_pillow() -> None:
    """Keep Pillow's remarks about odd metadata off stderr, and from being raised where warnings are errors.

    A filter put in once stays; saving and restoring filters around each file would be a race between threads.
    """
    if _QUIET not in warnings.filters:
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
