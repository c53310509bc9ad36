"""Names of depth maps: data sets whose unit the name tells, relative depth, and masks. Nothing is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from bindsearch.ingest.media.pictures.depth_map.units import BY

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
    for pattern, unit in _FILES:
        if re.fullmatch(pattern, name, re.IGNORECASE):
            return f"{unit}{BY}{name!r}"
    for folder in reversed(folders):
        for pattern, unit in _FOLDERS:
            if re.fullmatch(pattern, folder, re.IGNORECASE):
                return f"{unit}{BY}{folder!r}"
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
