"""Suites and the paper's data sets: what is there is measured, the rest is left out with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from bindsearch.encoders.null import NullEncoder
from bindsearch.errors import UsageError
from bindsearch.evaluation.datasets.registry import DATASETS
from bindsearch.evaluation.paper import FEW_SHOT, PAPER, folders_of_paper
from bindsearch.evaluation.results import Kind
from bindsearch.evaluation.runs import run_paper, run_suite
from bindsearch.evaluation.suite import read_suite
from bindsearch.evaluation.tasks.measure import Work
from helpers.media_files import tone, write_sound

SUITE = """
title = "Two lists"

[[sets]]
title = "sounds"
set = "csv"
folder = "sounds/labels.csv"
templates = "none"
groups = ["1"]
measure = ["zero-shot"]
at_least = {{ "audio -> name of the class, top-1" = {least} }}

[[sets]]
title = "names"
set = "csv"
folder = "sounds/labels.csv"
names_find_items = true
measure = ["retrieval"]

[[sets]]
set = "esc50"
folder = "none"
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a folder with eight sounds of two classes, in two folds."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    rows = ["path,label,fold"]
    for number in range(8):
        write_sound(folder / f"{number}.wav", tone(0.5, frequency_hz=200.0 + 50 * number))
        rows.append(f"{number}.wav,{('low', 'high')[number // 4]},{number % 2}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return tmp_path


def test_a_suite_is_measured_and_what_is_missing_is_left_out(data: Path) -> None:
    (data / "suite.toml").write_text(SUITE.format(least=0.0))
    report = run_suite(data / "suite.toml", data, Work(NullEncoder()))
    assert report.title == "Two lists"
    sounds, names = report.sets
    assert sounds.name == "sounds"
    assert sounds.items == 4
    assert [part.kind for part in sounds.measurements] == [Kind.ZERO_SHOT]
    assert sounds.measurements[0].settings["templates"] == "none"
    assert sounds.measurements[0].figures[0].is_reached is True
    assert [part.title for part in names.measurements] == ["text -> audio", "audio -> text"]
    assert [one.name for one in report.left_out] == ["esc50"]
    assert str(data / "none") in report.left_out[0].reason
    assert report.is_reached


def test_a_figure_below_what_is_wanted_is_said(data: Path) -> None:
    (data / "suite.toml").write_text(SUITE.format(least=1.1))
    report = run_suite(data / "suite.toml", data, Work(NullEncoder()))
    assert report.sets[0].measurements[0].figures[0].is_reached is False
    assert not report.is_reached


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sets = 1", "has no list of sets: write 1 to 200 tables"),
        ("[[sets]]\nset = 'csv'", "set 1 has no folder"),
        ("[[sets]]\nset = 'csv'\nfolder = 'a'\nsplits = 'b'", "set 1: unknown key 'splits': did you mean"),
        ("[[sets]]\nset = 'csv'\nfolder = 1", "set 1: folder is 1"),
        ("[[sets]]\nset = 'csv'\nfolder = 'a'\nmeasure = ['x']", "set 1: unknown kind 'x': choose from zero-shot"),
        ("[[sets", "is not a suite in TOML"),
    ],
)
def test_a_wrong_suite_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "suite.toml").write_text(text)
    with pytest.raises(UsageError) as error:
        read_suite(tmp_path / "suite.toml")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_figure_that_there_is_not_is_named(data: Path) -> None:
    (data / "suite.toml").write_text(SUITE.format(least=0.0).replace("top-1", "top-7"))
    with pytest.raises(UsageError, match="sounds has no figure 'audio -> name of the class, top-7'"):
        run_suite(data / "suite.toml", data, Work(NullEncoder()))


def test_the_sets_of_the_paper_are_known() -> None:
    assert set(PAPER) <= set(DATASETS)
    assert set(FEW_SHOT) <= set(PAPER)
    for name, part in FEW_SHOT.items():
        assert not part or part in DATASETS[name].splits
    assert all(0 < one.value < 1 for figures in PAPER.values() for one in figures)


def write_esc50(folder: Path) -> None:
    """Write ten sounds of two classes and five folds in the layout of ESC-50."""
    (folder / "meta").mkdir(parents=True)
    (folder / "audio").mkdir()
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for number in range(20):
        fold, target = number % 5 + 1, number // 10
        name = f"{fold}-{number}-A-{target}.wav"
        write_sound(folder / "audio" / name, tone(0.5, frequency_hz=200.0 + 40 * number))
        rows.append(f"{name},{fold},{target},{('dog', 'rain')[target]},True,{number},A")
    (folder / "meta" / "esc50.csv").write_text("\n".join(rows))


def test_the_paper_stands_beside_what_is_there(tmp_path: Path) -> None:
    write_esc50(tmp_path / "ESC-50")
    (tmp_path / "clotho").mkdir()
    report = run_paper(tmp_path, Work(NullEncoder()), None)
    (one,) = report.sets
    assert one.name == "esc50"
    figure = one.measurements[0].figures[0]
    assert (figure.name, figure.published, figure.note) == ("top-1", 0.669, "table 2")
    reasons = {left.name: left.reason for left in report.left_out}
    assert set(reasons) == set(PAPER) - {"esc50"}
    assert "clotho expects" in reasons["clotho"]
    assert "no folder" in reasons["imagenet"]


def test_a_folder_without_the_papers_sets_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    with pytest.raises(UsageError, match="has none of the paper's data sets: name their folders imagenet, "):
        list(folders_of_paper(tmp_path))
