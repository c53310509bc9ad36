"""Snapshots: what readers see after any history of commits is what a plain dict holds, and opening copies nothing."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from bindsearch.errors import StoreError
from bindsearch.media import SegmentOf
from bindsearch.storage import writer as writing
from bindsearch.storage.batch import StagedBatch, StagedItem
from bindsearch.storage.catalog import Catalog
from bindsearch.storage.file_state import FileState
from bindsearch.storage.snapshot import SegmentFacts, Snapshot, open_snapshot, read_manifest
from bindsearch.storage.snapshot_format import SNAPSHOTS, write_part
from bindsearch.storage.vector_files import VECTORS, open_vectors
from bindsearch.storage.writer import Writer
from bindsearch.types import Modality
from bindsearch.vectors import l2_normalize

DIM = 8
ROOT = Path("/media/all of it")


@dataclass
class Known:
    """What the plain model holds of an item."""

    item_id: int
    modality: Modality
    mtime_ns: int
    columns: str | None
    segments: list[tuple[Modality, float | None, float | None, str | None, bytes]]


def random_item(rng: np.random.Generator, path: str, item_id: int | None) -> StagedItem:
    modalities = rng.choice(np.array(list(Modality), object), rng.integers(1, 4))
    segments = []
    for modality in modalities.tolist():
        start, text = (float(rng.integers(9)), None) if rng.random() < 0.5 else (None, f"words {rng.integers(1000)}")
        end = None if start is None else start + 1
        segments.append(SegmentOf(modality, l2_normalize(rng.standard_normal(DIM, np.float32)), start, end, text))
    columns = json.dumps({"rating": int(rng.integers(5))}) if rng.random() < 0.3 else None
    state = FileState(int(rng.integers(1, 99)), int(rng.integers(1, 10**9)), 0)
    return StagedItem(
        item_id, 1, path, modalities[0], state, f"hash of {path}", str(rng.random()), tuple(segments), columns
    )


def known(staged: StagedItem, item_id: int) -> Known:
    assert staged.segments is not None
    segments = [
        (segment.modality, segment.start_s, segment.end_s, segment.text, segment.payload.astype(np.float16).tobytes())
        for segment in staged.segments
    ]
    return Known(item_id, staged.modality, staged.state.mtime_ns, staged.columns, segments)


def owners_of_living(snapshot: Snapshot) -> NDArray[np.int64]:
    """item_id of each segment row, -1 for dead ones."""
    owners = np.concatenate([part.segment_items for part in snapshot.parts])
    return owners if snapshot.segment_alive is None else np.where(snapshot.segment_alive, owners, -1)


def newest(store: Path) -> Snapshot:
    manifest = read_manifest(store)
    assert manifest is not None
    return open_snapshot(store, manifest)


def stored_vectors(store: Path, snapshot: Snapshot) -> dict[int, bytes]:
    stored: dict[int, bytes] = {}
    for modality, files in snapshot.manifest.vectors.items():
        for file in files:
            opened = open_vectors(store / VECTORS / modality / file.name, DIM)
            assert len(opened.vector_ids) == file.rows
            stored.update(zip(opened.vector_ids.tolist(), map(bytes, opened.embeddings), strict=True))
    return stored


def assert_holds(store: Path, model: dict[str, Known]) -> Snapshot:
    """Check that the newest snapshot and the model agree in every respect."""
    snapshot = newest(store)
    vectors = stored_vectors(store, snapshot)
    found: dict[str, list[object]] = {path: [] for path in model}
    owner_rows = snapshot.item_of_segment_rows
    for modality in Modality:
        ids, rows = snapshot.partition_segments(modality)
        assert (np.diff(ids) > 0).all()
        assert snapshot.segments.column("vector_id").take(rows).to_pylist() == ids.tolist()
        facts = snapshot.facts(rows)
        assert snapshot.segment_items[rows].tolist() == [fact.item_id for fact in facts]
        assert snapshot.items.column("item_id").take(owner_rows[rows]).to_pylist() == [fact.item_id for fact in facts]
        for fact, vector_id in zip(facts, ids.tolist(), strict=True):
            path = str(fact.path.relative_to(ROOT))
            assert (fact.collection, fact.modality, fact.item_id) == (ROOT, modality, model[path].item_id)
            found[path].append((fact.modality, fact.start_s, fact.end_s, fact.text, vectors[vector_id]))
    assert {path: sorted(map(repr, segments)) for path, segments in found.items()} == {
        path: sorted(map(repr, item.segments)) for path, item in model.items()
    }
    assert_look_ups_agree(snapshot, model)
    return snapshot


def assert_look_ups_agree(snapshot: Snapshot, model: dict[str, Known]) -> None:
    items, segments = snapshot.live_tables()
    columns = [items.column(name).to_pylist() for name in ("rel_path", "mtime_ns", "columns")]
    assert sorted(zip(*columns, strict=True)) == sorted((path, i.mtime_ns, i.columns) for path, i in model.items())
    assert segments.num_rows == sum(len(item.segments) for item in model.values())
    assert snapshot.counts("items") == Counter(item.modality for item in model.values())
    assert snapshot.counts("segments") == Counter(s[0] for item in model.values() for s in item.segments)
    ids = np.array([item.item_id for item in model.values()], np.int64)
    rows = snapshot.item_rows(ids)
    assert snapshot.items.column("item_id").take(rows).to_pylist() == ids.tolist()
    assert snapshot.item_alive is None or snapshot.item_alive[rows].all()
    gone = np.setdiff1d(np.arange(ids.max(initial=0) + 3), ids)
    assert (snapshot.item_rows(gone) == -1).all()
    assert all(snapshot.item(item_id) is None for item_id in gone[:3].tolist())
    for path, item in list(model.items())[:5]:
        of_item = snapshot.segments_of(item.item_id)
        assert of_item.tolist() == np.flatnonzero(owners_of_living(snapshot) == item.item_id).tolist()
        assert len(of_item) == len(item.segments)
        at_path = snapshot.item_at_path(ROOT / path)
        assert at_path is not None
        assert at_path == snapshot.item(item.item_id)
        assert at_path.item_id == item.item_id
        assert snapshot.items_with_content(["nothing", f"hash of {path}"]).tolist() == [item.item_id]
    assert len(snapshot.segments_of(10**6)) == 0


def random_batch(
    rng: np.random.Generator, model: dict[str, Known], next_id: int
) -> tuple[StagedBatch, dict[str, Known]]:
    """Return a batch, and the model after it."""
    batch, after = StagedBatch(), dict(model)
    for path in rng.permutation(sorted(model))[: rng.integers(0, 4)].tolist():
        old = model[path]
        match rng.integers(3):
            case 0:
                batch.removed.append(old.item_id)
                del after[path]
            case 1:
                batch.items.append(random_item(rng, path, old.item_id))
                after[path] = known(batch.items[-1], old.item_id)
            case _:
                state = FileState(5, int(rng.integers(1, 10**9)), 0)
                batch.touched[old.item_id] = state
                after[path] = Known(old.item_id, old.modality, state.mtime_ns, old.columns, old.segments)
    for n in range(rng.integers(0, 5)):
        path = f"folder/new {next_id + n}.bin"
        batch.items.append(random_item(rng, path, None))
        after[path] = known(batch.items[-1], next_id + n)
    return batch, after


@pytest.mark.parametrize("seed", [0, 1])
def test_any_history_of_commits_gives_what_a_plain_dict_holds(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "MAX_PARTS": 1 + 2 * seed, "MAX_SMALL_FILES": 2, "SMALL_FILE_VECTORS": 8, "MERGED_FILE_VECTORS": 12
    }.items():  # fmt: skip
        monkeypatch.setattr(writing, name, value)
    rng = np.random.default_rng(seed)
    model: dict[str, Known] = {}
    next_id = 1
    for _ in range(3):
        with Catalog(tmp_path / "catalog.duckdb") as catalog:
            if not catalog.collections():
                catalog.add_collection(ROOT)
            writer = Writer(tmp_path, catalog, DIM)
            for _ in range(6):
                batch, after = random_batch(rng, model, next_id)
                next_id += sum(item.item_id is None for item in batch.items)
                writer.commit(batch)
                model = after
                snapshot = assert_holds(tmp_path, model)
                assert len(snapshot.parts) <= max(1, writing.MAX_PARTS)
        parts = snapshot.parts
        assert_holds(tmp_path, model)
    assert len(parts) > 0
    with Catalog(tmp_path / "catalog.duckdb") as catalog:
        Writer(tmp_path, catalog, DIM).compact()
    compacted = assert_holds(tmp_path, model)
    assert compacted.segment_alive is None
    assert compacted.item_alive is None


def big_tables(n: int) -> tuple[pa.Table, pa.Table]:
    ids = np.arange(n)
    names = [f"folder/file {i}" for i in range(n)]
    items = pa.table(
        {"item_id": ids, "collection_id": np.ones(n, np.int64), "rel_path": names, "modality": ["text"] * n,
         "size_bytes": ids, "mtime_ns": ids, "content_hash": names, "columns": pa.nulls(n, pa.string())}
    )  # fmt: skip
    segments = pa.table(
        {"segment_id": ids, "item_id": ids, "modality": ["text"] * n, "vector_id": ids,
         "start_s": pa.nulls(n, pa.float64()), "end_s": pa.nulls(n, pa.float64()), "text": names}
    )  # fmt: skip
    return items, segments


def write_snapshot(store: Path, parts: tuple[int, ...]) -> None:
    current = {"format": 2, "generation": max(parts), "parts": parts, "collections": {"1": str(ROOT)}, "vectors": {},
               "failures": None, "indexes": {}}  # fmt: skip
    (store / "CURRENT").write_text(json.dumps(current))


def test_opening_and_reading_copies_nothing(tmp_path: Path) -> None:
    write_part(tmp_path, 1, *big_tables(100_000), (), None)
    write_snapshot(tmp_path, (1,))
    before = pa.total_allocated_bytes()
    snapshot = newest(tmp_path)
    ids, rows = snapshot.partition_segments(Modality.TEXT)
    facts = snapshot.facts(np.array([0, 99_999]))
    assert pa.total_allocated_bytes() - before < 100_000
    assert facts[1] == SegmentFacts(
        99_999, str(ROOT / "folder/file 99999"), ROOT, Modality.TEXT, None, None, "folder/file 99999"
    )
    assert len(ids) == len(rows) == 100_000
    for view in (ids, snapshot.parts[0].item_ids, snapshot.item_of_segment_rows):
        assert not view.flags.owndata
        assert not view.flags.writeable
    assert snapshot.segment_alive is None
    assert snapshot.item_alive is None


def test_removals_mask_rows_and_copy_no_columns(tmp_path: Path) -> None:
    write_part(tmp_path, 1, *big_tables(1000), (), None)
    items, segments = (table.slice(0, 0) for table in big_tables(1))
    write_part(tmp_path, 2, items, segments, range(10, 1000), None)
    write_snapshot(tmp_path, (1, 2))
    snapshot = newest(tmp_path)
    assert snapshot.segments.num_rows == 1000
    assert snapshot.segment_alive is not None
    assert np.flatnonzero(snapshot.segment_alive).tolist() == list(range(10))
    assert snapshot.partition_segments(Modality.TEXT).segment_rows.tolist() == list(range(10))
    assert snapshot.partition_segments(Modality.IMAGE).segment_rows.tolist() == []
    assert snapshot.item(9) is not None
    assert snapshot.item(10) is None
    assert snapshot.segments_of(10).tolist() == []
    assert snapshot.counts("items") == {Modality.TEXT: 10}


def test_an_empty_store_has_an_empty_snapshot(tmp_path: Path) -> None:
    with Catalog(tmp_path / "catalog.duckdb") as catalog:
        Writer(tmp_path, catalog, DIM)
    snapshot = assert_holds(tmp_path, {})
    assert snapshot.facts(np.zeros(0, np.int64)) == []
    assert len(snapshot.segment_items[np.zeros(0, np.int64)]) == 0


def test_threads_may_read_one_snapshot_at_once(tmp_path: Path) -> None:
    write_part(tmp_path, 1, *big_tables(2000), (), None)
    items, segments = (table.slice(0, 0) for table in big_tables(1))
    write_part(tmp_path, 2, items, segments, range(1000), None)
    write_snapshot(tmp_path, (1, 2))
    snapshot = newest(tmp_path)
    found: list[list[int]] = []

    def read() -> None:
        facts = snapshot.facts(snapshot.partition_segments(Modality.TEXT).segment_rows)
        found.append([fact.item_id for fact in facts])

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [list(range(1000, 2000))] * 8


def make_format_1(store: Path, manifest_parts: tuple[int, ...]) -> None:
    """Turn the snapshot's files into what BindSearch wrote before they had an order."""
    for part in manifest_parts:
        (store / SNAPSHOTS / str(part) / "digests.json").unlink()
        for name, dropped in (("items", ["columns"]), ("segments", ["item_row", "by_item"])):
            path = store / SNAPSHOTS / str(part) / f"{name}.arrow"
            table = pa.ipc.open_file(path.read_bytes()).read_all().drop_columns(dropped).replace_schema_metadata(None)
            strings = [pa.field(f.name, pa.string() if f.type == pa.large_string() else f.type) for f in table.schema]
            shuffled = table.take(np.random.default_rng(0).permutation(table.num_rows)).cast(pa.schema(strings))
            path.unlink()  # it is mapped
            with pa.ipc.new_file(str(path), shuffled.schema) as writer:
                writer.write_table(shuffled)
    current = json.loads((store / "CURRENT").read_text())
    for key in ("indexes", "part_digests", "digest"):
        del current[key]
    current["vectors"] = {modality: [file[:2] for file in files] for modality, files in current["vectors"].items()}
    (store / "CURRENT").write_text(json.dumps({**current, "format": 1}))


