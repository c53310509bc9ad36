"""Items that contain the words of a query, how probable it makes them, and their union with those found by vectors.

docs/ranking.md derives the formula. Letters: m fields, t tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bindsearch.errors import UsageError
from bindsearch.indexes.words import token_of_name, tokens_of
from bindsearch.search.partition import FilteredPartition
from bindsearch.search.plan import WordStep
from bindsearch.search.query import Query, WordSearch, resolve_weights
from bindsearch.search.query_encoding import is_text
from bindsearch.search.scoring.scores import (
    CERTAIN_LOG_ODDS,
    MAX_LOG_ODDS,
    Candidates,
    QueryVector,
    Scored,
    joined,
    probabilities,
)
from bindsearch.search.words.index import WordIndex, WordPart
from bindsearch.storage.snapshot import Snapshot
from bindsearch.types import Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXACT_NAME = 1.0
"""Probability that a file is meant whose name is the query."""

MAX_CHANCE = 0.9
"""Probability that an item is meant by rare words that all are in one field, and make up all of it."""

SHARE_POWER, COVERAGE_POWER = 6, 0.25
"""Powers of the share of the query that a field contains, and of the share of the field that the query is."""

RARE_SHARE, RARE_FIELDS = 0.01, 10
"""A token is rare if at most this share of all fields, or so many of them, contain it."""

MIN_LETTERS = 4
"""Letters that the only word of a query needs beside vectors; a shorter word finds whole file names alone."""

NUMBER_DIGITS = 3
"""Digits from which a rare number is taken to identify something."""

MIN_CHANCE = 0.01
"""Probability below which a field is not worth a place, unless words alone are searched."""

MAX_TOKENS = 64
MATCHES_PER_ITEM = 2
"""Number of matches taken for each item of the list, because passages of one text may be among them."""

SEGMENTS_OF_ITEM = 8
"""Number of segments of an item found by name that are compared with the query's vector."""


FUNCTION_WORDS = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "by",
        "for",
        "from",
        "in",
        "into",
        "is",
        "it",
        "its",
        "my",
        "of",
        "on",
        "or",
        "our",
        "that",
        "the",
        "their",
        "this",
        "to",
        "was",
        "with",
        "your",
    ]
)
"""English words that say little of what is meant; they are searched only where a query has no others, or short ones."""


