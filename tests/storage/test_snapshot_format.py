"""The files of snapshots: CURRENT at its bounds, parts that contradict themselves, and which folders are removed."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bindsearch.errors import SnapshotDamagedError, StoreError
from bindsearch.storage import snapshot_checks
from bindsearch.storage.class_columns import ClassColumn, ClassValues, values_table, with_columns
from bindsearch.storage.snapshot import open_snapshot
from bindsearch.storage.snapshot_format import (
    CURRENT,
    END_OF_NUMBERS,
    ITEM_COLUMNS,
    SEGMENT_COLUMNS,
    SNAPSHOTS,
    Manifest,
    Part,
    newest_part,
    part_of_tables,
    read_manifest,
    remove_unused_parts,
    write_manifest,
    write_part,
)
from bindsearch.storage.vector_files import VectorFileEntry
from bindsearch.types import Modality

MANIFEST = Manifest(
    generation=7,
    parts=(3, 7),
    collections={1: "/media"},
    vectors={Modality.IMAGE: (VectorFileEntry("1-3.arrow", 2, "ab"),)},
    failures=5,
    indexes={Modality.TEXT: ("12", "cd")},
    part_digests={3: "x", 7: "y"},
    class_columns=6,
)


def test_current_comes_back(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None
    write_manifest(tmp_path, MANIFEST)
    assert read_manifest(tmp_path) == MANIFEST
    assert MANIFEST.folders == {3, 5, 6, 7}
    least = Manifest(0, (END_OF_NUMBERS - 1,), {}, {}, None)
    write_manifest(tmp_path, least)
    assert read_manifest(tmp_path) == least
    assert b"class_columns" not in (tmp_path / CURRENT).read_bytes()  # as versions before the columns expect


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts": []}, "it names no parts"),
        ({"parts": [-1]}, "-1 is not a generation"),
        ({"parts": [END_OF_NUMBERS]}, "is not a generation"),
        ({"generation": True}, "True is not a generation"),
        ({"class_columns": "1"}, "'1' is not a generation"),
        ({"vectors": {"image": [["1-3.arrow", 0, ""]]}}, "invalid vector file"),
        ({"vectors": {"image": [["../1-3.arrow", 1, ""]]}}, "invalid vector file"),
        ({"vectors": {"image": [["1-3.arrow", 1, 2]]}}, "invalid vector file"),
        ({"indexes": {"image": ["", "digest"]}}, "invalid index entry"),
        ({"indexes": {"image": ["a/b", "digest"]}}, "invalid index entry"),
    ],
)
def test_values_that_cannot_be_are_damage(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    data = json.loads((tmp_path / CURRENT).read_text()) | changes | {"format": 3}
    del data["digest"]  # format 3 has none
    (tmp_path / CURRENT).write_text(json.dumps(data))
    with pytest.raises(SnapshotDamagedError, match=rf"CURRENT is damaged \(.*{message}"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("version", [3, 4, 5])
def test_formats_with_digests_need_theirs(version: int, tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    data = json.loads((tmp_path / CURRENT).read_text()) | {"format": version}
    del data["digest"]
    (tmp_path / CURRENT).write_text(json.dumps(data))
    if version == 3:
        manifest = read_manifest(tmp_path)
        assert manifest is not None
        assert (manifest.format, manifest.parts) == (3, (3, 7))
    else:
        with pytest.raises(SnapshotDamagedError, match="does not match its digest"):
            read_manifest(tmp_path)


def tables(n: int = 4) -> tuple[pa.Table, pa.Table]:
    """Return n items and two segments of each, a sound and a text."""
    ids = pa.array(range(10, 10 + n), pa.int64())
    columns: dict[str, Any] = {"item_id": ids, "collection_id": pa.array([1] * n, pa.int64())}
    columns |= {name: pa.array([f"{i}" for i in range(n)]) for name in ("rel_path", "content_hash", "fingerprint")}
    columns |= {name: pa.array(range(n), pa.int64()) for name in ("size_bytes", "mtime_ns")}
    items = pa.table(columns | {"modality": ["audio"] * n})
    for name, kind in ITEM_COLUMNS.items():
        if name not in items.column_names:
            items = items.append_column(name, pa.nulls(n, pa.type_for_alias(kind)))
    segments = pa.table(
        {
            "segment_id": range(2 * n),
            "item_id": [10 + i // 2 for i in range(2 * n)],
            "modality": ["audio", "text"] * n,
            "vector_id": range(100, 100 + 2 * n),
            "start_s": [0.5, None] * n,
            "end_s": [1.5, None] * n,
            "text": [None, "words"] * n,
        },
        pa.schema([(name, pa.type_for_alias(kind)) for name, kind in SEGMENT_COLUMNS.items()]),
    )
    return items, segments


def store_of(part: Part, place: Path) -> Manifest:
    """Write a part as it is, without digests, and return the manifest of a store of it alone."""
    folder = place / SNAPSHOTS / "1"
    folder.mkdir(parents=True)
    removed = pa.record_batch({"item_id": part.removed})
    for name, rows in (("items", part.items), ("segments", part.segments), ("removed", removed)):
        with pa.ipc.new_file(str(folder / f"{name}.arrow"), rows.schema) as writer:
            writer.write_batch(rows)
    return Manifest(1, (1,), {1: "/media"}, {}, None)


def set_value(rows: pa.RecordBatch, name: str, row: int, value: object) -> pa.RecordBatch:
    number = rows.schema.get_field_index(name)
    values = rows.column(number).to_pylist()
    values[row] = value
    arrays = [*rows.columns]
    arrays[number] = pa.array(values, rows.schema.field(number).type)
    return pa.RecordBatch.from_arrays(arrays, schema=rows.schema)


def with_type(rows: pa.RecordBatch, name: str, kind: pa.DataType) -> pa.RecordBatch:
    return rows.set_column(rows.schema.get_field_index(name), name, rows.column(name).cast(kind))


@pytest.mark.parametrize("n", [0, 1, 4])
def test_a_part_in_its_order_is_sound(n: int, tmp_path: Path) -> None:
    part = part_of_tables(*tables(n))
    snapshot = open_snapshot(tmp_path, store_of(part, tmp_path))
    assert snapshot.items.num_rows == n
    assert part.ranges == ({Modality.TEXT: (0, n), Modality.AUDIO: (n, 2 * n)} if n else {})
    facts = snapshot.facts(np.arange(2 * n))
    assert [(one.item_id, one.modality, one.start_s, one.text) for one in facts] == [
        *((10 + i, Modality.TEXT, None, "words") for i in range(n)),
        *((10 + i, Modality.AUDIO, 0.5, None) for i in range(n)),
    ]


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("segments", lambda rows: set_value(rows, "item_row", 7, 4), "rows that it does not have"),
        ("segments", lambda rows: set_value(rows, "item_row", 0, -1), "rows that it does not have"),
        ("segments", lambda rows: set_value(rows, "by_item", 3, 8), "rows that it does not have"),
        ("segments", lambda rows: set_value(rows, "by_item", 3, -1), "rows that it does not have"),
        ("segments", lambda rows: set_value(rows, "vector_id", 0, None), "its column vector_id has no value in some"),
        ("segments", lambda rows: rows.drop_columns(["text"]), "it has no column text of type large_string"),
        ("items", lambda rows: set_value(rows, "collection_id", 3, None), "its column collection_id has no value"),
        ("items", lambda rows: with_type(rows, "mtime_ns", pa.int32()), "it has no column mtime_ns of type int64"),
        (
            "segments",
            lambda rows: rows.replace_schema_metadata({"modality_rows": '{"text": [0, 9]}'}),
            "rows that it does not have",
        ),
        (
            "segments",
            lambda rows: rows.replace_schema_metadata({"modality_rows": '{"text": [-1, 4]}'}),
            "rows that it does not have",
        ),
        (
            "segments",
            lambda rows: rows.replace_schema_metadata({"modality_rows": '{"text": [4, 3]}'}),
            "rows that it does not have",
        ),
    ],
)
def test_a_part_that_contradicts_itself_is_damage(
    table: str, change: Callable[[pa.RecordBatch], pa.RecordBatch], message: str, tmp_path: Path
) -> None:
    part = part_of_tables(*tables())
    changed = {"items": part.items, "segments": part.segments, table: change(getattr(part, table))}
    manifest = store_of(Part(**changed, removed=part.removed, ranges={}), tmp_path)
    with pytest.raises(SnapshotDamagedError, match="is damaged") as caught:
        open_snapshot(tmp_path, manifest)
    assert message in str(caught.value.__cause__)


@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_texts_outside_of_their_file_are_not_read(
    kind: pa.DataType, is_large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_large:
        monkeypatch.setattr(snapshot_checks, "SMALL_FILE_BYTES", 0)
    _, segments = tables()
    number = segments.schema.get_field_index("text")
    width = np.int32 if kind == pa.string() else np.int64
    offsets = pa.py_buffer(np.array([0, 2**30, 1, 1, 4, 5, 6, 7, 8], width).tobytes())
    text = pa.Array.from_buffers(kind, 8, [None, offsets, pa.py_buffer(b"x" * 8)])
    segments = segments.set_column(number, "text", text)  # a part of format 1, which is converted
    part = part_of_tables(*tables())
    manifest = store_of(Part(part.items, segments.to_batches()[0], part.removed, {}), tmp_path)
    with pytest.raises(SnapshotDamagedError, match="is damaged") as caught:
        open_snapshot(tmp_path, manifest)
    assert "the offsets of its texts are damaged" in str(caught.value.__cause__)


def test_the_rows_of_items_are_found_whatever_their_share_of_a_part() -> None:
    part = part_of_tables(*tables(60))  # binary searches for up to 6 items, a scan of all rows for more
    for n in (0, 1, 6, 7, 60):
        wanted = np.arange(10, 10 + n)
        expected = np.flatnonzero(np.isin(part.segment_items, wanted))
        assert np.sort(part.segments_of(wanted)).tolist() == expected.tolist()
    assert part.segments_of(np.array([9, 70])).tolist() == []
    assert part.item_rows(np.array([9, 10, 69, 70])).tolist() == [-1, 0, 59, -1]
    assert part_of_tables(*tables(0)).item_rows(np.array([9, 10])).tolist() == [-1, -1]


def test_the_newest_part_is_that_of_the_largest_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert newest_part(tmp_path) == 0
    folder = tmp_path / SNAPSHOTS
    folder.mkdir()
    assert newest_part(tmp_path) == 0
    for name in ("9", "12", "x13", "9" * 19, "9" * 20):
        (folder / name).mkdir()
    assert newest_part(tmp_path) == int("9" * 19)

    def refuse(_path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(StoreError, match="snapshots cannot be read \\(Input/output error\\): nothing was changed"):
        newest_part(tmp_path)


def test_only_unused_folders_of_parts_are_removed(tmp_path: Path) -> None:
    for number in (2, 3, 4, 5, 6, 7, 8):
        write_part(tmp_path, number, *tables(1), (), None)
    (tmp_path / SNAPSHOTS / "2" / "somebody's.txt").touch()
    (tmp_path / SNAPSHOTS / "4" / ".items.arrow.1.2.tmp").touch()
    (tmp_path / SNAPSHOTS / "1").touch()
    (tmp_path / SNAPSHOTS / "other").mkdir()
    remove_unused_parts(tmp_path, MANIFEST, 8)
    left = sorted(path.name for path in (tmp_path / SNAPSHOTS).iterdir())
    assert left == ["1", "2", "3", "5", "6", "7", "8", "other"]


@pytest.mark.parametrize("vector_id", [100, 99])
def test_columns_of_classes_that_contradict_themselves_are_damage(vector_id: int, tmp_path: Path) -> None:
    column = ClassColumn("kind", None, ("x",), (("x",),), (), None, (), "null", "", "")
    values = ClassValues(np.array([99, vector_id]), np.array([0, 0]), np.ones(2))
    columns = with_columns(values_table(1, values), {1: column})
    digest = write_part(tmp_path, 1, *tables(), (), None, columns)
    manifest = Manifest(1, (1,), {1: "/media"}, {}, None, part_digests={1: digest}, class_columns=1)
    if vector_id == 100:
        stored = open_snapshot(tmp_path, manifest).class_columns
        assert stored is not None
        assert stored.values_of(1).vector_ids.tolist() == [99, 100]
    else:
        with pytest.raises(SnapshotDamagedError, match="is damaged") as caught:
            open_snapshot(tmp_path, manifest)
        assert str(caught.value.__cause__) == "its vectors are not ascending"


@pytest.mark.parametrize("name", ["items.arrow", "removed.arrow", "digests.json"])
def test_a_file_that_differs_from_its_digest_is_damage(name: str, tmp_path: Path) -> None:
    digest = write_part(tmp_path, 1, *tables(), (3,), None)
    manifest = Manifest(1, (1,), {1: "/media"}, {}, None, part_digests={1: digest})
    assert open_snapshot(tmp_path, manifest).parts[0].removed.tolist() == [3]
    path = tmp_path / SNAPSHOTS / "1" / name
    content = path.read_bytes()
    path.unlink()  # it is mapped
    path.write_bytes(content + b" ")
    with pytest.raises(SnapshotDamagedError, match="is damaged") as caught:
        open_snapshot(tmp_path, manifest)
    assert str(caught.value.__cause__) == "it does not match its digest"
    path.unlink()
    with pytest.raises(SnapshotDamagedError, match="is missing"):
        open_snapshot(tmp_path, manifest)


@pytest.mark.parametrize(("root", "file"), [("/", "/0"), ("/media", "/media/0"), ("/media/", "/media/0")])
def test_a_file_is_below_the_root_of_its_collection(root: str, file: str, tmp_path: Path) -> None:
    manifest = store_of(part_of_tables(*tables(2)), tmp_path)
    snapshot = open_snapshot(tmp_path, replace(manifest, collections={1: root}))
    (found,) = snapshot.facts(np.array([0]))
    assert (found.file, found.collection) == (file, Path(root))
    item = snapshot.item_at_path(Path(file))
    assert item is not None
    assert item.item_id == 10
    assert snapshot.item_at_path(Path("/other/0")) is None
    assert snapshot.items_with_content(["1", "nothing", "0", "1"]).tolist() == [10, 11]
    assert snapshot.items_with_content([]).tolist() == []


def test_rows_of_a_segment_that_is_not_there_contradict_the_snapshot(tmp_path: Path) -> None:
    snapshot = open_snapshot(tmp_path, store_of(part_of_tables(*tables(2)), tmp_path))
    with pytest.raises(SnapshotDamagedError, match="the snapshot contradicts itself"):
        snapshot.facts(np.array([4]))
