"""Depth maps in the layouts of SUN RGB-D and NYU Depth v2."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bindsearch.errors import UsageError
from bindsearch.evaluation.datasets.dataset import Metric
from bindsearch.evaluation.datasets.registry import read_dataset
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.depth import read_depth
from bindsearch.types import Modality
from helpers.data_set_files import SUN_MM, write_media, write_rotated_depth, write_texts

INTRINSICS = "529.500000 0.000000 365.000000 \n0.000000 529.500000 265.000000 \n0.000000 0.000000 1.000000 "


def frame(root: Path, name: str, scene: str) -> None:
    write_rotated_depth(root / name / "depth_bfx" / "0000.png")
    write_rotated_depth(root / name / "depth" / "0000.png")
    write_media(root, f"{name}/image/0000.jpg")
    write_texts(root / name, {"scene.txt": scene, "intrinsics.txt": INTRINSICS, "annotation/index.json": "{}"})


def test_sun_rgbd_has_depth_in_metres_with_the_focal_length_and_baseline_of_its_sensor(tmp_path: Path) -> None:
    frame(tmp_path, "SUNRGBD/kv1/b3dodata/img_0063", "living_room")
    frame(tmp_path, "SUNRGBD/realsense/lg/2014", "office")
    frame(tmp_path, "SUNRGBD/xtion/sun3d/x", "gym")
    data = read_dataset("sunrgbd", tmp_path, "all")
    assert [(item.name, item.labels) for item in data.items] == [
        ("SUNRGBD/kv1/b3dodata/img_0063", ("living_room",)),
        ("SUNRGBD/realsense/lg/2014", ("office",)),
    ]
    assert data.notes == ("1 of 3 left out: its scene is not one of the 19 (the first: 'SUNRGBD/xtion/sun3d/x')",)
    assert data.classes is not None
    assert len(data.classes.labels) == 19
    assert ("study space",) in data.classes.texts
    item = data.items[1]
    assert item.others[Modality.IMAGE].name == "0000.jpg"
    assert item.path.parent.name == "depth_bfx"
    depth, _ = read_depth(item.path, item.sidecar, DecodeOptions())
    np.testing.assert_allclose(np.unique(depth.depth_m), [SUN_MM / 1000, 2 * SUN_MM / 1000])
    assert (depth.fx_px, depth.baseline_m) == (529.5, 0.095)


def test_a_list_of_folders_makes_the_split_and_names_without_folder_are_counted(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        frame(tmp_path, f"SUNRGBD/kv2/kinect2data/{name}", "kitchen")
    lines = "/n/fs/sun3d/data/SUNRGBD/kv2/kinect2data/a/\nSUNRGBD/kv2/kinect2data/c\nSUNRGBD/kv2/kinect2data/gone\n"
    data = read_dataset("sunrgbd", write_texts(tmp_path, {"test.txt": lines}))
    assert [item.name[-1] for item in data.items] == ["a", "c"]
    assert data.notes == (
        "1 of 3 left out: test.txt names it, it has no folder (the first: 'SUNRGBD/kv2/kinect2data/gone')",
    )
    with pytest.raises(UsageError, match=r"train.txt, a frame's folder a line, is missing \(give it, or --split all\)"):
        read_dataset("sunrgbd", tmp_path, "train")


def test_frames_without_camera_or_filled_depth_are_left_out_with_the_reason(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        frame(tmp_path, f"SUNRGBD/kv1/{name}", "kitchen")
    (tmp_path / "SUNRGBD/kv1/a/intrinsics.txt").write_text("nan 0 0")
    (tmp_path / "SUNRGBD/kv1/b/depth_bfx/0000.png").unlink()
    data = read_dataset("sunrgbd", tmp_path, "all")
    assert [item.name for item in data.items] == ["SUNRGBD/kv1/c"]
    assert data.notes == (
        "1 of 3 left out: no focal length in intrinsics.txt (the first: 'SUNRGBD/kv1/a')",
        "1 of 3 left out: no picture in depth_bfx (the first: 'SUNRGBD/kv1/b')",
    )


def test_nyu_frames_inside_sun_rgbd_have_nine_scenes_and_other(tmp_path: Path) -> None:
    for number, scene in ((1, "kitchen"), (2, "foyer"), (3, "home_office"), (4, "kitchen")):
        frame(tmp_path, f"SUNRGBD/kv1/NYUdata/NYU{number:04d}", scene)
    data = read_dataset("nyud", write_texts(tmp_path, {"test.txt": "1\n2\nNYU0003\n"}))
    assert [item.labels[0] for item in data.items] == ["kitchen", "other", "home_office"]
    assert data.classes is not None
    assert len(data.classes.labels) == 10
    texts = dict(zip(data.classes.labels, data.classes.texts, strict=True))
    assert texts["living_room"] == ("living room",)
    assert len(texts["other"]) == 18
    assert "foyer" in texts["other"]
    assert (data.metric, data.split, data.templates) == (Metric.TOP1, "test", "general")
    assert len(read_dataset("nyud", tmp_path, "all").items) == 4


def test_nyu_as_folders_of_scenes_or_with_a_text_a_frame(tmp_path: Path) -> None:
    folders = write_media(tmp_path / "folders", "data/val/bedroom/1.png", "data/val/others/2.png")
    assert [item.labels[0] for item in read_dataset("nyud", folders).items] == ["bedroom", "other"]
    texts = write_media(tmp_path / "texts", "test/depth/0001.png", "test/rgb/0001.png", "test/depth/0002.png")
    write_texts(texts, {"test/scene/0001.txt": "office", "test/scene/0002.txt": "study", "test/scene/3.txt": "cafe"})
    data = read_dataset("nyud", texts)
    assert [(item.labels[0], len(item.others)) for item in data.items] == [("office", 1), ("other", 0)]
    assert data.notes == ("1 of 3 left out: no file (the first: '3.png')",)


def test_the_matlab_file_alone_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "nyu_depth_v2_labeled.mat").write_bytes(b"\x89HDF")
    with pytest.raises(UsageError) as caught:
        read_dataset("nyud", tmp_path)
    assert "nyu_depth_v2_labeled.mat is a MATLAB file that cannot be read: unpack" in str(caught.value)
    assert "nyud expects SUNRGBD/kv1/NYUdata/" in str(caught.value)


def test_pairs_find_photographs_of_the_same_scene(tmp_path: Path) -> None:
    write_media(tmp_path, "d/1.png", "d/2.png", "rgb/1.jpg", "rgb/2.jpg")
    table = "path,rgb_path,label,caption\nd/1.png,rgb/1.jpg,office,a desk\nd/2.png,rgb/2.jpg,kitchen,a sink\n"
    data = read_dataset("rgbd-pairs", write_texts(tmp_path, {"labels.csv": table}))
    assert [(item.modality, item.labels) for item in data.items] == [
        (Modality.DEPTH, ("office",)),
        (Modality.DEPTH, ("kitchen",)),
    ]
    assert [(item.modality, item.labels) for item in data.candidates] == [
        (Modality.IMAGE, ("office",)),
        (Modality.IMAGE, ("kitchen",)),
    ]
    assert data.metric is Metric.RECALL
