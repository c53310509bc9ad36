"""Router: searches all shards as one store. Shards find candidates; scores and the choice of hits are global."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from bindsearch.errors import StoreError, UsageError
from bindsearch.search.engine import Result, copies_notice
from bindsearch.search.filter import Filter
from bindsearch.search.partition import COPIES, PICTURES, neighbour_cosines, shows_copies
from bindsearch.search.plan import Plan, WordRun
from bindsearch.search.prepare import PreparedQuery, QueryItems
from bindsearch.search.query import Term
from bindsearch.search.query_encoding import MAX_ID_DIGITS, EncodedTerm
from bindsearch.search.scoring.hits import best_hits
from bindsearch.search.scoring.probability import ProbabilityModel
from bindsearch.search.scoring.scores import Moments, PartitionScale, Scored, make_scales, target_scales
from bindsearch.shards.hosts import Hosts, Replies
from bindsearch.shards.layout import TIMEOUT_S, global_id, local_id
from bindsearch.shards.search.merge import (
    ShardSource,
    merge_items,
    merge_means,
    merge_moments,
    merge_plans,
    merge_scored,
    merge_words,
    rows_of_shard,
)
from bindsearch.shards.search.messages import (
    Details,
    DetailsRequest,
    FoundPart,
    ModalitySummary,
    PartSearch,
    PreparedPart,
    PrepareRequest,
    SampleRequest,
    SearchRequest,
    Stale,
    Summary,
)
from bindsearch.shards.search.part import best_candidates
from bindsearch.types import Hit, Item, Modality

if TYPE_CHECKING:
    from bindsearch.search.words.matches import WordCounts

Reply = TypeVar("Reply")

SAMPLE = 256
"""Size of the sample over all shards that shows whether copies are recognised by their cosine."""

RETRY_S, RETRY_TIMEOUT_S = 2.0, 2.0
"""Time between attempts to reach a missing shard, and how long one may take: a search waits for it."""

MAX_ATTEMPTS = 8
"""Most times that a search starts again because shards published new generations meanwhile."""

WIDER = 4
"""Growth factor of the number of further items that are ranked where many copies were folded."""


@dataclass(frozen=True)
class ShardStates:
    """Newest generation of each shard that answers."""

    summaries: Mapping[int, Summary]
    missing: Mapping[int, str]  # why a shard does not answer
    means: Mapping[Modality, tuple[int, float]]  # number of vectors and mean cosine of two of them
    has_copies: frozenset[Modality]  # modalities whose copies are recognised by their cosine


class _StaleError(Exception):
    """Some shards, whose numbers are the arguments, have published another generation."""


class _Asked(NamedTuple):
    """A query with what it needs to know of all shards."""

    prepared: PreparedQuery
    items: dict[int, QueryItems]
    copies: int
    scales: dict[Modality, PartitionScale]
    words: WordCounts | None


@dataclass
class _Search:
    """State of one search over the shards that answer."""

    states: ShardStates
    missing: dict[int, str]
    prepare_ms: float = 0.0
    prepared: dict[int, PreparedPart] = field(default_factory=dict)
    asked: list[_Asked] = field(default_factory=list)


class Router:
    """Search of all shards; thread-safe."""

    def __init__(
        self,
        hosts: Hosts,
        model: Callable[[], ProbabilityModel],
        *,
        timeout_s: float = TIMEOUT_S,
        require_all: bool = False,
    ) -> None:
        """Prepare to search; nothing is opened yet.

        Args:
            hosts: The shards.
            model: Returns the model of the probability of a match.
            timeout_s: Time in seconds after which a shard counts as missing.
            require_all: Whether a missing shard is an error; else the answer is partial and names it.
        """
        self._hosts, self._n, self._model = hosts, hosts.n, model
        self._timeout_s, self._require_all = timeout_s, require_all
        self._lock = threading.Lock()
        self._states: ShardStates | None = None
        self._retry_at = 0.0

    def states(self) -> ShardStates:
        """Return the state of the shards; those that were missing are asked again.

        Raises:
            StoreError: no shard answers, or one does not and all are required.
        """
        with self._lock:
            states = self._states
            if states is None:
                return self._ask_states(None, range(self._n), self._timeout_s)
            if states.missing and monotonic() >= self._retry_at:
                return self._ask_states(states, states.missing, min(self._timeout_s, RETRY_TIMEOUT_S))
            self._check(states.missing, len(states.summaries))
            return states

    def _ask_states(self, known: ShardStates | None, asked: Iterable[int], timeout_s: float) -> ShardStates:
        """Return the states with those of some shards as they are now; the caller holds the lock."""
        replies = self._hosts.run("summary", dict.fromkeys(asked), timeout_s)
        summaries, missing = {**replies.results}, {**replies.missing}
        if known is not None:
            summaries = {**known.summaries, **summaries}
            missing = {**known.missing, **missing}
        kept = {number: one for number, one in sorted(summaries.items()) if number not in replies.missing}
        return self._set_states(kept, {number: why for number, why in missing.items() if number not in replies.results})

    def _set_states(self, summaries: Mapping[int, Summary], missing: Mapping[int, str]) -> ShardStates:
        """Compute and keep what follows from the states of shards; the caller holds the lock."""
        self._retry_at = monotonic() + RETRY_S
        self._check(missing, len(summaries))
        _check_spaces(summaries)
        known = self._states
        if known is not None and _generations(known.summaries) == _generations(summaries):
            self._states = replace(known, missing=missing)
            return self._states
        means = {modality: merge_means(parts) for modality in Modality if (parts := _parts(summaries, modality))}
        self._states = ShardStates(summaries, missing, means, self._find_copies(summaries))
        return self._states

    def _find_copies(self, summaries: Mapping[int, Summary]) -> frozenset[Modality]:
        """Return the modalities whose copies are recognised by their cosine, by a sample over all shards."""
        total = {modality: sum(part.live_rows for part in _parts(summaries, modality)) for modality in PICTURES}
        requests = {}
        for number, summary in summaries.items():
            parts = {modality: part for modality in PICTURES if (part := summary.modalities.get(modality)) is not None}
            sizes = {key: round(min(1.0, SAMPLE / total[key]) * part.live_rows) for key, part in parts.items()}
            if sizes := {modality: size for modality, size in sizes.items() if size}:
                requests[number] = SampleRequest(summary.generation, sizes)
        replies = self._hosts.run("sample", requests, self._timeout_s) if requests else Replies()
        found = set()
        for modality in PICTURES:
            vectors, items = [], []
            for number, samples in replies.results.items():
                if isinstance(samples, Stale):
                    continue
                for one, sample in zip(requests[number].sizes, samples, strict=True):
                    if one is modality:
                        vectors.append(sample.vectors.astype(np.float32))
                        items.append(global_id(sample.items, number, self._n))
            if vectors and shows_copies(neighbour_cosines(np.concatenate(vectors), np.concatenate(items), COPIES)):
                found.add(modality)
        return frozenset(found)

    def _check(self, missing: Mapping[int, str], answering: int) -> None:
        """Check that enough shards answer; see `check_answering`."""
        check_answering(missing, answering, self._n, require_all=self._require_all)

    def stored_term(self, term: Term) -> EncodedTerm:
        """Return the encoded term of an indexed item, from its stored vectors.

        Raises:
            UsageError: there is no such item.
        """
        found: EncodedTerm = self._ask_owner("stored", term.source, lambda source: replace(term, source=source))[0]
        return replace(found, source=term.source)

    def find_item(self, source: str) -> Item:
        """Return the item with an id over all shards, or a path.

        Raises:
            UsageError: there is none.
        """
        item: Item
        item, number = self._ask_owner("item", source, lambda source: source)
        return replace(item, item_id=global_id(item.item_id, number, self._n))

    def _ask_owner(self, method: str, source: str, request: Callable[[str], object]) -> tuple[Any, int]:
        """Return the reply of the shard that has an item, and its number; raise UsageError if none has it."""
        if source.isdecimal() and len(source) <= MAX_ID_DIGITS:
            local, number = local_id(int(source), self._n)
            replies = self._hosts.run(method, {number: request(str(local))}, self._timeout_s)
            if number in replies.missing:
                raise StoreError(f"shard {number}, which has item {source}, does not answer: {replies.missing[number]}")
            if replies.results.get(number) is not None:
                return replies.results[number], number
        replies = self._hosts.run(method, dict.fromkeys(range(self._n), request(source)), self._timeout_s)
        for number, found in replies.results.items():
            if found is not None:
                return found, number
        if replies.missing:
            number, why = next(iter(replies.missing.items()))
            raise StoreError(f"item {source} is in no shard that answers; shard {number} does not: {why}")
        raise UsageError(f"no indexed item {source!r}: give an item_id or the path of an indexed file")

    def near_words(self, tokens: Sequence[str]) -> dict[str, str]:
        """Return those of some tokens that occur in no shard that answers, with a similar one that does."""
        replies = self._hosts.run("near_words", dict.fromkeys(range(self._n), tokens), self._timeout_s)
        known = {token for found, _ in replies.results.values() for token in found}
        pairs = [pair for _, near in replies.results.values() for pair in near.items() if pair[0] not in known]
        return dict(reversed(pairs))  # of several, that of the first shard

    @property
    def roots(self) -> tuple[Path, ...]:
        """Root folder of each collection."""
        summaries = self.states().summaries.values()
        return tuple(dict.fromkeys(root for summary in summaries for root in summary.roots))

    def problems(self, result: Result, filter: Filter, of_calibration: str | None) -> list[str]:  # noqa: ARG002
        """Return what is wrong with the calibration and the shards."""
        problems = [] if of_calibration is None else [of_calibration]
        for number, summary in self.states().summaries.items():
            problems += [f"shard {number}: {problem}" for problem in summary.problems]
        for number, why in result.missing.items():
            problems.append(f"shard {number} did not answer, its files are not among the hits: {why}")
        return problems

    def plan(self, query: PreparedQuery) -> Plan:
        """Return the plan of a query; nothing is searched."""

        def plan(search: _Search) -> list[Plan]:
            replies = self._call(search, "plan", self._requests(search, None))
            return [merge_plans({shard: plan for shard, (plan,) in replies.items()})]

        return self._with_fresh_states([query], plan)[0]

    def search(self, queries: Sequence[PreparedQuery]) -> list[Result]:
        """Return the result of each query; all have the same targets and filter.

        Raises:
            UsageError: the filter is invalid.
            StoreError: no shard answers, or one does not and all are required.
        """
        return self._with_fresh_states(queries, lambda search: self._search(search, None)) if queries else []

    def _with_fresh_states(
        self, queries: Sequence[PreparedQuery], run: Callable[[_Search], list[Reply]]
    ) -> list[Reply]:
        for _ in range(MAX_ATTEMPTS):
            states = self.states()
            started = perf_counter()
            try:
                search = self._prepare(states, queries)
                search.prepare_ms = 1000 * (perf_counter() - started)
                return run(search)
            except _StaleError as stale:
                with self._lock:
                    self._ask_states(self._states or states, stale.args, self._timeout_s)
        raise StoreError(f"shards published new generations {MAX_ATTEMPTS} times during one search: search again")

    def _call(self, search: _Search, method: str, requests: Mapping[int, object]) -> dict[int, Any]:
        """Return the replies of shards; those without are missing from then on; raise _StaleError if one is newer."""
        replies = self._hosts.run(method, requests, self._timeout_s)
        if replies.missing:
            search.missing |= replies.missing
            self._check(search.missing, len(replies.results))
            with self._lock:
                known = self._states or search.states
                kept = {number: one for number, one in known.summaries.items() if number not in replies.missing}
                self._set_states(kept, {**known.missing, **replies.missing})
        if stale := [number for number, reply in replies.results.items() if isinstance(reply, Stale)]:
            raise _StaleError(*stale)
        return dict(sorted(replies.results.items()))

    def _prepare(self, states: ShardStates, queries: Sequence[PreparedQuery]) -> _Search:
        """Ask the shards for moments and counts, and compute the scale of each modality over all of them."""
        search = _Search(states, dict(states.missing))
        requests = {
            shard: PrepareRequest(summary.generation, tuple(self._of_shard(routed, shard) for routed in queries))
            for shard, summary in states.summaries.items()
        }
        search.prepared = self._call(search, "prepare", requests)
        with_vector = -1
        for number, routed in enumerate(queries):
            same_content = {shard: part.same_content[number] for shard, part in search.prepared.items()}
            items, copies = merge_items(routed.query, same_content, self._n)
            words = merge_words([part.words[number] for part in search.prepared.values()])
            with_vector += routed.vector is not None
            search.asked.append(_Asked(routed, items, copies, self._scales(search, routed, with_vector), words))
        return search

    def _of_shard(self, routed: PreparedQuery, shard: int) -> PreparedQuery:
        """Return a query with the ids of a shard's items."""
        if all(item is None for item in routed.items):
            return routed
        of_shard = [item // self._n if item is not None and item % self._n == shard else None for item in routed.items]
        return replace(routed, items=tuple(of_shard))

    def _scales(self, search: _Search, routed: PreparedQuery, place: int) -> dict[Modality, PartitionScale]:
        """Return the scale of each modality of a query over all shards; `place`: its number among those with one."""
        if routed.vector is None:
            return {}
        items, moments, summaries = {}, [], search.states.summaries
        for modality in routed.query.to:
            parts = {shard: one.targets[modality] for shard, one in search.prepared.items() if modality in one.targets}
            live = sum(part.live_rows for part in parts.values())
            matching = sum(part.matching_rows for part in parts.values())
            if not matching:
                continue
            sizes = [summaries[shard].modalities[modality].n for shard in parts]
            spreads = [part.moments[place] for part in parts.values()]
            merged = merge_moments([*zip(sizes, spreads, strict=True)])
            moments.append(Moments(*search.states.means[modality], *merged))
            items[modality] = sum(part.items for part in parts.values()) * matching / live
        return make_scales(target_scales(routed.terms, items, self._model()), moments)

    def _requests(self, search: _Search, spare: int | None) -> dict[int, SearchRequest]:
        requests = {}
        for shard in search.prepared:
            searches = tuple(
                PartSearch(self._of_shard(one.prepared, shard), one.items[shard], one.scales, one.words, spare)
                for one in search.asked
            )
            generation = search.states.summaries[shard].generation
            requests[shard] = SearchRequest(generation, searches, search.states.has_copies, self._n)
        return requests

    def _search(self, search: _Search, spare: int | None) -> list[Result]:
        found: dict[int, list[FoundPart]] = self._call(search, "search", self._requests(search, spare))
        searched = perf_counter()
        plans, pools = [], []
        for number in range(len(search.asked)):
            parts = {shard: of_shard[number] for shard, of_shard in found.items()}
            plan = merge_plans({shard: part.plan for shard, part in parts.items()})
            scored = {shard: part.scored for shard, part in parts.items() if part.scored is not None}
            merged = merge_scored(scored, self._n)
            plans.append(plan)
            pools.append(None if merged is None else best_candidates(plan, merged))
        details = self._details(search, pools)
        fetched = perf_counter()
        results = []
        for number, (asked, plan, pool) in enumerate(zip(search.asked, plans, pools, strict=True)):
            began = perf_counter()
            of_query = {shard: of_shard[number] for shard, of_shard in details.items() if number in of_shard}
            hits: list[Hit] | None = []
            if pool is not None and len(pool.item_ids):
                source = ShardSource(pool, of_query, self._n, search.states.has_copies)
                hits, _ = best_hits(plan, asked.prepared.vector, source.scored, source)
            if hits is None:
                results += self._search(replace(search, asked=[asked]), WIDER * plan.depth)
                continue
            runs = tuple(replace(run, shard=shard) for shard, of in found.items() for run in of[number].runs)
            words = [run for of_shard in found.values() if (run := of_shard[number].words) is not None]
            word_run = WordRun(sum(run.found for run in words), max(run.ms for run in words)) if words else None
            times_ms = search.prepare_ms, 1000 * (perf_counter() - began), 1000 * (fetched - searched) / len(pools)
            notices = (copies_notice(asked.copies),) if asked.copies else ()
            results.append(Result(hits, plan, runs, *times_ms, word_run, notices, search.missing))
        return results

    def _details(self, search: _Search, pools: list[Scored | None]) -> dict[int, dict[int, Details]]:
        """Return vectors and metadata of candidates, by shard and query; candidates of shards that fail are removed."""
        requests: dict[int, DetailsRequest] = {}
        lengths: dict[int, dict[int, int]] = {}
        wanted = [pool is not None and self._wants_vectors(search, number, pool) for number, pool in enumerate(pools)]
        for shard in search.prepared:
            modalities: list[Modality] = []
            rows, segment_rows = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
            for number, pool in enumerate(pools):
                if pool is not None:
                    of_query = rows_of_shard(pool, shard, self._n)
                    modalities += of_query[0]
                    rows.append(of_query[1])
                    segment_rows.append(of_query[2])
                    lengths.setdefault(shard, {})[number] = len(of_query[0])
            if modalities:
                generation = search.states.summaries[shard].generation
                places = np.concatenate(rows), np.concatenate(segment_rows)
                requests[shard] = DetailsRequest(generation, tuple(modalities), *places, any(wanted))
        replies = self._call(search, "details", requests) if requests else {}
        for number, pool in enumerate(pools):
            if pool is not None and (lost := requests.keys() - replies.keys()):
                pools[number] = pool.take(np.flatnonzero(~np.isin(pool.item_ids % self._n, list(lost))))
        return {shard: _split(reply, lengths[shard]) for shard, reply in replies.items()}

    def _wants_vectors(self, search: _Search, number: int, pool: Scored) -> bool:
        """Return whether the choice of hits, or their explanation, needs the vectors of candidates."""
        routed = search.asked[number].prepared
        compares = not routed.query.copies and any(modality in search.states.has_copies for modality in pool.modalities)
        is_sum = routed.vector is not None and len(routed.vector.parts) > 1
        return compares or is_sum or bool(routed.query.diversity)


def check_answering(missing: Mapping[int, str], answering: int, n: int, *, require_all: bool) -> None:
    """Check that enough of n shards answer.

    Raises:
        StoreError: no shard answers, or one does not and all are required.
    """
    if missing and (require_all or not answering):
        number, why = next(iter(missing.items()))
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise StoreError(f"shard {number}{more} of {n} does not answer: {why}")


def _split(details: Details, lengths: Mapping[int, int]) -> dict[int, Details]:
    """Return the details of each query's candidates, given their number by query."""
    parts, start = {}, 0
    for number, length in lengths.items():
        end = start + length
        parts[number] = Details(details.vectors[start:end], details.facts[start:end], details.hashes[start:end])
        start = end
    return parts


def _parts(summaries: Mapping[int, Summary], modality: Modality) -> list[ModalitySummary]:
    return [one.modalities[modality] for one in summaries.values() if modality in one.modalities]


def _generations(summaries: Mapping[int, Summary]) -> dict[int, int]:
    return {number: summary.generation for number, summary in summaries.items()}


def _check_spaces(summaries: Mapping[int, Summary]) -> None:
    """Check that all shards have vectors of one encoder; raise StoreError if two differ."""
    spaces = {}
    for number, summary in summaries.items():
        config = summary.config
        spaces[number] = config.encoder, config.weights_digest, config.dim, sorted(config.encoder_options.items())
    first = next(iter(spaces))
    for number, space in spaces.items():
        if space != spaces[first]:
            theirs, ours = (f"{name} ({digest})" for name, digest, *_ in (space, spaces[first]))
            fault = f"shard {number} has vectors of {theirs}, shard {first} of {ours}"
            raise StoreError(f"{fault}: index the shards again with one encoder")
