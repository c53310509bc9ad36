"""Committing a batch: vector files, one catalog transaction (the commit point), the snapshot, then CURRENT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.catalog import Catalog, Change, Failure, FileState, NewItem
from bindsearch.errors import StoreError
from bindsearch.files import TEMPORARY_SUFFIX
from bindsearch.items import Modality
from bindsearch.snapshot import (
    SNAPSHOTS,
    Manifest,
    open_snapshot,
    read_manifest,
    remove_unused_parts,
    write_manifest,
    write_part,
)
from bindsearch.vectors import VECTORS, check_vectors, open_vectors, write_vectors

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

MAX_PARTS = 32
"""Snapshot parts beyond which a new base is written, so that opening a generation stays a matter of milliseconds."""

MAX_SMALL_FILES = 32
"""Small vector files of a modality beyond which they are merged into one."""

SMALL_FILE_VECTORS = 65536

END_OF_IDS = 2**62

KEPT_GENERATIONS = 2
"""Unused snapshot folders this young stay, for readers that have read CURRENT and not yet opened its files."""


@dataclass(frozen=True, slots=True)
class StagedSegment:
    """A segment with its embedding float32 (d,)."""

    modality: Modality
    embedding: NDArray[np.float32]
    start_s: float | None
    end_s: float | None
    text: str | None


@dataclass(frozen=True, slots=True)
class StagedItem:
    """A file ready to be committed; `item_id` is that of the item it replaces, None for a new one."""

    item_id: int | None
    collection_id: int
    rel_path: str
    modality: Modality
    state: FileState
    content_hash: str
    fingerprint: str
    segments: tuple[StagedSegment, ...]


@dataclass
class StagedBatch:
    """What the next commit holds."""

    items: list[StagedItem] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)
    touched: dict[int, FileState] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    forgotten_failures: list[tuple[int, str]] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to commit."""
        return not (self.items or self.removed or self.touched or self.failures or self.forgotten_failures)


