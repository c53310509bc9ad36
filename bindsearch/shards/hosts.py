"""Hosts of shards: processes that open them as ordinary stores, and answer the requests of a router to each.

The one here is this process. Replicas of shards are renewed one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from time import monotonic
from typing import Any, Protocol, TypeVar

from bindsearch.errors import BindSearchError, StoreError, StoreNotFoundError, UsageError
from bindsearch.indexes.cost_model import costs_path, load_costs
from bindsearch.indexes.types import UnitCosts
from bindsearch.results import Status
from bindsearch.search.engine import GenerationSearch
from bindsearch.search.generation import Generation
from bindsearch.search.plan import Plan
from bindsearch.search.query import Term
from bindsearch.search.query_encoding import EncodedTerm, find_item, stored_term
from bindsearch.search.scoring.probability import DEFAULT_MODEL
from bindsearch.search.thread_pool import Workers
from bindsearch.shards.layout import TIMEOUT_S
from bindsearch.shards.search.messages import (
    Details,
    DetailsRequest,
    FoundPart,
    PreparedPart,
    PrepareRequest,
    Sample,
    SampleRequest,
    SearchRequest,
    Stale,
    Summary,
)
from bindsearch.shards.search.part import details_of, plan_part, prepare_part, search_part, summarize, take_sample
from bindsearch.store import Store
from bindsearch.types import Item

Result = TypeVar("Result")

MAX_THREADS = 16

HOLD_S = 6 * 3600.0
"""Longest time in seconds that replicas answer from the generation before a change."""

IN_TURN = frozenset({"details", "item", "plan"})
"""Methods that take less time than to hand them to threads, which would wait for the interpreter."""


class ShardHost:
    """Open shards of one process; thread-safe.

    Every method that `run` calls takes the number of a shard and a request, and returns plain data and arrays, so that
    both can be sent between processes. A request names the generation that it is about: the newest one, or the one
    that the shard answered from before.
    """

    def __init__(self, paths: Mapping[int, Path], device: str = "auto") -> None:
        """Prepare to open shards; files are opened on first use.

        Args:
            paths: Folder of each shard by its number.
            device: Device to search on, as in `connect`.
        """
        self._stores = {number: Store(path, device=device) for number, path in paths.items()}
        self._answered: dict[int, Generation] = {}
        self._held: dict[int, tuple[Generation, float]] = {}
        self._pool = ThreadPoolExecutor(min(MAX_THREADS, max(1, len(self._stores))), "shard")
        self._workers = Workers()

    def close(self) -> None:
        """Close the shards."""
        self._pool.shutdown(cancel_futures=True)
        self._workers.close()
        self._answered.clear()
        self._held.clear()
        for store in self._stores.values():
            store.close()

    def run(self, method: str, requests: Mapping[int, object]) -> dict[int, object]:
        """Call a method for shards, all at the same time.

        Returns:
            The result by number of the shard, or the BindSearchError that it raised.
        """
        answer = partial(self._answer, getattr(self, method))
        each = map if len(requests) == 1 or method in IN_TURN else self._pool.map
        return dict(zip(requests, each(answer, requests.keys(), requests.values()), strict=True))

    def _answer(self, call: Callable[[int, Any], object], number: int, request: object) -> object:
        """Return the result of a call for a shard, or its error."""
        try:
            return call(number, request)
        except StoreNotFoundError:
            way_out = "mount or restore its disk, or run `bindsearch index` again if it was never made"
            return StoreError(f"there is no shard in {self._stores[number].path}: {way_out}")
        except BindSearchError as error:
            return error

    @cached_property
    def _costs(self) -> UnitCosts:
        return load_costs(costs_path()) or UnitCosts()

    def _search_of(self, generation: Generation) -> GenerationSearch:
        """Return searches of a generation; their scales come from the router, so that the model is not used."""
        return GenerationSearch(generation, DEFAULT_MODEL, self._workers, self._costs)

    def _generation(self, number: int, wanted: int) -> Generation | Stale:
        """Return a generation of a shard if it is the newest or the last one that was answered from."""
        kept = self._answered.get(number)
        if kept is not None and kept.manifest.generation == wanted:
            return kept
        newest = self._newest(number)
        return newest if newest.manifest.generation == wanted else Stale(newest.manifest.generation)

    def _newest(self, number: int) -> Generation:
        """Return the newest generation of a shard, or the one that is held."""
        generation, until = self._held.get(number, (None, 0.0))
        return generation if generation is not None and monotonic() < until else self._stores[number].generation()

    def hold(self, number: int, seconds: float) -> int:
        """Answer from the present generation, for at most some seconds, until `release`; return its number."""
        generation = self._newest(number)
        self._held[number] = generation, monotonic() + seconds
        return generation.manifest.generation

    def release(self, number: int, _: object) -> int:
        """Answer from the newest generation again; open it, and return its number."""
        generation = self._stores[number].generation()
        self._held.pop(number, None)
        return generation.manifest.generation

    def generation(self, number: int, _: object) -> int:
        """Return the number of the newest generation of a shard."""
        return self._newest(number).manifest.generation

    def summary(self, number: int, _: object) -> Summary:
        """Return the state of a shard's newest generation."""
        store = self._stores[number]
        return summarize(store.generation(), store.config)

    def sample(self, number: int, request: SampleRequest) -> list[Sample] | Stale:
        """Return a sample of vectors."""
        generation = self._generation(number, request.generation)
        return generation if isinstance(generation, Stale) else take_sample(generation, request)

    def stored(self, number: int, term: Term) -> EncodedTerm | None:
        """Return the encoded term of an indexed item; None if the shard has no such item."""
        generation = self._newest(number)
        if self.item(number, term.source) is None:
            return None
        return stored_term(term, generation.snapshot, generation.partitions)

    def item(self, number: int, source: str) -> Item | None:
        """Return the item with an id or path; None if the shard has none."""
        try:
            return find_item(source, self._newest(number).snapshot)
        except UsageError:
            return None

    def prepare(self, number: int, request: PrepareRequest) -> PreparedPart | Stale:
        """Return what the scales of queries depend on; Stale unless the generation is the newest."""
        newest = self._newest(number)
        if newest.manifest.generation != request.generation:
            return Stale(newest.manifest.generation)
        self._answered[number] = newest
        return prepare_part(newest, request)

    def plan(self, number: int, request: SearchRequest) -> list[Plan] | Stale:
        """Return the plan of each query."""
        generation = self._generation(number, request.generation)
        return generation if isinstance(generation, Stale) else plan_part(self._search_of(generation), request)

    def search(self, number: int, request: SearchRequest) -> list[FoundPart] | Stale:
        """Return the best candidates for each query."""
        generation = self._generation(number, request.generation)
        return generation if isinstance(generation, Stale) else search_part(self._search_of(generation), request)

    def details(self, number: int, request: DetailsRequest) -> Details | Stale:
        """Return vectors and metadata of candidates."""
        generation = self._generation(number, request.generation)
        return generation if isinstance(generation, Stale) else details_of(generation, request)

    def near_words(self, number: int, tokens: Sequence[str]) -> tuple[set[str], dict[str, str]]:
        """Return the tokens that occur in a shard, and words that are spelled much like the others."""
        from bindsearch.search.words.spelling import known_words, near_words

        generation = self._stores[number].generation()
        words, snapshot = generation.words, generation.snapshot
        return known_words(tokens, words, snapshot), near_words(tokens, words, snapshot)

    def status(self, number: int, _: object) -> Status:
        """Return the status of a shard."""
        return self._stores[number].status()


