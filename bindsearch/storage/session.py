"""Write sessions: configuration, catalog and writer of a store under the writer lock."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bindsearch.atomic import TEMPORARY_SUFFIX, is_there, make_folder, sync_folder
from bindsearch.encoders.base import Encoder
from bindsearch.errors import StoreError, StoreNotFoundError, StoreUnwritableError, UsageError
from bindsearch.storage.catalog import Catalog, may_be_sound
from bindsearch.storage.catalog_file import CATALOG_FILE, LOST, keep_aside, readable_path
from bindsearch.storage.class_columns import stored_columns
from bindsearch.storage.config import (
    STORE_FILE,
    SegmentLengths,
    StoreConfig,
    check_encoder,
    new_config,
    read_config,
    write_config,
)
from bindsearch.storage.faults import store_faults
from bindsearch.storage.lock import LOCK_FILES, writer_lock
from bindsearch.storage.snapshot import Snapshot
from bindsearch.storage.snapshot_format import CURRENT, Manifest, part_of_tables
from bindsearch.storage.vector_files import VECTORS
from bindsearch.storage.writer import Writer, check_is_newest, log_loss


@contextmanager
def open_writer(
    store: Path, encoder: Encoder, segments: SegmentLengths, tell: Callable[[str], None] = log_loss
) -> Iterator[tuple[StoreConfig, Catalog, Writer]]:
    """Open a store for writing under the writer lock; create it if it does not exist.

    Args:
        store: Folder of the store.
        encoder: Encoder of the store.
        segments: Lengths of segments in a new store.
        tell: Called with a line about each part of the store that is given up.

    Yields:
        Configuration, catalog and writer of the store.

    Raises:
        StoreLockedError: another process holds the lock.
        StoreError: the encoder is not the store's, or the store cannot be written.
    """
    with store_faults(store):  # errors of media files are recorded, so others are about the store
        _make_folder(store)
        with writer_lock(store):
            # with a new, empty catalog, all vectors would be removed
            if not readable_path(store / CATALOG_FILE).is_file() and any((store / VECTORS).glob("*/*")):
                raise StoreError(
                    f"{CATALOG_FILE} of the store {store} is missing: restore it, or run `bindsearch recover` to "
                    "rebuild it from the snapshot"
                )
            if not (store / STORE_FILE).is_file():
                write_config(store, new_config(encoder, segments))
            config = read_config(store)
            check_encoder(config, encoder, store)
            with _open_catalog(store, tell) as catalog:
                yield config, catalog, Writer(store, catalog, config.dim, tell)


def snapshot_from_catalog(store: Path) -> Snapshot:
    """Return the newest generation, read from the catalog into memory; nothing on disk is changed.

    For readers whose snapshot is damaged or lost; writers rebuild it on disk. Its indexes are unknown.

    Raises:
        StoreNotFoundError: there is no store.
        StoreLockedError: another process is writing, and will rebuild the snapshot.
        StoreError: the catalog cannot be read either.
    """
    read_config(store)
    path = store / CATALOG_FILE
    if not is_there(readable_path(path)):
        if not any((store / VECTORS).glob("*/*")):
            raise StoreNotFoundError(f"nothing is indexed yet in {store}: run `bindsearch index FOLDER`")
        raise StoreError(f"the catalog {path} is missing: run `bindsearch recover`")
    with ExitStack() as held:
        with contextlib.suppress(StoreUnwritableError):  # a store that cannot be written has no writer
            held.enter_context(writer_lock(store))
        catalog = held.enter_context(Catalog(path, read_only=True))
        check_is_newest(store, catalog, None)
        failures = catalog.failures_table()
        vectors = {modality: tuple(files) for modality, files in catalog.vector_files().items()}
        collections = {key: str(root) for key, root in catalog.collections().items()}
        generation = catalog.generation
        columns = catalog.class_columns()
        manifest = Manifest(
            generation=generation,
            parts=(generation,),
            collections=collections,
            vectors=vectors,
            failures=generation if failures.num_rows else None,
            class_columns=None if columns is None else generation,
        )
        part = part_of_tables(catalog.items_table(), catalog.segments_table())
        stored = None if columns is None else stored_columns(columns)
        return Snapshot(manifest, (part,), failures if failures.num_rows else None, stored)


def _make_folder(store: Path) -> None:
    """Create the store's folder, or accept a folder that is empty or a store.

    Raises:
        UsageError: the folder has other content.
        StoreError: store.json is missing.
    """
    if store.exists() and not store.is_dir():
        raise UsageError(f"{store} is not a folder: pass a folder with --store")
    absolute = store.absolute()
    make_folder(absolute, Path(absolute.anchor))
    names = {path.name for path in store.iterdir() if not path.name.endswith(TEMPORARY_SUFFIX)} - LOCK_FILES - {LOST}
    if STORE_FILE in names:
        return
    if CATALOG_FILE in names:
        raise StoreError(f"{STORE_FILE} of the store {store} is missing: restore it, or index into another store")
    if names:
        raise UsageError(f"{store} is not empty and not a store: pass another folder with --store")
    sync_folder(absolute.parent)  # a killed run may have made the folder, but not its entry durable


def _open_catalog(store: Path, tell: Callable[[str], None]) -> Catalog:
    """Open the catalog; one that cannot be opened is created again if the store holds nothing else yet.

    Such a file is left by versions before 0.2 that were killed, or whose disk was full, while they created it.
    """
    path = store / CATALOG_FILE
    try:
        return Catalog(path)
    except StoreError as error:
        holds_something = (store / CURRENT).exists() or any((store / VECTORS).glob("*/*"))
        if not path.is_file() or holds_something or may_be_sound(error):
            raise
        try:
            path.read_bytes()
            return Catalog(path)  # it could not be read once
        except OSError:  # a file that only cannot be read now is kept
            raise error from None
        except StoreError:
            kept = keep_aside(store, path)
        tell(f"{error}; nothing is indexed yet, so it is created again, and the old file is in {kept}")
        return Catalog(path)
