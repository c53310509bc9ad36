"""Duplicates: the groups are those that a plain comparison of all pairs gives."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import bindsearch as bs
from bindsearch.encoders import load_encoder
from bindsearch.errors import UsageError
from bindsearch.indexes.types import IndexForm
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.operations.duplicates import NearGroup, find_exact_duplicates, find_near_duplicates
from bindsearch.search.generation import open_reader
from bindsearch.storage.batch import StagedBatch, StagedItem, StagedSegment
from bindsearch.storage.file_state import FileState
from bindsearch.storage.session import open_writer
from bindsearch.types import Modality
from helpers import vector_store
from helpers.stores import connect

DIM = 64


def write_recordings(store: Path, recordings: dict[str, NDArray[np.float32]], shares: dict[str, str]) -> None:
    """Sounds of one segment for each row; `shares`: further ones, with the vectors of another."""
    with open_writer(store, load_encoder("null"), DecodeOptions()) as (_, catalog, writer):
        collection = catalog.add_collection(Path("/media/sounds"))

        def staged(name: str, source: str, rows: NDArray[np.float32] | None) -> StagedItem:
            segments = None if rows is None else tuple(
                StagedSegment(Modality.AUDIO, row, 10.0 * n, 10.0 * n + 10, None) for n, row in enumerate(rows)
            )  # fmt: skip
            state = FileState(1, 2, 0)
            return StagedItem(None, collection, name, Modality.AUDIO, state, f"hash {source}", source, segments)

        items = [staged(name, name, rows) for name, rows in recordings.items()]
        writer.commit(StagedBatch(items=items))
        writer.commit(StagedBatch(items=[staged(name, source, None) for name, source in shares.items()]))


def close_to(rows: NDArray[np.float32], rng: np.random.Generator, spread: float) -> NDArray[np.float32]:
    return vector_store.unit(rows + spread * rng.standard_normal(rows.shape) / np.sqrt(DIM))


def names(groups: list[NearGroup]) -> list[list[str]]:
    return [[one.item.path.name for one in group.items] for group in groups]


def plain_groups(rows: NDArray[np.float32], threshold: float) -> list[list[str]]:
    """By all pairs and a search through the graph."""
    near = rows @ rows.T >= threshold
    left, groups = set(range(len(rows))), []
    while left:
        group, waiting = set(), [min(left)]
        while waiting:
            one = waiting.pop()
            if one not in group:
                group.add(one)
                waiting.extend(np.flatnonzero(near[one]).tolist())
        left -= group
        if len(group) > 1:
            groups.append(sorted(group))
    groups.sort(key=lambda group: (-len(group), group[0]))
    return [[str(one) for one in group] for group in groups]


@pytest.fixture(scope="module")
def near_rows() -> NDArray[np.float32]:
    """Rows some of which are nearly the same, in chains and in groups of very many."""
    rng = np.random.default_rng(5)
    single = vector_store.unit(rng.standard_normal((700, DIM)))
    crowd = close_to(np.repeat(single[:1], 90, axis=0), rng, 0.1)
    copies = close_to(single[rng.integers(1, 300, 200)], rng, 0.2)
    rows = np.concatenate([single, crowd, copies])
    return rows[rng.permutation(len(rows))]


@pytest.mark.parametrize("threshold", [0.9, 0.97, 0.995])
def test_groups_are_those_of_all_pairs_in_blocks_or_at_once(
    near_rows: NDArray[np.float32], threshold: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vector_store.write_items(tmp_path, {"image": near_rows}, batch=300)
    wanted = plain_groups(near_rows, threshold)
    assert names(find_near_duplicates(open_reader(tmp_path).current(), Modality.IMAGE, threshold)) == wanted
    monkeypatch.setattr("bindsearch.operations.duplicates.BLOCK_ROWS", 37)
    done = []
    found = find_near_duplicates(
        open_reader(tmp_path).current(), Modality.IMAGE, threshold, on_rows=lambda n, _: done.append(n)
    )
    assert names(found) == wanted
    assert done[-1] == len(near_rows)


def test_the_index_finds_the_same_groups_with_rows_that_are_newer_than_it(
    near_rows: NDArray[np.float32], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bindsearch.operations.optimize.TUNE_SECONDS", 0.05)
    monkeypatch.setattr("bindsearch.operations.duplicates.EXACT_ROWS", 10)
    vector_store.write_items(tmp_path, {"image": near_rows[:800]})
    connect(tmp_path).optimize(index_settings=bs.IndexSettings(IndexForm.IVF_PQ, overrides={"lists": 8}))
    vector_store.write_items(tmp_path, {"image": near_rows[800:]}, first=800, remove=[1, 2, 3])
    kept = near_rows.copy()
    kept[:3] = np.eye(3, DIM)  # like nothing else
    generation = open_reader(tmp_path).current()
    assert generation.partitions[Modality.IMAGE].indexed_rows == 800
    assert names(find_near_duplicates(generation, Modality.IMAGE, 0.97)) == plain_groups(kept, 0.97)


def test_each_item_tells_its_largest_cosine(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    one = vector_store.unit(rng.standard_normal((1, DIM)))
    rows = np.concatenate([one, close_to(one, rng, 0.1), close_to(one, rng, 0.2), -one])
    vector_store.write_items(tmp_path, {"image": rows})
    (group,) = find_near_duplicates(open_reader(tmp_path).current(), Modality.IMAGE, 0.9)
    cosines = rows @ rows.T - 2 * np.eye(4)
    assert [likeness.cosine for likeness in group.items] == pytest.approx(cosines[:3].max(axis=1).tolist(), abs=1e-3)
    assert [(likeness.matching, likeness.segments) for likeness in group.items] == [(1, 1)] * 3
    assert find_near_duplicates(open_reader(tmp_path).current(), Modality.AUDIO) == []


def test_recordings_match_by_half_of_the_shorter_ones_segments(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    song = vector_store.unit(rng.standard_normal((8, DIM)))
    silence = vector_store.unit(rng.standard_normal((1, DIM)))
    others = vector_store.unit(rng.standard_normal((12, DIM)))
    recordings = {
        "song": np.concatenate([song, silence]),
        "again": close_to(song, rng, 0.05),
        "part": close_to(song[2:5], rng, 0.05),
        "quiet": np.concatenate([others[:6], silence]),  # a silence in both is no likeness
        "still": np.concatenate([others[6:], silence]),
        "hum": np.repeat(others[:1], 80, axis=0),  # nor are its own segments
    }
    write_recordings(tmp_path, recordings, {"twin": "still"})
    found = find_near_duplicates(open_reader(tmp_path).current(), Modality.AUDIO)
    assert names(found) == [["song", "again", "part"], ["still", "twin"]]
    counted = {one.item.path.name: (one.matching, one.segments) for group in found for one in group.items}
    assert counted == {"song": (8, 9), "again": (8, 8), "part": (3, 3), "still": (7, 7), "twin": (7, 7)}
    assert [
        [item.path.name for item in group] for group in find_exact_duplicates(open_reader(tmp_path).current().snapshot)
    ] == [["still", "twin"]]


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.01, float("nan")])
def test_a_threshold_that_is_none_is_refused(threshold: float, tmp_path: Path) -> None:
    vector_store.write_items(tmp_path, {"image": np.eye(2, DIM, dtype=np.float32)})
    with pytest.raises(UsageError, match="give one above 0 and at most 1"):
        find_near_duplicates(open_reader(tmp_path).current(), Modality.IMAGE, threshold)


def test_files_of_the_same_bytes_are_grouped_and_removed_ones_are_not(
    tmp_path: Path, bindsearch_command: Callable[[list[str | Path]], subprocess.CompletedProcess[str]]
) -> None:
    media, store = tmp_path / "media", tmp_path / "store"
    media.mkdir()
    for name in ("a.txt", "b.txt", "c.txt", "d.txt", "e.txt"):
        (media / name).write_text({"a": "one text", "d": "one text", "b": "two", "e": "two"}.get(name[0], "three"))
    shutil.copy(media / "a.txt", media / "f.txt")
    with connect(store, encoder="null") as opened:
        opened.index(media)
        (media / "e.txt").unlink()
        opened.index(media)
    groups = find_exact_duplicates(open_reader(store).current().snapshot)
    assert [sorted(item.rel_path for item in group) for group in groups] == [["a.txt", "d.txt", "f.txt"]]
    shown = bindsearch_command(["duplicates", "--store", store])
    assert "3 items of 8 B" in shown.stdout
    assert "1 group; 16 B in copies" in shown.stdout
    near = bindsearch_command(["dupes", "--near", "--cosine", "0.99", "--to", "text", "--json", "--store", store])
    (group,) = json.loads(near.stdout)["groups"]
    assert {Path(one["path"]).name for one in group["items"]} == {"a.txt", "d.txt", "f.txt"}
