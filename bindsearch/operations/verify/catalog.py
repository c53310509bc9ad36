"""A catalog that is looked through for what must not be in it, and mended: no reader or writer needs this."""

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
"""State of items that have lost their vectors, until they are embedded anew."""

TO_EMBED = f"{EMPTY} WHERE {WAITING}"
WITHOUT_SEGMENTS = f"{EMPTY} WHERE NOT ({WAITING})"
WITHOUT_COLLECTION = "SELECT item_id FROM items ANTI JOIN collections USING (collection_id)"
WITHOUT_ITEM = "SELECT segment_id FROM segments ANTI JOIN items USING (item_id)"
ONE_ID_TWICE = "SELECT item_id FROM items GROUP BY item_id HAVING count(*) > 1"
ONE_PLACE_TWICE = (
    "SELECT item_id FROM items "
    "QUALIFY row_number() OVER (PARTITION BY collection_id, rel_path ORDER BY item_id DESC) > 1"
)
"""The older ones of the items of one place."""

USED_IDS = {
    "collection_id": "SELECT max(collection_id) FROM collections",
    "item_id": "SELECT max(item_id) FROM items",
    "segment_id": "SELECT max(segment_id) FROM segments",
    "vector_id": "SELECT greatest((SELECT max(vector_id) FROM segments), "
    "(SELECT max(CAST(split_part(name, '-', 1) AS BIGINT) + n - 1) FROM vector_files))",
}


@dataclass(frozen=True, slots=True)
class RowSample:
    """Count of the rows of a kind, and their first ids."""

    count: int
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class IntegrityReport:
    """Faults of a catalog. `counters`: the next id that each would hand out, and the largest in use."""

    to_embed: RowSample
    without_segments: RowSample
    without_collection: RowSample
    without_item: RowSample
    one_id_twice: RowSample
    one_place_twice: RowSample
    counters: Mapping[str, tuple[int, int]] = field(default_factory=dict)


class CheckedCatalog(Catalog):
    """A catalog that can tell what is wrong with it. The caller holds the writer's lock."""

    def check_integrity(self) -> IntegrityReport:
        """Read all of it and say what is wrong.

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
        """Digest of each vector file, by modality and name; those written before there were any are left out."""
        query = "SELECT modality, name, digest FROM vector_files WHERE digest <> ''"
        rows = self._connection.execute(query).fetchall()
        return {(Modality(modality), name): digest for modality, name, digest in rows}

    def counts(self) -> tuple[int, int]:
        """Number of items and of segments."""
        row = self._connection.execute(
            "SELECT (SELECT count(*) FROM items), (SELECT count(*) FROM segments)"
        ).fetchone()
        assert row is not None
        return int(row[0]), int(row[1])

    def repair(self) -> None:
        """Leave nothing of what `check_integrity` finds but items to embed anew. A new generation."""
        with self._transaction():
            for query in (ONE_ID_TWICE, ONE_PLACE_TWICE, WITHOUT_COLLECTION):
                self._drop_items([row[0] for row in self._connection.execute(query).fetchall()])
            self._connection.execute("DELETE FROM segments WHERE item_id NOT IN (SELECT item_id FROM items)")
            self._forget_segments(self._connection.sql(WITHOUT_SEGMENTS).to_arrow_table())
            for name, (_, used) in self._low_counters().items():
                self._counters[name] = used + 1

    def forget_vectors(self, modality: Modality, vector_ids: NDArray[np.int64]) -> None:
        """Give up vectors that no file holds; items that had one will be embedded anew. A new generation."""
        import pyarrow as pa

        with self._transaction():
            with self._incoming(pa.table({"vector_id": pa.array(vector_ids, pa.int64())})):
                found = self._connection.sql(
                    "SELECT DISTINCT item_id FROM segments SEMI JOIN incoming USING (vector_id) WHERE modality = $name",
                    params={"name": modality.value},
                ).to_arrow_table()
            self._forget_segments(found)

    def raise_generation(self, generation: int) -> None:
        """Count on from a generation that readers have seen."""
        with self._transaction():
            self._counters["generation"] = max(self._counters["generation"], generation)

    def _rows(self, query: str) -> RowSample:
        ((count,),) = self._connection.execute(f"WITH found AS ({query}) SELECT count(*) FROM found").fetchall()
        ids = self._connection.execute(f"{query} ORDER BY 1 LIMIT {MAX_EXAMPLES}").fetchall()
        return RowSample(int(count), tuple(int(row[0]) for row in ids))

    def _low_counters(self) -> dict[str, tuple[int, int]]:
        low = {}
        for name, query in USED_IDS.items():
            row = self._connection.execute(query).fetchone()
            used = -1 if row is None or row[0] is None else int(row[0])
            if self._counters[name] <= used:
                low[name] = (self._counters[name], used)
        return low
