"""Integrity check and repair of the catalog; readers and writers do not need it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from bindsearch.errors import StoreError, first_line
from bindsearch.operations.verify.findings import MAX_EXAMPLES, REPAIR_THEN_INDEX, Finding, FindingKind, Repair, finding
from bindsearch.storage.catalog import ITEMS_TO_EMBED, Catalog
from bindsearch.storage.class_columns import VALUE_COLUMNS
from bindsearch.storage.file_state import UNKNOWN_STATE, state_columns
from bindsearch.storage.snapshot_format import ITEM_COLUMNS, SEGMENT_COLUMNS
from bindsearch.types import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bindsearch.storage.snapshot import Snapshot

TABLES = (
    *("collections", "items", "segments", "vector_files", "failures", "containers", "counters", "replaced_files"),
    *("class_columns", "class_values"),
)

WITHOUT_SEGMENTS = (
    "SELECT item_id FROM items ANTI JOIN segments USING (item_id) "
    f"WHERE NOT (fingerprint = '' AND size_bytes = {UNKNOWN_STATE.size_bytes})"
)
"""Items without segments, except ITEMS_TO_EMBED."""

WITHOUT_COLLECTION = "SELECT item_id FROM items ANTI JOIN collections USING (collection_id)"
ONE_ID_TWICE = "SELECT item_id FROM items GROUP BY item_id HAVING count(*) > 1"
ONE_PLACE_TWICE = (
    "SELECT item_id FROM items "
    "QUALIFY row_number() OVER (PARTITION BY collection_id, rel_path ORDER BY item_id DESC) > 1"
)
"""Items with the same path as a newer item."""

WITHOUT_ITEM = "SELECT segment_id FROM segments ANTI JOIN items USING (item_id)"
LOST_VECTORS = "items have lost their vectors and must be embedded again"

ROW_FAULTS: tuple[tuple[str, FindingKind, Repair, str, str], ...] = (
    (ITEMS_TO_EMBED, FindingKind.ITEMS_TO_EMBED, Repair.INDEX, LOST_VECTORS, ""),
    (WITHOUT_SEGMENTS, FindingKind.ITEMS_WITHOUT_SEGMENTS, Repair.COMPACT, "items have no segments", REPAIR_THEN_INDEX),
    (WITHOUT_COLLECTION, FindingKind.ITEMS_WITHOUT_COLLECTION, Repair.COMPACT, "items belong to no collection", ""),
    (WITHOUT_ITEM, FindingKind.SEGMENTS_WITHOUT_ITEM, Repair.COMPACT, "segments belong to no item", ""),
    (ONE_ID_TWICE, FindingKind.ITEMS_TWICE, Repair.COMPACT, "item ids are used twice", REPAIR_THEN_INDEX),
    (ONE_PLACE_TWICE, FindingKind.ITEMS_TWICE, Repair.COMPACT, "items have the same path as a newer item", ""),
)
"""Faults of rows: the query for their ids, kind, repair, what is said of their number, and a way out of its own."""

USED_IDS = {
    "collection_id": "SELECT max(collection_id) FROM collections",
    "item_id": "SELECT max(item_id) FROM items",
    "segment_id": "SELECT max(segment_id) FROM segments",
    "vector_id": "SELECT greatest((SELECT max(vector_id) FROM segments), "
    "(SELECT max(CAST(split_part(name, '-', 1) AS BIGINT) + n - 1) FROM vector_files))",
}


class TableContent(NamedTuple):
    """Summary of a table: its number of rows, and a hash of all values."""

    rows: int
    hash: int


@contextmanager
def _read_faults() -> Iterator[None]:
    """Convert errors of DuckDB in the block, for which a part of the file is damaged, into StoreError."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        raise StoreError(f"the catalog cannot be read ({first_line(error)})") from error


