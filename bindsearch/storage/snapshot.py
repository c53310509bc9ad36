"""Snapshots for readers: items, segments and failures of one generation as memory-mapped Arrow files.

A base and its deltas are in `snapshots/<generation>/`. The file CURRENT names the parts of the newest generation and is
replaced atomically, so readers see complete batches only and never wait. Snapshots are derived from the catalog and
can be rebuilt.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bindsearch.arguments import name_forms
from bindsearch.errors import SnapshotDamagedError
from bindsearch.storage.snapshot_checks import REMEDY, Checks
from bindsearch.storage.snapshot_format import (
    CURRENT,
    ITEM_COLUMNS,
    SEGMENT_COLUMNS,
    SNAPSHOTS,
    Manifest,
    Part,
    open_class_columns,
    open_failures,
    open_part,
    read_manifest,
)
from bindsearch.types import Item, Modality, Segment

if TYPE_CHECKING:
    import pyarrow as pa

    from bindsearch.storage.class_columns import StoredColumns

__all__ = ["CURRENT", "SNAPSHOTS", "Manifest", "SegmentFacts", "Snapshot", "open_snapshot", "read_manifest"]


def open_snapshot(store: Path, manifest: Manifest, checks: Checks | None = None) -> Snapshot:
    """Map the files of a generation, and compare them with their digests.

    Args:
        store: Folder of the store.
        manifest: Content of CURRENT.
        checks: Receives the checks, which may not be done yet; None: wait for them.

    Raises:
        SnapshotDamagedError: a file is missing or damaged.
        StoreError: a file cannot be read now.
    """
    if checks is None:
        with Checks() as checks:
            return open_snapshot(store, manifest, checks)
    digests = manifest.part_digests
    parts = tuple(open_part(store, number, digests.get(number), checks) for number in manifest.parts)
    number = manifest.failures
    failures = None if number is None else open_failures(store, number, digests.get(number), checks)
    number = manifest.class_columns
    columns = None if number is None else open_class_columns(store, number, digests.get(number), checks)
    return Snapshot(manifest, parts, failures, columns)


class SegmentFacts(NamedTuple):
    """Metadata of a hit: its segment and item.

    Attributes:
        item_id: Id of the item.
        file: Absolute path of the file, as text.
        collection: Root folder of the item's collection.
        modality: Modality of the segment.
        start_s: Start in seconds; None if the segment is not a span of time.
        end_s: End in seconds, likewise.
        text: The passage of a text segment; None for other modalities.
    """

    item_id: int
    file: str
    collection: Path
    modality: Modality
    start_s: float | None
    end_s: float | None
    text: str | None

    @property
    def path(self) -> Path:
        """Absolute path of the file."""
        return Path(self.file)


class PartitionSegments(NamedTuple):
    """Live segments of one modality.

    Attributes:
        vector_ids: int64 (m,), ascending.
        segment_rows: Row of each segment in the snapshot: int64 (m,).
    """

    vector_ids: NDArray[np.int64]
    segment_rows: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One generation, as readers see it; thread-safe.

    Rows of items and segments are numbered through all parts. They include dead rows (replaced or removed by a later
    part), so nothing is copied or filtered when a snapshot is opened.

    Attributes:
        manifest: Content of CURRENT.
        parts: The base and its deltas, in order.
        failures: Files that could not be indexed; None if there are none.
        class_columns: Columns of classes; None if there are none.
    """

    manifest: Manifest
    parts: tuple[Part, ...]
    failures: pa.Table | None
    class_columns: StoredColumns | None = None

    @cached_property
    def items(self) -> pa.Table:
        """All items, dead ones included, by item_id within each part; a view of the files."""
        import pyarrow as pa

        return pa.Table.from_batches([part.items for part in self.parts]).select(list(ITEM_COLUMNS))

    @cached_property
    def segments(self) -> pa.Table:
        """All segments, dead ones included, by (modality, vector_id) within each part; a view of the files."""
        import pyarrow as pa

        return pa.Table.from_batches([part.segments for part in self.parts]).select(list(SEGMENT_COLUMNS))

    @cached_property
    def item_alive(self) -> NDArray[np.bool_] | None:
        """True for live rows of `items`: bool (n items,); None if all are live."""
        return _alive_mask(self._item_starts[-1], self._dead[0])

    @cached_property
    def segment_alive(self) -> NDArray[np.bool_] | None:
        """True for live rows of `segments`: bool (n segments,); None if all are live."""
        return _alive_mask(self._segment_starts[-1], self._dead[1])

    def partition_segments(self, modality: Modality) -> PartitionSegments:
        """Return the live segments of a modality; with one part and no dead rows, the vector ids are a view."""
        ids, rows = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for part, first in zip(self.parts, self._segment_starts, strict=False):
            start, end = part.ranges.get(modality, (0, 0))
            part_rows = np.arange(first + start, first + end, dtype=np.int64)
            part_ids = part.vector_ids[start:end]
            if self.segment_alive is not None:
                alive = self.segment_alive[first + start : first + end]
                part_rows, part_ids = (part_rows, part_ids) if alive.all() else (part_rows[alive], part_ids[alive])
            if len(part_ids):
                ids.append(part_ids)
                rows.append(part_rows)
        if len(ids) <= 2:
            return PartitionSegments(ids[-1], rows[-1])
        vector_ids, segment_rows = np.concatenate(ids), np.concatenate(rows)
        if np.any(vector_ids[1:] < vector_ids[:-1]):  # a later part repeats items whose files were only touched
            order = np.argsort(vector_ids, kind="stable")
            vector_ids, segment_rows = vector_ids[order], segment_rows[order]
        return PartitionSegments(vector_ids, segment_rows)

    def facts(self, segment_rows: NDArray[np.int64]) -> list[SegmentFacts]:
        """Return the metadata of these segments: rows int64 (m,).

        Raises:
            SnapshotDamagedError: the parts contradict CURRENT or hold texts that are not UTF-8, though digests fit.
        """
        found = []
        try:
            for row in segment_rows.tolist():
                number = bisect_right(self._segment_bounds, row) - 1 if len(self.parts) > 1 else 0
                part = self.parts[number]
                row -= self._segment_bounds[number]
                item = part.item_of_segments[row]
                key = part.collection_ids[item]
                firsts, blocks = part.blocks
                modality, (starts, ends, texts) = blocks[bisect_right(firsts, row) - 1]
                found.append(
                    SegmentFacts(
                        int(part.item_ids[item]),
                        self._prefixes[key] + part.rel_paths[item].as_py(),
                        self._roots[key],
                        modality,
                        None if starts is None else starts[row].as_py(),
                        None if ends is None else ends[row].as_py(),
                        None if texts is None else texts[row].as_py(),
                    )
                )
        except (LookupError, ValueError) as error:
            raise SnapshotDamagedError(f"the snapshot contradicts itself ({error}): {REMEDY}") from error
        return found

    @cached_property
    def segment_items(self) -> NDArray[np.int64]:
        """item_id of each segment, dead ones included: int64 (n segments,); with one part, a view of its file."""
        if len(self.parts) == 1:
            return self.parts[0].segment_items
        return np.concatenate([part.segment_items for part in self.parts])

    def item_rows(self, item_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the live row of each item: int64 (m,), -1 if there is no such item."""
        out = np.full(len(item_ids), -1, np.int64)
        for part, first in zip(self.parts, self._item_starts, strict=False):
            rows = part.item_rows(item_ids)
            rows[rows >= 0] += first
            if self.item_alive is not None:
                rows[~self.item_alive[rows]] = -1
            out = np.maximum(out, rows)
        return out

    def segments_of(self, item_id: int) -> NDArray[np.int64]:
        """Return the live rows of an item's segments: int64 (m,), ascending; empty if there is no such item."""
        row = int(self.item_rows(np.array([item_id]))[0])
        if row < 0:
            return np.zeros(0, np.int64)
        number = int(np.searchsorted(self._item_starts, row, side="right")) - 1
        rows = np.sort(self.parts[number].segments_of(np.array([item_id])))
        return rows + np.int64(self._segment_bounds[number])

    @cached_property
    def item_of_segment_rows(self) -> NDArray[np.int64]:
        """Row in `items` of each segment, dead ones included: int64 (n segments,); of one part, a view of its file."""
        if len(self.parts) == 1:
            return self.parts[0].item_of_segments
        pairs = zip(self.parts, self._item_starts, strict=False)
        return np.concatenate([part.item_of_segments + first for part, first in pairs])

    def live_tables(self) -> tuple[pa.Table, pa.Table]:
        """Return items and segments without dead rows."""
        import pyarrow as pa

        items, segments = self.items, self.segments
        if self.item_alive is not None:
            items = items.filter(pa.array(self.item_alive))
        if self.segment_alive is not None:
            segments = segments.filter(pa.array(self.segment_alive))
        return items, segments

    def class_keys(self, modality: Modality | None) -> NDArray[np.int64]:
        """Return the vector that the class of each item is stored under: int64 (n items,), -1 for none.

        Args:
            modality: Modality of the segments that are classified; None: that of each item.
        """
        from bindsearch.storage.class_columns import first_vectors  # most stores have no such columns

        return first_vectors(self.items, self.segments, self.item_of_segment_rows, modality)

    def item(self, item_id: int) -> Item | None:
        """Return the item with this id; None if there is none."""
        row = int(self.item_rows(np.array([item_id]))[0])
        return None if row < 0 else self._item_at(row)

    def item_at_path(self, path: Path) -> Item | None:
        """Return the item with this absolute path, in any form of its name; None if there is none."""
        forms, collections = map(Path, name_forms(str(path))), self.manifest.collections.items()
        for form, (collection_id, root) in itertools.product(forms, collections):
            if form.is_relative_to(root):
                rel_path = form.relative_to(root).as_posix()
                same_path = self._live_items_with("rel_path", rel_path)
                same_root = self._live_items_with("collection_id", collection_id)
                for row in np.intersect1d(same_path, same_root, assume_unique=True).tolist():
                    return self._item_at(row)
        return None

    def items_with_content(self, hashes: Sequence[str]) -> NDArray[np.int64]:
        """Return the ids of items with one of these content hashes: int64 (m,)."""
        rows_of_hashes = [self._live_items_with("content_hash", content_hash) for content_hash in hashes]
        rows = np.unique(np.concatenate([np.zeros(0, np.int64), *rows_of_hashes]))
        return np.asarray(self.items.column("item_id").to_numpy()[rows])

    def counts(self, table: str) -> dict[Modality, int]:
        """Return the number of live "items" or "segments" by modality, without modalities that have none."""
        if table == "segments":
            counts = {modality: len(self.partition_segments(modality).segment_rows) for modality in Modality}
        else:
            rows = self.live_tables()[0].group_by("modality").aggregate([([], "count_all")]).to_pylist()
            by_name = {row["modality"]: int(row["count_all"]) for row in rows}
            counts = {modality: by_name.get(modality.value, 0) for modality in Modality}
        return {modality: n for modality, n in counts.items() if n}

    def segment(self, row: int) -> Segment:
        """Return the segment in a row of `segments`."""
        values = self.segments.slice(row, 1).to_pylist()[0]
        return Segment(**{**values, "modality": Modality(values["modality"])})

    @cached_property
    def _item_starts(self) -> NDArray[np.int64]:
        return np.cumsum([0, *(part.items.num_rows for part in self.parts)], dtype=np.int64)

    @cached_property
    def _segment_starts(self) -> NDArray[np.int64]:
        return np.cumsum([0, *(part.segments.num_rows for part in self.parts)], dtype=np.int64)

    @cached_property
    def _segment_bounds(self) -> list[int]:
        return list(self._segment_starts.tolist())

    @cached_property
    def _roots(self) -> dict[int, Path]:
        return {key: Path(root) for key, root in self.manifest.collections.items()}

    @cached_property
    def roots(self) -> tuple[Path, ...]:
        """Root folder of each collection."""
        return tuple(self._roots.values())

    @cached_property
    def _prefixes(self) -> dict[int, str]:
        return {key: f"{str(root).rstrip('/')}/" for key, root in self._roots.items()}

    @cached_property
    def _dead(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Dead rows of items and of segments, by the ids that later parts remove; without any, nothing is read."""
        items, segments = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        later = np.zeros(0, np.int64)
        for number in reversed(range(len(self.parts))):
            part = self.parts[number]
            if len(later):
                rows = part.item_rows(later)
                items.append(rows[rows >= 0] + self._item_starts[number])
                segments.append(part.segments_of(later) + self._segment_starts[number])
            if len(part.removed):
                later = np.union1d(later, part.removed)
        return np.concatenate(items), np.concatenate(segments)

    def _live_items_with(self, column: str, value: str | int) -> NDArray[np.int64]:
        """Return the rows of live items with this value in a column: int64 (m,), ascending."""
        import pyarrow as pa
        from pyarrow._compute import call_function  # pyarrow.compute makes 280 functions when it is imported: 30 ms

        mask = call_function("equal", [self.items.column(column), pa.scalar(value)])
        rows = np.flatnonzero(mask.to_numpy())
        return rows if self.item_alive is None else rows[self.item_alive[rows]]

    def _item_at(self, row: int) -> Item:
        values = self.items.slice(row, 1).to_pylist()[0]
        shown = {name: values[name] for name in ("item_id", "rel_path", "size_bytes", "mtime_ns", "content_hash")}
        return Item(collection=self._roots[values["collection_id"]], modality=Modality(values["modality"]), **shown)


def _alive_mask(n: int, dead: NDArray[np.int64]) -> NDArray[np.bool_] | None:
    if not len(dead):
        return None
    alive = np.ones(n, np.bool_)
    alive[dead] = False
    return alive
