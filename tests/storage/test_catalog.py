"""The catalog: ids, generations, transactions that fail, and what the planner of a run looks up."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from bindsearch.errors import StoreError
from bindsearch.storage import catalog as catalog_module
from bindsearch.storage.catalog import MAX_PATH_FILTERS, Catalog, CatalogTransaction, Failure, SourceContainer
from bindsearch.storage.class_columns import ClassColumn, ClassValues
from bindsearch.storage.file_state import LARGEST, FileState, IndexedFiles, file_state, storable_ns, time_version
from bindsearch.types import Modality

STATE = FileState(1, 2, 3, 4)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog(tmp_path / "catalog.duckdb") as opened:
        yield opened


def failures(*paths: str) -> CatalogTransaction:
    return CatalogTransaction(failures=[Failure(1, path, STATE, f"reason of {path}") for path in paths])


def test_a_new_catalog_is_one_file_that_is_sound(tmp_path: Path) -> None:
    with Catalog(tmp_path / "catalog.duckdb") as catalog:
        assert catalog.cut_bytes == 0
    assert {path.name for path in tmp_path.iterdir()} <= {"catalog.duckdb", "catalog.duckdb.wal"}


def test_ids_and_generations(tmp_path: Path, catalog: Catalog) -> None:
    assert catalog.generation == 0
    assert [catalog.add_collection(Path("/a")), catalog.add_collection(Path("/b"))] == [1, 2]
    assert catalog.generation == 0  # readers see nothing new
    assert [catalog.take_ids("item_id", n) for n in (3, 0, 1)] == [1, 4, 4]
    assert catalog.commit(CatalogTransaction()) == catalog.generation == 1
    catalog.close()
    with Catalog(tmp_path / "catalog.duckdb") as again:
        assert again.generation == 1
        assert again.collections() == {1: Path("/a"), 2: Path("/b")}
        assert [again.take_ids(name, 1) for name in ("collection_id", "item_id", "vector_id")] == [3, 5, 1]


@pytest.mark.parametrize("error", [StoreError, KeyboardInterrupt])
def test_a_transaction_that_fails_changes_nothing(
    error: type[BaseException], catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.commit(failures("a"))

    def interrupt(_change: CatalogTransaction) -> None:
        raise KeyboardInterrupt

    row = pa.table({"item_id": [1], "no such column": [1]})
    change = CatalogTransaction(failures=failures("b").failures, items=row if error is StoreError else None)
    with monkeypatch.context() as patch:
        if error is KeyboardInterrupt:
            patch.setattr(catalog, "_put_containers", interrupt)
        with pytest.raises(error) as caught:
            catalog.commit(change)
    if error is StoreError:
        assert str(caught.value).startswith("a transaction of the catalog failed: ")
        assert "\n" not in str(caught.value)
    assert catalog.generation == 1
    assert catalog.failures_table().column("rel_path").to_pylist() == ["a"]
    assert catalog.commit(failures("c")) == 2
    assert catalog.failures_table().column("rel_path").to_pylist() == ["a", "c"]


def test_failures_and_containers_are_replaced_and_forgotten_by_path(catalog: Catalog) -> None:
    change = failures("a", "b", "a")
    change.failures.append(Failure(2, "a", STATE, "other"))
    change.containers = [SourceContainer(1, path, STATE) for path in ("x.zip", "y.zip")]
    catalog.commit(change)
    later = FileState(9, 9, 9, 9)
    catalog.commit(
        CatalogTransaction(
            failures=[Failure(1, "b", later, "new")],
            forgotten_failures=[(1, "a"), (2, "b")],
            containers=[SourceContainer(1, "y.zip", later)],
            forgotten_containers=[(1, "x.zip"), (2, "y.zip")],
        )
    )
    rows = catalog.failures_table().to_pylist()
    assert [(row["collection_id"], row["rel_path"], row["reason"]) for row in rows] == [
        (1, "b", "new"),
        (2, "a", "other"),
    ]
    assert catalog.containers(1) == {"y.zip": later}
    assert catalog.known_files(1, ("",)).file(0).state == later


def test_a_log_that_cannot_be_merged_at_the_end_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_path: Path) -> None:
        raise OSError("no room")

    monkeypatch.setattr(catalog_module, "CLOSE_LOG_BYTES", 0)
    monkeypatch.setattr(catalog_module, "checkpoint", fail)
    with caplog.at_level(logging.WARNING), Catalog(tmp_path / "catalog.duckdb") as catalog:
        catalog.commit(failures("a"))
    assert "catalog.duckdb cannot be merged: no room" in caplog.text
    with Catalog(tmp_path / "catalog.duckdb") as catalog:
        assert catalog.generation == 1


@pytest.mark.parametrize("n", [1, MAX_PATH_FILTERS, MAX_PATH_FILTERS + 1])
def test_files_at_or_below_some_paths_are_looked_up(n: int, catalog: Catalog) -> None:
    catalog.commit(failures("a", "a/b", "ab", "c/d", "e"))
    found = catalog.known_files(1, ("a", *(f"none {i}" for i in range(n - 1))))
    paths = [found.rel_path(row) for row in range(found.n)]
    assert paths == (["a", "a/b"] if n <= MAX_PATH_FILTERS else ["a", "a/b", "ab", "c/d", "e"])
    assert catalog.known_files(1, ("a", "")).n == 5
    assert catalog.known_files(2, ("",)).n == 0


def known_files(catalog: Catalog) -> IndexedFiles:
    catalog.commit(failures("a", "a/b", "a/c", "a0", "b"))
    return catalog.known_files(1, ("",))


@pytest.mark.parametrize(
    ("path", "at_or_below", "below"),
    [
        ("", [0, 1, 2, 3, 4], []),
        ("a", [0, 1, 2], [1, 2]),
        ("a/b", [1], []),
        ("a0", [3], []),
        ("b", [4], []),
        ("c", [], []),
        ("0", [], []),
    ],
)
def test_rows_of_a_path_and_of_those_below_it(
    path: str, at_or_below: list[int], below: list[int], catalog: Catalog
) -> None:
    files = known_files(catalog)
    assert files.rows_at_or_below(path).tolist() == at_or_below
    if path:
        assert [*files.rows_below(path)] == below
        file = files.file_at(path)
        assert (None if file is None else file.rel_path) == (path if at_or_below else None)
    assert files.rows_of(["b", path, "a"]).tolist() == [4, at_or_below[0] if path and at_or_below else -1, 0]


def test_a_failed_file_has_no_item(catalog: Catalog) -> None:
    file = known_files(catalog).file(1)
    assert (file.rel_path, file.state, file.reason) == ("a/b", STATE, "reason of a/b")
    assert file.item_id is file.modality is file.fingerprint is None
    nothing = catalog.known_files(7, ("",))
    assert nothing.file_at("a") is None
    assert nothing.rows_of(["a"]).tolist() == [-1]


def test_files_that_failed_for_lack_of_a_library_are_tried_again(catalog: Catalog) -> None:
    lacking = "libx.so.1: cannot open shared object file: No such file or directory"
    change = failures("a", "c")
    change.failures.append(Failure(1, "b", STATE, lacking))
    catalog.commit(change)
    catalog.add_collection(Path("/media"))
    files = catalog.known_files(1, ("",))
    assert files.failed.tolist() == [True] * 3
    assert files.failed_by_installation.tolist() == [False, True, False]


def test_vector_files_that_were_replaced_are_listed_until_they_are_deleted(catalog: Catalog) -> None:
    catalog.commit(CatalogTransaction(vector_files=[(Modality.IMAGE, f"{n}-1.arrow", n, "") for n in (1, 2, 5)]))
    generation = catalog.replace_vector_files(Modality.IMAGE, ["1-1.arrow", "2-1.arrow"], [("1-2.arrow", 3, "ab")])
    assert generation == catalog.generation == 2
    assert [tuple(file) for file in catalog.vector_files()[Modality.IMAGE]] == [
        ("1-2.arrow", 3, "ab"),
        ("5-1.arrow", 5, ""),
    ]
    assert catalog.replaced_files() == {(Modality.IMAGE, "1-1.arrow"), (Modality.IMAGE, "2-1.arrow")}
    catalog.forget_replaced_files()
    assert catalog.replaced_files() == set()
    assert catalog.generation == 2


def column(name: str) -> ClassColumn:
    return ClassColumn(name, None, ("x",), (("x",),), (), None, (), "null", "", "")


def test_columns_of_classes_are_replaced_by_name(tmp_path: Path, catalog: Catalog) -> None:
    values = ClassValues(np.array([4, 9]), np.array([0, 0]), np.array([0.5, 1.0]))
    assert catalog.class_columns() is None
    assert catalog.set_class_columns([(column("a"), values), (column("b"), values)]) == 1
    assert catalog.set_class_columns([(column("a"), values.at(np.array([1])))]) == 2
    assert {key: one.name for key, one in catalog.class_records().items()} == {2: "b", 3: "a"}
    table = catalog.class_columns()
    assert table is not None
    assert table.select(["column_id", "vector_id"]).to_pylist() == [
        {"column_id": key, "vector_id": vector_id} for key, vector_id in ((2, 4), (2, 9), (3, 9))
    ]
    assert catalog.dead_class_values() == 3  # no segment refers to these vectors
    assert catalog.drop_dead_class_values() == 3
    assert catalog.dead_class_values() == 0
    assert catalog.set_class_columns([], ["a", "b", "c"]) == 4
    assert catalog.class_columns() is None
    catalog.close()
    with duckdb.connect(str(tmp_path / "catalog.duckdb")) as connection:
        connection.execute("INSERT INTO class_columns VALUES (7, '[]')")
    with (
        Catalog(tmp_path / "catalog.duckdb") as damaged,
        pytest.raises(StoreError, match=r"a column of classes in the catalog is damaged \(it does not say what"),
    ):
        damaged.class_columns()


@pytest.mark.parametrize("time_ns", [1, LARGEST, 0, -1, -LARGEST - 1, LARGEST + 1, 10**30, -(10**30)])
def test_a_time_of_any_size_has_a_number_of_its_own(time_ns: int) -> None:
    version = time_version(time_ns)
    assert 0 < version <= LARGEST
    assert (version == time_ns) == (0 < time_ns <= LARGEST)
    assert version != time_version(time_ns + 1)
    clipped = storable_ns(time_ns)
    assert -LARGEST - 1 <= clipped <= LARGEST
    assert (clipped == time_ns) == (-LARGEST - 1 <= time_ns <= LARGEST)


def test_the_state_of_a_file_is_that_of_the_system(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"123")
    status = path.stat()
    assert file_state(status) == FileState(3, status.st_mtime_ns, 0, status.st_ino)
    assert file_state(status, 5).sidecar_version == 5
