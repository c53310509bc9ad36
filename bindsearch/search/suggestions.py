"""Suggestions of what to try where an answer is empty, or no hit is better than what chance finds."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.search.query import ALL, Query, Term, WordSearch
from bindsearch.search.query_encoding import is_text

if TYPE_CHECKING:
    from bindsearch.search.words.index import WordIndex, WordPart

MIN_LETTERS = 4
"""Letters of the shortest word that may be a typing error: shorter ones are one letter from many others."""

MAX_LETTERS = 24
MAX_WORDS = 8
FEW_SEGMENTS = 20
"""Number of segments that a filter leaves, from which on it is not suspected."""

_WORD = re.compile(r"[^\W\d_]+")
_PART_OF_NAME = re.compile(r"(?=.*\d)[\w-]{3,40}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Something to try.

    Attributes:
        text: What to try, in words.
        query: The text to search for instead; None if something else is to be changed.
    """

    text: str
    query: str | None = None


def suggestions(query: Query, index: WordIndex, found: int, searched: int) -> tuple[Suggestion, ...]:
    """Return what to try instead of a query, the most specific first.

    Args:
        query: The query.
        index: Word index of the generation.
        found: Number of hits.
        searched: Number of segments that match the filter.
    """
    return tuple(_suggestions(query, index, found, searched))


def _suggestions(query: Query, index: WordIndex, found: int, searched: int) -> Iterator[Suggestion]:
    texts = [term for term in query.terms if is_text(term)]
    if len(texts) == len(query.terms) == 1:
        yield from _of_text(texts[0], index)
    if query.filter and searched < FEW_SEGMENTS:
        yield Suggestion(f"the filter leaves {searched} segments: widen it, or leave it out")
    if query.min_match and not found:
        yield Suggestion("no match is good enough: lower --min-match")
    if query.to != ALL:
        yield Suggestion("search all kinds: leave out --to")
    if query.words is WordSearch.ONLY:
        yield Suggestion("search by meaning, too: leave out --words")
    if len(query.terms) > 1:
        yield Suggestion("use fewer terms")


def _of_text(term: Term, index: WordIndex) -> Iterator[Suggestion]:
    """Yield what to try instead of a text: other spellings, and names that contain it."""
    corrected = _corrected(term.source, index)
    if corrected is not None:
        yield Suggestion(f"did you mean {corrected!r}?", corrected)
    written = term.source.strip()
    if _PART_OF_NAME.fullmatch(written):
        yield Suggestion(f"for names that contain it: --where \"name like '%{written}%'\"")


def _corrected(text: str, index: WordIndex) -> str | None:
    """Return a text with words that occur nowhere replaced by the nearest ones that do; None if there are none."""
    words = [word for word in dict.fromkeys(_WORD.findall(text)) if MIN_LETTERS <= len(word) <= MAX_LETTERS]
    replaced = {}
    for word in words[:MAX_WORDS]:
        best = index.search(lambda parts, word=word: _nearest(word.casefold(), parts))  # type: ignore[misc]
        if best is not None:
            replaced[word] = best
    if not replaced:
        return None
    return _WORD.sub(lambda found: replaced.get(found.group(), found.group()), text)


def _nearest(word: str, parts: Sequence[WordPart]) -> str | None:
    """Return the most frequent token that is one edit from a word; None if the word occurs, or none is near.

    The index has hashes of tokens alone, so that all edits are looked up.
    """
    if any(len(part.postings.find(word)) for part in parts):
        return None
    edits = sorted(_edits(word))
    counts = np.sum([part.postings.counts_of(edits) for part in parts], axis=0)
    return edits[int(counts.argmax())] if np.any(counts) else None


def _edits(word: str) -> set[str]:
    """Return all words that are one edit away: a letter left out, added, changed, or swapped with the next."""
    letters = sorted({*string.ascii_lowercase, *word})
    splits = [(word[:place], word[place:]) for place in range(len(word) + 1)]
    return {
        *(head + tail[1:] for head, tail in splits if tail),
        *(head + tail[1] + tail[0] + tail[2:] for head, tail in splits if len(tail) > 1),
        *(head + letter + tail[1:] for head, tail in splits if tail for letter in letters),
        *(head + letter + tail for head, tail in splits for letter in letters),
    } - {word}
