"""Hits: the choice among scored candidates, wherever their vectors and metadata are.

Letters: m candidates, d dimensions, t terms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from bindsearch.search.partition import FilteredPartition
from bindsearch.search.plan import Plan, rerank_depth
from bindsearch.search.query import Ranking
from bindsearch.search.ranking import COPY_COSINE, best_of_each_item, diversify, fold_copies
from bindsearch.search.scoring.candidates import QueryVector, Scored
from bindsearch.search.scoring.probability import DEFAULT_MODEL, MAX_COSINE, probabilities
from bindsearch.storage.snapshot import SegmentFacts, Snapshot
from bindsearch.types import FoundBy, Hit, Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray


PICTURES = (Modality.IMAGE, Modality.VIDEO)
"""Modalities whose copies may be recognised by their cosine."""


class HitSource(Protocol):
    """Vectors and metadata of candidates."""

    def has_copies(self, modality: Modality) -> bool:
        """Return whether cosines show copies of a modality."""

    def vector_keys(self, scored: Scored, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return a number for the vector of each candidate, equal for items that share one: int64 (m,)."""

    def embeddings(self, scored: Scored, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the stored vector of each candidate: float32 (m, d)."""

    def facts(self, scored: Scored, numbers: NDArray[np.int64]) -> list[SegmentFacts]:
        """Return the metadata of each candidate."""


class StoreSource:
    """Vectors and metadata of candidates from the partitions and the snapshot of a store; see `HitSource`."""

    def __init__(self, targets: Mapping[Modality, FilteredPartition], snapshot: Snapshot) -> None:
        """Refer to the target partitions and the snapshot of a generation."""
        self._targets = targets
        self._snapshot = snapshot

    def has_copies(self, modality: Modality) -> bool:
        """Return whether cosines show copies of a modality; see `cosines_show_copies`."""
        return modality in PICTURES and cosines_show_copies(self._targets[modality].partition.neighbour_cosines)

    def vector_keys(self, scored: Scored, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return a number for the vector of each candidate: int64 (m,)."""
        return scored.rows[numbers] * len(scored.modalities) + scored.owner[numbers]

    def embeddings(self, scored: Scored, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the stored vector of each candidate: float32 (m, d)."""
        if len(scored.modalities) == 1:
            return self._targets[scored.modalities[0]].partition.rows.embeddings(scored.rows[numbers])
        owner, rows = scored.owner[numbers], scored.rows[numbers]
        out = np.empty((len(numbers), next(iter(self._targets.values())).partition.dim), np.float32)
        for number in set(owner.tolist()):
            mask = owner == number
            out[mask] = self._targets[scored.modalities[number]].partition.rows.embeddings(rows[mask])
        return out

    def facts(self, scored: Scored, numbers: NDArray[np.int64]) -> list[SegmentFacts]:
        """Return the metadata of each candidate."""
        return self._snapshot.facts(scored.segment_rows[numbers])


class Chosen(NamedTuple):
    """The candidates that are hits.

    Attributes:
        numbers: Their numbers, best first: int64 (<= k,), of each modality in its turn.
        copies: Numbers of the copies of each.
        lacks_items: Whether copies took places for which there may be more items.
    """

    numbers: NDArray[np.int64]
    copies: dict[int, list[int]]
    lacks_items: bool


def choose_hits(plan: Plan, scored: Scored, source: HitSource) -> Chosen:
    """Return the hits: the best segment of each item, without copies and what matches too little, diverse if asked."""
    values, parts = ranked_lists(plan.ranking, scored)
    wanted = rerank_depth(plan.k, plan.diversity)
    chosen: list[NDArray[np.int64]] = []
    copies: dict[int, list[int]] = {}
    lacks_items = False
    for numbers in parts:
        first = min(len(numbers), plan.depth)  # beyond, better ones may not have been fetched
        may_be_more = first == plan.depth
        if plan.min_match:
            is_match = probabilities(scored.log_odds[numbers]) >= plan.min_match
            may_be_more &= bool(is_match[:first].all())
            numbers, first = numbers[is_match], int(np.count_nonzero(is_match[:first]))
        if plan.copies:
            numbers = numbers[:first]
        else:
            numbers, of_part = _without_copies(numbers, first, scored, source)
            copies |= of_part
            lacks_items |= may_be_more and len(numbers) < min(wanted, first)
        if plan.diversity:
            numbers = numbers[:wanted]
            vectors = source.embeddings(scored, numbers)
            groups = scored.owner[numbers]
            numbers = numbers[diversify(values[numbers], vectors, groups, plan.k, plan.diversity)]
        chosen.append(numbers[: plan.k])
    return Chosen(chosen[0] if len(chosen) == 1 else np.concatenate(chosen), copies, lacks_items)


def cosines_show_copies(neighbour_cosines: NDArray[np.float32]) -> bool:
    """Return whether a cosine of COPY_COSINE shows a copy, not merely something of the same kind.

    Args:
        neighbour_cosines: Cosines of `ranking.neighbour_cosines`.
    """
    return bool(neighbour_cosines[-1] < COPY_COSINE)


def raise_copies_of_query(scored: Scored, has_copies: Callable[[Modality], bool]) -> Scored:
    """Raise the log odds of pictures that are as near to the query as copies are.

    A calibration by pictures of the same things says little about copies. Theirs are those of DEFAULT_MODEL for equal
    modalities, of which a cosine of COPY_COSINE has log odds of 1.8 at least.
    """
    near = scored.cosines >= COPY_COSINE
    if not near.any():
        return scored
    shows = np.array([has_copies(modality) for modality in scored.modalities])
    intercept, _, fisher, _ = DEFAULT_MODEL.same
    as_copies = intercept + fisher * np.arctanh(np.minimum(scored.cosines.astype(np.float64), MAX_COSINE))
    log_odds = np.where(near & shows[scored.owner], np.maximum(scored.log_odds, as_copies), scored.log_odds)
    return scored._replace(log_odds=log_odds)


def _without_copies(
    numbers: NDArray[np.int64],
    first: int,
    scored: Scored,
    source: HitSource,
) -> tuple[NDArray[np.int64], dict[int, list[int]]]:
    """Return those of the first of ranked candidates (m,) that are no copy of a better one, and the copies of each.

    Files of the same bytes are copies. So are pictures that look the same, and videos of one segment, if the encoder
    can tell pictures: if most had COPIES neighbours as near as copies are, others would be folded. Longer videos are
    not compared, as two may show the same in one of their segments; nor are other modalities, as encoders map
    different recordings of one kind to nearly one vector.
    """
    keys = source.vector_keys(scored, numbers)
    owner, embeddings = scored.owner[numbers], None
    if any(compared := [source.has_copies(modality) for modality in scored.modalities]):
        is_compared = np.array(compared)[owner] & (scored.chances[numbers] == 1)
        is_compared[2 * first :] = False  # copies have nearly the same score
        owner = np.where(is_compared, owner, -1)
        embeddings = source.embeddings(scored, numbers[is_compared])
    leader_of = fold_copies(keys, embeddings, owner)
    is_copy = leader_of != np.arange(len(numbers))
    copies: dict[int, list[int]] = {}
    for place in np.flatnonzero(is_copy).tolist():
        copies.setdefault(int(numbers[leader_of[place]]), []).append(int(numbers[place]))
    return numbers[:first][~is_copy[:first]], copies


def ranked_lists(ranking: Ranking, scored: Scored) -> tuple[NDArray[np.floating], list[NDArray[np.int64]]]:
    """Return the value that lists are ordered by, and the best segment of each item, best first: int64 (<= m,) a list.

    The value is the log odds, which keep apart what is nearly certain; else the score. There is one list, or one of
    each modality.
    """
    values: NDArray[np.floating] = scored.cosines
    if ranking in (Ranking.PROBABILITY, Ranking.Z):
        values = scored.log_odds if ranking is Ranking.PROBABILITY else scored.z
    if ranking is not Ranking.PER_MODALITY:
        return values, [best_of_each_item(values, scored.item_ids, scored.segment_rows, len(values))]
    parts = [np.flatnonzero(scored.owner == number) for number in range(len(scored.modalities))]
    return values, [
        part[best_of_each_item(values[part], scored.item_ids[part], scored.segment_rows[part], len(part))]
        for part in parts
    ]


def _contributions(
    query: QueryVector, scored: Scored, numbers: NDArray[np.int64], source: HitSource
) -> NDArray[np.float32]:
    """Return the share of each term (m, t) in the cosines of candidates."""
    embeddings, owner = source.embeddings(scored, numbers), scored.owner[numbers]
    out = np.empty((len(numbers), len(query.parts)), np.float32)
    for number in set(owner.tolist()):
        mask = owner == number
        out[mask] = embeddings[mask] @ query.for_target(scored.modalities[number]).parts.T
    return out


def make_hits(plan: Plan, query: QueryVector | None, scored: Scored, chosen: Chosen, source: HitSource) -> list[Hit]:
    """Return the chosen candidates as hits, best first.

    Args:
        plan: The plan.
        query: Vector of the query; None: words alone were searched.
        scored: The candidates.
        chosen: Those that are hits.
        source: Their vectors and metadata.
    """
    numbers = chosen.numbers
    if not len(numbers):
        return []
    cosines = scored.cosines[numbers].tolist()
    shares = [() if query is None else (cosine,) for cosine in cosines]
    if query is not None and len(query.parts) > 1:
        shares = [tuple(row) for row in _contributions(query, scored, numbers, source).tolist()]
    likelihoods = probabilities(scored.log_odds[numbers]).tolist()
    z_of_hits = scored.z[numbers].tolist()
    scores = {Ranking.PROBABILITY: likelihoods, Ranking.Z: z_of_hits}.get(plan.ranking, cosines)
    has_words = (scored.word_chances[numbers] > 0).tolist()
    found_by = [
        FoundBy.WORDS if by_words else FoundBy.BOTH if has else FoundBy.VECTOR
        for by_words, has in zip(scored.is_added[numbers].tolist(), has_words, strict=True)
    ]
    copies: list[tuple[Path, ...]] = [()] * len(numbers)
    if chosen.copies:
        for place, number in enumerate(numbers.tolist()):
            if own := chosen.copies.get(number):
                copies[place] = tuple(facts.path for facts in source.facts(scored, np.array(own)))
    facts = zip(*source.facts(scored, numbers), strict=True)
    item_ids, paths, collections, modalities, starts, ends, texts = facts
    return list(
        map(
            Hit,
            range(1, len(numbers) + 1),
            paths,
            modalities,
            scores,
            cosines,
            item_ids,
            collections,
            starts,
            ends,
            texts,
            shares,
            likelihoods,
            z_of_hits,
            copies,
            found_by,
        )
    )
