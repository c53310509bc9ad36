"""False colours of thermal pictures: recognised by the pixels, and inverted to the value that each colour stands for.

A palette is a curve through RGB, given by its corners with straight lines between them, which are within four levels
of 255 of the published tables (rainbow: six). The value of a pixel is the place of the nearest point of the curve.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError

_CORNERS: Mapping[str, str] = MappingProxyType(
    {
        # "iron" of FLIR's cameras
        "iron": "0:000013 1:000025 7:010055 14:0c0074 21:220086 30:430095 45:76009d 59:a3009a 70:ba0494 80:c80f88 "
        "91:d6246a 96:db2f55 105:e4411b 112:ea4f0b 131:f47300 154:fda600 173:fecd02 180:feda0e 187:ffe42b 195:ffef63 "
        "205:fff8b8 215:fffff8",
        # the hot half of "ironblack" and "rainbow" of FLIR's Lepton (groupgets/LeptonModule, Palettes.cpp)
        "lepton-iron": "0:000000 16:1f0076 33:740188 48:ba078d 64:df373b 65:e03931 80:ee6d0c 97:f7ab0d 112:ffe01e "
        "113:ffe327 127:fffdeb",
        "lepton-rainbow": "0:01034a 8:000352 23:003185 30:003891 49:005acb 62:006ddf 67:0076dc 75:0485ca 85:0d9395 "
        "90:1c9c6d 99:53b12b 103:69b91a 112:92c606 128:d4d703 137:e8d306 152:f7c50c 169:ff9b18 192:fb213b 200:f91a42 "
        "207:f71a51 216:f84062 220:fa5d6c 225:fb6671 239:ffb099 248:ffd8b9 255:ffe9d0",
        # hues from blue to red
        "spectrum": "0:0000ff 1:00ffff 2:00ff00 3:ffff00 4:ff0000",
        # Matplotlib 3.10 (cm.py, _cm_listed.py); OpenCV has the same
        "jet": "0:000080 28:0000ff 32:0000ff 87:00dcfe 90:02e8f4 96:16ffe1 163:eeff09 166:f8f500 169:ffea00 227:ff1300 "
        "232:e80000 255:800000",
        "hot": "0:0b0000 93:ff0000 190:fffe00 255:ffffff",
        "inferno": "0:000004 19:0e092b 34:240c4f 44:360961 61:520e6d 82:741a6e 110:a02a63 144:d24644 167:eb6429 "
        "197:fb9706 209:fcae12 225:f8cd37 241:f1ec6d 255:fcffa4",
        "magma": "0:000004 18:0c0926 38:251255 51:3b0f70 62:4e117b 94:802582 125:b2357b 149:d8456c 167:ee5b5e "
        "185:f97b5d 206:fea36f 229:fecd90 255:fcfdbf",
        "plasma": "0:0d0887 19:370499 50:6900a8 68:8405a7 88:a01a9c 138:d5536f 186:f68d45 221:fec029 235:fbd724 "
        "251:f2f227 255:f0f921",
        "viridis": "0:440154 29:482979 58:3e4c8a 119:23888e 139:1e9b8a 153:22a884 170:35b779 192:5ec962 215:95d840 "
        "236:cde11d 244:e2e418 255:fde725",
        "turbo": "0:30123b 11:3c3286 22:4451bf 34:4771e9 42:4685fa 50:4099ff 60:2fb2f4 73:1bd0d5 83:19e2bb 90:22ebaa "
        "98:38f491 112:6dfe62 125:9cfe40 139:c1f334 152:dfdf37 164:f4c73a 174:fcb136 186:fe9029 209:ea4e0d 231:c12302 "
        "244:9e1001 255:7a0403",
    }
)
"""Corners by name, "PLACE:RRGGBB", from cold to hot."""

_FAMILIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "iron": ("iron", "lepton-iron"),
        "ironbow": ("iron", "lepton-iron"),
        "rainbow": ("lepton-rainbow", "spectrum", "jet", "turbo"),
    }
)
"""Names that several tables share: the one that the pixels are nearest to is taken."""

_GREY = frozenset({"grey", "gray", "greyscale", "grayscale", "white-hot", "whitehot", "none"})
_BLACK_HOT = frozenset({"black-hot", "blackhot"})

_ON_CURVE = 20.0
"""Greatest distance of a pixel on a curve, in levels: what the colour sampling of a JPEG makes of it is within."""
_ON_SHARE = 0.9
"""Least share of such pixels in a picture of a palette; the rest are a logo or numbers on the screen."""
_MEDIAN_DISTANCE = 14.0
_LEAST_RANGE = 0.15
"""Least range (2nd to 98th percentile) of values: any two colours are on some curve."""
_LEAST_SATURATION = 40.0
"""Least mean of (largest - smallest channel): dark and grey pictures are near the ends of many curves."""
_GREY_SATURATION = 12
"""Greatest saturation of grey after JPEG."""
_SAME_VALUES = 0.1
_FAR = 40.0
"""Median distance, in levels, of a picture that has not the palette that its sidecar says."""
_SAMPLE = 20_000
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Palette:
    """The curve of a palette.

    Attributes:
        name: its name.
        places: float64 (corners,), 0 (cold) to 1 (hot).
        corners: float64 (corners, 3), RGB in levels of 0..255.
    """

    name: str
    places: NDArray[np.float64]
    corners: NDArray[np.float64]


def palette_names() -> tuple[str, ...]:
    """Return the names that a sidecar may give."""
    return ("grey", "black-hot", *dict.fromkeys((*_FAMILIES, *_CORNERS)))


def is_black_hot(name: str | None) -> bool:
    """Return whether dark is hot in the palette of a sidecar.

    Raises:
        MediaError: it is not the name of a palette.
    """
    if name is not None and name not in _GREY | _BLACK_HOT and name not in _FAMILIES and name not in _CORNERS:
        raise MediaError(f"palette is {name[:40]!r}: expected one of {', '.join(palette_names())}")
    return name in _BLACK_HOT


def is_coloured(rgb: NDArray[np.uint8]) -> bool:
    """Return whether a picture (height, width, 3) has more than a hundredth of pixels that are not grey."""
    step = max(1, int(np.sqrt(rgb.shape[0] * rgb.shape[1] / _SAMPLE)))
    sample = rgb[::step, ::step].reshape(-1, 3).astype(np.float64)
    return bool((np.ptp(sample, axis=1) > _GREY_SATURATION).mean() > 0.01)


def from_colours(rgb: NDArray[np.uint8], said: str | None) -> tuple[NDArray[np.float32], str] | None:
    """Return the values (height, width) in 0..1 that false colours stand for, and a note; None: no palette is certain.

    `rgb` is uint8 (height, width, 3), `said` the palette of the sidecar (None: recognised by the pixels). Raise
    MediaError if the pixels are far from the one that is said.
    """
    if said in _GREY or said in _BLACK_HOT:
        return None
    sample = _smooth(rgb)
    if said is None:
        found = _recognised(sample)
        if found is None:
            return None
        palette, share = found
        note = f"false colours of the palette {palette.name} ({share:.0%} of the pixels): inverted"
        return _values(rgb, palette), note
    palettes = _tables(_FAMILIES.get(said, (said,)))
    fits = [(float(np.median(_nearest(sample, palette)[1])), palette) for palette in palettes]
    distance, palette = min(fits, key=lambda fit: fit[0])
    if distance > _FAR:
        raise MediaError(
            f"palette is {said!r}, but half of the pixels are more than {distance:.0f} of 255 levels away from it: "
            f"give another one ({', '.join(palette_names())})"
        )
    return _values(rgb, palette), f"false colours of the palette {palette.name} (sidecar): inverted"


def _recognised(sample: NDArray[np.float64]) -> tuple[Palette, float] | None:
    """Return the palette on whose curve pixels (n, 3) are, and their share; None: none, or two that differ."""
    if float(np.ptp(sample, axis=1).mean()) < _LEAST_SATURATION:
        return None
    fits = []
    for palette in _tables(_CORNERS):
        values, distances = _nearest(sample, palette)
        share = float((distances <= _ON_CURVE).mean())
        low, high = np.percentile(values, (2, 98))
        if share >= _ON_SHARE and np.median(distances) <= _MEDIAN_DISTANCE and high - low >= _LEAST_RANGE:
            # squares: two palettes may share the middle of their curves, and only one has the rest
            fits.append((float(np.sqrt((distances**2).mean())), share, palette, values))
    if not fits:
        return None
    fits.sort(key=lambda fit: fit[0])
    best = fits[0]
    for other in fits[1:]:
        is_as_near = other[0] < best[0] + 2.0
        if is_as_near and float(np.abs(_spread(other[3]) - _spread(best[3])).mean()) > _SAME_VALUES:
            return None
    return best[2], best[1]


def _spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values with their percentiles 2..98 at 0 and 1."""
    low, high = np.percentile(values, (2, 98))
    return np.asarray((values - low) / max(float(high - low), 1e-9))


