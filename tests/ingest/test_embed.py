"""Decoding and embedding: whatever an encoder or a file does, only the file at fault fails."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bindsearch as bs
from bindsearch.device import usable_cores
from bindsearch.encoders.null import NullEncoder
from bindsearch.errors import EncoderError
from bindsearch.ingest import embed
from bindsearch.ingest.workers import pool
from bindsearch.media import Media, Passage
from bindsearch.types import Modality
from helpers.stores import connect


class FaultyEncoder(NullEncoder):
    """Fails as the text says: "nan" gives NaN, "short" too few dimensions, "raise" raises, "prepare" raises early."""

    def prepare(self, media: Media) -> np.ndarray:
        assert isinstance(media, Passage)
        if "prepare" in media.text:
            raise RuntimeError("prepare broke\nwith a second line")
        return np.array([[ord(media.text[0])]], np.uint64)

    def encode(self, modality: Modality, prepared: Sequence[np.ndarray]) -> np.ndarray:
        starts = {chr(int(views[0, 0])) for views in prepared}
        if "r" in starts:
            raise RuntimeError("the tower broke")
        vectors = super().encode(modality, prepared)
        for row, views in enumerate(prepared):
            if chr(int(views[0, 0])) == "n":
                vectors[row] = np.nan
        return vectors[:, :10] if "s" in starts else vectors


def test_a_bad_vector_never_reaches_the_store_nor_spoils_its_batch(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in ("nan", "short", "raise", "prepare", *(f"good {n}" for n in range(20))):
        (folder / f"{name}.txt").write_text(name)
    with connect(tmp_path / "store", encoder=FaultyEncoder()) as store:
        report = store.index(folder)
        assert report.added == 20
        reasons = {file.path.stem: file.reason for file in report.failures}
        assert reasons == {
            "nan": "the encoder returned no usable vector (a vector holds NaN or infinity)",
            "short": "the encoder returned no usable vector (vectors of shape (1, 10) do not fit a space of 64 "
            "dimensions)",
            "raise": "RuntimeError: the tower broke",
            "prepare": "RuntimeError: prepare broke",
        }
        assert store.status().segments == {Modality.TEXT: 20}


def test_a_file_that_fails_half_way_leaves_no_segment(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "long.txt").write_text("fine sentence here. " * 40 + "nan " * 30)
    (folder / "other.txt").write_text("good")

    class HalfWay(NullEncoder):
        def prepare(self, media: Media) -> np.ndarray:
            if isinstance(media, Passage) and "nan" in media.text:
                raise ValueError("half way")
            return super().prepare(media)

    with connect(tmp_path / "store", encoder=HalfWay()) as store:
        assert [file.reason for file in store.index(folder).failures] == ["ValueError: half way"]
        assert store.status().segments == {Modality.TEXT: 1}


def test_a_missing_tower_ends_the_run_and_costs_no_item(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("first")
    with connect(tmp_path / "store", encoder="null") as store:
        store.index(folder)

    class Broken(NullEncoder):
        def encode(self, modality: Modality, prepared: Sequence[np.ndarray]) -> np.ndarray:
            raise EncoderError("the weights are gone")

    (folder / "a.txt").write_text("changed")
    with connect(tmp_path / "store", encoder=Broken()) as store, pytest.raises(EncoderError, match="gone"):
        store.index(folder)
    with connect(tmp_path / "store") as store:
        assert sum(store.status().items.values()) == 1
        assert store.index(folder).changed == 1


def test_a_passing_fault_of_the_machine_costs_no_item(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("first")

    class NoMemory(NullEncoder):
        def prepare(self, media: Media) -> np.ndarray:
            raise MemoryError

    with connect(tmp_path / "store", encoder="null") as store:
        store.index(folder)
    (folder / "a.txt").write_text("changed")
    with connect(tmp_path / "store", encoder=NoMemory()) as store:
        assert store.index(folder).failed == 1
        assert sum(store.status().items.values()) == 1
    with connect(tmp_path / "store") as store:
        assert store.index(folder).changed == 1
        assert store.status().failures == ()


def test_a_panic_in_a_decoder_thread_fails_its_file_only(tmp_path: Path) -> None:
    class Panic(BaseException):
        pass

    class Panicking(NullEncoder):
        def prepare(self, media: Media) -> np.ndarray:
            if isinstance(media, Passage) and media.text == "panic":
                raise Panic("at the disco")
            return super().prepare(media)

    (tmp_path / "texts").mkdir()
    for word in ("panic", "calm"):
        (tmp_path / "texts" / f"{word}.txt").write_text(word)
    with connect(tmp_path / "store", encoder=Panicking()) as store:
        report = store.index(tmp_path / "texts")
    assert (report.added, [file.reason for file in report.failures]) == (1, ["Panic: at the disco"])


def test_a_hostile_sidecar_fails_its_file_only(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    for name, sidecar in (("a", '{"fx": "\\ud800"}'), ("b", '{"caption": "a \\ud800 b"}'), ("c", "{}")):
        (tmp_path / "texts" / f"{name}.txt").write_text(name)
        (tmp_path / "texts" / f"{name}.txt.json").write_text(sidecar)
    with connect(tmp_path / "store", encoder="null") as store:
        report = store.index(tmp_path / "texts")
        assert [file.path.name for file in report.failures] == ["a.txt"]
        assert report.added == 2
        assert store.status().failures[0].reason == report.failures[0].reason


def test_the_queue_between_decoders_and_towers_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long one file is, prepared segments wait for the towers in bounded numbers."""
    monkeypatch.setattr(pool, "QUEUED_ANSWERS", 8)
    monkeypatch.setattr(embed, "BATCH_VIEWS", 4)
    prepared, encoded, ahead = 0, 0, []

    class Counting(NullEncoder):
        def prepare(self, media: Media) -> np.ndarray:
            nonlocal prepared
            prepared += 1
            ahead.append(prepared - encoded)
            return super().prepare(media)

        def encode(self, modality: Modality, views: Sequence[np.ndarray]) -> Any:
            nonlocal encoded
            encoded += len(views)
            return super().encode(modality, views)

    (tmp_path / "book.txt").write_text("A sentence of six words here. " * 3000)
    with connect(tmp_path / "store", encoder=Counting()) as store:
        store.index(tmp_path / "book.txt")
        assert store.status().segments[Modality.TEXT] > 200
    texts_per_batch = 4 * embed.TOKENS_PER_VIEW // embed.MIN_TOKENS
    assert max(ahead) <= 8 + texts_per_batch + usable_cores() + 1


