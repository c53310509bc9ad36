"""Stores that earlier versions made: they open, are searched, verified, updated and compacted.

fixtures/store_2026_11.tar.xz: made by version 0.1.0 of 2026-11-28 (catalog schema 4, snapshot format 3) with the
encoder `null`: 302 texts, two pictures (one with a caption; another was deleted since), a sound, a file that failed,
indexes of the form ivfpq. Its media are not there any more.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

import bindsearch as bs
from bindsearch.types import Modality
from helpers.stores import connect

FIXTURES = Path(__file__).with_name("fixtures")
QUERY = "a dog runs on the beach"


@pytest.fixture(params=sorted(path.name for path in FIXTURES.glob("store_*.tar.xz")))
def old_store(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    with tarfile.open(FIXTURES / request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "store"


def test_it_is_searched_as_it_was(old_store: Path) -> None:
    with connect(old_store) as store:
        status = store.status()
        assert status.encoder == "null"
        assert status.items == {Modality.TEXT: 302, Modality.IMAGE: 2, Modality.AUDIO: 1}
        assert [failure.path.name for failure in status.failures] == ["bad.jpg"]
        for partition in status.partitions:
            assert partition.index_error is None
            assert (partition.form, partition.indexed_rows) == ("ivfpq", partition.rows)
            assert all(point.recall >= 0.9 for point in partition.points if point.fallback_source is None)
        assert store.index_settings.recall == 0.9
        hits = store.search(QUERY, k=5)
        assert (hits[0].path.name, round(hits[0].cosine, 3)) == ("note.txt", 1.0)
        (captioned,) = store.search("the first picture", filter="rating = 4", to="text", k=5)
        assert captioned.path.name == "0.png"
        assert len(store.search(QUERY, to="text", filter="name like 'n00%'", k=100)) == 10
        assert len(store.search(QUERY, to="text", filter="name like 'n00%' and rate_hz is null", k=100)) == 10
        assert bs.parse_query("like:1")
        assert store.explain(bs.make_query(QUERY, to="text")).partitions[0].strategy


def test_it_is_verified_updated_and_compacted(old_store: Path, tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    (media / "new.txt").write_text("three mice")
    with connect(old_store) as store:
        assert store.verify().findings == ()
        assert store.index(media).added == 1
        assert store.search("three mice", k=1)[0].path == media / "new.txt"
        assert store.forget(item_ids=[store.search(QUERY, k=1)[0].item_id]) == 1
        assert store.search(QUERY, k=1)[0].path.name != "note.txt"
        store.optimize(force=True)
        assert store.compact().remaining == ()
        assert store.verify().findings == ()
        exported = store.export(tmp_path / "export")
        assert exported.vectors[Modality.TEXT] == 303


def test_former_names_are_there() -> None:
    """Names of earlier versions that encoders of other packages and programs may use."""
    from bindsearch.items import Modality as FormerModality
    from bindsearch.media import DecodeHints, Wants
    from bindsearch.space import l2_normalize as former_l2_normalize
    from bindsearch.vectors import l2_normalize

    assert bs.IndexWishes is bs.IndexSettings
    assert Wants is DecodeHints
    assert FormerModality is Modality
    assert former_l2_normalize is l2_normalize
