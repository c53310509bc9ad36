from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bindsearch.errors import MediaError
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.depth import read_depth
from bindsearch.ingest.media.pictures.depth_map.units import parse_unit
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.media import DepthMap

MILLIMETRES = np.array([[0, 1000, 2500], [500, 65534, 4000]], np.uint16)
METRES = np.array([[0, 1, 2.5], [0.5, 65.534, 4]])


def decode(path: Path, sidecar: Sidecar = Sidecar()) -> DepthMap:  # noqa: B008
    return read_depth(path, sidecar, DecodeOptions())[0]


def save(path: Path, values: np.ndarray) -> Path:
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        Image.fromarray(values).save(path)
    return path


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_sixteen_bit_pictures_are_millimetres(tmp_path: Path, extension: str) -> None:
    depth = decode(save(tmp_path / f"a.{extension}", MILLIMETRES))
    assert depth.depth_m.dtype == np.float32
    assert np.allclose(depth.depth_m, METRES)
    assert depth.valid.tolist() == [[False, True, True], [True, True, True]]


@pytest.mark.parametrize(("name", "dtype"), [("a.npy", np.float32), ("a.npy", np.float64), ("a.tif", np.float32)])
def test_floats_are_metres(tmp_path: Path, name: str, dtype: type) -> None:
    assert np.allclose(decode(save(tmp_path / name, METRES.astype(dtype))).depth_m, METRES)


def test_zero_nan_infinity_and_negative_are_no_value(tmp_path: Path) -> None:
    depth = decode(save(tmp_path / "a.npy", np.array([[0, np.nan, np.inf, -1, -np.inf, 2]])))
    assert depth.valid.tolist() == [[False] * 5 + [True]]
    assert depth.depth_m.tolist() == [[0] * 5 + [2]]


@pytest.mark.parametrize(
    ("unit", "factor"), [("m", 1), ("cm", 0.01), ("mm", 0.001), ("0.0002 m", 0.0002), (" MM ", 0.001), ("2 cm", 0.02)]
)
def test_the_sidecar_says_the_unit(tmp_path: Path, unit: str, factor: float) -> None:
    steps = MILLIMETRES // 100
    depth = decode(save(tmp_path / "a.png", steps), Sidecar(depth_unit=unit))
    assert np.allclose(depth.depth_m, steps * factor)


@pytest.mark.parametrize("extension", ["png", "tif", "npy"])
def test_the_rotated_bits_of_sun_rgbd_are_turned_back(tmp_path: Path, extension: str) -> None:
    """Its files hold millimetres rotated left by three bits; what is farther than 8 m becomes 8 m."""
    millimetres = np.array([[0, 1, 1234, 8000, 8001, 8191, 65534]], np.uint16)
    rotated = ((millimetres.astype(np.uint32) << 3) | (millimetres.astype(np.uint32) >> 13)).astype(np.uint16)
    assert rotated[0, 2] == 9872  # by hand
    path = save(tmp_path / f"a.{extension}", rotated)
    depth = decode(path, Sidecar(depth_unit="sunrgbd"))
    assert depth.depth_m.dtype == np.float32
    assert np.allclose(depth.depth_m, [[0, 0.001, 1.234, 8, 8, 8, 8]])
    assert depth.valid.tolist() == [[False] + [True] * 6]
    assert np.array_equal(decode(path, Sidecar(depth_unit=" SUNRGBD ")).depth_m, depth.depth_m)


def test_sun_rgbd_says_so_and_is_for_sixteen_bit_integers_only(tmp_path: Path) -> None:
    sidecar = Sidecar(depth_unit="sunrgbd", fx=529.5)
    path = save(tmp_path / "a.png", MILLIMETRES)
    assert any("baseline" in note for note in read_depth(path, sidecar, DecodeOptions())[1].notes)
    for name, dtype in (("b.png", np.uint8), ("c.tif", np.float32), ("d.npy", np.int32)):
        message = f'depth_unit is "sunrgbd", which is for 16-bit integers: these are {np.dtype(dtype).name}'
        with pytest.raises(MediaError, match=re.escape(message)):
            decode(save(tmp_path / name, np.ones((3, 3), dtype)), sidecar)


