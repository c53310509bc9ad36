"""Zero-shot classification: templates, vectors and scores of classes, by hand and with `mini`."""

import re
from pathlib import Path

import numpy as np
import open_clip.zero_shot_metadata
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bindsearch.encoders import load_encoder
from bindsearch.encoders.zero_shot import (
    MAX_TEMPLATES,
    ClassNames,
    class_names,
    class_probabilities,
    class_scores,
    class_vectors,
    read_templates,
    template_sets,
)
from bindsearch.errors import EncoderError, UsageError
from bindsearch.types import Modality
from helpers.constructed_encoder import DIM, NAMES, SIDE_AXIS, ConstructedEncoder, direction

ENCODER = ConstructedEncoder({})


def test_the_80_templates_are_those_of_clip() -> None:
    published = [make("{}") for make in open_clip.zero_shot_metadata.OPENAI_IMAGENET_TEMPLATES]
    assert list(read_templates("imagenet")) == published
    assert len(set(published)) == 80


def test_all_sets_have_a_place_for_the_name_and_no_line_twice() -> None:
    assert template_sets() == ["general", "imagenet", "motion", "none", "sound"]
    for name in template_sets():
        templates = read_templates(name)
        assert len(set(templates)) == len(templates)
        assert all(template.count("{}") == 1 for template in templates)
    assert read_templates("none") == ("{}",)
    assert read_templates() == read_templates("general")


def test_a_file_of_templates_is_read_without_comments_and_empty_lines(tmp_path: Path) -> None:
    file = tmp_path / "own.txt"
    file.write_text("\ufeff# mine\n\n a photo of {}, {outside} \n{}\n", encoding="utf-8")
    assert read_templates(file) == ("a photo of {}, {outside}", "{}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{}\na photo\n", "line 2 of .* is 'a photo': a template has {} once, for the name"),
        (b"{} and {}\n", "line 1 of .* has {} once"),
        (b"# nothing\n", "has 0 templates: give 1 to 1000, one a line"),
        (b"{}\n" * (MAX_TEMPLATES + 1), "has 1001 templates: give 1 to 1000"),
        (b"\xff\xfe{}", "cannot be read .*: give a text file in UTF-8"),
        (b"{}\n" * 400_000, "cannot be read .larger than 1048576 bytes"),
    ],
)
def test_a_wrong_file_of_templates_gives_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "own.txt"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=message.replace("{}", re.escape("{}"))) as error:
        read_templates(file)
    assert "\n" not in str(error.value)


def test_an_unknown_set_names_the_others(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"unknown set of templates 'imagenets': did you mean 'imagenet'.* or give a fil"
    ):
        read_templates("imagenets")
    with pytest.raises(UsageError, match=r"none\.txt is not there: give a file of templates, or one of general, image"):
        read_templates(tmp_path / "none.txt")
    with pytest.raises(UsageError, match="cannot be read"):
        read_templates(tmp_path)


