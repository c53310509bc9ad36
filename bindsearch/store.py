"""Store: the one object that ties encoder, catalog, snapshot and partitions together."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from bindsearch.answer import Answer, AnsweredTerm, Status
from bindsearch.config import (
    STORE_FILE,
    StoreConfig,
    check_encoder,
    default_store,
    new_config,
    read_config,
    write_config,
)
from bindsearch.encoders import load_encoder, takes_options
from bindsearch.encoders.base import Encoder
from bindsearch.encoders.runtime import Runtime
from bindsearch.errors import StoreError, StoreLockedError, StoreNotFoundError, UsageError, VectorError
from bindsearch.executor import QueryVector, run_query
from bindsearch.files import folder_size
from bindsearch.ingest.classify import parse_rule, read_folder_rules
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.pipeline import IndexOptions, index_collection, plan_collection
from bindsearch.ingest.report import FailedFile, IndexReport, OnProgress, PlannedFile, ignore_progress
from bindsearch.ingest.writer import Writer
from bindsearch.items import Hit, Modality
from bindsearch.lock import LOCK_FILES, writer_lock
from bindsearch.partition import Partition
from bindsearch.query import Query, Rank, Searchable, make_query, resolve_weights
from bindsearch.snapshot import Snapshot, open_snapshot, read_manifest
from bindsearch.space import compose, l2_normalize
from bindsearch.targets import plan_targets, resolve_paths
from bindsearch.terms import EncodedTerm, encode_term

if TYPE_CHECKING:
    from numpy.typing import NDArray

CATALOG_FILE = "catalog.duckdb"
DEFAULT_ENCODER = "mini"
OPEN_ATTEMPTS = 5
OPEN_PAUSE_S = 0.03
"""A writer may retire a generation between reading CURRENT and opening its files; the next look finds a newer one."""

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class _Generation:
    """An open generation with its partitions, loaded on first use."""

    snapshot: Snapshot
    partitions: dict[Modality, Partition]


class Store:
    """A store on disk. Searching needs no lock and sees whole batches only; one process at a time may index.

    Use it as a context manager or call `close`.
    """

    def __init__(
        self,
        path: Path,
        *,
        encoder: str | Encoder | None = None,
        encoder_options: Mapping[str, str | int | float | bool] | None = None,
        device: str = "auto",
        compile: bool = False,
        segment_s: Mapping[str, float] | None = None,
    ) -> None:
        """Name a store; nothing is opened until it is needed. See `connect`."""
        self.path = path
        self._segments = _segment_lengths(segment_s or {})
        self._wanted_encoder = encoder
        self._encoder_options = encoder_options or {}
        self._runtime = Runtime(device=device, compile=compile)
        self._generation: _Generation | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the open generation."""
        self._generation = None

    @property
    def exists(self) -> bool:
        """Whether something has been indexed here."""
        return (self.path / STORE_FILE).is_file()

    @cached_property
    def config(self) -> StoreConfig:
        """What the store was made with; fixed for its life.

        Raises:
            StoreNotFoundError: there is no store yet.
        """
        return read_config(self.path)

    @cached_property
    def encoder(self) -> Encoder:
        """The store's encoder; its towers load when they are first needed.

        Raises:
            StoreError: the store was made with another one.
            EncoderError: there is no such encoder, or its model is not here.
            UsageError: the encoder has no such option.
        """
        wanted = self._wanted_encoder
        if wanted is None:
            wanted = self.config.encoder if self.exists else DEFAULT_ENCODER
        encoder = self._load(wanted) if isinstance(wanted, str) else wanted
        if self.exists:
            check_encoder(self.config, encoder, self.path)
        return encoder

    def _load(self, name: str) -> Encoder:
        """The encoder of that name with the store's options, where it is the store's, and those given on top."""
        options = dict(self._encoder_options)
        if self.exists and name == self.config.encoder and takes_options(name):
            options = {**self.config.encoder_options, **options}
        return load_encoder(name, options=options, runtime=self._runtime)

    def index(
        self,
        *paths: PathLike,
        rules: Iterable[str] = (),
        imu_rate_hz: float | None = None,
        retry_failed: bool = False,
        on_progress: OnProgress = ignore_progress,
    ) -> IndexReport:
        """Bring the store up to date with folders or files: add, update and remove what changed under them.

        `rules` such as "depth=**/depth/*.png" say what files are, before their content is asked.

        Raises:
            UsageError: a path does not exist, or a rule is wrong.
            StoreLockedError: another process is indexing.
        """
        from bindsearch.catalog import Catalog

        started = time.monotonic()
        resolved = resolve_paths(paths, self._known_collections().values())
        parsed = [parse_rule(rule) for rule in rules]
        encoder = self.encoder
        report = IndexReport()
        try:
            self._make_folder()
            with writer_lock(self.path):
                if not self.exists:
                    write_config(self.path, new_config(encoder, self._segments))
                check_encoder(self.config, encoder, self.path)
                decode = _decode_options(self.config, imu_rate_hz)
                with Catalog(self.path / CATALOG_FILE) as catalog:
                    writer = Writer(self.path, catalog, encoder.dim)
                    collections = catalog.collections()
                    for target in plan_targets(resolved, collections, catalog.add_collection, self.path):
                        options = IndexOptions((*parsed, *read_folder_rules(target.root)), decode, retry_failed)
                        index_collection(target, options, catalog, writer, encoder, report, on_progress)
        except OSError as error:  # those of media files are recorded, so this is the store's
            raise StoreError(f"cannot write the store {self.path}: {error}; what was committed stays") from error
        report.took_s = time.monotonic() - started
        return report

    def plan_index(
        self, *paths: PathLike, rules: Iterable[str] = (), imu_rate_hz: float | None = None
    ) -> list[PlannedFile]:
        """What each file would be taken for, and why (`bindsearch index --dry-run`); writes nothing."""
        parsed = [parse_rule(rule) for rule in rules]
        known = self._known_collections()
        resolved = resolve_paths(paths, known.values())
        decode = DecodeOptions(imu_rate_hz=imu_rate_hz)
        planned: list[PlannedFile] = []
        for target in plan_targets(resolved, known, lambda _root: -1, self.path):
            options = IndexOptions((*parsed, *read_folder_rules(target.root)), decode)
            planned.extend(plan_collection(target, options))
        return planned

    def search(
        self,
        query: Searchable | NDArray[np.floating],
        *,
        to: str | Modality | Iterable[str | Modality] | None = None,
        k: int = 10,
        rank: str | Rank = Rank.CALIBRATED,
        include_query: bool = False,
        imu_rate_hz: float | None = None,
    ) -> list[Hit]:
        """The k items nearest to a text, a term, a composition or a ready unit vector (d,); see `answer`."""
        if isinstance(query, np.ndarray):
            return self._search_vector(query, make_query("vector", to=to, k=k, rank=rank))
        asked = make_query(query, to=to, k=k, rank=rank, include_query=include_query)
        return list(self.answer(asked, imu_rate_hz=imu_rate_hz).hits)

    def search_many(
        self,
        queries: Sequence[Searchable | NDArray[np.floating]],
        *,
        to: str | Modality | Iterable[str | Modality] | None = None,
        k: int = 10,
        rank: str | Rank = Rank.CALIBRATED,
        include_query: bool = False,
        imu_rate_hz: float | None = None,
    ) -> list[list[Hit]]:
        """`search` for several queries, one list of hits each."""
        return [
            self.search(query, to=to, k=k, rank=rank, include_query=include_query, imu_rate_hz=imu_rate_hz)
            for query in queries
        ]

    def answer(self, query: Query, *, imu_rate_hz: float | None = None) -> Answer:
        """Answer a query: encode its terms, compose them, search each target modality, rank the whole.

        Raises:
            UsageError: a term's file or item does not exist or cannot be used, or the terms cancel.
            StoreNotFoundError: there is no store.
        """
        started = time.perf_counter()
        generation = self._current()
        options = _decode_options(self.config, imu_rate_hz)
        encoded = [
            encode_term(term, lambda: self.encoder, options, generation.snapshot, generation.partitions)
            for term in query.terms
        ]
        weights = resolve_weights(query.terms)
        excluded = np.zeros(0, np.int64)
        hashes = [term.content_hash for term in encoded if term.content_hash is not None]
        if hashes and not query.include_query:
            excluded = generation.snapshot.items_with_content(hashes)
        hits = self._run(generation, _compose(encoded, weights), query, excluded)
        terms = tuple(
            AnsweredTerm(term.modality, term.source, weight) for term, weight in zip(encoded, weights, strict=True)
        )
        return Answer(terms, query.to, query.k, 1000 * (time.perf_counter() - started), tuple(hits))

    def status(self) -> Status:
        """What the store holds in its newest generation.

        Raises:
            StoreNotFoundError: there is no store.
        """
        config = self.config
        snapshot = self._current().snapshot
        roots = {key: Path(root) for key, root in snapshot.manifest.collections.items()}
        failed = [] if snapshot.failures is None else snapshot.failures.to_pylist()
        return Status(
            path=self.path,
            encoder=config.encoder,
            weights_digest=config.weights_digest,
            encoder_options=config.encoder_options,
            dim=config.dim,
            generation=snapshot.manifest.generation,
            collections=tuple(roots.values()),
            items=snapshot.counts("items"),
            segments=snapshot.counts("segments"),
            failures=tuple(FailedFile(roots[row["collection_id"]] / row["rel_path"], row["reason"]) for row in failed),
            size_bytes=folder_size(self.path),
        )

    def _search_vector(self, vector: NDArray[np.floating], query: Query) -> list[Hit]:
        generation = self._current()
        dim = self.config.dim
        if vector.shape != (dim,):
            raise VectorError(f"the query vector has shape {vector.shape}, the store needs ({dim},)")
        unit = l2_normalize(vector)
        return self._run(generation, QueryVector(unit, unit[None]), query, np.zeros(0, np.int64))

    def _run(
        self, generation: _Generation, vector: QueryVector, query: Query, excluded: NDArray[np.int64]
    ) -> list[Hit]:
        partitions = [
            self._partition(generation, modality)
            for modality in query.to
            if modality in generation.snapshot.manifest.vectors
        ]
        return run_query(vector, partitions, generation.snapshot, k=query.k, rank=query.rank, excluded_items=excluded)

    def _current(self) -> _Generation:
        """The newest generation; opened again only when CURRENT names another one, rebuilt when it is damaged."""
        for _ in range(OPEN_ATTEMPTS):
            with contextlib.suppress(StoreError):
                if (generation := self._open_current()) is not None:
                    return generation
                break
            time.sleep(OPEN_PAUSE_S)
        self._rebuild_snapshot()
        generation = self._open_current()
        if generation is None:
            raise StoreNotFoundError(f"no store at {self.path}: make one with `bindsearch index FOLDER`")
        return generation

    def _open_current(self) -> _Generation | None:
        manifest = read_manifest(self.path)
        if manifest is None:
            return None
        with self._lock:
            if self._generation is None or self._generation.snapshot.manifest != manifest:
                snapshot = open_snapshot(self.path, manifest)
                dim = self.config.dim
                partitions = {m: Partition(self.path, snapshot, m, dim) for m in manifest.vectors}
                self._generation = _Generation(snapshot, partitions)
            return self._generation

    def _rebuild_snapshot(self) -> None:
        """Derive the snapshot from the catalog again, where no writer is at work (which would do it itself)."""
        from bindsearch.catalog import Catalog

        path = self.path / CATALOG_FILE
        with contextlib.suppress(StoreLockedError, OSError):  # a read-only store stays as it is
            if path.is_file():
                with writer_lock(self.path), Catalog(path) as catalog:
                    Writer(self.path, catalog, self.config.dim)

    def _partition(self, generation: _Generation, modality: Modality) -> Partition:
        with self._lock:  # indexes load on first use, once
            partition = generation.partitions[modality]
            _ = partition.index
            return partition

    def _known_collections(self) -> dict[int, Path]:
        manifest = None
        with contextlib.suppress(StoreError):  # a damaged one is rebuilt later on
            manifest = read_manifest(self.path)
        return {} if manifest is None else {key: Path(root) for key, root in manifest.collections.items()}

    def _make_folder(self) -> None:
        """Make the store's folder, or accept one that is empty or a store.

        Raises:
            UsageError: it holds something else.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        found = {path.name for path in self.path.iterdir()} - LOCK_FILES
        if not self.exists and CATALOG_FILE in found:
            raise StoreError(f"the store {self.path} has lost its {STORE_FILE}: put it back, or index into another one")
        if not self.exists and found:
            raise UsageError(f"{self.path} is not empty and no store: give --store another folder")


def connect(
    path: PathLike | None = None,
    *,
    encoder: str | Encoder | None = None,
    encoder_options: Mapping[str, str | int | float | bool] | None = None,
    device: str = "auto",
    compile: bool = False,
    segment_s: Mapping[str, float] | None = None,
) -> Store:
    """Open the store at `path` (default: $BINDSEARCH_STORE, else the user's data directory), made by the first `index`.

    `encoder`: a name or an Encoder; left out, the one the store was made with, `mini` for a new store.
    `encoder_options`: preprocessing options of that encoder; those left out are as the store was made with.
    `device`: where towers run: "auto" (the first GPU, else the CPU), "cpu", "cuda", "cuda:1"; `compile`: let
    torch.compile fuse them first, which pays for long runs on a GPU.
    `segment_s`: lengths of segments in a new store, such as {"audio": 5.0}; for audio, video (10 s) and imu (5 s).

    Raises:
        UsageError: the path is empty, or a segment length is not one.
    """
    if path is not None and not os.fspath(path):
        raise UsageError("the store's path is empty: name a folder")
    place = default_store() if path is None else Path(path).expanduser()
    return Store(
        place,
        encoder=encoder,
        encoder_options=encoder_options,
        device=device,
        compile=compile,
        segment_s=segment_s,
    )


def _compose(encoded: Sequence[EncodedTerm], weights: Sequence[float]) -> QueryVector:
    """The query vector, and each term's share of it.

    The terms are unit vectors: scaling them by their temperatures first would change nothing, since composing
    normalises each (paper, B.4).
    """
    embeddings = np.stack([term.embedding for term in encoded])
    vector = compose(embeddings, weights)
    parts = np.asarray(weights, np.float32)[:, None] * embeddings
    return QueryVector(vector, parts / np.linalg.norm(parts.sum(axis=0)))


def _segment_lengths(segment_s: Mapping[str, float]) -> DecodeOptions:
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


def _decode_options(config: StoreConfig, imu_rate_hz: float | None) -> DecodeOptions:
    return DecodeOptions(
        audio_segment_s=config.audio_segment_s,
        video_segment_s=config.video_segment_s,
        imu_segment_s=config.imu_segment_s,
        imu_rate_hz=imu_rate_hz,
    )
