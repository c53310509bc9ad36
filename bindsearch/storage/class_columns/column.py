"""Records of columns of classes: how they were made."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

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
        if not 0 < len(labels) <= MAX_LABELS or len(texts) != len(labels):
            raise ValueError("a column has no labels, or too many")
        if not all(type(key) is int for key in collections):
            raise ValueError("ids of collections are not whole numbers")
        return cls(
            **names,
            probability=probability,
            labels=labels,
            texts=texts,
            templates=templates,
            modality=modality,
            collections=collections,
        )

    def makes_the_same(self, other: ClassColumn) -> bool:
        """Return whether another column of this name gives every vector the same class and probability."""
        ours, theirs = (replace(one, collections=(), written="", probability=None) for one in (self, other))
        return ours == theirs

    def record_bytes(self) -> int:
        """Return the size of what is recorded of the column, in bytes."""
        return len(json.dumps(self.to_record()))

    def column_names(self) -> tuple[str, ...]:
        """Return the names of the column and of its probabilities."""
        return (self.name,) if self.probability is None else (self.name, self.probability)


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        raise ValueError("it holds other than texts")
    return tuple(value)
