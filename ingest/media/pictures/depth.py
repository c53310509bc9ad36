"""Depth maps in metres: pictures of one channel, .npy, .npz, PFM, OpenEXR, and the depth image of HEIC photos.

The unit is that of the sidecar (`depth_unit`), else of the data set that folder or name tell, else the default:
millimetres for 16-bit pictures, metres for floating-point values. Other integers have none and are refused, and so are
values that cannot be distances in a unit nobody said. What was assumed is noted.
0, NaN, infinity, the integer type's largest value, more than 1 km, and declared invalid values are no value.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.depth_map.files import StoredDepth, read_stored
from bindsearch.ingest.media.pictures.depth_map.units import (
    BASELINE_M,
    BY,
    FOCAL_LENGTH_SHARE,
    TYPICAL_FAR_M,
    TYPICAL_MEDIAN_M,
    DepthUnit,
    check_type,
    distances,
    distances_of_disparity,
    distances_of_inverse,
    parse_unit,
    relative_word,
    seems_rotated,
    unit_by_name,
)
from bindsearch.ingest.media.pictures.pillow import turned, upright
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.media import DepthMap, Reading

FARTHEST_M = 1000.0
"""Distance in metres beyond which a value is no measurement, but a mark such as 65504 or 1e10."""

LEAST_MEDIAN_M, LARGEST_MEDIAN_M = 0.05, 100.0
"""Plausible medians in metres: cameras of depth measure from 7 cm (RealSense D405), lidars of cars up to 120 m."""

NOTED_SHARE = 0.01
"""Share of the pixels without a value for one reason from which on it is noted."""

_MOST_MARKS = 16
"""Number of different negative values that may be marks of no value; more are a quantity that has a sign."""


def _known(
    raw: NDArray[Any], invalid: Sequence[float], *, largest_is_value: bool
) -> tuple[NDArray[np.bool_], list[str]]:
    """Return which stored values (height, width) are numbers, not declared invalid, and not their type's largest.

    The notes are on the pixels that are numbers without being values.
    """
    marks = [(value, "declared invalid") for value in invalid]
    if raw.dtype.kind in "iu" and not largest_is_value:
        marks.append((np.iinfo(raw.dtype).max, f"the largest value of {raw.dtype.name}"))
    known: NDArray[np.bool_] = np.isfinite(raw)
    notes = []
    for value, why in marks:
        is_mark = raw == value
        known &= ~is_mark
        if (share := float(is_mark.mean())) >= NOTED_SHARE:
            notes.append(f"{share:.0%} of the pixels are {value:g}, {why}: no value")
    return known, notes


def _check_assumed(raw: NDArray[Any], known: NDArray[np.bool_], median_m: float | None, source: str) -> None:
    """Check that the stored values, in a unit that nobody said, can be distances: in no full range, without a sign.

    `median_m` is that of the known ones, `source` the unit with its reason, as "m, the default of floating-point
    values". Raise MediaError if they cannot.
    """
    way_out = 'say "depth_unit" in its sidecar: m, cm, mm, metres per step, or "inverse" for relative depth, greater is'
    if (span := _full_range(raw)) is not None:
        raise MediaError(
            f"the values span exactly {span}, as relative depth does that was scaled to its range: {way_out} nearer"
        )
    negative = raw[known & (raw < 0)] if raw.dtype.kind == "f" else raw[:0]
    if negative.size and len(np.unique(negative[: 1 << 16])) > _MOST_MARKS:
        share = negative.size / raw.size
        raise MediaError(
            f"{share:.1%} of the values are below 0, down to {negative.min():g}: not distances; {way_out} nearer"
        )
    if median_m is not None and not LEAST_MEDIAN_M <= median_m <= LARGEST_MEDIAN_M:
        raise MediaError(f"the median would be {median_m:.4g} m in {source}: {way_out} nearer")


def _full_range(raw: NDArray[Any]) -> str | None:
    """Return the range of values that were scaled to it: 0..65535 of 16-bit integers, 0..1 of others; else None."""
    highest = 65535 if raw.dtype == np.uint16 else 1
    if raw.dtype != np.uint16 and raw.dtype.kind != "f":
        return None
    finite = raw[np.isfinite(raw)]
    return f"0..{highest}" if finite.size and (finite.min(), finite.max()) == (0, highest) else None


def read_depth(path: Path, sidecar: Sidecar, options: DecodeOptions) -> tuple[DepthMap, Reading]:
    """Read the depth map at `path` in metres, upright, with its mask, focal length and baseline.

    Returns:
        The depth map; and its unit and where that is from, what was turned, converted and left out, and the median.

    Raises:
        MediaError: not a single-channel image or array, unit unknown or implausible, or no values.
    """
    stored = read_stored(path, options)
    notes = list(stored.notes)
    unit, source, is_default = _unit(path, stored, sidecar)
    largest_is_value = unit.quantity == "inverse"
    known, holes = _known(stored.raw, sidecar.invalid, largest_is_value=largest_is_value)
    known = known if stored.mask is None else known & stored.mask
    notes += holes
    depth_m, camera_notes = _metres(stored, known, unit, sidecar)
    above = depth_m[known & (depth_m > 0)]
    median_m = float(np.median(above)) if above.size and unit.quantity != "inverse" else None
    if is_default:
        _check_assumed(stored.raw, known, median_m, f"{unit.name}, {source}")
    too_far = known & (depth_m > FARTHEST_M)
    valid = known & (depth_m > 0) & ~too_far
    if too_far.mean() >= NOTED_SHARE:
        notes.append(f"{too_far.mean():.0%} of the pixels are beyond {FARTHEST_M:g} m: no value")
    if not valid.any():
        far = "" if median_m is None else f" (their median would be {median_m:.4g} m in {unit.name})"
        raise MediaError(f"no pixel of the depth map has a value above 0 and up to {FARTHEST_M:g} m{far}")
    if stored.orientation in range(2, 9):
        notes.append(f"turned upright (EXIF orientation {stored.orientation})")
    depth_m = turned(upright(np.where(valid, depth_m, np.float32(0)), stored.orientation), sidecar.rotate)
    valid = turned(upright(valid, stored.orientation), sidecar.rotate)
    # turning a camera does not change its focal length, so the default belongs to the longer side
    share = FOCAL_LENGTH_SHARE if unit.camera is None else unit.camera.fx_share
    fx_px = share * max(depth_m.shape) if sidecar.fx is None else sidecar.fx
    baseline_m = BASELINE_M if sidecar.baseline_m is None else sidecar.baseline_m
    facts = {} if unit.quantity == "inverse" else {"depth_median_m": float(np.median(depth_m[valid]))}
    notes[:0] = [*_unit_notes(unit, source, facts.get("depth_median_m")), *camera_notes]
    own = f"{FOCAL_LENGTH_SHARE} x longer side" if unit.camera is None else unit.name
    assumed = [f"fx {fx_px:.0f} px ({own})"] if sidecar.fx is None else []
    assumed += [f"baseline {baseline_m:g} m"] if sidecar.baseline_m is None else []
    notes += [f"assumed: {', '.join(assumed)}"] if assumed else []
    return DepthMap(depth_m, valid, fx_px, baseline_m), Reading(tuple(notes), facts)


def _unit(path: Path, stored: StoredDepth, sidecar: Sidecar) -> tuple[DepthUnit, str | None, bool]:
    """Return the unit of the stored values, what tells it if not the sidecar, and whether it is a default."""
    is_16_bit = stored.raw.dtype.kind in "iu" and stored.raw.dtype.itemsize == 2
    name, by, part = (sidecar.depth_unit or unit_by_name(path) or "").partition(BY)
    if name and not by:
        unit = parse_unit(name)
        check_type(unit, stored.raw.dtype)
        return unit, None, False
    if by and is_16_bit and (not parse_unit(name).is_rotated or seems_rotated(stored.raw)):
        return parse_unit(name), f"by {part}", False
    if stored.unit in ("disparity", "inverse"):
        return parse_unit(stored.unit), f"by {stored.kind}", False
    if (word := relative_word(path)) is not None:
        raise MediaError(
            f"{word!r} in its path names disparity or relative depth: put "
            '{"depth_unit": "inverse"} (relative, greater is nearer), {"depth_unit": "disparity", "fx": PIXELS, '
            '"baseline_m": METRES} or a unit such as "m" into its sidecar <file>.json'
        )
    if stored.unit is None:
        raise MediaError(
            f'{8 * stored.raw.dtype.itemsize}-bit integer depth has no unit: put {{"depth_unit": "mm"}} '
            '(or m, cm, metres per step as a number, or "inverse" for relative depth, greater is nearer) '
            "into its sidecar <file>.json"
        )
    return parse_unit(stored.unit), f"the default of {stored.kind}", True


def _metres(
    stored: StoredDepth, known: NDArray[np.bool_], unit: DepthUnit, sidecar: Sidecar
) -> tuple[NDArray[np.float32], list[str]]:
    """Return metres (height, width) as stored, and notes on the camera that a disparity is converted with."""
    if unit.quantity == "distance":
        return distances(stored.raw, unit), []
    if unit.quantity == "inverse":
        if not known.any():
            raise MediaError("no pixel of the depth map has a value")
        return distances_of_inverse(stored.raw, known), []
    own = unit.camera
    fx_px = sidecar.fx or (own and own.fx_share * max(stored.raw.shape))
    baseline_m = sidecar.baseline_m or (own and own.baseline_m)
    if not fx_px or not baseline_m:
        missing = " and ".join(f'"{name}"' for name, value in (("fx", fx_px), ("baseline_m", baseline_m)) if not value)
        raise MediaError(
            f"disparity is turned into metres by fx * baseline_m / disparity: {missing} of the stereo camera must be "
            'in its sidecar; without a camera say "depth_unit": "inverse"'
        )
    notes = [f"disparity turned into metres with fx {fx_px:.1f} px and baseline {baseline_m:g} m"]
    return distances_of_disparity(stored.raw, unit, fx_px, baseline_m), notes


def _unit_notes(unit: DepthUnit, source: str | None, median_m: float | None) -> list[str]:
    """Return notes on the unit: what was assumed, or that what was said is unusual."""
    if unit.quantity == "inverse":
        relative = f"median set to {TYPICAL_MEDIAN_M:g} m, the farthest hundredth to {TYPICAL_FAR_M:g} m"
        return [f"relative inverse depth{f', {source}' if source else ''}: {relative}"]
    median = f"median {median_m:.3g} m"
    if source is not None:
        return [f"depth in {unit.name}, {source}: {median}"]
    if median_m is not None and LEAST_MEDIAN_M <= median_m <= LARGEST_MEDIAN_M:
        return []
    return [f"depth in {unit.name}, as its sidecar says, is unusual: {median}"]
