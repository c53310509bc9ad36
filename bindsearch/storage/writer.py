"""Commits of batches: vector files, one catalog transaction (the commit point), the snapshot, then CURRENT."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bindsearch.atomic import TEMPORARY_SUFFIX, is_there, make_folder
from bindsearch.errors import SnapshotDamagedError, StoreError, VectorFileLostError
from bindsearch.indexes.index_files import INDEXES
from bindsearch.storage.batch import (
    StagedBatch,
    items_table,
    own_segments,
    with_shared_facts,
    with_shared_modalities,
    with_shared_segments,
)
from bindsearch.storage.catalog import Catalog, CatalogTransaction, RowChanges
from bindsearch.storage.catalog_file import LOST, UNKNOWN, keep_aside, torn_log_message
from bindsearch.storage.class_columns import ClassColumn, ClassValues
from bindsearch.storage.snapshot import open_snapshot
from bindsearch.storage.snapshot_format import (
    CURRENT,
    FORMAT,
    SNAPSHOTS,
    Manifest,
    newest_part,
    read_manifest,
    remove_unused_parts,
    write_manifest,
    write_part,
)
from bindsearch.storage.vector_files import (
    VECTORS,
    VectorFileEntry,
    check_dim,
    check_vectors,
    generation_of,
    open_stored_vectors,
    open_vectors,
    vector_files_in,
    write_vectors,
)
from bindsearch.types import Modality

MAX_PARTS = 32
"""Number of snapshot parts above which the newest are merged, so that a generation opens in milliseconds."""

PART_GROWTH = 2
"""A part is merged with the newer parts if it is at most this many times as large as all of them together.

