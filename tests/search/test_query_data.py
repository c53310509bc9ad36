"""Queries as plain data."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindsearch.errors import UsageError
from bindsearch.search.filter import Filter
from bindsearch.search.query import PREFIXES, Query, Ranking, Term, WordSearch
from bindsearch.search.query_data import query_data, query_from_data
from bindsearch.types import Modality, Span

SOURCES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)
NUMBERS = st.floats(-10, 10)
TERMS = st.builds(
    Term,
    kind=st.sampled_from([None, *PREFIXES]),
    source=SOURCES,
    weight=st.none() | NUMBERS,
    negative=st.booleans(),
    span=st.none() | st.builds(Span, NUMBERS, NUMBERS),
)
FILTERS = st.builds(
    Filter,
    where=st.none() | SOURCES,
    folders=st.lists(SOURCES, max_size=2).map(tuple),
    since_ns=st.none() | st.integers(0, 1 << 62),
)
QUERIES = st.builds(
    Query,
    terms=st.lists(TERMS, min_size=1, max_size=3).map(tuple),
    to=st.lists(st.sampled_from(Modality), min_size=1).map(tuple),
    k=st.integers(1, 100),
    ranking=st.sampled_from(Ranking),
    filter=FILTERS,
    diversity=st.floats(0, 1),
    min_match=st.floats(0, 1),
    words=st.sampled_from(WordSearch),
)


@given(QUERIES)
def test_a_query_comes_back_from_json(query: Query) -> None:
    assert query_from_data(json.loads(json.dumps(query_data(query)))) == query


def test_what_is_missing_has_its_default() -> None:
    query = query_from_data({"terms": [{"kind": "text", "source": "a dog"}], "min_match": "likely"})
    assert query == Query((Term("text", "a dog"),), min_match=0.3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "the query is []: give a JSON object"),
        ({}, "the terms of the query are None: give a list"),
        ({"terms": ["a"]}, "the term is 'a': give a JSON object"),
        ({"terms": [{"kind": "text"}]}, "has no source: give a text, a file or an item"),
        ({"terms": [{"kind": "text", "source": "a", "wieght": 1}]}, "did you mean 'weight'"),
        ({"terms": [{"kind": "text", "source": 3}]}, "is not a query term"),
        ({"terms": [{"kind": "text", "source": "a"}], "k": "3"}, "ask for at least 1 hit"),
        ({"terms": [{"kind": "text", "source": "a", "span": {"start_s": 1}}]}, "a time of a span"),
        ({"terms": [{"kind": "text", "source": "a"}], "filter": {"where": 3}}, "the filter is 3"),
    ],
)
def test_other_data_are_refused(data: object, message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("[", r"\[").replace("(", r"\(")):
        query_from_data(data)