@pytest.mark.parametrize(
    ("labels", "texts", "message"),
    [
        ((), (), "there are no classes"),
        (("a", "b"), (("a",),), "2 labels have names for 1"),
        (("a", "b", "a"), (("a",), ("b",), ("c",)), "the label 'a' is given twice"),
        (("a", "b"), (("a",), ()), "the class 'b' has a name without letters or digits"),
        (("a",), (("a", " "),), "the class 'a' has a name without letters or digits"),
        (("a",), (("b",) * 100_001,), "the classes have 100001 names: give at most 100000"),
    ],
)
def test_wrong_classes_give_one_line(labels: tuple[str, ...], texts: tuple[tuple[str, ...], ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ClassNames(labels, texts)


def test_a_name_is_the_normalised_mean_over_templates() -> None:
    classes = class_vectors(ENCODER, class_names(NAMES), ("a photo of a {}", "the sound of a {}"))
    np.testing.assert_allclose(classes.vectors, np.eye(DIM)[:4], atol=1e-7)
    only_photos = class_vectors(ENCODER, class_names(["cat"]), ("a photo of a {}", "one photo of a {}."))
    expected = np.zeros((1, DIM))
    expected[0, [1, SIDE_AXIS]] = np.array([1.0, 0.5]) / np.sqrt(1.25)
    np.testing.assert_allclose(only_photos.vectors, expected, atol=1e-7)


def test_the_mean_is_of_unit_vectors() -> None:
    """With "{}" and "a photo of a {}": (1, 0) + (1, 0.5) / sqrt(1.25), not (2, 0.5)."""
    (vector,) = class_vectors(ENCODER, class_names(["dog"]), ("{}", "a photo of a {}")).vectors
    total = np.array([1.0, 0.0]) + np.array([1.0, 0.5]) / np.sqrt(1.25)
    np.testing.assert_allclose(vector[[0, SIDE_AXIS]], total / np.linalg.norm(total), atol=1e-7)


def test_a_class_has_the_best_score_of_its_names() -> None:
    classes = ClassNames(("pet", "other"), (("dog", "cat"), ("bird", "fish", "dog")))
    named = class_vectors(ENCODER, classes, ("{}",))
    assert named.class_of.tolist() == [0, 0, 1, 1, 1]
    np.testing.assert_array_equal(named.vectors[0], named.vectors[4])
    rows = np.stack([direction(cat=0.8, bird=0.6), direction(dog=1.0), direction(cat=0.6, fish=0.8)])
    np.testing.assert_allclose(class_scores(named, rows), [[0.8, 0.6], [1.0, 1.0], [0.6, 0.8]], atol=1e-6)


def test_a_name_of_several_classes_is_embedded_once() -> None:
    calls: list[tuple[int, int]] = []
    classes = ClassNames(("crane, bird", "crane, machine"), (("bird",), ("bird", "fish")))
    class_vectors(ENCODER, classes, read_templates("imagenet"), lambda done, total: calls.append((done, total)))
    assert calls == [(64, 160), (128, 160), (160, 160)]


def test_probabilities_are_the_softmax_at_the_temperature() -> None:
    named = class_vectors(ENCODER, class_names(NAMES), ("{}",))
    rows = np.stack([direction(dog=1.0), direction(bird=0.6, fish=0.8)])
    found = class_probabilities(class_scores(named, rows), ENCODER.temperatures[Modality.TEXT])
    exponentials = np.exp(10.0 * (rows @ named.vectors.T).astype(np.float64))
    np.testing.assert_allclose(found, exponentials / exponentials.sum(axis=1, keepdims=True), atol=1e-5)
    assert found[0, 0] == pytest.approx(np.exp(10) / (np.exp(10) + 3), abs=1e-6)
    np.testing.assert_allclose(class_probabilities(np.array([[1.0, -1.0]]), 1e6), [[1.0, 0.0]])


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=8), st.floats(1e-3, 1e4))
def test_probabilities_have_the_sum_1_and_the_order_of_the_scores(scores: list[float], temperature: float) -> None:
    (found,) = class_probabilities(np.array([scores]), temperature)
    assert found.sum() == pytest.approx(1.0, abs=1e-5)
    assert (np.diff(found[np.argsort(scores)]) >= -1e-7).all()


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), "10"])
def test_a_temperature_is_positive(temperature: float) -> None:
    with pytest.raises(UsageError, match=r"temperature is .*: give a positive number"):
        class_probabilities(np.zeros((1, 2)), temperature)


def test_what_cannot_be_embedded_gives_one_line() -> None:
    class Deaf(ConstructedEncoder):
        modalities = frozenset({Modality.IMAGE})

        def __init__(self) -> None:
            pass

    with pytest.raises(UsageError, match="the encoder constructed has no text"):
        class_vectors(Deaf(), class_names(["dog"]), ("{}",))
    with pytest.raises(UsageError, match="there are no templates"):
        class_vectors(ENCODER, class_names(["dog"]), ())

    class Opposed(ConstructedEncoder):
        def encode(self, modality: Modality, prepared: object) -> NDArray[np.float32]:
            return np.array([[1.0] + [0.0] * 7, [-1.0] + [0.0] * 7], np.float32)

    with pytest.raises(EncoderError, match="the vectors of the name 'dog' cancel each other"):
        class_vectors(Opposed({}), class_names(["dog"]), ("{}", "a {}"))


def test_vectors_of_mini_are_those_of_single_prompts() -> None:
    mini = load_encoder("mini")
    named = class_vectors(mini, class_names(["a dog", "rain"]), ("{}", "the sound of {}"))
    alone = [class_vectors(mini, class_names([text]), ("{}",)).vectors[0] for text in ("rain", "the sound of rain")]
    mean = (alone[0] + alone[1]) / np.linalg.norm(alone[0] + alone[1])
    np.testing.assert_allclose(named.vectors[1], mean, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(named.vectors, axis=1), 1.0, atol=1e-6)