@pytest.mark.parametrize("unit", ["parsec", "", "0 m", "-1 m", "1e m", "mm mm", "m" * 500])
def test_other_units_fail(unit: str) -> None:
    with pytest.raises(MediaError, match=r"depth_unit is .*expected m, cm, mm, metres per step as a"):
        parse_unit(unit)


@pytest.mark.parametrize(("name", "dtype"), [("a.png", np.uint8), ("a.npy", np.uint16), ("a.npy", np.uint8)])
def test_integers_of_unknown_unit_are_refused_and_taken_with_one(tmp_path: Path, name: str, dtype: type) -> None:
    path = save(tmp_path / name, np.array([[0, 100], [200, 254]], dtype))
    with pytest.raises(MediaError, match=r'has no unit: put \{"depth_unit": "mm"\}'):
        decode(path)
    assert decode(path, Sidecar(depth_unit="cm")).depth_m.max() == pytest.approx(2.54)


def test_focal_length_and_baseline_come_from_the_sidecar_else_from_the_width(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.full((20, 320), 1000, np.uint16))
    plain = decode(path)
    assert (plain.fx_px, plain.baseline_m) == (pytest.approx(0.81 * 320), 0.075)
    said = decode(path, Sidecar(fx=500.0, baseline_m=0.12))
    assert (said.fx_px, said.baseline_m) == (500, 0.12)
    plain_reading, said_reading = (read_depth(path, one, DecodeOptions())[1] for one in (Sidecar(), Sidecar(fx=500.0)))
    assert "assumed: fx 259 px (0.81 x longer side), baseline 0.075 m" in plain_reading.notes
    assert plain_reading.facts == {"depth_median_m": 1.0}
    assert "assumed: baseline 0.075 m" in said_reading.notes


def test_axes_of_length_one_are_dropped(tmp_path: Path) -> None:
    assert decode(save(tmp_path / "a.npy", METRES[None, :, :, None])).depth_m.shape == (2, 3)


def test_maps_without_any_value_and_of_other_shapes_fail(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no pixel of the depth map"):
        decode(save(tmp_path / "a.png", np.zeros((4, 4), np.uint16)))
    with pytest.raises(MediaError, match=r"shape \(4, 4, 3\): expected \(height, width\)"):
        decode(save(tmp_path / "b.npy", np.ones((4, 4, 3))))
    with pytest.raises(MediaError, match="one channel, not RGB: false colours have no distances"):
        decode(save(tmp_path / "c.png", np.arange(48, dtype=np.uint8).reshape(4, 4, 3)))
    with pytest.raises(MediaError, match=r"not contain real numbers|pickled"):
        decode(save(tmp_path / "d.npy", np.ones((4, 4), complex)))


def test_a_pickled_array_is_refused_without_being_loaded(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (marker,)

    np.save(tmp_path / "a.npy", np.array([[Hostile()]], object), allow_pickle=True)
    with pytest.raises(MediaError, match="pickled objects"):
        decode(tmp_path / "a.npy")
    assert not marker.exists()


@pytest.mark.parametrize("shape", ["(99999999, 99999999)", "(1000000, 2)", "(-4, 4)", "(4,)" + "4" * 400])
def test_a_header_that_promises_more_than_the_file_fails_without_allocating(tmp_path: Path, shape: str) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode() + b"\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64))
    with pytest.raises(MediaError, match=r"truncated|are not read|damaged|shape"):
        decode(tmp_path / "a.npy")


def test_fortran_order_is_read_right(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.asfortranarray(METRES))
    assert np.allclose(decode(tmp_path / "a.npy").depth_m, METRES)
