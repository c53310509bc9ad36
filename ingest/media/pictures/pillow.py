"""Safe opening of image files, shared by images, depth maps and thermal images."""

from __future__ import annotations

import io
import os
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    PsdImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from bindsearch.environment import installation_faults
from bindsearch.errors import MediaError
from bindsearch.ingest.media.kinds import PICTURES, one_of
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.exif import RAW_ORIENTATION
from bindsearch.ingest.media.pictures.formats import cicp
from bindsearch.ingest.media.pictures.formats.damaged import missing_bytes, refusal
from bindsearch.ingest.media.pictures.formats.tiff import TiffPicture, check_compression, open_tiff
from bindsearch.ingest.media.pictures.frame_count import gif_frames
from bindsearch.ingest.media.sniff import HEAD_BYTES, sniff

_ORIENTATION_OF = {0: 1, 3: 3, 5: 8, 6: 6}
"""EXIF orientation of LibRaw's `flip` (libraw_image_sizes_t: 3 half a turn, 5 to the left, 6 to the right)."""


MAX_FILE_BYTES = 1 << 30
_PNG_DEPTH = 24
"""Place of bit depth and colour type in a PNG file (PNG, third edition, 11.2.1)."""


class _WebP(WebPImagePlugin.WebPImageFile):
    """A WebP file; what no frame of an animation covers is transparent, as libwebp has it, whatever its header says."""

    def _open(self) -> None:
        super()._open()
        if self.is_animated:
            self._mode = self.rawmode = "RGBA"


class _Png(PngImagePlugin.PngImageFile):
    """A PNG file; the transparent level of grey is scaled as Pillow scales the pixels of 1, 2 and 4 bits."""

    def _open(self) -> None:
        super()._open()
        assert self.fp is not None
        place = self.fp.tell()
        self.fp.seek(_PNG_DEPTH)
        depth, colour_type = self.fp.read(2)
        self.fp.seek(place)
        if colour_type == 0 and depth < 8 and isinstance(level := self.info.get("transparency"), int):
            self.info["transparency"] = level * 255 // ((1 << depth) - 1)


def _open_heif(file: BinaryIO, name: str) -> Image.Image:
    """Return a HEIF image, upright: libheif applies the rotation, and the plugin then removes EXIF's orientation."""
    if find_spec("pi_heif") is None:
        raise MediaError("HEIC images need the extra [heic]: pip install 'bindsearch[heic]'")
    with installation_faults():
        from pi_heif import HeifImageFile  # type: ignore[import-untyped]
    picture: Image.Image = HeifImageFile(file, name)
    return picture


def _open_raw(file: BinaryIO, name: str) -> Image.Image:
    """Return the largest preview in a camera's raw image, with the raw's orientation if it has none of its own."""
    if find_spec("rawpy") is None:
        raise MediaError("raw images need the extra [raw]: pip install 'bindsearch[raw]'")
    with installation_faults():
        import rawpy
    try:
        with rawpy.imread(file) as raw:
            preview, orientation = raw.extract_thumb().data, _ORIENTATION_OF.get(raw.sizes.flip, 1)
            content = preview if isinstance(preview, bytes) else np.array(preview, np.uint8)
    except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError) as error:
        raise MediaError("the raw image contains no readable preview: convert it to JPEG") from error
    except (rawpy.LibRawError, rawpy.NotSupportedError, NotImplementedError) as error:
        reason = error.args[0] if error.args else type(error).__name__
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise MediaError(f"damaged or unknown raw image ({text})") from error
    if isinstance(content, bytes):
        picture: Image.Image = JpegImagePlugin.JpegImageFile(io.BytesIO(content), name)
    else:
        picture = Image.fromarray(content[:, :, 0] if content.shape[2:] == (1,) else content)
    picture.info[RAW_ORIENTATION] = orientation
    return picture


_READERS: dict[str, Callable[[BinaryIO, str], Image.Image]] = {
    "jpeg": JpegImagePlugin.JpegImageFile,
    "png": _Png,
    "webp": _WebP,
    "gif": GifImagePlugin.GifImageFile,
    "tiff": open_tiff,
    "bmp": BmpImagePlugin.BmpImageFile,
    "avif": AvifImagePlugin.AvifImageFile,
    "heif": _open_heif,
    "raw": _open_raw,
    "jp2": Jpeg2KImagePlugin.Jpeg2KImageFile,
    "psd": PsdImagePlugin.PsdImageFile,
    "pnm": PpmImagePlugin.PpmImageFile,
}
"""Readers by kind.

Pillow's are called directly, not through `Image.open`: that warns of large images by its own global limit and tries
formats that are never needed here (EPS, FITS, ...). Of a JPEG with further pictures (MPO), the first is read.
"""

