"""Synthetic embeddings with the statistics of ImageBind's: six modalities behind a gap, shared and private content.

    python benchmarks/synthetic.py [--size 100000] [--check]

x = normalize(g mu_m + shared part + modality-private part), each part a topic, a Zipf concept and an instance whose
coordinates follow a power-law spectrum; one event has an instance in several modalities, and 3% are near-duplicates.
--check prints the statistics with their expected ranges, and exits with 1 if one is out of its range.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHARES = {"image": 0.42, "text": 0.28, "audio": 0.14, "depth": 0.06, "thermal": 0.05, "imu": 0.05}
GAP = {"image": 0.40, "text": 0.38, "audio": 0.45, "depth": 0.47, "thermal": 0.42, "imu": 0.48}
"""g^2: share of a vector's square in its modality's mean direction."""
SHARED = {"image": 0.46, "text": 0.46, "audio": 0.36, "depth": 0.42, "thermal": 0.40, "imu": 0.30}
"""Share of the rest that the modalities have in common."""

TOPICS, CONCEPTS = 60, 6000
CONCEPT_POWER = 0.9
"""Exponent: the concept of rank r has a frequency of 1 / r^0.9."""
PART = {"topic": 0.13, "concept": 0.42, "instance": 0.45}
"""Shares of the square of a shared or private content vector."""
SPECTRUM_POWER, SPECTRUM_FLAT = 0.7, 12.0
INSTANCE_POWER = 1.9
"""Exponent of the spectrum of instances, which vary in fewer directions than concepts."""
MEAN_COSINE = 0.10
"""Cosine of the mean directions of two modalities."""
NEAR_DUPLICATES = 0.03
DUPLICATE_NOISE = 0.12
BLOCK = 16384


@dataclass(frozen=True)
class Space:
    """Common data of all blocks.

    A rotation (d, d), the means, and topic and concept centres, each in an order of coordinates of its own.
    """

    dim: int
    rotation: NDArray[np.float32]
    means: dict[str, NDArray[np.float32]]
    deviations: NDArray[np.float32]
    orders: dict[str, NDArray[np.int64]]
    topics: dict[str, NDArray[np.float32]]
    concepts: dict[str, NDArray[np.float32]]
    topic_of_concept: NDArray[np.int64]
    concept_odds: NDArray[np.float64]


def make_space(dim: int = 1024, seed: int = 0) -> Space:
    """Create a space; equal seeds give equal spaces."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
    common = rng.standard_normal(dim)
    common /= np.linalg.norm(common)
    means = {}
    for modality in SHARES:
        own = rng.standard_normal(dim)
        own -= common * (own @ common)
        own /= np.linalg.norm(own)
        means[modality] = (np.sqrt(MEAN_COSINE) * common + np.sqrt(1 - MEAN_COSINE) * own).astype(np.float32)
    deviations = _deviations(dim, SPECTRUM_POWER)
    parts = ("shared", *SHARES)
    orders = {part: np.arange(dim) if part == "shared" else rng.permutation(dim) for part in parts}

    def centres(n: int) -> NDArray[np.float32]:
        return _unit(rng.standard_normal((n, dim), np.float32) * deviations)

    odds = np.arange(1, CONCEPTS + 1) ** -CONCEPT_POWER
    return Space(
        dim=dim,
        rotation=rotation.astype(np.float32),
        means=means,
        deviations=_deviations(dim, INSTANCE_POWER),
        orders=orders,
        topics={part: centres(TOPICS) for part in parts},
        concepts={part: centres(CONCEPTS) for part in parts},
        topic_of_concept=rng.integers(0, TOPICS, CONCEPTS),
        concept_odds=odds / odds.sum(),
    )


