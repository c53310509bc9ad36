"""Repair and compaction: discard damaged parts so that they are rebuilt, and remove deleted rows and orphans."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bindsearch.atomic import folder_size, is_there
from bindsearch.errors import StoreError, first_line
from bindsearch.former_names import former_fields
from bindsearch.operations.verify.catalog import CheckedCatalog
from bindsearch.operations.verify.check import StoreCheck, check_is_store
from bindsearch.operations.verify.findings import Finding, FindingKind, Repair
from bindsearch.operations.verify.store_files import find_orphans, lost_vectors, stored_vectors
from bindsearch.reports import OnStage, ignore_stage
from bindsearch.search.words.index import write_words
from bindsearch.storage.catalog import REMEDY
from bindsearch.storage.catalog_file import CATALOG_FILE, checkpoint, keep_aside, log_bytes, readable_path
from bindsearch.storage.config import StoreConfig, read_config
from bindsearch.storage.session import writer_lock
from bindsearch.storage.snapshot import read_manifest
from bindsearch.storage.writer import Writer

DISCARDED_KINDS = (FindingKind.VECTOR_FILE_MISSING, FindingKind.VECTOR_FILE_DAMAGED, FindingKind.VECTORS_UNFIT)
UNREPAIRABLE_KINDS = (FindingKind.CONFIG, FindingKind.CATALOG, FindingKind.FILE_UNREADABLE)


def repair(
    store: Path, config: StoreConfig, catalog: CheckedCatalog, *, on_stage: OnStage = ignore_stage
) -> list[Finding]:
    """Repair the catalog of a store, and return what was found.

    The caller holds the writer's lock. A Writer created next finds only faults that it recovers from itself. Vector
    files whose content has changed since they were written are moved to `lost/`; the next `index` embeds their items
    again.

    Args:
        store: Folder of the store.
        config: Configuration of the store.
        catalog: Open catalog of the store.
        on_stage: Called with the name of each stage.

    Returns:
        All findings of the check, those that were repaired and those that remain.

    Raises:
        StoreError: the damage cannot be repaired; nothing was changed.
    """
    check = StoreCheck(store, on_stage)
    check.check_rows(catalog)
    check.check_files()
    kinds = {finding.kind for finding in check.findings}
    for finding in check.findings:
        if finding.kind in UNREPAIRABLE_KINDS:
            raise StoreError(finding.message)
    catalog.repair()
    discarded = {finding.where[0] for finding in check.findings if finding.kind in DISCARDED_KINDS}
    for file in check.vectors:
        if str(file.path) in discarded:
            if is_there(file.path):
                keep_aside(store, file.path)
            catalog.forget_lost_vectors(file.modality, file.path.name, file.first_id, file.end_id)
    if FindingKind.VECTORS_LOST in kinds:
        files = stored_vectors(store, catalog.vector_files())
        for modality, lost in list(lost_vectors(catalog, files, config.dim)):
            catalog.forget_vectors(modality, lost)
    return check.findings


@former_fields(mended="repaired", left="remaining")
@dataclass(frozen=True, slots=True)
class CompactReport:
    """Report of a compaction.

    Attributes:
        before_bytes: Size of the store before.
        after_bytes: Size of the store after.
        repaired: Findings that were repaired.
        remaining: Findings that need another command.
    """

    before_bytes: int
    after_bytes: int
    repaired: tuple[Finding, ...]
    remaining: tuple[Finding, ...]


@contextmanager
def locked_catalog(store: Path) -> Iterator[tuple[StoreConfig, CheckedCatalog]]:
    """Yield a store's configuration and catalog under the writer's lock; no encoder is loaded.

    Args:
        store: Folder of the store.

    Yields:
        The configuration and the open catalog.

    Raises:
        StoreNotFoundError: there is no store.
        StoreLockedError: another process is writing.
        StoreError: store.json or the catalog is missing or damaged.
    """
    check_is_store(store)
    with writer_lock(store), open_catalog(store) as opened_store:
        yield opened_store


@contextmanager
def open_catalog(store: Path) -> Iterator[tuple[StoreConfig, CheckedCatalog]]:
    """Yield a store's configuration and catalog; the caller holds the writer's lock.

    Raises:
        StoreNotFoundError: there is no store.
        StoreError: store.json or the catalog is missing or damaged.
    """
    config, path = read_config(store), store / CATALOG_FILE
    if not readable_path(path).is_file():
        raise StoreError(f"the catalog {path} is missing: {REMEDY}")
    with CheckedCatalog(path) as catalog:
        yield config, catalog


def compact_store(store: Path, *, on_stage: OnStage = ignore_stage) -> CompactReport:
    """Repair what can be repaired without embedding, remove deleted rows and orphans, and compact the catalog.

    Args:
        store: Folder of the store.
        on_stage: Called with the name of each stage.

    Returns:
        What was repaired, what remains, and the sizes before and after.

    Raises:
        StoreNotFoundError: there is no store.
        StoreLockedError: another process is writing.
        StoreError: the store cannot be repaired; nothing was changed.
    """
    check_is_store(store)
    before = folder_size(store)
    with writer_lock(store):
        with open_catalog(store) as (config, catalog):
            findings = repair(store, config, catalog, on_stage=on_stage)
            on_stage("compacting the store")
            Writer(store, catalog, config.dim).compact(dead_share=0.0)
            manifest = read_manifest(store)
            assert manifest is not None  # the writer has made one
            for path in find_orphans(store, manifest, stored_vectors(store, catalog.vector_files())):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
            write_words(store, manifest, on_stage)
        shrink_catalog(store / CATALOG_FILE)
    repaired = tuple(one for one in findings if one.repair is Repair.COMPACT or one.kind in DISCARDED_KINDS)
    remaining = tuple(one for one in findings if one not in repaired)
    return CompactReport(before, folder_size(store), repaired, remaining)


def shrink_catalog(path: Path) -> None:
    """Rewrite a closed catalog without the space of deleted rows, which DuckDB frees only at the end of the file.

    The copy replaces the catalog and its log atomically, if it is smaller: with little in it, a log alone is smaller.

    Raises:
        StoreError: the catalog could not be copied.
    """
    import duckdb

    try:
        checkpoint(path, _rewrite)
    except (duckdb.Error, OSError) as error:
        raise StoreError(f"the catalog {path} could not be copied: {first_line(error)}") from error


def _rewrite(path: Path, copy: Path) -> bool:
    """Copy the live rows of a catalog, with those in its log, to a new file; return whether that is smaller."""
    import duckdb

    with duckdb.connect() as connection:  # ATTACH needs access to files
        connection.execute(f"ATTACH {_quoted(path)} AS old (READ_ONLY)")
        connection.execute(f"ATTACH {_quoted(copy)} AS fresh")
        connection.execute("COPY FROM DATABASE old TO fresh")
        connection.execute("DETACH fresh")
        connection.execute("DETACH old")
    return copy.stat().st_size < path.stat().st_size + log_bytes(path)


def _quoted(path: Path) -> str:
    """Return a path as an SQL string literal: ATTACH accepts no bound parameters."""
    return "'" + str(path).replace("'", "''") + "'"
