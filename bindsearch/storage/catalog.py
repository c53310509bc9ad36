"""The catalog: one DuckDB file, the source of truth for collections, items, segments, vector files and failures.

Only the writer opens it, because DuckDB allows no other connection while a process has the file open for writing;
readers use the snapshot. All SQL is here or in `migrations`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bindsearch.atomic import sync_folder
from bindsearch.errors import SchemaNewerError, SchemaOutdatedError, StoreError, first_line
from bindsearch.small_files import is_not_regular
from bindsearch.storage.catalog_file import (
    CLOSE_LOG_BYTES,
    OPEN_LOG_BYTES,
    checkpoint,
    complete_checkpoint,
    connect,
    is_locked,
    is_unreadable_now,
    log_bytes,
    open_for_writing,
    readable_path,
)
from bindsearch.storage.class_columns import VALUE_COLUMNS, ClassColumn, ClassValues, values_table, with_columns
from bindsearch.storage.file_state import STATE_COLUMNS, UNKNOWN_STATE, FileState, IndexedFiles, state_columns
from bindsearch.storage.migrations import MIGRATIONS, check_schema, migrate, schema_version
from bindsearch.storage.snapshot_format import FAILURE_COLUMNS, ITEM_COLUMNS, SEGMENT_COLUMNS, VECTOR_FILE_NAME
from bindsearch.storage.vector_files import VectorFileEntry
from bindsearch.types import FACT_COLUMNS, Modality

logger = logging.getLogger("bindsearch")

REMEDY = "run `bindsearch recover` to rebuild it from the snapshot"

TRY_AGAIN = "try again when it can"

ITEMS_TO_EMBED = (
    "SELECT item_id FROM items ANTI JOIN segments USING (item_id) "
    f"WHERE fingerprint = '' AND size_bytes = {UNKNOWN_STATE.size_bytes}"
)
"""Items that have lost their vectors and are not embedded again yet."""

_VALUE_NAMES = ", ".join(f'"{name}"' for name in VALUE_COLUMNS)

MAX_PATH_FILTERS = 100
"""Maximum number of paths that a query filters by; with more, the whole collection is read."""


def may_be_sound(error: StoreError) -> bool:
    """Return whether a catalog that cannot be opened or read may be sound: it is in use, unreadable now, or too new."""
    cause = error.__cause__
    if cause is None:
        return isinstance(error, SchemaNewerError)
    return not is_not_regular(cause) if isinstance(cause, OSError) else is_unreadable_now(cause)


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that could not be indexed, its state when it failed, and the reason."""

    collection_id: int
    rel_path: str
    state: FileState
    reason: str


@dataclass(frozen=True, slots=True)
class SourceContainer:
    """An archive or a manifest, whose entries are files, and its state when it was last read completely."""

    collection_id: int
    rel_path: str
    state: FileState


@dataclass(kw_only=True)
class RowChanges:
    """Changes of a batch, besides items to add.

    Attributes:
        removed: Ids of items to delete first, with their segments.
        touched: New file states of items whose content has not changed, by item id.
        failures: Files that could not be indexed.
        forgotten_failures: (collection_id, rel_path) of failures to delete.
        containers: Archives and manifests that were read completely.
        forgotten_containers: (collection_id, rel_path) of containers to delete.
        forgotten_collections: Ids of collections to delete.
        moved_collections: New root folders of collections, by their ids.
    """

    removed: list[int] = field(default_factory=list)
    touched: dict[int, FileState] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    forgotten_failures: list[tuple[int, str]] = field(default_factory=list)
    containers: list[SourceContainer] = field(default_factory=list)
    forgotten_containers: list[tuple[int, str]] = field(default_factory=list)
    forgotten_collections: list[int] = field(default_factory=list)
    moved_collections: dict[int, Path] = field(default_factory=dict)


@dataclass(kw_only=True)
class CatalogTransaction(RowChanges):
    """Changes of one transaction; `removed` includes the items that `items` replaces.

    Attributes:
        items: Rows to add, with all columns of the table but `indexed_at`.
        segments: Rows of their segments.
        vector_files: Modality, name, row count and digest of each new vector file.
    """

    items: pa.Table | None = None
    segments: pa.Table | None = None
    vector_files: Sequence[tuple[Modality, str, int, str]] = ()