class Writer:
    """Writes batches into a store whose lock the caller holds. Use it from one thread at a time."""

    def __init__(self, store: Path, catalog: Catalog, dim: int) -> None:
        """Recover from whatever the last writer left: give up lost vector files, rebuild a stale snapshot, and only
        then, when no reader is sent to them any more, remove files nobody refers to."""
        self._store = store
        self._catalog = catalog
        self._dim = dim
        self._forget_lost_files()
        try:
            manifest = read_manifest(store)
        except StoreError:
            manifest = None
        if manifest is None or manifest.generation != catalog.generation or not self._parts_exist(manifest):
            manifest = self._write_base()
        self._manifest = manifest
        self._remove_orphans()

    def commit(self, batch: StagedBatch) -> None:
        """Commit a batch; when this returns it is durable and every reader that looks sees it.

        Raises:
            VectorError: an embedding is not finite, not of unit length or of the wrong size; nothing is committed.
        """
        change = self._write_vector_files(batch)
        generation = self._catalog.commit(change)
        self._publish_delta(generation, change)
        for modality in {modality for modality, _, _ in change.vector_files}:
            self._merge_small_files(modality)

    def _write_vector_files(self, batch: StagedBatch) -> Change:
        segments = [(item, segment) for item in batch.items for segment in item.segments]
        item_ids = self._item_ids(batch.items)
        by_modality: dict[Modality, list[int]] = {}
        for position, (_, segment) in enumerate(segments):
            by_modality.setdefault(segment.modality, []).append(position)
        vector_ids = np.zeros(len(segments), np.int64)
        files = []
        for modality, positions in by_modality.items():
            embeddings = np.stack([segments[position][1].embedding for position in positions])
            check_vectors(embeddings, self._dim)
            first = self._catalog.take_ids("vector_id", len(positions))
            ids = np.arange(first, first + len(positions), dtype=np.int64)
            vector_ids[positions] = ids
            name = f"{first:012d}-{self._catalog.generation + 1:08d}.arrow"
            write_vectors(self._vector_folder(modality) / name, ids, embeddings)
            files.append((modality, name, len(positions)))
        new_items = [
            NewItem(
                item_id=item_ids[position],
                collection_id=item.collection_id,
                rel_path=item.rel_path,
                modality=item.modality,
                state=item.state,
                content_hash=item.content_hash,
                fingerprint=item.fingerprint,
            )
            for position, item in enumerate(batch.items)
        ]
        owners = np.repeat(np.array(item_ids, np.int64), [len(item.segments) for item in batch.items])
        first_segment = self._catalog.take_ids("segment_id", len(segments))
        return Change(
            items=new_items,
            segments=_segments_table(first_segment, owners, vector_ids, [segment for _, segment in segments]),
            removed=batch.removed,
            touched=batch.touched,
            failures=batch.failures,
            forgotten_failures=batch.forgotten_failures,
            vector_files=files,
        )

    def _item_ids(self, items: Sequence[StagedItem]) -> list[int]:
        first = self._catalog.take_ids("item_id", sum(item.item_id is None for item in items))
        fresh = iter(range(first, first + len(items)))
        return [next(fresh) if item.item_id is None else item.item_id for item in items]

    def _publish_delta(self, generation: int, change: Change) -> None:
        """Make a committed change visible: a delta, or a new base where parts are too many.

        The file states of touched items reach the snapshot with the next base: readers have no use for them.
        """
        if len(self._manifest.parts) >= MAX_PARTS:
            self._manifest = self._write_base()
            return
        removed = [*change.removed, *(item.item_id for item in change.items)]
        failures_changed = bool(change.failures or change.forgotten_failures)
        failures = self._catalog.failures_table() if failures_changed else None
        segments = change.segments
        assert segments is not None  # every batch has a table of them, if an empty one
        write_part(self._store, generation, _items_table(change.items), segments, removed, failures)
        self._publish(
            Manifest(
                generation=generation,
                parts=(*self._manifest.parts, generation),
                collections={key: str(root) for key, root in self._catalog.collections().items()},
                vectors=self._vectors(),
                failures=generation if failures_changed else self._manifest.failures,
            )
        )

    def _write_base(self) -> Manifest:
        generation = self._catalog.generation
        failures = self._catalog.failures_table()
        has_failures = failures.num_rows > 0
        items, segments = self._catalog.items_table(), self._catalog.segments_table()
        write_part(self._store, generation, items, segments, (), failures if has_failures else None)
        self._publish(
            Manifest(
                generation=generation,
                parts=(generation,),
                collections={key: str(root) for key, root in self._catalog.collections().items()},
                vectors=self._vectors(),
                failures=generation if has_failures else None,
            )
        )
        return self._manifest

    def _publish(self, manifest: Manifest) -> None:
        write_manifest(self._store, manifest)
        self._manifest = manifest
        remove_unused_parts(self._store, manifest, manifest.generation - KEPT_GENERATIONS)

    def _vectors(self) -> Mapping[Modality, tuple[tuple[str, int], ...]]:
        return {modality: tuple(files) for modality, files in self._catalog.vector_files().items()}

    def _merge_small_files(self, modality: Modality) -> None:
        """Merge the newest small files of a modality, without their dead rows. Older, larger ones stay as they are."""
        files = self._catalog.vector_files()[modality]
        small = len(files)
        while small and files[small - 1][1] < SMALL_FILE_VECTORS:
            small -= 1
        names = [name for name, _ in files[small:]]
        if len(names) <= MAX_SMALL_FILES:
            return
        folder = self._vector_folder(modality)
        opened = [open_vectors(folder / name, self._dim) for name in names]
        ids = np.concatenate([file.vector_ids for file in opened])
        alive = np.isin(ids, self._catalog.live_vector_ids(modality))
        merged = None
        if alive.any():
            rows = np.concatenate([file.embeddings for file in opened])
            name = f"{ids[alive][0]:012d}-{self._catalog.generation + 1:08d}.arrow"
            write_vectors(folder / name, ids[alive], rows[alive])
            merged = (name, int(alive.sum()))
        self._catalog.replace_vector_files(modality, names, merged)
        self._manifest = self._write_base()
        for name in names:
            (folder / name).unlink(missing_ok=True)

    def _vector_folder(self, modality: Modality) -> Path:
        folder = self._store / VECTORS / modality
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _forget_lost_files(self) -> None:
        """Vector files that are missing or damaged: their items will be embedded again."""
        for modality, files in self._catalog.vector_files().items():
            firsts = [int(name.split("-")[0]) for name, _ in files]
            for (name, _), first, end in zip(files, firsts, [*firsts[1:], END_OF_IDS], strict=True):
                try:
                    open_vectors(self._vector_folder(modality) / name, self._dim)
                except StoreError:
                    self._catalog.forget_lost_vectors(modality, name, first, end)

    def _remove_orphans(self) -> None:
        known = self._catalog.vector_files()
        for modality in Modality:
            names = {name for name, _ in known.get(modality, [])}
            for path in (self._store / VECTORS / modality).glob("*"):
                if path.name not in names:
                    path.unlink(missing_ok=True)
        for path in (self._store / SNAPSHOTS).glob(f"*/.*{TEMPORARY_SUFFIX}"):
            path.unlink(missing_ok=True)

    def _parts_exist(self, manifest: Manifest) -> bool:
        try:
            open_snapshot(self._store, manifest)
        except StoreError:
            return False
        return True


def _segments_table(
    first_id: int, owners: NDArray[np.int64], vector_ids: NDArray[np.int64], segments: Sequence[StagedSegment]
) -> pa.Table:
    import pyarrow as pa

    return pa.table(
        {
            "segment_id": pa.array(np.arange(first_id, first_id + len(segments), dtype=np.int64)),
            "item_id": pa.array(owners, pa.int64()),
            "modality": pa.array([segment.modality.value for segment in segments], pa.string()),
            "vector_id": pa.array(vector_ids, pa.int64()),
            "start_s": pa.array([segment.start_s for segment in segments], pa.float64()),
            "end_s": pa.array([segment.end_s for segment in segments], pa.float64()),
            "text": pa.array([segment.text for segment in segments], pa.string()),
        }
    )


def _items_table(items: Sequence[NewItem]) -> pa.Table:
    import pyarrow as pa

    return pa.table(
        {
            "item_id": pa.array([item.item_id for item in items], pa.int64()),
            "collection_id": pa.array([item.collection_id for item in items], pa.int64()),
            "rel_path": pa.array([item.rel_path for item in items], pa.string()),
            "modality": pa.array([item.modality.value for item in items], pa.string()),
            "size_bytes": pa.array([item.state.size_bytes for item in items], pa.int64()),
            "mtime_ns": pa.array([item.state.mtime_ns for item in items], pa.int64()),
            "content_hash": pa.array([item.content_hash for item in items], pa.string()),
        }
    )