So the number of times that a row is rewritten grows with the logarithm of the total size."""

MAX_SMALL_FILES = 32
"""Number of small vector files of a modality above which they are merged."""

SMALL_FILE_VECTORS = 65_536
"""Number of vectors below which a vector file is small."""

MERGED_FILE_VECTORS = 131_072
"""Maximum number of vectors of a merged file, which a merge holds in memory (268 MB for 1024 dimensions)."""

COMPACT_DEAD_SHARE = 0.2
"""Share of dead rows above which compaction rewrites a vector file."""

END_OF_IDS = 2**62
"""A vector id beyond all others."""

LEFT_OUT = "left_out"
"""Folder of a store with the files that runs left out; see bindsearch/ingest/left_out.py."""

KEPT_GENERATIONS = 2
"""Unused snapshot folders of so many generations are kept, for readers that have read CURRENT but not opened files."""


def log_loss(message: str) -> None:
    """Log that something of a store was lost; the default of `Writer`."""
    logging.getLogger("bindsearch").error("%s", message)


@contextmanager
def collected_losses() -> Iterator[list[str]]:
    """Yield a list for the lines of `tell`; if the block fails, they are logged, because no report will hold them."""
    losses: list[str] = []
    try:
        yield losses
    except BaseException:
        for loss in losses:
            log_loss(loss)
        raise


def check_is_newest(store: Path, catalog: Catalog, manifest: Manifest | None) -> None:
    """Check that a catalog holds all that the snapshot does; `manifest` None: CURRENT is missing or damaged.

    Raises:
        StoreError: it is older, for example from a copy.
    """
    if manifest is not None and manifest.generation > catalog.generation:
        raise StoreError(
            f"the catalog of {store} is at generation {catalog.generation}, older than the snapshot, which is at "
            f"{manifest.generation}: run `bindsearch recover` to rebuild it from the snapshot"
        )
    if manifest is None and (newest := newest_part(store)) > catalog.generation:
        raise StoreError(
            f"{store / CURRENT} cannot be read, and the catalog is at generation {catalog.generation}, older than "
            f"the snapshot {newest}: restore both from a copy, or run `bindsearch recover` to use what the catalog "
            "holds"
        )


def base_manifest(catalog: Catalog, failures: pa.Table | None = None, columns: pa.Table | None = None) -> Manifest:
    """Return the manifest of a base with the content of a catalog, without digests and indexes."""
    generation = catalog.generation
    return Manifest(
        generation=generation,
        parts=(generation,),
        collections={key: str(root) for key, root in catalog.collections().items()},
        vectors={modality: tuple(files) for modality, files in catalog.vector_files().items()},
        failures=generation if failures is not None and failures.num_rows else None,
        class_columns=None if columns is None else generation,
    )


class Writer:
    """The writer of a store whose lock the caller holds; use it from one thread at a time."""

    def __init__(self, store: Path, catalog: Catalog, dim: int, tell: Callable[[str], None] = log_loss) -> None:
        """Recover from an interrupted writer.

        Give up lost vector files, rebuild a stale snapshot, then remove unreferenced files; only then, because after
        that no reader is directed to them. A file is lost if it is missing, or damaged by proof of its digests or
        format. Every other error ends this call, since it says nothing about the file.

        Args:
            store: Folder of the store.
            catalog: Its catalog, open.
            dim: Dimensions of the embedding space, from store.json.
            tell: Called with a line about each loss.

        Raises:
            StoreError: a file cannot be read now, all of a modality are missing, the catalog is older than the
                snapshot, or store.json is not the one of this store.
        """
        self._store = store
        self._catalog = catalog
        self._dim = dim
        self._tell = tell
        if catalog.cut_bytes:
            tell(torn_log_message(store, catalog.cut_bytes))
        known = self._read_manifest()
        check_is_newest(store, catalog, known)
        # without CURRENT nothing tells whether the catalog is the newest
        for _, path in self._unlisted_files() if known is not None else ():
            if generation_of(path.name) == catalog.generation + 1:  # of a batch that was never committed
                _delete(path)
        self._give_up_lost_files()
        if known is not None and known.generation == catalog.generation and self._is_readable(known):
            self._manifest = known
        else:
            catalog.commit(CatalogTransaction())  # a new number: readers may still use the folder of the last base
            self._manifest = self._write_base({} if known is None else known.indexes)
        self._remove_orphans()
        remove_unused_parts(store, self._manifest, self._manifest.generation - KEPT_GENERATIONS)

    def commit(self, batch: StagedBatch) -> None:
        """Commit a batch; on return it is durable and visible to readers.

        Raises:
            VectorError: an embedding is not finite, not of unit length or of the wrong size; nothing is committed.
            StoreError: the transaction failed; nothing is committed.
        """
        change = self._write_vector_files(batch)
        generation = self._catalog.commit(change)
        self._publish_delta(generation, change)
        for modality in {modality for modality, *_ in change.vector_files}:
            self._merge_small_files(modality)
        self._merge_newest_parts()
        pa.default_memory_pool().release_unused()  # free the memory of a batch before the next one

    @property
    def indexes(self) -> Mapping[Modality, tuple[str, str]]:
        """Published index of each partition: its folder and the digest of its manifest."""
        return self._manifest.indexes

    def set_indexes(self, changes: Mapping[Modality, tuple[str, str] | None]) -> None:
        """Publish other indexes.

        Args:
            changes: For each partition that changes, the name of the index folder and the digest of its manifest; None
                removes the index.
        """
        indexes = {**self._manifest.indexes, **changes}
        published = {modality: index for modality, index in indexes.items() if index is not None}
        self._publish(replace(self._manifest, indexes=published))

    def set_class_columns(
        self, columns: Sequence[tuple[ClassColumn, ClassValues]], removed: Sequence[str] = ()
    ) -> None:
        """Write columns of classes with their values, in place of those of their names, and remove others by name.

        Raises:
            StoreError: the transaction failed; nothing is changed.
        """
        self._publish_class_columns(self._catalog.set_class_columns(columns, removed))

    def compact(self, dead_share: float = COMPACT_DEAD_SHARE) -> None:
        """Optimise the layout for searches: one snapshot part, few vector files, (nearly) no dead rows.

        Args:
            dead_share: Share of dead rows above which a vector file is rewritten.
        """
        for modality, files in self._catalog.vector_files().items():
            rows = {file.name: file.rows for file in files}
            live = {file.name: self._live_row_count(modality, file) for file in files}
            groups = [
                group
                for group in _group_neighbours(list(live.items()))
                if len(group) > 1 or live[group[0]] < (1 - dead_share) * rows[group[0]]
            ]
            self._rewrite_files(modality, groups)
        if self._catalog.dead_class_values():
            self._publish_class_columns(self._catalog.drop_dead_class_values())
        if len(self._manifest.parts) > 1:
            self._merge_parts(0)

    def _write_vector_files(self, batch: StagedBatch) -> CatalogTransaction:
        """Write the vectors of a batch and return the change to commit."""
        first = self._catalog.take_ids("item_id", sum(item.item_id is None for item in batch.items))
        fresh = iter(range(first, first + len(batch.items)))
        item_ids = [next(fresh) if item.item_id is None else item.item_id for item in batch.items]
        segments, vectors = own_segments(item_ids, batch.items)
        vector_ids = np.zeros(len(vectors), np.int64)
        files = []
        for modality in dict.fromkeys(segment.modality for segment in vectors):
            positions = [position for position, segment in enumerate(vectors) if segment.modality is modality]
            embeddings = np.stack([vectors[position].payload for position in positions])
            check_vectors(embeddings, self._dim)
            first = self._catalog.take_ids("vector_id", len(positions))
            vector_ids[positions] = ids = np.arange(first, first + len(positions), dtype=np.int64)
            name = self._file_name(first)
            digest = write_vectors(self._vector_folder(modality) / name, ids, embeddings)
            files.append((modality, name, len(positions), digest))
        segments = segments.append_column("vector_id", [vector_ids])
        segments = with_shared_segments(segments, item_ids, batch.items, self._catalog.segments_of_fingerprints)
        items = with_shared_facts(batch.items, self._catalog.facts_of_fingerprints)
        first_segment = self._catalog.take_ids("segment_id", segments.num_rows)
        numbers = np.arange(first_segment, first_segment + segments.num_rows, dtype=np.int64)
        replaced = [item.item_id for item in batch.items if item.item_id is not None]
        changes = {entry.name: getattr(batch, entry.name) for entry in fields(RowChanges)}
        return CatalogTransaction(
            **changes | {"removed": [*batch.removed, *replaced]},
            items=items_table(item_ids, with_shared_modalities(items, item_ids, segments)),
            segments=segments.append_column("segment_id", [numbers]),
            vector_files=files,
        )

    def _publish_delta(self, generation: int, change: CatalogTransaction) -> None:
        """Make a committed change visible to readers; touched items are repeated with their new state."""
        items, segments = change.items, change.segments
        assert items is not None  # every batch has both tables, even if they are empty
        assert segments is not None
        touched = list(change.touched)
        if touched:
            known = self._catalog.items_table(touched)
            items = pa.concat_tables([items.select(known.column_names), known])
            segments = pa.concat_tables([segments, self._catalog.segments_table(touched).select(segments.column_names)])
        failures_changed = bool(change.failures or change.forgotten_failures)
        failures = self._catalog.failures_table() if failures_changed else None
        digest = write_part(self._store, generation, items, segments, [*change.removed, *touched], failures)
        base, old = base_manifest(self._catalog), self._manifest
        number = generation if failures_changed else old.failures
        manifest = replace(base, failures=number, class_columns=old.class_columns, indexes=old.indexes)
        self._publish_part(digest, replace(manifest, parts=old.parts, part_digests=old.part_digests))

    def _publish_class_columns(self, generation: int) -> None:
        """Make columns of classes visible to readers, in a part without items."""
        columns = self._catalog.class_columns()
        items, segments = self._catalog.items_table([]), self._catalog.segments_table([])
        digest = write_part(self._store, generation, items, segments, (), None, columns)
        number = None if columns is None else generation
        self._publish_part(digest, replace(self._manifest, generation=generation, class_columns=number))
        self._merge_newest_parts()

    def _write_base(self, indexes: Mapping[Modality, tuple[str, str]]) -> Manifest:
        """Rebuild the snapshot from the catalog."""
        catalog = self._catalog
        failures, columns = catalog.failures_table(), catalog.class_columns()
        manifest = base_manifest(catalog, failures=failures, columns=columns)
        tables = catalog.items_table(), catalog.segments_table()
        shown = failures if failures.num_rows else None
        digest = write_part(self._store, manifest.generation, *tables, (), shown, columns)
        manifest = replace(manifest, indexes=indexes, part_digests={manifest.generation: digest})
        self._publish(manifest)
        return manifest

    def _merge_newest_parts(self) -> None:
        """Merge half of the parts or more (see PART_GROWTH) if there are too many."""
        if len(self._manifest.parts) <= MAX_PARTS:
            return
        sizes = [
            int(part.items.num_rows + part.segments.num_rows + len(part.removed))
            for part in open_snapshot(self._store, self._manifest).parts
        ]
        first = MAX_PARTS // 2
        while first and sizes[first - 1] <= PART_GROWTH * sum(sizes[first:]):
            first -= 1
        self._merge_parts(first)

    def _merge_parts(self, first: int) -> None:
        """Merge the parts from position `first` on into one, without their dead rows."""
        parts = self._manifest.parts
        merged = open_snapshot(self._store, replace(self._manifest, parts=parts[first:]))
        items, segments = merged.live_tables()
        removed = np.concatenate([part.removed for part in merged.parts]) if first else ()
        generation = self._catalog.commit(CatalogTransaction())
        digest = write_part(self._store, generation, items, segments, removed, None)
        self._publish_part(digest, replace(self._manifest, generation=generation, parts=parts[:first]))

    def _publish_part(self, digest: str, manifest: Manifest) -> None:
        """Publish a manifest with its generation as one more part."""
        parts = (*manifest.parts, manifest.generation)
        digests = {**manifest.part_digests, manifest.generation: digest}
        self._publish(replace(manifest, parts=parts, part_digests=digests))

    def _publish(self, manifest: Manifest) -> None:
        used = manifest.folders
        digests = {number: digest for number, digest in manifest.part_digests.items() if number in used}
        manifest = replace(manifest, part_digests=digests)
        write_manifest(self._store, manifest)
        self._manifest = manifest
        remove_unused_parts(self._store, manifest, manifest.generation - KEPT_GENERATIONS)

    def _file_name(self, first_id: int) -> str:
        return f"{first_id:012d}-{self._catalog.generation + 1:08d}.arrow"

    def _merge_small_files(self, modality: Modality) -> None:
        """Merge the newest small files of a modality; older, larger files are left unchanged."""
        files = self._catalog.vector_files()[modality]
        small = len(files)
        while small and files[small - 1].rows < SMALL_FILE_VECTORS:
            small -= 1
        if len(files) - small <= MAX_SMALL_FILES:
            return
        neighbours = _group_neighbours([(file.name, file.rows) for file in files[small:]])
        self._rewrite_files(modality, [group for group in neighbours if len(group) > 1])

    def _rewrite_files(self, modality: Modality, groups: Sequence[Sequence[str]]) -> None:
        """Merge each group of neighbouring vector files into one, without dead rows."""
        if not groups:
            return
        folder = self._vector_folder(modality)
        merged = []
        for group in groups:
            opened = [open_vectors(folder / name, self._dim) for name in group]
            masks = [self._live_mask(modality, file.vector_ids) for file in opened]
            ids = np.concatenate([file.vector_ids[mask] for file, mask in zip(opened, masks, strict=True)])
            if len(ids):
                checked = (file.checked_embeddings() for file in opened)
                rows = np.concatenate([rows[mask] for rows, mask in zip(checked, masks, strict=True)])
                name = self._file_name(int(ids[0]))
                merged.append((name, len(ids), write_vectors(folder / name, ids, rows)))
        names = [name for group in groups for name in group]
        generation = self._catalog.replace_vector_files(modality, names, merged)
        vectors = base_manifest(self._catalog).vectors
        self._publish(replace(self._manifest, generation=generation, vectors=vectors))
        for name in names:
            (folder / name).unlink(missing_ok=True)
        self._catalog.forget_replaced_files()

    def _live_mask(self, modality: Modality, vector_ids: NDArray[np.int64]) -> NDArray[np.bool_] | slice:
        """Return a mask bool (n,) of the ascending ids that a segment refers to; a full slice if it is all of them."""
        live = self._catalog.live_vector_ids(modality, int(vector_ids[0]), int(vector_ids[-1]))
        return slice(None) if len(live) == len(vector_ids) else np.isin(vector_ids, live)

    def _live_row_count(self, modality: Modality, file: VectorFileEntry) -> int:
        ids = open_vectors(self._vector_folder(modality) / file.name, self._dim).vector_ids
        return len(self._catalog.live_vector_ids(modality, int(ids[0]), int(ids[-1])))

    def _vector_folder(self, modality: Modality) -> Path:
        folder = self._store / VECTORS / modality
        make_folder(folder, self._store)
        return folder

    def _read_manifest(self) -> Manifest | None:
        try:
            return read_manifest(self._store)
        except SnapshotDamagedError:
            if (path := self._store / CURRENT).is_dir():  # it could not be replaced
                keep_aside(self._store, path)
            return None

    def _give_up_lost_files(self) -> None:
        """Move damaged vector files to `lost/`, and remove them and missing ones from the catalog.

        Their items will be embedded again. Several files that are missing as a whole, with or without their folder, are
        not believed: a disk may not be mounted.
        """
        known = self._catalog.vector_files()
        for modality, files in known.items():
            folder = self._store / VECTORS / modality
            empty = len(files) > 1 and not any(is_there(folder / file.name) for file in files)
            if empty or not folder.is_dir():
                state = "contains none of its" if folder.is_dir() else "is missing with"
                raise StoreError(
                    f"{folder} {state} {len(files)} vector files: mount or restore it; if it cannot be restored, run "
                    "`bindsearch compact`"
                )
        lost = []
        for modality, files in known.items():
            for file in files:
                try:
                    open_stored_vectors(self._store / VECTORS / modality, file, self._dim)
                except VectorFileLostError as error:
                    lost.append((modality, file, error))
        if lost:
            folder = self._store / VECTORS
            check_dim([folder / modality / file.name for modality in known for file in known[modality]], self._dim)
        for modality, file, loss in lost:
            self._give_up(modality, file, loss)

    def _give_up(self, modality: Modality, file: VectorFileEntry, error: VectorFileLostError) -> None:
        """Forget a lost vector file, after moving what is left of it to `lost/`."""
        files = self._catalog.vector_files()[modality]
        end = min((other.first_id for other in files if other.first_id > file.first_id), default=END_OF_IDS)
        path = self._store / VECTORS / modality / file.name
        kept = f", and is in {keep_aside(self._store, path)} now" if is_there(path) else ""
        self._catalog.forget_lost_vectors(modality, file.name, file.first_id, end)
        self._tell(
            f"{str(error).partition(': run')[0]}: its {file.rows} vectors are given up{kept}; run `bindsearch index` "
            "on its collections to embed its items again"
        )

    def _unlisted_files(self) -> Iterator[tuple[Modality, Path]]:
        """Yield the vector files that the catalog does not list, and those that were being written."""
        known = self._catalog.vector_files()
        for modality in Modality:
            names = {file.name for file in known.get(modality, [])}
            for path in vector_files_in(self._store / VECTORS / modality):
                if path.name not in names:
                    yield modality, path

    def _remove_orphans(self) -> None:
        """Delete replaced vector files and temporary files that an interrupted writer has left.

        Other unknown vector files are moved to `lost/`: they are somebody's vectors.
        """
        replaced = self._catalog.replaced_files()
        for modality, path in self._unlisted_files():
            if (modality, path.name) in replaced or path.name.endswith(TEMPORARY_SUFFIX):
                _delete(path)
            else:
                kept = keep_aside(self._store, path, UNKNOWN)
                self._tell(f"{path} is not in the catalog: it is in {kept} now")
        if replaced:
            self._catalog.forget_replaced_files()
        for folder in (".", f"{SNAPSHOTS}/*", INDEXES, f"{INDEXES}/*", LEFT_OUT):
            for path in self._store.glob(f"{folder}/.*{TEMPORARY_SUFFIX}*"):  # DuckDB adds `.wal` to the name
                if path.parent.resolve().is_relative_to(self._store.resolve()):  # else it is behind a link
                    _delete(path)

    def discard_lost_files(self) -> None:
        """Delete the damaged vector files in `lost/` if all items are embedded again."""
        lost = self._store / LOST
        if (lost / VECTORS).is_dir() and not lost.is_symlink() and not self._catalog.waiting_items():
            shutil.rmtree(lost / VECTORS, ignore_errors=True)

    def _is_readable(self, manifest: Manifest) -> bool:
        if manifest.format != FORMAT:  # readers can use it, but more slowly
            return False
        try:
            open_snapshot(self._store, manifest)
        except SnapshotDamagedError:
            return False
        return True


def _group_neighbours(files: Sequence[tuple[str, int]]) -> list[list[str]]:
    """Group neighbouring files (name, rows) to at most MERGED_FILE_VECTORS rows; a larger file is its own group."""
    groups: list[list[str]] = []
    room = -1
    for name, n in files:
        if n > room:
            groups.append([])
            room = MERGED_FILE_VECTORS
        groups[-1].append(name)
        room -= n
    return groups


def _delete(path: Path) -> None:
    """Delete a file, or a folder with its content."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
