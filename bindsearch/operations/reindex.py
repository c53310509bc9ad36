"""Moving a store over to another encoder: all files are embedded anew beside it, then it is replaced at once."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from bindsearch.atomic import sync_folder
from bindsearch.encoders.base import Encoder
from bindsearch.errors import StoreError, UsageError
from bindsearch.ingest.media.options import decode_options
from bindsearch.ingest.scan.collection import ScanTarget
from bindsearch.ingest.workers.pool import Decoders
from bindsearch.operations.context import StoreContext
from bindsearch.operations.index import IndexRequest, index_targets
from bindsearch.operations.index_policy import read_index_settings
from bindsearch.reports import IndexReport, OnProgress, OnStage, ignore_progress, ignore_stage
from bindsearch.storage.catalog import CATALOG_FILE, Catalog
from bindsearch.storage.config import StoreConfig, read_config
from bindsearch.storage.lock import writer_lock
from bindsearch.types import Modality

SHOWN_LOST = 3
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


def reindex(
    context: StoreContext,
    *,
    rules: Iterable[str] = (),
    imu_rate_hz: float | None = None,
    limits: Mapping[str, float] | None = None,
    prune: bool = False,
    on_progress: OnProgress = ignore_progress,
    on_stage: OnStage = ignore_stage,
) -> IndexReport:
    """Embed all collections of a store with the context's encoder; searches see the old store until all is done.

    What was done stays where a run ends early, in a folder beside the store, and the next one goes on from there. Item
    numbers are new ones. `prune`: leave out items whose files are gone, fail now or are of a modality that the encoder
    does not know, instead of refusing.

    Raises:
        StoreNotFoundError: there is no store.
        StoreLockedError: another process is writing.
        UsageError: items would be lost, or a rule or limit is wrong.
    """
    store, encoder = context.path.resolve(), context.encoder
    config = read_config(store)
    beside = store.with_name(f".{store.name}.reindex")
    with writer_lock(store), Decoders(encoder, context.decode) as decoders:
        _start(beside, config, encoder)
        with Catalog(store / CATALOG_FILE) as catalog:
            collections, items = catalog.collections(), _places(catalog)
        unknown = sorted(place for place, modality in items.items() if modality not in encoder.modalities)
        if unknown and not prune:
            raise _would_lose(unknown, f"are of modalities that the encoder {encoder.name} does not know", "")
        missing = sorted(place for place in items if not _is_there(Path(place)))
        if missing and not prune:
            raise _would_lose(missing, "have no file now", "restore the files, or ")
        request = IndexRequest(rules, imu_rate_hz, retry_failed=True, prune=True, limits=limits or {})
        report = index_targets(
            replace(context, path=beside, segments=decode_options(config, None)),
            lambda new: _targets(collections, new, store, beside),
            request,
            decoders,
            read_index_settings(store),
            on_progress,
            on_stage,
        )
        with Catalog(beside / CATALOG_FILE) as catalog:
            lost = sorted(items.keys() - _places(catalog).keys())
            roots = catalog.collections()
            failures = catalog.failures_table().to_pylist()
        if lost and not prune:
            reasons = {str(roots[row["collection_id"]] / row["rel_path"]): row["reason"] for row in failures}
            told = [f"{place}: {reasons[place]}" if place in reasons else place for place in lost]
            raise _would_lose(told, "cannot be embedded now", "fix that and run it again, or ")
        _replace(store, beside)
    return report


def _start(beside: Path, config: StoreConfig, encoder: Encoder) -> None:
    """Keep what an earlier run left beside the store where it was for the same encoder, else start anew."""
    if not beside.exists():
        return
    with suppress(StoreError):
        left = read_config(beside)
        same = (left.encoder, left.weights_digest, left.encoder_options) == (
            encoder.name,
            encoder.digest,
            dict(encoder.options),
        )
        if same and decode_options(left, None) == decode_options(config, None):
            return
    shutil.rmtree(beside)


def _targets(collections: dict[int, Path], new: Catalog, store: Path, beside: Path) -> list[ScanTarget]:
    """All collections, those whose roots are gone too: their items are told as lost then."""
    known = {root: key for key, root in new.collections().items()}
    roots = [*collections.values()]
    targets = []
    for root in roots:
        key = known[root] if root in known else new.add_collection(root)
        skipped = frozenset({store.resolve(), beside.resolve(), *roots} - {root})
        targets.append(ScanTarget(key, root, skipped))
    return targets


def _places(catalog: Catalog) -> dict[str, Modality]:
    """Path and modality of all items."""
    roots = catalog.collections()
    rows = catalog.items_table().select(["collection_id", "rel_path", "modality"]).to_pylist()
    return {str(roots[row["collection_id"]] / row["rel_path"]): Modality(row["modality"]) for row in rows}


def _would_lose(places: Sequence[str], why: str, way_out: str) -> UsageError:
    shown = ", ".join(places[:SHOWN_LOST]) + (", ..." if len(places) > SHOWN_LOST else "")
    return UsageError(f"{len(places)} of the store's items {why} ({shown}): {way_out}leave them out with --prune")


def _is_there(path: Path) -> bool:
    """Return whether there is a file, or the archive that a path leads into."""
    return path.exists() or any(above.is_file() for above in path.parents)


def _replace(store: Path, new: Path) -> None:
    """Put `new` where `store` is, in one step where the system can, and remove what was there.

    Raises:
        StoreError: the folder of the store cannot be renamed.
    """
    try:
        if not _exchange(store, new):
            old = store.with_name(f".{store.name}.old")
            store.rename(old)
            new.rename(store)
            old.rename(new)
    except OSError as error:
        raise StoreError(f"the new store is at {new}, but cannot be moved to {store}: {error.strerror}") from error
    sync_folder(store.parent)
    shutil.rmtree(new)


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change names at once (Linux's renameat2); whether the system and the disk can do that."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        done = libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    except (OSError, AttributeError):
        return False
    return int(done) == 0
