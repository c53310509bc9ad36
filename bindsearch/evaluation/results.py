"""Results of an evaluation as data: what the table, the JSON and the page are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from bindsearch.evaluation.datasets.dataset import EvalItem
from bindsearch.evaluation.embedding import Failure
from bindsearch.evaluation.figures import Figure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Setting = str | int | float | bool | None


class Kind(StrEnum):
    """Kind of a measurement."""

    ZERO_SHOT = "zero-shot"
    FEW_SHOT = "few-shot"
    RETRIEVAL = "retrieval"
    COMBINATION = "combination"
    SPACE = "space"
    CALIBRATION = "calibration"


@dataclass(frozen=True, slots=True)
class Confusion:
    """Assigned classes of the items of each class.

    Attributes:
        labels: The classes.
        counts: Items of each class (row) that are assigned to each class (column): float64 (c, c).
    """

    labels: tuple[str, ...]
    counts: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Curve:
    """Recall by number of results.

    Attributes:
        title: What finds what.
        ks: Numbers of results.
        recalls: Recall at each.
        chance: Recall of a random order at each.
    """

    title: str
    ks: tuple[int, ...]
    recalls: tuple[float, ...]
    chance: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Sweep:
    """Figure of a combination of two modalities by the weight of the first.

    Attributes:
        first: The first modality.
        second: The second one.
        figure: Name of the figure.
        weights: Weights of the first modality.
        values: The figure at each.
    """

    first: str
    second: str
    figure: str
    weights: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """One item or query that is shown.

    Attributes:
        is_best: Whether it is one of the best, else of the worst.
        asked: The query: a text, or an item.
        found: What came first: a label, a text or an item.
        wanted: What is right: a label, a text or an item.
        margin: Score of what is right less that of the best that is wrong.
    """

    is_best: bool
    asked: str | EvalItem
    found: str | EvalItem
    wanted: str | EvalItem
    margin: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measurement on a data set.

    Attributes:
        kind: Its kind.
        title: What is measured, such as "text -> image".
        figures: Its figures.
        confusion: Confusion matrix; None: it has none.
        curves: Recall curves.
        sweeps: Figures by the weight of a combination.
        examples: Best and worst examples.
        settings: Settings that the figures depend on.
    """

    kind: Kind
    title: str
    figures: tuple[Figure, ...]
    confusion: Confusion | None = None
    curves: tuple[Curve, ...] = ()
    sweeps: tuple[Sweep, ...] = ()
    examples: tuple[Example, ...] = ()
    settings: Mapping[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SetResult:
    """All measurements on one data set.

    Attributes:
        name: Name of the data set.
        modality: Modality of its items.
        split: Part of it.
        listed: Number of items in its list.
        items: Number of items that were measured.
        measurements: The measurements.
        failures: Items that could not be embedded.
        notes: What was left out or assumed, one line each.
        seconds: Time that it took.
    """

    name: str
    modality: str
    split: str
    listed: int
    items: int
    measurements: tuple[Measurement, ...]
    failures: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
