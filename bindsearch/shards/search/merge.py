"""Merging of what shards know and find: statistics, items of a query, candidates and plans.

Letters: m candidates, d dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.search.plan import Plan
from bindsearch.search.prepare import QueryItems, SameContent, divide_items
from bindsearch.search.query import Query
from bindsearch.search.scoring.scores import Scored, joined, pair_cosine
from bindsearch.search.words.matches import WordCounts
from bindsearch.shards.each import totals
from bindsearch.shards.layout import global_id, local_id
from bindsearch.shards.search.messages import Details, ModalitySummary
from bindsearch.storage.snapshot import SegmentFacts
from bindsearch.types import Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray


def merge_means(summaries: Sequence[ModalitySummary]) -> tuple[int, float]:
    """Return the number of vectors of all shards, and the mean cosine of two different ones."""
    n = sum(summary.n for summary in summaries)
    mu = sum((summary.n / n * summary.mu.astype(np.float64) for summary in summaries), np.zeros(1))
    return n, pair_cosine(n, np.asarray(mu, np.float32))


def merge_moments(parts: Sequence[tuple[int, tuple[float, float]]]) -> tuple[float, float]:
    """Return mean and variance over the union of groups of values, by the law of total variance.

    Args:
        parts: Number of values of each group, with their mean and variance.
    """
    n = sum(size for size, _ in parts)
    mean = sum(size * part_mean for size, (part_mean, _) in parts) / n
    variance = sum(size * (spread + (part_mean - mean) ** 2) for size, (part_mean, spread) in parts) / n
    return mean, variance


def merge_words(counts: Sequence[WordCounts | None]) -> WordCounts | None:
    """Return how common words are over all shards; None if words are not searched."""
    known = [one for one in counts if one is not None]
    if not known:
        return None
    return WordCounts(sum(one.fields for one in known), np.sum([one.having for one in known], axis=0))


def merge_items(query: Query, found: Mapping[int, Sequence[SameContent]], n: int) -> tuple[dict[int, QueryItems], int]:
    """Return the excluded and identical items of each shard, and the number of excluded ones that are copies.

    Args:
        query: The query.
        found: Items with the content of each term's file, by shard.
        n: Number of shards.
    """
    terms = [
        SameContent(
            np.concatenate([global_id(of_term[number].items, shard, n) for shard, of_term in found.items()]),
            any(of_term[number].has_itself for of_term in found.values()),
        )
        for number in range(len(query.terms))
    ]
    divided, own = divide_items(query, terms)
    of_shards = {shard: QueryItems(*(items[items % n == shard] // n for items in divided)) for shard in found}
    return of_shards, len(divided.excluded) - own


def merge_scored(found: Mapping[int, Scored], n: int) -> Scored | None:
    """Return the candidates of all shards, with ids and rows that are unique over them; None if there are none."""
    if not found:
        return None
    modalities = tuple(one for one in Modality if any(one in scored.modalities for scored in found.values()))
    parts = []
    for shard, scored in found.items():
        owners = np.array([modalities.index(modality) for modality in scored.modalities])
        numbers = {name: global_id(getattr(scored, name), shard, n) for name in ("rows", "segment_rows", "item_ids")}
        parts.append(scored._replace(owner=owners[scored.owner], **numbers))
    return Scored(modalities, *joined(parts))


def merge_plans(plans: Mapping[int, Plan]) -> Plan:
    """Return one plan with the steps of all shards, by modality; shards are searched at the same time."""
    first = next(iter(plans.values()))
    steps = [replace(step, shard=shard) for shard, plan in plans.items() for step in plan.partitions]
    steps.sort(key=lambda step: (list(Modality).index(step.modality), step.shard))
    words = [plan.words for plan in plans.values() if plan.words is not None]
    all_words = replace(words[0], **totals(words, "fields", "tail")) if words else None
    estimate_ms = max(plan.estimate_ms for plan in plans.values())
    notes = tuple(dict.fromkeys(note for plan in plans.values() for note in plan.notes))
    return replace(first, partitions=tuple(steps), estimate_ms=estimate_ms, notes=notes, words=all_words)


class ShardSource:
    """Vectors and metadata of candidates that shards sent; see `HitSource`. Candidates are ordered by path."""

    def __init__(self, scored: Scored, details: Mapping[int, Details], n: int, has_copies: frozenset[Modality]) -> None:
        """Sort what shards sent.

        Args:
            scored: The candidates of all shards, which have replies.
            details: Vectors and metadata of the candidates of each shard, in their order.
            n: Number of shards.
            has_copies: Modalities whose copies are recognised by their cosine.
        """
        of_shards = scored.item_ids % n
        facts: list[SegmentFacts | None] = [None] * len(of_shards)
        hashes = [""] * len(of_shards)
        dim = next((one.vectors.shape[1] for one in details.values()), 0)
        vectors = np.zeros((len(of_shards), dim), np.float16)
        for shard, part in details.items():
            numbers = np.flatnonzero(of_shards == shard)
            if len(part.vectors):
                vectors[numbers] = part.vectors
            for number, fact, content_hash in zip(numbers.tolist(), part.facts, part.hashes, strict=True):
                facts[number] = fact._replace(item_id=global_id(fact.item_id, shard, n))
                hashes[number] = content_hash
        self._facts = [fact for fact in facts if fact is not None]
        self._vectors = vectors
        self._has_copies = has_copies
        contents = [
            (content_hash or f"item {fact.item_id}", fact.modality, fact.start_s, fact.end_s, fact.text)
            for content_hash, fact in zip(hashes, self._facts, strict=True)
        ]
        known = {content: number for number, content in enumerate(dict.fromkeys(contents))}
        self._keys = np.array([known[content] for content in contents], np.int64)
        _, by_path = np.unique([fact.file for fact in self._facts], return_inverse=True)
        self.scored = scored._replace(item_ids=by_path.astype(np.int64), segment_rows=np.arange(len(by_path)))

    def has_copies(self, modality: Modality) -> bool:
        """Return whether cosines show copies of a modality."""
        return modality in self._has_copies

    def vector_keys(self, scored: Scored, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return a number for the content of each candidate: int64 (m,). Files of the same bytes share one."""
        return self._keys[scored.segment_rows[numbers]]

    def embeddings(self, scored: Scored, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the stored vector of each candidate: float32 (m, d)."""
        return self._vectors[scored.segment_rows[numbers]].astype(np.float32)

    def facts(self, segment_rows: NDArray[np.int64], /) -> list[SegmentFacts]:
        """Return the metadata of candidates, given their segment rows: int64 (m,)."""
        return [self._facts[row] for row in segment_rows.tolist()]


def rows_of_shard(
    scored: Scored, shard: int, n: int
) -> tuple[tuple[Modality, ...], NDArray[np.int64], NDArray[np.int64]]:
    """Return modality, vector row and segment row of the candidates of a shard, in the shard's numbers."""
    mask = scored.item_ids % n == shard
    modalities = tuple(scored.modalities[owner] for owner in scored.owner[mask].tolist())
    rows, _ = local_id(scored.rows[mask], n)
    segment_rows, _ = local_id(scored.segment_rows[mask], n)
    return modalities, rows, segment_rows