class CheckedCatalog(Catalog):
    """Catalog with methods to check and repair it; the caller holds the writer's lock."""

    def check_integrity(self) -> list[Finding]:
        """Read the whole catalog and return the findings about its rows and counters.

        Raises:
            StoreError: a part of the file is damaged.
        """
        findings = []
        with _read_faults():
            for table in TABLES:
                self._connection.execute(f"SELECT bit_xor(hash({table})) FROM {table}").fetchone()
            for query, kind, repair, what, way_out in ROW_FAULTS:
                ((count,),) = self._connection.execute(f"WITH found AS ({query}) SELECT count(*) FROM found").fetchall()
                if count:
                    rows = self._connection.execute(f"{query} ORDER BY 1 LIMIT {MAX_EXAMPLES}").fetchall()
                    ids = [int(row[0]) for row in rows]
                    what = f"{count} {what} (the first: {ids[0]})"
                    findings.append(finding(kind, what, repair, ids, count=count, way_out=way_out))
            for name, (value, used) in self._low_counters().items():
                what = f"the next {name} would be {value}, but {used} is in use"
                findings.append(finding(FindingKind.COUNTERS, what, Repair.COMPACT, [name]))
        return findings

    def contents(
        self, items: pa.Table | None = None, segments: pa.Table | None = None, class_values: pa.Table | None = None
    ) -> tuple[TableContent, ...]:
        """Return a summary of the rows of items, segments and values of classes, which differs if one value does.

        Args:
            items: Items to summarize; None: those of the catalog.
            segments: Segments to summarize; None: those of the catalog.
            class_values: Values of the columns of classes to summarize; None: those of the catalog.

        Raises:
            StoreError: a part of the file is damaged.
        """
        summaries = []
        stored = {"items": ITEM_COLUMNS, "segments": SEGMENT_COLUMNS, "class_values": VALUE_COLUMNS}
        for (name, columns), rows in zip(stored.items(), (items, segments, class_values), strict=True):
            with nullcontext() if rows is None else self._incoming(rows):
                source = name if rows is None else "incoming"
                names = ", ".join(f'"{column}"' for column in columns)
                query = f"SELECT count(*), coalesce(bit_xor(hash({names})), 0) FROM {source}"
                with _read_faults():
                    (found,) = self._connection.execute(query).fetchall()
                summaries.append(TableContent(int(found[0]), int(found[1])))
        return tuple(summaries)

    def restore(
        self, snapshot: Snapshot, vector_files: Iterable[tuple[Modality, str, int, str]], next_vector_id: int
    ) -> None:
        """Fill an empty catalog from a snapshot, whose generation becomes the catalog's.

        Items lack what a snapshot does not hold: the next run looks at their files again, and keeps their vectors.
        Failed files are tried again, and archives and manifests read again.

        Args:
            snapshot: The snapshot.
            vector_files: Modality, name, row count and digest of each vector file.
            next_vector_id: A vector id above all that are in use.
        """
        items, segments = snapshot.live_tables()
        with self._transaction():
            for key, root in snapshot.manifest.collections.items():
                self._connection.execute("INSERT INTO collections VALUES (?, ?)", [key, root])
            for name in ("facts_stamp", "inode"):  # unknown
                items = items.append_column(name, pa.repeat(0, items.num_rows))
            for table, rows in (("items", items), ("segments", segments)):
                if rows.num_rows:
                    self._insert_table(table, rows)
            if snapshot.failures is not None and snapshot.failures.num_rows:
                rows = snapshot.failures.to_pylist()
                self._insert("failures", [{**row, **state_columns(UNKNOWN_STATE)} for row in rows])
            self._put_vector_files(list(vector_files))
            if (classes := snapshot.class_columns) is not None:
                for key, column in classes.columns.items():
                    self._insert("class_columns", [{"column_id": key, "record": json.dumps(column.to_record())}])
                self._insert_table("class_values", classes.values)
            self._counters["generation"] = snapshot.manifest.generation - 1  # the transaction counts as one
            self._counters["vector_id"] = next_vector_id
            for name, (_, used) in self._low_counters().items():
                self._counters[name] = used + 1

    def repair(self) -> None:
        """Repair what `check_integrity` finds, except items to embed again; starts a new generation."""
        with self._transaction():
            for query in (ONE_ID_TWICE, ONE_PLACE_TWICE, WITHOUT_COLLECTION):
                self._drop_items([row[0] for row in self._connection.execute(query).fetchall()])
            self._connection.execute("DELETE FROM segments WHERE item_id NOT IN (SELECT item_id FROM items)")
            self._forget_segments(self._connection.sql(WITHOUT_SEGMENTS).to_arrow_table())
            for name, (_, used) in self._low_counters().items():
                self._counters[name] = used + 1

    def forget_vectors(self, modality: Modality, vector_ids: NDArray[np.int64]) -> None:
        """Discard lost vectors: their items are embedded again by the next `index`; starts a new generation.

        Args:
            modality: Modality of the vectors.
            vector_ids: Ids of vectors that are in no file, int64 (m,).
        """
        with self._transaction():
            with self._incoming(pa.table({"vector_id": pa.array(vector_ids, pa.int64())})):
                lost = (
                    "SELECT DISTINCT item_id FROM segments SEMI JOIN incoming USING (vector_id) WHERE modality = $name"
                )
                items = self._connection.sql(lost, params={"name": modality.value}).to_arrow_table()
            self._forget_segments(items)

    def _low_counters(self) -> dict[str, tuple[int, int]]:
        """Return the counters that are too low: their next id, and the largest one in use."""
        low = {}
        for name, query in USED_IDS.items():
            ((found,),) = self._connection.execute(query).fetchall()
            used = -1 if found is None else int(found)
            if self._counters[name] <= used:
                low[name] = (self._counters[name], used)
        return low
