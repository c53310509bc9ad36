"""A sharded store: the methods of a store over all of its shards."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.arguments import to_path_text
from bindsearch.environment import installation_faults
from bindsearch.errors import StoreNotFoundError, UsageError
from bindsearch.reports import IndexReport, OnProgress, OnStage, ignore_progress, ignore_stage
from bindsearch.results import Answer, AnsweredTerm
from bindsearch.search.engine import ResolvedTerms, compose_query, labels_of, prepare_words
from bindsearch.search.generation import Generation
from bindsearch.search.plan import Plan, PlanRun
from bindsearch.search.query import LIKE, Query, WordSearch, resolve_weights, terms_of
from bindsearch.search.query_encoding import EncodedTerm, resolve_source
from bindsearch.search.scoring.calibration_file import load_calibration
from bindsearch.search.scoring.probability import ProbabilityModel
from bindsearch.shards.hosts import Hosts
from bindsearch.shards.layout import SHARDS_FILE, TIMEOUT_S, ShardMap, new_shard_map, write_shard_map
from bindsearch.shards.messages import RoutedQuery
from bindsearch.shards.place import Place, ThisProcess
from bindsearch.shards.router import RoutedResult, Router
from bindsearch.storage.config import StoreConfig, load_encoder_of
from bindsearch.storage.faults import tells_faults
from bindsearch.store import Store, check_query
from bindsearch.types import DecodeIn, Hit, Modality, PathLike

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bindsearch.encoders.base import Encoder
    from bindsearch.indexes.types import IndexSettings
    from bindsearch.shards.index import ShardOptions


class ShardedStore(Store):
    """A store whose files are divided among shards, which are ordinary stores.

    Searches give the hits of one store with all files. Ids of items are unique over the shards.
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
        place: Place | None = None,
        shards: int | None = None,
        timeout_s: float = TIMEOUT_S,
        require_all: bool = False,
    ) -> None:
        """Prepare access to a sharded store; see `connect` for the arguments.

        Args:
            path: Folder of the sharded store.
            encoder: As in `connect`; so are the arguments to `decode`.
            encoder_options: Preprocessing options of the encoder.
            device: Device of models and indexes.
            compile: Whether towers are compiled.
            segment_s: Lengths of segments in a new store.
            decode: Where media files are decoded.
            place: Processes that index and search the shards (None: this one).
            shards: Number of shards of a new store (None: 1).
            timeout_s: Time in seconds that a shard has to answer.
            require_all: Whether a shard that does not answer is an error; else the answer is partial and names it.
        """
        super().__init__(
            path,
            encoder=encoder,
            encoder_options=encoder_options,
            device=device,
            compile=compile,
            segment_s=segment_s,
            decode=decode,
        )
        self._place = place or ThisProcess(device)
        self._shards = shards
        self._timeout_s, self._require_all = timeout_s, require_all

    def _release(self) -> None:
        super()._release()
        if "_hosts" in self.__dict__:
            self._hosts.close()
        for cached in ("_hosts", "_router"):
            self.__dict__.pop(cached, None)
        self._place.close()

    @property
    def exists(self) -> bool:
        """Return whether the sharded store exists, that is, something has been indexed."""
        return (self.path / SHARDS_FILE).is_file()

    @property
    def shard_map(self) -> ShardMap:
        """Number and folders of the shards.

        Raises:
            StoreNotFoundError: there is no sharded store yet.
        """
        return self._place.shard_map(self._folder)

    @cached_property
    def _hosts(self) -> Hosts:
        return self._place.hosts(self.path, dict(enumerate(self.shard_map.paths(self.path))))

    @cached_property
    def _router(self) -> Router:
        return Router(self._hosts, self._model, timeout_s=self._timeout_s, require_all=self._require_all)

    def _model(self) -> ProbabilityModel:
        return self._calibration[0]

    @cached_property
    def _calibration(self) -> tuple[ProbabilityModel, str | None]:
        """Model of the probability of a match, and why the store's own is not used."""
        return load_calibration(self._folder, self.config)

    @property
    def config(self) -> StoreConfig:
        """Configuration that all shards were created with.

        Raises:
            StoreError: no shard answers.
        """
        return next(iter(self._router.states().summaries.values())).config

    @cached_property
    def encoder(self) -> Encoder:
        """Encoder of the store; its towers are loaded on first use. See `Store.encoder`."""
        from bindsearch.encoders.torch_runtime.device import Runtime

        runtime = Runtime(device=self._device, compile=self._compile)
        try:
            config = self.config
        except StoreNotFoundError:
            config = None
        return load_encoder_of(config, self.path, self._wanted_encoder, self._encoder_options, runtime)

    def generation(self) -> Generation:
        """Raise UsageError: each shard has a generation of its own."""
        raise UsageError(f"{self.path} has shards, each with its own generation: connect to one of them")

    def _known_collections(self) -> dict[int, Path]:
        try:
            return dict(enumerate(self._roots))
        except StoreNotFoundError:
            return {}

    def _create(self) -> ShardMap:
        """Return the shards; of a new store, its map is written first.

        Raises:
            UsageError: the store has another number of shards than was asked for.
        """
        try:
            shards = self.shard_map
        except StoreNotFoundError:
            created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            write_shard_map(self._folder, new_shard_map(self._shards or 1, created))
            shards = self.shard_map
        if self._shards not in (None, shards.n):
            raise UsageError(
                f"{self.path} has {shards.n} shards, not {self._shards}: leave out the number, or change it with "
                "`bindsearch reshard`"
            )
        return shards

    def _shard_options(self) -> ShardOptions:
        from bindsearch.shards.index import ShardOptions

        return ShardOptions(
            encoder=self._wanted_encoder,
            encoder_options=self._encoder_options,
            device=self._device,
            compile=self._compile,
            segment_s=self._wanted_segments,
            decode=self._decode,
        )

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
        """Update the shards from folders or files; see `Store.index`.

        Returns:
            Counts, failures and notices of all shards.

        Raises:
            UsageError: as for `Store.index`, or the store has another number of shards than was asked for.
            StoreError: shards could not be written; the others are updated.
        """
        from bindsearch.operations.index import IndexRequest
        from bindsearch.shards.index import index_shards

        caps = {} if limits is None else limits
        request = IndexRequest(rules, imu_rate_hz, retry_failed, include, exclude, prune, caps)
        self._gpus.check()
        self._create()
        return index_shards(
            self._folder,
            [to_path_text(path) for path in paths],
            request,
            self._shard_options(),
            index_settings=index_settings,
            run=self._place.run_jobs,
            on_progress=on_progress,
            on_stage=on_stage,
        )

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
        """Process only the files that failed before, of all shards; see `Store.retry`."""
        from bindsearch.operations.index import IndexRequest
        from bindsearch.shards.index import retry_shards

        self.shard_map  # noqa: B018  (raises if there is no store)
        request = IndexRequest(rules, imu_rate_hz, retry_failed=True, limits={} if limits is None else limits)
        return retry_shards(
            self._folder, request, self._shard_options(), run=self._place.run_jobs, on_progress=on_progress
        )

    def _search_all(
        self,
        asked: Sequence[object],
        shared: Query,
        known: Modality | None,
        imu_rate_hz: float | None,
    ) -> list[list[Hit]]:
        """Return the hits of queries, given a query with the options of all, and the modality of query vectors."""
        written = [replace(shared, terms=terms_of(query)) for query in asked if not isinstance(query, np.ndarray)]
        routed = iter(self._route(written, imu_rate_hz))
        queries = [
            self._route_vector(query, shared, known) if isinstance(query, np.ndarray) else next(routed)[0]
            for query in asked
        ]
        return [result.hits for result in self._router.search(queries)]

    @installation_faults()
    def answer(self, query: Query, *, imu_rate_hz: float | None = None) -> Answer:
        """Answer a query; see `Store.answer`. The plan has the steps of all shards.

        Raises:
            StoreError: no shard answers, or one does not and all are required.
        """
        started = time.perf_counter()
        check_query(query)
        ((routed, notices),) = self._route([query], imu_rate_hz)
        encoded = time.perf_counter()
        (result,) = self._router.search([routed])
        done = time.perf_counter()
        terms = tuple(
            AnsweredTerm(source, term.source, weight)
            for source, weight, term in zip(routed.terms.sources, routed.terms.weights, query.terms, strict=True)
            if source is not None
        )
        measured = PlanRun(
            partitions=result.runs,
            encode_ms=1000 * (encoded - started),
            filter_ms=result.prepare_ms,
            merge_ms=result.merge_ms,
            facts_ms=result.details_ms,
            total_ms=1000 * (done - started),
            words=result.words,
        )
        return Answer(
            terms,
            query.to,
            query.k,
            measured.total_ms,
            tuple(result.hits),
            result.plan,
            measured,
            tuple(dict.fromkeys([*notices, *result.notices, *self._problems(result)])),
            missing_shards=result.missing,
        )

    def _problems(self, result: RoutedResult) -> list[str]:
        """Return what is wrong with the calibration and the shards."""
        problems = [] if self._calibration[1] is None else [self._calibration[1]]
        for number, summary in self._router.states().summaries.items():
            problems += [f"shard {number}: {problem}" for problem in summary.problems]
        for number, why in result.missing.items():
            problems.append(f"shard {number} did not answer, its files are not among the hits: {why}")
        return problems

    def explain(self, query: Query) -> Plan:
        """Return the plan of a query, with the steps of all shards; see `Store.explain`."""
        check_query(query)
        hashes: list[str | None]
        if query.words is WordSearch.ONLY:
            terms, hashes = prepare_words(query).terms, [None] * len(query.terms)
        else:
            sources = [resolve_source(term, self._roots, self._router.find_item) for term in query.terms]
            hashes = [source.content_hash for source in sources]
            terms = ResolvedTerms(
                sources=tuple(source.modality for source in sources),
                labels=labels_of(query),
                weights=resolve_weights(query.terms),
                cost_notes=tuple(source.cost_note for source in sources),
            )
        return self._router.plans([RoutedQuery(query, terms, None, tuple(hashes), self._own_items(query, hashes))])[0]

    @property
    def _roots(self) -> tuple[Path, ...]:
        """Root folder of each collection."""
        summaries = self._router.states().summaries.values()
        return tuple(dict.fromkeys(root for summary in summaries for root in summary.roots))

    def _route(self, queries: Sequence[Query], imu_rate_hz: float | None) -> list[tuple[RoutedQuery, tuple[str, ...]]]:
        """Encode the terms of all queries together; return the queries for the router with their notices."""
        encoded = self._encode_queries(queries, imu_rate_hz, self._roots, self._router.stored_term)
        return [
            self._routed(query, terms) if terms is not None else (self._routed_words(query), ())
            for query, terms in zip(queries, encoded, strict=True)
        ]

    def _routed(self, query: Query, encoded: Sequence[EncodedTerm]) -> tuple[RoutedQuery, tuple[str, ...]]:
        terms, vector = compose_query(query, encoded)
        hashes = tuple(term.content_hash for term in encoded)
        notices = tuple(dict.fromkeys(notice for term in encoded for notice in term.notices))
        return RoutedQuery(query, terms, vector, hashes, self._own_items(query, hashes)), notices

    def _own_items(self, query: Query, hashes: Sequence[str | None]) -> tuple[int | None, ...]:
        """Return the id of the item of each term that has no content to find copies by."""
        return tuple(
            self._router.find_item(term.source).item_id if term.kind == LIKE and content_hash == "" else None
            for term, content_hash in zip(query.terms, hashes, strict=True)
        )

    def _routed_words(self, query: Query) -> RoutedQuery:
        nothing = (None,) * len(query.terms)
        return RoutedQuery(query, prepare_words(query).terms, None, nothing, nothing)

    def _route_vector(self, vector: NDArray[np.floating], query: Query, source: Modality | None) -> RoutedQuery:
        prepared = self._prepare_vector(vector, query, source)
        return RoutedQuery(prepared.query, prepared.terms, prepared.vector, (None,), (None,))
