"""Store: the one object that ties encoder, catalog, snapshot and partitions together."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from bindsearch.environment import installation_faults
from bindsearch.errors import StoreError, UsageError, VectorError
from bindsearch.former_names import former_keywords
from bindsearch.indexes.cost_model import costs_path, load_costs
from bindsearch.indexes.gpu.placement import GpuResidency
from bindsearch.indexes.types import UnitCosts
from bindsearch.ingest.media.options import segment_lengths
from bindsearch.reports import OnProgress, OnRows, OnStage, ignore_progress, ignore_rows, ignore_stage
from bindsearch.results import Answer, AnsweredTerm, Status, store_status
from bindsearch.search.engine import (
    NO_ITEMS,
    PlanContext,
    PreparedQuery,
    ResolvedTerms,
    excluded_items,
    labels_of,
    plan_query,
    prepare_query,
    run,
)
from bindsearch.search.executor import QueryVector
from bindsearch.search.filter import NO_FILTER, Filter, make_filter
from bindsearch.search.generation import Generation, open_reader
from bindsearch.search.plan import Plan, PlanRun
from bindsearch.search.query import Query, Ranking, Searchable, make_query, parse_modalities, resolve_weights, terms_of
from bindsearch.search.query_encoding import encode_terms, find_source
from bindsearch.search.thread_pool import Workers
from bindsearch.storage.config import STORE_FILE, StoreConfig, read_config, resolve_store
from bindsearch.storage.snapshot import read_manifest
from bindsearch.types import DecodeIn, Hit, Item, Modality, PathLike
from bindsearch.vectors import l2_normalize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bindsearch.encoders.base import Encoder
    from bindsearch.indexes.types import IndexSettings
    from bindsearch.operations.compact import CompactReport
    from bindsearch.operations.context import StoreContext
    from bindsearch.operations.duplicates import NearGroup
    from bindsearch.operations.export import ExportReport, Layout
    from bindsearch.operations.optimize import OptimizeResult
    from bindsearch.operations.vector_import import ImportReport
    from bindsearch.operations.verify.findings import Report
    from bindsearch.reports import IndexReport, PlannedFile


class Store:
    """A store on disk. Searching needs no lock and sees whole batches only; one process at a time may write.

    Use it as a context manager or call `close`. Operations that change a store are loaded when they are called.
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
        decode: DecodeIn = DecodeIn.PROCESS,
    ) -> None:
        """Name a store; nothing is opened until it is needed. See `connect`."""
        self.path = path
        self._segments = segment_lengths(segment_s or {})
        self._wanted_encoder = encoder
        self._encoder_options = encoder_options or {}
        self._device, self._compile = device, compile
        self._decode = decode
        self._gpus = GpuResidency(device)
        self._reader = open_reader(path, self._gpus)

    def __fspath__(self) -> str:
        """Return the store's folder: a store may be given wherever the path of one may."""
        return os.fspath(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the open generation, and of what lies on GPUs."""
        self._reader.close()
        self._gpus.close()

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
        from bindsearch.encoders.torch_runtime.device import Runtime
        from bindsearch.operations.context import load_store_encoder

        runtime = Runtime(device=self._device, compile=self._compile)
        return load_store_encoder(self.path, self._wanted_encoder, self._encoder_options, runtime)

    @cached_property
    def _workers(self) -> Workers:
        return Workers()

    @former_keywords(rank="ranking", diverse="diversity")
    def search(
        self,
        query: Searchable | NDArray[np.floating],
        *,
        to: str | Modality | Iterable[str | Modality] | None = None,
        k: int = 10,
        ranking: str | Ranking = Ranking.CALIBRATED,
        filter: Filter | str | None = None,
        diversity: float = 0.0,
        source: str | Modality | None = None,
        include_query: bool = False,
        imu_rate_hz: float | None = None,
    ) -> list[Hit]:
        """The k items nearest to a text, a term, a composition or a ready unit vector (d,); see `answer`.

        `filter`: an expression such as "duration_s > 3", or what `bs.filters` makes. `diversity` in 0..1: maximal
        marginal relevance, 0: relevance only, 1: difference from the hits before only. `source`: the modality a ready
        vector was made from.
        """
        found = self.search_many(
            [query],
            to=to,
            k=k,
            ranking=ranking,
            filter=filter,
            diversity=diversity,
            source=source,
            include_query=include_query,
            imu_rate_hz=imu_rate_hz,
        )
        return found[0]

    @former_keywords(rank="ranking", diverse="diversity")
    @installation_faults()
    def search_many(
        self,
        queries: Sequence[Searchable | NDArray[np.floating]],
        *,
        to: str | Modality | Iterable[str | Modality] | None = None,
        k: int = 10,
        ranking: str | Ranking = Ranking.CALIBRATED,
        filter: Filter | str | None = None,
        diversity: float = 0.0,
        source: str | Modality | None = None,
        include_query: bool = False,
        imu_rate_hz: float | None = None,
    ) -> list[list[Hit]]:
        """`search` for several queries, one list of hits each; texts are encoded and indexes searched together."""
        if isinstance(queries, str):
            raise UsageError(f"{queries!r} is one query: give a list of them, or ask `search`")
        wanted = make_filter(where=filter) if isinstance(filter, str) else (filter or NO_FILTER)
        known = _known_source(source)
        generation = self._reader.current()
        shared = make_query(
            "vector", to=to, k=k, ranking=ranking, include_query=include_query, filter=wanted, diversity=diversity
        )
        written = [replace(shared, terms=terms_of(query)) for query in queries if not isinstance(query, np.ndarray)]
        encoded = iter(self._encode(generation, written, imu_rate_hz))
        asked = [
            self._ready(query, shared, known) if isinstance(query, np.ndarray) else next(encoded) for query in queries
        ]
        plans = [plan_query(generation, one, self._machine) for one in asked]
        return [result.hits for result in run(generation, asked, plans, self._workers)]

    @installation_faults()
    def answer(self, query: Query, *, imu_rate_hz: float | None = None) -> Answer:
        """Answer a query: encode its terms, compose them, search each target modality, rank the whole.

        Raises:
            UsageError: a term's file or item does not exist or cannot be used, the terms cancel, or the filter cannot
                be used.
            StoreNotFoundError: there is no store.
        """
        started = time.perf_counter()
        generation = self._reader.current()
        (asked,) = self._encode(generation, [query], imu_rate_hz)
        encoded = time.perf_counter()
        plan = plan_query(generation, asked, self._machine)
        planned = time.perf_counter()
        (result,) = run(generation, [asked], [plan], self._workers)
        done = time.perf_counter()
        terms = tuple(
            AnsweredTerm(step.source, term.source, step.weight)
            for step, term in zip(plan.terms, query.terms, strict=True)
            if step.source is not None
        )
        ran = PlanRun(
            partitions=result.partitions,
            encode_ms=1000 * (encoded - started),
            filter_ms=1000 * (planned - encoded),
            merge_ms=result.merge_ms,
            facts_ms=result.facts_ms,
            total_ms=1000 * (done - started),
        )
        troubles = [generation.partitions[step.modality].index_error for step in plan.partitions]
        notices = tuple(f"scanned exactly instead: {trouble}" for trouble in troubles if trouble is not None)
        return Answer(terms, query.to, query.k, ran.total_ms, tuple(result.hits), plan, ran, notices)

    def explain(self, query: Query) -> Plan:
        """The plan of a query: nothing is encoded and nothing searched; its filter is evaluated.

        Raises:
            UsageError: as `answer`.
            StoreNotFoundError: there is no store.
        """
        generation = self._reader.current()
        found = [find_source(term, generation.snapshot) for term in query.terms]
        terms = ResolvedTerms(
            sources=tuple(source.modality for source in found),
            labels=labels_of(query),
            weights=resolve_weights(query.terms),
            loads=tuple(source.cost_note for source in found),
        )
        hashes = [source.content_hash for source in found if source.content_hash is not None]
        excluded, rows = excluded_items(generation, query, hashes)
        return plan_query(generation, PreparedQuery(query, terms, None, excluded, rows), self._machine)

    def status(self) -> Status:
        """Return what the store holds in its newest generation.

        Raises:
            StoreNotFoundError: there is no store.
        """
        return store_status(self.path, self.config, self._reader.current())

    @former_keywords(wishes="index_settings")
    @installation_faults()
    def index(
        self,
        *paths: PathLike,
        rules: Iterable[str] = (),
        imu_rate_hz: float | None = None,
        retry_failed: bool = False,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        prune: bool = False,
        limits: Mapping[str, float] | None = None,
        index_settings: IndexSettings | None = None,
        on_progress: OnProgress = ignore_progress,
        on_stage: OnStage = ignore_stage,
    ) -> IndexReport:
        """Bring the store up to date with folders or files: add, update and remove what changed under them.

        `rules` such as "depth=**/depth/*.png" say what files are, before their content is asked. `include`, `exclude`:
        globs that narrow this run; what lies outside stays as it is. `prune`: believe it where all files of a folder
        have gone at once. `limits`: resource limits of a file, such as {"max_pixels": 10**9}. What the
        indexes need is done at the end, by `settings` or as was wished before (see `optimize`).

        Raises:
            UsageError: a path does not exist, or a rule, glob or limit is wrong.
            StoreLockedError: another process is indexing.
        """
        from bindsearch.ingest.targets import resolve_paths
        from bindsearch.ingest.workers.pool import Decoders
        from bindsearch.operations.index import IndexRequest, at_paths, index_targets
        from bindsearch.operations.optimize import check_index_settings

        request = IndexRequest(rules, imu_rate_hz, retry_failed, include, exclude, prune, limits or {})
        self._gpus.check()
        resolved = resolve_paths(paths, self._known_collections().values())
        check_index_settings(index_settings, self.encoder.dim)
        context = self._context
        with Decoders(context.encoder, context.decode) as decoders:
            find = at_paths(resolved, self.path)
            report = index_targets(context, find, request, decoders, index_settings, on_progress, on_stage)
        if not (report.items or report.unchanged or report.removed or report.failures or report.notices):
            report.notices.append("no file there is one that can be indexed")
        return report

    @installation_faults()
    def retry(
        self,
        *,
        rules: Iterable[str] = (),
        imu_rate_hz: float | None = None,
        limits: Mapping[str, float] | None = None,
        on_progress: OnProgress = ignore_progress,
    ) -> IndexReport:
        """Try the files again that failed, and nothing else.

        Raises:
            StoreNotFoundError: there is no store.
            StoreLockedError: another process is writing.
        """
        from bindsearch.ingest.workers.pool import Decoders
        from bindsearch.operations.index import IndexRequest, at_failures, index_targets

        self.config  # noqa: B018  (there is nothing to try again where there is no store)
        request = IndexRequest(rules, imu_rate_hz, retry_failed=True, limits=limits or {})
        context = self._context
        with Decoders(context.encoder, context.decode) as decoders:
            return index_targets(context, at_failures(self.path), request, decoders, on_progress=on_progress)

    @installation_faults()
    def watch(
        self,
        *paths: PathLike,
        on_report: Callable[[IndexReport], None],
        stop: threading.Event,
        rules: Iterable[str] = (),
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        rescan_s: float | None = None,
        polling: bool = False,
    ) -> None:
        """Index folders, then whatever changes in them, until `stop` is set; `on_report` hears of each run.

        All is looked at again every `rescan_s` (default: 300). `polling`: for network folders, whose changes no kernel
        tells.

        Raises:
            UsageError: a path does not exist or is no folder, or the system allows no more watches.
        """
        from bindsearch.ingest.scan.watch import RESCAN_S
        from bindsearch.ingest.targets import resolve_paths
        from bindsearch.operations.index import IndexRequest, watch_paths

        resolved = resolve_paths(paths, self._known_collections().values())
        request = IndexRequest(rules, include=tuple(include), exclude=tuple(exclude))
        watch_paths(self._context, resolved, request, on_report, stop, rescan_s=rescan_s or RESCAN_S, polling=polling)

    @installation_faults()
    def reindex(
        self,
        encoder: str | Encoder,
        *,
        encoder_options: Mapping[str, str | int | float | bool] | None = None,
        rules: Iterable[str] = (),
        imu_rate_hz: float | None = None,
        limits: Mapping[str, float] | None = None,
        prune: bool = False,
        on_progress: OnProgress = ignore_progress,
        on_stage: OnStage = ignore_stage,
    ) -> IndexReport:
        """Move the store over to another encoder: everything is embedded anew, and what was there serves until then.

        An interrupted run goes on where it was. Items get new numbers. `prune`: leave out items that cannot be embedded
        now.

        Raises:
            StoreNotFoundError: there is no store.
            StoreLockedError: another process is writing.
            UsageError: items would be lost, or a rule or limit is wrong.
        """
        from bindsearch.encoders import load_encoder
        from bindsearch.encoders.torch_runtime.device import Runtime
        from bindsearch.operations.reindex import reindex

        new = encoder
        if isinstance(new, str):
            runtime = Runtime(device=self._device, compile=self._compile)
            new = load_encoder(new, options=encoder_options or {}, runtime=runtime)
        report = reindex(
            self._context_of(new),
            rules=rules,
            imu_rate_hz=imu_rate_hz,
            limits=limits,
            prune=prune,
            on_progress=on_progress,
            on_stage=on_stage,
        )
        self.close()
        self._wanted_encoder = new
        for known in ("config", "encoder"):
            self.__dict__.pop(known, None)
        return report

    def forget(self, *paths: PathLike, item_ids: Sequence[int] = ()) -> int:
        """Take items out by the paths they lie at or below, or by number; their files stay. The number of items.

        Raises:
            UsageError: nothing was indexed there, or there is no such item.
            StoreNotFoundError: there is no store.
            StoreLockedError: another process is writing.
        """
        from bindsearch.operations.forget import forget

        return forget(self.path, [os.fspath(path) for path in paths], item_ids)

    @former_keywords(wishes="index_settings")
    @installation_faults()
    def optimize(
        self, *, index_settings: IndexSettings | None = None, force: bool = False, on_stage: OnStage = ignore_stage
    ) -> list[OptimizeResult]:
        """Bring the indexes up to date with the vectors and say what was done; `force` builds each anew.

        `index_settings`: form, memory, recall and parameters asked for, remembered from then on.

        Raises:
            UsageError: the settings cannot be met.
            StoreNotFoundError: there is no store.
            StoreLockedError: another process is writing.
        """
        from bindsearch.operations.optimize import optimize_store

        self.config  # noqa: B018  (there is nothing to optimize where there is no store)
        return optimize_store(self._context, index_settings, force=force, on_stage=on_stage)

    @property
    def index_settings(self) -> IndexSettings:
        """What was last asked of the indexes.

        Raises:
            StoreError: the note of it is damaged.
        """
        from bindsearch.operations.index_policy import read_index_settings

        return read_index_settings(self.path)

    @property
    def wishes(self) -> IndexSettings:
        """Former name of `index_settings`."""
        return self.index_settings

    def plan_index(
        self,
        *paths: PathLike,
        rules: Iterable[str] = (),
        imu_rate_hz: float | None = None,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
    ) -> list[PlannedFile]:
        """Return what each file would be taken for, and why (`bindsearch index --dry-run`); writes nothing."""
        from bindsearch.ingest.targets import resolve_paths
        from bindsearch.operations.index import IndexRequest, plan_paths

        known = self._known_collections()
        request = IndexRequest(rules, imu_rate_hz, include=include, exclude=exclude)
        return plan_paths(self.path, resolve_paths(paths, known.values()), known, request)

    @former_keywords(files="check_media", content="hash_media")
    def verify(
        self, *, check_media: bool = False, hash_media: bool = False, on_stage: OnStage = ignore_stage
    ) -> Report:
        """Check every byte of the store against what was written, and that all of it fits together; changes nothing.

        `check_media`: compare the media files with the store, by size and time; `hash_media`: by all their bytes.

        Raises:
            StoreNotFoundError: there is no store.
        """
        from bindsearch.operations.verify import verify

        return verify(self.path, check_media=check_media, hash_media=hash_media, on_stage=on_stage)

    def compact(self, *, on_stage: OnStage = ignore_stage) -> CompactReport:
        """Repair what can be repaired without embedding, drop deleted rows, and free disk space.

        Raises:
            StoreNotFoundError: there is no store.
            StoreLockedError: another process is writing.
            StoreError: the store cannot be repaired; nothing was changed.
        """
        from bindsearch.operations.compact import compact_store

        return compact_store(self.path, on_stage=on_stage)

    def duplicates(self, *, to: str | Modality | Iterable[str | Modality] | None = None) -> list[tuple[Item, ...]]:
        """Items that hold the same bytes, as groups of which an item has one of the modalities; largest groups first.

        Raises:
            StoreNotFoundError: there is no store.
        """
        from bindsearch.operations.duplicates import find_exact_duplicates

        wanted = parse_modalities(to)
        groups = find_exact_duplicates(self._reader.current().snapshot)
        return [group for group in groups if any(item.modality in wanted for item in group)]

    def near_duplicates(
        self,
        threshold: float | None = None,
        *,
        to: str | Modality | Iterable[str | Modality] | None = None,
        on_rows: Callable[[Modality, int, int], None] = lambda _modality, _done, _total: None,
    ) -> list[NearGroup]:
        """Items of a modality that are nearly the same: segments match from a cosine of `threshold` on (default .97).

        Raises:
            UsageError: the threshold is not in 0..1.
            StoreNotFoundError: there is no store.
        """
        from bindsearch.operations.duplicates import NEAR_COSINE, find_near_duplicates

        cosine = NEAR_COSINE if threshold is None else threshold
        generation = self._reader.current()
        found: list[NearGroup] = []
        for modality in parse_modalities(to):
            found += find_near_duplicates(generation, modality, cosine, on_rows=partial(on_rows, modality))
        return found

    def export(
        self,
        target: PathLike,
        *,
        layout: str | Layout = "parquet",
        modalities: str | Modality | Iterable[str | Modality] | None = None,
        filter: Filter | str | None = None,
        on_progress: OnRows = ignore_rows,
    ) -> ExportReport:
        """Write vectors with their facts into the empty folder `target`; see `bindsearch.export_vectors`."""
        from bindsearch.operations.export import export_vectors

        return export_vectors(
            self.path, target, layout=layout, modalities=modalities, filter=filter, on_progress=on_progress
        )

    def import_vectors(
        self,
        *sources: PathLike,
        root: PathLike | None = None,
        modality: str | Modality | None = None,
        vector_column: str | None = None,
        on_progress: OnRows = ignore_rows,
        on_stage: OnStage = ignore_stage,
    ) -> ImportReport:
        """Put vectors of files into the store; rows of one path become one item. See `bindsearch.import_vectors`."""
        from bindsearch.operations.import_ import import_vectors

        return import_vectors(
            self.path,
            *sources,
            root=root,
            modality=modality,
            vector_column=vector_column,
            encoder=self._wanted_encoder,
            encoder_options=self._encoder_options,
            device=self._device,
            on_progress=on_progress,
            on_stage=on_stage,
        )

    def merge(
        self, *sources: PathLike, on_progress: OnRows = ignore_rows, on_stage: OnStage = ignore_stage
    ) -> ImportReport:
        """Put everything that other stores hold into this one; see `bindsearch.merge_stores`."""
        from bindsearch.operations.merge import merge_stores

        return merge_stores(
            self.path,
            *sources,
            encoder=self._wanted_encoder,
            device=self._device,
            on_progress=on_progress,
            on_stage=on_stage,
        )

    def _known_collections(self) -> dict[int, Path]:
        manifest = None
        with contextlib.suppress(StoreError):  # a damaged one is rebuilt later on
            manifest = read_manifest(self.path)
        return {} if manifest is None else {key: Path(root) for key, root in manifest.collections.items()}

    @property
    def _context(self) -> StoreContext:
        return self._context_of(self.encoder)

    def _context_of(self, encoder: Encoder) -> StoreContext:
        from bindsearch.operations.context import StoreContext

        return StoreContext(self.path, encoder, self._segments, self._gpus, self._decode)

    @property
    def _machine(self) -> PlanContext:
        return PlanContext(self._costs, self._gpus.notes)

    @cached_property
    def _costs(self) -> UnitCosts:
        """As measured here when an index was last made; the defaults before that."""
        return load_costs(costs_path()) or UnitCosts()

    def _encode(
        self, generation: Generation, queries: Sequence[Query], imu_rate_hz: float | None
    ) -> list[PreparedQuery]:
        """Queries with their terms encoded, all at once."""
        if not queries:
            return []
        everything = [term for query in queries for term in query.terms]
        encoded = iter(
            encode_terms(
                everything, lambda: self.encoder, self.config, imu_rate_hz, generation.snapshot, generation.partitions
            )
        )
        return [prepare_query(generation, query, [next(encoded) for _ in query.terms]) for query in queries]

    def _ready(self, vector: NDArray[np.floating], query: Query, source: Modality | None) -> PreparedQuery:
        dim = self.config.dim
        if vector.shape != (dim,):
            raise VectorError(f"the query vector has shape {vector.shape}, the store needs ({dim},)")
        unit = l2_normalize(vector)
        return PreparedQuery(query, ResolvedTerms(sources=(source,)), QueryVector(unit, unit[None]), NO_ITEMS)


def _known_source(source: str | Modality | None) -> Modality | None:
    if source is None:
        return None
    if source not in list(Modality):
        raise UsageError(f"unknown modality {source!r} of a ready vector: choose one of {', '.join(Modality)}")
    return Modality(source)


def connect(
    path: PathLike | None = None,
    *,
    encoder: str | Encoder | None = None,
    encoder_options: Mapping[str, str | int | float | bool] | None = None,
    device: str = "auto",
    compile: bool = False,
    segment_s: Mapping[str, float] | None = None,
    decode: str | DecodeIn = DecodeIn.PROCESS,
) -> Store:
    """Open the store at `path` (default: $BINDSEARCH_STORE, else the user's data directory), made by the first `index`.

    `encoder`: a name or an Encoder; left out, the one the store was made with, `mini` for a new store.
    `encoder_options`: preprocessing options of that encoder; those left out are as the store was made with.
    `device`: where towers and indexes run: "auto" (GPUs where there are some, else the CPU), "cpu", "cuda", "cuda:1";
    towers take the first GPU, indexes all. `compile`: let torch.compile fuse towers first, which pays for long runs
    on a GPU.
    `segment_s`: lengths of segments in a new store, such as {"audio": 5.0}; for audio, video (10 s) and imu (5 s).
    `decode`: "process": media files are decoded in processes of their own, so that a file that crashes its decoder is
    one failed file; "thread": in threads of this process, which start at once, and which such a file takes with them.

    Raises:
        UsageError: the path is empty, a segment length is not one, or files cannot be decoded there.
    """
    place = resolve_store(path)
    if decode not in list(DecodeIn):
        raise UsageError(f"files cannot be decoded in a {decode!r}: choose one of {', '.join(DecodeIn)}")
    return Store(
        place,
        encoder=encoder,
        encoder_options=encoder_options,
        device=device,
        compile=compile,
        segment_s=segment_s,
        decode=DecodeIn(decode),
    )
