"""Queries as plain data, for JSON: how a page and a command send them to a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from bindsearch.arguments import did_you_mean, shown
from bindsearch.errors import UsageError
from bindsearch.search.filter import Filter
from bindsearch.search.query import Query, Term, to_probability
from bindsearch.types import Span


def query_data(query: Query) -> dict[str, Any]:
    """Return a query as values that JSON can hold."""
    return asdict(query)


def query_from_data(data: object) -> Query:
    """Return the query of `query_data`; keys that are missing have their defaults.

    Raises:
        UsageError: a key is unknown, or a value is not one of a query.
    """
    given = _checked(data, Query, "query")
    terms = given.get("terms")
    if not isinstance(terms, list | tuple):
        raise UsageError(f"the terms of the query are {shown(terms)}: give a list")
    given["terms"] = tuple(map(_term, terms))
    if "filter" in given:
        given["filter"] = Filter(**_checked(given["filter"], Filter, "filter"))
    if "min_match" in given:
        given["min_match"] = to_probability(given["min_match"])
    return Query(**given)


def _term(data: object) -> Term:
    given = _checked(data, Term, "term")
    if "source" not in given:
        raise UsageError(f"the term {shown(data)} has no source: give a text, a file or an item")
    if given.get("span") is not None:
        span = {"start_s": None, "end_s": None, **_checked(given["span"], Span, "span")}
        given["span"] = Span(span["start_s"], span["end_s"])
    return Term(**{"kind": None, **given})


def _checked(data: object, kind: type, name: str) -> dict[str, Any]:
    """Return a copy of an object of JSON whose keys are fields of a class.

    Raises:
        UsageError: it is no object, or has another key.
    """
    if not isinstance(data, Mapping):
        raise UsageError(f"the {name} is {shown(data)}: give a JSON object")
    known = [one.name for one in fields(kind)]
    for key in data:
        if key not in known:
            raise UsageError(f"a {name} has no {shown(key)}: {did_you_mean(key, known)}its keys are {', '.join(known)}")
    return dict(data)