class Catalog:
    """The writer's connection to `catalog.duckdb`; use it from one thread at a time and close it.

    Attributes:
        cut_bytes: Number of bytes that were cut from a torn log when it was opened.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open the catalog.

        Args:
            path: The file; created if it does not exist.
            read_only: Read without changing anything on disk, and without creating the file.

        Raises:
            SchemaOutdatedError: with `read_only`, the file is of an older version and would have to be upgraded.
            StoreError: the file is damaged or holds other than the catalog's tables, or another process has it open.
        """
        import duckdb

        self._path = path
        self._read_only = read_only
        self._log_has_durable_name = False
        self.cut_bytes = 0
        try:
            if read_only:
                self._connection = connect(readable_path(path), read_only=True)
            else:
                self._connection, self.cut_bytes = open_for_writing(path, migrate)
            try:
                check_schema(self._connection, macros=read_only)
                if not read_only:
                    migrate(self._connection)
                elif schema_version(self._connection) < len(MIGRATIONS):
                    raise SchemaOutdatedError(f"the catalog {path} is of an older version: run `bindsearch index` once")
                rows = self._connection.execute("SELECT name, value FROM counters").fetchall()
            except BaseException:
                self._connection.close()
                raise
        except duckdb.Error as error:
            if is_locked(error):
                remedy = "wait for the other process"
            elif path.exists():
                remedy = TRY_AGAIN if is_unreadable_now(error) else REMEDY
            else:  # creating it has failed, for example on a full disk
                raise StoreError(f"the catalog {path} cannot be created ({first_line(error)})") from error
            raise StoreError(f"the catalog {path} cannot be opened ({first_line(error)}): {remedy}") from error
        except OSError as error:
            remedy = REMEDY if is_not_regular(error) else TRY_AGAIN
            raise StoreError(f"the catalog {path} cannot be opened ({error.strerror or error}): {remedy}") from error
        self._counters = {str(name): int(value) for name, value in rows}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a long log is written into it, if there is room on the disk."""
        self._connection.close()
        if not self._read_only and log_bytes(self._path) > CLOSE_LOG_BYTES:
            try:
                self._checkpoint()
            except StoreError as error:  # all changes are in the log
                logger.warning("%s", error)

    @property
    def generation(self) -> int:
        """Number of the last committed generation."""
        return self._counters["generation"]

    def take_ids(self, counter: str, n: int) -> int:
        """Reserve n consecutive ids; `commit` makes the reservation durable.

        Args:
            counter: "collection_id", "item_id", "segment_id" or "vector_id".
            n: Number of ids.

        Returns:
            The first id.
        """
        first = self._counters[counter]
        self._counters[counter] = first + n
        return first

    def collections(self) -> dict[int, Path]:
        """Return the root folder of each collection by its id."""
        rows = self._connection.execute("SELECT collection_id, root FROM collections ORDER BY collection_id").fetchall()
        return {int(collection_id): Path(root) for collection_id, root in rows}

    def add_collection(self, root: Path) -> int:
        """Record a root folder and return its id; readers see it with its first items, as no generation is created."""
        collection_id = self.take_ids("collection_id", 1)
        with self._transaction(visible=False):
            self._connection.execute("INSERT INTO collections VALUES (?, ?)", [collection_id, str(root)])
        return collection_id

    def known_files(self, collection_id: int, rel_paths: tuple[str, ...]) -> IndexedFiles:
        """Return items and failures of a collection.

        Args:
            collection_id: Id of the collection.
            rel_paths: Relative paths to return at or below ("" for all); with more than MAX_PATH_FILTERS of them, the
                whole collection is returned.

        Returns:
            The catalogued files.
        """
        filters = [] if "" in rel_paths or len(rel_paths) > MAX_PATH_FILTERS else list(rel_paths)
        below = (
            "collection_id = $key AND (len($filters) = 0 OR len(list_filter($filters, lambda path: "
            "rel_path = path OR starts_with(rel_path, path || '/'))) > 0)"
        )
        either = ", ".join(f"coalesce(i.{name}, f.{name}) AS {name}" for name in STATE_COLUMNS)
        query = f"""
            SELECT rel_path, {either}, coalesce(item_id, -1) AS item_id, modality, fingerprint, reason
            FROM (SELECT * FROM items WHERE {below}) i
            FULL JOIN (SELECT * FROM failures WHERE {below}) f USING (rel_path) ORDER BY rel_path"""
        return IndexedFiles(
            self._connection.sql(query, params={"key": collection_id, "filters": filters}).to_arrow_table()
        )

    def containers(self, collection_id: int) -> dict[str, FileState]:
        """Return the state of each archive and manifest when it was last read completely, by relative path."""
        query = f"SELECT rel_path, {', '.join(STATE_COLUMNS)} FROM containers WHERE collection_id = ?"
        rows = self._connection.execute(query, [collection_id]).fetchall()
        return {path: FileState(*state) for path, *state in rows}

    def fingerprints(self) -> tuple[NDArray[np.bytes_], NDArray[np.int64]]:
        """Return fingerprints S16 (n,) and item ids int64 (n,) of all items that have a fingerprint."""
        query = "SELECT unhex(fingerprint) AS fingerprint, item_id FROM items WHERE len(fingerprint) = 32"
        rows = self._connection.sql(query).to_arrow_table().combine_chunks()
        if not rows.num_rows:
            return np.zeros(0, "S16"), np.zeros(0, np.int64)
        raw = rows.column("fingerprint").cast(pa.binary(16)).chunk(0)
        return np.frombuffer(raw.buffers()[1], "S16", len(raw), raw.offset * 16), rows.column("item_id").to_numpy()

    def vector_files(self) -> dict[Modality, list[VectorFileEntry]]:
        """Return every vector file by modality, oldest ids first.

        Raises:
            StoreError: a name is not one of a vector file: it could be the path of a file outside of the store.
        """
        files: dict[Modality, list[VectorFileEntry]] = {}
        query = "SELECT modality, name, n, digest FROM vector_files ORDER BY modality, name"
        for modality, name, n, digest in self._connection.execute(query).fetchall():
            if not VECTOR_FILE_NAME.fullmatch(name):
                raise StoreError(
                    f"the catalog lists a vector file {name!r}, which BindSearch never makes: do not use this store"
                )
            files.setdefault(Modality(modality), []).append(VectorFileEntry(name, n, digest))
        return files

    def replaced_files(self) -> set[tuple[Modality, str]]:
        """Return modality and name of vector files whose rows are in others now, so that they can be deleted."""
        rows = self._connection.execute("SELECT modality, name FROM replaced_files").fetchall()
        return {(Modality(modality), name) for modality, name in rows}

    def forget_replaced_files(self) -> None:
        """Clear the list of replaced files, once they are deleted."""
        with self._transaction(visible=False):
            self._connection.execute("DELETE FROM replaced_files")

    def waiting_items(self) -> int:
        """Return the number of items that have lost their vectors and are not embedded again yet."""
        row = self._connection.execute(f"SELECT count(*) FROM ({ITEMS_TO_EMBED})").fetchone()
        return 0 if row is None else int(row[0])

    def commit(self, change: CatalogTransaction) -> int:
        """Apply a change in one transaction, the commit point of a batch, and return the new generation.

        Raises:
            StoreError: the transaction failed and was rolled back.
        """
        with self._transaction():
            self._drop_items(change.removed)
            for table, rows in (("items", change.items), ("segments", change.segments)):
                if rows is not None and rows.num_rows:
                    self._insert_table(table, rows)
            if change.touched:
                states = [{"item_id": item_id, **state_columns(state)} for item_id, state in change.touched.items()]
                with self._incoming(states):
                    self._connection.execute(
                        "UPDATE items SET size_bytes = incoming.size_bytes, mtime_ns = incoming.mtime_ns, "
                        "facts_stamp = incoming.facts_stamp, inode = incoming.inode "
                        "FROM incoming WHERE items.item_id = incoming.item_id"
                    )
            failures = {(failure.collection_id, failure.rel_path): failure for failure in change.failures}
            self._drop_paths("failures", [*failures, *change.forgotten_failures])
            self._insert("failures", [{**_row_of_path(entry), "reason": entry.reason} for entry in failures.values()])
            self._put_vector_files(change.vector_files)
            self._put_containers(change)
            for collection_id in change.forgotten_collections:
                self._connection.execute("DELETE FROM collections WHERE collection_id = ?", [collection_id])
            move = "UPDATE collections SET root = ? WHERE collection_id = ?"
            for collection_id, root in change.moved_collections.items():
                self._connection.execute(move, [str(root), collection_id])
        return self.generation

    def replace_vector_files(
        self, modality: Modality, names: Sequence[str], merged: Sequence[tuple[str, int, str]]
    ) -> int:
        """Replace vector files by merged ones (name, row count, digest of each) and return the new generation."""
        with self._transaction():
            self._drop_vector_files(modality, names)
            self._put_vector_files([(modality, *file) for file in merged])
            self._insert("replaced_files", [{"modality": modality.value, "name": name} for name in names])
        return self.generation

    def forget_lost_vectors(self, modality: Modality, name: str, first_id: int, end_id: int) -> int:
        """Remove a vector file that cannot be read, with ids first_id..end_id - 1, and return the new generation.

        Items with one of its vectors lose their segments and count as changed, so that the next run embeds them again.
        """
        with self._transaction():
            lost = "SELECT DISTINCT item_id FROM segments WHERE modality = ? AND vector_id >= ? AND vector_id < ?"
            rows = self._connection.sql(lost, params=[modality.value, first_id, end_id])
            self._forget_segments(rows.to_arrow_table())
            self._drop_vector_files(modality, [name])
        return self.generation

    def live_vector_ids(self, modality: Modality, first_id: int, last_id: int) -> NDArray[np.int64]:
        """Return the vector ids in first_id..last_id (inclusive) that a segment refers to: int64 (n,), ascending."""
        query = "SELECT DISTINCT vector_id FROM segments WHERE modality = ? AND vector_id BETWEEN ? AND ? ORDER BY 1"
        columns = self._connection.execute(query, [modality.value, first_id, last_id]).fetchnumpy()
        ids: NDArray[np.int64] = columns["vector_id"]
        return ids

    def segments_of_fingerprints(self, fingerprints: Sequence[str]) -> pa.Table:
        """Return the segments of the oldest item of each fingerprint, with a column `fingerprint`."""
        with self._incoming(pa.table({"fingerprint": pa.array(fingerprints, pa.string())})):
            return self._connection.sql(
                "SELECT segments.*, fingerprint FROM segments JOIN (SELECT fingerprint, min(item_id) AS item_id "
                "FROM items SEMI JOIN incoming USING (fingerprint) GROUP BY fingerprint) USING (item_id)"
            ).to_arrow_table()

    def facts_of_fingerprints(self, fingerprints: Sequence[str]) -> dict[str, dict[str, float | None]]:
        """Return by fingerprint what decoders measured (FACT_COLUMNS), of any item for which it is known."""
        known = ", ".join(f"max({name}) AS {name}" for name in FACT_COLUMNS)
        with self._incoming(pa.table({"fingerprint": pa.array(fingerprints, pa.string())})):
            rows = self._connection.sql(
                f"SELECT fingerprint, {known} FROM items SEMI JOIN incoming USING (fingerprint) GROUP BY fingerprint"
            ).to_arrow_table()
        return {row.pop("fingerprint"): row for row in rows.to_pylist()}

    def items_table(self, item_ids: Sequence[int] | None = None) -> pa.Table:
        """Return the given items (None: all) with the columns of the snapshot."""
        return self._rows_of_items("items", tuple(ITEM_COLUMNS), item_ids)

    def segments_table(self, item_ids: Sequence[int] | None = None) -> pa.Table:
        """Return the segments of the given items (None: all) with the columns of the snapshot."""
        return self._rows_of_items("segments", tuple(SEGMENT_COLUMNS), item_ids)

    def failures_table(self) -> pa.Table:
        """Return all failures with the columns of the snapshot."""
        query = f"SELECT {', '.join(FAILURE_COLUMNS)} FROM failures ORDER BY collection_id, rel_path"
        return self._connection.sql(query).to_arrow_table()

    def class_records(self) -> dict[int, ClassColumn]:
        """Return the columns of classes by their id.

        Raises:
            StoreError: a record is damaged.
        """
        rows = self._connection.execute("SELECT column_id, record FROM class_columns ORDER BY column_id").fetchall()
        try:
            return {int(key): ClassColumn.from_record(json.loads(record)) for key, record in rows}
        except ValueError as error:
            raise StoreError(f"a column of classes in the catalog is damaged ({error}): {REMEDY}") from error

    def class_columns(self) -> pa.Table | None:
        """Return the values of all columns of classes with their records, as in snapshots; None if there are none.

        Raises:
            StoreError: a record is damaged.
        """
        columns = self.class_records()
        if not columns:
            return None
        query = f"SELECT {_VALUE_NAMES} FROM class_values ORDER BY column_id, vector_id"
        return with_columns(self._connection.sql(query).to_arrow_table(), columns)

    def set_class_columns(self, columns: Sequence[tuple[ClassColumn, ClassValues]], removed: Sequence[str] = ()) -> int:
        """Replace columns of classes in one transaction and return the new generation; see `Writer.set_class_columns`.

        Raises:
            StoreError: the transaction failed and was rolled back.
        """
        known = self.class_records()
        names = {column.name for column, _ in columns}.union(removed)
        replaced = [key for key, column in known.items() if column.name in names]
        with self._transaction():
            self._drop_class_columns(replaced)
            for key, (column, values) in enumerate(columns, max(known, default=0) + 1):
                self._insert("class_columns", [{"column_id": key, "record": json.dumps(column.to_record())}])
                self._insert_table("class_values", values_table(key, values))
        return self.generation

    def dead_class_values(self) -> int:
        """Return the number of values of vectors that no segment refers to."""
        query = "SELECT count(*) FROM class_values ANTI JOIN segments USING (vector_id)"
        row = self._connection.execute(query).fetchone()
        return 0 if row is None else int(row[0])

    def drop_dead_class_values(self) -> int:
        """Delete the values of vectors that no segment refers to, and return the new generation."""
        with self._transaction():
            self._connection.execute("DELETE FROM class_values WHERE vector_id NOT IN (SELECT vector_id FROM segments)")
        return self.generation

    @contextmanager
    def _transaction(self, *, visible: bool = True) -> Iterator[None]:
        """Run the block in a transaction, rolled back on errors; if `visible` to readers, it creates a generation."""
        import duckdb

        if log_bytes(self._path) > OPEN_LOG_BYTES:
            self._connection.close()
            try:
                self._checkpoint()
            finally:
                complete_checkpoint(self._path)  # without its last steps, the file would be opened in an old state
                self._connection = connect(self._path)
                self._log_has_durable_name = False
        counters = dict(self._counters)
        self._connection.begin()
        try:
            yield
            self._counters["generation"] += visible
            rows = [{"name": name, "value": value} for name, value in self._counters.items()]
            self._connection.execute("DELETE FROM counters")
            self._insert("counters", rows)
            self._connection.commit()
        except BaseException as error:
            self._counters = counters
            with suppress(duckdb.Error):  # a failed commit has already ended the transaction
                self._connection.rollback()
            if isinstance(error, duckdb.Error):
                raise StoreError(f"a transaction of the catalog failed: {first_line(error)}") from error
            raise
        if not self._log_has_durable_name:  # DuckDB syncs what is in the log, not the folder that it is new in
            sync_folder(self._path.parent)
            self._log_has_durable_name = True

    def _checkpoint(self) -> None:
        """Write the log into the closed file. Raises StoreError: a step failed; nothing is lost."""
        import duckdb

        try:
            checkpoint(self._path)
        except (duckdb.Error, OSError) as error:
            raise StoreError(f"the log of the catalog {self._path} cannot be merged: {first_line(error)}") from error

    def _rows_of_items(self, table: str, columns: Sequence[str], item_ids: Sequence[int] | None) -> pa.Table:
        query = f"SELECT {', '.join(columns)} FROM {table}"
        if item_ids is None:
            return self._connection.sql(query).to_arrow_table()
        with self._incoming(_ids(item_ids)):
            return self._connection.sql(f"{query} SEMI JOIN incoming USING (item_id)").to_arrow_table()

    def _drop_class_columns(self, column_ids: Sequence[int]) -> None:
        for key in column_ids:
            for table in ("class_values", "class_columns"):
                self._connection.execute(f"DELETE FROM {table} WHERE column_id = ?", [key])

    def _drop_items(self, item_ids: Sequence[int]) -> None:
        if item_ids:
            with self._incoming(_ids(item_ids)):  # a join: a list would be searched again for every row
                for table in ("segments", "items"):
                    self._connection.execute(
                        f"DELETE FROM {table} USING incoming WHERE {table}.item_id = incoming.item_id"
                    )

    def _forget_segments(self, item_ids: pa.Table) -> None:
        """Delete the segments of items (a column item_id) and mark the items to be embedded again."""
        with self._incoming(item_ids):
            self._connection.execute("DELETE FROM segments USING incoming WHERE segments.item_id = incoming.item_id")
            self._connection.execute(
                f"UPDATE items SET fingerprint = '', size_bytes = {UNKNOWN_STATE.size_bytes} "
                "FROM incoming WHERE items.item_id = incoming.item_id"
            )

    def _put_vector_files(self, files: Sequence[tuple[Modality, str, int, str]]) -> None:
        columns = ("modality", "name", "n", "digest")
        self._insert("vector_files", [dict(zip(columns, file, strict=True)) for file in files])

    def _drop_vector_files(self, modality: Modality, names: Sequence[str]) -> None:
        with self._incoming([{"name": name} for name in names]):
            self._connection.execute(
                "DELETE FROM vector_files USING incoming WHERE modality = ? AND vector_files.name = incoming.name",
                [modality.value],
            )

    def _put_containers(self, change: CatalogTransaction) -> None:
        replaced = [(container.collection_id, container.rel_path) for container in change.containers]
        self._drop_paths("containers", [*replaced, *change.forgotten_containers])
        self._insert("containers", [_row_of_path(container) for container in change.containers])

    def _drop_paths(self, table: str, paths: Sequence[tuple[int, str]]) -> None:
        """Delete the rows of a table with these (collection_id, rel_path)."""
        if paths:
            with self._incoming([{"collection_id": key, "rel_path": path} for key, path in paths]):
                self._connection.execute(
                    f"DELETE FROM {table} USING incoming WHERE {table}.collection_id = incoming.collection_id "
                    f"AND {table}.rel_path = incoming.rel_path"
                )

    def _insert(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        if rows:
            self._insert_table(table, pa.Table.from_pylist(list(rows)))

    def _insert_table(self, table: str, rows: pa.Table) -> None:
        columns = ", ".join(f'"{name}"' for name in rows.column_names)
        with self._incoming(rows):
            self._connection.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM incoming")

    @contextmanager
    def _incoming(self, rows: pa.Table | Sequence[Mapping[str, Any]]) -> Iterator[None]:
        """Register rows as the table `incoming` for SQL in the block."""
        table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows))
        self._connection.register("incoming", table)
        try:
            yield
        finally:
            self._connection.unregister("incoming")


def _ids(item_ids: Sequence[int]) -> pa.Table:
    return pa.table({"item_id": pa.array(item_ids, pa.int64())})


def _row_of_path(entry: Failure | SourceContainer) -> dict[str, Any]:
    return {"collection_id": entry.collection_id, "rel_path": entry.rel_path, **state_columns(entry.state)}
