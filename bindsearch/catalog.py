"""The catalog: one DuckDB file with the truth about collections, items, segments, vector files and failures.

Only the writer opens it (DuckDB lets nobody in beside a writer); readers use the snapshot. All SQL is here or in
`migrations`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from bindsearch.errors import StoreError
from bindsearch.items import Item, Modality
from bindsearch.migrations import migrate

if TYPE_CHECKING:
    import pyarrow as pa

ITEM_COLUMNS = "item_id, collection_id, rel_path, modality, size_bytes, mtime_ns, content_hash"
SEGMENT_COLUMNS = "segment_id, item_id, modality, vector_id, start_s, end_s, text"
FAILURE_COLUMNS = "collection_id, rel_path, reason"


@dataclass(frozen=True, slots=True)
class FileState:
    """What tells a changed file from an unchanged one without reading it; a missing sidecar has time 0."""

    size_bytes: int
    mtime_ns: int
    sidecar_mtime_ns: int


@dataclass(frozen=True, slots=True)
class KnownFile:
    """What the catalog holds about a file: an item, or a failure (`item_id` None, `reason` set)."""

    state: FileState
    item_id: int | None
    modality: Modality | None
    fingerprint: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item to commit under `item_id`; what was there under that id goes."""

    item_id: int
    collection_id: int
    rel_path: str
    modality: Modality
    state: FileState
    content_hash: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that could not be indexed, and why."""

    collection_id: int
    rel_path: str
    state: FileState
    reason: str


@dataclass(frozen=True)
class Change:
    """What one transaction commits. Items replaced or removed lose their segments; `touched` only new file states."""

    items: Sequence[NewItem] = ()
    segments: pa.Table | None = None
    removed: Sequence[int] = ()
    touched: Mapping[int, FileState] = field(default_factory=dict)
    failures: Sequence[Failure] = ()
    forgotten_failures: Sequence[tuple[int, str]] = ()
    vector_files: Sequence[tuple[Modality, str, int]] = ()


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
            migrate(self._connection)
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
        self._connection.begin()
        self._connection.execute("INSERT INTO collections VALUES (?, ?)", [collection_id, str(root)])
        self._save_counters()
        self._connection.commit()
        return collection_id

    def known_files(self, collection_id: int, prefix: str) -> dict[str, KnownFile]:
        """Items and failures at or below `prefix` (a relative path, "" for all), by relative path."""
        below = "collection_id = ? AND (? = '' OR rel_path = ? OR starts_with(rel_path, ?))"
        parameters = [collection_id, prefix, prefix, f"{prefix}/"]
        state = "size_bytes, mtime_ns, sidecar_mtime_ns"
        known: dict[str, KnownFile] = {}
        for path, size, mtime, sidecar, reason in self._connection.execute(
            f"SELECT rel_path, {state}, reason FROM failures WHERE {below}", parameters
        ).fetchall():
            known[path] = KnownFile(FileState(size, mtime, sidecar), None, None, None, reason)
        for path, size, mtime, sidecar, item_id, modality, fingerprint in self._connection.execute(
            f"SELECT rel_path, {state}, item_id, modality, fingerprint FROM items WHERE {below}", parameters
        ).fetchall():
            known[path] = KnownFile(FileState(size, mtime, sidecar), item_id, Modality(modality), fingerprint, None)
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
        """Apply a change in one transaction, the commit point of a batch, and return the new generation."""
        import duckdb

        counters = dict(self._counters)
        self._connection.begin()
        try:
            self._drop_items([*change.removed, *(item.item_id for item in change.items)])
            self._insert_items(change.items)
            if change.segments is not None and change.segments.num_rows:
                self._insert_table("segments", SEGMENT_COLUMNS, change.segments)
            for item_id, state in change.touched.items():
                self._connection.execute(
                    "UPDATE items SET size_bytes = ?, mtime_ns = ?, sidecar_mtime_ns = ? WHERE item_id = ?",
                    [state.size_bytes, state.mtime_ns, state.sidecar_mtime_ns, item_id],
                )
            self._replace_failures(change)
            for modality, name, n in change.vector_files:
                self._connection.execute("INSERT INTO vector_files VALUES (?, ?, ?)", [modality.value, name, n])
            self._counters["generation"] += 1
            self._save_counters()
            self._connection.commit()
        except duckdb.Error as error:
            self._connection.rollback()
            self._counters = counters
            raise StoreError(f"the catalog refused a change: {str(error).splitlines()[0]}") from error
        return self.generation

    def replace_vector_files(
        self, modality: Modality, names: Sequence[str], merged: tuple[str, int] | None, first_id: int
    ) -> int:
        """Swap `names`, all vectors from `first_id` on, for one merged file of the living (None: there are none).

        Forgets their tombstones; returns the new generation.
        """
        self._connection.begin()
        self._connection.execute(
            "DELETE FROM vector_files WHERE modality = ? AND list_contains(?, name)", [modality.value, list(names)]
        )
        if merged is not None:
            self._connection.execute("INSERT INTO vector_files VALUES (?, ?, ?)", [modality.value, *merged])
        self._connection.execute(
            "DELETE FROM tombstones WHERE modality = ? AND vector_id >= ?", [modality.value, first_id]
        )
        self._counters["generation"] += 1
        self._save_counters()
        self._connection.commit()
        return self.generation

    def live_vector_ids(self, modality: Modality) -> Any:
        """Vector ids of a modality that a segment refers to: int64 (n,), ascending."""
        query = "SELECT DISTINCT vector_id FROM segments WHERE modality = ? ORDER BY vector_id"
        return self._connection.execute(query, [modality.value]).fetchnumpy()["vector_id"]

    def items_table(self) -> pa.Table:
        """All items, as the snapshot holds them."""
        return self._connection.sql(f"SELECT {ITEM_COLUMNS} FROM items ORDER BY item_id").to_arrow_table()

    def segments_table(self) -> pa.Table:
        """All segments, as the snapshot holds them."""
        query = f"SELECT {SEGMENT_COLUMNS} FROM segments ORDER BY segment_id"
        return self._connection.sql(query).to_arrow_table()

    def failures_table(self) -> pa.Table:
        """All failures, as the snapshot holds them."""
        query = f"SELECT {FAILURE_COLUMNS} FROM failures ORDER BY collection_id, rel_path"
        return self._connection.sql(query).to_arrow_table()

    def items(self) -> list[Item]:
        """All items, by id."""
        roots = self.collections()
        rows = self._connection.execute(f"SELECT {ITEM_COLUMNS} FROM items ORDER BY item_id").fetchall()
        return [Item(row[0], roots[row[1]], row[2], Modality(row[3]), *row[4:]) for row in rows]

    def _drop_items(self, item_ids: Sequence[int]) -> None:
        if not item_ids:
            return
        ids = list(item_ids)
        self._connection.execute(
            """INSERT INTO tombstones
               SELECT DISTINCT modality, vector_id FROM segments AS gone WHERE list_contains(?, item_id)
               AND NOT EXISTS (SELECT 1 FROM segments AS kept WHERE kept.vector_id = gone.vector_id
                               AND kept.modality = gone.modality AND NOT list_contains(?, kept.item_id))""",
            [ids, ids],
        )
        self._connection.execute("DELETE FROM segments WHERE list_contains(?, item_id)", [ids])
        self._connection.execute("DELETE FROM items WHERE list_contains(?, item_id)", [ids])

    def _insert_items(self, items: Sequence[NewItem]) -> None:
        if not items:
            return
        import pyarrow as pa

        rows = [
            {
                "item_id": item.item_id,
                "collection_id": item.collection_id,
                "rel_path": item.rel_path,
                "modality": item.modality.value,
                "size_bytes": item.state.size_bytes,
                "mtime_ns": item.state.mtime_ns,
                "sidecar_mtime_ns": item.state.sidecar_mtime_ns,
                "content_hash": item.content_hash,
                "fingerprint": item.fingerprint,
            }
            for item in items
        ]
        self._insert_table("items", ", ".join(rows[0]), pa.Table.from_pylist(rows))

    def _insert_table(self, name: str, columns: str, table: pa.Table) -> None:
        self._connection.register("incoming", table)
        try:
            self._connection.execute(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM incoming")
        finally:
            self._connection.unregister("incoming")

    def _replace_failures(self, change: Change) -> None:
        failed = [(failure.collection_id, failure.rel_path) for failure in change.failures]
        for collection_id, rel_path in [*failed, *change.forgotten_failures]:
            self._connection.execute(
                "DELETE FROM failures WHERE collection_id = ? AND rel_path = ?", [collection_id, rel_path]
            )
        for failure in change.failures:
            state = failure.state
            self._connection.execute(
                "INSERT INTO failures (collection_id, rel_path, reason, size_bytes, mtime_ns, sidecar_mtime_ns) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                [
                    failure.collection_id,
                    failure.rel_path,
                    failure.reason,
                    state.size_bytes,
                    state.mtime_ns,
                    state.sidecar_mtime_ns,
                ],
            )

    def _save_counters(self) -> None:
        for name, value in self._counters.items():
            self._connection.execute("UPDATE counters SET value = ? WHERE name = ?", [value, name])
