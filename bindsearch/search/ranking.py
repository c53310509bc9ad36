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
    _, firsts = np.unique(item_ids[order], return_index=True)
    firsts.sort()
    return order[firsts[:k]]


def fold_copies(
    vector_keys: NDArray[np.int64], embeddings: NDArray[np.float32], is_picture: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Return for each of m ranked candidates the first one that it is a copy of: int64 (m,), itself if there is none.

    Copies share a vector, as files of the same bytes do; or they are pictures with a cosine of at least COPY_COSINE.
    Sounds and motions are not compared: encoders map different recordings of one kind to nearly one vector.

    Args:
        vector_keys: Number of each candidate's vector: int64 (m,); equal for items that share one.
        embeddings: Vectors of the pictures among the candidates: float32 (p, d).
        is_picture: Which candidates are pictures: bool (m,).
    """
    _, firsts, which = np.unique(vector_keys, return_index=True, return_inverse=True)
    leader_of = firsts[which]
    pictures = np.flatnonzero(is_picture)
    cosines = embeddings @ embeddings.T
    for row, number in enumerate(pictures.tolist()):
        if leader_of[number] != number:
            continue
        for other in np.flatnonzero(cosines[row, :row] >= COPY_COSINE).tolist():
            if leader_of[pictures[other]] == pictures[other]:
                leader_of[leader_of == number] = pictures[other]
                break
    return leader_of


def diversify(
    scores: NDArray[np.float32], embeddings: NDArray[np.float32], k: int, diversity: float
) -> NDArray[np.int64]:
    """Select candidates by maximal marginal relevance (Carbonell & Goldstein 1998).

    Each next candidate maximises (1 - diversity) * score - diversity * (greatest cosine to those selected before).
    Scores are first scaled to 0..1 over the candidates, so that scores of any ranking can be weighed against cosines.
    Ties are broken by index.

    Args:
        scores: float32 (m,).
        embeddings: float32 (m, d), unit norm.
        k: Number of candidates to select.
        diversity: 0 (the order of the scores) to 1 (diversity only).

    Returns:
        Indices of the candidates, best first: int64 (<= k,).
    """
    order = np.argsort(-scores, kind="stable")
    if diversity == 0.0:
        return order[:k]
    ranked = scores[order]
    width = ranked[0] - ranked[-1] if len(ranked) else 0.0
    relevance = (1.0 - diversity) * ((ranked - ranked[-1:]) / width if width > 0 else np.zeros_like(ranked))
    rows = embeddings[order]
    max_cosine = np.full(len(ranked), -1.0, np.float32)
    chosen: list[int] = []
    while len(chosen) < min(k, len(ranked)):
        values = relevance - diversity * max_cosine
        values[chosen] = -np.inf
        chosen.append(int(values.argmax()))
        np.maximum(max_cosine, rows @ rows[chosen[-1]], out=max_cosine)
    return order[np.array(chosen, np.int64)]
