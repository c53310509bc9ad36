"""A damaged index never gives a wrong answer: it is told, scanned around, and made anew."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import bindsearch as bs
from bindsearch.indexes.types import IndexForm
from bindsearch.media import Passage
from bindsearch.types import Modality
from helpers import vector_store
from helpers.stores import connect

PLACES = 40
FILES = ("index.faiss", "vector_ids.npy", "statistics.npz", "manifest.json")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("damage") / "store"
    vectors = vector_store.gap_vectors(np.random.default_rng(3), {"image": 700, "text": 200})
    vector_store.write_items(path, vectors)
    connect(path).optimize(index_settings=bs.IndexSettings(IndexForm.IVF_PQ, overrides={"lists": 4}))
    return path


def index_folder(store: Path) -> Path:
    (folder,) = (store / "indexes" / "image").iterdir()
    return folder


def answer(store: Path) -> bs.Answer:
    with connect(store) as opened:
        return opened.answer(bs.make_query("text number 7", to="image", ranking="cosine"))


def places(size: int) -> Iterator[int]:
    rng = np.random.default_rng(9)
    yield from (0, size - 1)
    yield from rng.integers(0, size, PLACES - 2).tolist()


@pytest.mark.parametrize("name", FILES)
def test_truncated_anywhere_or_with_one_byte_flipped_it_is_told_and_answers_are_exact(made: Path, name: str) -> None:
    path = index_folder(made) / name
    whole = path.read_bytes()
    healthy = answer(made)
    assert healthy.notices == ()
    with connect(made) as store:
        generation = store._reader.current()
        exact = generation.partitions[Modality.IMAGE].rows
        query = store.encoder.encode(Modality.TEXT, [store.encoder.prepare(Passage("text number 7"))])
        truth = exact.scan(query, 10).cosines[0]
    try:
        for place in places(len(whole)):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << (place % 8)
            for damaged in (whole[:place], bytes(flipped)):
                path.write_bytes(damaged)
                found = answer(made)
                assert len(found.notices) == 1, (place, len(damaged))
                assert name in found.notices[0] or "manifest" in found.notices[0]
                assert [hit.cosine for hit in found.hits] == pytest.approx(truth.tolist(), abs=1e-6)
    finally:
        path.write_bytes(whole)
    assert answer(made).notices == ()


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_damaged_file_is_shown_by_status_and_made_anew(made: Path, name: str, tmp_path: Path) -> None:
    import shutil

    path = tmp_path / "store"
    shutil.copytree(made, path)
    (index_folder(path) / name).unlink()
    with connect(path) as store:
        (trouble,) = [part.index_error for part in store.status().partitions if part.index_error]
        assert name in trouble
        done = store.optimize()
        assert [one.modality for one in done] == [Modality.IMAGE]
        assert "damaged" in done[0].need.reason
        assert all(part.index_error is None for part in store.status().partitions)
    assert answer(path).notices == ()
