"""Words of a store that are spelled much like a given word.

The index of words holds their hashes, not the words, so all words at a small edit distance are made and looked up: how
many depends on the length of the word, not on the size of the store. P. Norvig, "How to Write a Spelling Corrector",
makes them so. The distance counts insertions, deletions, substitutions and transpositions of neighbours: 80% of errors
are one of them (F. J. Damerau, "A technique for computer detection and correction of spelling errors", CACM 7(3),
1964).
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.search.words.index import WordIndex, WordPart

if TYPE_CHECKING:
    from bindsearch.storage.snapshot import Snapshot

MIN_LETTERS, MAX_LETTERS = 3, 24
"""Lengths of words that are compared."""

ONE_EDIT_LETTERS, TWO_EDITS_LETTERS = 4, 8
"""Letters from which a word may have one error of any kind, and two; a shorter one may have two letters swapped.

One of two errors is a letter too many or two swapped: 500 words are one edit from a word of nine letters, 8,000 two
edits of this kind, and 120,000 any two, which would take longer than the search."""

MAX_WORDS = 8
"""Words of a query that are compared."""

MAX_TRIED = 30_000
"""Words that are made for all of a query; they take about 40 ms."""

_ALPHABETS = (
    string.ascii_lowercase,
    "αβγδεζηθικλμνξοπρστυφχψω",
    "абвгдежзиклмнопрстуфхцчшщъыьэюяєіґђћљњџ",
)
"""Letters of folded words; a word of another script is compared by its own letters."""


def known_words(tokens: Sequence[str], index: WordIndex, snapshot: Snapshot) -> set[str]:
    """Return those of some folded words that occur in a store."""
    return index.search(lambda parts: {token for token in tokens if _is_live(token, parts, snapshot)})


def near_words(tokens: Sequence[str], index: WordIndex, snapshot: Snapshot) -> dict[str, str]:
    """Return the tokens that occur nowhere and have a similar word that does, with the nearest and most frequent one.

    Where most words occur nowhere, and not all have a similar one, there are none: it is another language.

    Args:
        tokens: Folded words; those that are no letters, or too short or long, are left out.
        index: The words of the store.
        snapshot: Its items.
    """
    compared = [token for token in dict.fromkeys(tokens) if _is_compared(token)][:MAX_WORDS]

    def run(parts: Sequence[WordPart]) -> dict[str, str]:
        left, found = MAX_TRIED, dict[str, str]()
        unknown = [token for token in compared if not _is_live(token, parts, snapshot)]
        for token in unknown:
            for edits in (1, 2) if len(token) >= TWO_EDITS_LETTERS else (1,):  # the nearest first
                tried = list(dict.fromkeys(islice(_edited(token, edits), left)))
                left -= len(tried)
                if (best := _most_frequent(tried, parts, snapshot)) is not None:
                    found[token] = best
                    break
        is_other_language = len(found) < len(unknown) and len(unknown) > max(1, len(compared) // 2)
        return {} if is_other_language else found

    return index.search(run)


def _is_compared(token: str) -> bool:
    return MIN_LETTERS <= len(token) <= MAX_LETTERS and token.isalpha()


def _most_frequent(tried: Sequence[str], parts: Sequence[WordPart], snapshot: Snapshot) -> str | None:
    """Return the word that most fields of living items contain; None if none does."""
    counts = np.zeros(len(tried), np.int64)
    for part in parts:
        counts += part.postings.counts_of(tried)
    order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    return next((tried[place] for place in order.tolist() if _is_live(tried[place], parts, snapshot)), None)


def _is_live(token: str, parts: Sequence[WordPart], snapshot: Snapshot) -> bool:
    """Return whether a field of a living item contains a token."""
    alive = snapshot.item_alive
    for part in parts:
        fields = part.postings.find(token)
        if len(fields) and (alive is None or alive[part.first_item + part.owners_of(fields)[0]].any()):
            return True
    return False


def _edited(word: str, edits: int) -> Iterator[str]:
    """Yield the words that are one edit away, or two of the kind that ONE_EDIT_LETTERS tells, some more than once."""
    letters = next((one for one in _ALPHABETS if word[0] in one), "".join(sorted(set(word))))
    once = _edited_once(word, letters)
    if len(word) < ONE_EDIT_LETTERS:
        once = _swapped(word)
    if edits == 1:
        yield from once
        return
    for other in dict.fromkeys((*_swapped(word), *_shortened(word))):
        yield from _edited_once(other, letters)


def _swapped(word: str) -> Iterator[str]:
    """Yield the word with two neighbours swapped."""
    return (word[:at] + word[at + 1] + word[at] + word[at + 2 :] for at in range(len(word) - 1))


def _shortened(word: str) -> Iterator[str]:
    """Yield the word without one of its letters."""
    return (word[:at] + word[at + 1 :] for at in range(len(word)))


def _edited_once(word: str, letters: str) -> Iterator[str]:
    """Yield the words at an edit distance of 1: likelier errors first."""
    cuts = [(word[:place], word[place:]) for place in range(len(word) + 1)]
    yield from _swapped(word)
    yield from _shortened(word)
    yield from (head + letter + tail for head, tail in cuts for letter in letters)
    yield from (head + letter + tail[1:] for head, tail in cuts if tail for letter in letters)
