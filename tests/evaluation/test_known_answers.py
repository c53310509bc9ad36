"""The protocols together, in a constructed space in which their figures follow by hand."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from bindsearch.encoders import encode_media
from bindsearch.encoders.zero_shot import (
    ClassNames,
    class_names,
    class_probabilities,
    class_scores,
    class_vectors,
)
from bindsearch.evaluation.classification import (
    accuracy,
    confusion_matrix,
    mean_average_precision,
    mean_class_accuracy,
)
from bindsearch.evaluation.linear_probe import DEPTH_RECIPE, few_shot_figures
from bindsearch.evaluation.retrieval import both_directions, retrieval_figures, sweep_weights
from bindsearch.evaluation.space import alignment, modality_gap
from bindsearch.types import Modality
from helpers.constructed_encoder import DIM, NAMES, ConstructedEncoder, direction, picture, sound

TEMPLATES = ("a photo of a {}", "the sound of a {}")

PICTURES = np.stack(
    [
        direction(dog=1.0),  # a dog, sure
        direction(cat=0.8, dog=0.6),  # a cat, like a dog
        direction(bird=0.6, fish=0.8),  # a bird, taken for a fish
        direction(fish=1.0, dog=1.0),  # a fish, as near to a dog
    ]
)
"""One picture of each class."""

SOUNDS = np.stack(
    [
        direction(dog=0.8, cat=0.6),
        direction(cat=1.0),
        direction(bird=1.0),
        direction(dog=0.6, bird=0.8),
    ]
)
"""The sound of each picture."""

ENCODER = ConstructedEncoder({Modality.IMAGE: PICTURES, Modality.AUDIO: SOUNDS})


def pictures() -> NDArray[np.float32]:
    return encode_media(ENCODER, [picture(number) for number in range(4)])


def sounds() -> NDArray[np.float32]:
    return encode_media(ENCODER, [sound(number) for number in range(4)])


def test_zero_shot_classification() -> None:
    scores = class_scores(class_vectors(ENCODER, class_names(NAMES), TEMPLATES), pictures())
    half = 1 / math.sqrt(2)
    expected = np.array([[1, 0, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 0.6, 0.8], [half, 0, 0, half]])
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    right = np.arange(4)
    assert accuracy(scores, right) == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    assert accuracy(scores, right, 2) == 1.0
    assert mean_class_accuracy(scores, [0, 1, 1, 1]) == pytest.approx((1 + 1 / 3) / 2)
    confused = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0.5, 0, 0, 0.5]])
    np.testing.assert_allclose(confusion_matrix(scores, right), confused)
    # dog: pictures 0, 3, 1 in this order; cat: 1 first; bird: 2 first; fish: 2, then 3
    found = {0: 1.0, 1: 1.0, 2: 1.0, 3: 1 / 2}
    assert mean_average_precision(scores, np.eye(4, dtype=np.bool_)) == pytest.approx(sum(found.values()) / 4)
    probability = class_probabilities(scores, ENCODER.temperatures[Modality.IMAGE])[1, 1]
    assert probability == pytest.approx(math.exp(8) / (math.exp(8) + math.exp(6) + 2), abs=1e-6)


def test_zero_shot_classification_with_several_names_a_class() -> None:
    """With "animal in water or air" for bird and fish, the bird is right; against dog the fish is still undecided."""
    classes = ClassNames(("dog", "cat", "water or air"), (("dog",), ("cat",), ("bird", "fish")))
    scores = class_scores(class_vectors(ENCODER, classes, TEMPLATES), pictures())
    assert accuracy(scores, [0, 1, 2, 2]) == pytest.approx((1 + 1 + 1 + 0.5) / 4)


def test_few_shot_classification_of_what_words_do_not_name() -> None:
    """Each class is at the axis of the next name: zero-shot is always wrong, one sample a class is always right."""
    targets = np.repeat(np.arange(4), 10)
    random = np.random.default_rng(0)
    vectors = np.eye(DIM)[(targets + 1) % 4] + 0.05 * random.standard_normal((40, DIM))
    rows = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    moved = ConstructedEncoder({Modality.DEPTH: rows})
    scores = class_scores(class_vectors(moved, class_names(NAMES), TEMPLATES), rows)
    assert accuracy(scores, targets) == 0.0
    found = few_shot_figures(rows[::2], targets[::2], rows[1::2], targets[1::2], DEPTH_RECIPE, shots=(1, 2, 4))
    assert [found[k].mean for k in found] == [1.0, 1.0, 1.0]


def test_retrieval_of_pictures_by_their_sounds() -> None:
    """The cosines of sounds (rows) with pictures are these.

    0.8   0.96  0     0.57       the dog's sound is nearer to the cat: rank 2
    0     0.8   0     0          rank 1
    0     0     0.6   0          rank 1
    0.6   0.36  0.48  0.42       the fish's picture: rank 3
    """
    forward, backward = both_directions(sounds(), pictures(), np.eye(4, dtype=np.bool_), ks=(1, 2, 3))
    assert forward.ranks.tolist() == [2, 1, 1, 3]
    assert [forward.recall_at(k) for k in (1, 2, 3)] == [0.5, 0.75, 1.0]
    assert forward.median_rank == 1.5
    assert forward.mean_average_precision == pytest.approx((1 / 2 + 1 + 1 + 1 / 3) / 4)
    assert forward.ndcg == pytest.approx((1 / math.log2(3) + 1 + 1 + 1 / 2) / 4)
    assert backward.ranks.tolist() == [1, 2, 1, 2]  # columns: 0.8 first; 0.8 after 0.96; 0.6; 0.42 after 0.57
    assert backward.recall_at(1) == 0.5


def test_retrieval_by_words_of_pictures_combined_with_sounds() -> None:
    """The word fish finds the picture of the bird first; no sound has fish."""
    words = class_vectors(ENCODER, class_names(NAMES), TEMPLATES).vectors
    swept = sweep_weights(words, pictures(), sounds(), np.eye(4, dtype=np.bool_), weights=(0.0, 0.5, 1.0), ks=(1,))
    alone = retrieval_figures(words, pictures(), np.eye(4, dtype=np.bool_), ks=(1,))
    assert swept[1.0].ranks.tolist() == alone.ranks.tolist() == [1, 1, 1, 2]
    assert swept[0.0].ranks.tolist() == [1, 1, 1, 2.5]  # no sound has fish: all four are equal, ranks 1 to 4
    assert swept[0.5].ranks.tolist() == [1, 1, 1, 2]


def test_the_geometry_of_the_constructed_space() -> None:
    cosines = np.array([0.8, 0.8, 0.6, 0.6 / math.sqrt(2)])
    assert alignment(sounds(), pictures()) == pytest.approx((2 - 2 * cosines).mean())
    half = 1 / math.sqrt(2)
    gap = np.array([1 + 0.6 + half - 0.8 - 0.6, 0.8 - 1.6, 0.6 - 1.8, 0.8 + half]) / 4
    assert modality_gap(sounds(), pictures()) == pytest.approx(np.linalg.norm(gap), abs=1e-6)
