"""Figures of a report with their standard errors and the value that chance would give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESAMPLES = 1000
"""Resamples of a bootstrap; their deviation is then known to 2%."""

RESAMPLES_AT_ONCE = 100
BOOTSTRAP_SEED = 0


class Error(StrEnum):
    """Way that a standard error was found."""

    BINOMIAL = "binomial"
    QUERIES = "over queries"
    GROUPS = "bootstrap over groups"
    ITEMS = "bootstrap over items"
    CLASSES = "over classes"
    FOLDS = "over folds"
    SEEDS = "deviation over seeds"
    LABELS = "over labels"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure.

    Attributes:
        name: Name of the figure, such as "top-1".
        value: Its value; a share lies in 0..1.
        n: Number of items, queries or pairs that it is over.
        error: Standard error; None: not estimated.
        error_by: Way that it was found; None: not estimated.
        chance: What a random order would give; None: not known.
        least: Least value that is wanted; None: none is.
        published: Value that a paper gives for its own encoder; None: there is none, or it is not known for sure.
        is_share: Whether it is a share, to be shown in percent.
        note: What else is to be known, one line.
    """

    name: str
    value: float
    n: int
    error: float | None = None
    error_by: Error | None = None
    chance: float | None = None
    least: float | None = None
    published: float | None = None
    is_share: bool = True
    note: str = ""

    @property
    def is_reached(self) -> bool | None:
        """Return whether the value is at least what is wanted; None if nothing is."""
        return None if self.least is None else self.value >= self.least


def share_error(hits: NDArray[np.floating], groups: Sequence[str | None]) -> tuple[float | None, Error]:
    """Return the standard error of a mean of values in 0..1, and how it was found.

    Without groups: binomial where the values are 0 and 1, else the deviation of the values over the root of their
    number. With several groups, whose members are alike: bootstrap over groups (Efron & Tibshirani, 1993, chapter 8).

    Args:
        hits: Value of each query (n,).
        groups: Group of each query; None: it is a group of its own.
    """
    values = np.asarray(hits, np.float64)
    if len(values) < 2:
        return None, Error.BINOMIAL
    ids = group_ids(groups)
    if 1 < len(np.unique(ids)) < len(values):
        return _bootstrap(values[:, None], np.ones((len(values), 1)), ids), Error.GROUPS
    mean = float(values.mean())
    if np.isin(values, (0.0, 1.0)).all():
        return math.sqrt(mean * (1 - mean) / len(values)), Error.BINOMIAL
    return float(values.std(ddof=1)) / math.sqrt(len(values)), Error.QUERIES


def class_mean_error(
    hits: NDArray[np.floating], classes: NDArray[np.int64], groups: Sequence[str | None]
) -> tuple[float | None, Error]:
    """Return the standard error of the mean over classes of the mean of each class, by bootstrap over groups or items.

    Args:
        hits: Value of each item (n,).
        classes: Class of each item: int64 (n,).
        groups: Group of each item; None: it is a group of its own.
    """
    values = np.asarray(hits, np.float64)
    ids = group_ids(groups)
    is_grouped = 1 < len(np.unique(ids)) < len(values)
    ids = ids if is_grouped else np.arange(len(values))
    present, columns = np.unique(classes, return_inverse=True)
    if len(values) < 2 or len(values) * len(present) > 1 << 26:
        return None, Error.ITEMS
    members = np.zeros((len(values), len(present)))
    members[np.arange(len(values)), columns] = 1
    return _bootstrap(members * values[:, None], members, ids), Error.GROUPS if is_grouped else Error.ITEMS


def group_ids(groups: Sequence[str | None]) -> NDArray[np.int64]:
    """Return a number for each group, in order of appearance; an item without a group has one of its own."""
    numbers: dict[object, int] = {}
    keys = [(position,) if group is None else group for position, group in enumerate(groups)]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def _bootstrap(sums: NDArray[np.float64], counts: NDArray[np.float64], ids: NDArray[np.int64]) -> float | None:
    """Return the deviation of a mean of ratios (n, c) over resamples of groups (n,); None for a single group."""
    number = int(ids.max()) + 1
    if number < 2:
        return None
    by_group = np.zeros((number, 2 * sums.shape[1]))
    np.add.at(by_group, ids, np.concatenate([sums, counts], axis=1))
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    means = []
    for _ in range(RESAMPLES // RESAMPLES_AT_ONCE):
        weights = rng.multinomial(number, np.full(number, 1 / number), RESAMPLES_AT_ONCE)
        total, count = np.split(weights @ by_group, 2, axis=1)
        ratios = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
        means.append(np.nanmean(ratios, axis=1))
    return float(np.concatenate(means).std(ddof=1))


def mean_error(values: Sequence[float]) -> float | None:
    """Return the standard error of the mean of independent values; None for fewer than two."""
    return None if len(values) < 2 else float(np.std(values, ddof=1)) / math.sqrt(len(values))


def chance_of_recall(candidates: int, relevant: NDArray[np.int64], k: int) -> float:
    """Return how often a random order has a relevant candidate among the first k (hypergeometric), over queries.

    Args:
        candidates: Number of candidates n.
        relevant: Number of relevant ones of each query: int64 (q,).
        k: Number of results.
    """
    if not len(relevant):
        return 0.0
    counts, queries = np.unique(relevant, return_counts=True)
    places = min(k, candidates)
    of_all = math.comb(candidates, places)
    missed = [math.comb(candidates - count, places) / of_all for count in counts.tolist()]
    return float(1 - np.average(missed, weights=queries))


def chance_of_average_precision(n: int, relevant: int) -> float:
    """Return the expected average precision of a random order of n candidates, some of them relevant.

    (H(n) + (r - 1) / (n - 1) * (n - H(n))) / n, with H(n) the harmonic number: the mean over places k of
    (1 + (k - 1) (r - 1) / (n - 1)) / k.
    """
    if n < 2 or relevant < 1:
        return float(relevant > 0)
    harmonic = float((1 / np.arange(1, n + 1)).sum())
    return (harmonic + (relevant - 1) / (n - 1) * (n - harmonic)) / n
