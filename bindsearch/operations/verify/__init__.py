"""Verify: whether all of a store is as it was written and fits together. Only an old catalog's schema is changed.

The catalog is read under the writer's lock, which is let go before the long part: reading every byte of the files.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bindsearch.atomic import folder_size
from bindsearch.errors import StoreError, StoreLockedError, StoreNotFoundError
from bindsearch.operations.verify.catalog import CheckedCatalog, RowSample
from bindsearch.operations.verify.findings import REPAIR_THEN_INDEX, Finding, FindingKind, Repair, Report, finding
from bindsearch.operations.verify.media_files import Containers, MediaCheck
from bindsearch.operations.verify.store_files import (
    StoredVectors,
    find_orphans,
    index_findings,
    lost_vectors,
    named_paths,
    snapshot_findings,
    stored_vectors,
    vector_file_findings,
)
from bindsearch.reports import OnStage, ignore_stage
from bindsearch.storage.catalog import CATALOG_FILE
from bindsearch.storage.config import STORE_FILE, read_config
from bindsearch.storage.lock import writer_lock
from bindsearch.storage.snapshot import CURRENT, open_snapshot, read_manifest
from bindsearch.storage.snapshot_format import Manifest
from bindsearch.storage.vector_files import VECTORS, dim_of_vectors
from bindsearch.types import Modality

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

OF_FILES = frozenset(
    {
        FindingKind.VECTOR_FILE_MISSING,
        FindingKind.VECTOR_FILE_DAMAGED,
        FindingKind.VECTORS_UNFIT,
        FindingKind.SNAPSHOT,
        FindingKind.INDEX,
    }
)
"""Kinds of finding about a single file or folder, which a writer may have replaced meanwhile."""


def verify(
    store: Path, *, check_media: bool = False, hash_media: bool = False, on_stage: OnStage = ignore_stage
) -> Report:
    """Check a store. `check_media`: the media files too, by size and time; `hash_media`: by all their bytes.

    While another process writes, what needs the catalog is left out, and the report says so.

    Raises:
        StoreNotFoundError: there is no store.
    """
    started = time.monotonic()
    check_is_store(store)
    check = None
    try:
        with writer_lock(store):
            check = StoreCheck(store, on_stage)
            check.look_at_catalog()
    except (StoreLockedError, OSError) as error:  # OSError: the store cannot be written, so there is no lock to take
        check = check or StoreCheck(store, on_stage)
        left_out = "the catalog, digests of vector files and orphans were not checked"
        check.unchecked.append(f"{left_out}: {error}")
    check.look_at_files()
    if check_media or hash_media:
        check.look_at_media(hash_media=hash_media)
    found = tuple(check.findings)
    return Report(found, tuple(check.unchecked), check.read_bytes, time.monotonic() - started)


def check_is_store(store: Path) -> None:
    """Refuse a folder with nothing of a store in it.

    Raises:
        StoreNotFoundError: it is one.
    """
    if not any((store / name).exists() for name in (STORE_FILE, CATALOG_FILE, CURRENT)):
        raise StoreNotFoundError(f"no store at {store}: make one with `bindsearch index FOLDER`")


@dataclass
class StoreCheck:
    """State of a check of a store: what is known so far, and what is wrong."""

    store: Path
    on_stage: Callable[[str], None]
    findings: list[Finding] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    read_bytes: int = 0
    dim: int | None = field(init=False)
    manifest: Manifest | None = field(init=False)
    vectors: list[StoredVectors] = field(init=False)
    """By the catalog, and by CURRENT before that has been looked at."""
    containers: Containers = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.manifest = self._read_manifest()
        self.vectors = [] if self.manifest is None else stored_vectors(self.store, self.manifest.vectors, {})
        self.dim = self._find_dim()

    def look_at_catalog(self, catalog: CheckedCatalog | None = None) -> None:
        """Check the catalog, and what is known only with it. The writer's lock is held; `catalog`: where it is open."""
        if catalog is not None:
            self._look_at_rows(catalog)
            return
        path = self.store / CATALOG_FILE
        self.on_stage("reading the catalog")
        try:
            if not path.is_file():
                raise StoreError(f"the catalog {path} is missing")
            self.read_bytes += path.stat().st_size
            with CheckedCatalog(path) as opened:
                self._look_at_rows(opened)
        except StoreError as error:
            roots = " ".join(self.manifest.collections.values()) if self.manifest else "FOLDER"
            way_out = f"put a copy of it back, or remove the store's folder and run `bindsearch index {roots}`"
            self._add(FindingKind.CATALOG, str(error), Repair.BY_HAND, [path], way_out=way_out)

    def look_at_files(self) -> None:
        """Read every byte of what readers use."""
        if self.dim is not None:
            for file in self.vectors:
                self.on_stage(f"reading {file.path.parent.name}/{file.path.name}")
                self._keep(vector_file_findings(file, self.dim))
        if self.manifest is not None:
            self.on_stage("reading snapshots and indexes")
            self._keep(snapshot_findings(self.store, self.manifest))
            self._keep(index_findings(self.store, self.manifest))
            named = named_paths(self.store, self.manifest)
            self.read_bytes += sum(_size(path) for path in named | {file.path for file in self.vectors})
            self._drop_replaced(named)

    def look_at_media(self, *, hash_media: bool) -> None:
        """Look whether the media files are as they were indexed."""
        if self.manifest is None:
            self.unchecked.append(f"the media files were not checked: {CURRENT} cannot be read")
            return
        self.on_stage("reading the media files" if hash_media else "looking at the media files")
        try:
            media = MediaCheck(open_snapshot(self.store, self.manifest), self.containers, hash_media)
        except StoreError as error:
            self.unchecked.append(f"the media files were not checked: {error}")
            return
        self._keep(media.findings())
        self.read_bytes += media.read_bytes
        if media.members:
            self.unchecked.append(f"{media.members} items inside archives were not checked one by one")

    def _read_manifest(self) -> Manifest | None:
        path = self.store / CURRENT
        try:
            manifest = read_manifest(self.store)
        except StoreError:
            what = f"{path} is damaged (`bindsearch optimize` then rebuilds the indexes)"
            self._add(FindingKind.CURRENT, what, Repair.COMPACT, [path])
            return None
        if manifest is None:
            self._add(FindingKind.CURRENT, f"{path} is missing", Repair.COMPACT, [path])
        return manifest

    def _find_dim(self) -> int | None:
        """Dimensions of the space: as store.json says, else those of most vector files."""
        path = self.store / STORE_FILE
        paths = [file.path for file in self.vectors] or list((self.store / VECTORS).glob("*/*.arrow"))
        held = Counter(dim for file in paths if (dim := dim_of_vectors(file)) is not None)
        likely = held.most_common(1)[0][0] if held else None
        way_out = f"put the right {STORE_FILE} back (before anything is written), or index into another store"
        try:
            said = read_config(self.store).dim
        except StoreNotFoundError:
            self._add(FindingKind.CONFIG, f"{path} is missing", Repair.BY_HAND, [path], way_out=way_out)
            return likely
        except StoreError as error:
            self._add(FindingKind.CONFIG, str(error).split(": put it back")[0], Repair.BY_HAND, [path], way_out=way_out)
            return likely
        if held and said not in held:
            what = f"{path} says {said} dimensions, the vector files hold {likely}"
            self._add(FindingKind.CONFIG, what, Repair.BY_HAND, [path], way_out=way_out)
            return likely
        return said

    def _look_at_rows(self, catalog: CheckedCatalog) -> None:
        found = catalog.check_integrity()
        self._count("items wait for vectors that were lost", found.to_embed, FindingKind.ITEMS_TO_EMBED, Repair.INDEX)
        self._count(
            "items have no segments",
            found.without_segments,
            FindingKind.ITEMS_WITHOUT_SEGMENTS,
            Repair.COMPACT,
            REPAIR_THEN_INDEX,
        )
        self._count(
            "items are of no collection", found.without_collection, FindingKind.ITEMS_WITHOUT_COLLECTION, Repair.COMPACT
        )
        self._count("segments are of no item", found.without_item, FindingKind.SEGMENTS_WITHOUT_ITEM, Repair.COMPACT)
        self._count(
            "item ids are used twice", found.one_id_twice, FindingKind.ITEMS_TWICE, Repair.COMPACT, REPAIR_THEN_INDEX
        )
        self._count(
            "items have the path of a newer one", found.one_place_twice, FindingKind.ITEMS_TWICE, Repair.COMPACT
        )
        for name, (value, used) in found.counters.items():
            what = f"the next {name} would be {value}, and {used} is in use"
            self._add(FindingKind.COUNTERS, what, Repair.COMPACT, [name])
        self.vectors = stored_vectors(self.store, catalog.vector_files(), catalog.digests())
        self.containers = {key: catalog.containers(key) for key in catalog.collections()}
        self._compare_snapshot(catalog)
        if self.dim is not None:
            self._look_for_lost_vectors(catalog, self.dim)
        if self.manifest is not None and (orphans := find_orphans(self.store, self.manifest, self.vectors)):
            what = f"{len(orphans)} unreferenced files or folders, {orphans[0]} first"
            self._add(FindingKind.ORPHANS, what, Repair.COMPACT, orphans)

    def _compare_snapshot(self, catalog: CheckedCatalog) -> None:
        if self.manifest is None:
            return
        path = self.store / CURRENT
        if self.manifest.generation != catalog.generation:
            what = f"{path} names generation {self.manifest.generation}, the catalog is at {catalog.generation}"
            self._add(FindingKind.CURRENT, what, Repair.COMPACT, [path])
            return
        try:
            snapshot = open_snapshot(self.store, self.manifest)
        except StoreError:  # told where the parts are read
            return
        shown = _living(snapshot.items, snapshot.item_alive), _living(snapshot.segments, snapshot.segment_alive)
        if shown != (held := catalog.counts()):
            what = f"the snapshot has {shown[0]} items, {shown[1]} segments, the catalog {held[0]}, {held[1]}"
            self._add(FindingKind.SNAPSHOT, what, Repair.COMPACT, [path])

    def _look_for_lost_vectors(self, catalog: CheckedCatalog, dim: int) -> None:
        for modality in Modality:
            lost = lost_vectors(self.vectors, modality, dim, catalog.live_vector_ids)
            if len(lost):
                what = f"{len(lost)} {modality} vectors that segments refer to are in no file, {lost[0]} first"
                where = [f"{modality} vector {number}" for number in lost[:20].tolist()]
                self._add(
                    FindingKind.VECTORS_LOST, what, Repair.COMPACT, where, count=len(lost), way_out=REPAIR_THEN_INDEX
                )

    def _drop_replaced(self, named: set[Path]) -> None:
        """Take back what was said of files that a writer has replaced meanwhile."""
        try:
            newest = read_manifest(self.store)
        except StoreError:
            return
        if newest is not None and newest != self.manifest:
            gone = {str(path) for path in named - named_paths(self.store, newest)}
            self.findings = [one for one in self.findings if one.kind not in OF_FILES or one.where[0] not in gone]

    def _count(self, what: str, rows: RowSample, kind: FindingKind, repair: Repair, way_out: str = "") -> None:
        if rows.count:
            said = f"{rows.count} {what} (the first: {rows.ids[0]})"
            self._add(kind, said, repair, rows.ids, count=rows.count, way_out=way_out)

    def _add(
        self,
        kind: FindingKind,
        what: str,
        repair: Repair,
        where: Iterable[object] = (),
        *,
        count: int | None = None,
        way_out: str = "",
    ) -> None:
        self.findings.append(finding(kind, what, repair, where, count=count, way_out=way_out))

    def _keep(self, found: Iterable[Finding]) -> None:
        self.findings.extend(found)


def _living(rows: pa.Table, alive: NDArray[np.bool_] | None) -> int:
    return int(rows.num_rows) if alive is None else int(alive.sum())


def _size(path: Path) -> int:
    try:
        return folder_size(path) if path.is_dir() else path.stat().st_size
    except OSError:  # missing, or merged away by a writer just now
        return 0
