"""Match probability: how probable it is that an item is what a query means; see docs/ranking.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from bindsearch.types import Modality

MAX_COEFFICIENT = 1000.0
"""Bound of coefficients; with larger ones a file is taken to be damaged."""


class Coefficients(NamedTuple):
    """Coefficients of the log odds of a match, a linear function of `scores.features_of`.

    Attributes:
        intercept: Log odds at cosine 0 and E = 1.
        cosine: Factor of the cosine, not negative.
        fisher: Factor of atanh(cosine), not negative.
        rarity: Factor of the rarity ln(1 / E), 0..1; see `scores.rarities`.
    """

    intercept: float
    cosine: float
    fisher: float
    rarity: float


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
