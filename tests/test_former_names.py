"""Former names of keywords and fields are accepted beside the current ones."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import bindsearch as bs
from bindsearch.former_names import former_keywords
from bindsearch.indexes.types import OperatingPoint
from bindsearch.operations.compact import CompactReport
from bindsearch.operations.exchange.vector_import import ImportReport
from bindsearch.operations.verify.findings import Finding
from bindsearch.results import PartitionStatus
from bindsearch.search.plan import PartitionStep, TermStep
from bindsearch.search.query import Rank
from bindsearch.store import Store
from helpers.stores import connect

FORMER: list[tuple[Callable[..., Any], dict[str, str]]] = [
    (Store.search, {"rank": "ranking", "diverse": "diversity"}),
    (Store.search_many, {"rank": "ranking", "diverse": "diversity"}),
    (Store.verify, {"files": "check_media", "content": "hash_media"}),
    (Store.index, {"wishes": "index_settings"}),
    (Store.optimize, {"wishes": "index_settings"}),
    (CompactReport, {"mended": "repaired", "left": "remaining"}),
    (Finding, {"mend": "repair"}),
    (ImportReport, {"kept": "unchanged"}),
    (OperatingPoint, {"kept": "selectivity", "stand_in": "fallback_source"}),
    (PartitionStatus, {"covered": "indexed_rows", "trouble": "index_error"}),
    (
        PartitionStep,
        {"want": "fetch_rows", "kept": "matching_rows", "considered": "alternatives", "living": "live_rows"},
    ),
    (TermStep, {"load": "cost_note"}),
    (bs.make_query, {"rank": "ranking", "diverse": "diversity"}),
    (bs.Query, {"rank": "ranking", "diverse": "diversity"}),
    (bs.Plan, {"rank": "ranking", "diverse": "diversity"}),
]
"""Callables with former names of keywords, and their current names."""


@pytest.mark.parametrize(("function", "names"), FORMER)
def test_signatures_have_the_current_names(function: Callable[..., Any], names: dict[str, str]) -> None:
    parameters = inspect.signature(function).parameters
    assert set(names.values()) <= set(parameters)
    assert not set(names) & set(parameters)


@pytest.mark.parametrize(("function", "names"), FORMER)
def test_both_names_at_once_are_an_error(function: Callable[..., Any], names: dict[str, str]) -> None:
    for former, current in names.items():
        with pytest.raises(TypeError, match=f"got '{current}' and its former name '{former}': give '{current}'"):
            function(**{former: 1, current: 1})


@pytest.mark.parametrize(
    ("record", "names"),
    [one for one in FORMER if is_dataclass(one[0]) and one[0] is not bs.Query],  # a Query checks its values
)
def test_former_fields_give_the_same_value(record: Any, names: dict[str, str]) -> None:
    values = {field.name: object() for field in fields(record)}
    made = record(**values)
    assert {former: getattr(made, former) for former in names} == {former: values[new] for former, new in names.items()}


def test_former_keywords_give_the_same_result(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    for n in range(4):
        (tmp_path / "media" / f"{n}.txt").write_text(f"text {n}")
    with connect(tmp_path / "store", encoder="null") as opened:
        opened.index(tmp_path / "media")
        (tmp_path / "media" / "3.txt").unlink()
        store: Any = opened
        for former, current in (
            ({"rank": "cosine"}, {"ranking": "cosine"}),
            ({"diverse": 0.9}, {"diversity": 0.9}),
        ):
            found = store.search("text 1", **former)
            assert found == store.search("text 1", **current)
            assert store.search_many(["text 1"], **former) == [found]
        settings = bs.IndexSettings(recall=0.9)
        store.optimize(wishes=settings)
        assert store.wishes == store.index_settings == settings
        assert store.search("text 1", rank="cosine") != store.search("text 1")
        for former_name, name in (("files", "check_media"), ("content", "hash_media")):
            assert store.verify(**{former_name: True}).findings == store.verify(**{name: True}).findings != ()


def test_queries_take_and_have_the_former_names() -> None:
    make: Any = bs.make_query
    query = make("x", rank="cosine", diverse=0.5)
    assert query == bs.make_query("x", ranking="cosine", diversity=0.5)
    assert (query.rank, query.diverse) == (query.ranking, query.diversity) == (bs.Ranking.COSINE, 0.5)
    record: Any = bs.Query
    assert record(query.terms, rank=bs.Ranking.COSINE, diverse=0.5) == query
    assert replace(query, diversity=0.0).diverse == 0.0
    assert pickle.loads(pickle.dumps(query)) == query
    assert bs.Rank is Rank is bs.Ranking


def test_names_that_are_not_known_are_an_error() -> None:
    @former_keywords(old="new")
    def double(*, new: int) -> int:
        """Double it."""
        return 2 * new

    called: Any = double
    assert (double(new=2), called(old=2), double.__doc__, double.__name__) == (4, 4, "Double it.", "double")
    with pytest.raises(TypeError, match="older"):
        called(older=2)
