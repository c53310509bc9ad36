"""Columns that `classify` writes: a class of each item, with its probability, and how they were made.

The value of an item is stored under the first vector of the modality that was classified. Items of the same content
share vectors, so they share the class; an item whose file changes gets new vectors, so it has no class until the column
is written again. Nothing has to be changed when files are moved, touched or forgotten.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bindsearch.types import Modality

MAX_COLUMNS = 32
"""Columns of classes of a store."""

MAX_LABELS = 20_000
"""Classes of a column: those of ImageNet-21k nearly."""

MAX_RECORD_BYTES = 4 << 20
"""Size of what is recorded of a column: its labels, names and templates."""


@dataclass(frozen=True)
class ClassColumn:
    """Record of how a column was made.

    Attributes:
        name: Name of the column.
        probability: Name of the column of probabilities; None if there is none.
        labels: Label of each class.
        texts: The names of each class that were embedded.
        templates: Templates of the names.
        modality: Modality of the segments that were classified; None: that of each item.
        collections: Ids of the collections whose items have a class, ascending; none: all.
        encoder: Name of the encoder.
        digest: Digest of the encoder's weights.
        written: Time when it was last written, UTC, such as 2026-11-29T12:00:00Z.
    """

    name: str
    probability: str | None
    labels: tuple[str, ...]
    texts: tuple[tuple[str, ...], ...]
    templates: tuple[str, ...]
    modality: Modality | None
    collections: tuple[int, ...]
    encoder: str
    digest: str
    written: str

    def to_record(self) -> dict[str, Any]:
        """Return the column as JSON data."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: object) -> Self:
        """Restore a column from the result of `to_record`.

        Raises:
            ValueError: the record has another form.
        """
        if not isinstance(record, dict) or {*record} != {field.name for field in fields(cls)}:
            raise ValueError("it does not say what a column is")
        try:
            texts = tuple(_texts(names) for names in record["texts"])
            modality = None if record["modality"] is None else Modality(record["modality"])
            names = {key: _texts([record[key]])[0] for key in ("name", "encoder", "digest", "written")}
            probability = None if record["probability"] is None else _texts([record["probability"]])[0]
            collections = tuple(record["collections"])
        except TypeError as error:
            raise ValueError(f"it does not say what a column is ({error})") from None
        labels, templates = _texts(record["labels"]), _texts(record["templates"])
        made = names["encoder"], names["digest"], names["written"]
        if not 0 < len(labels) <= MAX_LABELS or len(texts) != len(labels):
            raise ValueError("a column has no labels, or too many")
        if not all(type(key) is int for key in collections):
            raise ValueError("ids of collections are not whole numbers")
        return cls(names["name"], probability, labels, texts, templates, modality, collections, *made)

    def makes_the_same(self, other: ClassColumn) -> bool:
        """Return whether another column of this name gives every vector the same class and probability."""
        ours, theirs = (replace(one, collections=(), written="", probability=None) for one in (self, other))
        return ours == theirs

    def column_names(self) -> tuple[str, ...]:
        """Return the names of the column and of its probabilities."""
        return (self.name,) if self.probability is None else (self.name, self.probability)


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        raise ValueError("it holds other than texts")
    return tuple(value)


VALUE_COLUMNS = {"column_id": "int64", "vector_id": "int64", "class": "int64", "probability": "float64"}
"""Columns of the values and their Arrow types: the column, the first vector of the item, the number of its class."""

COLUMNS_KEY = b"class_columns"
"""Key in the schema's metadata of the columns, as JSON: records by column_id."""


