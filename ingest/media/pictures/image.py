"""Images: JPEG, PNG, WebP, GIF, TIFF, BMP, HEIF, AVIF and raw previews to upright RGB; an animation's first frame.

Each page of a TIFF file is a picture of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from bindsearch.errors import MediaError
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.exif import orientation_of
from bindsearch.ingest.media.pictures.formats.cicp import CICP, Colours, as_srgb
from bindsearch.ingest.media.pictures.formats.damaged import (
    BACKGROUNDS,
    JPEG_ENDS,
    NO_ENDS,
    are_equal,
    check_end,
    check_rows,
    decode_over,
    missing_bytes,
    note_scans,
    refusal,
    take_rows,
)
from bindsearch.ingest.media.pictures.formats.icc import to_srgb
from bindsearch.ingest.media.pictures.formats.tiff import TiffPicture, full_pages
from bindsearch.ingest.media.pictures.pillow import check_size, load_pixels, open_picture, seek_page, values_of
from bindsearch.ingest.media.sniff import HEAD_BYTES, sniff
from bindsearch.media import DecodeHints, Note, Picture, drop_note

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Operation that turns an image of an EXIF orientation upright (Exif 2.3, tag 0x0112)."""


MAX_PAGES = 64
"""Most pages of a TIFF file that are read; stacks of microscopes have thousands."""
_SEVERAL = ("AVIF", "HEIF")
"""Formats of several pictures, one of which is the main one; those of animations are videos."""

_DATA_LEVELS = 32
"""Least number of values of an alpha channel that is a picture."""


def read_image(path: Path, wants: DecodeHints, options: DecodeOptions, note: Note = drop_note) -> Picture:
    """Read the image at `path`, upright, on white, reduced while its shorter side stays >= 2 * wants.picture_side_px.

    Of several pages, the first that can be read.

    Raises:
        MediaError: not an image, damaged, truncated, of a kind that is not read, or too large.
    """
    return next(read_pages(path, wants, options, note))


def read_pages(path: Path, wants: DecodeHints, options: DecodeOptions, note: Note = drop_note) -> Iterator[Picture]:
    """Yield the pages of a TIFF file, at most `MAX_PAGES`, or the one picture of other files, each as `read_image`.

    Raises:
        MediaError: as for `read_image`, or less than half of the pages can be read.
    """
    with open_picture(path, max_pixels=options.max_pixels, max_bytes=options.max_array_bytes) as picture:
        if not isinstance(picture, TiffPicture):
            if (count := getattr(picture, "n_frames", 1)) > 1 and picture.format in _SEVERAL:
                note(f"{count} pictures in the file: the main one is read")
            yield _read(picture, path, None, wants, options, note)
            return
        with path.open("rb") as file:
            pages = full_pages(file)
        if len(pages) == 1:
            yield _read(picture, path, None, wants, options, note)
            return
        note(f"{len(pages)} pages" + (f": the first {MAX_PAGES} are read" if len(pages) > MAX_PAGES else ""))
        yield from _each_page(picture, path, pages[:MAX_PAGES], wants, options, note)


def _each_page(
    picture: TiffPicture, path: Path, pages: Sequence[int], wants: DecodeHints, options: DecodeOptions, note: Note
) -> Iterator[Picture]:
    """Yield the pages of these numbers that can be read; MediaError: less than half of them can be read."""
    failed = 0
    for number, page in enumerate(pages, 1):
        try:
            seek_page(picture, page, options.max_pixels)
            notes: list[str] = []
            yield _read(picture, path, page, wants, options, notes.append)
            for text in notes:
                note(f"page {number}: {text}")
        except MediaError as error:
            failed += 1
            if failed > len(pages) / 2:
                raise MediaError(f"{failed} of {len(pages)} pages cannot be read: {error}") from error
            note(f"page {number} cannot be read: {error}")


def _read(
    picture: Image.Image, path: Path, page: int | None, wants: DecodeHints, options: DecodeOptions, note: Note
) -> Picture:
    """Return the pixels of an opened picture, as `read_image`; of a damaged one, those that decode.

    `page` is its page in the file at `path`; None: the first.
    """
    floor_px = 2 * wants.picture_side_px
    _draft(picture, floor_px)
    try:
        check_end(picture)
        load_pixels(picture)
        plain, orientation = _plain(picture), orientation_of(picture)
    except MediaError as damage:
        plain, orientation = _undamaged_part(path, page, floor_px, options, str(damage), note)
    check_size(plain.size, options.max_pixels)  # the header of a HEIF image may be wrong
    rgb = to_rgb(screen_colours(_reduced(plain, floor_px), note))
    return Picture(np.asarray(rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb))


def _plain(picture: Image.Image) -> Image.Image:
    """Return a picture whose pixels are loaded with integers of 8 bits, and without data in its alpha channel."""
    if picture.mode.startswith("I"):
        return _grey_levels(picture)
    return picture.convert(picture.mode[:-1]) if has_data_in_alpha(picture) else picture


