"""Verification of a store: consistency of catalog, vectors, indexes and snapshots, and their checksums.

The store is not changed, except that the schema of an old catalog is upgraded. The catalog is read under the writer's
lock; the lock is released before all bytes of the files are read.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bindsearch.atomic import folder_size, is_there
from bindsearch.errors import (
    SchemaNewerError,
    SchemaOutdatedError,
    SnapshotDamagedError,
    StoreError,
    StoreLockedError,
    StoreNotFoundError,
    StoreUnwritableError,
)
from bindsearch.indexes.index_files import INDEXES
from bindsearch.operations.index_policy import INDEX_SETTINGS_FILE, read_index_settings
from bindsearch.operations.verify.catalog import CheckedCatalog
from bindsearch.operations.verify.findings import REPAIR_THEN_INDEX, Finding, FindingKind, Repair, Report, finding
from bindsearch.operations.verify.store_files import (
    Containers,
    MediaCheck,
    StoredVectors,
    find_orphans,
    index_findings,
    lost_vectors,
    named_paths,
    snapshot_findings,
    stored_vectors,
    unreadable,
    vector_file_findings,
)
from bindsearch.reports import OnStage, ignore_stage
from bindsearch.storage.catalog import REMEDY, may_be_sound
from bindsearch.storage.catalog_file import CATALOG_FILE, readable_path
from bindsearch.storage.class_columns import no_values
from bindsearch.storage.config import PUT_BACK, STORE_FILE, read_config
from bindsearch.storage.session import writer_lock
from bindsearch.storage.snapshot import CURRENT, open_snapshot, read_manifest
from bindsearch.storage.snapshot_format import Manifest, newest_part
from bindsearch.storage.vector_files import VECTORS, dim_of_vectors

_VECTOR_FILES = (FindingKind.VECTOR_FILE_MISSING, FindingKind.VECTOR_FILE_DAMAGED, FindingKind.VECTORS_UNFIT)
OF_FILES = frozenset({FindingKind.FILE_UNREADABLE, *_VECTOR_FILES, FindingKind.SNAPSHOT, FindingKind.INDEX})
"""Kinds of findings about one file or folder, which a writer may replace during the check."""


WITHOUT_CATALOG = "the catalog, digests of vector files and orphans were not checked"


def verify(
    store: Path, *, check_media: bool = False, hash_media: bool = False, on_stage: OnStage = ignore_stage
) -> Report:
    """Check a store.

    While another process is writing, checks that need the catalog are skipped and listed in the report. A store that
    this process cannot write to is checked without changing anything.

    Args:
        store: Folder of the store.
        check_media: Check whether the media files have changed since they were indexed, by size and modification time.
        hash_media: Check the media files by all their bytes.
        on_stage: Called with the name of each stage.

    Returns:
        Findings, and what was not checked.

    Raises:
        StoreNotFoundError: there is no store.
    """
    started = time.monotonic()
    check_is_store(store)
    check = None
    try:
        with writer_lock(store):
            check = StoreCheck(store, on_stage)
            check.check_catalog(is_locked=True)
    except StoreUnwritableError:
        check = StoreCheck(store, on_stage)
        check.check_catalog(is_locked=False)
    except (StoreLockedError, OSError) as error:
        check = check or StoreCheck(store, on_stage)
        check.unchecked.append(f"{WITHOUT_CATALOG}: {error}")
    check.check_files()
    if check_media or hash_media:
        check.check_media(hash_media=hash_media)
    findings = tuple(check.findings)
    return Report(findings, tuple(check.unchecked), check.read_bytes, time.monotonic() - started)


def check_is_store(store: Path) -> None:
    """Check that a folder contains at least a part of a store.

    Raises:
        StoreNotFoundError: it contains none.
    """
    if not any((store / name).exists() for name in (STORE_FILE, CATALOG_FILE, CURRENT)):
        raise StoreNotFoundError(f"no store at {store}: create one with `bindsearch index FOLDER`")


@dataclass
class StoreCheck:
    """State of a check of a store."""

    store: Path
    on_stage: Callable[[str], None]
    findings: list[Finding] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)  # what was not checked, and why
    read_bytes: int = 0
    dim: int | None = field(init=False)  # of the vectors; None: unknown
    manifest: Manifest | None = field(init=False)  # None if CURRENT is missing or damaged
    vectors: list[StoredVectors] = field(init=False)  # those in CURRENT, or in the catalog once that has been checked
    containers: Containers = field(default_factory=dict)  # by collection and path

    def __post_init__(self) -> None:
        self.manifest = self._read_manifest()
        self.vectors = [] if self.manifest is None else stored_vectors(self.store, self.manifest.vectors)
        self.dim = self._find_dim()

    def _find(self, *fault: Any, **options: Any) -> None:
        """Add a finding; arguments as of `finding`."""
        self.findings.append(finding(*fault, **options))

    def check_catalog(self, *, is_locked: bool) -> None:
        """Check the catalog and what depends on it.

        Args:
            is_locked: Whether the caller holds the writer's lock; if not, this process may only read the store. A
                writer has the catalog open all the time, so it cannot change meanwhile.
        """
        path = self.store / CATALOG_FILE
        self.on_stage("reading the catalog")
        try:
            if not readable_path(path).is_file():
                raise StoreError(f"the catalog {path} is missing")
            self.read_bytes += _size(path)
            try:
                opened = CheckedCatalog(path, read_only=True)
            except SchemaOutdatedError:
                if not is_locked:
                    raise
                opened = CheckedCatalog(path)  # its schema has to be upgraded
            with opened as catalog:
                self.check_rows(catalog)
        except StoreError as error:
            if not is_locked and (isinstance(error, SchemaOutdatedError) or may_be_sound(error)):
                self.unchecked.append(f"{WITHOUT_CATALOG}: {error}")
            else:
                self.findings.append(self._catalog_finding(path, error))

    def _catalog_finding(self, path: Path, error: StoreError) -> Finding:
        """Return the finding for a catalog that cannot be read."""
        if may_be_sound(error):
            kind = FindingKind.CATALOG if isinstance(error, SchemaNewerError) else FindingKind.FILE_UNREADABLE
            what, _, way_out = str(error).rpartition(": ")
            return finding(kind, what, Repair.BY_HAND, [path], way_out=way_out)
        what = str(error).removesuffix(f": {REMEDY}")
        if self.manifest is not None:
            return finding(FindingKind.CATALOG, what, Repair.RECOVER, [path])
        way, way_out = Repair.BY_HAND, "restore it from a copy, or remove the store's folder and run"
        if not is_there(readable_path(path)) and not any((self.store / VECTORS).glob("*/*")):
            way, way_out = Repair.INDEX, "nothing is indexed yet: run"
        return finding(FindingKind.CATALOG, what, way, [path], way_out=f"{way_out} `bindsearch index FOLDER`")

    def check_files(self) -> None:
        """Read all bytes of the files that readers use."""
        if self.dim is not None:
            for file in self.vectors:
                self.on_stage(f"reading {file.path.parent.name}/{file.path.name}")
                self.findings.extend(vector_file_findings(file, self.dim))
        try:
            read_index_settings(self.store)
        except StoreError as error:
            path = self.store / INDEXES / INDEX_SETTINGS_FILE
            what, _, way_out = str(error).partition(": ")
            if way_out:
                self._find(FindingKind.INDEX_SETTINGS, what, Repair.BY_HAND, [path], way_out=way_out)
            else:
                self.findings.append(unreadable(path, error))
        if self.manifest is not None:
            self.on_stage("reading snapshots and indexes")
            self.findings.extend(snapshot_findings(self.store, self.manifest))
            self.findings.extend(index_findings(self.store, self.manifest))
            named = named_paths(self.store, self.manifest)
            self.read_bytes += sum(_size(path) for path in named | {file.path for file in self.vectors})
            self._drop_replaced(named)

    def check_media(self, *, hash_media: bool) -> None:
        """Check whether the media files have changed since they were indexed; `hash_media`: by all their bytes."""
        if self.manifest is None:
            self.unchecked.append(f"the media files were not checked: {CURRENT} cannot be read")
            return
        self.on_stage("reading the media files" if hash_media else "checking the media files")
        try:
            media = MediaCheck(open_snapshot(self.store, self.manifest), self.containers, hash_media)
        except StoreError as error:
            self.unchecked.append(f"the media files were not checked: {error}")
            return
        self.findings.extend(media.findings())
        self.read_bytes += media.read_bytes
        if media.members:
            self.unchecked.append(f"{media.members} items inside archives were not checked one by one")

    def _read_manifest(self) -> Manifest | None:
        """Read CURRENT; None with a finding if it is missing or damaged."""
        path = self.store / CURRENT
        try:
            manifest = read_manifest(self.store)
        except SnapshotDamagedError:
            what = f"{path} is damaged (`bindsearch optimize` rebuilds the indexes afterwards)"
            self._find(FindingKind.CURRENT, what, Repair.COMPACT, [path])
            return None
        except StoreError as error:
            self.findings.append(unreadable(path, error))
            return None
        if manifest is None:
            self._find(FindingKind.CURRENT, f"{path} is missing", Repair.COMPACT, [path])
        return manifest

    def _find_dim(self) -> int | None:
        """Return the dimension of the vectors from store.json, else that of most vector files; None if unknown."""
        path = self.store / STORE_FILE
        paths = [file.path for file in self.vectors] or list((self.store / VECTORS).glob("*/*.arrow"))
        dim_counts: Counter[int] = Counter()
        for file in paths:
            with contextlib.suppress(StoreError):  # reported by `check_files`
                if (dim := dim_of_vectors(file)) is not None:
                    dim_counts[dim] += 1
        likely = dim_counts.most_common(1)[0][0] if dim_counts else None
        try:
            declared = read_config(self.store).dim
            if not dim_counts or declared in dim_counts:
                return declared
            what = f"{path} declares {declared} dimensions, the vector files have {likely}"
        except StoreNotFoundError:
            what = f"{path} is missing"
        except StoreError as error:
            what = str(error).removesuffix(f": {PUT_BACK}")
            if what == str(error) and isinstance(error.__cause__, OSError):
                self.findings.append(unreadable(path, error.__cause__))
                return likely
        way_out = f"restore the original {STORE_FILE} before anything is written, or index into another store"
        self._find(FindingKind.CONFIG, what, Repair.BY_HAND, [path], way_out=way_out)
        return likely

    def check_rows(self, catalog: CheckedCatalog) -> None:
        """Check the rows of the catalog, and compare them with the files; the caller holds the writer's lock."""
        self.findings += catalog.check_integrity()
        self.vectors = stored_vectors(self.store, catalog.vector_files())
        self.containers = {key: catalog.containers(key) for key in catalog.collections()}
        self._compare_snapshot(catalog)
        for modality, lost in () if self.dim is None else lost_vectors(catalog, self.vectors, self.dim):
            what = f"{len(lost)} {modality} vectors that segments refer to are in no file (the first: {lost[0]})"
            where = [f"{modality} vector {number}" for number in lost[:20].tolist()]
            kind, way_out = FindingKind.VECTORS_LOST, REPAIR_THEN_INDEX
            self._find(kind, what, Repair.COMPACT, where, count=len(lost), way_out=way_out)
        if self.manifest is not None and (orphans := find_orphans(self.store, self.manifest, self.vectors)):
            what = f"{len(orphans)} unreferenced files or folders (the first: {orphans[0]})"
            self._find(FindingKind.ORPHANS, what, Repair.COMPACT, orphans)

    def _compare_snapshot(self, catalog: CheckedCatalog) -> None:
        """Compare all that the snapshot says with the catalog."""
        path = self.store / CURRENT
        if self.manifest is None:
            if (newest := newest_part(self.store)) > catalog.generation:
                what = f"the catalog is at {catalog.generation}, older than snapshot {newest}"
                self._find(FindingKind.CATALOG, f"{path} cannot be read, and {what}", Repair.RECOVER, [path])
            return
        if self.manifest.generation != catalog.generation:
            what = f"{path} has generation {self.manifest.generation}, the catalog is at {catalog.generation}"
            older = self.manifest.generation > catalog.generation
            kind, way = (FindingKind.CATALOG, Repair.RECOVER) if older else (FindingKind.CURRENT, Repair.COMPACT)
            self._find(kind, what, way, [path])
            return
        roots = {key: str(root) for key, root in catalog.collections().items()}
        if any(roots.get(key) != root for key, root in self.manifest.collections.items()):
            what = f"{path} lists other collections than the catalog"
            self._find(FindingKind.CURRENT, what, Repair.COMPACT, [path])
        listed, stored = (
            {(modality, file.name, file.rows) for modality, files in held.items() for file in files}
            for held in (self.manifest.vectors, catalog.vector_files())
        )
        if listed != stored:
            what = f"{path} lists {len(listed)} vector files, the catalog {len(stored)} (or others)"
            self._find(FindingKind.CURRENT, what, Repair.COMPACT, [path])
        try:
            snapshot = open_snapshot(self.store, self.manifest)
        except StoreError:  # reported by `check_files`
            return
        classes = snapshot.class_columns
        if catalog.class_records() != ({} if classes is None else classes.columns):
            what = "the snapshot has other columns of classes than the catalog"
            self._find(FindingKind.SNAPSHOT, what, Repair.COMPACT, [path])
            return
        values = no_values() if classes is None else classes.values
        contents = catalog.contents(*snapshot.live_tables(), values), catalog.contents()
        for name, in_snapshot, in_catalog in zip(("items", "segments", "values of classes"), *contents, strict=True):
            if in_snapshot != in_catalog:
                different = "" if in_snapshot.rows != in_catalog.rows else ", with other values"
                what = f"the snapshot has {in_snapshot.rows} {name}, the catalog {in_catalog.rows}{different}"
                self._find(FindingKind.SNAPSHOT, what, Repair.COMPACT, [path])

    def _drop_replaced(self, named: set[Path]) -> None:
        """Drop the findings about files that a writer has replaced during the check."""
        try:
            newest = read_manifest(self.store)
        except StoreError:  # reported before
            return
        if newest is not None and newest != self.manifest:
            replaced = {str(path) for path in named - named_paths(self.store, newest)}
            self.findings = [one for one in self.findings if one.kind not in OF_FILES or one.where[0] not in replaced]


def _size(path: Path) -> int:
    """Return the size of a file or folder in bytes, 0 if it is missing."""
    try:
        return folder_size(path) if path.is_dir() else path.stat().st_size
    except OSError:  # missing, or just merged by a writer
        return 0
