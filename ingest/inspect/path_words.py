"""Words of a path that name a modality."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from bindsearch.types import Modality

PARTS: Mapping[str, Modality] = MappingProxyType(
    {
        word: modality
        for modality, words in (
            (Modality.DEPTH, "depth depths depthmap depthmaps disparity disp midas"),
            (Modality.THERMAL, "thermal thermals therm thermo thermogram thermograms thermography"),
            (Modality.THERMAL, "ir tir lwir mwir infrared"),
            (Modality.IMU, "imu accel gyro accelerometer gyroscope"),
            (Modality.IMAGE, "rgb visible color colour"),
        )
        for word in words.split()
    }
)

_PART = re.compile(r"(\d*)([a-z]+)")
"""A part of a path, and the digits directly before it."""
_SHORT_PART = 4
"""Shorter words do not count after digits: `x8ir3` is a random name."""


def named_modality(rel_path: str) -> tuple[Modality, str] | None:
    """Return the last part of the path that names a modality, and that modality; None if there is none."""
    for digits, part in reversed(_PART.findall(rel_path.lower())):
        if part in PARTS and not (digits and len(part) < _SHORT_PART):
            return PARTS[part], part
    folders = rel_path.lower().rpartition("/")[0]
    is_flir = any(part == "flir" for _, part in _PART.findall(folders))
    return (Modality.THERMAL, "flir") if is_flir else None
