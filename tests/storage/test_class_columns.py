"""Columns of classes as they are stored: what is written comes back, and damage is found before it is used."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bindsearch.storage.class_columns import (
    MAX_LABELS,
    ClassColumn,
    ClassValues,
    check_values,
    first_vectors,
    look_up,
    no_values,
    of_collections,
    stored_columns,
    values_table,
    with_columns,
)
from bindsearch.types import Modality

COLUMN = ClassColumn(
    "kind",
    "kind_p",
    ("cat", "dog"),
    (("cat", "kitten"), ("dog",)),
    ("a {}.",),
    Modality.IMAGE,
    (2, 5),
    "mini",
    "ab",
    "t",
)


def values(ids: list[int], classes: list[int]) -> ClassValues:
    return ClassValues(np.array(ids, np.int64), np.array(classes, np.int64), np.linspace(0.0, 1.0, len(ids)))


@pytest.mark.parametrize("changes", [{}, {"probability": None}, {"modality": None}, {"collections": ()}])
def test_records_and_values_come_back(changes: dict[str, Any]) -> None:
    columns = {3: replace(COLUMN, **changes), 7: replace(COLUMN, name="other", probability="other_p")}
    table = pa.concat_tables([values_table(3, values([1, 4, 9], [0, 1, 0])), values_table(7, values([4], [1]))])
    stored = stored_columns(with_columns(table, columns))
    check_values(stored)
    assert stored.columns == columns
    assert [stored.named(name) for name in ("kind", "other", "other_p", "nothing")] == [3, 7, 7, None]
    assert stored.named("kind_p") == (None if changes == {"probability": None} else 3)
    for key, ids, classes in ((3, [1, 4, 9], [0, 1, 0]), (7, [4], [1]), (5, [], [])):
        found = stored.values_of(key)
        assert (found.vector_ids.tolist(), found.classes.tolist()) == (ids, classes)
    assert stored.values_of(3).probabilities.tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"more": 1}, "does not say what a column is"),
        ({"texts": 3}, "does not say what a column is"),
        ({"texts": ["cat", "dog"]}, "other than texts"),
        ({"labels": "cd"}, "other than texts"),
        ({"labels": ["cat", 3]}, "other than texts"),
        ({"name": None}, "other than texts"),
        ({"probability": 3}, "other than texts"),
        ({"labels": [], "texts": []}, "no labels, or too many"),
        ({"labels": ["cat"]}, "no labels, or too many"),
        ({"labels": ["cat"] * (MAX_LABELS + 1), "texts": [["cat"]] * (MAX_LABELS + 1)}, "no labels, or too many"),
        ({"modality": "smell"}, "not a valid Modality"),
        ({"collections": [1, "2"]}, "ids of collections are not whole numbers"),
        ({"collections": [True]}, "ids of collections are not whole numbers"),
    ],
)
def test_another_record_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClassColumn.from_record({**COLUMN.to_record(), **changes})


def test_a_column_has_one_class_or_as_many_as_are_allowed() -> None:
    for n in (1, MAX_LABELS):
        column = replace(COLUMN, labels=("cat",) * n, texts=(("cat",),) * n)
        assert ClassColumn.from_record(column.to_record()) == column


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (values_table(3, values([1, 2], [0, 2])), "classes that it does not have"),
        (values_table(3, values([1, 2], [-1, 0])), "classes that it does not have"),
        (values_table(3, values([2, 1], [0, 0])), "not ascending"),
        (values_table(3, values([2, 2], [0, 0])), "not ascending"),
        (values_table(4, values([1], [0])), "columns that it does not have"),
        (
            pa.concat_tables([values_table(key, values([1], [0])) for key in (3, 7, 3)]),
            "columns that it does not have",
        ),
    ],
)
def test_values_that_contradict_the_records_are_damage(table: pa.Table, message: str) -> None:
    stored = stored_columns(with_columns(table, {3: COLUMN, 7: replace(COLUMN, name="other")}))
    with pytest.raises(ValueError, match=message):
        check_values(stored)


def test_a_column_without_values_is_sound() -> None:
    check_values(stored_columns(with_columns(no_values(), {3: COLUMN})))


@pytest.mark.parametrize(
    "table",
    [
        no_values().drop_columns("class"),
        no_values().drop_columns("column_id"),
        values_table(3, values([1], [0])).set_column(1, "vector_id", pa.array([1], pa.int32())),
        values_table(3, values([1], [0])).set_column(1, "vector_id", pa.array([None], pa.int64())),
    ],
)
def test_a_table_without_the_columns_of_values_is_refused(table: pa.Table) -> None:
    with pytest.raises(ValueError, match="it has no column"):
        stored_columns(with_columns(table, {3: COLUMN}))


@pytest.mark.parametrize("metadata", [None, {"class_columns": "[]"}])
def test_a_table_without_records_is_refused(metadata: dict[str, str] | None) -> None:
    with pytest.raises(ValueError, match="does not say which columns"):
        stored_columns(no_values().replace_schema_metadata(metadata))


def test_the_class_of_an_item_is_under_its_first_vector_of_the_modality() -> None:
    items = pa.table({"modality": ["video", "image", "text"]})
    rows = np.array([0, 0, 0, 0, 1])
    segments = pa.table({"modality": ["audio", "audio", "video", "video", "image"], "vector_id": [3, 0, 9, 8, 7]})
    assert first_vectors(items, segments, rows, None).tolist() == [8, 7, -1]
    assert first_vectors(items, segments, rows, Modality.AUDIO).tolist() == [0, -1, -1]
    assert first_vectors(items, segments, rows, Modality.DEPTH).tolist() == [-1, -1, -1]


def test_values_of_items_are_those_of_their_vectors() -> None:
    found, known = look_up(values([2, 5, 8], [1, 0, 1]), np.array([8, 9, -1, 2, 3, 5]))
    assert known.tolist() == [True, False, False, True, False, True]
    assert found.classes[known].tolist() == [1, 1, 0]
    assert found.probabilities[known].tolist() == [1.0, 0.0, 0.5]
    found, known = look_up(values([], []), np.array([8, -1]))
    assert known.tolist() == [False, False]
    assert found.classes.tolist() == [0, 0]
    assert found.probabilities.tolist() == [0.0, 0.0]


def test_items_of_the_collections_of_a_column_have_a_class() -> None:
    assert of_collections(COLUMN, np.array([1, 2, 5, 6])).tolist() == [False, True, True, False]
    assert of_collections(replace(COLUMN, collections=()), np.array([1, 2])).tolist() == [True, True]


def test_another_name_or_digest_makes_other_values() -> None:
    assert COLUMN.makes_the_same(replace(COLUMN, collections=(), written="later", probability=None))
    assert not COLUMN.makes_the_same(replace(COLUMN, digest="other"))
    assert not COLUMN.makes_the_same(replace(COLUMN, labels=("dog", "cat")))
