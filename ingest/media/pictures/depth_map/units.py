"""Units of stored depth: lengths, scales of data sets, disparity, relative inverse depth; names that tell them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError

FOCAL_LENGTH_SHARE = 0.81
"""Default focal length over the longer side: a Kinect's 519 px at 640 px (NYU Depth v2 calibration)."""

BASELINE_M = 0.075
"""Baseline of a Kinect in metres, with which ImageBind computes disparity (Girdhar et al. 2023, appendix B.1)."""

SUNRGBD_FARTHEST_M = 8.0
"""Maximum depth; SUN RGB-D's toolbox clamps larger values (Song et al. 2015, SUNRGBDtoolbox, read3dPoints.m)."""

TYPICAL_MEDIAN_M, TYPICAL_FAR_M = 2.5, 6.0
"""Distances that the median and the farthest hundredth of relative depth get.

Measured on metric maps of rooms and streets (NYU v2, SUN RGB-D, TUM, RealSense, KITTI): medians of 2.5 m and 6.2 m.
"""

FARTHEST_RELATIVE_M = 50.0
"""Largest distance of relative depth: ImageBind's upper bound of depth."""

_MOST_BEYOND_8_M = 0.05
"""Share of pixels beyond 8.191 m, where Kinects hardly measure, up to which values may be rotated."""

BY = ", by "
"""Text between a unit and the part of the path that tells it."""

_METRES = {"m": 1.0, "dm": 0.1, "cm": 0.01, "mm": 0.001, "um": 1e-6, "µm": 1e-6, "ft": 0.3048, "in": 0.0254}
_LENGTH = re.compile(r"([0-9.eE+-]+)?\s*([a-zµ]+)?")


@dataclass(frozen=True, slots=True)
class StereoCamera:
    """The camera of a data set of disparities: focal length over the picture's width, distance of its lenses."""

    fx_share: float
    baseline_m: float


@dataclass(frozen=True, slots=True)
class DepthUnit:
    """Meaning of the stored values of a depth map.

    Attributes:
        name: Name, as in a sidecar.
        quantity: "distance" in metres, "disparity" in pixels, or "inverse": relative inverse depth, greater is nearer.
        step: Metres or pixels per step.
        first: Stored value of the quantity 0.
        is_16_bit: Only 16-bit integers have this unit.
        is_rotated: The bits are rotated left by three.
        camera: Camera of disparities, if the sidecar does not tell it.
    """

    name: str
    quantity: Literal["distance", "disparity", "inverse"]
    step: float = 1.0
    first: float = 0.0
    is_16_bit: bool = False
    is_rotated: bool = False
    camera: StereoCamera | None = None


_KITTI_CAMERA = StereoCamera(721.5377 / 1242, 0.5327)  # calib_cam_to_cam.txt of 2011_09_26: P_rect_02, P_rect_03
_CITYSCAPES_CAMERA = StereoCamera(2262.52 / 2048, 0.209313)  # its files camera/*.json

DATA_SETS: Mapping[str, DepthUnit] = MappingProxyType(
    {
        unit.name: unit
        for unit in (
            # TUM RGB-D benchmark, "File Formats": depth PNGs are scaled by 5000
            DepthUnit("tum", "distance", 1 / 5000, is_16_bit=True),
            # readme.txt of KITTI's devkit_depth: uint16 / 256 in metres, 0: no value
            DepthUnit("kitti", "distance", 1 / 256, is_16_bit=True),
            # readme.txt of KITTI's devkit_stereo: uint16 / 256 in pixels, 0: no value
            DepthUnit("kitti-disparity", "disparity", 1 / 256, is_16_bit=True, camera=_KITTI_CAMERA),
            # README of cityscapesScripts: (p - 1) / 256 in pixels, 0: no value
            DepthUnit("cityscapes", "disparity", 1 / 256, 1.0, is_16_bit=True, camera=_CITYSCAPES_CAMERA),
            # data/README.md of Taskonomy, whose format Omnidata has: 1/512 m, at most 128 m
            DepthUnit("omnidata", "distance", 1 / 512, is_16_bit=True),
            # SUNRGBDtoolbox, read3dPoints.m: millimetres, bits rotated
            DepthUnit("sunrgbd", "distance", 0.001, is_16_bit=True, is_rotated=True),
            DepthUnit("disparity", "disparity"),
            DepthUnit("inverse", "inverse"),
        )
    }
)
"""Units that are no multiple of a length, by name."""