_READ_WHOLE = frozenset({"webp", "avif", "heif", "raw", "psd"})
"""Kinds whose reader loads the whole file into memory on opening, or may."""

_DAMAGE = (
    SyntaxError, IndexError, TypeError, KeyError, AssertionError, ValueError, EOFError, OSError, RuntimeError,
    struct.error, zlib.error,
)  # fmt: skip
"""Errors that readers raise for damaged files."""

_QUIET = (UserWarning, Image.DecompressionBombWarning)


@contextmanager
def open_picture(
    path: Path, *, max_pixels: int, max_bytes: int = MAX_FILE_BYTES, option: str = "--limit pixels=N"
) -> Iterator[Image.Image]:
    """Open the image at `path` with its header read but not its pixels; it is closed when the block ends.

    Args:
        path: the file.
        max_pixels: maximum width * height.
        max_bytes: maximum size of a file that can only be read completely.
        option: the option that raises `max_pixels`, for the message.

    Raises:
        MediaError: the file is empty, not an image, or too large; or the package that reads it is not installed.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        if not head:
            raise MediaError("the file is empty")
        kind = sniff(head, path.suffix)
        if kind not in _READERS:
            content = f": the content is {kind}" if kind else ""
            raise MediaError(f"not a picture: expected {one_of(PICTURES)}{content}")
        size_bytes = os.fstat(file.fileno()).st_size
        if kind in _READ_WHOLE and size_bytes > max_bytes:
            raise MediaError(f"the image has {size_bytes} bytes: more than {max_bytes} are not read (--limit array=N)")
        # a reader would allocate these on opening: WebP's whole canvas, GIF's first frame
        if kind == "webp" and len(head) >= 30:
            check_size(_webp_size(head), max_pixels, option)
        if kind == "gif":
            file.seek(0)
            if (edges := next(gif_frames(file), None)) is not None:
                check_size((max(1, edges[0]), max(1, edges[1])), max_pixels, option)
        if kind in ("avif", "heif"):
            file.seek(0)
            head = file.read(cicp.HEAD_BYTES)
        colours = cicp.read_colours(head, kind) if kind in ("png", "avif", "heif") else None
        file.seek(0)
        _silence_pillow()
        with _read_header(file, kind) as picture:
            if colours is not None:
                picture.info[cicp.CICP] = colours
            _check_sizes(picture, max_pixels, option)
            try:
                yield picture
            except Image.DecompressionBombError as error:
                raise _too_large_for_pillow(kind, picture.size) from error


def _read_header(file: BinaryIO, kind: str) -> Image.Image:
    """Return an image with its header read."""
    try:
        return _READERS[kind](file, "")
    except Image.DecompressionBombError as error:
        raise _too_large_for_pillow(kind, None) from error
    except _DAMAGE as error:
        reason = reason_of_damage(error)
        refused = refusal(file, kind, reason) or missing_bytes(file, kind)
        raise MediaError(refused or f"damaged {kind.upper()} header ({reason})") from error


def seek_page(picture: TiffImagePlugin.TiffImageFile, page: int, max_pixels: int) -> None:
    """Go to a page of a TIFF file and read its header; raise MediaError if it is damaged, too large or not read."""
    try:
        picture.seek(page)
    except _DAMAGE as error:
        raise MediaError(f"damaged or of a kind that is not read ({reason_of_damage(error)})") from error
    check_compression(picture)
    _check_sizes(picture, max_pixels, "--limit pixels=N")


def load_pixels(picture: Image.Image) -> None:
    """Decode the pixels of a picture; raise MediaError if they are damaged or truncated."""
    try:
        picture.load()
    except Image.DecompressionBombError:
        raise  # `open_picture` names the limit
    except _DAMAGE as error:
        raise MediaError(f"damaged image ({reason_of_damage(error)})") from error


def reason_of_damage(error: Exception) -> str:
    """Return a library's message on damage; raise the error if it is one of the disk, not of the file."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error
    return str(error).strip() or type(error).__name__