class WordMatches(NamedTuple):
    """Items and passages that contain the words of a query.

    Attributes:
        items: Items of which a name, metadata or a caption contains them: int64 (i,), ascending.
        item_chances: Probability that each is meant: float64 (i,).
        segments: Rows in the snapshot of passages that contain them: int64 (s,), ascending.
        segment_chances: Probability that the item of each is meant: float64 (s,).
        shown: Segments that may be hits, by modality: rows in the snapshot and ids of vectors, int64 each.
    """

    items: NDArray[np.int64]
    item_chances: NDArray[np.float64]
    segments: NDArray[np.int64]
    segment_chances: NDArray[np.float64]
    shown: Mapping[Modality, tuple[NDArray[np.int64], NDArray[np.int64]]]

    def chances(self, item_ids: NDArray[np.int64], segment_rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the probability that words give to each of these segments: float64 (m,), 0 without a match."""
        return np.maximum(
            _look_up(self.items, self.item_chances, item_ids),
            _look_up(self.segments, self.segment_chances, segment_rows),
        )


def _look_up(keys: NDArray[np.int64], values: NDArray[np.float64], wanted: NDArray[np.int64]) -> NDArray[np.float64]:
    if not len(keys):
        return np.zeros(len(wanted))
    rows = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[rows] == wanted, values[rows], 0.0)


def word_step(query: Query, index: WordIndex) -> WordStep | None:
    """Return the step that searches the words of a query: of its text terms of positive weight; None if there are none.

    Raises:
        UsageError: words alone are to be searched, and there are none.
    """
    alone = query.words is WordSearch.ONLY
    weights = resolve_weights(query.terms)
    weighted = zip(query.terms, weights, strict=True)
    texts = [(term.source, weight) for term, weight in weighted if weight > 0 and is_text(term)]
    every = tuple(dict.fromkeys(token for text, _ in texts for token in tokens_of(text)))
    telling = tuple(token for token in every if token not in FUNCTION_WORDS)
    tokens = (telling if any(len(token) >= MIN_LETTERS for token in telling) else every)[:MAX_TOKENS]
    if not tokens:
        if alone:
            raise UsageError("the query has no words to search for: give a text with a letter or a digit")
        return None
    share = sum(weight for _, weight in texts) / sum(map(abs, weights))
    used, tail = index.search(_count_fields)
    names = tuple(text for text, _ in texts) if len(query.terms) == 1 else ()
    return WordStep(tokens, names, share, used, tail, alone)


def _count_fields(parts: Sequence[WordPart]) -> tuple[int, int]:
    """Return the number of fields, and of those that are read into memory."""
    return sum(part.postings.used for part in parts), sum(part.postings.used for part in parts if not part.is_stored)


def find_words(
    step: WordStep,
    index: WordIndex,
    searched: Mapping[Modality, FilteredPartition],
    snapshot: Snapshot,
    excluded: NDArray[np.int64],
    limit: int,
    corpus: WordCounts | None = None,
) -> tuple[WordMatches, int]:
    """Return the best matches of words, and the number of fields that match.

    Args:
        step: The words.
        index: Word index of the generation.
        searched: The target partitions, filtered.
        snapshot: Snapshot of the generation.
        excluded: Ids of items that must not be hits: int64.
        limit: Number of matches.
        corpus: How common the words are; None: as in this index.
    """
    fields = index.search(lambda parts: _matching_fields(step, parts, snapshot, corpus))
    return _best_matches(fields, searched, excluded, limit), len(fields.chances)


class WordCounts(NamedTuple):
    """Counts that tell how rare the words of a query are.

    Attributes:
        fields: Number of names, captions, sets of metadata and passages.
        having: Number of them that contain each token: float64 (t,).
    """

    fields: int
    having: NDArray[np.float64]


def count_words(step: WordStep, index: WordIndex) -> WordCounts:
    """Return how common the words of a step are in an index."""
    return index.search(
        lambda parts: _counts(parts, [[part.postings.find(token) for token in step.tokens] for part in parts], step)
    )


def _counts(parts: Sequence[WordPart], found: Sequence[Sequence[NDArray[np.uint32]]], step: WordStep) -> WordCounts:
    """Return the counts in parts, given the fields of each part that contain each token."""
    having = [sum(len(fields) for fields in column) for column in zip(*found, strict=True)] or [0] * len(step.tokens)
    return WordCounts(sum(part.postings.used for part in parts), np.array(having, np.float64))


class _Fields(NamedTuple):
    """Matching fields of live items, best first.

    Attributes:
        parts: The parts of the snapshot that are searched.
        part: Number of the part: int64 (m,).
        item: Row of the item in the part: int64 (m,).
        segment: Row of the segment in the part, -1 for a name or metadata: int64 (m,).
        chances: Probability that the item is meant: float64 (m,).
    """

    parts: Sequence[WordPart]
    part: NDArray[np.int64]
    item: NDArray[np.int64]
    segment: NDArray[np.int64]
    chances: NDArray[np.float64]


def _matching_fields(
    step: WordStep, parts: Sequence[WordPart], snapshot: Snapshot, corpus: WordCounts | None
) -> _Fields:
    """Return the live fields that contain a rare word of the query, or are its name."""
    found = [[part.postings.find(token) for token in step.tokens] for part in parts]
    n, counts = _counts(parts, found, step) if corpus is None else corpus
    weights = np.log1p((n - counts + 0.5) / (counts + 0.5))
    rare = counts <= max(RARE_SHARE * n, RARE_FIELDS)
    digits = np.array([token.isdecimal() for token in step.tokens])
    lengths = np.array([len(token) for token in step.tokens])
    if len(step.tokens) == 1 and (not step.alone or step.tokens[0] in FUNCTION_WORDS):
        rare &= digits | (lengths >= MIN_LETTERS)
    identifies = rare & digits & (lengths >= NUMBER_DIGITS)
    least_share = 0.0 if step.alone else (MIN_CHANCE / MAX_CHANCE) ** (1 / SHARE_POWER) - 1e-9
    part_of, rows, of_segment, values = [], [], [], []
    for number, (part, postings) in enumerate(zip(parts, found, strict=True)):
        fields, chances = _chances(part, postings, rare, weights, identifies, n, least_share)
        chances *= step.share
        for name in step.names:
            whole = part.postings.find(token_of_name(name)).astype(np.int64)
            fields, chances = np.append(fields, whole), np.append(chances, np.full(len(whole), EXACT_NAME))
        owners, segments = part.owners_of(fields)
        kept = chances > (0.0 if step.alone else MIN_CHANCE)
        if snapshot.item_alive is not None:
            kept &= snapshot.item_alive[part.first_item + owners]
        part_of.append(np.full(int(kept.sum()), number))
        rows.append(owners[kept])
        of_segment.append(segments[kept])
        values.append(chances[kept])
    if not parts:
        none = np.zeros(0, np.int64)
        return _Fields(parts, none, none, none, np.zeros(0))
    all_chances = np.concatenate(values)
    order = np.argsort(-all_chances, kind="stable")
    part_column, row_column, segment_column = (np.concatenate(one)[order] for one in (part_of, rows, of_segment))
    return _Fields(parts, part_column, row_column, segment_column, all_chances[order])


def _chances(
    part: WordPart,
    postings: Sequence[NDArray[np.uint32]],
    rare: NDArray[np.bool_],
    weights: NDArray[np.float64],
    identifies: NDArray[np.bool_],
    n: int,
    least_share: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the fields of a part that contain a rare token, and the probability that words give each.

    Args:
        part: The part.
        postings: Fields that contain each token.
        rare: Whether each token is rare: bool (t,).
        weights: Inverse document frequency of each token: float64 (t,).
        identifies: Whether each token is a number that identifies something: bool (t,).
        n: Number of fields that are searched.
        least_share: Least share of the query's weight that a field must contain.
    """
    order = np.argsort(-weights, kind="stable")
    left = np.append(np.cumsum(weights[order][::-1])[::-1], 0.0)  # weight of each token and of those after it
    least = least_share * left[0]
    needed = [number for place, number in enumerate(order.tolist()) if rare[number] and left[place] >= least]
    every = np.sort(np.concatenate([np.zeros(0, np.uint32), *(postings[number] for number in needed)]))
    fields = every[np.flatnonzero(np.diff(every, prepend=every[:1] + 1))]
    matched, tokens = np.zeros(len(fields)), np.zeros(len(fields))
    is_whole = np.zeros(len(fields), np.bool_)
    for place, number in enumerate(order.tolist()):
        having = postings[number]
        if len(having) and len(fields):
            has = having[np.minimum(np.searchsorted(having, fields), len(having) - 1)] == fields
            matched += weights[number] * has
            tokens += has
            is_whole |= has & identifies[number]
        kept = matched + left[place + 1] >= least
        if not kept.all():
            fields, matched, tokens, is_whole = fields[kept], matched[kept], tokens[kept], is_whole[kept]
    share = matched / left[0]
    rarity = np.minimum(matched / math.log(n + 1), 1.0) if n else matched
    coverage = np.where(is_whole, 1.0, (tokens / np.maximum(part.postings.lengths_of(fields), 1)) ** COVERAGE_POWER)
    return fields.astype(np.int64), MAX_CHANCE * share**SHARE_POWER * rarity * np.minimum(coverage, 1.0)


def _best_matches(
    fields: _Fields,
    searched: Mapping[Modality, FilteredPartition],
    excluded: NDArray[np.int64],
    limit: int,
) -> WordMatches:
    """Return the best fields of which a segment may be a hit."""
    items: dict[int, float] = {}
    segments: dict[int, float] = {}
    shown: dict[Modality, list[tuple[NDArray[np.int64], NDArray[np.int64]]]] = {}
    done = 0
    while len(items) + len(segments) < limit and done < len(fields.chances):
        chosen = slice(done, done + limit)
        for number in np.unique(fields.part[chosen]).tolist():
            mask = fields.part[chosen] == number
            _add_matches(
                fields.parts[number],
                fields.item[chosen][mask],
                fields.segment[chosen][mask],
                fields.chances[chosen][mask],
                searched,
                excluded,
                items,
                segments,
                shown,
            )
        done += limit
    return WordMatches(
        *_sorted_arrays(items),
        *_sorted_arrays(segments),
        {
            modality: (np.concatenate([rows for rows, _ in places]), np.concatenate([ids for _, ids in places]))
            for modality, places in shown.items()
        },
    )


def _add_matches(
    part: WordPart,
    item_rows: NDArray[np.int64],
    segments: NDArray[np.int64],
    chances: NDArray[np.float64],
    searched: Mapping[Modality, FilteredPartition],
    excluded: NDArray[np.int64],
    found_items: dict[int, float],
    found_segments: dict[int, float],
    shown: dict[Modality, list[tuple[NDArray[np.int64], NDArray[np.int64]]]],
) -> None:
    """Add the fields of one part to the matches: a passage of a text by itself, all else for the whole item."""
    item_ids = part.part.item_ids[item_rows]
    kept = ~np.isin(item_ids, excluded)
    of_text = part.part.items.column("modality").take(item_rows).to_numpy(zero_copy_only=False) == Modality.TEXT.value
    is_passage = kept & of_text & (segments >= 0)
    is_whole = kept & ~is_passage
    passages = segments[is_passage]
    owners, firsts = np.unique(item_ids[is_whole], return_index=True)  # the first is the best
    rows = np.sort(part.part.segments_of(owners))
    targets = list(searched)
    target_of = _target_of(part, rows, searched)
    rows, target_of = rows[target_of >= 0], target_of[target_of >= 0]
    rows = _few_of_each_item(part, rows, [targets[number] for number in target_of.tolist()])
    reached = set(part.part.segment_items[rows].tolist())
    for owner, chance in zip(owners.tolist(), chances[is_whole][firsts].tolist(), strict=True):
        if owner in reached:
            found_items[owner] = max(chance, found_items.get(owner, 0.0))
    passages_in = _target_of(part, passages, searched) >= 0
    for row, chance in zip(passages[passages_in].tolist(), chances[is_passage][passages_in].tolist(), strict=True):
        found_segments[part.first_segment + row] = chance
    rows = np.unique(np.concatenate([rows, passages[passages_in]]))
    for modality in targets:
        start, end = part.part.ranges.get(modality, (0, 0))
        of_target = rows[(rows >= start) & (rows < end)]
        if len(of_target):
            place = part.first_segment + of_target, part.part.vector_ids[of_target]
            shown.setdefault(modality, []).append(place)


def _target_of(
    part: WordPart, rows: NDArray[np.int64], searched: Mapping[Modality, FilteredPartition]
) -> NDArray[np.int64]:
    """Return the number of the target partition of each segment, -1 if it cannot be a hit: int64 (m,)."""
    numbers = np.full(len(rows), -1)
    for number, (modality, target) in enumerate(searched.items()):
        start, end = part.part.ranges.get(modality, (0, 0))
        inside = (rows >= start) & (rows < end)
        if target.segments is not None:
            inside &= target.segments[part.first_segment + rows]
        numbers[inside] = number
    return numbers


def _few_of_each_item(part: WordPart, rows: NDArray[np.int64], modalities: Sequence[Modality]) -> NDArray[np.int64]:
    """Return at most SEGMENTS_OF_ITEM segments of each item, those of its own modality first."""
    if not len(rows):
        return rows
    owners = part.part.item_of_segments[rows]
    own = part.part.items.column("modality").take(owners).to_numpy(zero_copy_only=False)
    order = np.lexsort((rows, own != np.array([modality.value for modality in modalities], object), owners))
    rows, owners = rows[order], owners[order]
    first_of = np.searchsorted(owners, owners)
    return rows[np.arange(len(rows)) - first_of < SEGMENTS_OF_ITEM]


def _sorted_arrays(chances: Mapping[int, float]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    keys = np.array(sorted(chances), np.int64)
    return keys, np.array([chances[key] for key in keys.tolist()], np.float64)


def with_words(
    present: Sequence[Candidates],
    matches: WordMatches,
    searched: Mapping[Modality, FilteredPartition],
    query: QueryVector | None,
    snapshot: Snapshot,
) -> list[Candidates]:
    """Return the candidates with those that only words found, in the order of the partitions.

    Args:
        present: The candidates that vectors found.
        matches: What words found.
        searched: The target partitions.
        query: Vector of the query; None: words alone are searched, and cosines are 0.
        snapshot: Snapshot of the generation.
    """
    by_modality = {candidates.modality: candidates for candidates in present}
    for modality, (segment_rows, vector_ids) in matches.shown.items():
        known = by_modality.get(modality)
        if known is not None:
            fresh = ~np.isin(segment_rows, known.segment_rows)
            segment_rows, vector_ids = segment_rows[fresh], vector_ids[fresh]
        if not len(segment_rows):
            continue
        partition = searched[modality].partition
        rows = partition.rows_of_vectors(vector_ids)
        cosines = np.zeros(len(rows), np.float32)
        if query is not None:  # few rows: converted here, faster than by threads of FAISS
            cosines = partition.rows.gather(rows).astype(np.float32) @ query.for_target(modality).vector
        added = Candidates(
            modality,
            rows,
            segment_rows,
            snapshot.segment_items[segment_rows],
            cosines,
            partition.chances(segment_rows),
            len(rows),
        )
        if known is not None:
            rows, segment_rows, item_ids, cosines, chances = joined([known[:-1], added[:-1]])
            added = Candidates(modality, rows, segment_rows, item_ids, cosines, chances, added.added)
        by_modality[modality] = added
    return [by_modality[modality] for modality in searched if modality in by_modality]


def combine(scored: Scored, matches: WordMatches) -> Scored:
    """Return the scores with what words say: an item is not meant if neither its vector nor its words mean it.

    p = 1 - (1 - p of the vector) (1 - p of the words), computed in log odds.
    """
    chances = matches.chances(scored.item_ids, scored.segment_rows)
    log_odds = scored.log_odds.copy()
    certain = (chances >= EXACT_NAME) & (log_odds < CERTAIN_LOG_ODDS)
    changed = (chances > 0) & (log_odds < CERTAIN_LOG_ODDS) & ~certain
    missed = probabilities(-log_odds[changed]) * (1 - chances[changed])
    log_odds[changed] = np.minimum(np.log1p(-missed) - np.log(missed), MAX_LOG_ODDS)
    log_odds[certain] = CERTAIN_LOG_ODDS + probabilities(log_odds[certain])  # vectors order files of one name
    return scored._replace(log_odds=log_odds, word_chances=chances)
