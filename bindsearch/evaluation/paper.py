"""The data sets of the ImageBind paper (arXiv 2305.05665) with its figures: tables 2 to 4 and figure 3.

The figures are those of ImageBind with ViT-H. Figure 3 is a plot without numbers, so that its few-shot figures are
measured, but have nothing beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bindsearch.errors import UsageError
from bindsearch.evaluation.datasets.registry import DATASETS
from bindsearch.evaluation.figures import Figure
from bindsearch.evaluation.linear_probe import SHOTS
from bindsearch.evaluation.results import Kind, Measurement, SetResult


@dataclass(frozen=True, slots=True)
class Published:
    """A figure of the paper.

    Attributes:
        table: Where it stands, such as "table 2".
        kind: Kind of the measurement.
        title: Title of the measurement; empty: the only one of its kind.
        figure: Name of the figure; empty: the first one, which the data set is published with.
        value: Its value, a share.
    """

    table: str
    kind: Kind
    title: str
    figure: str
    value: float


def _zero_shot(percent: float) -> Published:
    return Published("table 2", Kind.ZERO_SHOT, "", "", percent / 100)


def _captions(table: str, modality: str, figure: str, percent: float) -> Published:
    return Published(table, Kind.RETRIEVAL, f"text -> {modality}", figure, percent / 100)


def _combined(figure: str, percent: float) -> Published:
    return Published("table 4", Kind.COMBINATION, "text -> video and audio", figure, percent / 100)


PAPER: dict[str, tuple[Published, ...]] = {
    "imagenet": (_zero_shot(77.7),),
    "places365": (_zero_shot(45.4),),
    "kinetics": (_zero_shot(50.0),),
    "msrvtt": (
        _captions("table 2", "video", "R@1", 36.1),
        _combined("R@1, audio alone", 6.8),
        _combined("R@5, audio alone", 18.5),
        _combined("R@10, audio alone", 27.2),
        _combined("R@1, 0.95 video + 0.05 audio", 36.8),
        _combined("R@5, 0.95 video + 0.05 audio", 61.8),
        _combined("R@10, 0.95 video + 0.05 audio", 70.0),
    ),
    "nyud": (_zero_shot(54.0),),
    "sunrgbd": (_zero_shot(35.1),),
    "audioset": (_zero_shot(17.6),),
    "vggsound": (_zero_shot(27.8),),
    "esc50": (_zero_shot(66.9),),
    "llvip": (_zero_shot(63.4),),
    "ego4d": (_zero_shot(25.0),),
    "audiocaps": (_captions("table 3", "audio", "R@1", 9.3), _captions("table 3", "audio", "R@10", 42.3)),
    "clotho": (_captions("table 3", "audio", "R@1", 6.0), _captions("table 3", "audio", "R@10", 28.4)),
}
"""Figures by data set; a data set without an entry is none of the paper's."""

FEW_SHOT: dict[str, str] = {"esc50": "", "sunrgbd": "train"}
"""Data sets of figure 3, with the part that probes are trained on; empty: the other folds."""

FEW_SHOTS = SHOTS


def folders_of_paper(folder: Path) -> Iterator[tuple[str, Path | None]]:
    """Yield the data sets of the paper with their folders; None: there is none.

    A folder has the name of the data set, as `bindsearch eval sets` lists it; capitals, spaces and signs do not matter.

    Raises:
        UsageError: `folder` cannot be read, or has none of them.
    """
    try:
        found = {_plain(path.name): path for path in sorted(folder.iterdir()) if path.is_dir()}
    except OSError as error:
        raise UsageError(f"--data {folder} cannot be read: {error.strerror or error}") from error
    if not any(_plain(name) in found for name in PAPER):
        raise UsageError(f"{folder} has none of the paper's data sets: name their folders {', '.join(PAPER)}")
    for name in PAPER:
        yield name, found.get(_plain(name))


def layout_of(name: str) -> str:
    """Return what a data set expects in its folder."""
    return DATASETS[name].layout


def with_published(result: SetResult, name: str) -> SetResult:
    """Return a result with the paper's figures beside its own."""
    wanted = PAPER.get(name, ())
    return replace(result, measurements=tuple(_beside(part, wanted) for part in result.measurements))


def _beside(part: Measurement, wanted: tuple[Published, ...]) -> Measurement:
    mine = [one for one in wanted if one.kind is part.kind and one.title in ("", part.title)]
    figures = list(part.figures)
    for one in mine:
        for place, figure in enumerate(figures):
            if figure.name == one.figure or (not one.figure and place == 0):
                figures[place] = _published(figure, one)
    return replace(part, figures=tuple(figures))


def _published(figure: Figure, one: Published) -> Figure:
    note = f"{figure.note}; {one.table}" if figure.note else one.table
    return replace(figure, published=one.value, note=note)


def _plain(name: str) -> str:
    """Return the letters and digits of a name, small."""
    return "".join(letter for letter in name.lower() if letter.isalnum())