class ClassValues(NamedTuple):
    """Values of a column.

    Attributes:
        vector_ids: First vector of each item, no two equal: int64 (m,).
        classes: Number of the class: int64 (m,).
        probabilities: Probability of the class, 0..1: float64 (m,).
    """

    vector_ids: NDArray[np.int64]
    classes: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    def at(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> ClassValues:
        """Return the values in some rows, or where a mask is true."""
        return ClassValues(self.vector_ids[rows], self.classes[rows], self.probabilities[rows])


@dataclass(frozen=True, eq=False)
class StoredColumns:
    """The columns of classes of a generation.

    Attributes:
        columns: Columns by column_id.
        values: Values with the columns of VALUE_COLUMNS, by column_id and vector_id.
    """

    columns: Mapping[int, ClassColumn]
    values: pa.Table

    def named(self, name: str) -> int | None:
        """Return the id of the column with this name, or with probabilities of this name; None if there is none."""
        return next((key for key, column in self.columns.items() if name in column.column_names()), None)

    def values_of(self, column_id: int) -> ClassValues:
        """Return the values of a column; vector ids are ascending."""
        ids = self.values.column("column_id").to_numpy()
        start, end = np.searchsorted(ids, column_id, "left"), np.searchsorted(ids, column_id, "right")
        part = self.values.slice(int(start), int(end - start))
        return ClassValues(*(part.column(name).to_numpy() for name in [*VALUE_COLUMNS][1:]))


def values_table(column_id: int, values: ClassValues) -> pa.Table:
    """Return the values of a column as a table."""
    arrays = (np.full(len(values.vector_ids), column_id, np.int64), *values)
    return pa.table(list(arrays), schema=pa.schema(list(VALUE_COLUMNS.items())))


def no_values() -> pa.Table:
    """Return a table of values without rows."""
    return pa.schema(list(VALUE_COLUMNS.items())).empty_table()


def with_columns(values: pa.Table, columns: Mapping[int, ClassColumn]) -> pa.Table:
    """Return values with the record of the columns in the schema's metadata, as they are stored."""
    records = {str(key): column.to_record() for key, column in columns.items()}
    return values.replace_schema_metadata({COLUMNS_KEY: json.dumps(records)})


def stored_columns(table: pa.Table) -> StoredColumns:
    """Return the columns and values of a table that `with_columns` made; raise ValueError if it is none."""
    for name, kind in VALUE_COLUMNS.items():
        number = table.schema.get_field_index(name)
        if number < 0 or table.schema.field(number).type != pa.type_for_alias(kind) or table.column(number).null_count:
            raise ValueError(f"it has no column {name} of type {kind}")
    records = json.loads((table.schema.metadata or {}).get(COLUMNS_KEY, b"null"))
    if not isinstance(records, dict):
        raise ValueError("it does not say which columns it has")
    columns = {int(key): ClassColumn.from_record(record) for key, record in records.items()}
    return StoredColumns(columns, table.select(list(VALUE_COLUMNS)))


def check_values(stored: StoredColumns) -> None:
    """Check that values refer to columns and classes that are recorded, in their order; else raise ValueError."""
    ids = stored.values.column("column_id").to_numpy()
    if np.any(ids[1:] < ids[:-1]) or not np.isin(np.unique(ids), [*stored.columns]).all():
        raise ValueError("its values are of columns that it does not have")
    for key, column in stored.columns.items():
        vector_ids, classes, _ = stored.values_of(key)
        if np.any(vector_ids[1:] <= vector_ids[:-1]):
            raise ValueError("its vectors are not ascending")
        if len(classes) and not (classes.min() >= 0 and classes.max() < len(column.labels)):
            raise ValueError("it refers to classes that it does not have")


def first_vectors(
    items: pa.Table, segments: pa.Table, item_rows: NDArray[np.int64], modality: Modality | None
) -> NDArray[np.int64]:
    """Return the vector that an item's class is stored under: the first one of the modality that is classified.

    Args:
        items: n items, with a column modality.
        segments: m segments, with the columns modality and vector_id.
        item_rows: Row of each segment's item: int64 (m,).
        modality: Modality of the segments; None: that of their item.

    Returns:
        int64 (n,), -1 for items without such a segment.
    """
    names = [*Modality]
    of_items, of_segments = (
        pc.index_in(table.column("modality"), value_set=pa.array(names, table.schema.field("modality").type)).to_numpy()
        for table in (items, segments)
    )
    wanted = of_segments == (of_items[item_rows] if modality is None else names.index(modality))
    largest = np.iinfo(np.int64).max
    first = np.full(items.num_rows, largest, np.int64)
    np.minimum.at(first, item_rows[wanted], segments.column("vector_id").to_numpy()[wanted])
    first[first == largest] = -1
    return first


def look_up(values: ClassValues, keys: NDArray[np.int64]) -> tuple[ClassValues, NDArray[np.bool_]]:
    """Return the values of n items, of class 0 where there are none, and whether an item has a value: bool (n,).

    Args:
        values: Values of a column; vector ids are ascending.
        keys: First vector of each item, -1 for none: int64 (n,).
    """
    if not len(values.vector_ids):
        return ClassValues(keys, np.zeros(len(keys), np.int64), np.zeros(len(keys))), np.zeros(len(keys), np.bool_)
    rows = np.minimum(np.searchsorted(values.vector_ids, keys), len(values.vector_ids) - 1)
    known = values.vector_ids[rows] == keys
    rows = np.where(known, rows, 0)
    return ClassValues(keys, values.classes[rows], values.probabilities[rows]), known


def of_collections(column: ClassColumn, collection_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether items have a class by their collection, given its id int64 (n,): bool (n,)."""
    if not column.collections:
        return np.ones(len(collection_ids), np.bool_)
    return np.isin(collection_ids, np.array(column.collections, np.int64))
