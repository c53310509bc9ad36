"""Repair and compaction: damaged parts are given up so that they are rebuilt, deleted rows and orphans are removed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bindsearch.atomic import TEMPORARY_SUFFIX, folder_size, sync_folder
from bindsearch.errors import StoreError
from bindsearch.former_names import former_fields
from bindsearch.operations.verify import StoreCheck, check_is_store
from bindsearch.operations.verify.catalog import CheckedCatalog
from bindsearch.operations.verify.findings import Finding, FindingKind, Repair
from bindsearch.operations.verify.store_files import find_orphans, lost_vectors, stored_vectors
from bindsearch.reports import OnStage, ignore_stage
from bindsearch.storage.catalog import CATALOG_FILE
from bindsearch.storage.config import StoreConfig, read_config
from bindsearch.storage.lock import writer_lock
from bindsearch.storage.snapshot import read_manifest
from bindsearch.storage.writer import Writer
from bindsearch.types import Modality

SHRINK_THRESHOLD = 0.9
"""A copy of the catalog takes its place where it is at most this share of it."""

DISCARDED_KINDS = (FindingKind.VECTOR_FILE_MISSING, FindingKind.VECTOR_FILE_DAMAGED, FindingKind.VECTORS_UNFIT)
UNREPAIRABLE_KINDS = (FindingKind.CONFIG, FindingKind.CATALOG)


@former_fields(mended="repaired", left="remaining")
@dataclass(frozen=True, slots=True)
class CompactReport:
    """Bytes of the store before and after; what was repaired, and what needs another command."""

    before_bytes: int
    after_bytes: int
    repaired: tuple[Finding, ...]
    remaining: tuple[Finding, ...]


@contextmanager
def locked_catalog(store: Path) -> Iterator[tuple[StoreConfig, CheckedCatalog]]:
    """A store's configuration and catalog under the writer's lock; no encoder is asked for.

    Raises:
        StoreNotFoundError: there is no store.
        StoreLockedError: another process is writing.
        StoreError: store.json or the catalog is missing or damaged.
    """
    check_is_store(store)
    with writer_lock(store), _open(store) as opened:
        yield opened


def compact_store(store: Path, *, on_stage: OnStage = ignore_stage) -> CompactReport:
    """Repair what can be repaired without embedding, drop dead rows and orphans, and write the catalog small.

    Raises:
        StoreNotFoundError: there is no store.
        StoreLockedError: another process is writing.
        StoreError: the store cannot be repaired; nothing was changed.
    """
    check_is_store(store)
    before = folder_size(store)
    with writer_lock(store):
        with _open(store) as (config, catalog):
            found = repair(store, config, catalog, on_stage=on_stage)
            on_stage("compacting the store")
            Writer(store, catalog, config.dim).compact(dead_share=0.0)
            _remove_orphans(store, catalog)
        shrink_catalog(store / CATALOG_FILE)
    repaired = tuple(one for one in found if one.repair is Repair.COMPACT or one.kind in DISCARDED_KINDS)
    remaining = tuple(one for one in found if one not in repaired)
    return CompactReport(before, folder_size(store), repaired, remaining)


def repair(
    store: Path,
    config: StoreConfig,
    catalog: CheckedCatalog,
    *,
    on_stage: OnStage = ignore_stage,
) -> list[Finding]:
    """Repair the catalog of a store whose lock is held, so that a Writer made next finds all in order but what it
    recovers from itself; what was found.

    Vector files that are not as they were written are given up, and their items will be embedded anew.

    Raises:
        StoreError: what is damaged cannot be repaired; nothing was changed.
    """
    check = StoreCheck(store, on_stage)
    check.look_at_catalog(catalog)
    check.look_at_files()
    kinds = {one.kind for one in check.findings}
    for one in check.findings:
        if one.kind in UNREPAIRABLE_KINDS:
            raise StoreError(one.message)
    catalog.repair()
    given_up = {one.where[0] for one in check.findings if one.kind in DISCARDED_KINDS}
    for file in check.vectors:
        if str(file.path) in given_up:
            catalog.forget_lost_vectors(file.modality, file.path.name, file.first_id, file.end_id)
    if FindingKind.VECTORS_LOST in kinds:
        files = stored_vectors(store, catalog.vector_files(), {})
        for modality in Modality:
            lost = lost_vectors(files, modality, config.dim, catalog.live_vector_ids)
            if len(lost):
                catalog.forget_vectors(modality, lost)
    if check.manifest is not None:
        catalog.raise_generation(check.manifest.generation)
    return check.findings


def shrink_catalog(path: Path) -> None:
    """Write a closed catalog again without the room that deleted rows have left, where that makes it much smaller:
    DuckDB itself gives back only what is free at the end of the file.

    The copy takes the catalog's place in one step: a process killed meanwhile leaves the old one.
    """
    import duckdb

    with duckdb.connect(str(path)) as connection:
        connection.execute("CHECKPOINT")
    if path.with_name(f"{path.name}.wal").exists():  # what it holds would be lost
        return
    copy = path.with_name(f".{path.name}{TEMPORARY_SUFFIX}")
    copy.unlink(missing_ok=True)
    try:
        with duckdb.connect() as connection:
            connection.execute(f"ATTACH {_quoted(path)} AS old (READ_ONLY)")
            connection.execute(f"ATTACH {_quoted(copy)} AS fresh")
            connection.execute("COPY FROM DATABASE old TO fresh")
            connection.execute("DETACH fresh")
            connection.execute("DETACH old")
        with copy.open("rb+") as file:
            os.fsync(file.fileno())
        if copy.stat().st_size <= SHRINK_THRESHOLD * path.stat().st_size:
            copy.replace(path)
    except duckdb.Error as error:
        raise StoreError(f"the catalog {path} could not be copied: {str(error).splitlines()[0]}") from error
    finally:
        copy.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextmanager
def _open(store: Path) -> Iterator[tuple[StoreConfig, CheckedCatalog]]:
    config, path = read_config(store), store / CATALOG_FILE
    if not path.is_file():
        raise StoreError(f"the catalog {path} is missing: see `bindsearch verify`")
    with CheckedCatalog(path) as catalog:
        yield config, catalog


def _remove_orphans(store: Path, catalog: CheckedCatalog) -> None:
    manifest = read_manifest(store)
    assert manifest is not None  # the writer has made one
    for path in find_orphans(store, manifest, stored_vectors(store, catalog.vector_files(), {})):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _quoted(path: Path) -> str:
    """A path as SQL writes a text: ATTACH takes no bound parameters."""
    text = str(path).replace("'", "''")
    return f"'{text}'"
