"""Calibration: fit the probability of a match to queries with known answers. docs/ranking.md derives the model."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bindsearch.arguments import to_absolute
from bindsearch.errors import UsageError
from bindsearch.search.engine import GenerationSearch, find_candidates
from bindsearch.search.generation import Generation
from bindsearch.search.prepare import PreparedQuery
from bindsearch.search.query import PREFIXES, Query, Ranking, Searchable, Term, make_query, text
from bindsearch.search.scoring.probability import Coefficients, ProbabilityModel, tower_of
from bindsearch.search.scoring.scores import Candidates, PartitionScale, features_of, log_odds_of, probabilities
from bindsearch.types import Modality, PathLike

DEPTH = 20
"""Number of items of each modality that count for each query: those that a list may show."""

UNANSWERED_SHARE = 0.2
"""Share of queries that nothing answers. If fewer are given, answered ones count in part as if their answers were not
there."""

MIN_MATCHES = 20
"""Least number of items that match among the candidates of a pair of modalities, and of queries that they match.

With fewer, coefficients would describe these few things."""

MIN_PAIRS = 2
"""Least number of fitted pairs from which the coefficients of other pairs are fitted."""

PRIOR_WEIGHT = 0.05
"""Precision of the coefficients before, as a prior."""

QUERIES_AT_ONCE = 256


@dataclass(frozen=True)
class LabelledQuery:
    """A query with its answers.

    Attributes:
        prepared: The query, encoded.
        answers: Ids of the items that answer it; none: nothing does.
    """

    prepared: PreparedQuery
    answers: frozenset[int]


@dataclass(frozen=True)
class CalibratedPair:
    """Result for a pair of modalities.

    Attributes:
        source: Modality of the queries.
        target: Modality of the items.
        queries: Number of queries.
        matches: Number of matches among their candidates.
        coefficients: The coefficients fitted; None if there are too few matches.
    """

    source: Modality
    target: Modality
    queries: int
    matches: int
    coefficients: Coefficients | None


class _Examples(NamedTuple):
    """The m candidates of one query in one partition, and the ids of the items among them that are answers."""

    features: NDArray[np.float64]  # columns of `features_of`: (m, 3)
    is_match: NDArray[np.bool_]
    weights: NDArray[np.float64]
    matching_items: NDArray[np.int64]


def fit_model(
    search: GenerationSearch, queries: Sequence[LabelledQuery]
) -> tuple[ProbabilityModel, list[CalibratedPair]]:
    """Fit the coefficients of each pair of modalities with at least MIN_MATCHES matches.

    Args:
        search: The generation to search, and the model whose coefficients are the prior, and stay for pairs with fewer
            matches.
        queries: Queries of one modality each, with their answers.

    Returns:
        The model, and the result of each pair.

    Raises:
        UsageError: no pair has enough matches.
    """
    before = search.model
    examples: dict[tuple[Modality, Modality], list[_Examples]] = defaultdict(list)
    weight_of = _match_weights(queries)
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        for pair, candidates, scale, answers in _candidates(search, queries[start : start + QUERIES_AT_ONCE]):
            _, rarity, _ = log_odds_of(candidates.cosines, candidates.chances, scale)
            order = np.lexsort((-candidates.cosines, -rarity))
            _, firsts = np.unique(candidates.item_ids[order], return_index=True)
            best = order[np.sort(firsts)[:DEPTH]]
            is_match = np.array([item in answers for item in candidates.item_ids[best].tolist()], np.bool_)
            features = np.column_stack(features_of(candidates.cosines[best], rarity[best]))
            weights = np.where(is_match, weight_of[pair[0]], 1.0)
            examples[pair].append(_Examples(features, is_match, weights, candidates.item_ids[best][is_match]))
    results = []
    for (source, target), parts in sorted(examples.items()):
        joined = _joined(parts)
        answered = sum(bool(part.is_match.any()) for part in parts)
        is_enough = min(answered, len(np.unique(joined.matching_items))) >= MIN_MATCHES
        fitted = _fit(joined, before.pair(source, target)) if is_enough else None
        results.append(CalibratedPair(source, target, len(parts), int(joined.is_match.sum()), fitted))
    pairs = {(one.source, one.target): one.coefficients for one in results if one.coefficients is not None}
    if not pairs:
        fault = f"no pair of modalities has {MIN_MATCHES} matches among the first {DEPTH} of each query"
        raise UsageError(f"{fault}: give more queries with different answers")
    same = _fit_others(examples, pairs, before.same, lambda pair: pair[0] is pair[1])
    across = _fit_others(examples, pairs, before.across, lambda pair: pair[0] is not pair[1])
    return ProbabilityModel({**before.pairs, **pairs}, same, across), results


def _source_of(query: LabelledQuery) -> Modality | None:
    """Return the modality of a query, with videos as pictures; None if it has several or an unknown one."""
    sources = {term.source and tower_of(term.source) for term in query.prepared.terms}
    return sources.pop() if len(sources) == 1 else None


def _match_weights(queries: Sequence[LabelledQuery]) -> dict[Modality | None, float]:
    """Return the weight of matches by the modality of the query, with which UNANSWERED_SHARE have no answer."""
    total = Counter(map(_source_of, queries))
    answered = Counter(_source_of(one) for one in queries if one.answers)
    return {
        source: min(1.0, (1.0 - UNANSWERED_SHARE) * n / answered[source]) if answered[source] else 1.0
        for source, n in total.items()
    }


def _candidates(
    search: GenerationSearch, queries: Sequence[LabelledQuery]
) -> Iterator[tuple[tuple[Modality, Modality], Candidates, PartitionScale, frozenset[int]]]:
    """Yield pair of modalities, candidates, scale and answers, for each query of one modality and each partition."""
    asked = (replace(one.prepared.query, k=DEPTH, ranking=Ranking.PROBABILITY) for one in queries)
    batch = search.batch([replace(one.prepared, query=query) for one, query in zip(queries, asked, strict=True)])
    for labelled, planned, found in zip(queries, batch.queries, find_candidates(batch), strict=True):
        source = _source_of(labelled)
        for modality, (candidates, _) in found.items():
            # files of the same content are certain to match, and are left out here
            others = candidates.take(~np.isin(candidates.item_ids, planned.items.identical))
            if source is not None and len(others.rows):
                yield (source, modality), others, planned.scales[modality], labelled.answers


def _joined(parts: Sequence[_Examples]) -> _Examples:
    return _Examples(*map(np.concatenate, zip(*parts, strict=True)))


def _fit(examples: _Examples, prior: Coefficients) -> Coefficients:
    return fit_coefficients(*examples[:3], prior, PRIOR_WEIGHT)


def fit_coefficients(
    features: NDArray[np.float64],
    is_match: NDArray[np.bool_],
    weights: NDArray[np.float64],
    prior: Coefficients,
    prior_weight: float,
) -> Coefficients:
    """Fit coefficients by logistic regression, within bounds.

    Newton's method on the penalised likelihood (Hastie et al., The Elements of Statistical Learning, 4.4.1). Slopes are
    not negative, and that of the rarity is at most 1, which is Bayes' rule if scores by chance are normal; a slope that
    leaves its bounds is fixed at the nearer one.

    Args:
        features: Columns of `features_of`: float64 (m, 3).
        is_match: Whether it is an answer: bool (m,).
        weights: Weight of each candidate: float64 (m,).
        prior: Coefficients that the fit is drawn to.
        prior_weight: Precision of that prior, in each coefficient.
    """
    columns = np.column_stack([np.ones(len(features)), features])
    start = np.array(prior)

    def maximise(values: NDArray[np.float64], free: NDArray[np.bool_]) -> None:
        """Set the free values, of (4,), to the maximum of the penalised likelihood."""
        used = columns[:, free]
        for _ in range(200):
            expected = probabilities(columns @ values)
            slope = used.T @ (weights * (is_match - expected)) - prior_weight * (values - start)[free]
            curvature = (used * (weights * expected * (1 - expected))[:, None]).T @ used
            step = np.linalg.solve(curvature + prior_weight * np.eye(used.shape[1]), slope)
            values[free] += step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
            if np.abs(step).max() < 1e-8:
                break

    low, high = np.array([-np.inf, 0.0, 0.0, 0.0]), np.array([np.inf, np.inf, np.inf, 1.0])
    values, free = start.copy(), np.ones(len(start), np.bool_)
    while True:
        maximise(values, free)
        excess = np.maximum(low - values, values - high)
        if excess.max() <= 0:
            return Coefficients(*values.tolist())
        worst = int(excess.argmax())
        free[worst] = False
        values = np.clip(values, low, high)


def _fit_others(
    examples: Mapping[tuple[Modality, Modality], Sequence[_Examples]],
    fitted: Collection[tuple[Modality, Modality]],
    before: Coefficients,
    takes: Callable[[tuple[Modality, Modality]], bool],
) -> Coefficients:
    """Fit coefficients of other pairs to all that `takes` accepts, those without matches too, with equal weights."""
    if sum(map(takes, fitted)) < MIN_PAIRS:
        return before
    taken = [_joined(parts) for pair, parts in examples.items() if takes(pair)]
    mean = sum(float(one.weights.sum()) for one in taken) / len(taken)
    return _fit(_joined([one._replace(weights=one.weights * (mean / one.weights.sum())) for one in taken]), before)


def labelled_queries(
    generation: Generation, queries: Iterable[tuple[Searchable, Sequence[PathLike]]] | None
) -> list[tuple[Query, frozenset[int]]]:
    """Return queries with the ids of the items that answer them.

    Args:
        generation: The generation to search.
        queries: Queries with the paths of their answers (None: the captions of items, see `_caption_queries`).

    Raises:
        UsageError: an answer is not in the store, or a query is invalid.
    """
    if queries is None:
        return _caption_queries(generation)

    def id_of(path: PathLike) -> int:
        item = generation.snapshot.item_at_path(to_absolute(path))
        if item is None:
            raise UsageError(f"{path} is not in the store: index it, or leave it out of the answers")
        return item.item_id

    return [(make_query(query), frozenset(map(id_of, paths))) for query, paths in queries]


def _caption_queries(generation: Generation) -> list[tuple[Query, frozenset[int]]]:
    """Return the captions of other items, from their sidecars, as queries for all but texts: each would find itself."""
    items, segments = generation.snapshot.live_tables()
    modality_of = dict(zip(items.column("item_id").to_pylist(), items.column("modality").to_pylist(), strict=True))
    answers: dict[str, set[int]] = defaultdict(set)
    for row in segments.select(["item_id", "modality", "text"]).to_pylist():
        if row["modality"] == Modality.TEXT and modality_of[row["item_id"]] != Modality.TEXT and row["text"]:
            answers[row["text"]].add(row["item_id"])
    others = [modality for modality in Modality if modality is not Modality.TEXT]
    return [(make_query(words, to=others), frozenset(found)) for words, found in answers.items()]


def read_pairs(path: Path) -> list[tuple[Term, list[Path]]]:
    """Read queries and their answers from a CSV file with the columns `query` and `answer`.

    A query is a text, or a file after the prefix of its modality, such as `image:dog.jpg`. Several rows with the same
    query give several answers; a row without an answer says that nothing answers the query. Relative paths start at the
    file's folder.

    Returns:
        The queries with the paths of their answers.

    Raises:
        UsageError: the file cannot be read, or has no such columns.
    """
    expected = "give a CSV file in UTF-8 with the columns query and answer"
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read ({error}): {expected}") from None
    if not rows or not {"query", "answer"} <= rows[0].keys():
        raise UsageError(f"{path} has no columns query and answer: {expected}")
    answers: dict[Term, list[Path]] = {}
    for row in rows:
        kind, colon, source = (row["query"] or "").partition(":")
        term = text(row["query"] or "")
        if colon and kind in PREFIXES:
            term = Term(kind, source if kind == Modality.TEXT else str(path.parent / source))
        found = answers.setdefault(term, [])
        if row["answer"]:
            found.append(path.parent / row["answer"])
    return list(answers.items())
