"""Hits: the choice among scored candidates, wherever their vectors and metadata are.

Letters: m candidates, d dimensions, t terms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from bindsearch.search.plan import Plan, rerank_depth
from bindsearch.search.query import Ranking
from bindsearch.search.ranking import COPY_COSINE, best_of_each_item, diversify, fold_copies
from bindsearch.search.scoring.candidates import QueryVector, Scored
from bindsearch.search.scoring.probability import DEFAULT_MODEL, MAX_COSINE, probabilities
from bindsearch.storage.snapshot import SegmentFacts
from bindsearch.types import FoundBy, Hit, Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray


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


@dataclass(frozen=True)
class Chosen:
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
    values = ranked_values(plan.ranking, scored)
    parts: list[NDArray[np.int64] | slice] = [slice(None)]
    if plan.ranking is Ranking.PER_MODALITY:
        parts = [np.flatnonzero(scored.owner == number) for number in range(len(scored.modalities))]
    wanted = rerank_depth(plan.k, plan.diversity)
    chosen: list[NDArray[np.int64]] = []
    copies: dict[int, list[int]] = {}
    lacks_items = False
    for part in parts:
        best = best_of_each_item(values[part], scored.item_ids[part], scored.segment_rows[part], len(values))
        numbers = np.arange(len(values))[part][best]
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
    return Chosen(np.concatenate(chosen), copies, lacks_items)


def is_pictures(modality: Modality) -> bool:
    """Return whether copies of a modality may be recognised by their cosine."""
    return modality in (Modality.IMAGE, Modality.VIDEO)


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
    return replace(scored, log_odds=log_odds)


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
    compared = [source.has_copies(modality) for modality in scored.modalities]
    owner = scored.owner[numbers]
    is_compared = np.array(compared)[owner] & (scored.chances[numbers] == 1)
    is_compared[2 * first :] = False  # copies have nearly the same score
    embeddings = source.embeddings(scored, numbers[is_compared])
    leader_of = fold_copies(source.vector_keys(scored, numbers), embeddings, np.where(is_compared, owner, -1))
    copies: dict[int, list[int]] = {}
    for number, leader in zip(numbers.tolist(), numbers[leader_of].tolist(), strict=True):
        if number != leader:
            copies.setdefault(leader, []).append(number)
    return numbers[:first][leader_of[:first] == np.arange(first)], copies


def ranked_values(ranking: Ranking, scored: Scored) -> NDArray[np.floating]:
    """Return what the list is ordered by: log odds, which keep apart what is nearly certain; else the score."""
    match ranking:
        case Ranking.PROBABILITY:
            return scored.log_odds
        case Ranking.Z:
            return scored.z
    return scored.cosines


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
    columns = zip(
        numbers.tolist(),
        scores,
        cosines,
        likelihoods,
        z_of_hits,
        shares,
        _found_by(scored, numbers),
        source.facts(scored, numbers),
        strict=True,
    )
    return [
        Hit(
            rank=rank,
            path=facts.path,
            modality=facts.modality,
            score=score,
            cosine=cosine,
            item_id=facts.item_id,
            collection=facts.collection,
            start_s=facts.start_s,
            end_s=facts.end_s,
            text=facts.text,
            contributions=share,
            probability=probability,
            z=z,
            copies=_paths(chosen.copies.get(number, []), scored, source),
            found_by=finder,
        )
        for rank, (number, score, cosine, probability, z, share, finder, facts) in enumerate(columns, start=1)
    ]


def _found_by(scored: Scored, numbers: NDArray[np.int64]) -> list[FoundBy]:
    """Return what found each of these candidates."""
    has_words = scored.word_chances[numbers] > 0
    return [
        FoundBy.WORDS if by_words else FoundBy.BOTH if has else FoundBy.VECTOR
        for by_words, has in zip(scored.is_added[numbers].tolist(), has_words.tolist(), strict=True)
    ]


def _paths(numbers: Sequence[int], scored: Scored, source: HitSource) -> tuple[Path, ...]:
    """Return the paths of candidates."""
    return tuple(facts.path for facts in source.facts(scored, np.array(numbers))) if numbers else ()
