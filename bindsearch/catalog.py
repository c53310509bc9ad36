"""The catalog: one DuckDB file with the truth about collections, items, segments, vector files and failures.

Only the writer opens it (DuckDB lets nobody in beside a writer); readers use the snapshot. All SQL is here or in
`migrations`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from bindsearch.errors import StoreError
from bindsearch.items import Modality
from bindsearch.migrations import migrate
from bindsearch.snapshot_files import ITEM_COLUMNS, SEGMENT_COLUMNS

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

FAILURE_COLUMNS = "collection_id, rel_path, reason"


@dataclass(frozen=True, slots=True)
class FileState:
    """What tells a changed file from an unchanged one without reading it.

    `facts_stamp` changes with what is said of the file elsewhere, in its sidecar or a list; 0 where nothing is. `inode`
    0: not known.
    """

    size_bytes: int
    mtime_ns: int
    facts_stamp: int
    inode: int = 0


UNKNOWN_STATE = FileState(-1, -1, -1)
"""No file has it: recorded where the next run is to look at a file again, changed or not."""


@dataclass(frozen=True, slots=True)
class KnownFile:
    """What the catalog holds about a file: an item, a failure (`reason` set), or an item that could not be read of late
    (both)."""

    state: FileState
    item_id: int | None
    modality: Modality | None
    fingerprint: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that could not be indexed, and why."""

    collection_id: int
    rel_path: str
    state: FileState
    reason: str


@dataclass(frozen=True, slots=True)
class Container:
    """A file that stands for others, an archive or a list, as it was when all of it was last taken in."""

    collection_id: int
    rel_path: str
    state: FileState


@dataclass(frozen=True)
class Change:
    """What one transaction commits.

    `items`: rows to add (all columns of the table but `indexed_at`), `segments` theirs. `removed`: items that go first
    with their segments, those that `items` replaces among them. `touched`: items with only a new file state.
    """

    items: pa.Table | None = None
    segments: pa.Table | None = None
    removed: Sequence[int] = ()
    touched: Mapping[int, FileState] = field(default_factory=dict)
    failures: Sequence[Failure] = ()
    forgotten_failures: Sequence[tuple[int, str]] = ()
    vector_files: Sequence[tuple[Modality, str, int]] = ()
    containers: Sequence[Container] = ()
    forgotten_containers: Sequence[tuple[int, str]] = ()