def test_short_texts_fill_larger_batches_than_long_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "MAX_BATCH_AGE_S", 600.0)  # however slow the machine is
    tokens_of_batches: dict[str, list[int]] = {}

    class Tokens(NullEncoder):
        def prepare(self, media: Media) -> np.ndarray:
            assert isinstance(media, Passage)
            words = len(media.text.split())
            return np.full((1, words), words, np.uint64)

        def encode(self, modality: Modality, prepared: Sequence[np.ndarray]) -> np.ndarray:
            kind = "short" if prepared[0].size < 20 else "long"
            tokens_of_batches.setdefault(kind, []).append(sum(views.size for views in prepared))
            return super().encode(modality, prepared)

    for kind, words in (("short", 16), ("long", 60)):
        folder = tmp_path / kind
        folder.mkdir()
        for number in range(600):
            (folder / f"{number}.txt").write_text(f"{number} " + "word " * (words - 1))
        with connect(tmp_path / f"store-{kind}", encoder=Tokens()) as store:
            assert store.index(folder).added == 600
    first_batch = embed.FIRST_BATCH_VIEWS * embed.TOKENS_PER_VIEW
    assert first_batch <= tokens_of_batches["short"][0] < first_batch + 16
    assert first_batch <= tokens_of_batches["long"][0] < first_batch + 60


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_clear_line_and_costs_nothing_that_was_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("first text")
    with connect(tmp_path / "store", encoder="null") as store:
        store.index(folder)
        (folder / "b.txt").write_text("second text")

        def no_space(_descriptor: int) -> None:
            with Path("/dev/full").open("wb", buffering=0) as full:
                full.write(b"x")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", no_space)
            with pytest.raises(bs.StoreError, match="No space left"):
                store.index(folder)
        assert [hit.path.name for hit in store.search("first text", k=5)] == ["a.txt"]
        assert store.index(folder).added == 1
        assert len(store.search("first text", k=5)) == 2
