"""Suggestions of what to try where an answer is empty, or no hit is better than what chance finds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bindsearch.indexes.words import fold, tokens_of
from bindsearch.search.query import ALL, Query, Term, WordSearch
from bindsearch.search.query_encoding import is_text

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


NearWords = Callable[[Sequence[str]], Mapping[str, str]]
"""Function that returns those of some tokens that occur nowhere, with a similar one that does (`near_words`)."""


def suggestions(query: Query, near: NearWords, found: int, searched: int) -> tuple[Suggestion, ...]:
    """Return what to try instead of a query, the most specific first.

    Args:
        query: The query.
        near: Returns words that are spelled much like those that occur nowhere.
        found: Number of hits.
        searched: Number of segments that match the filter.
    """
    return tuple(_suggestions(query, near, found, searched))


def _suggestions(query: Query, near: NearWords, found: int, searched: int) -> Iterator[Suggestion]:
    texts = [term for term in query.terms if is_text(term)]
    if len(texts) == len(query.terms) == 1:
        yield from _of_text(texts[0], near)
    if query.filter and searched < FEW_SEGMENTS:
        left = "1 segment" if searched == 1 else f"{searched} segments"
        yield Suggestion(f"the filter leaves {left}: widen it, or leave it out")
    if query.min_match and not found:
        yield Suggestion("no match is good enough: lower --min-match")
    if query.to != ALL:
        yield Suggestion("search all kinds: leave out --to")
    if query.words is WordSearch.ONLY:
        yield Suggestion("search by meaning, too: leave out --words")
    if len(query.terms) > 1:
        yield Suggestion("use fewer terms")


def _of_text(term: Term, near: NearWords) -> Iterator[Suggestion]:
    """Yield what to try instead of a text: other spellings, and names that contain it."""
    corrected = _corrected(term.source, near)
    if corrected is not None:
        yield Suggestion(f"did you mean {corrected!r}?", corrected)
    written = term.source.strip()
    if _PART_OF_NAME.fullmatch(written):
        yield Suggestion(f"for names that contain it: --where \"name like '%{written}%'\"")


def _corrected(text: str, near: NearWords) -> str | None:
    """Return a text with words that occur nowhere replaced by the nearest ones that do; None if there are none."""
    words = near(tokens_of(text))
    if not words:
        return None
    return _WORD.sub(lambda found: words.get(fold(found.group()), found.group()), text)
