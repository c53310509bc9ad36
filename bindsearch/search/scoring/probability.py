"""Match probability: how probable it is that an item is what a query means. docs/ranking.md derives the formulas.

Letters: m candidates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from bindsearch.types import Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_COEFFICIENT = 1000.0
"""Bound of coefficients; with larger ones a file is taken to be damaged."""

MAX_COSINE = 0.9995
"""Greatest cosine that is told from 1."""

CERTAIN_LOG_ODDS = 50.0
"""Log odds of an item with the same content as the query; its probability is 1.0 in floating point."""

MAX_LOG_ODDS = 30.0
"""Greatest log odds of any other item; the probability is below 1."""


class Coefficients(NamedTuple):
    """Coefficients of the log odds of a match, a linear function of `features_of`.

    Each is a number, or with candidates of several partitions, float64 (m,).

    Attributes:
        intercept: Log odds at cosine 0 and E = 1.
        cosine: Factor of the cosine, not negative.
        fisher: Factor of atanh(cosine), not negative.
        rarity: Factor of the rarity ln(1 / E), 0..1; see `rarities`.
    """

    intercept: float | NDArray[np.float64]
    cosine: float | NDArray[np.float64]
    fisher: float | NDArray[np.float64]
    rarity: float | NDArray[np.float64]


@dataclass(frozen=True)
class ProbabilityModel:
    """Coefficients by pair of modalities: that of the query, and that of the item's segment.

    Attributes:
        pairs: Coefficients of the pairs that they were fitted for.
        same: Coefficients of other pairs of one modality.
        across: Coefficients of other pairs of two modalities.
    """

    pairs: Mapping[tuple[Modality, Modality], Coefficients]
    same: Coefficients
    across: Coefficients

    def pair(self, source: Modality, target: Modality) -> Coefficients:
        """Return the coefficients of a pair; pictures stand in for videos, which have the same tower."""
        for key in ((source, target), (tower_of(source), tower_of(target))):
            if key in self.pairs:
                return self.pairs[key]
        return self.same if tower_of(source) is tower_of(target) else self.across

    def mixture(self, shares: Mapping[Modality | None, float], target: Modality) -> Coefficients:
        """Return the coefficients of a query of several terms.

        Args:
            shares: Share of the query in each modality, 0..1 and in total 1; None: of an unknown modality.
            target: Modality of the item's segment.

        Returns:
            The means over the shares; a share of an unknown modality counts as a pair of two modalities.
        """
        parts = [
            (share, self.across if source is None else self.pair(source, target)) for source, share in shares.items()
        ]
        return Coefficients(*(sum(share * part[number] for share, part in parts) for number in range(4)))

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Restore a model from the result of `to_record`.

        Raises:
            ValueError: the record has another form or impossible values.
        """
        try:
            pairs = {_pair_of(name): _coefficients(values) for name, values in record["pairs"].items()}
            return cls(pairs, _coefficients(record["same"]), _coefficients(record["across"]))
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"{error} is not as expected") from None

    def to_record(self) -> dict[str, object]:
        """Return the model as JSON data."""
        return {
            "pairs": {f"{source}-{target}": _rounded(values) for (source, target), values in self.pairs.items()},
            "same": _rounded(self.same),
            "across": _rounded(self.across),
        }


DEFAULT_MODEL = ProbabilityModel({}, Coefficients(-6.0, 0.0, 4.0, 0.25), Coefficients(-4.6, 0.0, 0.0, 0.5))
"""Model of an encoder that no calibration was fitted for.

Within a modality a cosine of 0.9 has even odds even if chance explains it. Across modalities cosines have no common
scale, so only rarity counts: even odds where chance finds one such item in 10,000 searches."""


def tower_of(modality: Modality) -> Modality:
    """Return the modality whose tower embeds this one: every encoder embeds videos as pictures."""
    return Modality.IMAGE if modality is Modality.VIDEO else modality


def _pair_of(name: str) -> tuple[Modality, Modality]:
    source, _, target = name.partition("-")
    return Modality(source), Modality(target)


def _coefficients(values: Mapping[str, Any]) -> Coefficients:
    numbers = [values[name] for name in Coefficients._fields]
    if not all(type(number) in (int, float) and abs(number) <= MAX_COEFFICIENT for number in numbers):
        raise ValueError(f"{numbers!r:.80} are no coefficients")
    if min(numbers[1:]) < 0:
        raise ValueError(f"{numbers!r:.80} has a negative slope")
    return Coefficients(*map(float, numbers))


def _rounded(values: Coefficients) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values._asdict().items()}


def log_survival(z: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the logarithm of the probability that a standard normal value exceeds z: float64 (m,).

    By the Chebyshev fit of the complementary error function of Press et al., Numerical Recipes, 6.2 (`erfcc`), with a
    relative error below 1.2e-7 everywhere.
    """
    x = np.abs(z).astype(np.float64) / math.sqrt(2.0)
    t = 1.0 / (1.0 + 0.5 * x)
    upper = np.log(0.5 * t) - x * x + np.polyval(_ERFC, t)
    return np.asarray(np.where(z >= 0, upper, np.log1p(-np.exp(upper))), np.float64)


_ERFC = (
    0.17087277,
    -0.82215223,
    1.48851587,
    -1.13520398,
    0.27886807,
    -0.18628806,
    0.09678418,
    0.37409196,
    1.00002368,
    -1.26551223,
)


def rarities(
    z: NDArray[np.floating], chances: NDArray[np.integer], items: NDArray[np.floating] | float
) -> NDArray[np.float64]:
    """Return how rare candidates are: ln(1 / E), where E is the number of items that chance makes as good.

    An item counts by the best of its n segments. If their scores are chance, the best exceeds z with the probability
    p = 1 - (1 - S(z))^n, where S is the survival function of the normal distribution. With N items, E = N p items are
    as good by chance; sequence search ranks by the same number (Karlin & Altschul 1990).

    Args:
        z: Score of each candidate: (m,).
        chances: Number n of segments of each candidate's item: (m,).
        items: Number N of items searched: (m,).

    Returns:
        float64 (m,).
    """
    survival = log_survival(z)
    if np.max(chances) == 1:  # in most partitions: p = S(z)
        return np.asarray(-(survival + np.log(items)), np.float64)
    few = survival + np.log(chances)  # the limit for a small survival, where 1 - S(z) is 1 in floating point
    with np.errstate(divide="ignore"):
        exact = np.log(-np.expm1(chances * np.log1p(-np.exp(np.minimum(survival, -1e-12)))))
    return np.asarray(-(np.where(few < -20.0, few, exact) + np.log(items)), np.float64)


def features_of(
    cosines: NDArray[np.floating], rarity: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return what the log odds of a match are linear in: cosine, atanh(cosine) and rarity, float64 (m,) each.

    atanh is Fisher's transformation of correlations. It tells near copies, with cosines of 0.99, from what is only
    similar, with 0.9. Its argument is cut at MAX_COSINE, where the rounding of stored vectors begins.
    """
    values = cosines.astype(np.float64)
    return values, np.arctanh(np.clip(values, -MAX_COSINE, MAX_COSINE)), rarity


def probabilities(log_odds: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return probabilities, given log odds (m,)."""
    bounded = np.clip(log_odds, -CERTAIN_LOG_ODDS, CERTAIN_LOG_ODDS)
    return np.asarray(1.0 / (1.0 + np.exp(-bounded)), np.float64)
