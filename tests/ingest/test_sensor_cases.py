"""Sensor files in the layouts of apps and data sets: each gives the recorded motion, metres or temperatures, or a line.

fixtures/sensors_2026_11.tar.xz: synthetic recordings, written as phones, loggers and data sets write them, and in
`truth.npz` what a decoder should give: acc (m/s^2, with gravity), gyro (rad/s), depth_m, depth_valid, celsius, rgb.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.inspect.find_file import find_file
from bindsearch.ingest.inspect.inspect_file import classify_source, declared_of
from bindsearch.ingest.media.decode import DecodedSegment, pieces
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.media import DecodeHints, DepthMap, Motion, Picture, ThermalPicture
from bindsearch.types import Modality
from helpers.stores import connect

FIXTURE = Path(__file__).parents[1] / "fixtures" / "sensors_2026_11.tar.xz"

RIGHT = (
    "depth/diode/00019_00183_indoors_000_010_depth.npy",
    "depth/kitti/proj_depth/groundtruth/image_02/0000000005.png",
    "depth/list_says_unit/depth/a.png",
    "depth/no_return_65535/depth/0001.png",
    "depth/nyu_mm/depth/0001.png",
    "depth/png_with_exif_orientation/depth/frame.png",
    "depth/rgbd_dataset_freiburg1_xyz/depth/1305031102.160407.png",
    "imu/WristMotion.csv",
    "imu/actigraph_imu.csv",
    "imu/actigraph_imu_without_preamble.csv",
    "imu/androsensor_linear_first.csv",
    "imu/ego4d/0a1b2c3d.csv",
    "imu/euroc/mav0/imu0/data.csv",
    "imu/motionsense/sub_1.csv",
    "imu/movella_dot_without_preamble.csv",
    "imu/openlog_artemis.csv",
    "imu/phyphox/Accelerometer.csv",
    "imu/physics_toolbox.csv",
    "imu/sensor_logger_android/TotalAcceleration.csv",
    "imu/sensorlog_axes_said.csv",
    "imu/uci_har_names.csv",
    "imu/vins_headerless/imu.csv",
    "thermal/exif_orientation/thermal/portrait.jpg",
    "thermal/flir_radiometric_rainbow/thermal/FLIR0123.jpg",
    "thermal/mfnet_rgbt/images/00001D.png",
    "thermal/nodata_-9999/thermal/ortho.tiff",
    "thermal/sixteen_bit_in_folder_TIR/TIR/0001.png",
    "time/ble_bursts.csv",
    "time/header_again_in_the_middle.csv",
    "time/whole_seconds_unix.csv",
)

REFUSED = {
    "depth/depth_anything_grayscale/vis_depth/room.png": "names disparity or relative depth",
    "depth/midas/depth/room.npy": "names disparity or relative depth",
    "depth/midas/room-dpt_beit_large_512.png": "names disparity or relative depth",
    "depth/realsense/depth/frame_mm_float.npy": "the median would be 2473 m",
    "imu/phyphox_linear.csv": r"no gravity in it \(median 2.4 m/s\^2\)",
    "imu/two_imus_same_names.csv": "several columns are named 'acc_x'",
    "time/sample_counter.csv": "time column 'timestamp' counts rows",
}

LEFT_OUT = {
    "depth/diode/00019_00183_indoors_000_010_depth_mask.npy": "mask of 00019_00183_indoors_000_010_depth.npy",
    "imu/phyphox/Gyroscope.csv": "part of Accelerometer.csv",
    "imu/sensor_logger_android/Accelerometer.csv": "part of TotalAcceleration.csv",
    "imu/sensor_logger_android/Gravity.csv": "part of TotalAcceleration.csv",
    "imu/sensor_logger_android/Gyroscope.csv": "part of TotalAcceleration.csv",
    "text/kitti_oxts/0000000000.txt": "numbers, not prose",
    "text/uci_har_total_acc_x_train.txt": "numbers, not prose",
}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    with tarfile.open(FIXTURE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "sensors"


@pytest.fixture(scope="module")
def truth(cases: Path) -> dict[str, NDArray[np.float64]]:
    with np.load(cases / "truth.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def read(cases: Path, name: str) -> tuple[Modality | None, str, list[DecodedSegment]]:
    """Return modality, reason and segments of a file, as in a run on the folder of its list, else of its kind.

    A recording without any time is given its rate, as by `--imu-rate`.
    """
    path = cases / name
    root = path.parents[1] if (path.parents[1] / "list.csv").is_file() else cases / name.partition("/")[0]
    found = find_file(path, [root])
    verdict = classify_source(found.file, found.options)
    if verdict.modality is None:
        return None, verdict.why, []
    segments = pieces(
        path,
        verdict.modality,
        wants=DecodeHints(224, 1.0),
        options=DecodeOptions(imu_rate_hz=50 if name in ("imu/motionsense/sub_1.csv",) else None),
        sidecar=declared_of(found.file, found.options).for_modality(verdict.modality),
        count_tokens=lambda text: len(text.split()),
        max_tokens=77,
    )
    return verdict.modality, verdict.why, list(segments)


def test_every_file_is_expected_to_be_something(cases: Path) -> None:
    files = {
        path.relative_to(cases).as_posix()
        for path in cases.rglob("*")
        if path.is_file() and path.suffix not in (".json", ".zip", ".npz") and path.name != "list.csv"
    }
    assert files == {*RIGHT, *REFUSED, *LEFT_OUT}


@pytest.mark.parametrize("name", RIGHT)
def test_a_file_gives_what_was_recorded(name: str, cases: Path, truth: dict[str, NDArray[np.float64]]) -> None:
    _, _, segments = read(cases, name)
    match segments[0].media:
        case Motion():
            motions = [one.media for one in segments if isinstance(one.media, Motion)]
            samples = np.concatenate([motion.samples for motion in motions])
            due = np.column_stack([truth["acc"], truth["gyro"]])
            assert motions[0].sample_rate_hz == pytest.approx(50, abs=0.5)
            assert len(samples) >= 0.7 * len(due)
            n = min(len(samples), len(due))
            np.testing.assert_allclose(samples[:n], due[:n], atol=0.01)
        case DepthMap(depth_m=depth_m, valid=valid):
            known = valid & truth["depth_valid"].astype(bool)
            assert depth_m.shape == truth["depth_m"].shape
            assert np.median(depth_m[known] / truth["depth_m"][known]) == pytest.approx(1, abs=0.02)
            assert np.corrcoef(depth_m[known], truth["depth_m"][known])[0, 1] > 0.99
            assert (valid & ~truth["depth_valid"].astype(bool)).mean() < 0.001
        case ThermalPicture(values=values):
            assert values.shape == truth["celsius"].shape
            assert np.corrcoef(values[30:].ravel(), truth["celsius"][30:].ravel())[0, 1] > 0.98
            assert values[30:].std() > 0.05
        case Picture(rgb=rgb):
            assert np.abs(rgb.astype(float) - truth["rgb"]).mean() < 2
        case other:
            raise AssertionError(f"taken for {type(other)}")


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_known_is_refused_in_one_line(name: str, cases: Path) -> None:
    with pytest.raises(MediaError, match=REFUSED[name]) as told:
        read(cases, name)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_no_item_of_its_own_is_left_out_with_the_reason(name: str, cases: Path) -> None:
    modality, why, _ = read(cases, name)
    assert (modality, LEFT_OUT[name] in why) == (None, True)


def test_a_zip_of_separate_sensor_files_is_one_recording(cases: Path, tmp_path: Path) -> None:
    folder = tmp_path / "imu"
    folder.mkdir()
    (folder / "walk.zip").write_bytes((cases / "imu" / "sensor_logger_android.zip").read_bytes())
    with connect(tmp_path / "store", encoder="null") as store:
        report = store.index(folder)
        assert (report.added, report.failed) == (1, 0)
        assert store.status().items == {Modality.IMU: 1}