@dataclass(frozen=True)
class Replies:
    """Replies of shards to one request each."""

    results: dict[int, Any] = field(default_factory=dict)  # result by number of the shard
    missing: dict[int, str] = field(default_factory=dict)  # why a shard did not answer, by its number


class Hosts(Protocol):
    """Access to the shards of a store, in whatever processes they are."""

    n: int
    """Number of shards."""

    def run(self, method: str, requests: Mapping[int, object], timeout_s: float = TIMEOUT_S) -> Replies:
        """Call a method of ShardHost for shards, all at the same time.

        Args:
            method: Name of the method.
            requests: Argument by number of the shard.
            timeout_s: Time in seconds after which a shard counts as missing.

        Raises:
            UsageError: a shard refused its request, which all would.
        """

    def close(self) -> None:
        """Release what the hosts hold."""


def to_replies(answers: Mapping[int, object]) -> Replies:
    """Return the replies in what a host returned.

    Raises:
        UsageError: a shard refused its request, which all would.
    """
    replies = Replies()
    for number, answer in answers.items():
        if isinstance(answer, UsageError):
            raise answer
        if isinstance(answer, BindSearchError):
            replies.missing[number] = str(answer)
        else:
            replies.results[number] = answer
    return replies


class LocalHosts:
    """All shards in this process; see `Hosts`."""

    def __init__(self, paths: Mapping[int, Path], device: str = "auto") -> None:
        """Prepare to open the shards; see `ShardHost`."""
        self.n = len(paths)
        self._host = ShardHost(paths, device)

    def run(self, method: str, requests: Mapping[int, object], timeout_s: float = TIMEOUT_S) -> Replies:  # noqa: ARG002
        """Call a method for shards; see `Hosts.run`. Files of this machine answer, or fail, without a timeout."""
        return to_replies(self._host.run(method, requests))

    def close(self) -> None:
        """Close the shards."""
        self._host.close()


class ReplicatedHosts(Hosts, Protocol):
    """Hosts of which several hold each shard."""

    replicas: int
    """Number of hosts that hold each shard."""

    def run_replica(
        self, replica: int, method: str, requests: dict[int, object], timeout_s: float = TIMEOUT_S
    ) -> Replies:
        """Call a method for shards in one replica only; see `Hosts.run`."""

    def resting(self, replica: int) -> AbstractContextManager[None]:
        """Ask a replica only for shards that no other one answers for."""


def roll(hosts: ReplicatedHosts, change: Callable[[], Result], timeout_s: float = 600.0) -> Result:
    """Change the shards, and let their replicas open what is published one after the other.

    All replicas answer from the generations before the change until it is done. A replica that does not answer is
    passed over: it opens the newest generation when it is started again.

    Args:
        hosts: The hosts.
        change: Publishes new generations of shards, such as `optimize`.
        timeout_s: Time in seconds that a replica has to open them.

    Returns:
        The result of `change`.

    Raises:
        StoreError: a shard that answers cannot open its new generation; the replicas after it still have the old one.
    """
    shards = range(hosts.n)
    for replica in range(hosts.replicas):
        hosts.run_replica(replica, "hold", dict.fromkeys(shards, HOLD_S))
    try:
        result = change()
    except BaseException:
        for replica in range(hosts.replicas):
            hosts.run_replica(replica, "release", dict.fromkeys(shards))
        raise
    for replica in range(hosts.replicas):
        with hosts.resting(replica):
            released = hosts.run_replica(replica, "release", dict.fromkeys(shards), timeout_s)
            warm = hosts.run_replica(replica, "summary", dict.fromkeys(released.results), timeout_s)
        if warm.missing:
            number, why = next(iter(warm.missing.items()))
            raise StoreError(f"replica {replica} of shard {number} cannot open its new generation: {why}")
    return result
