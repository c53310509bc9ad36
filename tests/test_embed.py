"""Decoding and embedding: whatever an encoder or a file does, only the file at fault fails."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bindsearch as bs
from bindsearch.encoders.null import NullEncoder
from bindsearch.ingest import embed
from bindsearch.items import Modality
from bindsearch.machine import usable_cores
from bindsearch.media import Media, Passage


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
    with bs.connect(tmp_path / "store", encoder=FaultyEncoder()) as store:
        report = store.index(folder)
        assert report.added == 20
        reasons = {file.path.stem: file.reason for file in report.failures}
        assert reasons == {
            "nan": "the encoder gave no usable vector for it (a vector holds NaN or infinity)",
            "short": "the encoder gave no usable vector for it (vectors of shape (1, 10) do not fit a space of 64 "
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

    with bs.connect(tmp_path / "store", encoder=HalfWay()) as store:
        assert [file.reason for file in store.index(folder).failures] == ["ValueError: half way"]
        assert store.status().segments == {Modality.TEXT: 1}


def test_the_queue_between_decoders_and_towers_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long one file is, prepared segments wait for the towers in bounded numbers."""
    monkeypatch.setattr(embed, "QUEUED_SEGMENTS", 8)
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
    with bs.connect(tmp_path / "store", encoder=Counting()) as store:
        store.index(tmp_path / "book.txt")
        assert store.status().segments[Modality.TEXT] > 200
    assert max(ahead) <= 8 + 4 + usable_cores() + 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_clear_line_and_costs_nothing_that_was_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("first text")
    with bs.connect(tmp_path / "store", encoder="null") as store:
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
