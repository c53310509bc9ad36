"""Vectors of items: spans, crops, several segments, failures with reasons; and what the cache keeps of a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bindsearch.encoders.base import encode_media
from bindsearch.encoders.null import NullEncoder
from bindsearch.errors import UsageError
from bindsearch.evaluation.datasets.dataset import EvalItem
from bindsearch.evaluation.embedding import BATCH, MAX_SEGMENTS, embed_items, embed_texts
from bindsearch.evaluation.vector_cache import VectorCache
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.media import Motion, Passage, Picture
from bindsearch.types import Modality, Span
from bindsearch.vectors import l2_normalize
from helpers.media_files import tone, write_every_modality, write_sound

PROJECT = Path(__file__).parents[2]


class CountingEncoder(NullEncoder):
    """The null encoder, with the number of media that it has embedded."""

    embedded = 0

    def encode(self, modality, prepared):  # type: ignore[no-untyped-def]
        CountingEncoder.embedded += len(prepared)
        return super().encode(modality, prepared)


def texts_in(folder: Path, n: int) -> list[EvalItem]:
    """Write n different texts."""
    items = []
    for number in range(n):
        path = folder / f"{number:03}.txt"
        path.write_text(f"text number {number}")
        items.append(EvalItem(path, Modality.TEXT))
    return items


def test_items_of_every_modality_have_the_vectors_of_their_media(tmp_path: Path) -> None:
    files = write_every_modality(tmp_path)
    items = [EvalItem(path, Modality(name)) for name, paths in files.items() for path in paths]
    vectors, kept, failures = embed_items(NullEncoder(), items)
    assert failures == ()
    assert kept.tolist() == list(range(len(items)))
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert len(np.unique(vectors, axis=0)) == len(items)
    with Image.open(files["image"][0]) as picture:
        expected = encode_media(NullEncoder(), [Picture(np.asarray(picture.convert("RGB")))])
    position = [item.path for item in items].index(files["image"][0])
    assert np.array_equal(vectors[position], expected[0])


def test_a_failure_is_listed_with_its_reason_and_the_others_keep_their_places(tmp_path: Path) -> None:
    items = texts_in(tmp_path, 3)
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    damaged = EvalItem(tmp_path / "bad.png", Modality.IMAGE, name="the damaged one")
    missing = EvalItem(tmp_path / "none.wav", Modality.AUDIO)
    vectors, kept, failures = embed_items(NullEncoder(), [items[0], damaged, items[1], missing, items[2]])
    assert kept.tolist() == [0, 2, 4]
    assert vectors.shape == (3, 64)
    assert [failure.name for failure in failures] == ["the damaged one", "none.wav"]
    assert all(failure.reason and "\n" not in failure.reason for failure in failures)


def test_segments_of_a_sound_are_averaged_and_a_span_is_a_part_of_it(tmp_path: Path) -> None:
    samples = np.concatenate([tone(1.0), tone(1.0, frequency_hz=900.0)])
    path = write_sound(tmp_path / "two.wav", samples)
    options = DecodeOptions(audio_segment_s=1.0)
    item = EvalItem(path, Modality.AUDIO)
    parts = [replace(item, span=Span(0.0, 1.0)), replace(item, span=Span(1.0, 2.0))]
    whole, first, second = embed_items(NullEncoder(), [item, *parts], options=options).vectors
    assert np.allclose(whole, l2_normalize(first + second), atol=1e-6)
    assert abs(float(first @ second)) < 0.9


def test_an_item_of_too_many_segments_fails(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "long.wav", tone(0.1 * (MAX_SEGMENTS + 2)))
    options = DecodeOptions(audio_segment_s=0.1)
    _, kept, failures = embed_items(NullEncoder(), [EvalItem(path, Modality.AUDIO)], options=options)
    assert not len(kept)
    assert failures[0].reason == f"it has more than {MAX_SEGMENTS} segments: give a span of it"


def test_a_crop_is_that_part_of_the_picture_in_its_own_pixels(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    item = EvalItem(tmp_path / "a.png", Modality.IMAGE, crop=(10, 20, 110, 70))
    outside = replace(item, crop=(500, 20, 600, 70))
    vectors, kept, failures = embed_items(NullEncoder(), [item, outside])
    expected = encode_media(NullEncoder(), [Picture(np.ascontiguousarray(rgb[20:70, 10:110]))])
    assert np.array_equal(vectors, expected)
    assert kept.tolist() == [0]
    assert failures[0].reason == "the crop (500, 20, 600, 70) is outside of the picture"


def test_an_encoder_without_the_modality_is_one_line(tmp_path: Path) -> None:
    class TextOnly(NullEncoder):
        modalities = frozenset({Modality.TEXT})

    with pytest.raises(UsageError, match=r"^the encoder null embeds no image: choose another encoder$"):
        embed_items(TextOnly(), [EvalItem(tmp_path / "a.png", Modality.IMAGE)])


def test_long_captions_are_cut_and_counted() -> None:
    encoder = NullEncoder()
    long = "one two three four five six seven eight. " * 20
    vectors, cut = embed_texts(encoder, ["a dog", long, "a dog"])
    assert cut == 1
    assert np.array_equal(vectors[0], vectors[2])
    assert np.array_equal(vectors[0], encode_media(encoder, [Passage("a dog")])[0])


def test_the_second_run_takes_all_from_the_cache_and_a_change_is_seen(tmp_path: Path) -> None:
    items = texts_in(tmp_path, 5)
    items.append(EvalItem(items[0].path, Modality.IMU, media=Motion(np.ones((300, 6), np.float32), 50.0)))
    encoder = CountingEncoder()
    CountingEncoder.embedded = 0
    first = embed_items(encoder, items, cache=VectorCache(tmp_path / "cache", encoder))
    assert CountingEncoder.embedded == 6
    again = VectorCache(tmp_path / "cache", encoder)
    assert len(again) == 6
    assert np.array_equal(embed_items(encoder, items, cache=again).vectors, first.vectors)
    assert CountingEncoder.embedded == 6
    items[2].path.write_text("another text")
    changed = embed_items(encoder, items, cache=VectorCache(tmp_path / "cache", encoder)).vectors
    assert CountingEncoder.embedded == 7
    assert np.flatnonzero((changed != first.vectors).any(axis=1)).tolist() == [2]


def test_another_digest_has_other_vectors(tmp_path: Path) -> None:
    class Other(NullEncoder):
        digest = "null-2"

    embed_items(NullEncoder(), texts_in(tmp_path, 2), cache=VectorCache(tmp_path / "cache", NullEncoder()))
    assert len(VectorCache(tmp_path / "cache", Other())) == 0


def test_a_damaged_file_of_the_cache_is_noted_and_made_again(tmp_path: Path) -> None:
    items, encoder = texts_in(tmp_path, 4), CountingEncoder()
    first = embed_items(encoder, items, cache=VectorCache(tmp_path / "cache", encoder))
    (file,) = (tmp_path / "cache").rglob("*.npz")
    file.write_bytes(file.read_bytes()[:-40])
    CountingEncoder.embedded = 0
    cache = VectorCache(tmp_path / "cache", encoder)
    assert len(cache) == 0
    assert cache.notes[0].startswith(f"the file {file.name} of the cache is damaged")
    assert np.array_equal(embed_items(encoder, items, cache=cache).vectors, first.vectors)
    assert CountingEncoder.embedded == 4
    assert len(VectorCache(tmp_path / "cache", encoder)) == 4


def test_a_cache_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"^--cache .*file cannot be used: "):
        VectorCache(tmp_path / "file", NullEncoder())


KILLED = """
import itertools, os, signal, sys
from pathlib import Path
from bindsearch.encoders.null import NullEncoder
from bindsearch.evaluation.datasets.dataset import EvalItem
from bindsearch.evaluation.embedding import embed_items
from bindsearch.evaluation.vector_cache import VectorCache
from bindsearch.types import Modality

def kill(done, total):
    if done >= 64:
        os.kill(os.getpid(), signal.SIGKILL)

folder = Path(sys.argv[1])
items = [EvalItem(path, Modality.TEXT) for path in sorted(folder.glob("*.txt"))]
clock = itertools.count(step=10).__next__  # a call every ten seconds
embed_items(NullEncoder(), items, kill, cache=VectorCache(folder / "cache", NullEncoder(), clock))
"""


def test_a_killed_run_continues_from_the_cache(tmp_path: Path) -> None:
    items = texts_in(tmp_path, 150)
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False, env={**os.environ})
    assert done.returncode == -signal.SIGKILL
    encoder = CountingEncoder()
    CountingEncoder.embedded = 0
    cache = VectorCache(tmp_path / "cache", encoder)
    assert len(cache) >= BATCH
    known = len(cache)
    vectors = embed_items(encoder, items, cache=cache).vectors
    assert CountingEncoder.embedded == 150 - known
    assert np.array_equal(vectors, embed_items(NullEncoder(), items).vectors)
