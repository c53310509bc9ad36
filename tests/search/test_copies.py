"""Copies in a list of hits: files of the same bytes and pictures that look the same are one hit, recordings are not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import bindsearch as bs
from bindsearch.search.scoring.scores import COPY_COSINE
from bindsearch.types import Match, Modality
from helpers import vector_store
from helpers.command import Run
from helpers.media_files import tone, write_photos, write_sound
from helpers.stores import connect


def names(hits: list[bs.Hit]) -> list[str]:
    return [hit.path.name for hit in hits]


@pytest.fixture(scope="module")
def photos(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[bs.Store, Path]]:
    """Yield a store of eight photos, one of them three times more: as it is, compressed again, and smaller."""
    folder = tmp_path_factory.mktemp("photos")
    write_photos(shared_data, folder / "media", 8, 3)
    with connect(folder / "store", encoder="mini") as store:
        store.index(folder / "media")
        yield store, folder / "media"


def test_same_bytes_other_quality_and_other_size_are_one_hit(photos: tuple[bs.Store, Path]) -> None:
    store, media = photos
    family = {"3.jpg", "same.jpg", "again.jpg", "small.jpg"}
    for query in ("a photo", bs.image(media / "5.jpg"), bs.like(media / "0.jpg")):
        plain = store.search(query, k=20, copies=True)
        folded = store.search(query, k=20)
        assert [hit.copies for hit in plain] == [()] * len(plain)
        assert [hit.rank for hit in folded] == [*range(1, len(plain) - 2)]
        (hit,) = (hit for hit in folded if hit.path.name in family)
        of_family = [one for one in plain if one.path.name in family]
        assert [hit.path, *hit.copies] == [one.path for one in of_family]
        assert len(of_family) == 4
        assert (hit.score, hit.cosine) == (of_family[0].score, of_family[0].cosine)
        assert [one for one in names(folded) if one not in family] == [one for one in names(plain) if one not in family]
        assert [one.copies for one in folded if one is not hit] == [()] * (len(folded) - 1)


def test_a_copy_of_a_photo_matches_strongly_and_other_photos_do_not(photos: tuple[bs.Store, Path]) -> None:
    store, media = photos
    hits = store.search(bs.like(media / "3.jpg"), k=20, copies=True)
    copies = {hit.path.name: hit for hit in hits if hit.path.name in ("again.jpg", "small.jpg")}
    assert len(copies) == 2
    assert [hit.match for hit in copies.values() if hit.cosine >= COPY_COSINE] == [Match.STRONG] * 2
    others = [hit for hit in hits if hit.path.name not in ("same.jpg", *copies)]
    assert len(others) == 7
    assert max(hit.probability for hit in others) < min(hit.probability for hit in copies.values())


def test_the_copies_option_lists_them_as_hits(photos: tuple[bs.Store, Path], bindsearch_command: Run) -> None:
    store, _ = photos
    query = ["search", "a photo", "--store", str(store.path), "-k", "20"]
    shown = bindsearch_command(query)
    assert "+3 copies" in shown.stdout
    assert len(shown.stdout.splitlines()) == 8
    unfolded = bindsearch_command([*query, "--copies", "--paths"])
    assert len(unfolded.stdout.splitlines()) == 11


def test_many_identical_files_leave_room_for_different_ones(tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    for number in range(60):
        (media / f"same-{number:02}.txt").write_text("a dog runs on the beach")
    for number in range(10):
        (media / f"other-{number}.txt").write_text(f"another text, number {number}")
    with connect(tmp_path / "store", encoder="mini") as store:
        store.index(media)
        for ranking in ("probability", "z", "cosine", "per-modality"):
            hits = store.search("a dog on the beach", k=10, ranking=ranking)
            assert [hit.rank for hit in hits] == [*range(1, 11)]
            assert names(hits)[0].startswith("same")
            assert len({name[:4] for name in names(hits)[1:]} | {"othe"}) == 1
            assert len(hits[0].copies) == 59
        assert len(store.search("a dog on the beach", k=20)) == 11
        (many,) = store.search_many(["a dog on the beach"], k=10)
        assert many == store.search("a dog on the beach", k=10)
        unlike = store.search("another text, number 3", k=11)
        assert sum(len(hit.copies) for hit in unlike) == 59


def test_the_last_hit_names_all_its_identical_copies(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"near-{number}.txt").write_text(f"a dog runs on the beach {number}")
    for number in range(60):
        (tmp_path / f"far-{number:02}.txt").write_text("the price of steel in Norway")
    with connect(tmp_path / "store", encoder="mini") as store:
        store.index(tmp_path)
        hits = store.search("a dog", k=4)
        assert names(hits)[3].startswith("far")
        assert len(hits[3].copies) == 59


def test_sounds_of_one_kind_are_hits_of_their_own(tmp_path: Path) -> None:
    for number in range(6):
        write_sound(tmp_path / f"{number}.wav", tone(2.0, frequency_hz=440.0 + 0.5 * number))
    shutil.copyfile(tmp_path / "0.wav", tmp_path / "same.wav")
    with connect(tmp_path / "store", encoder="mini") as store:
        store.index(tmp_path)
        rows = store._reader.current().partitions[Modality.AUDIO].sample(6)[1]
        assert (rows @ rows.T).min() > 0.96
        hits = store.search("a beep")
        assert {name for name in names(hits) if name not in ("0.wav", "same.wav")} == {f"{n}.wav" for n in range(1, 6)}
        (hit,) = (hit for hit in hits if hit.copies)
        assert {hit.path.name, *(path.name for path in hit.copies)} == {"0.wav", "same.wav"}


def test_pictures_an_encoder_cannot_tell_apart_are_not_folded(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    centre = vector_store.unit(rng.standard_normal((1, 64)))
    rows = vector_store.unit(centre + 0.1 * rng.standard_normal((40, 64)) / 8)
    vector_store.write_items(tmp_path, {"image": rows})
    with connect(tmp_path, encoder="null") as store:
        assert len(store.search("anything", k=40)) == 40


def test_pictures_are_not_folded_into_videos(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = vector_store.unit(rng.standard_normal((5, 64)))
    vector_store.write_items(tmp_path, {"image": rows, "video": rows})
    with connect(tmp_path, encoder="null") as store:
        assert len(store.search("anything", k=40)) == 10
        assert not any(hit.copies for hit in store.search("anything", k=40))


def test_min_match_does_not_search_for_what_is_below_it(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.txt").write_text(f"text {number // 2}")
    with connect(tmp_path / "store", encoder="mini") as store:
        store.index(tmp_path)
        every = [hit for hit in store.search("text 3", k=40) if hit.probability >= 0.3]
        assert store.search("text 3", k=40, min_match=0.3) == every


@pytest.mark.parametrize("ranking", ["probability", "z", "cosine", "per-modality"])
@pytest.mark.parametrize("gap", [0.0, 3.0])  # cosines of two different pictures: 0 and 0.9
def test_diversity_halves_near_copies_whatever_the_ranking(tmp_path: Path, ranking: str, gap: float) -> None:
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((200, 64))
    query, rows[0] = rows[0].copy(), rows[0]
    rows[1:50] += np.linspace(0.9, 0.2, 49)[:, None] * query
    rows[1:6] = rows[1] + 0.05 * rng.standard_normal((5, 64))
    rows += gap * 8 * vector_store.unit(rng.standard_normal((1, 64)))
    vector_store.write_items(tmp_path, {"image": vector_store.unit(rows)})
    near = {f"{number}" for number in range(1, 6)}
    counts = []
    with connect(tmp_path, encoder="null") as store:
        for diversity in (0.0, 0.3, 0.5):
            hits = store.search(bs.like(1), k=10, ranking=ranking, diversity=diversity, copies=True)
            assert [hit.rank for hit in hits] == [*range(1, 11)]
            counts.append(len(near & set(names(hits))))
        best = store.search(bs.like(1), k=1, ranking=ranking)
        assert hits[0].path == best[0].path
        assert sorted((hit.score for hit in hits), reverse=True) != [hit.score for hit in hits]
    assert counts[0] == 5
    assert counts[1] < 5
    assert counts[2] <= 2


def test_a_match_that_nothing_reaches_gives_an_empty_list(tmp_path: Path) -> None:
    vector_store.write_items(tmp_path, {"image": np.eye(20, 64, dtype=np.float32)})
    with connect(tmp_path, encoder="null") as store:
        assert store.search("anything", diversity=0.5, min_match=0.999) == []
        assert store.search(bs.text("some") + bs.text("thing"), min_match=0.999) == []


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bs.Store]:
    """Yield a store of 30 pictures in groups of one to four that look the same, and of ten texts apart."""
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((12, 64)) + 0.8 * rng.standard_normal(64)
    group = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 4, 5, 6, 7, 7, 7, 8, 9, 9, 9, 9, 10, 10, 11, 11, 11, 8, 3, 5])
    pictures = vector_store.unit(centres[group] + 0.1 * rng.standard_normal((30, 64)))
    texts = vector_store.unit(rng.standard_normal((10, 64)))
    path = tmp_path_factory.mktemp("grouped")
    vector_store.write_items(path, {"image": pictures, "text": texts})
    with connect(path, encoder="null") as store:
        yield store


@pytest.mark.parametrize("ranking", ["probability", "z", "cosine", "per-modality"])
@pytest.mark.parametrize("k", [1, 2, 7, 40])
def test_lists_without_copies_are_those_with_copies_folded(ranking: str, k: int, grouped: bs.Store) -> None:
    rng = np.random.default_rng(k)
    vectors = grouped._reader.current().partitions[Modality.IMAGE].sample(30)[1]
    for _ in range(3):
        query = vector_store.unit(vectors[rng.integers(30)][None] + 0.15 * rng.standard_normal((1, 64)))[0]
        every = grouped.search(query, k=40, ranking=ranking, copies=True)
        assert len(every) == 40
        row_of = {hit.path: row for hit in every for row in _rows_like(hit, query, vectors)}
        leaders: dict[Path, list[Path]] = {}
        modality_of = {hit.path: hit.modality for hit in every}
        for hit in every:
            near = [
                path
                for path in leaders
                if hit.modality is modality_of[path] is Modality.IMAGE
                and vectors[row_of[hit.path]] @ vectors[row_of[path]] >= COPY_COSINE
            ]
            leaders[near[0]].append(hit.path) if near else leaders.update({hit.path: []})
        hits = grouped.search(query, k=k, ranking=ranking)
        lists = [[*leaders]]
        if ranking == "per-modality":
            lists = [[path for path in leaders if modality_of[path] is modality] for modality in Modality]
        expected = [(path, leaders[path]) for paths in lists for path in paths[:k]]
        assert [(hit.path, [*hit.copies]) for hit in hits] == expected
        assert [hit.rank for hit in hits] == [*range(1, len(hits) + 1)]


def _rows_like(hit: bs.Hit, query: np.ndarray, vectors: np.ndarray) -> list[int]:
    """Return the row of a picture among the vectors, by its cosine with the query."""
    if hit.modality is not Modality.IMAGE:
        return []
    return [int(np.abs(vectors @ query - hit.cosine).argmin())]


@pytest.mark.parametrize("copies", [False, True])
@pytest.mark.parametrize("place", [0, 5, 20])
def test_a_hit_of_just_the_least_match_is_in_the_list(place: int, copies: bool, grouped: bs.Store) -> None:
    every = grouped.search("anything", k=40, copies=copies)
    least = every[place].probability
    expected = [hit.path for hit in every if hit.probability >= least]
    assert [hit.path for hit in grouped.search("anything", k=40, copies=copies, min_match=least)] == expected
    assert [hit.path for hit in grouped.search("anything", k=3, copies=copies, min_match=least)] == expected[:3]
