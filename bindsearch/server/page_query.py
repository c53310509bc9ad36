"""Queries as a page sends them: terms are texts, uploads and items by id, never paths."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import PurePosixPath
from typing import Any

from bindsearch.arguments import shell_command, shown
from bindsearch.errors import UsageError
from bindsearch.search.filter import Filter, format_time, make_filter
from bindsearch.search.query import ALL, LIKE, Query, Ranking, Term, WordSearch
from bindsearch.search.query_data import query_from_data
from bindsearch.search.query_encoding import MAX_ID_DIGITS
from bindsearch.search.query_syntax import format_query
from bindsearch.server.limits import MAX_K, MAX_TERMS, MAX_TEXT_CHARACTERS
from bindsearch.server.uploads import Upload
from bindsearch.types import Modality

UPLOAD = "upload"
KINDS = (Modality.TEXT.value, UPLOAD, LIKE)
FILTER_KEYS = ("where", "folders", "collections", "since", "until")
_PLAIN_WORDS = re.compile(r"\w[\w ',]*")


@dataclass(frozen=True)
class PageQuery:
    """A query of a page, with paths of uploads; their names by path; the command line that asks the same."""

    query: Query
    names: Mapping[str, str]
    command: str

    def with_names(self, text: str) -> str:
        """Return a message with the names of uploads in place of their paths."""
        for path, name in self.names.items():
            text = text.replace(path, name)
        return text


def read_page_query(
    data: object, find_upload: Callable[[object], Upload], roots: Sequence[str], store: str | None
) -> PageQuery:
    """Return the query that a page asks.

    Args:
        data: As `query_data`, but a term's kind is text, upload or like, and the filter has texts: `since`, `until`.
        find_upload: Returns an upload by its key.
        roots: Roots of the collections.
        store: Store of the command line; None: the default.

    Raises:
        UsageError: it is none, or asks for too much.
        Refusal: there is no such upload.
    """
    if not isinstance(data, Mapping):
        raise UsageError(f"the query is {shown(data)}: give a JSON object")
    terms = data.get("terms")
    if not isinstance(terms, list):
        raise UsageError(f"the terms of the query are {shown(terms)}: give a list")
    if len(terms) > MAX_TERMS:
        raise UsageError(f"the query has {len(terms)} terms: give at most {MAX_TERMS}")
    names: dict[str, str] = {}
    given = {**data, "terms": [_term_data(term, find_upload, names) for term in terms]}
    if "filter" in data:
        given["filter"] = asdict(_filter(data["filter"], roots))
    query = query_from_data(given)
    if query.k > MAX_K:
        raise UsageError(f"k is {query.k}: ask for at most {MAX_K} hits")
    if (n := sum(len(term.source) + len(term.caption) for term in query.terms)) > MAX_TEXT_CHARACTERS:
        raise UsageError(f"the texts have {n} characters: give at most {MAX_TEXT_CHARACTERS}, or send a text file")
    return PageQuery(query, names, command_line(query, names, store))


def _term_data(term: object, find_upload: Callable[[object], Upload], names: dict[str, str]) -> dict[str, Any]:
    if not isinstance(term, Mapping):
        raise UsageError(f"the term is {shown(term)}: give a JSON object")
    kind, source = term.get("kind"), term.get("source")
    if kind not in KINDS:
        raise UsageError(f"the kind of a term is {shown(kind)}: choose from {', '.join(KINDS)}")
    if kind == UPLOAD:
        upload = find_upload(source)
        names[str(upload.path)] = upload.name
        rest = {key: value for key, value in term.items() if key != "modality"}
        return {**rest, "kind": term.get("modality") or upload.modality.value, "source": str(upload.path)}
    if "modality" in term:
        raise UsageError(f"a term of kind {kind} has no modality: leave it out")
    is_id = isinstance(source, str) and source.isascii() and source.isdecimal() and len(source) <= MAX_ID_DIGITS
    if kind == LIKE and not is_id:
        raise UsageError(f"the item is {shown(source)}: give its id as a text")
    return dict(term)


def _filter(data: object, roots: Sequence[str]) -> Filter:
    """Return the filter of a page. Raises UsageError: a key is unknown, a value wrong, or a folder not indexed."""
    if not isinstance(data, Mapping):
        raise UsageError(f"the filter is {shown(data)}: give a JSON object")
    if unknown := [key for key in data if key not in FILTER_KEYS]:
        raise UsageError(f"a filter has no {shown(unknown[0])}: its keys are {', '.join(FILTER_KEYS)}")
    given = {key: value for key, value in data.items() if value not in (None, "", [])}
    for key in ("where", "since", "until"):
        if not isinstance(given.get(key, ""), str):
            raise UsageError(f"{key} is {shown(given[key])}: give a text")
    for key in ("folders", "collections"):
        value = given.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
            raise UsageError(f"{key} is {shown(value)}: give a list of texts")
    for folder in given.get("folders", []):
        is_known = any(PurePosixPath(folder).is_relative_to(root) for root in roots)
        if not is_known or ".." in PurePosixPath(folder).parts:
            raise UsageError(f"the folder {shown(folder)} is not indexed: give one of a collection, from its root on")
    for collection in given.get("collections", []):
        if "/" in collection and collection not in roots:
            raise UsageError(f"there is no collection {shown(collection)}: choose from {', '.join(roots)}")
    return make_filter(**given)


def command_line(query: Query, names: Mapping[str, str], store: str | None) -> str:
    """Return the command line that asks a query, with the names of uploads, which are looked for where it is run."""
    terms = [replace(term, source=names.get(term.source, term.source)) for term in query.terms]
    filter = query.filter
    given: list[tuple[str, object]] = [  # an option, and its value if it is not the default
        ("--to", query.to != ALL and ",".join(query.to)),
        ("-k", query.k != Query(query.terms).k and query.k),
        ("--ranking", query.ranking is not Ranking.PROBABILITY and query.ranking.value),
        ("--diversity", query.diversity and f"{query.diversity:g}"),
        ("--min-match", query.min_match and f"{query.min_match:g}"),
        ("--copies", query.copies),
        ("--words", query.words is WordSearch.ONLY),
        ("--no-words", query.words is WordSearch.OFF),
        ("--include-query", query.include_query),
        ("--where", filter.where),
        *(("--under", folder) for folder in filter.folders),
        *(("--collection", collection) for collection in filter.collections),
        ("--since", filter.since_ns is not None and format_time(filter.since_ns)),
        ("--until", filter.until_ns is not None and format_time(filter.until_ns)),
        ("--store", store),
    ]
    options = [(name,) if value is True else (name, str(value)) for name, value in given if value]
    return shell_command("search", *_term_words(terms), *chain.from_iterable(options))


def _term_words(terms: Sequence[Term]) -> list[str]:
    (term, *others) = terms
    if others or term.weight not in (None, 1.0) or term.negative or term.span is not None or term.caption:
        return ["--query", format_query(terms)]
    if term.kind == Modality.TEXT and _PLAIN_WORDS.fullmatch(term.source):
        return [term.source]
    return [f"--{term.kind}", term.source]