class Catalog:
    """The writer's connection to `catalog.duckdb`. Use it from one thread at a time; close it."""

    def __init__(self, path: Path) -> None:
        """Open or create the catalog.

        Raises:
            StoreError: the file is damaged, or another process has it open.
        """
        import duckdb

        try:
            self._connection = duckdb.connect(str(path))
            try:
                migrate(self._connection)
            except BaseException:
                self._connection.close()
                raise
        except duckdb.Error as error:
            raise StoreError(f"the catalog {path} cannot be opened: {str(error).splitlines()[0]}") from error
        rows = self._connection.execute("SELECT name, value FROM counters").fetchall()
        self._counters = {str(name): int(value) for name, value in rows}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @property
    def generation(self) -> int:
        """The number of the last committed change."""
        return self._counters["generation"]

    def take_ids(self, counter: str, n: int) -> int:
        """Reserve n ids ("item_id", "segment_id" or "vector_id") and return the first; `commit` makes it durable."""
        first = self._counters[counter]
        self._counters[counter] = first + n
        return first

    def collections(self) -> dict[int, Path]:
        """Root folder of each collection."""
        rows = self._connection.execute("SELECT collection_id, root FROM collections ORDER BY collection_id").fetchall()
        return {int(collection_id): Path(root) for collection_id, root in rows}

    def add_collection(self, root: Path) -> int:
        """Record a root folder and return its id."""
        collection_id = self.take_ids("collection_id", 1)
        with self._transaction():
            self._connection.execute("INSERT INTO collections VALUES (?, ?)", [collection_id, str(root)])
        return collection_id

    def known_files(self, collection_id: int, prefix: str) -> dict[str, KnownFile]:
        """Items and failures at or below `prefix` (a relative path, "" for all), by relative path."""
        below = "collection_id = ? AND (? = '' OR rel_path = ? OR starts_with(rel_path, ?))"
        parameters = [collection_id, prefix, prefix, f"{prefix}/"]
        state = "size_bytes, mtime_ns, facts_stamp, inode"
        known: dict[str, KnownFile] = {}
        for path, *facts, reason in self._connection.execute(
            f"SELECT rel_path, {state}, reason FROM failures WHERE {below}", parameters
        ).fetchall():
            known[path] = KnownFile(FileState(*facts), None, None, None, reason)
        for path, *facts, item_id, modality, fingerprint in self._connection.execute(
            f"SELECT rel_path, {state}, item_id, modality, fingerprint FROM items WHERE {below}", parameters
        ).fetchall():
            reason = known[path].reason if path in known else None
            known[path] = KnownFile(FileState(*facts), item_id, Modality(modality), fingerprint, reason)
        return known

    def vector_files(self) -> dict[Modality, list[tuple[str, int]]]:
        """Name and row count of every vector file, oldest ids first, by modality."""
        files: dict[Modality, list[tuple[str, int]]] = {}
        for modality, name, n in self._connection.execute(
            "SELECT modality, name, n FROM vector_files ORDER BY modality, name"
        ).fetchall():
            files.setdefault(Modality(modality), []).append((name, n))
        return files

    def commit(self, change: Change) -> int:
        """Apply a change in one transaction, the commit point of a batch, and return the new generation.

        Raises:
            StoreError: the catalog refuses it; nothing of it is kept.
        """
        with self._transaction():
            self._drop_items(change.removed)
            for table, rows in (("items", change.items), ("segments", change.segments)):
                if rows is not None and rows.num_rows:
                    self._insert_table(table, rows)
            self._touch(change.touched)
            self._drop_failures(change)
            failures = [{**_row_of_path(failure), "reason": failure.reason} for failure in change.failures]
            self._insert("failures", failures)
            for modality, name, n in change.vector_files:
                self._connection.execute("INSERT INTO vector_files VALUES (?, ?, ?)", [modality.value, name, n])
            self._put_containers(change)
        return self.generation

    def replace_vector_files(self, modality: Modality, names: Sequence[str], merged: Sequence[tuple[str, int]]) -> int:
        """Swap `names` for the files (name, row count) that hold their living vectors; the new generation."""
        with self._transaction():
            self._drop_vector_files(modality, names)
            for name, n in merged:
                self._connection.execute("INSERT INTO vector_files VALUES (?, ?, ?)", [modality.value, name, n])
        return self.generation

    def forget_lost_vectors(self, modality: Modality, name: str, first_id: int, end_id: int) -> int:
        """Give up a vector file that cannot be read, with the vectors first_id..end_id-1: a new generation.

        Items that had one of them lose their segments and count as changed, so that the next look embeds them anew.
        """
        with self._transaction():
            lost = "SELECT DISTINCT item_id FROM segments WHERE modality = ? AND vector_id >= ? AND vector_id < ?"
            rows = self._connection.sql(lost, params=[modality.value, first_id, end_id]).to_arrow_table()
            with self._incoming(rows):
                self._connection.execute(
                    "DELETE FROM segments USING incoming WHERE segments.item_id = incoming.item_id"
                )
                self._connection.execute(
                    f"UPDATE items SET fingerprint = '', size_bytes = {UNKNOWN_STATE.size_bytes} "
                    "FROM incoming WHERE items.item_id = incoming.item_id"
                )
            self._drop_vector_files(modality, [name])
        return self.generation

    def live_vector_ids(self, modality: Modality, first_id: int, last_id: int) -> NDArray[np.int64]:
        """Vector ids first_id..last_id of a modality that a segment refers to: int64 (n,), ascending."""
        query = "SELECT DISTINCT vector_id FROM segments WHERE modality = ? AND vector_id BETWEEN ? AND ? ORDER BY 1"
        found = self._connection.execute(query, [modality.value, first_id, last_id]).fetchnumpy()
        ids: NDArray[np.int64] = found["vector_id"]
        return ids

    def segments_of_fingerprints(self, fingerprints: Sequence[str]) -> pa.Table:
        """The segments of one item of each fingerprint, the oldest, with a column `fingerprint`."""
        import pyarrow as pa

        with self._incoming(pa.table({"fingerprint": pa.array(fingerprints, pa.string())})):
            return self._connection.sql(
                "SELECT segments.*, fingerprint FROM segments JOIN (SELECT fingerprint, min(item_id) AS item_id "
                "FROM items SEMI JOIN incoming USING (fingerprint) GROUP BY fingerprint) USING (item_id)"
            ).to_arrow_table()

    def items_table(self, item_ids: Sequence[int] | None = None) -> pa.Table:
        """The given items (None: all), as the snapshot holds them."""
        return self._rows_of_items("items", tuple(ITEM_COLUMNS), item_ids)

    def segments_table(self, item_ids: Sequence[int] | None = None) -> pa.Table:
        """The segments of the given items (None: all), as the snapshot holds them."""
        return self._rows_of_items("segments", tuple(SEGMENT_COLUMNS), item_ids)

    def failures_table(self) -> pa.Table:
        """All failures, as the snapshot holds them."""
        query = f"SELECT {FAILURE_COLUMNS} FROM failures ORDER BY collection_id, rel_path"
        return self._connection.sql(query).to_arrow_table()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """What happens inside is one generation, or nothing."""
        import duckdb

        counters = dict(self._counters)
        self._connection.begin()
        try:
            yield
            self._counters["generation"] += 1
            rows = [{"name": name, "value": value} for name, value in self._counters.items()]
            self._connection.execute("DELETE FROM counters")
            self._insert("counters", rows)
            self._connection.commit()
        except BaseException as error:
            self._counters = counters
            with suppress(duckdb.Error):  # a commit that failed has ended the transaction already
                self._connection.rollback()
            if isinstance(error, duckdb.Error):
                raise StoreError(f"the catalog refused a change: {str(error).splitlines()[0]}") from error
            raise

    def _rows_of_items(self, table: str, columns: Sequence[str], item_ids: Sequence[int] | None) -> pa.Table:
        query = f"SELECT {', '.join(columns)} FROM {table}"
        if item_ids is None:
            return self._connection.sql(query).to_arrow_table()
        with self._incoming(_ids(item_ids)):
            return self._connection.sql(f"{query} SEMI JOIN incoming USING (item_id)").to_arrow_table()

    def _drop_items(self, item_ids: Sequence[int]) -> None:
        if item_ids:
            with self._incoming(_ids(item_ids)):  # a join: a list would be searched anew for every row
                for table in ("segments", "items"):
                    self._connection.execute(
                        f"DELETE FROM {table} USING incoming WHERE {table}.item_id = incoming.item_id"
                    )

    def _drop_vector_files(self, modality: Modality, names: Sequence[str]) -> None:
        with self._incoming([{"name": name} for name in names]):
            self._connection.execute(
                "DELETE FROM vector_files USING incoming WHERE modality = ? AND vector_files.name = incoming.name",
                [modality.value],
            )

    def _touch(self, touched: Mapping[int, FileState]) -> None:
        if touched:
            with self._incoming([{"item_id": item_id, **asdict(state)} for item_id, state in touched.items()]):
                self._connection.execute(
                    "UPDATE items SET size_bytes = incoming.size_bytes, mtime_ns = incoming.mtime_ns, "
                    "facts_stamp = incoming.facts_stamp, inode = incoming.inode "
                    "FROM incoming WHERE items.item_id = incoming.item_id"
                )

    def _drop_failures(self, change: Change) -> None:
        failed = [(failure.collection_id, failure.rel_path) for failure in change.failures]
        self._drop_paths("failures", [*failed, *change.forgotten_failures])

    def _put_containers(self, change: Change) -> None:
        replaced = [(container.collection_id, container.rel_path) for container in change.containers]
        self._drop_paths("containers", [*replaced, *change.forgotten_containers])
        rows = [_row_of_path(container) for container in change.containers]
        self._insert("containers", rows)

    def _drop_paths(self, table: str, paths: Sequence[tuple[int, str]]) -> None:
        """Delete the rows of a table at these places (collection_id, rel_path)."""
        if paths:
            with self._incoming([{"collection_id": key, "rel_path": path} for key, path in paths]):
                self._connection.execute(
                    f"DELETE FROM {table} USING incoming WHERE {table}.collection_id = incoming.collection_id "
                    f"AND {table}.rel_path = incoming.rel_path"
                )

    def _insert(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        if rows:
            import pyarrow as pa

            self._insert_table(table, pa.Table.from_pylist(list(rows)))

    def _insert_table(self, table: str, rows: pa.Table) -> None:
        columns = ", ".join(rows.column_names)
        with self._incoming(rows):
            self._connection.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM incoming")

    @contextmanager
    def _incoming(self, rows: pa.Table | Sequence[Mapping[str, Any]]) -> Iterator[None]:
        """Rows that SQL sees as the table `incoming`."""
        import pyarrow as pa

        table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows))
        self._connection.register("incoming", table)
        try:
            yield
        finally:
            self._connection.unregister("incoming")


def _ids(item_ids: Sequence[int]) -> pa.Table:
    import pyarrow as pa

    return pa.table({"item_id": pa.array(item_ids, pa.int64())})


def _row_of_path(entry: Failure | Container) -> dict[str, Any]:
    return {"collection_id": entry.collection_id, "rel_path": entry.rel_path, **asdict(entry.state)}