EXPECTED = f"m, cm, mm, metres per step as a number, or one of {', '.join(sorted(DATA_SETS))}"


def parse_unit(text: str) -> DepthUnit:
    """Return the unit of a text such as "m", "cm", "0.0002 m", "0.0002", "0.25 px" or "kitti".

    Raises:
        MediaError: it is not a unit of depth.
    """
    name = " ".join(text.strip().lower().split())
    if name in DATA_SETS:
        return DATA_SETS[name]
    match = _LENGTH.fullmatch(name)
    suffix = (match[2] or "m") if match and name else ""
    try:
        factor = float(match[1] or 1) if match else 0.0
    except ValueError:
        factor = 0.0
    if 0 < factor < 1e9:
        if suffix == "px":
            return DepthUnit(name, "disparity", factor)
        if suffix in _METRES:
            return DepthUnit(name, "distance", factor * _METRES[suffix])
    raise MediaError(f"depth_unit is {text[:40]!r}: expected {EXPECTED}")


def check_type(unit: DepthUnit, dtype: np.dtype[Any]) -> None:
    """Raise MediaError if a unit is for 16-bit integers, and the stored values are others."""
    if unit.is_16_bit and (dtype.kind not in "iu" or dtype.itemsize != 2):
        raise MediaError(f'depth_unit is "{unit.name}", which is for 16-bit integers: these are {dtype.name}')


def distances(raw: NDArray[Any], unit: DepthUnit) -> NDArray[np.float32]:
    """Return metres, float32 (height, width), of stored distances.

    Rotated bits, from SUNRGBDtoolbox, read3dPoints.m: bitor(bitshift(depth, -3), bitshift(depth, 16 - 3)) / 1000.
    """
    metres: NDArray[np.float32]
    if unit.is_rotated:
        bits = raw.astype(np.uint16)
        metres = ((bits >> 3) | (bits << 13)).astype(np.float32) * np.float32(unit.step)
        return np.minimum(metres, np.float32(SUNRGBD_FARTHEST_M), out=metres)
    with np.errstate(over="ignore", invalid="ignore"):
        metres = ((raw.astype(np.float64) - unit.first) * unit.step).astype(np.float32)
    return metres


def seems_rotated(raw: NDArray[Any]) -> bool:
    """Return whether 16-bit integers can be millimetres rotated left by three bits: below 8.2 m those are eights."""
    return float((raw & 7 != 0).mean()) < _MOST_BEYOND_8_M


def distances_of_disparity(raw: NDArray[Any], unit: DepthUnit, fx_px: float, baseline_m: float) -> NDArray[np.float32]:
    """Return metres = focal length * baseline / disparity, float32 (height, width); 0 for disparities up to 0."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        disparity_px = (raw.astype(np.float64) - unit.first) * unit.step
        metres = np.where(disparity_px > 0, fx_px * baseline_m / disparity_px, 0)
        return metres.astype(np.float32)


def distances_of_inverse(raw: NDArray[Any], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return metres, float32 (height, width), of relative inverse depth, whose scale and shift are unknown.

    Networks such as MiDaS tell 1 / depth up to a scale and a shift (Ranftl et al. 2020, section 5). Both are chosen so
    that the median is TYPICAL_MEDIAN_M and the 1st percentile, the farthest, TYPICAL_FAR_M. Disparity, which encoders
    compute, is then right but for its own scale and shift. Values beyond FARTHEST_RELATIVE_M are set to it.

    Only pixels that are `known`, at least one, get a distance with a meaning. Raise MediaError if their values are
    equal, so that nothing is nearer or farther.
    """
    values = raw.astype(np.float64)
    far, median, highest = (float(value) for value in np.percentile(values[known], (1, 50, 100)))
    if not highest > far:
        raise MediaError("the inverse depth is the same everywhere")
    if not median > far:  # more than half of the picture is at the farthest value, such as sky
        median = (far + highest) / 2
    least = 1 / TYPICAL_FAR_M
    with np.errstate(over="ignore", invalid="ignore"):
        inverse = least + (values - far) / (median - far) * (1 / TYPICAL_MEDIAN_M - least)
        return (1 / np.maximum(inverse, 1 / FARTHEST_RELATIVE_M)).astype(np.float32)


