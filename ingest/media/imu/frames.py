"""Axes of motion recordings: signs and sums of columns, and conventions of axes.

BindSearch's own convention is Android's (developer.android.com, "Sensor event", coordinate system): x to the right, y
to the top, z out of the screen; a device at rest reports +9.81 m/s^2 along the axis that points up, and the gyroscope
turns counter-clockwise about the positive axes. The conventions of `frame` in a sidecar:

* android, enu: the same. ROS REP 145 has x, y, z = east, north, up and +9.81 m/s^2 along z at rest: with the screen up
  and the top to the north these are Android's axes.
* ios: Core Motion has the same axes, but reports gravity itself: -1 g along z with the screen up (`CMAcceleration`),
  and `gravity` + `userAcceleration` likewise (`CMDeviceMotion`). The accelerometer is negated, the gyroscope is not.
* ned: x, y, z = north, east, down. The accelerometer reports -9.81 m/s^2 along z at rest, since up is -z. In enu it is
  (y, x, -z), for both sensors (SBG's and Phidgets' ROS drivers convert in this way): a proper rotation.

The signs of a recording by itself do not show whether they are Android's or iOS's: negated, it is the motion of a
phone that lies the other way up. A second source of the tilt does: roll and pitch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Terms = tuple[tuple[float, str], ...]
"""An axis as a sum of columns: (sign, name) each."""

_IDENTITY = np.eye(3)
_NED = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
_ACCELEROMETER = {"android": _IDENTITY, "enu": _IDENTITY, "ios": -_IDENTITY, "ned": _NED}
_GYROSCOPE = {"android": _IDENTITY, "enu": _IDENTITY, "ios": _IDENTITY, "ned": _NED}
_MAX_TERMS = 4
_LEAST_TILT = 0.1
_FARTHEST = 0.5
"""Greatest median distance between a direction that roll and pitch tell and the accelerometer's, walking included."""


def parse_axis(text: str, names: Sequence[str]) -> Terms | None:
    """Return the terms of an axis such as "acc_x", "-acc_x" or "gravity_x+user_x"; None if a column is missing.

    A name may contain signs itself: the whole text as a name comes first, then the longest names.
    """
    if text in names:
        return ((1.0, text),)
    known = sorted(set(names), key=len, reverse=True)
    rest = text.strip()
    terms: list[tuple[float, str]] = []
    while rest and len(terms) < _MAX_TERMS:
        sign = -1.0 if rest[0] == "-" else 1.0
        if rest[0] in "+-":
            rest = rest[1:].lstrip()
        elif terms:
            return None
        behind = ((name, rest[len(name) :].strip()) for name in known if name and rest.startswith(name))
        name, rest = next((found for found in behind if found[1][:1] in ("", "+", "-")), ("", ""))
        if not name:
            return None
        terms.append((sign, name))
    return tuple(terms) if terms and not rest else None


def frame_by_attitude(
    acceleration: NDArray[np.float64], roll: NDArray[np.float64], pitch: NDArray[np.float64]
) -> str | None:
    """Return "ios" or "android" by the tilt that roll and pitch tell; None if they do not fit, or tell too little.

    In Core Motion gravity is (cos p sin r, -sin p, -cos p cos r): roll is about y, pitch about x, and both are 0 with
    the screen up. Android's roll is the same and its gravity the opposite (`SensorManager.getOrientation`); its pitch
    has the other sign, so x and z decide. The acceleration (n, 3) is with gravity, in any unit, angles (n,) in radians.
    """
    down = np.column_stack([np.cos(pitch) * np.sin(roll), -np.cos(pitch) * np.cos(roll)])
    with np.errstate(all="ignore"):
        seen = acceleration[:, ::2] / np.linalg.norm(acceleration, axis=1)[:, None]
    good = np.isfinite(down).all(axis=1) & np.isfinite(seen).all(axis=1)
    down, seen = down[good], seen[good]
    power = float((down**2).sum())
    if not len(down) or power < _LEAST_TILT**2 * len(down):
        return None
    slope = float((seen * down).sum()) / power
    distance = float(np.median(np.linalg.norm(seen - np.sign(slope) * down, axis=1)))
    if not 0.6 < abs(slope) < 1.4 or distance > min(_FARTHEST, abs(slope) * float(np.sqrt(power / len(down)))):
        return None
    return "ios" if slope > 0 else "android"


def turn(samples: NDArray[np.float32], frame: str | None) -> NDArray[np.float32]:
    """Return samples (n, 6) of a frame in Android's."""
    if frame is None or (_ACCELEROMETER[frame] is _IDENTITY and _GYROSCOPE[frame] is _IDENTITY):
        return samples
    turned = [samples[:, :3] @ _ACCELEROMETER[frame].T, samples[:, 3:] @ _GYROSCOPE[frame].T]
    return np.hstack(turned).astype(np.float32)
