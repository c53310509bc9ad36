"""Synthetic embeddings with the statistics of ImageBind's: six modalities behind a gap, shared and private content.

    python benchmarks/synthetic.py --size 100000        # prints the statistics and what they should be

x = normalize(g mu_m + shared part + modality-private part), each part a topic, a Zipf concept and an instance whose
coordinates follow a power-law spectrum; one event has an instance in several modalities, and 3% are near-duplicates.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHARES = {"image": 0.42, "text": 0.28, "audio": 0.14, "depth": 0.06, "thermal": 0.05, "imu": 0.05}
GAP = {"image": 0.40, "text": 0.38, "audio": 0.45, "depth": 0.47, "thermal": 0.42, "imu": 0.48}
"""g^2: the part of a vector's square that is its modality's mean direction."""
SHARED = {"image": 0.46, "text": 0.46, "audio": 0.36, "depth": 0.42, "thermal": 0.40, "imu": 0.30}
"""The part of the rest that the modalities share."""

TOPICS, CONCEPTS = 60, 6000
CONCEPT_POWER = 0.9
"""Concept of rank r appears with a frequency of 1 / r^0.9."""
PART = {"topic": 0.13, "concept": 0.42, "instance": 0.45}
"""Parts of the square of a shared or private content vector."""
SPECTRUM_POWER, SPECTRUM_FLAT = 0.7, 12.0
INSTANCE_POWER = 1.9
"""Instances vary in fewer directions than concepts do."""
MEAN_COSINE = 0.10
"""Cosine of the mean directions of two modalities."""
NEAR_DUPLICATES = 0.03
DUPLICATE_NOISE = 0.12
BLOCK = 16384


@dataclass(frozen=True)
class Space:
    """What all blocks share: a rotation (d, d), the means, and topic and concept centres, each in an order of
    coordinates of its own."""

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
    """A space; equal seeds give equal ones."""
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
    return np.sqrt(variances / variances.sum()).astype(np.float32)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _content(space: Space, part: str, concepts: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float32]:
    """Unit rows of one part: topic, concept and an instance of its own, in the coordinates of that part."""
    instance = _unit(rng.standard_normal((len(concepts), space.dim), np.float32) * space.deviations)
    rows = np.sqrt(np.float32(PART["instance"])) * instance
    rows += np.sqrt(np.float32(PART["concept"])) * space.concepts[part][concepts]
    rows += np.sqrt(np.float32(PART["topic"])) * space.topics[part][space.topic_of_concept[concepts]]
    return _unit(rows)[:, space.orders[part]]


def blocks(space: Space, modality: str, n: int, seed: int = 1) -> Iterator[NDArray[np.float16]]:
    """n unit vectors of a modality as fp16 (m, d) blocks; event i of every modality has the same shared content."""
    for start in range(0, n, BLOCK):
        m = min(BLOCK, n - start)
        # One stream for what modalities share and one for what is their own, so that events agree block by block.
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
        yield _unit(_unit(rows) @ space.rotation).astype(np.float16)


def vectors(space: Space, modality: str, n: int, seed: int = 1) -> NDArray[np.float16]:
    """n unit vectors of a modality: fp16 (n, d)."""
    out = np.empty((n, space.dim), np.float16)
    start = 0
    for block in blocks(space, modality, n, seed):
        out[start : start + len(block)] = block
        start += len(block)
    return out


def collection(space: Space, size: int, seed: int = 1) -> dict[str, NDArray[np.float16]]:
    """`size` vectors over the six modalities by their shares: fp16 (n, d) each."""
    return {modality: vectors(space, modality, round(size * share), seed) for modality, share in SHARES.items()}


def describe(space: Space, size: int) -> None:
    """Print the statistics that MEASURED values exist for."""
    held = {modality: rows.astype(np.float32) for modality, rows in collection(space, size).items()}
    rng = np.random.default_rng(5)
    for name, rows in held.items():
        a, b = rng.integers(0, len(rows), (2, 20000))
        pairs = (rows[a] * rows[b]).sum(1)
        print(f"{name:8} n {len(rows):7} random pair cosine {pairs.mean():.3f} (asked 0.36..0.49)")
    for a in held:
        for b in held:
            if a < b:
                m = min(len(held[a]), len(held[b]))
                true = (held[a][:m] * held[b][:m]).sum(1).mean()
                random = (held[a][:m] * np.roll(held[b][:m], 17, axis=0)).sum(1).mean()
                print(f"{a}-{b}: true pair {true:.3f} (0.23..0.33), random pair {random:.3f} (0.05)")
    images = held["image"]
    values = np.linalg.eigvalsh(np.cov(images[: min(len(images), 20000)].T))[::-1]
    share = np.cumsum(values) / values.sum()
    print(f"dimensions with 90% of the variance: {int((share < 0.9).sum()) + 1} (440)")
    queries = images[rng.integers(0, len(images), 200)]
    distances = np.sort(2 - 2 * queries @ images.T, axis=1)[:, 1:101]
    distances = np.sqrt(np.maximum(distances, 1e-9))
    lid = -1 / np.mean(np.log(distances[:, :-1] / distances[:, -1:]), axis=1)
    print(f"local intrinsic dimension (100 neighbours): median {np.median(lid):.1f} (21..24)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=100_000)
    describe(make_space(), parser.parse_args().size)
