"""Conversion of a store to another encoder: all files are embedded into a new store, which replaces the old one."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from bindsearch.atomic import atomic_write, is_there, sync_folder
from bindsearch.encoders.base import Encoder
from bindsearch.errors import SnapshotDamagedError, StoreError, StoreNotFoundError, UsageError
from bindsearch.ingest.media.options import decode_options, limit_segments
from bindsearch.ingest.scan.target import ScanTarget
from bindsearch.ingest.workers.pool import Decoders
from bindsearch.media import NO_CONTENT
from bindsearch.operations.classify.column import carry_columns
from bindsearch.operations.compact import open_catalog
from bindsearch.operations.context import StoreContext
from bindsearch.operations.index import IndexRequest, index_targets
from bindsearch.operations.index_policy import read_index_settings
from bindsearch.reports import IndexReport, OnProgress, OnStage, ignore_progress, ignore_stage
from bindsearch.search.scoring.calibration_file import CALIBRATION_FILE, read_calibration
from bindsearch.small_files import read_small_file
from bindsearch.storage.catalog import Catalog
from bindsearch.storage.catalog_file import CATALOG_FILE, LOST, place_aside, torn_log_message
from bindsearch.storage.config import STORE_FILE, StoreConfig, read_config
from bindsearch.storage.session import writer_lock
from bindsearch.storage.snapshot import read_manifest
from bindsearch.storage.writer import check_is_newest, log_loss
from bindsearch.types import Modality

SHOWN_LOST = 3
"""Number of paths that a message shows."""

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


def reindex(
    context: StoreContext,
    request: IndexRequest,
    *,
    on_progress: OnProgress = ignore_progress,
    on_stage: OnStage = ignore_stage,
) -> IndexReport:
    """Embed all collections of a store with the context's encoder; searches use the old store until it finishes.

    The new store is built in a folder next to the old one. If the run is interrupted, the next one resumes it. Items
    get new ids.

    Args:
        context: Store, new encoder and GPUs.
        request: Rules, limits, and the rate of IMU recordings. With `prune`, items whose files are missing, fail now or
            have a modality that the encoder does not support are left out; without it, they raise UsageError.
        on_progress: Called with the progress of the run.
        on_stage: Called with the name of each stage of the index maintenance.

    Returns:
        Report of the indexing run.

    Raises:
        StoreNotFoundError: there is no store.
        StoreLockedError: another process is writing.
        UsageError: items would be lost, or a rule or limit is invalid.
        StoreError: the catalog is missing, damaged or older than the snapshot, or the new store cannot replace the old.
    """
    store, encoder = context.path.resolve(), context.encoder
    config = read_config(store)
    new_store = store.with_name(f".{store.name}.reindex")
    with writer_lock(store), Decoders(encoder, context.decode) as decoders:
        _start(new_store, config, encoder)
        with open_catalog(store) as (_, catalog):
            if catalog.cut_bytes:
                log_loss(torn_log_message(store, catalog.cut_bytes))
            with suppress(SnapshotDamagedError):
                if (manifest := read_manifest(store)) is not None:
                    check_is_newest(store, catalog, manifest)
            collections, items = catalog.collections(), _item_paths(catalog)
            columns = [*catalog.class_records().values()]
        roots_of = {key: str(root) for key, root in collections.items()}
        unknown = sorted(path for path, modality in items.items() if modality not in encoder.modalities)
        if unknown and not request.prune:
            raise _would_lose(unknown, f"have modalities that the encoder {encoder.name} does not support", "")
        missing = sorted(path for path in items if not _exists(Path(path)))
        if missing and not request.prune:
            raise _would_lose(missing, "have no file any more", "restore the files, or ")
        report = index_targets(
            replace(context, path=new_store, segments=limit_segments(decode_options(config, None), encoder.wants)),
            lambda new, _: _targets(collections, new, store, new_store),
            replace(request, retry_failed=True, prune=True),
            decoders,
            read_index_settings(store),
            on_progress,
            on_stage,
        )
        with Catalog(new_store / CATALOG_FILE) as catalog:
            roots = catalog.collections()
            failures = catalog.failures_table().to_pylist()
            reasons = {str(roots[row["collection_id"]] / row["rel_path"]): row["reason"] for row in failures}
            empty = {path for path, reason in reasons.items() if reason.startswith(NO_CONTENT)}
            lost = sorted(items.keys() - _item_paths(catalog).keys() - empty)
        if lost and not request.prune:
            descriptions = [f"{path}: {reasons[path]}" if path in reasons else path for path in lost]
            raise _would_lose(descriptions, "cannot be embedded now", "fix the cause and run it again, or ")
        _keep_calibration(store, new_store)
        report.notices += carry_columns([(column, roots_of) for column in columns], new_store, encoder, str(store))
        _replace(store, new_store)
    return report


def _keep_calibration(store: Path, new_store: Path) -> None:
    """Copy the coefficients of the store's calibration if they are for the encoder of the new store, too."""
    path = store / CALIBRATION_FILE
    with suppress(StoreError):
        if read_calibration(path, read_config(new_store)):
            with atomic_write(new_store / CALIBRATION_FILE) as file:
                file.write(read_small_file(path))