_FOLDERS: tuple[tuple[str, str], ...] = (
    # TUM RGB-D benchmark, and ICL-NUIM in its format (".../living_room_traj0_frei_png/depth/0.png")
    (r"rgbd_dataset_freiburg\w*|\w+_traj\d_frei_png", "tum"),
    # KITTI depth benchmark: "train/<drive>/proj_depth/groundtruth/image_02/0000000005.png"
    (r"proj_depth", "kitti"),
    # KITTI stereo 2012 and 2015
    (r"disp_(occ|noc)(_[01])?", "kitti-disparity"),
    # SUN RGB-D: "SUNRGBD/kv1/NYUdata/NYU0001/depth/NYU0001.png"; depth_bfx: with its holes filled
    (r"sunrgbd|depth_bfx", "sunrgbd"),
    # Virtual KITTI 1.3.1 and 2: 16-bit centimetres, the far plane at 655.35 m
    (r"vkitti\w*|virtual_?kitti\w*", "cm"),
)
"""Names of folders and the unit of the 16-bit pictures below them."""

_FILES: tuple[tuple[str, str], ...] = (
    # Cityscapes: "disparity/train/aachen/aachen_000000_000019_disparity.png"
    (r"[a-z-]+_\d{6}_\d{6}_disparity\.png", "cityscapes"),
    # Taskonomy and Omnidata: "point_0_view_0_domain_depth_zbuffer.png"
    (r".+_domain_depth_(zbuffer|euclidean)\.png", "omnidata"),
)
"""Names of 16-bit pictures and their unit."""

DEPTH_ARRAYS: Mapping[str, str | None] = MappingProxyType(
    {
        "depth": None, "depth_map": None, "depthmap": None, "depth_m": "m", "depth_mm": "mm",
        "disparity": "disparity", "disp": "disparity", "inverse_depth": "inverse",
    }
)  # fmt: skip
"""Names of arrays in a .npz that hold depth, the best ones first, and the unit that they tell."""

_RELATIVE = frozenset({"midas", "dpt", "disp", "disparity", "disparities", "inverse", "inv"})
_DEPTH_ANYTHING = re.compile(r"depth[ _-]?anything(?!.*metric)")
_NEAREST_FOLDERS = 2
"""Folders above a file whose words count; folders further up may be those of the user's projects."""

_MASK = re.compile(r"(.+)_mask(\.npy|\.png)", re.IGNORECASE)
_MASKED = re.compile(r"(.*depth)(\.npy|\.png)", re.IGNORECASE)


def unit_by_name(path: Path | str) -> str | None:
    """Return the unit that a path tells, with the part that tells it, such as "tum, by 'rgbd_dataset_freiburg1_xyz'".

    It holds for 16-bit pictures only.
    """
    *folders, name = PurePosixPath(str(path).replace("\\", "/")).parts or ("",)
    for part, table in ((name, _FILES), *((folder, _FOLDERS) for folder in reversed(folders))):
        for pattern, unit in table:
            if re.fullmatch(pattern, part, re.IGNORECASE):
                return f"{unit}{BY}{part!r}"
    return None


def relative_word(path: Path | str) -> str | None:
    """Return the word of a path that names disparity or relative depth, such as "midas"; None if there is none."""
    parts = PurePosixPath(str(path).replace("\\", "/").lower()).parts[-1 - _NEAREST_FOLDERS :]
    for part in reversed(parts):
        if (match := _DEPTH_ANYTHING.search(part)) is not None:
            return match[0]
        for word in re.split(r"[^a-z]+", part):
            if word in _RELATIVE:
                return word
    return None


def mask_name(name: str) -> str | None:
    """Return the name of the mask of a depth map's file, "x_depth_mask.npy" of "x_depth.npy" (DIODE); None: no mask."""
    match = _MASKED.fullmatch(name)
    return f"{match[1]}_mask{match[2]}" if match else None


def mask_of(path: Path) -> Path | None:
    """Return the mask beside a depth map's file; None if there is none."""
    name = mask_name(path.name)
    return path.with_name(name) if name is not None and path.with_name(name).is_file() else None


def masked_name(name: str) -> str | None:
    """Return the name of the depth map that a file masks; None if its name is not that of a mask."""
    match = _MASK.fullmatch(name)
    return match[1] + match[2] if match else None
