"""Motion in the layouts of UCI HAR and Ego4D."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bindsearch.errors import UsageError
from bindsearch.evaluation.datasets.registry import read_dataset
from bindsearch.media import Motion
from bindsearch.types import Modality, Span
from helpers.data_set_files import write_texts
from helpers.media_files import motion, write_motion_csv

AXES = [f"{signal}_{axis}" for signal in ("total_acc", "body_gyro") for axis in "xyz"]
ACTIVITIES = "1 WALKING\n2 WALKING_UPSTAIRS\n3 WALKING_DOWNSTAIRS\n4 SITTING\n5 STANDING\n6 LAYING\n"


def recording(windows: int, seed: int) -> NDArray[np.float64]:
    """Return windows, (n, 128, 6), of which each begins with the last half of the one before."""
    whole = np.random.default_rng(seed).normal(size=(64 * (windows + 1), 6)).round(5)
    return np.stack([whole[64 * row : 64 * row + 128] for row in range(windows)])


def har_texts(windows: NDArray[np.float64], activities: str, subjects: str) -> Mapping[str, str]:
    signals = {
        f"test/Inertial Signals/{axis}_test.txt": "".join(
            " ".join(f"{value: .7e}" for value in row) + "\n" for row in windows[:, :, number]
        )
        for number, axis in enumerate(AXES)
    }
    return {
        **signals,
        "activity_labels.txt": ACTIVITIES,
        "test/y_test.txt": activities,
        "test/subject_test.txt": subjects,
    }


def har(folder: Path) -> NDArray[np.float64]:
    windows = np.concatenate([recording(4, 0), recording(3, 1)])
    write_texts(folder, har_texts(windows, "5\n" * 4 + "1\n" * 3, "2\n" * 4 + "4\n" * 3))
    return windows


def test_windows_of_uci_har_are_motion_in_si_units(tmp_path: Path) -> None:
    windows = har(tmp_path / "UCI HAR Dataset")
    data = read_dataset("uci-har", tmp_path)
    assert [item.labels[0] for item in data.items] == ["standing"] * 4 + ["walking"] * 3
    assert [item.group for item in data.items] == ["2"] * 4 + ["4"] * 3
    assert data.classes is not None
    assert data.classes.texts == (("standing",), ("walking",))
    moved = data.items[5].media
    assert isinstance(moved, Motion)
    assert moved.sample_rate_hz == 50.0
    np.testing.assert_allclose(moved.samples[:, :3], windows[5, :, :3] * 9.80665, rtol=1e-6)
    np.testing.assert_allclose(moved.samples[:, 3:], windows[5, :, 3:], rtol=1e-6)
    assert (data.modality, data.templates) == (Modality.IMU, "motion")


def test_three_windows_of_a_run_are_joined_without_their_overlap(tmp_path: Path) -> None:
    windows = har(tmp_path)
    data = read_dataset("uci-har-5s", tmp_path)
    assert [item.labels[0] for item in data.items] == ["standing", "walking"]
    assert data.notes == ("1 of 7 windows left out: at the end of runs, fewer than 3",)
    moved = data.items[0].media
    assert isinstance(moved, Motion)
    whole = np.concatenate([windows[0], windows[1, 64:], windows[2, 64:]])
    assert moved.samples.shape == (256, 6)
    np.testing.assert_allclose(moved.samples[:, 3:], whole[:, 3:], rtol=1e-6)


def test_files_of_uci_har_that_do_not_fit_together(tmp_path: Path) -> None:
    har(tmp_path)
    gyro = tmp_path / "test/Inertial Signals/body_gyro_z_test.txt"
    lines = gyro.read_text().splitlines()
    gyro.write_text("\n".join(lines[:-1]))
    with pytest.raises(UsageError, match=r"its files have 6, 7 rows: expected as many"):
        read_dataset("uci-har", tmp_path)
    gyro.write_text("\n".join([lines[0], "1 2 3"]))
    with pytest.raises(UsageError, match=r"body_gyro_z_test\.txt, line 2: expected 128 numbers"):
        read_dataset("uci-har", tmp_path)
    gyro.write_text("one two")
    with pytest.raises(UsageError, match=r"body_gyro_z_test\.txt is not a table of numbers"):
        read_dataset("uci-har", tmp_path)
    gyro.unlink()
    with pytest.raises(UsageError, match=r"body_gyro_z_test\.txt is missing: uci-har expects activity_labels\.txt"):
        read_dataset("uci-har", tmp_path)
    (tmp_path / "test/y_test.txt").write_text("9\n")
    with pytest.raises(UsageError, match=r"y_test\.txt has the activity '9', which activity_labels\.txt does not name"):
        read_dataset("uci-har", tmp_path)


def test_windows_in_one_array_with_a_list(tmp_path: Path) -> None:
    windows = recording(3, 0).astype(np.float32)
    np.savez(tmp_path / "windows.npz", x=np.concatenate([np.zeros_like(windows[:, :, :3]), windows], axis=2))
    table = "path,label,subject,run\n" + "".join(f"windows.npz#{row},laying,2,0\n" for row in range(3))
    write_texts(tmp_path, {"labels.csv": table})
    assert [item.labels for item in read_dataset("uci-har-5s", tmp_path).items] == [("laying",)]
    write_texts(tmp_path, {"labels.csv": table.replace("#2", "#3")})
    with pytest.raises(UsageError, match=r"does not list the 3 rows of windows\.npz in order"):
        read_dataset("uci-har", tmp_path)


def test_clips_of_ego4d_are_spans_with_a_scenario(tmp_path: Path) -> None:
    (tmp_path / "imu").mkdir()
    header = "accl_x,accl_y,accl_z,gyro_x,gyro_y,gyro_z"
    write_motion_csv(tmp_path / "imu/uid-1.csv", motion(12.0), header=header)
    table = "video_uid,start_s,end_s,scenario\nuid-1,2.5,7.5,Cooking\nuid-1,7,12,Cooking\nuid-2,0,5,Walking the dog\n"
    data = read_dataset("ego4d", write_texts(tmp_path, {"clips.csv": table}))
    assert [(item.span, item.labels) for item in data.items] == [
        (Span(2.5, 7.5), ("Cooking",)),
        (Span(7.0, 12.0), ("Cooking",)),
    ]
    assert data.notes == ("1 of 3 left out: no file (the first: 'uid-2.csv')",)
    with pytest.raises(UsageError, match=r"clips\.csv has no column split \(give --split all\)"):
        read_dataset("ego4d", tmp_path, "test")
    write_texts(tmp_path, {"clips.csv": table.replace("2.5,7.5", "7.5,2.5")})
    with pytest.raises(UsageError, match=r"'uid-1' has end_s .*, which is not after start_s 7\.5"):
        read_dataset("ego4d", tmp_path)
