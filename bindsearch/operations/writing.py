"""What changes a store: indexing folders, making its indexes, rebuilding its snapshot. All under the writer's lock."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bindsearch.atomic import TEMPORARY_SUFFIX
from bindsearch.encoders.base import Encoder
from bindsearch.environment import raise_installation_fault
from bindsearch.errors import StoreError, StoreLockedError, UsageError
from bindsearch.indexes.cost_model import costs_path, load_costs, measure_costs, save_costs
from bindsearch.indexes.gpu.placement import Gpus
from bindsearch.indexes.storage import remove_indexes
from bindsearch.indexes.tuning import MIN_QUERIES
from bindsearch.indexes.types import IndexWishes, UnitCosts
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.operations.index_policy import Work, read_wishes, write_wishes
from bindsearch.operations.optimize import OnStage, Optimized, Optimizer
from bindsearch.search.generation import Generation
from bindsearch.storage.catalog import Catalog
from bindsearch.storage.config import STORE_FILE, StoreConfig, check_encoder, new_config, read_config, write_config
from bindsearch.storage.lock import LOCK_FILES, writer_lock
from bindsearch.storage.snapshot import read_manifest
from bindsearch.storage.vector_files import VECTORS
from bindsearch.storage.writer import Writer
from bindsearch.types import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CATALOG_FILE = "catalog.duckdb"


def decode_options(config: StoreConfig, imu_rate_hz: float | None) -> DecodeOptions:
    """How files are decoded for a store."""
    return DecodeOptions(
        audio_segment_s=config.audio_segment_s,
        video_segment_s=config.video_segment_s,
        imu_segment_s=config.imu_segment_s,
        imu_rate_hz=imu_rate_hz,
    )


def segment_lengths(segment_s: Mapping[str, float]) -> DecodeOptions:
    """Lengths of segments in a new store, from {"audio": 5.0}; the defaults where none is given.

    Raises:
        UsageError: segments of that modality have no length, or the length is none.
    """
    for modality in segment_s:
        if modality not in (Modality.AUDIO, Modality.VIDEO, Modality.IMU):
            raise UsageError(f"segments of {modality!r} have no length: choose from audio, video, imu")
    given = {str(modality): float(length) for modality, length in segment_s.items()}
    default = DecodeOptions()
    return DecodeOptions(
        audio_segment_s=given.get("audio", default.audio_segment_s),
        video_segment_s=given.get("video", default.video_segment_s),
        imu_segment_s=given.get("imu", default.imu_segment_s),
    )


@contextmanager
def open_writer(
    store: Path, encoder: Encoder, segments: DecodeOptions
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


def optimize(
    store: Path,
    dim: int,
    writer: Writer,
    encoder: Encoder,
    wishes: IndexWishes | None,
    gpus: Gpus,
    *,
    force: bool,
    on_stage: OnStage,
) -> list[Optimized]:
    """Make what indexes are called for and publish them; `wishes` None: what was asked before.

    Raises:
        UsageError: what is asked now cannot be met.
    """
    before = read_wishes(store)
    given, wishes = wishes is not None, wishes or before
    optimizer = _optimizer(store, dim, encoder, wishes, gpus, on_stage)
    needs = optimizer.needs(force=force).values()
    if given and (refused := [need.reason for need in needs if need.work is Work.REFUSED]):
        raise UsageError(refused[0])
    if wishes != before:
        write_wishes(store, wishes)
    if any(need.work is Work.BUILD for need in needs):
        writer.compact()  # an index is made over files that stay
        optimizer = _optimizer(store, dim, encoder, wishes, gpus, on_stage)
    done = []
    for optimized in optimizer.run(force=force):
        held = writer.indexes.get(optimized.modality)
        writer.publish_indexes({optimized.modality: optimized.index})
        if optimized.index is None:  # a reader may be about to open what it was sent to: it goes next time
            remove_indexes(store, optimized.modality, set() if held is None else {held[0]})
        done.append(optimized)
    return done


def _optimizer(
    store: Path, dim: int, encoder: Encoder, wishes: IndexWishes, gpus: Gpus, on_stage: OnStage
) -> Optimizer:
    manifest = read_manifest(store)
    assert manifest is not None  # the writer has made one
    generation = Generation(store, manifest, dim)
    texts = generation.partitions.get(Modality.TEXT)
    has_texts = texts is not None and texts.living >= MIN_QUERIES
    captions = None
    if not has_texts and Modality.TEXT in encoder.modalities:
        captions = partial(_captions, encoder, store)
    return Optimizer(store, generation, wishes, encoder.modalities, captions, machine_costs, gpus, on_stage)


def _captions(encoder: Encoder, store: Path) -> NDArray[np.float32]:
    from bindsearch.operations.probe_captions import caption_vectors

    return caption_vectors(encoder, store)


def machine_costs() -> UnitCosts:
    """What searching costs on this machine: measured once, and kept where it can be."""
    path = costs_path()
    costs = load_costs(path)
    if costs is None:
        costs = measure_costs()
        with contextlib.suppress(OSError):  # a cache: without it they are measured again
            save_costs(path, costs)
    return costs


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
        raise UsageError(f"{store} is no folder: give --store one")
    store.mkdir(parents=True, exist_ok=True)
    found = {path.name for path in store.iterdir() if not path.name.endswith(TEMPORARY_SUFFIX)} - LOCK_FILES
    if STORE_FILE in found:
        return
    if CATALOG_FILE in found:
        raise StoreError(f"the store {store} has lost its {STORE_FILE}: put it back, or index into another one")
    if found:
        raise UsageError(f"{store} is not empty and no store: give --store another folder")


def _check_catalog(store: Path) -> None:
    """Refuse a store that has lost its catalog: a new one would know of none of its vectors, which would be removed.

    Raises:
        StoreError: it has.
    """
    if not (store / CATALOG_FILE).is_file() and any((store / VECTORS).glob("*/*")):
        raise StoreError(
            f"the store {store} has lost its {CATALOG_FILE}: put it back (`bindsearch verify` tells more), or index "
            "into another one"
        )
