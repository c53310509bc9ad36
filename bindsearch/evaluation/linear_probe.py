"""Few-shot linear probe: a linear layer, trained on k vectors a class of a frozen encoder (ImageBind paper, B.2).

Optimizer, learning rate, weight decay and epochs are the paper's. Chosen here: the layer starts at zero, so a run
depends on its samples alone; each step takes all samples, a few hundred; the learning rate is constant; inputs are unit
vectors. A seed determines the samples; those of a smaller k are among those of a larger one.

Letters: n vectors, d dimensions, c classes, s seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.arguments import shown, to_integer
from bindsearch.errors import UsageError
from bindsearch.evaluation.arrays import to_same_space, to_targets, to_unit_rows
from bindsearch.evaluation.classification import accuracy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bindsearch.evaluation.arrays import Vectors

SHOTS = (1, 2, 4, 8)
SEEDS = (0, 1, 2, 3, 4)

MAX_SAMPLES = 100_000
"""Vectors that a probe is trained on; ImageNet with 8 a class has 8,000."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings of the training with AdamW (Loshchilov & Hutter 2019).

    Attributes:
        learning_rate: Learning rate, constant.
        weight_decay: Decoupled weight decay, of the weights and the bias.
        epochs: Passes over the samples; each is one step.
    """

    learning_rate: float
    weight_decay: float
    epochs: int


AUDIO_RECIPE = Recipe(learning_rate=1.6e-3, weight_decay=0.05, epochs=50)
DEPTH_RECIPE = Recipe(learning_rate=1e-2, weight_decay=0.0, epochs=60)


@dataclass(frozen=True, slots=True)
class ProbeFigures:
    """Figures of probes with one number of samples a class.

    Attributes:
        shots: Number k of samples a class.
        values: Figure of the probe of each seed: float64 (s,).
    """

    shots: int
    values: NDArray[np.float64]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return float(self.values.mean())

    @property
    def deviation(self) -> float:
        """Standard deviation over the seeds, of samples (s - 1); NaN for one seed."""
        return float(self.values.std(ddof=1)) if len(self.values) > 1 else float("nan")


def few_shot_figures(
    vectors: Vectors,
    targets: Sequence[int] | NDArray[np.integer],
    test_vectors: Vectors,
    test_targets: Sequence[int] | NDArray[np.integer],
    recipe: Recipe,
    shots: Sequence[int] = SHOTS,
    seeds: Sequence[int] = SEEDS,
    figure: Callable[[NDArray[np.floating], NDArray[np.int64]], float] = accuracy,
) -> dict[int, ProbeFigures]:
    """Return the figures of probes on test vectors, by number of samples a class.

    Args:
        vectors: Unit vectors to take samples from: float32 (n, d).
        targets: Their classes: integers (n,), 0 to c - 1, each class at least max(shots) times.
        test_vectors: Unit vectors of other items: float32 (m, d).
        test_targets: Their classes: integers (m,), among those of `targets`.
        recipe: AUDIO_RECIPE, DEPTH_RECIPE or another one.
        shots: Numbers k of samples a class.
        seeds: Seeds, each of one choice of samples.
        figure: Figure of scores (m, c) and classes (m,).

    Raises:
        UsageError: the arrays do not fit, or a class has too few vectors.
    """
    rows, tests = to_unit_rows(vectors, "vectors"), to_unit_rows(test_vectors, "test vectors")
    to_same_space(rows, tests, ("vectors", "test vectors"))
    n_classes = int(np.max(targets, initial=0)) + 1
    classes = to_targets(targets, len(rows), n_classes)
    right = to_targets(test_targets, len(tests), n_classes)
    if not (shots and seeds):
        raise UsageError("a probe needs numbers of samples and seeds: give at least one of each")
    figures = {}
    for k in shots:
        values = []
        for own in [few_shot_rows(classes, k, seed) for seed in seeds]:
            probe = train_probe(rows[own], classes[own], n_classes, recipe)
            logits = np.asarray(tests @ probe["weight"].T + probe["bias"], np.float32)
            values.append(figure(logits, right))
        figures[k] = ProbeFigures(k, np.array(values))
    return figures


def few_shot_rows(targets: NDArray[np.integer], k: int, seed: int) -> NDArray[np.int64]:
    """Return the rows of k vectors of each class, chosen by the seed: int64 (c * k,), ascending.

    With one seed, the rows for a smaller k are among those for a larger one.

    Args:
        targets: Class of each vector, 0 to c - 1: integers (n,).
        k: Number of samples a class, at least 1.
        seed: Seed, at least 0.

    Raises:
        UsageError: a class has fewer than k vectors, or there are more than MAX_SAMPLES in all.
    """
    count = to_integer(k, "k", "give a number of samples a class, at least 1", 1)
    random = np.random.default_rng(to_integer(seed, "seed", "give an integer from 0"))
    order = random.permutation(len(targets))
    chosen = []
    n_classes = int(np.max(targets, initial=-1)) + 1
    for number in range(n_classes):
        own = order[targets[order] == number][:count]
        if len(own) < count:
            raise UsageError(
                f"class {number} has {len(own)} vectors, {count} a class are wanted: leave the class out, or take fewer"
            )
        chosen.append(own)
    if n_classes * count > MAX_SAMPLES:
        raise UsageError(f"{n_classes} classes with {count} samples each: a probe takes at most {MAX_SAMPLES}")
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def train_probe(
    vectors: Vectors, targets: NDArray[np.int64], n_classes: int, recipe: Recipe
) -> Mapping[str, NDArray[np.float32]]:
    """Train a linear layer with cross entropy; the result depends on the arguments alone.

    Args:
        vectors: Unit vectors: float32 (n, d).
        targets: Their classes: int64 (n,).
        n_classes: Number c of classes.
        recipe: Settings of the training.

    Returns:
        weight: float32 (c, d), and bias: float32 (c,).

    Raises:
        UsageError: a setting is out of range.
    """
    import torch

    from bindsearch.encoders.torch_runtime.threads import single_threaded

    if not (recipe.learning_rate > 0 and recipe.weight_decay >= 0 and recipe.epochs >= 1):
        raise UsageError(f"{shown(recipe)} cannot be trained: give a positive learning rate and number of epochs")
    with single_threaded(), torch.enable_grad():
        inputs, classes = torch.from_numpy(vectors), torch.from_numpy(targets)
        weight = torch.zeros(n_classes, vectors.shape[1], requires_grad=True)
        bias = torch.zeros(n_classes, requires_grad=True)
        optimizer = torch.optim.AdamW([weight, bias], lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        for _ in range(recipe.epochs):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(inputs @ weight.T + bias, classes)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return {"weight": weight.detach().numpy(), "bias": bias.detach().numpy()}
