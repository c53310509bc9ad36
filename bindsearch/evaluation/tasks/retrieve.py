"""Retrieval between the items of a data set and their captions, files of other modalities, or candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.evaluation.figures import (
    Error,
    Figure,
    chance_of_average_precision,
    chance_of_recall,
    mean_error,
    share_error,
)
from bindsearch.evaluation.results import Curve, Example, Kind, Measurement, Sweep
from bindsearch.evaluation.retrieval import (
    KS,
    PAPER_VIDEO_WEIGHT,
    WEIGHTS,
    RetrievalFigures,
    retrieval_figures,
    sweep_weights,
)
from bindsearch.evaluation.tasks.zero_shot import EXAMPLES, weighted
from bindsearch.vectors import cosines

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bindsearch.evaluation.arrays import Vectors
    from bindsearch.evaluation.datasets.dataset import EvalItem

Shown = Sequence["str | EvalItem"]
CURVE_KS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100)
MAX_EXAMPLE_QUERIES = 2000
"""Queries among which examples are looked for, evenly spaced: their scores are in memory."""


def retrieval(
    title: str,
    queries: Vectors,
    candidates: Vectors,
    relevant: Sequence[Sequence[int]],
    groups: Sequence[str | None],
    shown: tuple[Shown, Shown],
) -> Measurement:
    """Measure how queries find candidates.

    Args:
        title: What finds what, such as "text -> image".
        queries: Unit vectors: float32 (q, d).
        candidates: Unit vectors: float32 (n, d).
        relevant: Rows of the candidates that are right for each query.
        groups: Group of each query: those of one are alike, such as captions of one picture. None: its own.
        shown: What queries and candidates are shown as.
    """
    n = len(candidates)
    curve_ks = tuple(k for k in CURVE_KS if k <= n)
    found = retrieval_figures(queries, candidates, relevant, tuple(dict.fromkeys((*KS, *curve_ks))))
    answers = np.array([len(set(relevant[row])) for row in found.queries], np.int64)
    own_groups = [groups[row] for row in found.queries]
    by_chance = tuple(chance_of_recall(n, answers, k) for k in curve_ks)
    curve = Curve(title, curve_ks, tuple(map(found.recall_at, curve_ks)), by_chance)
    rows = retrieval_rows(found, answers, own_groups)
    examples = _examples(queries, candidates, relevant, found.queries, shown)
    settings = {"candidates": n, "queries_without_answer": found.n_unanswered}
    return Measurement(Kind.RETRIEVAL, title, rows, curves=(curve,), examples=examples, settings=settings)


def retrieval_rows(
    found: RetrievalFigures, answers: NDArray[np.int64], groups: Sequence[str | None]
) -> tuple[Figure, ...]:
    """Return the figures of a retrieval.

    Args:
        found: The figures of its queries.
        answers: Number of relevant candidates of each query: int64 (q,).
        groups: Group of each query.
    """
    n, total = len(found.queries), found.n_candidates
    rows = []
    for k in KS:
        if k < total:
            chance = chance_of_recall(total, answers, k)
            rows.append(Figure(f"R@{k}", found.recall_at(k), n, *share_error(found.hits[k], groups), chance))
    chance = float(np.median((total + 1) / (answers + 1)))  # expected rank of the first of r: (n + 1) / (r + 1)
    rows.append(Figure("median rank", found.median_rank, n, chance=chance, is_share=False))
    counts, queries = np.unique(answers, return_counts=True)
    by_count = [chance_of_average_precision(total, int(count)) for count in counts]
    chance = float(np.average(by_count, weights=queries))
    error = share_error(found.average_precisions, groups)
    rows.append(Figure("mAP", found.mean_average_precision, n, *error, chance))
    return (*rows, Figure("nDCG", found.ndcg, n, *share_error(found.gains, groups)))


def same_label(
    queries: Vectors, candidates: Vectors, labels: tuple[Sequence[str], Sequence[str]], groups: Sequence[str | None]
) -> Figure:
    """Return how often the nearest candidate has the label of the query, as for frames that show one place.

    Args:
        queries: Unit vectors: float32 (q, d).
        candidates: Unit vectors: float32 (n, d).
        labels: Label of each query, and of each candidate.
        groups: Group of each query.
    """
    own, others = (np.array(one) for one in labels)
    relevant = own[:, None] == others[None, :]
    found = retrieval_figures(queries, candidates, relevant, (1,))
    error = share_error(found.hits[1], [groups[row] for row in found.queries])
    chance = chance_of_recall(len(candidates), relevant[found.queries].sum(axis=1), 1)
    return Figure("R@1 of the same label", found.recall_at(1), len(found.queries), *error, chance)


def by_label(
    queries: Vectors, candidates: Vectors, relevant: Sequence[Sequence[int]], labels: Sequence[str], k: int = 10
) -> tuple[Figure, Figure]:
    """Return recall at k as the mean over the labels of the queries, so that each counts alike; and over chance.

    Args:
        queries: Unit vectors: float32 (q, d).
        candidates: Unit vectors: float32 (n, d).
        relevant: Rows of the candidates that are right for each query.
        labels: Label of each query.
        k: Number of results.
    """
    found = retrieval_figures(queries, candidates, relevant, (k,))
    own = np.array([labels[row] for row in found.queries])
    answers = np.array([len(set(relevant[row])) for row in found.queries], np.int64)
    names = sorted(set(own.tolist()))
    shares = [float(found.hits[k][own == name].mean()) for name in names]
    chance = float(np.mean([chance_of_recall(len(candidates), answers[own == name], k) for name in names]))
    share, error = float(np.mean(shares)), mean_error(shares)
    name = f"R@{k}, mean over labels"
    note = ", ".join(f"{label} {one:.2f}" for label, one in zip(names, shares, strict=True))
    times, of_times = f"{name}, times chance", None if error is None else error / chance
    return (
        Figure(name, share, len(own), error, Error.LABELS, chance, note=note),
        Figure(times, share / chance, len(own), of_times, Error.LABELS, 1.0, is_share=False),
    )


def sweep_retrieval(
    queries: Vectors,
    pair: tuple[Vectors, Vectors],
    names: tuple[str, str],
    relevant: Sequence[Sequence[int]],
    groups: Sequence[str | None],
) -> Measurement:
    """Measure how texts find items whose vectors are combined of two modalities (ImageBind paper, table 4).

    Args:
        queries: Unit vectors: float32 (q, d).
        pair: Vectors of the items in the two modalities: float32 (n, d) each.
        names: The two modalities.
        relevant: Rows of the items that are right for each query.
        groups: Group of each query.
    """
    found = sweep_weights(queries, *pair, relevant)
    answers = np.array([len(set(relevant[row])) for row in found[1.0].queries], np.int64)
    own_groups = [groups[row] for row in found[1.0].queries]
    figures = [
        replace(figure, name=f"{figure.name}, {weighted(names, weight)}")
        for weight in (1.0, 0.0, PAPER_VIDEO_WEIGHT)
        for figure in retrieval_rows(found[weight], answers, own_groups)
        if figure.name.startswith("R@")
    ]
    recalls = {k: tuple(found[weight].recall_at(k) for weight in WEIGHTS) for k in KS if k < len(pair[0])}
    sweeps = tuple(Sweep(*names, f"R@{k}", WEIGHTS, values) for k, values in recalls.items())
    title, settings = f"text -> {names[0]} and {names[1]}", {"candidates": len(pair[0])}
    return Measurement(Kind.COMBINATION, title, tuple(figures), sweeps=sweeps, settings=settings)


def _examples(
    queries: Vectors,
    candidates: Vectors,
    relevant: Sequence[Sequence[int]],
    rows: NDArray[np.int64],
    shown: tuple[Shown, Shown],
) -> tuple[Example, ...]:
    """Return the queries whose right candidate is farthest above all others, and farthest below one."""
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MAX_EXAMPLE_QUERIES)).astype(np.int64))]
    examples = []
    for row in chosen:
        scores = cosines(queries[row : row + 1], candidates)[0]
        right = np.array(sorted(set(relevant[row])), np.int64)
        own = int(right[scores[right].argmax()])
        others = scores.copy()
        others[right] = -np.inf
        if len(right) == len(scores):
            return ()
        wrong = int(others.argmax())
        margin = float(scores[own] - scores[wrong])
        found = own if margin > 0 else wrong
        examples.append(Example(margin > 0, shown[0][row], shown[1][found], shown[1][own], margin))
    examples.sort(key=lambda one: -one.margin)
    good = [one for one in examples[:EXAMPLES] if one.is_best]
    bad = [one for one in examples[::-1][:EXAMPLES] if not one.is_best]
    return tuple(good + bad)