def read_embedded_png(data: bytes, max_pixels: int) -> NDArray[np.uint16]:
    """Return the values (height, width) of a 16-bit grey PNG in a file; raise MediaError if it is of another form."""
    _silence_pillow()
    with _read_header(io.BytesIO(data), "png") as picture:
        check_size(picture.size, max_pixels, what="the PNG inside")
        if picture.mode != "I;16":
            raise MediaError(f"the PNG inside has not 16-bit grey pixels (mode {picture.mode})")
        try:
            picture.load()
        except (SyntaxError, IndexError, EOFError, ValueError, OSError) as error:
            raise MediaError(f"damaged PNG inside ({error})") from error
        return np.asarray(picture, np.uint16)


def check_size(
    size: tuple[int, int], max_pixels: int, option: str = "--limit pixels=N", *, what: str = "the image"
) -> None:
    """Check that width and height of an image are above 0, and their product is at most `max_pixels`.

    Raises:
        MediaError: they are not; the message contains `option`, which raises the limit.
    """
    width, height = size
    if width < 1 or height < 1:
        raise MediaError(f"{what} is {width}x{height} pixels")
    if width * height > max_pixels:
        raise MediaError(f"{what} is {width}x{height} pixels: more than {max_pixels} are not decoded ({option})")


def _check_sizes(picture: Image.Image, max_pixels: int, option: str) -> None:
    """Check the size of a picture, and that of a TIFF's tiles: they are decoded whole however small the image is."""
    check_size(picture.size, max_pixels, option)
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        width, height = (picture.tag_v2.get(tag, 1) for tag in (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH))
        if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
            check_size((width, height), max_pixels, option, what="a tile of the image")


def _too_large_for_pillow(kind: str, size: tuple[int, int] | None) -> MediaError:
    """Return the error for Pillow's own limit, which is global to the process, for a few formats."""
    size_text = f"{size[0]}x{size[1]} pixels" if size else "larger"
    limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
    return MediaError(f"the image is {size_text}: Pillow does not decode a {kind.upper()} of more than {limit} pixels")


def _webp_size(head: bytes) -> tuple[int, int]:
    """Return width and height of a WebP canvas (RFC 9649, sections 2.5 to 2.7)."""
    if head[12:16] == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if head[12:16] == b"VP8 ":
        return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    return 1, 1


def _silence_pillow() -> None:
    """Suppress Pillow's warnings about unusual metadata and large images, also where warnings are errors.

    A filter stays installed: saving and restoring filters around each file would be a race between threads.
    """
    for category in _QUIET:
        if ("ignore", None, category, re.compile(r"PIL\."), 0) not in warnings.filters:
            warnings.filterwarnings("ignore", category=category, module=r"PIL\.")


def picture_values(picture: Image.Image) -> NDArray[Any]:
    """Return a picture's stored values (height, width), or (..., channels); raise MediaError if it is damaged."""
    load_pixels(picture)
    return values_of(picture)


def values_of(picture: Image.Image) -> NDArray[Any]:
    """Return the stored values of a picture whose pixels are loaded; Pillow gives unsigned 32-bit ones as signed."""
    values = np.asarray(picture)
    return values.view(np.uint32) if isinstance(picture, TiffPicture) and picture.is_unsigned else values


def turned(values: NDArray[Any], rotate: int | None) -> NDArray[Any]:
    """Return a picture (height, width) turned clockwise by a multiple of 90 degrees; None: unchanged."""
    return np.rot90(values, -(rotate or 0) // 90)


def upright(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return a picture (height, width) upright by its EXIF orientation 1..8 (Exif 2.32, tag 0x0112); else unchanged."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values


def plane(array: NDArray[Any], options: DecodeOptions) -> NDArray[Any]:
    """Return an array as (height, width); axes of length 1 are dropped.

    Raises:
        MediaError: it is not two-dimensional, has no pixel, or more than `options.max_pixels`.
    """
    flat = array if array.ndim == 2 else array.squeeze()
    if flat.ndim != 2 or not flat.size:
        raise MediaError(f"the array has the shape {array.shape}: expected (height, width)")
    check_size((flat.shape[1], flat.shape[0]), options.max_pixels, what="the array")
    return flat
