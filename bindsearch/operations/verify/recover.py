"""Recovery of a store whose catalog is damaged, missing or outdated: a new one is made from the snapshot."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bindsearch.atomic import TEMPORARY_SUFFIX, is_there, sync_folder
from bindsearch.errors import SnapshotDamagedError, StoreError, VectorFileLostError
from bindsearch.hashing import hash_file
from bindsearch.operations.verify.catalog import CheckedCatalog
from bindsearch.operations.verify.check import check_is_store
from bindsearch.reports import OnStage, ignore_stage
from bindsearch.storage.catalog import REMEDY, may_be_sound
from bindsearch.storage.catalog_file import (
    CATALOG_FILE,
    checkpoint,
    copy_aside,
    keep_aside,
    log_path,
    next_path,
    readable_path,
    torn_log_message,
)
from bindsearch.storage.config import read_config
from bindsearch.storage.session import writer_lock
from bindsearch.storage.snapshot import CURRENT, SNAPSHOTS, Snapshot, open_snapshot, read_manifest
from bindsearch.storage.snapshot_format import newest_part
from bindsearch.storage.vector_files import VECTORS, open_stored_vectors
from bindsearch.storage.writer import Writer, collected_losses
from bindsearch.types import Modality


@dataclass(frozen=True, slots=True)
class RecoverReport:
    """Report of a recovery.

    Attributes:
        reason: What was wrong; empty if nothing was.
        source: "snapshot" or "catalog": what the store was recovered from; empty if nothing was wrong.
        items: Number of items of the store now.
        segments: Number of segments.
        losses: What was given up, a line each.
    """

    reason: str
    source: str
    items: int
    segments: int
    losses: tuple[str, ...]


def recover_store(store: Path, *, on_stage: OnStage = ignore_stage) -> RecoverReport:
    """Make a store usable again whose catalog is damaged, missing, or older than the snapshot.

    The catalog is built again from the snapshot and the vector files. If the snapshot is damaged too, an outdated
    catalog is used. What is replaced is kept in `lost/` of the store. A store with a good catalog is left as it is.

    Args:
        store: Folder of the store.
        on_stage: Called with the name of each stage.

    Returns:
        What was done.

    Raises:
        StoreNotFoundError: there is no store.
        StoreLockedError: another process is writing.
        StoreError: neither the catalog nor the snapshot can be read, a file cannot be read now, or the catalog is in
            use or of a newer version.
    """
    check_is_store(store)
    with writer_lock(store), collected_losses() as losses:
        dim = read_config(store).dim
        on_stage("reading the catalog")
        fault = _catalog_fault(store)
        losses.extend(fault.losses)
        source = ""
        if fault.reason:
            source = "catalog" if fault.is_usable else _replace_catalog(store, dim, fault, on_stage)
        with CheckedCatalog(store / CATALOG_FILE) as catalog:
            if fault.reason:
                Writer(store, catalog, dim, losses.append)
            items, segments, _ = catalog.contents()
        return RecoverReport(fault.reason, source, items.rows, segments.rows, tuple(losses))


class _Fault(NamedTuple):
    """Fault of a catalog: what is wrong, empty if nothing is, and what was cut from it, a line each."""

    reason: str = ""
    is_readable: bool = False  # it can be read nevertheless, but may be outdated
    is_usable: bool = False  # it holds all that was committed
    losses: tuple[str, ...] = ()


def _catalog_fault(store: Path) -> _Fault:
    """Return the fault of the catalog, after cutting the torn end of its log; raise StoreError if it may be sound."""
    path = store / CATALOG_FILE
    if not is_there(readable_path(path).resolve()):  # also behind a link, where opening it would create a new one
        return _Fault(f"the catalog {path} is missing")
    try:
        with CheckedCatalog(path) as catalog:
            catalog.check_integrity()
            generation, cut = catalog.generation, catalog.cut_bytes
    except StoreError as error:
        if may_be_sound(error):
            raise
        return _Fault(str(error).removesuffix(f": {REMEDY}"))
    losses = (torn_log_message(store, cut),) if cut else ()
    try:
        manifest = read_manifest(store)
        newest = newest_part(store) if manifest is None else manifest.generation
    except SnapshotDamagedError:
        newest = newest_part(store)
    if newest > generation:
        reason = f"the catalog is at generation {generation}, the snapshot at {newest}"
        return _Fault(reason, is_readable=True, losses=losses)
    return _Fault("the end of its log was torn" if cut else "", is_readable=True, is_usable=True, losses=losses)


def _replace_catalog(store: Path, dim: int, fault: _Fault, on_stage: OnStage) -> str:
    """Replace the catalog by one made from the snapshot, or the other way round; return "snapshot" or "catalog"."""
    path = store / CATALOG_FILE
    try:
        manifest = read_manifest(store)
        if manifest is None:
            raise SnapshotDamagedError(f"{store / CURRENT} is missing")
        snapshot = open_snapshot(store, manifest)
    except SnapshotDamagedError as error:
        if not fault.is_readable:
            remedy = f"restore {CATALOG_FILE} from a copy, or remove the store's folder and index again"
            raise StoreError(f"{fault.reason}, and {str(error).partition(': run')[0]}: {remedy}") from error
        for old in (store / CURRENT, store / SNAPSHOTS):
            if is_there(old):
                keep_aside(store, old)
        return "catalog"
    on_stage("rebuilding the catalog from the snapshot")
    new = path.with_name(f".{path.name}.recover{TEMPORARY_SUFFIX}")
    for leftover in (new, log_path(new), next_path(new)):
        leftover.unlink(missing_ok=True)
    with CheckedCatalog(new) as catalog:
        files, next_vector_id = _vector_files(store, dim, snapshot)
        catalog.restore(snapshot, files, next_vector_id)
    checkpoint(new)
    for old in (path, log_path(path), next_path(path)):
        if is_there(old):
            put_aside = copy_aside if old == path and old.is_file() else keep_aside
            put_aside(store, old)
    new.replace(path)
    sync_folder(store)
    return "snapshot"


def _vector_files(store: Path, dim: int, snapshot: Snapshot) -> tuple[list[tuple[Modality, str, int, str]], int]:
    """Return modality, name, rows and digest of the snapshot's vector files, and a vector id above all of theirs."""
    files, end = [], 1
    for modality, entries in snapshot.manifest.vectors.items():
        for entry in entries:
            path, digest = store / VECTORS / modality / entry.name, entry.digest
            end = max(end, entry.first_id + entry.rows)
            with suppress(VectorFileLostError):  # the writer gives it up
                end = max(end, int(open_stored_vectors(path.parent, entry, dim).vector_ids[-1]) + 1)
                digest = digest or hash_file(path)
            files.append((modality, entry.name, entry.rows, digest))
    return files, end
