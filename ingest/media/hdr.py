"""High dynamic range and wide gamuts as standard ones: PQ and HLG (ITU-R BT.2100) tone-mapped to BT.709.

White of SDR is the reference white of HDR, 203 cd/m2 (ITU-R BT.2408, 2.2). Brighter light is compressed by the curve of
ITU-R BT.2390, 5.4.1 (EETF), applied to the largest of red, green and blue and scaling all three, which keeps the hue.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

REFERENCE_WHITE_NITS = 203.0
"""Luminance of SDR white in cd/m2."""

PEAK_NITS = 1000.0
"""Luminance that becomes white: nominal peak of HLG (BT.2100, table 5) and of most grading monitors of PQ."""

_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
"""Constants of PQ (BT.2100, table 4)."""

_A, _B, _C = 0.17883277, 0.28466892, 0.55991073
"""Constants of HLG (BT.2100, table 5)."""

_HLG_GAMMA = 1.2
_HLG_LUMINANCE = np.array([0.2627, 0.6780, 0.0593])
"""Exponent of the opto-optical transfer function at a peak of 1000 cd/m2, and weights of luminance."""

_SDR_GAMMA = 2.4
"""Exponent of SDR displays (ITU-R BT.1886)."""

_PRIMARIES = {
    1: ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
"""Chromaticities of red, green and blue by the number of ITU-T H.273, table 2: BT.709, BT.2020, P3 (white D65)."""

_BT709, _BT2020, _P3 = 1, 9, 12
WIDE = frozenset((_BT2020, _P3))
"""Primaries with colours that BT.709 lacks."""

_WHITE = (0.3127, 0.3290)
"""Chromaticity of D65."""

PQ, HLG = 16, 18
"""Transfer characteristics of ITU-T H.273, table 3."""


def to_sdr(signal: NDArray[np.uint16], transfer: int, primaries: int) -> NDArray[np.uint8]:
    """Return an HDR frame as SDR.

    Args:
        signal: uint16 (height, width, 3), R'G'B', full range.
        transfer: `PQ` or `HLG`.
        primaries: number of ITU-T H.273, table 2; BT.2020 if it is none of those known.

    Returns:
        uint8 (height, width, 3), BT.709 primaries and transfer.
    """
    light = _light_table(transfer)[signal]
    nits = light if transfer == PQ else hlg_to_nits(light)
    table_nits, gains = _gain_table()
    gain = np.interp(nits.max(axis=2), table_nits, gains).astype(np.float32)
    linear = (nits * gain[:, :, None]) @ to_bt709(primaries if primaries in _PRIMARIES else _BT2020).T
    return np.asarray(np.rint(255 * np.clip(linear, 0, 1) ** np.float32(1 / _SDR_GAMMA)), np.uint8)


def pq_to_nits(signal: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the luminance in cd/m2 of a PQ signal in 0..1 (BT.2100, table 4: EOTF)."""
    power = np.asarray(signal, np.float64) ** (1 / _M2)
    return np.asarray(10_000 * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1))


def nits_to_pq(nits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the PQ signal in 0..1 of luminances in cd/m2 (BT.2100, table 4: inverse EOTF)."""
    power = (np.asarray(nits, np.float64) / 10_000) ** _M1
    return np.asarray(((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2)


def hlg_to_linear(signal: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return scene light in 0..1 of an HLG signal in 0..1 (BT.2100, table 5: inverse OETF)."""
    values = np.asarray(signal, np.float64)
    return np.asarray(np.where(values <= 0.5, values**2 / 3, (np.exp((values - _C) / _A) + _B) / 12))


def hlg_to_nits(scene: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the light in cd/m2 (..., 3) of a display of `PEAK_NITS` for scene light (BT.2100, table 5: OOTF)."""
    luminance = scene @ _HLG_LUMINANCE.astype(scene.dtype)
    return np.asarray(PEAK_NITS * luminance[..., None] ** (_HLG_GAMMA - 1) * scene, np.float32)


def compress(nits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return luminances of 0 to `PEAK_NITS` as 0 to `REFERENCE_WHITE_NITS` (BT.2390, 5.4.1, black at 0)."""
    peak, white = nits_to_pq(np.array([PEAK_NITS, REFERENCE_WHITE_NITS]))
    value, largest = np.minimum(nits_to_pq(nits) / peak, 1), white / peak
    knee = 1.5 * largest - 0.5
    t = np.maximum(value - knee, 0) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * largest
    return pq_to_nits(np.where(value < knee, value, spline) * peak)


@cache
def _light_table(transfer: int) -> NDArray[np.float32]:
    to_light = pq_to_nits if transfer == PQ else hlg_to_linear
    return to_light(np.arange(65536) / 65535).astype(np.float32)


@cache
def _gain_table() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return luminances in cd/m2, and by what each is multiplied to be SDR light in 0..1."""
    nits = pq_to_nits(np.linspace(0, 1, 4096))[1:]
    return nits, compress(nits) / nits / REFERENCE_WHITE_NITS


@cache
def to_bt709(primaries: int) -> NDArray[np.float32]:
    """Return the matrix of linear light from primaries (ITU-T H.273, table 2) to those of BT.709, float32 (3, 3)."""
    return (np.linalg.inv(_to_xyz(_BT709)) @ _to_xyz(primaries)).astype(np.float32)


def _to_xyz(primaries: int) -> NDArray[np.float64]:
    """Return the matrix from linear light to CIE XYZ (SMPTE RP 177, 3.3)."""
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in _PRIMARIES[primaries]]).T
    x, y = _WHITE
    return np.asarray(columns * np.linalg.solve(columns, [x / y, 1, (1 - x - y) / y]))
