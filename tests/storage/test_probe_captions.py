"""The generic captions and their vectors, kept in the store."""

from pathlib import Path

import numpy as np
import pytest

from bindsearch.encoders.base import Encoder, encode_media
from bindsearch.media import Passage
from bindsearch.storage.probe_captions import caption_vectors, generic_captions
from bindsearch.storage.vector_files import open_vectors, write_vectors
from bindsearch.types import Modality
from bindsearch.vectors import l2_normalize


class PairEncoder:
    """A text encoder that takes no time: it counts pairs of letters."""

    name, dim, digest = "pairs", 64, "0123456789abcdef" * 2

    def prepare(self, media: Passage) -> np.ndarray:
        return np.frombuffer(media.text.encode(), np.uint8)

    def encode(self, modality: Modality, prepared: list[np.ndarray]) -> np.ndarray:
        assert modality is Modality.TEXT
        pairs = [(31 * letters[:-1].astype(int) + letters[1:]) % self.dim for letters in prepared]
        return l2_normalize(np.stack([np.bincount(pair, minlength=self.dim) for pair in pairs]).astype(np.float32))


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return PairEncoder()  # type: ignore[return-value]


@pytest.fixture(scope="module")
def encoded(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """Return a store whose captions have been encoded, and the result of that."""
    store = tmp_path_factory.mktemp("store")
    return store, caption_vectors(encoder, store)


def test_there_are_500_different_captions_of_a_few_words() -> None:
    captions = generic_captions()
    assert len(captions) == len(set(captions)) == 500
    assert all(caption == caption.strip() and 3 <= len(caption.split()) <= 12 for caption in captions)


def test_vectors_are_those_of_the_captions(encoder: Encoder, encoded: tuple[Path, np.ndarray]) -> None:
    _, vectors = encoded
    assert vectors.shape == (500, encoder.dim)
    assert vectors.dtype == np.float32
    expected = encode_media(encoder, [Passage(caption) for caption in generic_captions()[:5]])
    np.testing.assert_allclose(vectors[:5], expected, atol=1e-3)


def test_they_are_encoded_once(encoder: Encoder, encoded: tuple[Path, np.ndarray]) -> None:
    store, vectors = encoded
    (path,) = (store / "indexes").iterdir()
    assert path.name == f"captions-{encoder.digest[:16]}.arrow"
    kept = np.roll(vectors, 1, axis=0)
    write_vectors(path, np.arange(500), kept)
    np.testing.assert_array_equal(caption_vectors(encoder, store), kept)


@pytest.mark.parametrize("damage", ["truncated", "emptied", "zeroed", "fewer rows"])
def test_what_is_damaged_is_encoded_again(
    encoder: Encoder, encoded: tuple[Path, np.ndarray], tmp_path: Path, damage: str
) -> None:
    _, vectors = encoded
    path = tmp_path / "indexes" / f"captions-{encoder.digest[:16]}.arrow"
    path.parent.mkdir()
    write_vectors(path, np.arange(500), vectors)
    content = path.read_bytes()
    match damage:
        case "truncated":
            path.write_bytes(content[: len(content) // 2])
        case "emptied":
            path.write_bytes(b"")
        case "zeroed":
            path.write_bytes(content[:5000] + bytes(20_000) + content[25_000:])
        case _:
            write_vectors(path, np.arange(499), vectors[:499])
    np.testing.assert_array_equal(caption_vectors(encoder, tmp_path), vectors)
    np.testing.assert_array_equal(open_vectors(path, encoder.dim).embeddings, vectors.astype(np.float16))