def _undamaged_part(
    path: Path, page: int | None, floor_px: int, options: DecodeOptions, reason: str, note: Note
) -> tuple[Image.Image, int]:
    """Return the rows of a damaged picture that decode, and its orientation.

    Raise MediaError if it is of a kind that is not read, or less than half of it decodes.
    """
    with path.open("rb") as file:
        kind = sniff(file.read(HEAD_BYTES), path.suffix) or ""
        if (refused := refusal(file, kind, reason) or missing_bytes(file, kind)) is not None:
            raise MediaError(refused)
    for ends in (JPEG_ENDS, NO_ENDS):  # the second only for a JPEG that stores row by row
        with ExitStack() as stack:
            first, second = (
                stack.enter_context(
                    open_picture(path, max_pixels=options.max_pixels, max_bytes=options.max_array_bytes)
                )
                for _ in BACKGROUNDS
            )
            covered = 0, 0
            for picture, background, end in zip((first, second), BACKGROUNDS, ends, strict=True):
                if page is not None and isinstance(picture, TiffPicture):
                    seek_page(picture, page, options.max_pixels)
                _draft(picture, floor_px)
                covered = decode_over(picture, background, end, load_pixels)
            is_jpeg = isinstance(first, JpegImageFile)
            if not is_jpeg or ends is NO_ENDS:
                rows = check_rows(first, second, covered, reason, note)
                return take_rows(first if is_jpeg else _plain(first), rows), orientation_of(first)
            if are_equal(first, second) or note_scans(first, note):
                return first.copy(), orientation_of(first)
    raise AssertionError("the second round returns")


def _draft(picture: Image.Image, floor_px: int) -> None:
    """Let a JPEG be decoded at 1/2, 1/4 or 1/8: several times faster for an image of 12 megapixels."""
    shorter = min(picture.size)
    if picture.format in ("JPEG", "MPO") and shorter >= 2 * floor_px:
        width, height = picture.size
        picture.draft(None, (-(-width * floor_px // shorter), -(-height * floor_px // shorter)))


def _reduced(picture: Image.Image, floor_px: int) -> Image.Image:
    """Return `picture` reduced by an integer factor (box mean), if the shorter side remains >= `floor_px`."""
    factor = min(picture.size) // floor_px
    if factor < 2 or picture.mode not in ("RGB", "RGBA", "L", "LA", "CMYK"):
        return picture
    if "transparency" in picture.info:
        picture = picture.convert("RGBA")
    return picture.reduce(factor)


def screen_colours(picture: Image.Image, note: Note) -> Image.Image:
    """Return a picture with its colours as sRGB, by the numbers (CICP) or the ICC profile in its `info`."""
    colours = picture.info.get(CICP)
    if not isinstance(colours, Colours):
        return to_srgb(picture, picture.info.get("icc_profile"), note)
    if colours.is_hdr:
        note("HDR: brightness is compressed to the range of a screen")
    return as_srgb(picture, colours)


def _grey_levels(picture: Image.Image) -> Image.Image:
    """Return a picture of 16- or 32-bit integers in mode L, with its `info`."""
    values = values_of(picture)
    grey = _eight_bits(values)
    if isinstance(picture, TiffPicture) and picture.is_inverted:
        grey = 255 - grey
    levels = Image.fromarray(grey)
    levels.info = {key: value for key, value in picture.info.items() if key != "transparency"}
    if isinstance(see_through := picture.info.get("transparency"), int):  # PNG: one of the values
        levels.putalpha(Image.fromarray(np.where(values == see_through, 0, 255).astype(np.uint8)))
    return levels


def _eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return grey levels of 8 bits of those of 10, 12, 14, ... or 32, whichever hold the largest.

    Detectors (X-ray, microscopes) write 10 to 14 bits into 16; as 16 bits they would be nearly black. Where values are
    negative, 0 becomes the middle grey.
    """
    least, most = int(values.min(initial=0)), int(values.max(initial=0))
    bits = max(10, most.bit_length(), (-1 - least).bit_length() if least < 0 else 0)
    bits += bits % 2
    levels = values >> (bits - 8) if least >= 0 else (values.astype(np.int64) + (1 << bits)) >> (bits - 7)
    return np.asarray(levels.astype(np.uint8))


def has_data_in_alpha(picture: Image.Image) -> bool:
    """Return whether the alpha channel of an image holds another picture, as the thermal channel of MFNet's PNGs.

    Transparency has plateaus: nearly all pixels are opaque, transparent, or of a few values between. A picture has many
    values, none of which more than a fifth of the pixels have.
    """
    if picture.mode not in ("RGBA", "LA"):
        return False
    counts = np.array(picture.getchannel("A").histogram())
    pixels = counts.sum()
    return bool(
        (counts > 0).sum() >= _DATA_LEVELS and counts[0] + counts[255] < pixels / 4 and counts.max() < pixels / 5
    )


def to_rgb(picture: Image.Image) -> Image.Image:
    """Return `picture` in mode RGB: 16-bit grey as 8 bits, palettes applied, transparency on white.

    Raises:
        MediaError: a floating-point image, whose range is unknown.
    """
    if picture.mode == "F":
        raise MediaError(
            "the range of a floating-point image is unknown: index depth or thermal images with --modality-rule"
        )
    if picture.mode.startswith("I"):
        return to_rgb(_grey_levels(picture))
    if picture.has_transparency_data or picture.mode in ("La", "RGBa"):
        layer = picture.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return picture if picture.mode == "RGB" else picture.convert("RGB")