def test_a_snapshot_of_format_1_is_read_and_then_written_anew(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    model: dict[str, Known] = {}
    with Catalog(tmp_path / "catalog.duckdb") as catalog:
        catalog.add_collection(ROOT)
        writer = Writer(tmp_path, catalog, DIM)
        for _ in range(5):
            batch, model = random_batch(rng, model, 1 + 5 * len(model))
            batch.touched.clear()
            batch.items = [item for item in batch.items if item.item_id is None]
            batch.removed.clear()
            writer.commit(batch)
    snapshot = newest(tmp_path)
    items = [snapshot.item(int(i)) for i in snapshot.items.column("item_id").to_pylist()]
    make_format_1(tmp_path, snapshot.manifest.parts)
    old = newest(tmp_path)
    assert old.manifest.format == 1
    assert len(items) > 3
    assert sorted(map(repr, items)) == sorted(repr(old.item(item.item_id)) for item in items if item is not None)
    for modality in Modality:
        ids, rows = snapshot.partition_segments(modality)
        old_ids, old_rows = old.partition_segments(modality)
        assert ids.tolist() == old_ids.tolist()
        assert snapshot.facts(rows) == old.facts(old_rows)
    with Catalog(tmp_path / "catalog.duckdb") as catalog:
        Writer(tmp_path, catalog, DIM)
    renewed = newest(tmp_path)
    assert renewed.manifest.format == 5
    assert len(renewed.parts) == 1
    assert renewed.counts("segments") == snapshot.counts("segments")


def test_a_snapshot_that_is_older_than_a_column_is_read(tmp_path: Path) -> None:
    for part in (1, 2):
        write_part(tmp_path, part, *big_tables(20), (), None)
    write_snapshot(tmp_path, (1, 2))
    snapshot = newest(tmp_path)
    for part in snapshot.manifest.parts:
        path = tmp_path / SNAPSHOTS / str(part) / "items.arrow"
        path.with_name("digests.json").unlink()
        table = pa.ipc.open_file(path.read_bytes()).read_all().drop_columns(["artist"])
        path.unlink()  # it is mapped
        with pa.ipc.new_file(str(path), table.schema) as file:
            file.write_table(table)
    old = newest(tmp_path)
    assert old.items.column("artist").null_count == old.items.num_rows == snapshot.items.num_rows
    assert old.segments.equals(snapshot.segments)
    for modality in Modality:
        ids, rows = snapshot.partition_segments(modality)
        assert old.partition_segments(modality).vector_ids.tolist() == ids.tolist()
        assert old.facts(rows) == snapshot.facts(rows)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("indexes", {"image": ["a"]}),
        ("indexes", {"image": ["../elsewhere", "digest"]}),
        ("indexes", {"image": ["a", 3]}),
        ("indexes", {"smell": ["a", "digest"]}),
        ("indexes", ["image"]),
        ("parts", ["x"]),
        ("failures", "x"),
        ("generation", None),
        ("vectors", {"image": [["a.arrow"]]}),
    ],
)
def test_nonsense_in_current_is_an_error_that_says_what_to_do(tmp_path: Path, key: str, value: object) -> None:
    write_snapshot(tmp_path, (1,))
    current = json.loads((tmp_path / "CURRENT").read_text())
    (tmp_path / "CURRENT").write_text(json.dumps({**current, key: value}))
    with pytest.raises(StoreError, match=r"CURRENT is damaged \(.*\): run `bindsearch compact`"):
        read_manifest(tmp_path)


def test_a_snapshot_of_a_later_format_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "CURRENT").write_text('{"format": 99}')
    with pytest.raises(StoreError, match="has format 99, this BindSearch reads up to 5"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("name", ["items", "segments", "removed"])
@pytest.mark.parametrize("keep", [0, 40, 300])
def test_a_truncated_part_is_an_error(tmp_path: Path, name: str, keep: int) -> None:
    write_part(tmp_path, 1, *big_tables(100), (), None)
    write_snapshot(tmp_path, (1,))
    path = tmp_path / SNAPSHOTS / "1" / f"{name}.arrow"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(StoreError, match=f"{name}.arrow is damaged"):
        newest(tmp_path)