def _deviations(dim: int, power: float) -> NDArray[np.float32]:
    variances = (np.arange(dim) + SPECTRUM_FLAT) ** -power
    return np.asarray(np.sqrt(variances / variances.sum()), np.float32)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def _content(space: Space, part: str, concepts: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return unit rows of one part: topic, concept and a new instance, in the coordinates of that part."""
    instance = _unit(rng.standard_normal((len(concepts), space.dim), np.float32) * space.deviations)
    rows = np.sqrt(np.float32(PART["instance"])) * instance
    rows += np.sqrt(np.float32(PART["concept"])) * space.concepts[part][concepts]
    rows += np.sqrt(np.float32(PART["topic"])) * space.topics[part][space.topic_of_concept[concepts]]
    return _unit(rows)[:, space.orders[part]]


def block(space: Space, modality: str, number: int, m: int = BLOCK, seed: int = 1) -> NDArray[np.float16]:
    """Return the first m unit vectors of block `number` of a modality: fp16 (m, d).

    Row i of block b is event b * BLOCK + i: shared content is the same in all modalities.
    """
    start = number * BLOCK
    # Separate streams for shared and private content, so that events agree block by block.
    shared_rng = np.random.default_rng((seed, start))
    own_rng = np.random.default_rng((seed, start, 1 + list(SHARES).index(modality)))
    concepts = shared_rng.choice(CONCEPTS, BLOCK, p=space.concept_odds)
    shared = _content(space, "shared", concepts, shared_rng)[:m]
    private = _content(space, modality, concepts[:m], own_rng)
    rest = 1 - GAP[modality]
    rows = np.sqrt(np.float32(rest * SHARED[modality])) * shared
    rows += np.sqrt(np.float32(rest * (1 - SHARED[modality]))) * private
    rows += np.sqrt(np.float32(GAP[modality])) * space.means[modality]
    copies = own_rng.random(m) < NEAR_DUPLICATES
    copies[0] = False
    sources = own_rng.integers(0, m, int(copies.sum()))
    noise = _unit(own_rng.standard_normal((len(sources), space.dim), np.float32))
    rows[copies] = rows[sources] + np.float32(DUPLICATE_NOISE) * noise
    return _unit(_unit(rows) @ space.rotation).astype(np.float16)


def blocks(space: Space, modality: str, n: int, seed: int = 1) -> Iterator[NDArray[np.float16]]:
    """Yield n unit vectors of a modality as fp16 (m, d) blocks, of events 0..n-1."""
    for start in range(0, n, BLOCK):
        yield block(space, modality, start // BLOCK, min(BLOCK, n - start), seed)


def vectors(space: Space, modality: str, n: int, seed: int = 1) -> NDArray[np.float16]:
    """Return n unit vectors of a modality: fp16 (n, d)."""
    out = np.empty((n, space.dim), np.float16)
    start = 0
    for block in blocks(space, modality, n, seed):
        out[start : start + len(block)] = block
        start += len(block)
    return out


def sizes(size: int) -> dict[str, int]:
    """Return how many of `size` vectors each modality has, by SHARES."""
    return {modality: round(size * share) for modality, share in SHARES.items()}


def collection(space: Space, size: int, seed: int = 1) -> dict[str, NDArray[np.float16]]:
    """Return `size` vectors over the six modalities by their shares: fp16 (n, d) each."""
    return {modality: vectors(space, modality, n, seed) for modality, n in sizes(size).items()}


@dataclass(frozen=True)
class Statistic:
    """One measured property: the expected range in words, the value, and its bounds."""

    name: str
    asked: str
    got: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        """Return whether the value is within its bounds."""
        return self.low <= self.got <= self.high


def statistics(space: Space, size: int, seed: int = 1) -> list[Statistic]:
    """Return the properties that were measured on the vectors this generator imitates."""
    rows_of = {modality: rows.astype(np.float32) for modality, rows in collection(space, size, seed).items()}
    rng = np.random.default_rng(5)
    results = []
    for name, rows in rows_of.items():
        a, b = rng.integers(0, len(rows), (2, 20000))
        cosine = float((rows[a] * rows[b]).sum(1).mean())
        results.append(Statistic(f"{name}: cosine of random pairs", "0.36..0.49", cosine, 0.35, 0.50))
    for first, second in itertools.combinations(rows_of, 2):
        m = min(len(rows_of[first]), len(rows_of[second]))
        first_rows, second_rows = rows_of[first][:m], rows_of[second][:m]
        true, random = (
            float((first_rows * second_rows).sum(1).mean()),
            float((first_rows * np.roll(second_rows, 17, axis=0)).sum(1).mean()),
        )
        results.append(Statistic(f"{first}, {second}: cosine of true pairs", "0.23..0.33", true, 0.22, 0.34))
        results.append(Statistic(f"{first}, {second}: cosine of random pairs", "0.05", random, 0.03, 0.07))
    images = rows_of["image"]
    dimensions = _dimensions_with_variance(images[:20000], 0.9)
    results.append(Statistic("dimensions with 90% of the variance", "440", dimensions, 396, 484))
    # It varies by a few with the number of rows and with the random queries.
    dimension = _intrinsic_dimension(images, images[rng.integers(0, len(images), 500)], 100)
    results.append(Statistic("local intrinsic dimension of 100 neighbours", "21..24", dimension, 18, 28))
    return results


def _dimensions_with_variance(rows: NDArray[np.float32], share: float) -> int:
    values = np.linalg.eigvalsh(np.cov(rows.T))[::-1]
    return int((np.cumsum(values) / values.sum() < share).sum()) + 1


def _intrinsic_dimension(rows: NDArray[np.float32], queries: NDArray[np.float32], k: int) -> float:
    """Return the median over queries among the rows of the maximum likelihood estimate of Levina and Bickel."""
    squares = np.partition(2 - 2 * queries @ rows.T, k + 1, axis=1)[:, : k + 2]
    distances = np.sqrt(np.maximum(np.sort(squares, axis=1)[:, 1 : k + 1], 1e-9))
    return float(np.median(-1 / np.mean(np.log(distances[:, :-1] / distances[:, -1:]), axis=1)))


def main() -> int:
    """Print the statistics; with --check, return 1 if one is out of its bounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--check", action="store_true", help="fail if a statistic is out of its bounds")
    arguments = parser.parse_args()
    results = statistics(make_space(), arguments.size)
    for statistic in results:
        verdict = "" if statistic.holds else f"  not within {statistic.low:g}..{statistic.high:g}"
        print(f"{statistic.name:45} asked {statistic.asked:10} got {statistic.got:.3f}{verdict}")
    return int(arguments.check and not all(statistic.holds for statistic in results))


if __name__ == "__main__":
    sys.exit(main())
