"""Depth maps as cameras, data sets and networks write them: the same scene in each form gives the same map."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from bindsearch.errors import MediaError
from bindsearch.ingest.inspect.classify import classify
from bindsearch.ingest.inspect.inspect_file import InspectOptions, SourceFile, inspect_file
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.depth import read_depth
from bindsearch.ingest.media.pictures.image import read_image
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.media import DecodeHints, DepthMap, Reading
from bindsearch.storage.file_state import file_state
from bindsearch.types import Modality
from helpers.file_bytes import exr

SUITE = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
STORED_FROM_UPRIGHT: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
    5: lambda a: a.T, 6: lambda a: np.rot90(a, 1), 7: lambda a: a[::-1, ::-1].T, 8: lambda a: np.rot90(a, -1),
}  # fmt: skip
"""What a camera stores whose picture is upright after the turn of each EXIF orientation (Exif 2.32, tag 0x0112)."""


def scene() -> NDArray[np.float64]:
    """Metres of a floor that comes nearer from top to bottom, a box, and a hole (0)."""
    rows, columns = np.mgrid[:24, :32]
    depth_m = 4.5 - rows * 0.12 + columns * 0.01
    depth_m[8:16, 10:18] = 1.25
    depth_m[2:5, 25:30] = 0
    return depth_m


def decode(path: Path, sidecar: Sidecar = Sidecar()) -> tuple[DepthMap, Reading]:  # noqa: B008
    return read_depth(path, sidecar, DecodeOptions())


def save(path: Path, values: NDArray[Any], orientation: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values)
        return path
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(np.ascontiguousarray(values))
    if orientation == 1:
        picture.save(path)
    else:
        picture.save(path, exif=exif)
    return path


def check_scene(depth: DepthMap, tolerance: float = 0.01) -> None:
    truth = scene()
    assert depth.depth_m.shape == truth.shape
    assert np.array_equal(depth.valid, truth > 0)
    assert np.allclose(depth.depth_m, truth, rtol=tolerance, atol=tolerance)


def rotated(mm: NDArray[np.uint16]) -> NDArray[np.uint16]:
    wide = mm.astype(np.uint32)
    return ((wide << 3) | (wide >> 13)).astype(np.uint16)


def disparity_px(fx_px: float, baseline_m: float) -> NDArray[np.float64]:
    truth = scene()
    return np.where(truth > 0, fx_px * baseline_m / np.where(truth > 0, truth, 1), 0)


KITTI_FX = 721.5377 / 1242 * 32
STORED: dict[str, NDArray[Any]] = {
    "m": scene().astype(np.float32),
    "cm": (scene() * 100).astype(np.float32),
    "mm": np.rint(scene() * 1000).astype(np.uint16),
    "0.0002": np.rint(scene() / 0.0002).astype(np.uint16),
    "0.001 m": np.rint(scene() * 1000).astype(np.int32),
    "tum": np.rint(scene() * 5000).astype(np.uint16),
    "kitti": np.rint(scene() * 256).astype(np.uint16),
    "omnidata": np.rint(scene() * 512).astype(np.uint16),
    "sunrgbd": rotated(np.rint(scene() * 1000).astype(np.uint16)),
    "kitti-disparity": np.rint(disparity_px(KITTI_FX, 0.5327) * 256).astype(np.uint16),
    "cityscapes": np.where(scene() > 0, np.rint(disparity_px(2262.52 / 2048 * 32, 0.209313) * 256) + 1, 0).astype(
        np.uint16
    ),
}
"""The scene in each unit; the steps of some are coarse."""


@SUITE
@given(unit=st.sampled_from(sorted(STORED)), orientation=st.integers(1, 8), form=st.sampled_from([".png", ".tif"]))
def test_any_unit_in_any_orientation_gives_the_same_map(tmp_path: Path, unit: str, orientation: int, form: str) -> None:
    stored = STORED[unit]
    form = form if stored.dtype == np.uint16 else ".tif"
    path = save(tmp_path / f"a{form}", STORED_FROM_UPRIGHT[orientation](stored), orientation)
    depth, reading = decode(path, Sidecar(depth_unit=unit, rotate=0))
    check_scene(depth)
    plain, _ = decode(save(tmp_path / "b.npy", stored), Sidecar(depth_unit=unit))
    assert np.array_equal(depth.depth_m, plain.depth_m)
    assert (depth.fx_px, depth.baseline_m) == (plain.fx_px, plain.baseline_m)
    assert reading.facts["depth_median_m"] == pytest.approx(float(np.median(scene()[scene() > 0])), rel=0.02)


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_the_sidecar_turns_a_map_and_its_default_focal_length_stays(tmp_path: Path, rotate: int) -> None:
    path = save(tmp_path / "a.npy", np.rot90(scene(), rotate // 90))
    depth, _ = decode(path, Sidecar(rotate=rotate))
    check_scene(depth)
    assert depth.fx_px == pytest.approx(0.81 * 32)


def test_disparity_needs_the_camera_and_gives_the_same_map(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npy", disparity_px(30.0, 0.12).astype(np.float32))
    check_scene(decode(path, Sidecar(depth_unit="disparity", fx=30.0, baseline_m=0.12))[0])
    quarter = save(tmp_path / "b.npy", disparity_px(30.0, 0.12) * 4)
    check_scene(decode(quarter, Sidecar(depth_unit="0.25 px", fx=30.0, baseline_m=0.12))[0])
    with pytest.raises(MediaError, match='"baseline_m" of the stereo camera must be in its sidecar'):
        decode(path, Sidecar(depth_unit="disparity", fx=30.0))


@SUITE
@given(scale=st.floats(0.01, 1e4), shift=st.floats(-100, 1000))
def test_inverse_depth_of_any_scale_and_shift_is_one_map_whose_order_is_right(
    tmp_path: Path, scale: float, shift: float
) -> None:
    truth = np.where(scene() > 0, scene(), 4.0)
    depth, reading = decode(save(tmp_path / "a.npy", scale / truth + shift), Sidecar(depth_unit="inverse"))
    assert depth.valid.all()
    assert float(np.median(depth.depth_m)) == pytest.approx(2.5, rel=1e-3)
    assert np.corrcoef(1 / depth.depth_m.ravel(), 1 / truth.ravel())[0, 1] > 0.9999
    assert "depth_median_m" not in reading.facts
    assert reading.notes[0] == "relative inverse depth: median set to 2.5 m, the farthest hundredth to 6 m"


def test_the_largest_value_of_inverse_depth_is_the_nearest_point(tmp_path: Path) -> None:
    inverse = 1 / np.where(scene() > 0, scene(), 4.0)
    steps = np.rint((inverse - inverse.min()) / np.ptp(inverse) * 255).astype(np.uint8)
    depth, _ = decode(save(tmp_path / "a.png", steps), Sidecar(depth_unit="inverse"))
    assert depth.valid.all()
    assert depth.depth_m.argmin() == inverse.argmax()
    three = save(tmp_path / "b.png", np.repeat(steps[..., None], 3, axis=2))
    assert np.array_equal(decode(three, Sidecar(depth_unit="inverse"))[0].depth_m, depth.depth_m)


@pytest.mark.parametrize(
    ("rel_path", "unit"),
    [
        ("rgbd_dataset_freiburg1_xyz/depth/1305031102.160407.png", "tum"),
        ("living_room_traj0_frei_png/depth/0.png", "tum"),
        ("train/2011_09_26_drive_0001_sync/proj_depth/groundtruth/image_02/0000000005.png", "kitti"),
        ("training/disp_occ_0/000000_10.png", "kitti-disparity"),
        ("disparity/train/aachen/aachen_000000_000019_disparity.png", "cityscapes"),
        ("depth_zbuffer/point_0_view_0_domain_depth_zbuffer.png", "omnidata"),
        ("SUNRGBD/kv1/NYUdata/NYU0001/depth_bfx/NYU0001.png", "sunrgbd"),
    ],
)
def test_folders_of_data_sets_say_the_unit(tmp_path: Path, rel_path: str, unit: str) -> None:
    path = save(tmp_path / rel_path, STORED[unit])
    assert classify(path, rel_path, ()).modality is Modality.DEPTH
    depth, reading = decode(path)
    check_scene(depth)
    assert reading.notes[0].startswith(f"depth in {unit}, by '")
    options = InspectOptions((), frozenset(Modality))
    copy = save(tmp_path / "depth" / "a.png", STORED[unit])
    found, other = (
        inspect_file(SourceFile(file, str(file.relative_to(tmp_path)), file_state(file.stat())), options)
        for file in (path, copy)
    )
    assert found.content_hash == other.content_hash
    assert found.fingerprint != other.fingerprint
    spooled = save(tmp_path / "spool" / "00000001.png", STORED[unit])  # as a member of an archive
    check_scene(decode(spooled, found.sidecar)[0])


def test_a_folder_of_sun_rgbd_with_plain_millimetres_is_read_as_such(tmp_path: Path) -> None:
    depth, reading = decode(save(tmp_path / "sunrgbd/depth/1.png", STORED["mm"]))
    check_scene(depth)
    assert reading.notes[0] == "depth in mm, the default of 16-bit integers: median 3.09 m"


@pytest.mark.parametrize(
    ("rel_path", "word"),
    [
        ("midas/depth/room.npy", "midas"),
        ("out/room-dpt_beit_large_512.png", "dpt"),
        ("disparity/1.tif", "disparity"),
        ("disp0.pfm.npy", "disp"),
        ("depth_anything_v2_vits/1.npy", "depth_anything"),
    ],
)
def test_names_of_relative_depth_are_not_silently_metric(tmp_path: Path, rel_path: str, word: str) -> None:
    stored = scene().astype(np.float32) if rel_path.endswith((".npy", ".tif")) else STORED["mm"]
    path = save(tmp_path / "root" / "x" / rel_path, stored)
    with pytest.raises(MediaError, match=f"'{word}' in its path names disparity or relative depth"):
        decode(path)
    check_scene(decode(path, Sidecar(depth_unit="m" if stored.dtype == np.float32 else "mm"))[0])


def test_a_picture_scaled_to_the_whole_range_is_refused_unless_its_unit_is_said(tmp_path: Path) -> None:
    whole = np.linspace(0, 65535, 600).reshape(20, 30).astype(np.uint16)
    path = save(tmp_path / "depth.png", whole)
    with pytest.raises(MediaError, match=r"span exactly 0\.\.65535.*\"inverse\" for relative depth"):
        decode(path)
    assert decode(path, Sidecar(depth_unit="mm"))[0].depth_m.max() < 65.535
    with pytest.raises(MediaError, match=r"span exactly 0\.\.1"):
        decode(save(tmp_path / "depth.npy", np.linspace(0, 1, 600).reshape(20, 30)))


def test_marks_of_no_value_are_counted(tmp_path: Path) -> None:
    stored = STORED["mm"].copy()
    stored[stored == 0] = 65535
    depth, reading = decode(save(tmp_path / "a.png", stored))
    check_scene(depth)
    assert "2% of the pixels are 65535, the largest value of uint16: no value" in reading.notes
    stored[stored == 65535] = 7777
    depth, reading = decode(save(tmp_path / "a.png", stored), Sidecar(depth_unit="mm", invalid=(7777.0,)))
    check_scene(depth)
    assert "2% of the pixels are 7777, declared invalid: no value" in reading.notes
    floats = np.where(scene() > 0, scene(), 65504)  # the largest half float, as renderers write for the sky
    depth, reading = decode(save(tmp_path / "a.npy", floats.astype(np.float16)))
    check_scene(depth)
    assert "2% of the pixels are beyond 1000 m: no value" in reading.notes


def test_distances_that_cannot_be_are_refused_with_the_median(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npy", (scene() * 1000).astype(np.float32))
    with pytest.raises(MediaError, match=r'median would be 3\d\d\d m in m, the default of floating.*"depth_unit"'):
        decode(path)
    check_scene(decode(path, Sidecar(depth_unit="mm"))[0])
    with pytest.raises(MediaError, match=r"median would be 0\.00\d+ m in mm"):
        decode(save(tmp_path / "b.png", (scene() * 2).astype(np.uint16)))
    signed = np.linspace(-3, 30, 600).reshape(20, 30)
    with pytest.raises(MediaError, match=r"% of the values are below 0, down to -3"):
        decode(save(tmp_path / "c.npy", signed))
    said, reading = decode(save(tmp_path / "d.npy", scene() * 100), Sidecar(depth_unit="m"))
    assert said.valid.sum() == (scene() > 0).sum()
    assert reading.notes[0] == "depth in m, as its sidecar says, is unusual: median 309 m"


def test_a_mask_of_diode_is_used_and_left_out(tmp_path: Path) -> None:
    """DIODE's devkit: x_depth.npy float32 (h, w, 1), x_depth_mask.npy float (h, w), 0 where there is no value."""
    name = "00019_00183_indoors_000_010_depth"
    filled = np.where(scene() > 0, scene(), 3.3).astype(np.float32)[..., None]
    path = save(tmp_path / f"{name}.npy", filled)
    options = InspectOptions((), frozenset(Modality))
    bare = inspect_file(SourceFile(path, path.name, file_state(path.stat())), options)
    mask = save(tmp_path / f"{name}_mask.npy", (scene() > 0).astype(np.float64))
    assert classify(mask, mask.name, ()).why == f"mask of {name}.npy"
    depth, reading = decode(path)
    check_scene(depth)
    assert f"2% of the pixels are no value by its mask {name}_mask.npy" in reading.notes
    masked = inspect_file(SourceFile(path, path.name, file_state(path.stat())), options)
    assert masked.fingerprint != bare.fingerprint
    save(mask, np.ones((3, 3)))
    with pytest.raises(MediaError, match=r"its mask .* has the shape \(3, 3\), the depth \(24, 32\)"):
        decode(path)


