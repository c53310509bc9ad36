"""Hits: the choice among scored candidates, wherever their vectors and metadata are.

The best segment of each item, copies folded into one, and diverse if asked. Letters: m candidates, k results, d
dimensions, t terms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from bindsearch.search.partition import FilteredPartition
from bindsearch.search.plan import Plan
from bindsearch.search.query import Ranking
from bindsearch.search.scoring.scores import COPY_COSINE, QueryVector, Scored, probabilities
from bindsearch.storage.snapshot import SegmentFacts
from bindsearch.types import FoundBy, Hit, Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLD_ROWS = 256
"""Number of rows whose cosines are computed at once."""

USUAL_SAMPLE = 256
"""Maximum number of candidates whose cosines are compared to find the usual one."""

USUAL_PAIRS = 20
"""Minimum number of pairs for a median of their own."""

MAX_USUAL_COSINE = 0.999
"""Greatest cosine that is usual: nearer ones differ by rounding of the stored vectors only."""


class HitSource(Protocol):
    """Vectors and metadata of candidates."""

    def has_copies(self, modality: Modality) -> bool:
        """Return whether cosines show copies of a modality."""

    def vector_keys(self, scored: Scored, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return a number for the vector of each candidate, equal for items that share one: int64 (m,)."""

    def embeddings(self, scored: Scored, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the stored vector of each candidate: float32 (m, d)."""

    def facts(self, segment_rows: NDArray[np.int64], /) -> list[SegmentFacts]:
        """Return the metadata of candidates, given their segment rows: int64 (m,)."""


class StoreSource(NamedTuple):
    """Vectors and metadata of candidates from a store's partitions and `Snapshot.facts`; see `HitSource`."""

    targets: Mapping[Modality, FilteredPartition]
    facts: Callable[[NDArray[np.int64]], list[SegmentFacts]]

    def has_copies(self, modality: Modality) -> bool:
        """Return whether cosines show copies of a modality."""
        return self.targets[modality].partition.has_copies

    def vector_keys(self, scored: Scored, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return a number for the vector of each candidate: int64 (m,)."""
        return scored.rows[numbers] * len(scored.modalities) + scored.owner[numbers]

    def embeddings(self, scored: Scored, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the stored vector of each candidate: float32 (m, d)."""
        owner, rows = scored.owner[numbers], scored.rows[numbers]
        partitions = [self.targets[modality].partition for modality in scored.modalities]
        if len(partitions) == 1:
            return partitions[0].rows.embeddings(rows)
        out = np.empty((len(numbers), partitions[0].dim), np.float32)
        for number in set(owner.tolist()):
            mask = owner == number
            out[mask] = partitions[number].rows.embeddings(rows[mask])
        return out


def best_hits(
    plan: Plan, query: QueryVector | None, scored: Scored, source: HitSource
) -> tuple[list[Hit] | None, float]:
    """Return the hits: the best segment of each item, without copies and what matches too little, diverse if asked.

    Args:
        plan: The plan.
        query: Vector of the query; None: words alone were searched.
        scored: The candidates.
        source: Their vectors and metadata.

    Returns:
        The hits, best first, of each modality in its turn; None if copies took places for which there may be more
        items. And the milliseconds of looking up metadata.
    """
    values, lists = ranked_lists(plan.ranking, scored)
    wanted = plan.depth - plan.spare
    chosen: list[NDArray[np.int64]] = []
    copies: dict[int, list[int]] = {}
    for numbers in lists:
        first = min(len(numbers), plan.depth)  # beyond, better ones may not have been fetched
        may_be_more = first == plan.depth
        if plan.min_match:
            is_match = probabilities(scored.log_odds[numbers]) >= plan.min_match
            may_be_more &= bool(is_match[:first].all())
            numbers, first = numbers[is_match], int(np.count_nonzero(is_match[:first]))
        if plan.copies:
            numbers = numbers[:first]
        else:
            numbers = _without_copies(numbers, first, scored, source, copies)
            if may_be_more and len(numbers) < min(wanted, first):
                return None, 0.0
        if plan.diversity:
            numbers = numbers[:wanted]
            vectors = source.embeddings(scored, numbers)
            groups = scored.owner[numbers]
            numbers = numbers[diversify(values[numbers], vectors, groups, plan.k, plan.diversity)]
        chosen.append(numbers[: plan.k])
    started = perf_counter()
    hits = _make_hits(plan, query, scored, chosen[0] if len(chosen) == 1 else np.concatenate(chosen), copies, source)
    return hits, 1000 * (perf_counter() - started)


def ranked_lists(ranking: Ranking, scored: Scored) -> tuple[NDArray[np.floating], list[NDArray[np.int64]]]:
    """Return the value that lists are ordered by, and the best segment of each item, best first: int64 (<= m,) a list.

    The value is the log odds, which keep apart what is nearly certain; else the score. There is one list, or one of
    each modality.
    """
    values: NDArray[np.floating] = scored.cosines
    if ranking is Ranking.PROBABILITY or ranking is Ranking.Z:
        values = scored.log_odds if ranking is Ranking.PROBABILITY else scored.z
    if ranking is not Ranking.PER_MODALITY:
        return values, [best_of_each_item(values, scored.item_ids, scored.segment_rows, len(values))]
    parts = [np.flatnonzero(scored.owner == number) for number in range(len(scored.modalities))]
    return values, [
        part[best_of_each_item(values[part], scored.item_ids[part], scored.segment_rows[part], len(part))]
        for part in parts
    ]


def _without_copies(
    numbers: NDArray[np.int64], first: int, scored: Scored, source: HitSource, copies: dict[int, list[int]]
) -> NDArray[np.int64]:
    """Return those of the first of ranked candidates (m,) that are no copy of a better one; add its copies to `copies`.

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
    if len(set(keys.tolist())) == len(keys) and (embeddings is None or _are_apart(embeddings)):
        return numbers[:first]  # the usual case
    leader_of = fold_copies(keys, embeddings, owner)
    is_copy = leader_of != np.arange(len(numbers))
    for place in np.flatnonzero(is_copy).tolist():
        copies.setdefault(int(numbers[leader_of[place]]), []).append(int(numbers[place]))
    kept: NDArray[np.int64] = numbers[:first][~is_copy[:first]]
    return kept


def _make_hits(
    plan: Plan,
    query: QueryVector | None,
    scored: Scored,
    numbers: NDArray[np.int64],
    copies: Mapping[int, list[int]],
    source: HitSource,
) -> list[Hit]:
    """Return the candidates with these numbers (<= k,) as hits, given the numbers of the copies of each."""
    if not len(numbers):
        return []
    cosines = scored.cosines[numbers].tolist()
    shares: list[tuple[float, ...]] = [() if query is None else (cosine,) for cosine in cosines]
    if query is not None and len(query.parts) > 1:
        embeddings, owner = source.embeddings(scored, numbers), scored.owner[numbers]
        of_terms = np.empty((len(numbers), len(query.parts)), np.float32)
        for number in set(owner.tolist()):
            mask = owner == number
            of_terms[mask] = embeddings[mask] @ query.for_target(scored.modalities[number]).parts.T
        shares = [tuple(row) for row in of_terms.tolist()]
    likelihoods = probabilities(scored.log_odds[numbers]).tolist()
    z = scored.z[numbers].tolist()
    found_by = [FoundBy.VECTOR] * len(numbers)
    if plan.words is not None:
        has_words, is_added = scored.word_chances[numbers] > 0, scored.is_added[numbers]
        found_by = [
            FoundBy.WORDS if by_words else FoundBy.BOTH if has else FoundBy.VECTOR
            for by_words, has in zip(is_added.tolist(), has_words.tolist(), strict=True)
        ]
    paths: list[tuple[Path, ...]] = [()] * len(numbers)
    for place, number in enumerate(numbers.tolist() if copies else ()):
        if own := copies.get(number):
            paths[place] = tuple(Path(copy.file) for copy in source.facts(scored.segment_rows[own]))
    scores = {Ranking.PROBABILITY: likelihoods, Ranking.Z: z}.get(plan.ranking, cosines)
    facts = source.facts(scored.segment_rows[numbers])
    item_ids, files, collections, modalities, starts, ends, texts = zip(*facts, strict=True)
    columns = (files, modalities, scores, cosines, item_ids, collections, starts, ends, texts, shares, likelihoods, z)
    return list(map(Hit, range(1, len(numbers) + 1), *columns, paths, found_by))


def best_of_each_item(
    scores: NDArray[np.float32], item_ids: NDArray[np.int64], segment_rows: NDArray[np.int64], k: int
) -> NDArray[np.int64]:
    """Return the best candidate of each of the k best items.

    Equal scores are ordered by item id, then by segment row, so the result does not depend on the order of candidates.

    Args:
        scores: float32 (m,).
        item_ids: int64 (m,).
        segment_rows: int64 (m,).
        k: Number of items.

    Returns:
        Indices of the candidates, best first: int64 (<= k,).
    """
    order = np.lexsort((segment_rows, item_ids, -scores))
    if len(set(item_ids.tolist())) == len(item_ids):  # the usual case
        return order[:k]
    _, firsts = np.unique(item_ids[order], return_index=True)
    firsts.sort()
    return order[firsts[:k]]


def fold_copies(
    vector_keys: NDArray[np.int64], embeddings: NDArray[np.float32] | None, groups: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return for each of m ranked candidates the first one that it is a copy of: int64 (m,), itself if there is none.

    Copies share a vector, as files of the same bytes do; or they are in one group and have a cosine of at least
    COPY_COSINE to the first one. A copy of a copy is not folded, unless it is a copy of the first one, too.

    Args:
        vector_keys: Number of each candidate's vector: int64 (m,); equal for items that share one.
        embeddings: Vectors of the candidates in groups, in their order: float32 (p, d), unit norm; None: cosines show
            no copies.
        groups: Number of the group in which a candidate is compared by cosine: int64 (m,), -1 for none.
    """
    _, firsts, which = np.unique(vector_keys, return_index=True, return_inverse=True)
    shared = firsts[which]
    if embeddings is None:
        return shared
    leader_of = np.arange(len(vector_keys))
    compared = np.flatnonzero(groups >= 0)
    is_first = shared[compared] == compared
    for group in np.unique(groups[compared]).tolist():
        places = np.flatnonzero(is_first & (groups[compared] == group))
        own = compared[places]
        leader_of[own] = own[_first_near(embeddings[places])]
    return leader_of[shared]


def _are_apart(rows: NDArray[np.float32]) -> bool:
    """Return whether no two of a few unit vectors (p, d) are as near as copies; False if there are many."""
    return len(rows) <= FOLD_ROWS and int(np.count_nonzero(rows @ rows.T >= COPY_COSINE)) == len(rows)


def _first_near(rows: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return for each row (p, d) the first one that it is a copy of and that is no copy itself, else the row."""
    found = np.arange(len(rows))
    if _are_apart(rows):
        return found
    leaders = np.zeros(0, np.int64)
    for start in range(0, len(rows), FOLD_ROWS):
        own = np.arange(start, min(start + FOLD_ROWS, len(rows)))
        known = np.concatenate([leaders, own])
        near = rows[own] @ rows[known].T >= COPY_COSINE
        for number, row in enumerate(own.tolist()):
            earlier = known[np.flatnonzero(near[number, : len(leaders) + number])]
            earlier = earlier[found[earlier] == earlier]
            found[row] = earlier[0] if len(earlier) else row
        leaders = known[found[known] == known]
    return found


def diversify(
    scores: NDArray[np.floating],
    embeddings: NDArray[np.float32],
    groups: NDArray[np.int64],
    k: int,
    diversity: float,
) -> NDArray[np.int64]:
    """Select candidates by maximal marginal relevance (Carbonell & Goldstein 1998).

    Each next candidate maximises (1 - diversity) * relevance - diversity * redundancy. Both are in 0..1, whatever the
    scores and the encoder, so that a diversity has the same effect in all lists:

    * relevance is 1 - r / m for a candidate with r better ones. Ranks, not scores: scores may be unbounded, and one
      that is far above the others would make all others equal.
    * redundancy is the greatest value of (cosine - usual) / (1 - usual), cut to 0..1, to a candidate selected before,
      where `usual` is the cosine that candidates of these two groups usually have, see `_usual_cosines`.

    Ties are broken by index.

    Args:
        scores: Scores (m,).
        embeddings: float32 (m, d), unit norm.
        groups: Number of the modality of each candidate: int64 (m,); cosines differ between pairs of modalities.
        k: Number of candidates to select.
        diversity: 0 (the order of the scores) to 1 (diversity only).

    Returns:
        Indices of the candidates in the order of selection: int64 (<= k,).
    """
    order = np.argsort(-scores, kind="stable")
    if diversity == 0.0 or not len(order):
        return order[:k]
    ranked, rows = scores[order], embeddings[order]
    relevance = 1.0 - np.searchsorted(-ranked, -ranked) / len(ranked)
    _, group = np.unique(groups[order], return_inverse=True)
    usual = _usual_cosines(rows, group)
    redundancy = np.zeros(len(ranked))
    is_left = np.ones(len(ranked), np.bool_)
    chosen: list[int] = []
    while len(chosen) < min(k, len(ranked)):
        values = (1.0 - diversity) * relevance - diversity * redundancy
        one = int(np.where(is_left, values, -np.inf).argmax())
        chosen.append(one)
        is_left[one] = False
        floor = usual[group, group[one]]
        np.maximum(redundancy, np.clip((rows @ rows[one] - floor) / (1.0 - floor), 0.0, 1.0), out=redundancy)
    return order[np.array(chosen, np.int64)]


def _usual_cosines(rows: NDArray[np.float32], group: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the median cosine of two candidates by their groups: float64 (g, g), at most MAX_USUAL_COSINE.

    At most USUAL_SAMPLE candidates are compared, evenly spaced in the ranking. Groups with fewer than USUAL_PAIRS pairs
    have the median of all pairs.

    Args:
        rows: Ranked candidates: float32 (m, d), m > 0.
        group: Number of the group of each, from 0: int64 (m,).
    """
    sample = np.linspace(0, len(rows) - 1, min(len(rows), USUAL_SAMPLE)).astype(np.int64)
    first, second = np.triu_indices(len(sample), 1)
    cosines = (rows[sample] @ rows[sample].T)[first, second]
    of_first, of_second = group[sample][first], group[sample][second]
    n = int(group.max()) + 1
    usual = np.full((n, n), min(float(np.median(cosines)), MAX_USUAL_COSINE) if len(cosines) else 0.0)
    for one in range(n):
        for other in range(one, n):
            of_pair = ((of_first == one) & (of_second == other)) | ((of_first == other) & (of_second == one))
            if np.count_nonzero(of_pair) >= USUAL_PAIRS:
                usual[one, other] = usual[other, one] = min(float(np.median(cosines[of_pair])), MAX_USUAL_COSINE)
    return usual
