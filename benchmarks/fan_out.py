"""Latency of a search over many shards, from a sample of latencies of one.

A router waits for the slowest of its shards. If their latencies are independent, and each has the distribution function
F of the sample, the slowest of S has F^S. So all quantiles follow from the sample exactly, without drawing: the
distribution is kept as its values and the survival function 1 - F, which resolves its tail.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Latency:
    """Distribution of a latency.

    Attributes:
        values_ms: float64 (n,), ascending.
        survival: P(latency > value), float64 (n,), descending; 0 at the last.
    """

    values_ms: NDArray[np.float64]
    survival: NDArray[np.float64]

    def quantile(self, p: float) -> float:
        """Return the smallest latency that at least a share p, 0..1, of all does not exceed."""
        at = int(np.searchsorted(-self.survival, -(1 - p) * (1 + 1e-12)))
        return float(self.values_ms[min(at, len(self.values_ms) - 1)])

    def mean(self) -> float:
        """Return the mean in milliseconds."""
        return float(self.values_ms[0] + np.sum(np.diff(self.values_ms) * self.survival[:-1]))

    def later(self, ms: float) -> Latency:
        """Return the latency with a constant added, such as a hop."""
        return Latency(self.values_ms + ms, self.survival)

    def scaled(self, factor: float) -> Latency:
        """Return the latency times a factor, such as that of a larger shard."""
        return Latency(self.values_ms * factor, self.survival)

    def above(self, ms: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return P(latency > ms) for each of some times, float64 (m,)."""
        at = np.searchsorted(self.values_ms, ms, side="right") - 1
        return np.where(at < 0, 1.0, self.survival[np.maximum(at, 0)])


@dataclass(frozen=True)
class Answered:
    """Effect of a timeout.

    Attributes:
        latency: latency of the answer, complete or partial.
        complete: share of answers with all shards.
        missing: shards missing in an answer, on average.
    """

    latency: Latency
    complete: float
    missing: float


def of_sample(sample_ms: NDArray[np.float64]) -> Latency:
    """Return the distribution of a sample, float64 (n,), n >= 1."""
    values = np.sort(np.asarray(sample_ms, np.float64))
    return Latency(values, 1 - np.arange(1, len(values) + 1) / len(values))


def survivals(n: int, quantiles: int) -> NDArray[np.float64]:
    """Return 1 - p of quantiles that represent a sample of n, finer towards the largest: 1 to 1/n, float64."""
    return np.geomspace(1.0, 1 / n, quantiles)


def of_quantiles(values_ms: Sequence[float], n: int) -> Latency:
    """Return the distribution of a sample of n from its quantiles at `survivals`."""
    survival = survivals(n, len(values_ms))
    survival[-1] = 0.0
    return Latency(np.asarray(values_ms, np.float64), survival)


def slowest(one: Latency, shards: int) -> Latency:
    """Return the latency of the slowest of several independent shards, F^S."""
    with np.errstate(divide="ignore"):
        return Latency(one.values_ms, -np.expm1(shards * np.log1p(-one.survival)))


def slowest_of(parts: Sequence[Latency]) -> Latency:
    """Return the latency of the slowest of independent shards that differ: 1 minus the product of their F."""
    values = np.unique(np.concatenate([part.values_ms for part in parts]))
    with np.errstate(divide="ignore"):
        logs = sum(np.log1p(-part.above(values)) for part in parts)
    return Latency(values, -np.expm1(logs))


def resolved(sample: int, shards: int, p: float) -> bool:
    """Return whether a sample of that many latencies has some beyond quantile p of the slowest shard."""
    return sample * (1 - math.pow(p, 1 / shards)) >= 1


def hedged(one: Latency, after_ms: float, replica: Latency | None = None) -> Latency:
    """Return the latency of a shard that is asked again, at a replica, if it has not answered after some time.

    The first answer counts: P(min(X, h + Y) > t) = P(X > t) P(Y > t - h). See Dean and Barroso, "The Tail at Scale",
    CACM 2013.

    Args:
        one: latency X of the shard.
        after_ms: time h in milliseconds after which the replica is asked.
        replica: latency Y of the replica; None: as that of the shard.
    """
    other = (one if replica is None else replica).later(after_ms)
    values = np.union1d(one.values_ms, other.values_ms)
    survival = one.above(values) * other.above(values)
    until = int(np.argmax(survival <= 0)) + 1
    return Latency(values[:until], survival[:until])


def asked_twice(one: Latency, after_ms: float) -> float:
    """Return the share of requests that a hedge sends to a replica as well."""
    return float(one.above(np.array([after_ms]))[0])


def with_timeout(one: Latency, shards: int, timeout_ms: float) -> Answered:
    """Return the latency of answers that wait for no shard longer than a timeout, and what they lack."""
    late = float(one.above(np.array([timeout_ms]))[0])
    whole = slowest(one, shards)
    until = int(np.searchsorted(whole.values_ms, timeout_ms))
    values = np.append(whole.values_ms[:until], timeout_ms)
    return Answered(Latency(values, np.append(whole.survival[:until], 0.0)), (1 - late) ** shards, shards * late)
