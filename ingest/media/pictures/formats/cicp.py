"""Colours named by numbers (ITU-T H.273, CICP) in PNG, AVIF and HEIF: wide gamuts and HDR as sRGB.

HDR is brought to the range of a screen: white of 203 nits (ITU-R BT.2408) and darker stays, brighter light is
compressed.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bindsearch.ingest.media.hdr import (
    HLG,
    PQ,
    REFERENCE_WHITE_NITS,
    WIDE,
    hlg_to_linear,
    hlg_to_nits,
    pq_to_nits,
    to_bt709,
)

HEAD_BYTES = 1 << 16
"""Bytes of an AVIF or HEIF file in which the colours are looked for: they precede the pixels."""
CICP = "cicp"
"""Key of Pillow's `info` under which they are kept."""
_TRANSFERS = frozenset((1, 6, 13, 14, 15, PQ, HLG))
"""Those of sRGB and of video, which is shown alike, and of HDR (H.273, table 3)."""
_KNEE = 0.8
_STEPS = 8191


class Colours(NamedTuple):
    """Numbers of the primaries and of the transfer characteristics (H.273, tables 2 and 3)."""

    primaries: int
    transfer: int

    @property
    def is_hdr(self) -> bool:
        """True if the values are those of PQ or HLG."""
        return self.transfer in (PQ, HLG)


def read_colours(head: bytes, kind: str) -> Colours | None:
    """Return the colours that the head of a "png", "avif" or "heif" names, if they are not those of sRGB; else None."""
    if kind == "png":
        place = head.find(b"\0\0\0\4cICP")
        numbers = tuple(head[place + 8 : place + 10]) if 0 < place < head.find(b"IDAT") else ()
    else:
        place = head.find(b"colrnclx")
        numbers = struct.unpack(">HH", head[place + 8 : place + 12]) if 0 < place <= len(head) - 12 else ()
    if len(numbers) != 2 or numbers[1] not in _TRANSFERS:
        return None
    colours = Colours(*numbers)
    return colours if colours.is_hdr or colours.primaries in WIDE else None


def as_srgb(picture: Image.Image, colours: Colours) -> Image.Image:
    """Return a picture of 8 bits in mode RGB or RGBA with its colours as sRGB."""
    has_alpha = picture.has_transparency_data
    layer = picture.convert("RGBA" if has_alpha else "RGB")
    coded = np.asarray(layer)
    light = _light_of(colours.transfer)[coded[..., :3]]
    if colours.transfer == HLG:
        light = hlg_to_nits(light) / np.float32(REFERENCE_WHITE_NITS)
    if colours.primaries in WIDE:
        light = np.maximum(light @ to_bt709(colours.primaries).T, 0)
    if colours.is_hdr:
        brightest = np.maximum(light.max(axis=-1, keepdims=True), 1e-6)
        light *= _compressed(brightest) / brightest
    places = np.minimum(light * _STEPS + 0.5, _STEPS).astype(np.uint16)
    srgb = Image.fromarray(_srgb_levels()[places])
    if has_alpha:
        srgb.putalpha(layer.getchannel("A"))
    return srgb


@cache
def _srgb_levels() -> NDArray[np.uint8]:
    """Return the levels of sRGB (IEC 61966-2-1) of light 0 to 1 in `_STEPS` steps."""
    light = np.arange(_STEPS + 1) / _STEPS
    coded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(255 * coded).astype(np.uint8)


@cache
def _light_of(transfer: int) -> NDArray[np.float32]:
    """Return linear light of the 256 levels, 1 for white; of HLG that of the scene."""
    coded = np.arange(256) / 255
    if transfer == PQ:
        light = pq_to_nits(coded) / REFERENCE_WHITE_NITS
    elif transfer == HLG:
        light = hlg_to_linear(coded)
    else:
        light = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    return light.astype(np.float32)


def _compressed(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return light with what is above `_KNEE` compressed into the rest of the range, smoothly."""
    rest = np.float32(1 - _KNEE)
    return np.where(light <= _KNEE, light, _KNEE + rest * (1 - np.exp(-(np.maximum(light, _KNEE) - _KNEE) / rest)))
