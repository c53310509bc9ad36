"""Ordering candidates: an item once by its best segment, and hits that differ from each other. Arrays in, arrays out.

Letters: m candidates, k results, d dimensions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def best_of_each_item(
    scores: NDArray[np.float32], item_ids: NDArray[np.int64], segment_rows: NDArray[np.int64], k: int
) -> NDArray[np.int64]:
    """Indices int64 (<= k,) of the best candidate of each of the k best items, best first.

    `scores`, `item_ids` and `segment_rows` are (m,). Equal scores are ordered by item id, then by segment row, so the
    same candidates give the same list in whatever order they come.
    """
    order = np.lexsort((segment_rows, item_ids, -scores))
    _, firsts = np.unique(item_ids[order], return_index=True)
    firsts.sort()
    return order[firsts[:k]]


def diversify(
    scores: NDArray[np.float32], embeddings: NDArray[np.float32], k: int, diversity: float
) -> NDArray[np.int64]:
    """Indices int64 (<= k,) of the candidates by maximal marginal relevance (Carbonell & Goldstein 1998), best first.

    Each next one has the greatest (1 - diversity) score - diversity (greatest cosine to one before it), the `scores`
    (m,) scaled to 0..1 over the candidates first, so that those of any ranking can be traded for cosines. `embeddings`
    (m, d) have unit norm. `diversity` 0 gives the order of the scores; equals go by index.
    """
    order = np.argsort(-scores, kind="stable")
    if diversity == 0.0:
        return order[:k]
    ranked = scores[order]
    width = ranked[0] - ranked[-1] if len(ranked) else 0.0
    relevance = (1.0 - diversity) * ((ranked - ranked[-1:]) / width if width > 0 else np.zeros_like(ranked))
    rows = embeddings[order]
    likeness = np.full(len(ranked), -1.0, np.float32)
    chosen: list[int] = []
    while len(chosen) < min(k, len(ranked)):
        values = relevance - diversity * likeness
        values[chosen] = -np.inf
        chosen.append(int(values.argmax()))
        np.maximum(likeness, rows @ rows[chosen[-1]], out=likeness)
    return order[np.array(chosen, np.int64)]
