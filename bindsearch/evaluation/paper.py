"""The data sets of the ImageBind paper (arXiv 2305.05665) with its figures: tables 2 to 4 and figure 3.

The figures are those of ImageBind with ViT-H. Figure 3 is a plot without numbers, so that its few-shot figures are
measured, but have nothing beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from bindsearch.errors import UsageError
from bindsearch.evaluation.results import Kind, SetResult


class Published(NamedTuple):
    """A figure of the paper: a share in a table, as the figure of a measurement.

    An empty title: the only measurement of its kind; an empty figure: the first one, which the data set is published
    with.
    """

    table: str
    kind: Kind
    title: str
    figure: str
    value: float


def _classified(value: float) -> tuple[Published, ...]:
    """Return a zero-shot figure of table 2."""
    return (Published("table 2", Kind.ZERO_SHOT, "", "", value),)


_BOTH = "text -> video and audio"

PAPER: dict[str, tuple[Published, ...]] = {
    "imagenet": _classified(0.777),
    "places365": _classified(0.454),
    "kinetics": _classified(0.500),
    "msrvtt": (
        Published("table 2", Kind.RETRIEVAL, "text -> video", "R@1", 0.361),
        Published("table 4", Kind.COMBINATION, _BOTH, "R@1, audio alone", 0.068),
        Published("table 4", Kind.COMBINATION, _BOTH, "R@5, audio alone", 0.185),
        Published("table 4", Kind.COMBINATION, _BOTH, "R@10, audio alone", 0.272),
        Published("table 4", Kind.COMBINATION, _BOTH, "R@1, 0.95 video + 0.05 audio", 0.368),
        Published("table 4", Kind.COMBINATION, _BOTH, "R@5, 0.95 video + 0.05 audio", 0.618),
        Published("table 4", Kind.COMBINATION, _BOTH, "R@10, 0.95 video + 0.05 audio", 0.700),
    ),
    "nyud": _classified(0.540),
    "sunrgbd": _classified(0.351),
    "audioset": _classified(0.176),
    "vggsound": _classified(0.278),
    "esc50": _classified(0.669),
    "llvip": _classified(0.634),
    "ego4d": _classified(0.250),
    "audiocaps": (
        Published("table 3", Kind.RETRIEVAL, "text -> audio", "R@1", 0.093),
        Published("table 3", Kind.RETRIEVAL, "text -> audio", "R@10", 0.423),
    ),
    "clotho": (
        Published("table 3", Kind.RETRIEVAL, "text -> audio", "R@1", 0.060),
        Published("table 3", Kind.RETRIEVAL, "text -> audio", "R@10", 0.284),
    ),
}
"""Figures by data set; a data set without an entry is none of the paper's."""

FEW_SHOT: dict[str, str] = {"esc50": "", "sunrgbd": "train"}
"""Data sets of figure 3, with the part that probes are trained on; empty: the other folds."""


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


def with_published(result: SetResult, name: str) -> SetResult:
    """Return a result with the paper's figures beside its own."""
    wanted = PAPER.get(name, ())
    measurements = []
    for part in result.measurements:
        figures = list(part.figures)
        for one in wanted:
            if one.kind is not part.kind or one.title not in ("", part.title):
                continue
            for place, figure in enumerate(figures):
                if figure.name == one.figure or (not one.figure and place == 0):
                    note = f"{figure.note}; {one.table}" if figure.note else one.table
                    figures[place] = replace(figure, published=one.value, note=note)
        measurements.append(replace(part, figures=tuple(figures)))
    return replace(result, measurements=tuple(measurements))


def _plain(name: str) -> str:
    """Return the letters and digits of a name, small."""
    return "".join(letter for letter in name.lower() if letter.isalnum())
