"""Forgetting takes items out of the store and leaves their files, and all that others see, as they are."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bindsearch.encoders import load_encoder
from bindsearch.errors import StoreNotFoundError, UsageError
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.operations.compact import locked_catalog
from bindsearch.operations.forget import forget, forget_paths
from bindsearch.operations.verify.check import verify
from bindsearch.search.generation import Reader
from bindsearch.storage.batch import StagedBatch
from bindsearch.storage.catalog import Catalog, SourceContainer
from bindsearch.storage.file_state import FileState, positions_at_or_below
from bindsearch.storage.session import open_writer
from bindsearch.storage.writer import Writer
from helpers.stores import connect


@pytest.fixture
def media(tmp_path: Path) -> Path:
    for name in ("a/1.txt", "a/2.txt", "a/b/3.txt", "ab/4.txt", "5.txt", "zip/x/6.txt", "zip/7.txt"):
        path = tmp_path / "media" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text of {name}")
    (tmp_path / "media" / "a" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    (tmp_path / "media" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    return tmp_path / "media"


@pytest.fixture
def store(media: Path, tmp_path: Path) -> Path:
    """Return a store of the folder, in which `zip` is known as an archive."""
    path = tmp_path / "store"
    with connect(path, encoder="null") as opened:
        opened.index(media)
    with open_writer(path, load_encoder("null"), DecodeOptions()) as (_, catalog, writer):
        (key,) = catalog.collections()
        writer.commit(StagedBatch(containers=[SourceContainer(key, "zip", FileState(1, 2, 3))]))
    return path


def held(store: Path) -> list[str]:
    items, _ = Reader(store).current().snapshot.live_tables()
    return sorted(items.column("rel_path").to_pylist())


def failed(store: Path) -> list[str]:
    table = Reader(store).current().snapshot.failures
    return [] if table is None else sorted(table.column("rel_path").to_pylist())


def containers(store: Path) -> list[str]:
    with locked_catalog(store) as (_, catalog):
        return sorted(path for key in catalog.collections() for path in catalog.containers(key))


def test_a_folder_goes_with_what_failed_in_it_and_its_neighbours_stay(store: Path, media: Path) -> None:
    assert failed(store) == ["a/broken.png", "broken.png"]
    assert forget(store, [media / "a"]) == 3
    assert held(store) == ["5.txt", "ab/4.txt", "zip/7.txt", "zip/x/6.txt"]
    assert failed(store) == ["broken.png"]
    assert containers(store) == ["zip"]
    assert (media / "a" / "1.txt").is_file()
    assert verify(store).findings == ()
    with connect(store, encoder="null") as opened:
        assert all("media/a/" not in str(hit.path) for hit in opened.search("text of a/1.txt", k=10))
        assert opened.index(media).added == 3


def test_files_items_and_several_paths_that_overlap(store: Path, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(media)
    assert forget(store, ["5.txt"]) == 1
    assert forget(store, ["a/b", media / "a", "a/1.txt"]) == 3
    item = Reader(store).current().snapshot.item_at_path(media / "ab" / "4.txt")
    assert item is not None
    assert forget(store, [], [item.item_id]) == 1
    assert held(store) == ["zip/7.txt", "zip/x/6.txt"]


def test_a_member_goes_and_its_archive_is_to_be_looked_at_again(store: Path, media: Path) -> None:
    assert forget(store, [media / "zip" / "x" / "6.txt"]) == 1
    assert held(store).count("zip/7.txt") == 1
    assert containers(store) == []


def test_an_archive_goes_with_its_members(store: Path, media: Path) -> None:
    assert forget(store, [media / "zip"]) == 2
    assert containers(store) == []
    assert not [path for path in held(store) if path.startswith("zip")]


def test_an_item_by_id_leaves_its_archive_to_be_looked_at_again(store: Path, media: Path) -> None:
    item = Reader(store).current().snapshot.item_at_path(media / "zip" / "7.txt")
    assert item is not None
    forget(store, [], [item.item_id])
    assert containers(store) == []


def test_a_collection_goes_with_its_root_and_readers_of_before_go_on(store: Path, media: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "own.txt").write_text("of its own")
    with connect(store, encoder="null") as opened:
        opened.index(other)
    before = Reader(store).current()
    rows = before.snapshot.segments_of(1)
    assert forget(store, [media]) == 7
    assert [Path(root) for root in Reader(store).current().manifest.collections.values()] == [other]
    with locked_catalog(store) as (_, catalog):
        assert list(catalog.collections().values()) == [other]
    assert before.snapshot.facts(rows)[0].collection == media
    assert verify(store, check_media=True).findings == ()
    with connect(store, encoder="null") as opened:
        assert [hit.path for hit in opened.search("text of 5.txt", k=10)] == [other / "own.txt"]
        assert [hit.path for hit in opened.search("text", k=10, filter="path like '%other%'")] == [other / "own.txt"]
        assert opened.status().collections == (other,)
        assert opened.index(media).added == 7


def test_a_folder_above_takes_all_collections_below_it(store: Path, tmp_path: Path) -> None:
    assert forget(store, [tmp_path]) == 7
    assert held(store) == []
    assert Reader(store).current().manifest.collections == {}


def test_a_root_that_is_no_longer_there_can_be_forgotten(store: Path, media: Path, tmp_path: Path) -> None:
    media.rename(tmp_path / "elsewhere")
    assert forget(store, [media]) == 7


def test_what_is_not_there_is_told_and_nothing_changes(store: Path, media: Path, tmp_path: Path) -> None:
    before = held(store)
    for paths, ids, message in (
        ([media / "a", media / "none.txt"], [], "none.txt is not in the store: nothing at or below it was indexed"),
        ([media / "a"], [99], "no item has the id 99"),
        ([], [], "nothing to forget: give a path or an item id"),
    ):
        with pytest.raises(UsageError, match=message):
            forget(store, paths, ids)
    assert held(store) == before
    with pytest.raises(StoreNotFoundError, match="no store at"):
        forget(tmp_path / "nowhere", [media])
    assert not (tmp_path / "nowhere").exists()


def test_within_a_writer_that_is_open(store: Path, media: Path) -> None:
    with open_writer(store, load_encoder("null"), DecodeOptions()) as (_, catalog, writer):
        assert isinstance(catalog, Catalog)
        assert forget_paths(catalog, writer, [media / "ab"]) == 1


def test_the_command_says_how_many(
    store: Path, media: Path, bindsearch_command: Callable[[list[str | Path]], subprocess.CompletedProcess[str]]
) -> None:
    done = bindsearch_command(["forget", media / "a", "--store", store, "--json"])
    assert json.loads(done.stdout)["forgotten"] == 3
    wrong = bindsearch_command(["forget", media / "a", "--store", store])
    assert wrong.returncode == 2
    assert "is not in the store" in wrong.stderr


def test_many_paths_read_the_catalog_once(store: Path, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    for name in ("collections", "known_files", "containers", "failures_table"):
        read = getattr(Catalog, name)

        def counted(*args: object, name: str = name, read: Callable[..., object] = read) -> object:
            reads.append(name)
            return read(*args)

        monkeypatch.setattr(Catalog, name, counted)
    with locked_catalog(store) as (config, catalog):
        writer = Writer(store, catalog, config.dim)
        with pytest.raises(UsageError, match=r"a/9999 is not in the store"):
            forget_paths(catalog, writer, [media / "a", media / "a" / "9999"])
        paths = [media / "a" / "1.txt", media / "zip" / "x", media / "a" / "broken.png", *[media / "a" / "b"] * 200]
        reads.clear()
        assert forget_paths(catalog, writer, paths) == 3
        assert max(reads.count(name) for name in set(reads)) <= 2  # also read by the writer
    assert held(store) == ["5.txt", "a/2.txt", "ab/4.txt", "zip/7.txt"]
    assert failed(store) == ["broken.png"]
    assert containers(store) == []


@settings(deadline=None, max_examples=100)
@given(st.lists(st.text("a/0.-z", max_size=4)), st.text("a/0.-z", max_size=3))
def test_paths_below_a_folder_are_those_of_a_plain_comparison(paths: list[str], parent: str) -> None:
    expected = [path for path in sorted(paths) if not parent or path == parent or path.startswith(f"{parent}/")]
    known = sorted(set(paths))
    assert [known[row] for row in positions_at_or_below(parent, len(known), known.__getitem__)] == [
        *dict.fromkeys(expected)
    ]
