"""ICC profiles: colours of a profile as sRGB, by Little CMS."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from bindsearch.media import Note

_MAX_PROFILE_BYTES = 4 << 20
"""Profiles of printers have up to 3 MB."""
_KEPT = 16
"""Transforms that are kept; a collection has few profiles."""
_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
"""Colour space of the profile for each mode of pixels (ICC.1:2022, table 19)."""
_ALIKE = 2
"""Greatest difference in levels of 255 of a profile that is sRGB; its versions differ by rounding."""
_GRID = 9


def to_srgb(picture: Image.Image, profile: object, note: Note) -> Image.Image:
    """Return a picture of 8 bits with its colours as sRGB, in mode RGB or RGBA; unchanged where they are.

    Args:
        picture: the picture.
        profile: its profile, bytes; others: it has none, which means sRGB.
        note: takes a note on a profile that is not used.
    """
    if (
        not isinstance(profile, bytes)
        or not profile
        or picture.mode in ("LAB", "F", "HSV")
        or picture.mode.startswith("I")
    ):
        return picture  # Pillow converts Lab by itself
    mode = "CMYK" if picture.mode == "CMYK" else "L" if picture.mode in ("1", "L", "LA", "La") else "RGB"
    transform = _transform(profile, mode)
    if transform is None:
        return picture
    if isinstance(transform, str):
        note(transform)
        return picture
    if picture.has_transparency_data or picture.mode in ("La", "RGBa"):
        layer = picture.convert("RGBA")
        colours = transform.apply(layer.convert(mode))
        colours.putalpha(layer.getchannel("A"))
        return colours
    return transform.apply(picture if picture.mode == mode else picture.convert(mode))


@lru_cache(_KEPT)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | str | None:
    """Return the transform of pixels of a mode to sRGB; None if the profile is sRGB; a note if it cannot be used."""
    if len(profile) > _MAX_PROFILE_BYTES:
        return f"its colour profile has {len(profile)} bytes and is ignored: colours are read as sRGB"
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if space != _SPACES[mode]:
            return f"its colour profile is for {space[:4]}, not {_SPACES[mode]}, and is ignored"
        transform = ImageCms.buildTransform(
            source, ImageCms.createProfile("sRGB"), mode, "RGB", ImageCms.Intent.PERCEPTUAL, ImageCms.Flags.NOCACHE
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, SyntaxError):
        return "its colour profile is damaged and is ignored: colours are read as sRGB"
    return None if mode != "CMYK" and _is_identity(transform, mode) else transform


def _is_identity(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Return whether a transform changes no colour of a grid by more than `_ALIKE` levels."""
    if mode == "L":
        levels = np.arange(256, dtype=np.uint8)[None]
        expected = np.repeat(levels[..., None], 3, axis=2)
    else:
        axis = np.linspace(0, 255, _GRID).astype(np.uint8)
        expected = levels = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(1, -1, 3)
    seen = np.asarray(transform.apply(Image.fromarray(levels)))
    return int(np.abs(seen.astype(int) - expected).max()) <= _ALIKE
