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
from bindsearch.media import SegmentOf
from bindsearch.operations.duplicates import NearGroup, find_exact_duplicates, find_near_duplicates
from bindsearch.search.generation import Reader
from bindsearch.storage.batch import StagedBatch, StagedItem
from bindsearch.storage.file_state import FileState
from bindsearch.storage.session import open_writer
from bindsearch.types import Modality
from helpers import vector_store
from helpers.command import Run
from helpers.media_files import motion, write_motion_csv, write_photos, write_picture, write_sound
from helpers.stores import connect

DIM = 64


def write_recordings(store: Path, recordings: dict[str, NDArray[np.float32]], shares: dict[str, str]) -> None:
    """Sounds of one segment for each row; `shares`: further ones, with the vectors of another."""
    with open_writer(store, load_encoder("null"), DecodeOptions()) as (_, catalog, writer):
        collection = catalog.add_collection(Path("/media/sounds"))

        def staged(name: str, source: str, rows: NDArray[np.float32] | None) -> StagedItem:
            segments = None if rows is None else tuple(
                SegmentOf(Modality.AUDIO, row, 10.0 * n, 10.0 * n + 10, None) for n, row in enumerate(rows)
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


def plain_groups(recordings: list[NDArray[np.float32]], threshold: float) -> list[list[str]]:
    """By all pairs of items: the item with most near-duplicates among those left takes them, and so on."""
    near = np.zeros((len(recordings), len(recordings)), np.bool_)
    for i, one in enumerate(recordings):
        for j, other in enumerate(recordings[:i]):
            matches = one @ other.T >= threshold
            shares = [(len(one), matches.any(axis=1).mean()), (len(other), matches.any(axis=0).mean())]
            near[i, j] = near[j, i] = any(n == min(len(one), len(other)) and share >= 0.5 for n, share in shares)
    groups = []
    while near.any():
        medoid = int(near.sum(axis=1).argmax())
        group = [medoid, *np.flatnonzero(near[medoid]).tolist()]
        near[group] = near[:, group] = False
        groups.append(sorted(group))
    groups.sort(key=lambda group: (-len(group), group[0]))
    return [[str(one) for one in group] for group in groups]


def plain_groups_of_rows(rows: NDArray[np.float32], threshold: float) -> list[list[str]]:
    return plain_groups(list(rows[:, None]), threshold)


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
    wanted = plain_groups_of_rows(near_rows, threshold)
    assert names(find_near_duplicates(Reader(tmp_path).current(), Modality.IMAGE, threshold)) == wanted
    monkeypatch.setattr("bindsearch.operations.duplicates.BLOCK_ROWS", 37)
    done = []
    found = find_near_duplicates(
        Reader(tmp_path).current(), Modality.IMAGE, threshold, on_rows=lambda n, _: done.append(n)
    )
    assert names(found) == wanted
    assert done[-1] == len(near_rows)
    if threshold == 0.97:  # members of the crowd of 91 are nearer to all others than that
        monkeypatch.setattr("bindsearch.operations.duplicates.KEPT_PAIRS", 0)
        assert names(find_near_duplicates(Reader(tmp_path).current(), Modality.IMAGE, threshold)) == wanted


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
    generation = Reader(tmp_path).current()
    assert generation.partitions[Modality.IMAGE].indexed_rows == 800
    assert names(find_near_duplicates(generation, Modality.IMAGE, 0.97)) == plain_groups_of_rows(kept, 0.97)


def test_each_item_tells_its_largest_cosine(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    one = vector_store.unit(rng.standard_normal((1, DIM)))
    rows = np.concatenate([one, close_to(one, rng, 0.1), close_to(one, rng, 0.2), -one])
    vector_store.write_items(tmp_path, {"image": rows})
    (group,) = find_near_duplicates(Reader(tmp_path).current(), Modality.IMAGE, 0.9)
    cosines = rows @ rows.T - 2 * np.eye(4)
    assert [likeness.cosine for likeness in group.items] == pytest.approx(cosines[:3].max(axis=1).tolist(), abs=1e-3)
    assert [(likeness.matching, likeness.segments) for likeness in group.items] == [(1, 1)] * 3
    assert find_near_duplicates(Reader(tmp_path).current(), Modality.AUDIO) == []


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
    found = find_near_duplicates(Reader(tmp_path).current(), Modality.AUDIO, 0.97)
    assert names(found) == [["song", "again", "part"], ["still", "twin"]]
    counted = {one.item.path.name: (one.matching, one.segments) for group in found for one in group.items}
    assert counted == {"song": (8, 9), "again": (8, 8), "part": (3, 3), "still": (7, 7), "twin": (7, 7)}
    assert [
        [item.path.name for item in group] for group in find_exact_duplicates(Reader(tmp_path).current().snapshot)
    ] == [["still", "twin"]]


@pytest.mark.parametrize("seed", range(6))
def test_recordings_are_grouped_as_by_comparing_all_pairs(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(seed)
    songs = vector_store.unit(rng.standard_normal((12, 9, DIM)))
    recordings = []
    for _ in range(80):
        song = songs[rng.integers(0, 12), : rng.integers(1, 10)]
        part = song[rng.permutation(len(song))[: rng.integers(1, len(song) + 1)]]
        rows = np.repeat(part, rng.integers(1, 3), axis=0)
        recordings.append(close_to(rows, rng, float(rng.choice([0.1, 0.17, 0.3]))))
    write_recordings(tmp_path, {str(number): rows for number, rows in enumerate(recordings)}, {})
    monkeypatch.setattr("bindsearch.operations.duplicates.BLOCK_ROWS", 61)
    found = find_near_duplicates(Reader(tmp_path).current(), Modality.AUDIO, 0.97)
    wanted = plain_groups(recordings, 0.97)
    assert names(found) == wanted
    assert len(wanted) > 5
    for group in found:
        medoid = next(one for one in group.items if one.item.item_id == group.medoid_id)
        of_medoid = recordings[int(medoid.item.path.name)]
        for one in group.items:
            if one is not medoid:
                cosines = recordings[int(one.item.path.name)] @ of_medoid.T
                assert one.cosine == pytest.approx(float(cosines.max()), abs=1e-5)
                assert one.matching == np.count_nonzero((cosines >= 0.97).any(axis=1))
        assert medoid.cosine == max(one.cosine for one in group.items if one is not medoid)


def test_a_chain_of_similar_items_is_not_one_group(tmp_path: Path) -> None:
    angles = np.arange(30) * 0.2  # cosine of neighbours: 0.98, of every other one: 0.92
    rows = np.zeros((30, DIM))
    rows[:, 0], rows[:, 1] = np.cos(angles), np.sin(angles)
    vector_store.write_items(tmp_path, {"image": vector_store.unit(rows)})
    found = find_near_duplicates(Reader(tmp_path).current(), Modality.IMAGE, 0.97)
    assert [len(group.items) for group in found] == [3] * 10
    assert [group.medoid_id for group in found] == [group.items[1].item.item_id for group in found]


@pytest.mark.parametrize("modality", ["audio", "imu", "depth", "thermal"])
def test_recordings_are_compared_if_half_differ(modality: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    rows = vector_store.unit(rng.standard_normal((85, DIM)))
    rows[:20] = close_to(rows[20:40], rng, 0.1)
    for name, part in (("told", rows), ("not", rows[:40])):
        vector_store.write_items(tmp_path / name, {modality: part})
    notices: list[str] = []
    with connect(tmp_path / "told") as store:
        assert len(store.near_duplicates(on_notice=notices.append)) == 20
    assert notices == []
    with connect(tmp_path / "not") as store:
        assert store.near_duplicates(on_notice=notices.append) == []
        assert len(store.near_duplicates(0.97)) == 20
    (notice,) = notices
    assert notice.startswith(f"{modality}: only identical files are grouped")


@pytest.mark.parametrize("modality", ["image", "video", "text"])
def test_pictures_and_texts_may_all_have_copies(modality: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    rows = vector_store.unit(rng.standard_normal((20, DIM)))
    crowd = close_to(np.repeat(rows[:1], 20, axis=0), rng, 0.1)
    vector_store.write_items(tmp_path / "copies", {modality: close_to(np.repeat(rows, 3, axis=0), rng, 0.1)})
    vector_store.write_items(tmp_path / "crowd", {modality: crowd})
    notices: list[str] = []
    with connect(tmp_path / "copies") as store:
        assert [len(group.items) for group in store.near_duplicates(on_notice=notices.append)] == [3] * 20
    assert notices == []
    with connect(tmp_path / "crowd") as store:
        assert store.near_duplicates(on_notice=notices.append) == []
    assert len(notices) == 1


def test_pictures_match_from_a_lower_cosine_than_texts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = vector_store.unit(rng.standard_normal((20, DIM)))
    side = vector_store.unit(rows[1:2] - (rows[1] @ rows[0]) * rows[:1])
    rows[1] = vector_store.unit(0.965 * rows[:1] + np.sqrt(1 - 0.965**2) * side)[0]
    vector_store.write_items(tmp_path, {"image": rows, "video": rows, "text": rows, "thermal": rows})
    with connect(tmp_path) as store:
        assert [group.modality for group in store.near_duplicates()] == [Modality.IMAGE, Modality.VIDEO]


def test_real_photos_that_were_changed_are_near_duplicates(
    shared_data: Path, tmp_path: Path, bindsearch_command: Run
) -> None:
    photos = write_photos(shared_data, tmp_path / "media", 30, 3)
    write_picture(tmp_path / "media" / "white.png", np.full((300, 400, 3), 255, np.uint8))
    write_picture(tmp_path / "media" / "paper.png", np.full((300, 420, 3), 254, np.uint8))
    for number, path in enumerate((shared_data / "audio_esc10").rglob("*.flac")):
        shutil.copyfile(path, tmp_path / "media" / f"sound-{number}.flac")
    shutil.copyfile(tmp_path / "media" / "sound-0.flac", tmp_path / "media" / "sound-again.flac")
    write_sound(tmp_path / "media" / "silence.wav", np.zeros(16_000, np.float32))
    write_sound(tmp_path / "media" / "quiet.wav", np.zeros(32_000, np.float32))
    for seconds in (6.0, 7.0, 8.0):
        write_motion_csv(tmp_path / "media" / f"motion-{seconds}.csv", motion(seconds))
    store = str(tmp_path / "store")
    bindsearch_command(["index", tmp_path / "media", "--encoder", "mini", "--store", store])
    shown = json.loads(bindsearch_command(["duplicates", "--near", "--json", "--store", store]).stdout)
    groups = [{Path(one["path"]).name for one in group["items"]} for group in shown["groups"]]
    assert groups[0] == {"3.jpg", "same.jpg", "again.jpg", "small.jpg"}
    assert {"sound-0.flac", "sound-again.flac"} in groups
    assert len(groups) <= 5  # some of the sounds were cut from one recording
    (notice,) = shown["notices"]
    assert notice.startswith("imu: only identical files are grouped")
    lines = bindsearch_command(["duplicates", "--near", "--store", store])
    assert f"same.jpg  (copy of {photos[3]})" in lines.stdout
    assert lines.stderr == f"note: {notice}\n"
    asked = bindsearch_command(["duplicates", "--threshold", "0.97", "--to", "audio", "--store", store])
    assert asked.stderr == ""
    assert "silence.wav" not in asked.stdout
    assert "quiet.wav" not in asked.stdout


def test_links_to_a_file_are_told_from_copies(tmp_path: Path, bindsearch_command: Run) -> None:
    media, store = tmp_path / "media", tmp_path / "store"
    media.mkdir()
    (media / "a.txt").write_text("one text")
    (media / "b.txt").hardlink_to(media / "a.txt")
    (media / "c.txt").symlink_to(media / "a.txt")
    shutil.copyfile(media / "a.txt", media / "d.txt")
    (media / "e.txt").symlink_to(media / "d.txt")
    with connect(store, encoder="null") as opened:
        opened.index(media)
        (group,) = opened.near_duplicates()
        assert [one.item.path.name for one in group.items] == [f"{name}.txt" for name in "abcde"]
        ids = {one.item.item_id: one.item.path.name[0] for one in group.items}
        assert [ids.get(one.same_file_as or -1) for one in group.items] == [None, "a", "a", None, "d"]
    shown = bindsearch_command(["duplicates", "--store", store]).stdout.splitlines()
    first, copy = media / "a.txt", media / "d.txt"
    assert shown == [
        "5 items of 8 B",
        f"    {first}",
        f"    {media / 'b.txt'}  (same file as {first})",
        f"    {media / 'c.txt'}  (same file as {first})",
        f"    {copy}  (copy of {first})",
        f"    {media / 'e.txt'}  (same file as {copy})",
        "1 group; 8 B in copies",
    ]
    near = bindsearch_command(["duplicates", "--near", "--store", store]).stdout
    assert f"{first}  (medoid)" in near
    assert f"{media / 'e.txt'}  (same file as {copy})" in near


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.01, float("nan")])
def test_a_threshold_that_is_none_is_refused(threshold: float, tmp_path: Path) -> None:
    vector_store.write_items(tmp_path, {"image": np.eye(2, DIM, dtype=np.float32)})
    with pytest.raises(UsageError, match="give one above 0 and at most 1"):
        find_near_duplicates(Reader(tmp_path).current(), Modality.IMAGE, threshold)


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
    groups = find_exact_duplicates(Reader(store).current().snapshot)
    assert [sorted(item.rel_path for item in group) for group in groups] == [["a.txt", "d.txt", "f.txt"]]
    shown = bindsearch_command(["duplicates", "--store", store])
    assert "3 items of 8 B" in shown.stdout
    assert "1 group; 16 B in copies" in shown.stdout
    near = bindsearch_command(["dupes", "--near", "--cosine", "0.99", "--to", "text", "--json", "--store", store])
    (group,) = json.loads(near.stdout)["groups"]
    assert {Path(one["path"]).name for one in group["items"]} == {"a.txt", "d.txt", "f.txt"}
