"""What readers see: one generation's items, segments and failures as memory-mapped Arrow files.

A base and one small delta a batch lie in `snapshots/<generation>/`; the file CURRENT names those that make up the
newest generation and is replaced atomically, so a reader sees a batch whole or not at all and never waits. All of it
is derived from the catalog and can be rebuilt.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bindsearch.errors import StoreError
from bindsearch.files import atomic_write
from bindsearch.items import Item, Modality, Segment

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

FORMAT = 1
CURRENT = "CURRENT"
SNAPSHOTS = "snapshots"


@dataclass(frozen=True)
class Manifest:
    """The content of CURRENT: which files make up a generation."""

    generation: int
    parts: tuple[int, ...]
    """Generations of the base and its deltas, in order."""
    collections: Mapping[int, str]
    vectors: Mapping[Modality, tuple[tuple[str, int], ...]]
    """Name and row count of each vector file, oldest ids first."""
    failures: int | None
    """Generation whose folder holds the list of failures; None where nothing has failed."""


def read_manifest(store: Path) -> Manifest | None:
    """Read CURRENT; None where there is none yet.

    Raises:
        StoreError: it is damaged.
    """
    try:
        text = (store / CURRENT).read_text()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        data = json.loads(text)
        if data["format"] != FORMAT:
            raise StoreError(f"{store / CURRENT} has format {data['format']}, this BindSearch reads {FORMAT}")
        return Manifest(
            generation=int(data["generation"]),
            parts=tuple(data["parts"]),
            collections={int(key): str(root) for key, root in data["collections"].items()},
            vectors={Modality(m): tuple((str(name), int(n)) for name, n in v) for m, v in data["vectors"].items()},
            failures=data["failures"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{store / CURRENT} is damaged: run `bindsearch index` to rebuild it") from error


def write_manifest(store: Path, manifest: Manifest) -> None:
    """Replace CURRENT, the moment a generation becomes visible to readers."""
    data = {
        "format": FORMAT,
        "generation": manifest.generation,
        "parts": manifest.parts,
        "collections": {str(key): root for key, root in manifest.collections.items()},
        "vectors": {modality.value: files for modality, files in manifest.vectors.items()},
        "failures": manifest.failures,
    }
    with atomic_write(store / CURRENT) as file:
        file.write(json.dumps(data).encode())


def write_part(
    store: Path, generation: int, items: pa.Table, segments: pa.Table, removed: Sequence[int], failures: pa.Table | None
) -> None:
    """Write a base or a delta. `removed`: items whose rows in earlier parts no longer count."""
    import pyarrow as pa

    folder = store / SNAPSHOTS / str(generation)
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"items": items, "segments": segments, "removed": pa.table({"item_id": pa.array(removed, pa.int64())})}
    if failures is not None:
        tables["failures"] = failures
    for name, table in tables.items():
        with atomic_write(folder / f"{name}.arrow") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)


def remove_unused_parts(store: Path, manifest: Manifest, keep_from: int) -> None:
    """Delete snapshot folders that `manifest` does not name and that are older than generation `keep_from`."""
    used = {*manifest.parts, manifest.failures}
    for folder in (store / SNAPSHOTS).iterdir():
        if folder.name.isdigit() and int(folder.name) not in used and int(folder.name) < keep_from:
            shutil.rmtree(folder, ignore_errors=True)


def open_snapshot(store: Path, manifest: Manifest) -> Snapshot:
    """Map the files of a generation.

    Raises:
        StoreError: a file is missing or damaged.
    """
    import pyarrow as pa

    parts = [{name: _read(store, part, name) for name in ("items", "segments", "removed")} for part in manifest.parts]
    kept: dict[str, list[pa.Table]] = {"items": [], "segments": []}
    for position, part in enumerate(parts):
        later = [other["removed"].column("item_id").to_numpy() for other in parts[position + 1 :]]
        dead = np.concatenate(later) if later else np.zeros(0, np.int64)
        for name, tables in kept.items():
            table = part[name]
            alive = ~np.isin(table.column("item_id").to_numpy(), dead)
            tables.append(table if alive.all() else table.filter(pa.array(alive)))
    failures = None if manifest.failures is None else _read(store, manifest.failures, "failures")
    items, segments = (pa.concat_tables(tables) for tables in kept.values())
    return Snapshot(manifest, items.sort_by("item_id").combine_chunks(), segments.combine_chunks(), failures)


def _read(store: Path, part: int, name: str) -> pa.Table:
    import pyarrow as pa

    path = store / SNAPSHOTS / str(part) / f"{name}.arrow"
    try:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
        table.validate()
        return table
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"snapshot file {path} is missing or damaged: run `bindsearch index` to rebuild it") from error


@dataclass(frozen=True)
class Snapshot:
    """One generation: `items` sorted by item_id, `segments`, and `failures` where there are any."""

    manifest: Manifest
    items: pa.Table
    segments: pa.Table
    failures: pa.Table | None

    @cached_property
    def _item_ids(self) -> NDArray[np.int64]:
        return np.asarray(self.items.column("item_id").to_numpy())

    @cached_property
    def segment_items(self) -> NDArray[np.int64]:
        """item_id of each segment row: int64 (n,)."""
        return np.asarray(self.segments.column("item_id").to_numpy())

    @cached_property
    def segment_vectors(self) -> NDArray[np.int64]:
        """vector_id of each segment row: int64 (n,)."""
        return np.asarray(self.segments.column("vector_id").to_numpy())

    def segment_rows(self, modality: Modality) -> NDArray[np.int64]:
        """Rows of `segments` of one modality: int64 (m,)."""
        import pyarrow.compute as pc

        return np.flatnonzero(pc.equal(self.segments.column("modality"), modality.value).to_numpy())

    def segment(self, row: int) -> Segment:
        """The segment in a row of `segments`."""
        facts = self.segments.slice(row, 1).to_pylist()[0]
        return Segment(**{**facts, "modality": Modality(facts["modality"])})

    def item(self, item_id: int) -> Item | None:
        """The item of that id; None where there is none."""
        row = int(np.searchsorted(self._item_ids, item_id))
        if row == len(self._item_ids) or self._item_ids[row] != item_id:
            return None
        return self._item_at(row)

    def item_at_path(self, path: Path) -> Item | None:
        """The item of an absolute path; None where there is none."""
        import pyarrow.compute as pc

        for collection_id, root in self.manifest.collections.items():
            if not path.is_relative_to(root):
                continue
            same_path = pc.equal(self.items.column("rel_path"), path.relative_to(root).as_posix())
            same_root = pc.equal(self.items.column("collection_id"), collection_id)
            rows = np.flatnonzero(pc.and_(same_path, same_root).to_numpy())
            if len(rows):
                return self._item_at(int(rows[0]))
        return None

    def items_with_content(self, hashes: Sequence[str]) -> NDArray[np.int64]:
        """Ids of the items that hold the same bytes as one of these content hashes: int64 (m,)."""
        import pyarrow as pa
        import pyarrow.compute as pc

        same = pc.is_in(self.items.column("content_hash"), value_set=pa.array(hashes, pa.string()))
        return np.asarray(self._item_ids[same.to_numpy()])

    def counts(self, table: str) -> dict[Modality, int]:
        """Number of rows of "items" or "segments" by modality; modalities without any are left out."""
        source: Any = self.items if table == "items" else self.segments
        counted = source.group_by("modality").aggregate([([], "count_all")]).to_pylist()
        found = {Modality(row["modality"]): int(row["count_all"]) for row in counted}
        return {modality: found[modality] for modality in Modality if modality in found}

    def _item_at(self, row: int) -> Item:
        facts = self.items.slice(row, 1).to_pylist()[0]
        return Item(
            item_id=facts["item_id"],
            collection=Path(self.manifest.collections[facts["collection_id"]]),
            rel_path=facts["rel_path"],
            modality=Modality(facts["modality"]),
            size_bytes=facts["size_bytes"],
            mtime_ns=facts["mtime_ns"],
            content_hash=facts["content_hash"],
        )
