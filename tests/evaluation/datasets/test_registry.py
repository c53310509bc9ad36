"""The table of data sets: names, splits, the page about them, and the sets that are on this machine."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from bindsearch.encoders.zero_shot import read_templates
from bindsearch.errors import UsageError
from bindsearch.evaluation.datasets.registry import DATASETS, read_dataset

PAGE = Path(__file__).parents[3] / "docs" / "evaluation-data.md"
DATA = Path(__file__).parents[4] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA}: evaluation data")


def test_unknown_names_splits_and_folders(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"data set 'esc-50' is unknown: did you mean 'esc50'"):
        read_dataset("esc-50", tmp_path)
    with pytest.raises(UsageError, match=r"clotho has no split 'test': choose from evaluation, validation"):
        read_dataset("clotho", tmp_path, "test")
    with pytest.raises(UsageError) as caught:
        read_dataset("esc50", tmp_path / "gone")
    assert str(caught.value) == f"{tmp_path / 'gone'} does not exist: esc50 expects a folder with " + (
        DATASETS["esc50"].layout
    )


@pytest.mark.parametrize("name", DATASETS)
def test_an_empty_folder_gives_one_line_with_the_layout(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_dataset(name, tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}: ")
    assert message.endswith(f": {name} expects {DATASETS[name].layout}")
    assert "\n" not in message


@pytest.mark.parametrize("name", DATASETS)
def test_a_file_in_place_of_the_folder_is_one_line_too(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("nothing")
    with pytest.raises(UsageError) as caught:
        read_dataset(name, tmp_path / "file")
    assert "\n" not in str(caught.value)


def test_the_page_has_a_row_for_each_data_set() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    table = {
        name: (source.summary, source.layout, ", ".join(source.splits) or "those of its column split", source.metric,
               source.origin, source.licence)
        for name, source in DATASETS.items()
    }  # fmt: skip
    cells = {name: tuple(row.replace("`", "").split(" | ")) for name, row in rows}
    assert {name: row for name, row in cells.items() if len(row) == 6} == table


@needs_data
@pytest.mark.parametrize(
    ("name", "folder", "split", "items", "classes"),
    [
        ("esc10", "audio_esc10", None, 240, 10),
        ("esc10", "audio_esc10", "fold4", 60, 10),
        ("urbansound8k", "audio_urbansound8k", None, 157, 10),
        ("csv", "audio_animals", None, 160, 10),
        ("uci-har", "imu_uci_har", None, 1918, 6),
        ("rgbd-pairs", "depth_rgbd_metric", None, 13, 6),
        ("roadscene", "thermal_roadscene", None, 165, 0),
        ("roadscene-time", "thermal_roadscene", None, 165, 2),
        ("imagenet", "images_imagenet1000", None, 750, 750),
        ("flickr8k", "images_flickr8k", None, 750, 0),
        ("csv", "video_clips", None, 14, 12),
        ("sound-to-picture", "", "esc10", 144, 0),
    ],
)
def test_sets_on_this_machine(name: str, folder: str, split: str | None, items: int, classes: int) -> None:
    data = read_dataset(name, DATA / folder, split)
    assert len(data.items) == items
    assert len(data.classes.labels if data.classes else ()) == classes
    assert read_templates(data.templates)


@needs_data
def test_captions_and_runs_on_this_machine() -> None:
    photographs = read_dataset("flickr8k", DATA / "images_flickr8k")
    assert sum(len(item.captions) for item in photographs.items) == 3750
    runs = np.unique(np.load(DATA / "imu_uci_har" / "windows.npz")["run"], return_counts=True)[1]
    signals = read_dataset("uci-har-5s", DATA / "imu_uci_har")
    assert len(signals.items) == sum(count // 3 for count in runs)


@needs_data
def test_photographs_that_sounds_find_have_their_labels() -> None:
    data = read_dataset("sound-to-picture", DATA)
    assert len(data.candidates) == 750
    listed = {item.path.name: item.labels for item in data.candidates if item.labels}
    assert listed["n01514668_cock.jpg"] == ("bird", "chicken", "rooster")
    assert {item.labels[0] for item in data.items} <= {label for labels in listed.values() for label in labels}
    strong = read_dataset("sound-to-picture", DATA, "esc10-strong")
    assert sum(len(item.labels) for item in strong.candidates) < sum(len(item.labels) for item in data.candidates)
