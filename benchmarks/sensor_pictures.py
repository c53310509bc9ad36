"""Real thermal pictures (RoadScene) and depth maps as files in the layouts of cameras and data sets."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bindsearch.types import Modality

THERMAL_FILES = Path(__file__).parents[1] / "tests" / "helpers" / "thermal_files.py"
ORIENTATION = 0x0112
"""Tag of EXIF."""

TURNED_LEFT = 6
"""Value of the tag: the stored picture must be turned by 90 degrees clockwise."""

RAW_FIRST, RAW_STEP = 12_000, 16
"""Value of a thermal camera's black, and its step for each of 255 levels."""

NO_DATA = -9999.0
BORDER = 0.1
"""Share of the sides that is without data at each edge."""

FX_PX, BASELINE_M = 519.0, 0.075

Write = Callable[[Path, Path], Path]
"""Function that writes a file of the data below a path without extension, and returns the new file."""


@dataclass(frozen=True)
class PictureLayout:
    """A layout of thermal or depth files.

    Attributes:
        name: Name, as in the table.
        write: Writes a picture.
        before: Share or number that was found before units, orientation and holes were read.
    """

    name: str
    modality: Modality
    write: Write
    before: str = ""


def thermal_layouts() -> list[PictureLayout]:
    """Return the layouts of thermal pictures."""
    helpers = runpy.run_path(str(THERMAL_FILES))
    write_flir, coloured = helpers["write_flir"], helpers["coloured"]

    def radiometric(source: Path, path: Path) -> Path:
        grey = _grey(source)
        write_flir(path.with_suffix(".jpg"), _raw(grey), coloured(grey, "spectrum"))
        return path.with_suffix(".jpg")

    def palette(name: str) -> Write:
        def write(source: Path, path: Path) -> Path:
            Image.fromarray(coloured(_grey(source), name)).save(path.with_suffix(".jpg"), quality=90)
            return path.with_suffix(".jpg")

        return write

    rows: list[tuple[str, Write, str]] = [
        ("grey, upright", _copy, "67%"),
        ("grey, turned, EXIF says it", _turned_grey, "27%"),
        ("16 bits", _sixteen_bits, ""),
        ("degrees, border of -9999", _with_border(NO_DATA), "11%"),
        ("the same border, black, 8 bits", _with_border(None), ""),
        ("radiometric JPEG (FLIR), rainbow", radiometric, "49%"),
        *((f"colours only: {name}", palette(name), "") for name in ("spectrum", "iron", "jet")),
    ]
    return [PictureLayout(name, Modality.THERMAL, write, before) for name, write, before in rows]


def depth_layouts() -> list[PictureLayout]:
    """Return the layouts of depth maps."""
    rows: list[tuple[str, Write, str]] = [
        ("16-bit mm", _copy, "9"),
        ("16-bit mm, turned, EXIF says it", _turned_depth, ""),
        ("TUM, metres / 5000", _tum, ""),
        ("float metres", _float_metres, ""),
        ("float, disparity in pixels, camera said", _disparity, ""),
        ("16-bit relative inverse, said", _inverse, "6"),
        ("float relative inverse, said", _float_inverse, "4"),
    ]
    return [PictureLayout(name, Modality.DEPTH, write, before) for name, write, before in rows]


def _copy(source: Path, path: Path) -> Path:
    file = path.with_suffix(source.suffix)
    file.write_bytes(source.read_bytes())
    return file


def _grey(source: Path) -> NDArray[np.uint8]:
    with Image.open(source) as picture:
        return np.asarray(picture.convert("L"))


def _raw(grey: NDArray[np.uint8]) -> NDArray[np.uint16]:
    return (RAW_FIRST + RAW_STEP * grey.astype(np.uint16)).astype(np.uint16)


def _save_turned(values: NDArray[Any], file: Path) -> Path:
    exif = Image.Exif()
    exif[ORIENTATION] = TURNED_LEFT
    Image.fromarray(np.ascontiguousarray(np.rot90(values))).save(file, exif=exif, quality=95)
    return file


def _turned_grey(source: Path, path: Path) -> Path:
    return _save_turned(_grey(source), path.with_suffix(".jpg"))


def _sixteen_bits(source: Path, path: Path) -> Path:
    file = path.with_suffix(".png")
    Image.fromarray(_raw(_grey(source))).save(file)
    return file


def _with_border(mark: float | None) -> Write:
    """Return a function that writes a picture without data at its edges: degrees, or with None black levels."""

    def write(source: Path, path: Path) -> Path:
        grey = _grey(source)
        height, width = grey.shape
        y, x = round(BORDER * height), round(BORDER * width)
        inside = np.s_[y : height - y, x : width - x]
        if mark is None:
            levels = np.zeros_like(grey)
            levels[inside] = grey[inside]
            file = path.with_suffix(".png")
            Image.fromarray(levels).save(file)
            return file
        degrees = np.full(grey.shape, mark, np.float32)
        degrees[inside] = 5 + grey[inside] / np.float32(8)
        file = path.with_suffix(".tiff")
        Image.fromarray(degrees).save(file)
        return file

    return write


def _metres(source: Path) -> NDArray[np.float64]:
    """Return metres, 0 where there is no value."""
    with Image.open(source) as picture:
        return np.asarray(picture, np.float64) / 1000


def _turned_depth(source: Path, path: Path) -> Path:
    return _save_turned(np.round(1000 * _metres(source)).astype(np.uint16), path.with_suffix(".png"))


def _tum(source: Path, path: Path) -> Path:
    """Write steps of 0.2 mm; what is beyond 13.1 m has no value."""
    steps = np.round(5000 * _metres(source))
    folder = path.parent / "rgbd_dataset_freiburg1_xyz" / "depth"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{path.name}.png"
    Image.fromarray(np.where(steps < 65_535, steps, 0).astype(np.uint16)).save(file)
    return file


def _float_metres(source: Path, path: Path) -> Path:
    metres = _metres(source).astype(np.float32)
    return _save_array(path, np.where(metres > 0, metres, np.float32(np.nan)), {})


def _disparity(source: Path, path: Path) -> Path:
    facts = {"depth_unit": "disparity", "fx": FX_PX, "baseline_m": BASELINE_M}
    return _save_array(path, FX_PX * BASELINE_M * _reciprocal(source), facts)


def _float_inverse(source: Path, path: Path) -> Path:
    return _save_array(path, 700 * _reciprocal(source) - 20, {"depth_unit": "inverse"})


def _inverse(source: Path, path: Path) -> Path:
    """Write relative inverse depth scaled to 1..65535, as networks for it do; 0 has no value here."""
    inverse = _reciprocal(source)
    low, high = np.nanmin(inverse), np.nanmax(inverse)
    levels = np.nan_to_num(1 + np.round(65_534 * (inverse - low) / (high - low)))
    file = path.with_suffix(".png")
    Image.fromarray(levels.astype(np.uint16)).save(file)
    return _with_sidecar(file, {"depth_unit": "inverse", "invalid": [0]})


def _reciprocal(source: Path) -> NDArray[np.float32]:
    metres = _metres(source)
    with np.errstate(divide="ignore"):
        return np.where(metres > 0, 1 / metres, np.nan).astype(np.float32)


def _save_array(path: Path, values: NDArray[Any], facts: Mapping[str, object]) -> Path:
    file = path.with_suffix(".npy")
    np.save(file, values.astype(np.float32))
    return _with_sidecar(file, facts) if facts else file


def _with_sidecar(file: Path, facts: Mapping[str, object]) -> Path:
    file.with_name(f"{file.name}.json").write_text(json.dumps(facts), "utf-8")
    return file
