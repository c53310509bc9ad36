"""A session of writing: the store's configuration, catalog and writer under the writer's lock; snapshots rebuilt."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bindsearch.atomic import TEMPORARY_SUFFIX
from bindsearch.encoders.base import Encoder
from bindsearch.environment import raise_installation_fault
from bindsearch.errors import StoreError, StoreLockedError, UsageError
from bindsearch.storage.catalog import CATALOG_FILE, Catalog
from bindsearch.storage.config import (
    STORE_FILE,
    SegmentLengths,
    StoreConfig,
    check_encoder,
    new_config,
    read_config,
    write_config,
)
from bindsearch.storage.lock import LOCK_FILES, writer_lock
from bindsearch.storage.vector_files import VECTORS
from bindsearch.storage.writer import Writer


@contextmanager
def open_writer(
    store: Path, encoder: Encoder, segments: SegmentLengths
) -> Iterator[tuple[StoreConfig, Catalog, Writer]]:
    """The store's configuration, catalog and writer, made where there is none yet; the writer's lock is held.

    Raises:
        StoreLockedError: another process holds it.
        StoreError: the encoder is not the store's, or the store cannot be written.
    """
    try:
        _make_folder(store)
        with writer_lock(store):
            _check_catalog(store)
            if not (store / STORE_FILE).is_file():
                write_config(store, new_config(encoder, segments))
            config = read_config(store)
            check_encoder(config, encoder, store)
            with Catalog(store / CATALOG_FILE) as catalog:
                yield config, catalog, Writer(store, catalog, config.dim)
    except OSError as error:  # those of media files are recorded, so this is the store's
        raise_installation_fault(error)
        raise StoreError(f"cannot write the store {store}: {error}; what was committed stays") from error


def rebuild_snapshot(store: Path, dim: Callable[[], int]) -> None:
    """Derive the snapshot from the catalog again, where no writer is at work (which would do it itself)."""
    path = store / CATALOG_FILE
    with contextlib.suppress(StoreLockedError, OSError):  # a read-only store stays as it is
        if path.is_file():
            with writer_lock(store), Catalog(path) as catalog:
                Writer(store, catalog, dim())


def _make_folder(store: Path) -> None:
    """Make the store's folder, or accept one that is empty or a store.

    Raises:
        UsageError: it holds something else.
    """
    if store.exists() and not store.is_dir():
        raise UsageError(f"{store} is not a folder: give --store one")
    store.mkdir(parents=True, exist_ok=True)
    found = {path.name for path in store.iterdir() if not path.name.endswith(TEMPORARY_SUFFIX)} - LOCK_FILES
    if STORE_FILE in found:
        return
    if CATALOG_FILE in found:
        raise StoreError(f"the store {store} is missing its {STORE_FILE}: put it back, or index into another one")
    if found:
        raise UsageError(f"{store} is not empty and no store: give --store another folder")


def _check_catalog(store: Path) -> None:
    """Refuse a store that has lost its catalog: a new one would know of none of its vectors, which would be removed.

    Raises:
        StoreError: it has.
    """
    if not (store / CATALOG_FILE).is_file() and any((store / VECTORS).glob("*/*")):
        raise StoreError(
            f"the store {store} is missing its {CATALOG_FILE}: put it back (see `bindsearch verify`), or index "
            "into another one"
        )