@pytest.mark.parametrize("shape", [(24, 32), (1, 24, 32), (24, 32, 1)])
@pytest.mark.parametrize("name", ["depth", "arr_0", "Depth"])
def test_npz_files_have_depth_by_name_or_as_the_only_array(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    path = tmp_path / "depth_1.npz"
    arrays: dict[str, Any] = {name: scene().reshape(shape)}
    np.savez_compressed(path, **arrays)
    assert classify(path, path.name, ()).modality is Modality.DEPTH
    check_scene(decode(path)[0])


def test_npz_files_of_several_arrays(tmp_path: Path) -> None:
    path = tmp_path / "frame.npz"
    np.savez(path, depth=np.where(scene() > 0, scene(), 9.9), valid_mask=scene() > 0, pose=np.eye(4), rgb=np.ones(3))
    assert classify(path, path.name, ()).why == "npz with an array named 'depth'"
    depth, reading = decode(path)
    check_scene(depth)
    assert "depth is the array 'depth' of 4" in reading.notes
    np.savez(path, a=scene(), b=scene())
    with pytest.raises(MediaError, match=r"no array of the .npz is named depth.*a \(24, 32\), b \(24, 32\)"):
        decode(path)
    np.savez(path, disparity=scene())
    with pytest.raises(MediaError, match="of the stereo camera must be in its sidecar"):
        decode(path)


@pytest.mark.parametrize("order", ["<", ">"])
def test_pfm_rows_go_upwards_and_the_sign_of_the_scale_is_the_byte_order(tmp_path: Path, order: str) -> None:
    """Format: netpbm's pfm(5); a scale other than 1 is not applied (Middlebury writes 1/255)."""
    path = tmp_path / "depth_1.pfm"
    scale = "-0.003922" if order == "<" else "1.0"
    path.write_bytes(f"Pf\n32 24\n{scale}\n".encode() + scene()[::-1].astype(f"{order}f4").tobytes())
    assert classify(path, path.name, ()).modality is Modality.DEPTH
    assert classify(path, "x/1.pfm", ()).modality is None
    check_scene(decode(path)[0])
    path.write_bytes(b"Pf\n32 24\n-1\n" + bytes(100))
    with pytest.raises(MediaError, match="truncated: the PFM of 32x24 needs 3072 bytes, only 100 exist"):
        decode(path)
    path.write_bytes(b"PF\n32 24\n-1\n" + bytes(100))
    with pytest.raises(MediaError, match="three channels"):
        decode(path)
    path.write_bytes(b"Pf\n999999999 999999999\n-1\n")
    with pytest.raises(MediaError, match="are not decoded"):
        decode(path)


def float_tiff(values: NDArray[Any], order: str = "<", *, deflated: bool = False) -> bytes:
    """Write a TIFF of one strip of floating-point values (TIFF 6.0, sections 2 and 19)."""
    raw = values.astype(values.dtype.newbyteorder("<" if order == "<" else ">")).tobytes()
    raw = zlib.compress(raw) if deflated else raw
    height, width = values.shape
    tags = {256: width, 257: height, 258: 8 * values.itemsize, 259: 8 if deflated else 1, 262: 1, 273: 0, 274: 1,
            277: 1, 278: height, 279: len(raw), 339: 3}  # fmt: skip
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items())
    return mark + struct.pack(f"{order}IH", 8, len(tags)) + entries + bytes(4) + raw


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflated", [False, True])
def test_tiffs_of_half_and_double_floats(tmp_path: Path, dtype: type, order: str, deflated: bool) -> None:
    path = tmp_path / "depth_1.tiff"
    path.write_bytes(float_tiff(scene().astype(dtype), order, deflated=deflated))
    assert classify(path, path.name, ()).modality is Modality.DEPTH
    check_scene(decode(path)[0])
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(MediaError, match=r"truncated|damaged"):
        decode(path)


