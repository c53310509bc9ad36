"""Repair and compaction: discard damaged parts so that they are rebuilt, and remove deleted rows and orphans."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bindsearch.atomic import folder_size
from bindsearch.errors import StoreError, first_line
from bindsearch.former_names import former_fields
from bindsearch.operations.verify.catalog import CheckedCatalog
from bindsearch.operations.verify.check import check_is_store
from bindsearch.operations.verify.findings import Finding, Repair
from bindsearch.operations.verify.repair import DISCARDED_KINDS, repair
from bindsearch.operations.verify.store_files import find_orphans, stored_vectors
from bindsearch.reports import OnStage, ignore_stage
from bindsearch.search.words.index import write_words
from bindsearch.storage.catalog import REMEDY
from bindsearch.storage.catalog_file import CATALOG_FILE, checkpoint, log_bytes, readable_path
from bindsearch.storage.config import StoreConfig, read_config
from bindsearch.storage.lock import writer_lock
from bindsearch.storage.snapshot import Manifest, read_manifest
from bindsearch.storage.writer import Writer


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
            _remove_orphans(store, catalog, manifest)
            write_words(store, manifest, on_stage)
        shrink_catalog(store / CATALOG_FILE)
    repaired = tuple(
        finding for finding in findings if finding.repair is Repair.COMPACT or finding.kind in DISCARDED_KINDS
    )
    remaining = tuple(finding for finding in findings if finding not in repaired)
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


def _remove_orphans(store: Path, catalog: CheckedCatalog, manifest: Manifest) -> None:
    """Remove files and folders that neither the catalog nor CURRENT refers to."""
    for path in find_orphans(store, manifest, stored_vectors(store, catalog.vector_files())):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _quoted(path: Path) -> str:
    """Return a path as an SQL string literal: ATTACH accepts no bound parameters."""
    text = str(path).replace("'", "''")
    return f"'{text}'"