def _tables(names: Sequence[str] | Mapping[str, str]) -> Iterator[Palette]:
    for name in names:
        corners = [corner.split(":") for corner in _CORNERS[name].split()]
        places = np.array([float(place) for place, _ in corners])
        colours = np.array([list(bytes.fromhex(colour)) for _, colour in corners], np.float64)
        yield Palette(name, places / places[-1], colours)


def _values(rgb: NDArray[np.uint8], palette: Palette) -> NDArray[np.float32]:
    """Return the values (height, width); each colour of the picture is looked up once."""
    parts = rgb.astype(np.uint32)
    colours, places = np.unique(parts[..., 0] << 16 | parts[..., 1] << 8 | parts[..., 2], return_inverse=True)
    table = np.empty(len(colours), np.float32)
    for start in range(0, len(colours), _CHUNK):
        chunk = colours[start : start + _CHUNK]
        pixels = np.stack([chunk >> 16, chunk >> 8 & 255, chunk & 255], axis=1).astype(np.float64)
        table[start : start + _CHUNK] = _nearest(pixels, palette)[0]
    return np.asarray(table[places.reshape(rgb.shape[:2])])


def _nearest(pixels: NDArray[np.float64], palette: Palette) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the values (n,) of the points of a curve that are nearest to pixels (n, 3), and the distances (n,)."""
    values, least = np.zeros(len(pixels)), np.full(len(pixels), np.inf)
    for i in range(len(palette.places) - 1):
        start, step = palette.corners[i], palette.corners[i + 1] - palette.corners[i]
        length = float(step @ step)
        along = np.clip((pixels - start) @ step / length, 0, 1) if length else np.full(len(pixels), 0.5)
        distances = ((pixels - start - along[:, None] * step) ** 2).sum(axis=1)
        is_nearer = distances < least
        value = palette.places[i] + along * (palette.places[i + 1] - palette.places[i])
        values, least = np.where(is_nearer, value, values), np.where(is_nearer, distances, least)
    return values, np.sqrt(least)


def _smooth(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return a sample of the half of the pixels that differ least from their neighbours.

    A JPEG has colours of half the resolution: at edges they are mixtures, which are on no curve.
    """
    step = max(1, int(np.sqrt(rgb.shape[0] * rgb.shape[1] / (2 * _SAMPLE))))
    padded = np.pad(rgb.astype(np.int16), ((1, 1), (1, 1), (0, 0)), mode="edge")
    right, below = padded[1:-1:step, 2::step], padded[2::step, 1:-1:step]
    left, above = padded[1:-1:step, :-2:step], padded[:-2:step, 1:-1:step]
    roughness = (np.abs(right - left) + np.abs(below - above)).sum(axis=2)
    chosen = roughness <= np.median(roughness)
    return np.asarray(rgb[::step, ::step][chosen].astype(np.float64))