@pytest.mark.parametrize("compression", [0, 2, 3])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("name", ["Z", "ViewLayer.Depth.Z", "Y"])
def test_exr_files_have_depth_in_a_channel(tmp_path: Path, compression: int, dtype: type, name: str) -> None:
    path = tmp_path / "depth_1.exr"
    other: dict[str, NDArray[Any]] = {} if name == "Y" else {"A": np.ones((24, 32), np.float16)}
    path.write_bytes(exr({name: scene().astype(dtype), **other}, compression))
    assert classify(path, path.name, ()).modality is Modality.DEPTH
    assert classify(path, "render/1.exr", ()).modality is None
    check_scene(decode(path)[0])
    whole = path.read_bytes()
    for cut in (6, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(MediaError, match=r"damaged|truncated"):
            decode(path)


def test_exr_files_that_are_not_read_say_how_to_save_them(tmp_path: Path) -> None:
    path = tmp_path / "depth_1.exr"
    raw = exr({"Z": scene().astype(np.float32)}, 0)
    path.write_bytes(raw.replace(b"compression\0\1\0\0\0\0", b"compression\0\1\0\0\0\4"))
    with pytest.raises(MediaError, match="of PIZ compression are not read: save it as scan lines with ZIP"):
        decode(path)
    path.write_bytes(raw[:5] + b"\2" + raw[6:])
    with pytest.raises(MediaError, match="EXR files of tiles are not read"):
        decode(path)
    other = np.ones((24, 32), np.float32)
    path.write_bytes(exr({"R": other, "G": other * 2, "B": other}, 3))
    with pytest.raises(MediaError, match="has colours and no channel named Z or depth"):
        decode(path)


def test_sixteen_bit_grey_without_a_word_asks_for_a_rule(tmp_path: Path) -> None:
    path = save(tmp_path / "xray" / "1.png", STORED["mm"])
    verdict = classify(path, "xray/1.png", ())
    assert (verdict.modality, verdict.why[:38]) == (None, "16-bit single-channel png is ambiguous")
    assert "--modality-rule image=GLOB" in verdict.why
    assert classify(path, "rgb/1.png", ()).modality is Modality.IMAGE
    path.with_name("1.png.json").write_text('{"depth_unit": "mm"}')
    assert classify(path, "xray/1.png", ()).modality is Modality.DEPTH


def test_a_grey_rendering_of_depth_is_no_image(tmp_path: Path) -> None:
    grey = np.repeat((scene() * 50).astype(np.uint8)[..., None], 3, axis=2)
    path = save(tmp_path / "vis_depth" / "room.png", grey)
    assert classify(path, "vis_depth/room.png", ()).modality is Modality.DEPTH
    with pytest.raises(MediaError, match=r'8-bit integer depth has no unit.*"inverse" for relative depth'):
        decode(path)
    colour = save(tmp_path / "vis_depth" / "b.png", grey + np.array([0, 9, 0], np.uint8))
    assert classify(colour, "vis_depth/b.png", ()).modality is Modality.IMAGE


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_a_picture_of_few_bits_in_sixteen_is_not_black_as_an_image(tmp_path: Path, bits: int) -> None:
    values = np.linspace(0, 2**bits - 1, 256).reshape(16, 16).astype(np.uint16)
    rgb = read_image(save(tmp_path / "xray.png", values), DecodeHints(24, 1.0), DecodeOptions()).rgb
    assert np.array_equal(rgb[..., 0], values >> (bits - 8))
