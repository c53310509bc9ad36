"""Integrity check and repair of the catalog; readers and writers do not need it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bindsearch.errors import StoreError
from bindsearch.operations.verify.findings import MAX_EXAMPLES
from bindsearch.storage.catalog import Catalog
from bindsearch.storage.file_state import UNKNOWN_STATE
from bindsearch.types import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TABLES = ("collections", "items", "segments", "vector_files", "failures", "containers", "counters")

EMPTY = "SELECT item_id FROM items ANTI JOIN segments USING (item_id)"
WAITING = f"fingerprint = '' AND size_bytes = {UNKNOWN_STATE.size_bytes}"
"""Condition of items that have lost their vectors and are not embedded again yet."""

TO_EMBED = f"{EMPTY} WHERE {WAITING}"
WITHOUT_SEGMENTS = f"{EMPTY} WHERE NOT ({WAITING})"
WITHOUT_COLLECTION = "SELECT item_id FROM items ANTI JOIN collections USING (collection_id)"
WITHOUT_ITEM = "SELECT segment_id FROM segments ANTI JOIN items USING (item_id)"
ONE_ID_TWICE = "SELECT item_id FROM items GROUP BY item_id HAVING count(*) > 1"
ONE_PLACE_TWICE = (
    "SELECT item_id FROM items "
    "QUALIFY row_number() OVER (PARTITION BY collection_id, rel_path ORDER BY item_id DESC) > 1"
)
"""Items with the same path as a newer item."""

USED_IDS = {
    "collection_id": "SELECT max(collection_id) FROM collections",
    "item_id": "SELECT max(item_id) FROM items",
    "segment_id": "SELECT max(segment_id) FROM segments",
    "vector_id": "SELECT greatest((SELECT max(vector_id) FROM segments), "
    "(SELECT max(CAST(split_part(name, '-', 1) AS BIGINT) + n - 1) FROM vector_files))",
}


@dataclass(frozen=True, slots=True)
class RowSample:
    """Rows with a fault.

    Attributes:
        count: Number of the rows.
        ids: Ids of the first ones, at most MAX_EXAMPLES.
    """

    count: int
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class IntegrityReport:
    """Faults of a catalog.

    Attributes:
        to_embed: Items that have lost their vectors and must be embedded again.
        without_segments: Other items without segments.
        without_collection: Items whose collection is missing.
        without_item: Segments whose item is missing.
        one_id_twice: Item ids that are used more than once.
        one_place_twice: Items with the same path as a newer item.
        counters: Counters that are too low: the next id that each would give, and the largest one in use.
    """

    to_embed: RowSample
    without_segments: RowSample
    without_collection: RowSample
    without_item: RowSample
    one_id_twice: RowSample
    one_place_twice: RowSample
    counters: Mapping[str, tuple[int, int]] = field(default_factory=dict)


class CheckedCatalog(Catalog):
    """Catalog with methods to check and repair it; the caller holds the writer's lock."""

    def check_integrity(self) -> IntegrityReport:
        """Read the whole catalog and return its faults.

        Raises:
            StoreError: a part of the file is damaged.
        """
        import duckdb

        try:
            for table in TABLES:
                self._connection.execute(f"SELECT bit_xor(hash({table})) FROM {table}").fetchone()
            return IntegrityReport(
                self._rows(TO_EMBED),
                self._rows(WITHOUT_SEGMENTS),
                self._rows(WITHOUT_COLLECTION),
                self._rows(WITHOUT_ITEM),
                self._rows(ONE_ID_TWICE),
                self._rows(ONE_PLACE_TWICE),
                self._low_counters(),
            )
        except duckdb.Error as error:
            raise StoreError(f"the catalog cannot be read ({str(error).splitlines()[0]})") from error

    def digests(self) -> dict[tuple[Modality, str], str]:
        """Return the digest of each vector file, by modality and name.

        Files written by versions without digests are left out.
        """
        query = "SELECT modality, name, digest FROM vector_files WHERE digest <> ''"
        rows = self._connection.execute(query).fetchall()
        return {(Modality(modality), name): digest for modality, name, digest in rows}

    def counts(self) -> tuple[int, int]:
        """Return the number of items and of segments."""
        row = self._connection.execute(
            "SELECT (SELECT count(*) FROM items), (SELECT count(*) FROM segments)"
        ).fetchone()
        assert row is not None
        return int(row[0]), int(row[1])

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
        import pyarrow as pa

        with self._transaction():
            with self._incoming(pa.table({"vector_id": pa.array(vector_ids, pa.int64())})):
                items = self._connection.sql(
                    "SELECT DISTINCT item_id FROM segments SEMI JOIN incoming USING (vector_id) WHERE modality = $name",
                    params={"name": modality.value},
                ).to_arrow_table()
            self._forget_segments(items)

    def raise_generation(self, generation: int) -> None:
        """Raise the generation counter to at least a generation that readers have seen."""
        with self._transaction():
            self._counters["generation"] = max(self._counters["generation"], generation)

    def _rows(self, query: str) -> RowSample:
        """Return count and first ids of the rows of a query."""
        ((count,),) = self._connection.execute(f"WITH found AS ({query}) SELECT count(*) FROM found").fetchall()
        ids = self._connection.execute(f"{query} ORDER BY 1 LIMIT {MAX_EXAMPLES}").fetchall()
        return RowSample(int(count), tuple(int(row[0]) for row in ids))

    def _low_counters(self) -> dict[str, tuple[int, int]]:
        """Return the counters that are too low: their next id, and the largest one in use."""
        low = {}
        for name, query in USED_IDS.items():
            row = self._connection.execute(query).fetchone()
            used = -1 if row is None or row[0] is None else int(row[0])
            if self._counters[name] <= used:
                low[name] = (self._counters[name], used)
        return low
