"""Depth maps of indoor scenes: NYU Depth v2, SUN RGB-D, and pairs with photographs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bindsearch.encoders.zero_shot import ClassNames
from bindsearch.errors import UsageError
from bindsearch.evaluation.datasets.csv_list import ALL, read_list
from bindsearch.evaluation.datasets.dataset import DataSet, EvalItem, Metric
from bindsearch.evaluation.datasets.entries import Entry, LeftOut, assemble, in_words, pictures_in, walk
from bindsearch.evaluation.datasets.tables import LayoutError, find, read_lines
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.small_files import read_small_file
from bindsearch.types import Modality

SUN_CLASSES = (
    "bathroom", "bedroom", "classroom", "computer_room", "conference_room", "corridor", "dining_area", "dining_room",
    "discussion_area", "furniture_store", "home_office", "kitchen", "lab", "lecture_theatre", "library", "living_room",
    "office", "rest_space", "study_space",
)  # fmt: skip
"""The 19 scenes with more than 80 pictures (Song et al. 2015, section 4.1)."""

NYU_CLASSES = (
    "bathroom", "bedroom", "bookstore", "classroom", "dining_room", "home_office", "kitchen", "living_room", "office",
)  # fmt: skip
"""The nine most common of the 27 scenes (Gupta et al. 2013); all others are one class."""

OTHER = "other"
NYU_OTHERS = (
    "basement", "cafe", "computer lab", "conference room", "dinette", "exercise room", "foyer", "furniture store",
    "home storage", "indoor balcony", "laundry room", "office kitchen", "playroom", "printer room", "reception room",
    "student lounge", "study", "study room",
)  # fmt: skip
"""The other 18 scenes of NYU Depth v2: the names of the class OTHER."""

_BASELINE_M = {"kv1": 0.075, "kv2": 0.075, "realsense": 0.095, "xtion": 0.095}
"""Baselines of the sensors of SUN RGB-D in metres, as Omnivore (Girdhar et al. 2022) computes disparity."""

_NOT_ENTERED = ("annotation", "annotation2D3D", "annotation2Dfinal", "annotation3D", "annotation3Dfinal",
                "annotation3Dlayout", "extrinsics", "fullres", "seg")  # fmt: skip
_MAX_TEXT_BYTES = 4096
_MAT = "nyu_depth_v2_labeled.mat"


def read_sunrgbd(folder: Path, split: str) -> DataSet:
    """Return SUN RGB-D (Song et al. 2015): depth with filled holes, 19 scenes."""
    root = folder / "SUNRGBD" if (folder / "SUNRGBD").is_dir() else folder
    rare = "its scene is not one of the 19"
    known = [
        LeftOut(entry.name, rare) if isinstance(entry, EvalItem) and entry.labels[0] not in SUN_CLASSES else entry
        for entry in _of_list(_sun_frames(root, folder), folder, split)
    ]
    classes = ClassNames(SUN_CLASSES, tuple((in_words(name),) for name in SUN_CLASSES))
    return assemble("sunrgbd", Modality.DEPTH, known, Metric.TOP1, classes=classes, templates="general", split=split)


def read_nyud(folder: Path, split: str) -> DataSet:
    """Return NYU Depth v2 (Silberman et al. 2012) with ten scenes, in one of the layouts that it is passed on in."""
    merged = [
        replace(entry, labels=(OTHER,)) if isinstance(entry, EvalItem) and entry.labels[0] not in NYU_CLASSES else entry
        for entry in _nyu_entries(folder, split)
    ]
    texts = (*((in_words(name),) for name in NYU_CLASSES), NYU_OTHERS)
    classes = ClassNames((*NYU_CLASSES, OTHER), texts)
    return assemble("nyud", Modality.DEPTH, merged, Metric.TOP1, classes=classes, templates="general", split=split)


def _nyu_entries(folder: Path, split: str) -> list[Entry]:
    """Return the frames with their scenes, of the layout that the folder has; raise LayoutError if it has none."""
    for place in ("SUNRGBD/kv1/NYUdata", "kv1/NYUdata", "NYUdata"):
        if (folder / place).is_dir():
            return _of_list(_sun_frames(folder / place, folder), folder, split)
    if (folder / split / "scene").is_dir():
        return list(_frames_with_scenes(folder / split))
    names = ("val", "data/val", "test") if split == "test" else (split, f"data/{split}")
    root = next((folder / name for name in names if (folder / name).is_dir()), None)
    if root is not None:
        folders = sorted(path for path in root.iterdir() if path.is_dir())
        return [EvalItem(path, Modality.DEPTH, labels=(one.name,)) for one in folders for path in pictures_in(one)]
    if (folder / _MAT).is_file():
        raise LayoutError(f"{_MAT} is a MATLAB file that cannot be read: unpack its depth maps into such folders")
    raise LayoutError(f"NYUdata, {split}/scene or {names[0]} is missing")


def _frames_with_scenes(root: Path) -> Iterator[Entry]:
    """Yield the frames of a split with a text file a frame in `scene`."""
    depth, rgb = find(root, "depth"), root / "rgb"
    for path in sorted((root / "scene").glob("*.txt")):
        photo = rgb / f"{path.stem}.png"
        others = {Modality.IMAGE: photo} if photo.is_file() else {}
        yield EvalItem(depth / f"{path.stem}.png", Modality.DEPTH, labels=(_short_text(path),), others=others)


def _sun_frames(root: Path, folder: Path) -> Iterator[Entry]:
    """Yield the frames of SUN RGB-D below a folder, named by their folders relative to `folder`."""
    for path in walk(root, _NOT_ENTERED):
        if path.name == "scene.txt":
            yield _sun_frame(path.parent, path.parent.relative_to(folder).as_posix())


def _sun_frame(frame: Path, name: str) -> Entry:
    filled = frame / "depth_bfx"
    depth = next(iter(pictures_in(filled)), None) if filled.is_dir() else None
    if depth is None:
        return LeftOut(name, "no picture in depth_bfx")
    try:
        fx = float(_short_text(frame / "intrinsics.txt").split()[0])
    except (UsageError, ValueError, IndexError):
        fx = 0.0
    if not 0 < fx < 1e5:
        return LeftOut(name, "no focal length in intrinsics.txt")
    sensor = next((part for part in name.split("/") if part in _BASELINE_M), "kv1")
    photos = pictures_in(frame / "image") if (frame / "image").is_dir() else []
    others = {Modality.IMAGE: photos[0]} if photos else {}
    sidecar = Sidecar(fx=fx, baseline_m=_BASELINE_M[sensor], depth_unit="sunrgbd")
    label = _short_text(frame / "scene.txt")
    return EvalItem(depth, Modality.DEPTH, labels=(label,), others=others, sidecar=sidecar, name=name)


def _of_list(entries: Iterator[Entry], folder: Path, split: str) -> list[Entry]:
    """Return the frames that `<split>.txt` lists, one a line, by the end of their folder's path; all for ALL."""
    if split == ALL:
        return list(entries)
    listed = folder / f"{split}.txt"
    if not listed.is_file():
        raise LayoutError(f"{split}.txt, a frame's folder a line, is missing (give it, or --split all)")
    wanted = {_frame_key(line) for line in read_lines(listed)}
    kept = []
    for entry in entries:
        parts = entry.name.split("/")
        found = wanted.intersection("/".join(parts[start:]) for start in range(len(parts)))
        if found:
            wanted -= found
            kept.append(entry)
    return [*kept, *(LeftOut(name, f"{split}.txt names it, it has no folder") for name in sorted(wanted))]


def _frame_key(line: str) -> str:
    """Return the folder of a frame that a line names; a number is that of a frame of NYU Depth v2, from 1."""
    text = re.sub(r"^.*?(?=SUNRGBD/)", "", line.strip().strip("/").replace("\\", "/"))
    return f"NYU{int(text):04d}" if text.isdecimal() and len(text) < 5 else text


def _short_text(path: Path) -> str:
    """Return the text of a small file; raise UsageError if it cannot be read."""
    try:
        return read_small_file(path, _MAX_TEXT_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def read_rgbd_pairs(folder: Path, split: str) -> DataSet:
    """Return a list of depth maps that find photographs of the same scene, with columns path, image_path and label."""
    data_set = read_list("rgbd-pairs", find(folder, "labels.csv"), split, modality=Modality.DEPTH)
    if not all(Modality.IMAGE in item.others and item.labels for item in data_set.items):
        raise UsageError(f"{folder / 'labels.csv'}: a row lacks label or image_path: both are needed")
    photos = tuple(EvalItem(item.others[Modality.IMAGE], Modality.IMAGE, labels=item.labels) for item in data_set.items)
    return replace(data_set, metric=Metric.RECALL, candidates=photos)
