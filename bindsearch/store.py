"""The store facade: `Store`; `bindsearch.shards.connect` opens one."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from bindsearch.arguments import shown, to_choice, to_integer, to_list, to_number, to_path_text, to_texts
from bindsearch.environment import installation_faults, raise_installation_fault
from bindsearch.errors import SnapshotDamagedError, UsageError, VectorError
from bindsearch.former_names import former_keywords
from bindsearch.indexes.cost_model import costs_path, load_costs
from bindsearch.indexes.gpu.placement import GpuResidency
from bindsearch.indexes.types import UnitCosts
from bindsearch.ingest.media.options import check_imu_rate, segment_lengths
from bindsearch.reports import OnProgress, OnRows, OnStage, ignore_progress, ignore_rows, ignore_stage
from bindsearch.results import Answer, AnsweredTerm, Status, left_out_files, store_status
from bindsearch.search.engine import GenerationSearch
from bindsearch.search.filter import Filter, to_filter
from bindsearch.search.generation import Generation, Reader
from bindsearch.search.plan import VECTOR_TERM, Plan, PlanRun
from bindsearch.search.prepare import PreparedQuery, compose_query, prepare_query, prepare_words
from bindsearch.search.query import (
    LIKE,
    Query,
    Ranking,
    Searchable,
    Term,
    WordSearch,
    make_query,
    parse_modalities,
    terms_of,
)
from bindsearch.search.query_encoding import EncodedTerm, Source, TermCache, encode_terms, resolve_source
from bindsearch.search.scoring.calibration_file import CALIBRATION_FILE, load_calibration, write_calibration
from bindsearch.search.scoring.probability import ProbabilityModel
from bindsearch.search.scoring.scores import QueryVector
from bindsearch.search.thread_pool import Workers
from bindsearch.storage.config import STORE_FILE, StoreConfig, load_store_encoder, read_config
from bindsearch.storage.faults import raise_store_fault, tells_faults
from bindsearch.storage.snapshot import read_manifest
from bindsearch.types import DecodeIn, Hit, Item, Match, Modality, PathLike
from bindsearch.vectors import l2_normalize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bindsearch.encoders.base import Encoder
    from bindsearch.encoders.detectors.detector import Detector
    from bindsearch.encoders.zero_shot import ClassNames
    from bindsearch.indexes.types import IndexSettings
    from bindsearch.operations.calibrate import CalibratedPair
    from bindsearch.operations.classify.column import ColumnReport
    from bindsearch.operations.classify.files import ClassifiedFile
    from bindsearch.operations.compact import CompactReport
    from bindsearch.operations.context import StoreContext
    from bindsearch.operations.duplicates import NearGroup
    from bindsearch.operations.exchange.export import ExportReport, Layout
    from bindsearch.operations.exchange.vector_import import ImportReport
    from bindsearch.operations.locate.locate import Library, LocatedFile, Where
    from bindsearch.operations.locate.located import Located
    from bindsearch.operations.locate.relevance import LocateOptions, Probe
    from bindsearch.operations.optimize import OptimizeResult
    from bindsearch.operations.relocate import RelocateReport
    from bindsearch.operations.show.show_file import ShownFile
    from bindsearch.operations.verify.findings import Report
    from bindsearch.operations.verify.recover import RecoverReport
    from bindsearch.reports import IndexReport, LeftOutFile, PlannedFile
    from bindsearch.shards.search.router import Router

OPTION_SETS = 64
"""Number of sets of options of searches that a store keeps, checked."""


class Store:
    """A store on disk.

    Searches take no lock and see complete batches only; one process at a time may write. Use a store as a context
    manager or call `close`. Modules of operations that change a store are imported when they are called.
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
        """Prepare access to a store; files are opened on first use. See `connect` for the arguments."""
        self.path = path
        self._wanted_segments: Mapping[str, float] = {} if segment_s is None else segment_s
        segment_lengths(self._wanted_segments)  # refused now, not after the encoder is loaded
        self._wanted_encoder = encoder
        self._encoder_options = encoder_options or {}
        self._device, self._compile = device, compile
        self._decode = decode
        self._gpus = GpuResidency(device)
        self._reader = Reader(path, self._gpus)
        self._term_cache: TermCache | None = None
        self._options = lru_cache(OPTION_SETS, typed=True)(_query_options)
        self._closed = False

    def __fspath__(self) -> str:
        """Return the store's folder, so that a store can be passed as a path."""
        return os.fspath(self.path)

    def __enter__(self) -> Self:
        self._folder  # noqa: B018  (raises if the store is closed)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the store and free GPU memory; searches that are running finish, further calls raise UsageError."""
        self._closed = True
        self._release()

    def _release(self) -> None:
        self._reader.close()
        self._gpus.close()

    @property
    def _folder(self) -> Path:
        """Folder of the store.

        Raises:
            UsageError: the store is closed.
        """
        if self._closed:
            raise UsageError(f"the store {self.path} is closed: connect again")
        return self.path

    def cache_terms(self, n: int) -> None:
        """Keep the vectors of the last `n` texts and files of queries, so that other weights encode nothing again.

        Raises:
            UsageError: n is not an integer of at least 1, or the store is closed.
        """
        self._folder  # noqa: B018  (raises if the store is closed)
        self._term_cache = TermCache(to_integer(n, "n", "give the number of terms to keep", lowest=1))

    def generation(self) -> Generation:
        """Return the newest generation, as readers hold it.

        Raises:
            StoreNotFoundError: there is no store.
            UsageError: the store is closed.
        """
        if self._closed:
            self._folder  # noqa: B018  (raises)
        try:
            return self._reader.current()
        except Exception as error:
            raise_store_fault(error, self.path, "read")
            raise

    @property
    def exists(self) -> bool:
        """Return whether the store exists, that is, something has been indexed."""
        return (self.path / STORE_FILE).is_file()

    @cached_property
    def config(self) -> StoreConfig:
        """Configuration that the store was created with; it does not change.

        Raises:
            StoreNotFoundError: there is no store yet.
        """
        return read_config(self.path)

    @cached_property
    def encoder(self) -> Encoder:
        """Encoder of the store; its towers are loaded on first use.

        Raises:
            StoreError: the store was created with another encoder.
            EncoderError: the encoder is unknown, or its model is not downloaded.
            UsageError: the encoder has no such option.
        """
        from bindsearch.encoders.torch_runtime.device import Runtime

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
        ranking: str | Ranking = Ranking.PROBABILITY,
        filter: Filter | str | None = None,
        diversity: float = 0.0,
        min_match: float | str | Match = 0.0,
        copies: bool = False,
        words: str | WordSearch = WordSearch.AUTO,
        source: str | Modality | None = None,
        include_query: bool = False,
        imu_rate_hz: float | None = None,
    ) -> list[Hit]:
        """Return the k items nearest to a query; see `answer` for the plan and timings.

        Args:
            query: A text, a term, a composition, or a query vector (d,), which is normalised.
            to: Target modalities (None: all).
            k: Number of items.
            ranking: Ranking of a list over several modalities.
            filter: An expression such as "duration_s > 3", or a Filter from `bs.make_filter`.
            diversity: Diversity in 0..1, see docs/ranking.md: 0 is relevance only; 0.3 spreads the list, 0.5 halves the
                near-duplicates in it, 1 is diversity only. Hits are in the order in which they were selected.
            min_match: Least match of a hit: a probability in 0..1, or a word: exact, strong, likely, weak.
            copies: Whether copies of a hit are hits of their own; else they are named by the hit.
            words: Whether the words of texts are searched in names, captions, metadata and passages: "auto" (beside
                vectors), "off", or "only" (no model is loaded).
            source: Modality that a query vector was made from (None: unknown).
            include_query: Whether items with the same content as the query's own files may be hits.
            imu_rate_hz: Sample rate in Hz of motion files that do not contain one.

        Returns:
            At most k hits, best first.

        Raises:
            UsageError: as for `answer`, or an argument is invalid.
            VectorError: a query vector has the wrong shape, or is zero or not finite.
            StoreNotFoundError: there is no store.
        """
        options = (to, k, ranking, filter, diversity, min_match, copies, include_query)
        return self._search((query,), options, words, source, imu_rate_hz)[0]

    @former_keywords(rank="ranking", diverse="diversity")
    def search_many(
        self,
        queries: Sequence[Searchable | NDArray[np.floating]],
        *,
        to: str | Modality | Iterable[str | Modality] | None = None,
        k: int = 10,
        ranking: str | Ranking = Ranking.PROBABILITY,
        filter: Filter | str | None = None,
        diversity: float = 0.0,
        min_match: float | str | Match = 0.0,
        copies: bool = False,
        words: str | WordSearch = WordSearch.AUTO,
        source: str | Modality | None = None,
        include_query: bool = False,
        imu_rate_hz: float | None = None,
    ) -> list[list[Hit]]:
        """Run `search` for several queries; texts are encoded and indexes searched together.

        Args:
            queries: Texts, terms, compositions or query vectors (d,).
            to: As for `search`, for all queries; so are the arguments below.
            k: Number of items per query.
            ranking: Ranking of lists over several modalities.
            filter: Filter of all queries.
            diversity: Diversity in 0..1, as in `search`.
            min_match: Least match of a hit.
            copies: Whether copies of a hit are hits of their own.
            words: Whether words are searched.
            source: Modality that query vectors were made from (None: unknown).
            include_query: Whether items with the same content as a query's own files may be hits.
            imu_rate_hz: Sample rate in Hz of motion files that do not contain one.

        Returns:
            One list of hits per query.

        Raises:
            UsageError: `queries` is a single string, or as for `search`.
            VectorError: a query vector has the wrong shape, or is zero or not finite.
            StoreNotFoundError: there is no store.
        """
        if isinstance(queries, Searchable):
            raise UsageError(f"{shown(queries)} is one query: pass a list of queries, or call `search`")
        options = (to, k, ranking, filter, diversity, min_match, copies, include_query)
        return self._search(to_list(queries, "the list of queries"), options, words, source, imu_rate_hz)

    def _search(
        self,
        asked: Sequence[object],
        options: tuple[Any, ...],
        words: str | WordSearch,
        source: str | Modality | None,
        imu_rate_hz: float | None,
    ) -> list[list[Hit]]:
        """Return the hits of queries, given the options of all as for `_query_options`."""
        try:
            others = [query for query in asked if not isinstance(query, np.ndarray)]
            if not others and isinstance(words, str) and words == WordSearch.AUTO:
                words = WordSearch.OFF
            options = (*options, words)
            is_kept = options[0] is None or isinstance(options[0], str | tuple)  # others may change, as lists do
            checked: Callable[..., Query] = self._options if is_kept else _query_options
            try:
                shared = checked(*options)
            except TypeError:  # an option without a hash, which is refused
                shared = _query_options(*options)
            known = None if source is None else to_choice(source, Modality, "modality of a query vector")
            opened = self._opened()
            terms = [replace(shared, terms=terms_of(query)) for query in others]
            written = iter(self._prepare(opened, terms, imu_rate_hz) if terms else ())
            prepared = [
                self._prepare_vector(query, shared, known) if isinstance(query, np.ndarray) else next(written)
                for query in asked
            ]
            return [result.hits for result in opened.search(prepared)] if prepared else []
        except Exception as error:
            raise_installation_fault(error)
            raise

    @installation_faults()
    def answer(self, query: Query, *, imu_rate_hz: float | None = None) -> Answer:
        """Answer a query: encode and compose its terms, search each target modality, rank the candidates.

        Args:
            query: The query, from `make_query`.
            imu_rate_hz: Sample rate in Hz of motion files that do not contain one.

        Returns:
            The hits with the resolved terms, the plan and its measurements.

        Raises:
            UsageError: a term's file or item does not exist or cannot be used, the terms cancel each other, or the
                filter is invalid.
            StoreNotFoundError: there is no store.
        """
        started = time.perf_counter()
        check_query(query)
        opened = self._opened()
        (prepared,) = self._prepare(opened, [query], imu_rate_hz)
        encoded = time.perf_counter()
        (result,) = opened.search([prepared])
        done = time.perf_counter()
        terms = tuple(
            AnsweredTerm(step.source, term.source, step.weight)
            for step, term in zip(prepared.terms, query.terms, strict=True)
            if step.source is not None
        )
        measured = PlanRun(
            partitions=result.partitions,
            encode_ms=1000 * (encoded - started),
            filter_ms=result.filter_ms,
            merge_ms=result.merge_ms,
            facts_ms=result.facts_ms,
            total_ms=1000 * (done - started),
            words=result.words,
        )
        problems = opened.problems(result, query.filter, self._calibration[1])
        notices = tuple(dict.fromkeys([*prepared.notices, *result.notices, *problems]))
        hits = tuple(result.hits)
        answer = Answer(
            terms, query.to, query.k, measured.total_ms, hits, result.plan, measured, notices, (), result.missing
        )
        if answer.stands_out:
            return answer
        from bindsearch.search.suggestions import suggestions

        searched = sum(step.matching_rows for step in answer.plan.partitions)
        return replace(answer, suggestions=suggestions(query, opened.near_words, len(hits), searched))

    def explain(self, query: Query) -> Plan:
        """Return the plan of a query; the filter is evaluated, but nothing is encoded or searched.

        Raises:
            UsageError: as for `answer`.
            StoreNotFoundError: there is no store.
        """
        check_query(query)
        opened = self._opened()
        if query.words is WordSearch.ONLY:
            return opened.plan(prepare_words(query))
        sources = [resolve_source(term, opened.roots, opened.find_item) for term in query.terms]
        return opened.plan(prepare_query(query, sources, _own_items(opened, query, sources), None))

    @installation_faults()
    @tells_faults("read")
    def encode_query(self, query: Query, *, imu_rate_hz: float | None = None) -> list[EncodedTerm]:
        """Return the terms of a query with their vectors; those of indexed items are the stored ones.

        Args:
            query: The query; its targets, filter and ranking are not used.
            imu_rate_hz: Sample rate in Hz of motion files that do not contain one.

        Raises:
            UsageError: a file or item does not exist or cannot be decoded, or words alone are searched.
            StoreNotFoundError: there is no store.
        """
        check_query(query)
        (encoded,) = self._encode(self._opened(), [query], imu_rate_hz)
        if encoded is None:
            raise UsageError("a query by words alone has no vectors: leave words='only' out")
        return encoded

    @tells_faults("read")
    def status(self) -> Status:
        """Return the status of the store in its newest generation.

        Raises:
            StoreNotFoundError: there is no store.
        """
        return store_status(self._folder, self.config, self.generation())

    @tells_faults("read")
    def left_out(self, *, start: int = 0, most: int = 1000) -> list[LeftOutFile]:
        """Return files and folders that the last runs did not index: not media, hidden or ignored.

        Files that could not be read, and those without content, are in `status()`.

        Args:
            start: Number of the first one to return, from 0; they are sorted by collection and path.
            most: Maximum number to return.

        Raises:
            UsageError: a number is negative.
            StoreNotFoundError: there is no store.
        """
        first = to_integer(start, "start", "give a number from 0")
        count = to_integer(most, "most", "give a number from 0")
        return left_out_files(self._folder, self.generation().snapshot.manifest.collections, first, count)

    @former_keywords(wishes="index_settings")
    @installation_faults()
    @tells_faults("write")
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
        """Update the store from folders or files: add, update and remove items that changed.

        Args:
            paths: Folders or files that exist, or that were deleted from a collection.
            rules: Modality rules such as "depth=**/depth/*.png"; they take precedence over detection by content.
            imu_rate_hz: Sample rate in Hz of motion files that do not contain one.
            retry_failed: Try again files that failed before, even if unchanged.
            include: Globs; only matching files are processed in this run, other items stay unchanged.
            exclude: Globs; matching files are not processed in this run, their items stay unchanged.
            prune: Remove items even if all files of a folder disappeared (by default it is assumed to be unmounted).
            limits: Resource limits per file, such as {"max_pixels": 10**9}.
            index_settings: Settings for the indexes, which are updated at the end (None: the stored ones; see
                `optimize`).
            on_progress: Called with the progress of the run.
            on_stage: Called with the name of each stage.

        Returns:
            Counts, failures and notices of the run.

        Raises:
            UsageError: a path does not exist, or a rule, glob or limit is invalid.
            StoreLockedError: another process is indexing.
        """
        from bindsearch.ingest.targets import resolve_paths
        from bindsearch.ingest.workers.pool import Decoders
        from bindsearch.operations.index import IndexRequest, at_paths, index_targets
        from bindsearch.operations.optimize import check_index_settings

        caps = {} if limits is None else limits
        request = IndexRequest(rules, imu_rate_hz, retry_failed, include, exclude, prune, caps)
        self._gpus.check()
        resolved = resolve_paths(paths, self._known_collections().values())
        check_index_settings(index_settings, self.encoder.dim)
        context = self._context
        with Decoders(context.encoder, context.decode) as decoders:
            find = at_paths(resolved, self._folder)
            report = index_targets(
                context, find, request, decoders, index_settings, on_progress, on_stage, moved_to=resolved
            )
        seen = (report.items, report.unchanged, report.removed, report.failures, report.without_content, report.notices)
        if not any(seen):
            report.notices.append("no indexable files found")
        return report

    @installation_faults()
    @tells_faults("write")
    def retry(
        self,
        *,
        rules: Iterable[str] = (),
        imu_rate_hz: float | None = None,
        limits: Mapping[str, float] | None = None,
        on_progress: OnProgress = ignore_progress,
    ) -> IndexReport:
        """Process only the files that failed before.

        Args:
            rules: Modality rules, as for `index`.
            imu_rate_hz: Sample rate in Hz of motion files that do not contain one.
            limits: Resource limits per file, as for `index`.
            on_progress: Called with the progress of the run.

        Returns:
            Counts, failures and notices of the run.

        Raises:
            StoreNotFoundError: there is no store.
            StoreLockedError: another process is writing.
        """
        from bindsearch.ingest.workers.pool import Decoders
        from bindsearch.operations.index import IndexRequest, at_failures, index_targets

        self.config  # noqa: B018  (raises if there is no store)
        request = IndexRequest(rules, imu_rate_hz, retry_failed=True, limits={} if limits is None else limits)
        context = self._context
        with Decoders(context.encoder, context.decode) as decoders:
            return index_targets(context, at_failures(self._folder), request, decoders, on_progress=on_progress)

    @installation_faults()
    @tells_faults("write")
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
        """Index folders, then their changes, until `stop` is set.

        Args:
            paths: Folders to index and watch.
            on_report: Called with the report of each run.
            stop: Event that ends watching.
            rules: Modality rules, as for `index`.
            include: Globs of files to process, as for `index`.
            exclude: Globs of files not to process, as for `index`.
            rescan_s: Interval in seconds of full rescans, which find missed events (default: 300).
            polling: Poll for changes; for network file systems, which send no change events.

        Raises:
            UsageError: a path does not exist or is not a folder, or the limit of file watches is reached.
        """
        from bindsearch.ingest.scan.file_events import RESCAN_S
        from bindsearch.ingest.targets import resolve_paths
        from bindsearch.operations.index import IndexRequest
        from bindsearch.operations.watch import watch_paths

        resolved = resolve_paths(paths, self._known_collections().values())
        request = IndexRequest(rules, include=include, exclude=exclude)
        interval_s = (
            RESCAN_S if rescan_s is None else to_number(rescan_s, "rescan_s", "give seconds above 0", math.ulp(0.0))
        )
        watch_paths(self._context, resolved, request, on_report, stop, rescan_s=interval_s, polling=polling)

    @installation_faults()
    @tells_faults("write")
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
        """Convert the store to another encoder: re-embed everything; searches use the old vectors until it finishes.

        An interrupted run can be resumed. Items get new ids.

        Args:
            encoder: Name of the new encoder, or an Encoder.
            encoder_options: Preprocessing options of the new encoder.
            rules: Modality rules, as for `index`.
            imu_rate_hz: Sample rate in Hz of motion files that do not contain one.
            limits: Resource limits per file, as for `index`.
            prune: Leave out items that cannot be embedded now.
            on_progress: Called with the progress of the run.
            on_stage: Called with the name of each stage.

        Returns:
            Counts, failures and notices of the run.

        Raises:
            StoreNotFoundError: there is no store.
            StoreLockedError: another process is writing.
            UsageError: items would be lost, or a rule or limit is invalid.
        """
        from bindsearch.encoders import load_encoder
        from bindsearch.encoders.torch_runtime.device import Runtime
        from bindsearch.operations.index import IndexRequest
        from bindsearch.operations.reindex import reindex

        new = encoder
        if isinstance(new, str):
            runtime = Runtime(device=self._device, compile=self._compile)
            new = load_encoder(new, options=encoder_options or {}, runtime=runtime)
        request = IndexRequest(rules, imu_rate_hz, prune=prune, limits={} if limits is None else limits)
        report = reindex(self._context_of(new), request, on_progress=on_progress, on_stage=on_stage)
        self._release()
        self._wanted_encoder = new
        for cached in ("config", "encoder"):
            self.__dict__.pop(cached, None)
        if self._term_cache is not None:
            self._term_cache.clear()
        return report

    @tells_faults("write")
    def forget(self, *paths: PathLike, item_ids: Sequence[int] = ()) -> int:
        """Remove items from the store; their files are not changed.

        Args:
            paths: Files or folders whose items are removed, at or below each path.
            item_ids: Ids of further items.

        Returns:
            The number of removed items.

        Raises:
            UsageError: nothing is indexed at a path, or there is no such item.
            StoreNotFoundError: there is no store.
            StoreLockedError: another process is writing.
        """
        from bindsearch.operations.forget import forget

        ids = [to_integer(item, "an item id", "give an integer") for item in to_list(item_ids, "the list of item ids")]
        return forget(self._folder, [to_path_text(path) for path in paths], ids)

    @tells_faults("write")
    def relocate(self, old: PathLike, new: PathLike) -> RelocateReport:
        """Change the root of a collection whose folder was moved; nothing is embedded again.

        Args:
            old: Root of the collection, or a folder above several.
            new: Folder that `old` is now.

        Returns:
            The collections with their new roots, and how many of a sample of files were found there.

        Raises:
            UsageError: `old` is not a collection, `new` does not exist, overlaps with another collection, or does not
                contain the files.
            StoreNotFoundError: there is no store.
            StoreLockedError: another process is writing.
        """
        from bindsearch.operations.relocate import relocate

        return relocate(self._folder, to_path_text(old), to_path_text(new))

    @former_keywords(wishes="index_settings")
    @installation_faults()
    @tells_faults("write")
    def optimize(
        self, *, index_settings: IndexSettings | None = None, force: bool = False, on_stage: OnStage = ignore_stage
    ) -> list[OptimizeResult]:
        """Bring the indexes up to date with the vectors.

        Args:
            index_settings: Requested form, memory, recall and parameters, which are stored (None: the stored ones).
            force: Rebuild every index.
            on_stage: Called with the name of each stage.

        Returns:
            What was done for each partition.

        Raises:
            UsageError: the settings cannot be satisfied.
            StoreNotFoundError: there is no store.
            StoreLockedError: another process is writing.
        """
        from bindsearch.operations.optimize import optimize_store

        self.config  # noqa: B018  (raises if there is no store)
        return optimize_store(self._context, index_settings, force=force, on_stage=on_stage)

    @installation_faults()
    @tells_faults("write")
    def classify(
        self,
        labels: Iterable[str] | ClassNames | Path | None = None,
        *,
        column: str,
        probability_column: str | None = None,
        templates: PathLike | None = None,
        collections: str | Iterable[str] = (),
        modality: str | Modality | None = None,
        dry_run: bool = False,
        on_rows: OnRows = ignore_rows,
    ) -> ColumnReport:
        """Write a column with the class of each item, which filters can use; see docs/classification.md.

        The stored vectors are compared with the names of the classes: no file is read, and only the text tower is
        loaded. Items that have a class from the same labels keep it; call it again for new and changed ones.

        Args:
            labels: Names of classes, several of one class separated by `|`, or a Path of a file with a class a line
                (None: the labels of the column as it is).
            column: Name of the column; one that was written before is replaced.
            probability_column: Name of a column of probabilities (None: none, or that of the column as it is).
            templates: Set of templates, or a file with one a line (None: "general", or those of the column as it is).
            collections: Collections whose items are classified, as in `make_filter`; together with those that have
                classes from the same labels (none: all, or without labels those of the column as it is).
            modality: Modality of the segments that are classified, such as the sound of videos (None: that of the
                item).
            dry_run: Count the classes, and write nothing.
            on_rows: Called with the number of items that are done, and their total.

        Returns:
            The number of items of each label.

        Raises:
            UsageError: labels, templates or a name are invalid, or there is no such collection.
            StoreNotFoundError: there is no store.
            StoreLockedError: another process is writing.
        """
        from bindsearch.operations.classify.column import ColumnRequest, write_column
        from bindsearch.operations.classify.labels import to_classes

        request = ColumnRequest(
            name=column,
            probability=probability_column,
            classes=None if labels is None else to_classes(labels),
            templates=templates,
            collections=to_texts(collections, "collections"),
            modality=None if modality is None else to_choice(modality, Modality, "modality"),
        )
        self.config  # noqa: B018  (raises if there is no store)
        return write_column(self._folder, self.encoder, request, dry_run=dry_run, on_rows=on_rows)

    @installation_faults()
    def classify_files(
        self,
        files: PathLike | Iterable[PathLike],
        labels: Iterable[str] | ClassNames | Path,
        *,
        templates: PathLike = "general",
        top: int = 5,
        modality: str | Modality | None = None,
        imu_rate_hz: float | None = None,
        on_rows: OnRows = ignore_rows,
    ) -> list[ClassifiedFile]:
        """Return the classes of files, with the encoder and the segment lengths of the store.

        Args:
            files: Files, which need not be indexed; `like:ITEM` is an indexed item, by id or path.
            labels: As for `bindsearch.classify`; so are the arguments below.
            templates: Set of templates, or a file.
            top: Number of classes to return for each file.
            modality: Modality of files that are given without one (None: it is detected).
            imu_rate_hz: Sample rate in Hz of motion files that do not contain one.
            on_rows: Called with the number of files that are done, and their total.

        Raises:
            UsageError: as for `bindsearch.classify`.
            StoreNotFoundError: there is no store.
        """
        from bindsearch.operations.classify.files import classify_files

        opened = self._opened()

        def encode(term: Term) -> EncodedTerm:
            return encode_terms(
                [term], lambda: self.encoder, self.config, imu_rate_hz, opened.roots, opened.stored_term
            )[0]

        return classify_files(files, labels, templates, self.encoder, encode, top, modality, on_rows)

    @installation_faults()
    def locate(
        self,
        query: Searchable,
        where: Where,
        *,
        options: LocateOptions | None = None,
        imu_rate_hz: float | None = None,
        on_stage: OnStage = ignore_stage,
    ) -> Located:
        """Return where a hit, an item or a file answers a query: boxes of pictures, spans of recordings.

        Args:
            query: A text, a term or a composition, as for `search`.
            where: A hit; the id of an item; or a file, which need not be indexed, as for `locate_files`.
            options: Threshold, negatives, detail and number of boxes (None: the defaults).
            imu_rate_hz: Sample rate in Hz of motion files that do not contain one.
            on_stage: Called with what is being located.

        Raises:
            UsageError: the query, an option or the place is invalid, or the encoder cannot embed the modality.
            MediaError: the file cannot be read, or is a text.
            StoreNotFoundError: there is no store.
        """
        from bindsearch.operations.locate.locate import locate_place, to_place

        probe, library = self._probe(query, options, imu_rate_hz)
        place, notices = to_place(where, library)
        located = locate_place(probe, place, library.decode, on_stage)
        return replace(located, notices=(*notices, *located.notices))

    @installation_faults()
    def locate_files(
        self,
        query: Searchable,
        files: PathLike | Iterable[PathLike],
        *,
        options: LocateOptions | None = None,
        imu_rate_hz: float | None = None,
        on_stage: OnStage = ignore_stage,
    ) -> list[LocatedFile]:
        """Return where several files answer a query, with the encoder and the limits of the store.

        Args:
            query: A text, a term or a composition, as for `search`.
            files: Files, which need not be indexed, also as MODALITY:FILE or FILE@10s-20s; `like:ITEM` is an indexed
                item, by id or path.
            options: Threshold, negatives, detail and number of boxes (None: the defaults).
            imu_rate_hz: Sample rate in Hz of motion files that do not contain one.
            on_stage: Called with what is being located.

        Returns:
            One result a file, in their order; a file that cannot be read has a failure.

        Raises:
            UsageError: there are no files, or the query or an option is invalid.
            StoreNotFoundError: there is no store.
        """
        from bindsearch.operations.locate.locate import locate_files

        return locate_files(files, *self._probe(query, options, imu_rate_hz), on_stage)

    @installation_faults()
    def locate_by_detector(
        self,
        query: Searchable,
        files: PathLike | Iterable[PathLike],
        detector: str | Detector,
        *,
        options: LocateOptions | None = None,
        encoder: str | Encoder | None = None,
        imu_rate_hz: float | None = None,
        on_stage: OnStage = ignore_stage,
    ) -> list[LocatedFile]:
        """Return the boxes of a detector that fit a query, in files and indexed items.

        Args:
            query: A text, a term or a composition, without indexed items.
            files: Pictures and videos, as for `locate_files`.
            detector: Detector, or its name.
            options: Threshold and number of boxes (None: a threshold of 0.2).
            encoder: Encoder of the query, or its name, which must share the detector's space; None: the detector
                itself, which embeds texts and pictures. That of the store is not used.
            imu_rate_hz: Sample rate in Hz of motion files that do not contain one.
            on_stage: Called with what is being located.

        Returns:
            One result a file, in their order; a file that cannot be read has a failure.

        Raises:
            UsageError: there are no files, the query or an option is invalid, or an option has no effect.
            EncoderError: detector or encoder are not installed, or do not share a space.
            StoreNotFoundError: there is no store.
        """
        from bindsearch.operations.locate.by_detector import DETECTOR_OPTIONS, locate_by_detector

        opened = self._opened()
        return locate_by_detector(
            query,
            files,
            detector,
            options=DETECTOR_OPTIONS if options is None else options,
            encoder=encoder,
            imu_rate_hz=imu_rate_hz,
            device=self._device,
            roots=opened.roots,
            find=opened.find_item,
            on_stage=on_stage,
        )

    def _probe(
        self, query: Searchable, options: LocateOptions | None, imu_rate_hz: float | None
    ) -> tuple[Probe, Library]:
        """Return an encoded query to locate with, and what of the store can be named."""
        from bindsearch.ingest.media.options import decode_options
        from bindsearch.operations.locate.locate import Library
        from bindsearch.operations.locate.relevance import LocateOptions, make_probe

        if imu_rate_hz is not None:
            check_imu_rate(imu_rate_hz, "imu_rate_hz")
        opened = self._opened()

        def encode(terms: Sequence[Term]) -> list[EncodedTerm]:
            return self._encode_terms(opened, terms, imu_rate_hz)

        library = Library(encode, decode_options(self.config, imu_rate_hz), opened.roots, opened.find_item)
        return make_probe(query, LocateOptions() if options is None else options, self.encoder, encode), library

    @tells_faults("write")
    def remove_column(self, column: str) -> None:
        """Remove a column that `classify` wrote, with its probabilities.

        Args:
            column: Name of the column.

        Raises:
            UsageError: there is no such column.
            StoreNotFoundError: there is no store.
            StoreLockedError: another process is writing.
        """
        from bindsearch.operations.classify.column import remove_column

        if not isinstance(column, str):
            raise UsageError(f"the column is {shown(column)}: give its name")
        remove_column(self._folder, column.lower())

    @tells_faults("write")
    def calibrate(
        self, queries: Iterable[tuple[Searchable, Sequence[PathLike]]] | None = None
    ) -> tuple[CalibratedPair, ...]:
        """Fit the probability of a match to queries with known answers, and keep it in the store.

        It is fitted for each pair of modalities that has enough matches; others keep their coefficients.

        Args:
            queries: Queries of one term each, with the paths of the indexed files that answer them; no path: nothing
                answers it (None: the captions in sidecars, with the files that they belong to).

        Returns:
            The result of each pair of modalities.

        Raises:
            UsageError: an answer is not in the store, or there are too few matches.
            StoreNotFoundError: there is no store.
        """
        from bindsearch.operations.calibrate import LabelledQuery, fit_model, labelled_queries

        opened = self._opened()
        assert isinstance(opened, GenerationSearch)
        asked = labelled_queries(opened.generation, queries)
        prepared = self._prepare(opened, [query for query, _ in asked], None)
        labelled = [LabelledQuery(one, answers) for one, (_, answers) in zip(prepared, asked, strict=True)]
        model, pairs = fit_model(opened, labelled)
        origin = {"queries": len(asked), "answers": sum(len(answers) for _, answers in asked)}
        write_calibration(self.path / CALIBRATION_FILE, model, self.config, origin)
        del self._calibration
        return tuple(pairs)

    @property
    def index_settings(self) -> IndexSettings:
        """Stored settings of the indexes.

        Raises:
            StoreError: the settings file is damaged.
        """
        from bindsearch.operations.index_policy import read_index_settings

        return read_index_settings(self._folder)

    @property
    def wishes(self) -> IndexSettings:
        """Former name of `index_settings`."""
        return self.index_settings

    @tells_faults("read")
    def plan_index(
        self,
        *paths: PathLike,
        rules: Iterable[str] = (),
        imu_rate_hz: float | None = None,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        limits: Mapping[str, float] | None = None,
        on_rows: OnRows = ignore_rows,
    ) -> list[PlannedFile]:
        """Return how each file would be indexed, and why (`bindsearch index --dry-run`); writes nothing.

        Depth maps, thermal pictures and motion recordings are decoded, and the notes of their decoders returned.

        Args:
            paths: Folders or files that exist, or that were deleted from a collection.
            rules: Modality rules, as for `index`.
            imu_rate_hz: Sample rate in Hz of motion files that do not contain one.
            include: Globs of files to process, as for `index`.
            exclude: Globs of files not to process, as for `index`.
            limits: Resource limits per file, as for `index`.
            on_rows: Called with the number of files of a collection that are done, and their total.

        Returns:
            One entry per file.

        Raises:
            UsageError: a path does not exist, or a rule, glob or limit is invalid.
        """
        from bindsearch.ingest.targets import resolve_paths
        from bindsearch.operations.index import IndexRequest, plan_paths

        known = self._known_collections()
        caps = {} if limits is None else limits
        request = IndexRequest(rules, imu_rate_hz, include=include, exclude=exclude, limits=caps)
        return plan_paths(self._folder, resolve_paths(paths, known.values()), known, request, on_rows)

    @installation_faults()
    def show(
        self,
        file: PathLike,
        *,
        segment: int | None = None,
        at_s: float | None = None,
        root: PathLike | None = None,
        rules: Iterable[str] = (),
        imu_rate_hz: float | None = None,
        limits: Mapping[str, float] | None = None,
    ) -> ShownFile:
        """Return what an indexing run finds in a file, and why (`bindsearch show`); writes nothing.

        The file is decoded as by `index`, with the encoder and the segment lengths of the store. `draw_file` of
        `bindsearch.operations.show.picture` makes a picture of the result.

        Args:
            file: A file, which need not be indexed; as a text also MODALITY:FILE or FILE@10s-20s, as in queries.
            segment: Number of the segment whose content is returned, from 1 (None: the first).
            at_s: Time in seconds of that segment instead.
            root: Folder that is to be indexed (None: the collection that contains the file, else the nearest folder
                above it with a .bindsearch.toml, else its own).
            rules: Modality rules, as for `index`.
            imu_rate_hz: Sample rate in Hz of motion files that do not contain one.
            limits: Resource limits per file, as for `index`.

        Raises:
            UsageError: the file does not exist or has no such segment, or an option is invalid.
        """
        from bindsearch.ingest.media.options import decode_options
        from bindsearch.operations.index import IndexRequest
        from bindsearch.operations.show.show_file import Choice, find_root, parse_file, show_file

        roots = self._known_collections().values()
        decode = (
            decode_options(self.config, None)
            if self.exists
            else segment_lengths(self._wanted_segments, self.encoder.wants)
        )
        choice = Choice(segment, at_s)
        request = IndexRequest(rules, imu_rate_hz, limits={} if limits is None else limits)
        options = request.options(replace(decode, imu_rate_hz=imu_rate_hz))
        term = parse_file(to_path_text(file))
        return show_file(term, find_root(term, root, roots), self.encoder, options, choice)

    @former_keywords(files="check_media", content="hash_media")
    @tells_faults("read")
    def verify(
        self, *, check_media: bool = False, hash_media: bool = False, on_stage: OnStage = ignore_stage
    ) -> Report:
        """Check the checksums and the consistency of all files of the store; changes nothing.

        Args:
            check_media: Also check that media files have the size and modification time that were indexed.
            hash_media: Also check that media files have the content that was indexed; reads all their bytes.
            on_stage: Called with the name of each stage.

        Returns:
            The findings.

        Raises:
            StoreNotFoundError: there is no store.
        """
        from bindsearch.operations.verify.check import verify

        return verify(self._folder, check_media=check_media, hash_media=hash_media, on_stage=on_stage)

    @tells_faults("write")
    def compact(self, *, on_stage: OnStage = ignore_stage) -> CompactReport:
        """Repair what needs no embedding, remove deleted rows, and free disk space.

        Raises:
            StoreNotFoundError: there is no store.
            StoreLockedError: another process is writing.
            StoreError: the store cannot be repaired; nothing was changed.
        """
        from bindsearch.operations.compact import compact_store

        return compact_store(self._folder, on_stage=on_stage)

    @tells_faults("write")
    def recover(self, *, on_stage: OnStage = ignore_stage) -> RecoverReport:
        """Rebuild a damaged, missing or outdated catalog from the snapshot.

        Raises:
            StoreNotFoundError: there is no store.
            StoreLockedError: another process is writing.
            StoreError: neither the catalog nor the snapshot can be read, or a file cannot be read now.
        """
        from bindsearch.operations.verify.recover import recover_store

        return recover_store(self._folder, on_stage=on_stage)

    @tells_faults("read")
    def duplicates(self, *, to: str | Modality | Iterable[str | Modality] | None = None) -> list[tuple[Item, ...]]:
        """Return groups of items with identical content, largest groups first.

        Args:
            to: Modalities; a group is returned if one of its items has one of them (None: all).

        Returns:
            One tuple of items per group.

        Raises:
            StoreNotFoundError: there is no store.
        """
        from bindsearch.operations.duplicates import find_exact_duplicates

        wanted = parse_modalities(to)
        groups = find_exact_duplicates(self.generation().snapshot)
        return [group for group in groups if any(item.modality in wanted for item in group)]

    @tells_faults("read")
    def near_duplicates(
        self,
        threshold: float | None = None,
        *,
        to: str | Modality | Iterable[str | Modality] | None = None,
        on_rows: Callable[[Modality, int, int], None] = lambda _modality, _done, _total: None,
        on_notice: Callable[[str], None] = lambda _notice: None,
    ) -> list[NearGroup]:
        """Return groups of items of the same modality that are near-duplicates of one of them, the medoid.

        Args:
            threshold: Cosine from which two segments match. None: 0.96 for pictures and videos, 0.97 for others; and a
                modality is compared only if the encoder distinguishes its items, else identical files are grouped.
            to: Modalities (None: all).
            on_rows: Called with modality, number of rows done, and total.
            on_notice: Called with a notice for each modality that is not compared.

        Returns:
            Groups of at least two items, by modality, the largest first.

        Raises:
            UsageError: the threshold is not in 0..1.
            StoreNotFoundError: there is no store.
        """
        from bindsearch.operations.duplicates import find_near_duplicates

        generation = self.generation()
        groups: list[NearGroup] = []
        for modality in parse_modalities(to):
            groups += find_near_duplicates(
                generation, modality, threshold, on_rows=partial(on_rows, modality), on_notice=on_notice
            )
        return groups

    @tells_faults("read")
    def export(
        self,
        target: PathLike,
        *,
        layout: str | Layout | None = None,
        name: str = "bindsearch",
        replace: bool = False,
        modalities: str | Modality | Iterable[str | Modality] | None = None,
        filter: Filter | str | None = None,
        on_progress: OnRows = ignore_rows,
        on_stage: OnStage = ignore_stage,
    ) -> ExportReport:
        """Write vectors with their metadata to an empty folder, a URI or an engine; see `bindsearch.export_vectors`."""
        from bindsearch.operations.exchange.export import export_vectors

        return export_vectors(
            self._folder,
            target,
            layout=layout,
            name=name,
            replace=replace,
            modalities=modalities,
            filter=filter,
            on_progress=on_progress,
            on_stage=on_stage,
        )

    @tells_faults("write")
    def import_vectors(
        self,
        *sources: PathLike,
        root: PathLike | None = None,
        modality: str | Modality | None = None,
        vector_column: str | None = None,
        optimize: bool = True,
        on_progress: OnRows = ignore_rows,
        on_stage: OnStage = ignore_stage,
    ) -> ImportReport:
        """Import precomputed vectors; rows with the same path become one item. See `bindsearch.import_vectors`."""
        from bindsearch.operations.exchange.import_ import import_vectors

        return import_vectors(
            self._folder,
            *sources,
            root=root,
            modality=modality,
            vector_column=vector_column,
            encoder=self._wanted_encoder,
            encoder_options=self._encoder_options,
            device=self._device,
            optimize=optimize,
            on_progress=on_progress,
            on_stage=on_stage,
        )

    @tells_faults("write")
    def merge(
        self,
        *sources: PathLike,
        optimize: bool = True,
        on_progress: OnRows = ignore_rows,
        on_stage: OnStage = ignore_stage,
    ) -> ImportReport:
        """Merge other stores into this one; see `bindsearch.merge_stores`."""
        from bindsearch.operations.exchange.merge import merge_stores

        return merge_stores(
            self._folder,
            *sources,
            encoder=self._wanted_encoder,
            device=self._device,
            optimize=optimize,
            on_progress=on_progress,
            on_stage=on_stage,
        )

    def _known_collections(self) -> dict[int, Path]:
        manifest = None
        with contextlib.suppress(SnapshotDamagedError):  # a damaged manifest is rebuilt later
            manifest = read_manifest(self._folder)
        return {} if manifest is None else {key: Path(root) for key, root in manifest.collections.items()}

    @property
    def _context(self) -> StoreContext:
        self._folder  # noqa: B018  (raises if the store is closed)
        return self._context_of(self.encoder)

    def _context_of(self, encoder: Encoder) -> StoreContext:
        from bindsearch.operations.context import StoreContext

        segments = segment_lengths(self._wanted_segments, encoder.wants)
        return StoreContext(self._folder, encoder, segments, self._gpus, self._decode)

    @cached_property
    def _costs(self) -> UnitCosts:
        """Unit costs measured on this machine when an index was last built; defaults before that."""
        return load_costs(costs_path()) or UnitCosts()

    @cached_property
    def _calibration(self) -> tuple[ProbabilityModel, str | None]:
        """Model of the probability of a match, and why the store's own is not used."""
        return load_calibration(self._folder, self.config)

    def _opened(self) -> GenerationSearch | Router:
        """Return what is searched: the newest generation, with what its searches share."""
        generation = self.generation()
        return GenerationSearch(generation, self._calibration[0], self._workers, self._costs, self._gpus.notes)

    def _prepare(
        self, opened: GenerationSearch | Router, queries: Sequence[Query], imu_rate_hz: float | None
    ) -> list[PreparedQuery]:
        """Encode the terms of all queries together and prepare the queries."""
        encoded = self._encode(opened, queries, imu_rate_hz)
        return [
            prepare_words(query)
            if terms is None
            else prepare_query(query, terms, _own_items(opened, query, terms), compose_query(query, terms))
            for query, terms in zip(queries, encoded, strict=True)
        ]

    def _encode(
        self, opened: GenerationSearch | Router, queries: Sequence[Query], imu_rate_hz: float | None
    ) -> list[list[EncodedTerm] | None]:
        """Return the encoded terms of each query, encoded together; None: words alone are searched."""
        if imu_rate_hz is not None:
            check_imu_rate(imu_rate_hz, "imu_rate_hz")
        if alone := [query for query in queries if query.words is WordSearch.ONLY]:
            if len(alone) < len(queries):
                raise UsageError("queries by words alone and others cannot be asked together: search them apart")
            return [None] * len(queries)
        terms = [term for query in queries for term in query.terms]
        encoded = iter(self._encode_terms(opened, terms, imu_rate_hz) if terms else ())
        return [[next(encoded) for _ in query.terms] for query in queries]

    def _encode_terms(
        self, opened: GenerationSearch | Router, terms: Sequence[Term], imu_rate_hz: float | None
    ) -> list[EncodedTerm]:
        return encode_terms(
            terms, lambda: self.encoder, self.config, imu_rate_hz, opened.roots, opened.stored_term, self._term_cache
        )

    def _prepare_vector(self, vector: NDArray[np.floating], query: Query, source: Modality | None) -> PreparedQuery:
        if vector.dtype.kind not in "fiu":
            raise VectorError(f"the query vector has values of type {vector.dtype}: give floating-point numbers")
        dim = self.config.dim
        if vector.shape != (dim,):
            raise VectorError(f"the query vector has shape {vector.shape}, the store needs ({dim},)")
        if query.words is WordSearch.ONLY:
            raise UsageError("a query vector has no words: search it with words='off' or 'auto'")
        unit = l2_normalize(vector)
        if query.words is not WordSearch.OFF:
            query = replace(query, words=WordSearch.OFF)
        term = VECTOR_TERM if source is None else replace(VECTOR_TERM, source=source)
        return PreparedQuery(query, (term,), QueryVector(unit, unit[None]), (None,), (None,))


def _query_options(
    to: str | Modality | Iterable[str | Modality] | None,
    k: int,
    ranking: str | Ranking,
    filter: Filter | str | None,
    diversity: float,
    min_match: float | str | Match,
    copies: bool,
    include_query: bool,
    words: str | WordSearch,
) -> Query:
    """Return a query with checked options, whose term stands for others."""
    return make_query(
        "vector",
        to=to,
        k=k,
        ranking=ranking,
        include_query=include_query,
        filter=to_filter(filter),
        diversity=diversity,
        min_match=min_match,
        copies=copies,
        words=words,
    )


def _own_items(
    opened: GenerationSearch | Router, query: Query, terms: Sequence[EncodedTerm | Source]
) -> list[int | None]:
    """Return the id of the item of each term that has no content to find copies by."""
    return [
        opened.find_item(term.source).item_id if term.kind == LIKE and resolved.content_hash == "" else None
        for term, resolved in zip(query.terms, terms, strict=True)
    ]


def check_query(query: Query) -> None:
    """Check that a query is one.

    Raises:
        UsageError: it is not.
    """
    if not isinstance(query, Query):
        raise UsageError(f"{shown(query)} is not a Query: create one with bs.make_query(...), or call `search`")
