"""Ranking of candidates: the best segment of each item, copies folded into one, and diversification.

Letters: m candidates, k results, d dimensions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


COPY_COSINE = 0.96
"""Least cosine of a picture that was compressed again to its original.

With `mini`, 95% of 30 pictures saved again at quality 60 reach 0.969; no two of 1,590 different pictures reach 0.95."""

COPIES = 4
"""More copies than most pictures have: if most have that many neighbours as near as copies, these are no copies."""

FOLD_ROWS = 256
"""Number of rows whose cosines are computed at once."""

USUAL_SAMPLE = 256
"""Maximum number of candidates whose cosines are compared to find the usual one."""

USUAL_PAIRS = 20
"""Minimum number of pairs for a median of their own."""

MAX_USUAL_COSINE = 0.999
"""Greatest cosine that is usual: nearer ones differ by rounding of the stored vectors only."""


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
    leader_of = np.arange(len(vector_keys))
    if len(set(vector_keys.tolist())) == len(vector_keys) and (embeddings is None or _are_apart(embeddings)):
        return leader_of  # the usual case
    _, firsts, which = np.unique(vector_keys, return_index=True, return_inverse=True)
    shared = firsts[which]
    if embeddings is None:
        return shared
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


def neighbour_cosines(rows: NDArray[np.float32], items: NDArray[np.int64], n: int) -> NDArray[np.float32]:
    """Return the median over rows of the cosine to the nearest other item, to the second nearest, ...: float32 (n,).

    They show what the encoder can tell: if half of the rows are as near to another item as copies are, cosines do not
    distinguish copies from what is merely of the same kind.

    Args:
        rows: float32 (m, d), unit norm.
        items: Item of each row: int64 (m,). The cosine to an item is the largest one to its rows.
        n: Number of neighbours; -1 stands for those that there are not.
    """
    order = np.argsort(items, kind="stable")
    rows, items = rows[order], items[order]
    medians = np.full(n, -1.0, np.float32)
    starts = np.flatnonzero(np.diff(items, prepend=-1))
    known = min(n, len(starts) - 1)
    if known > 0:
        cosines = np.maximum.reduceat(rows @ rows.T, starts, axis=1)
        cosines[np.arange(len(rows)), np.searchsorted(items[starts], items)] = -1.0
        nearest = -np.sort(np.partition(-cosines, known - 1, axis=1)[:, :known], axis=1)
        medians[:known] = np.median(nearest, axis=0)
    return medians


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
