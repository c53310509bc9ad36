"""Write sessions: configuration, catalog and writer of a store under the writer lock."""

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
    """Open a store for writing under the writer lock; create it if it does not exist.

    Args:
        store: Folder of the store.
        encoder: Encoder of the store.
        segments: Lengths of segments in a new store.

    Yields:
        Configuration, catalog and writer of the store.

    Raises:
        StoreLockedError: another process holds the lock.
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
    except OSError as error:  # errors of media files are recorded, so this one is about the store
        raise_installation_fault(error)
        raise StoreError(f"cannot write the store {store}: {error}; committed data is kept") from error


def rebuild_snapshot(store: Path, dim: Callable[[], int]) -> None:
    """Rebuild the snapshot from the catalog, unless a writer is active, which rebuilds it itself.

    Args:
        store: Folder of the store.
        dim: Returns the dimensions of the store's embedding space.
    """
    path = store / CATALOG_FILE
    with contextlib.suppress(StoreLockedError, OSError):  # a read-only store is left unchanged
        if path.is_file():
            with writer_lock(store), Catalog(path) as catalog:
                Writer(store, catalog, dim())


def _make_folder(store: Path) -> None:
    """Create the store's folder, or accept a folder that is empty or a store.

    Raises:
        UsageError: the folder has other content.
        StoreError: store.json is missing.
    """
    if store.exists() and not store.is_dir():
        raise UsageError(f"{store} is not a folder: pass a folder with --store")
    store.mkdir(parents=True, exist_ok=True)
    names = {path.name for path in store.iterdir() if not path.name.endswith(TEMPORARY_SUFFIX)} - LOCK_FILES
    if STORE_FILE in names:
        return
    if CATALOG_FILE in names:
        raise StoreError(f"{STORE_FILE} of the store {store} is missing: restore it, or index into another store")
    if names:
        raise UsageError(f"{store} is not empty and not a store: pass another folder with --store")


def _check_catalog(store: Path) -> None:
    """Check that a store with vectors has a catalog; with a new, empty one, all vectors would be removed.

    Raises:
        StoreError: the catalog is missing.
    """
    if not (store / CATALOG_FILE).is_file() and any((store / VECTORS).glob("*/*")):
        raise StoreError(
            f"{CATALOG_FILE} of the store {store} is missing: restore it (see `bindsearch verify`), or index into "
            "another store"
        )