def _start(new_store: Path, config: StoreConfig, encoder: Encoder) -> None:
    """Keep the new store of an interrupted run if it has the same encoder and options, else remove it."""
    if not is_there(new_store):
        return
    try:
        previous = read_config(new_store)
    except (StoreError, StoreNotFoundError) as error:  # it may have been interrupted before anything was there
        if isinstance(error.__cause__, OSError):
            raise
    else:
        made_by = (previous.encoder, previous.weights_digest, previous.encoder_options)
        same = made_by == (encoder.name, encoder.digest, dict(encoder.options))
        if same and decode_options(previous, None) == limit_segments(decode_options(config, None), encoder.wants):
            return
    _remove(new_store)


def _targets(collections: dict[int, Path], new: Catalog, store: Path, new_store: Path) -> list[ScanTarget]:
    """Return a target for each collection, including missing roots: their items are reported as lost."""
    new_keys = {root: key for key, root in new.collections().items()}
    every = {store.resolve(), new_store.resolve(), *collections.values()}
    keys = {root: new_keys[root] if root in new_keys else new.add_collection(root) for root in collections.values()}
    return [ScanTarget(key, root, frozenset(every - {root})) for root, key in keys.items()]


def _item_paths(catalog: Catalog) -> dict[str, Modality]:
    """Return the modality of each item by path."""
    roots = catalog.collections()
    rows = catalog.items_table().select(["collection_id", "rel_path", "modality"]).to_pylist()
    return {str(roots[row["collection_id"]] / row["rel_path"]): Modality(row["modality"]) for row in rows}


def _would_lose(paths: Sequence[str], why: str, remedy: str) -> UsageError:
    """Return the error for items that the new store would not have."""
    shown = ", ".join(paths[:SHOWN_LOST]) + (", ..." if len(paths) > SHOWN_LOST else "")
    return UsageError(f"{len(paths)} of the store's items {why} ({shown}): {remedy}leave them out with --prune")


def _exists(path: Path) -> bool:
    """Return whether a file exists, or an archive that contains the path."""
    return path.exists() or any(parent.is_file() for parent in path.parents)


def _replace(store: Path, new: Path) -> None:
    """Replace `store` by `new`, atomically if the system supports it, and remove the old store."""
    try:
        if not _exchange(store, new):
            old = store.with_name(f".{store.name}.old")
            store.rename(old)
            try:
                new.rename(store)
            except OSError:
                old.rename(store)
                raise
            old.rename(new)
    except OSError as error:
        fault = f"cannot be moved to {store}: {error.strerror}"
        raise StoreError(f"the new store is complete at {new}, but {fault}") from error
    sync_folder(store.parent)
    if (lost := new / LOST).is_dir():
        target = store / LOST
        lost.rename(place_aside(store, target) if is_there(target) else target)
        sync_folder(store)
    _remove(new)


def _remove(store: Path) -> None:
    """Remove a store; store.json first, so that the next run does not resume what a crash leaves of it."""
    (store / STORE_FILE).unlink(missing_ok=True)
    sync_folder(store)
    shutil.rmtree(store)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two folders atomically with renameat2 of Linux; return False if system or file system cannot."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        result = libc.renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)
    except (OSError, AttributeError):
        return False
    return int(result) == 0
