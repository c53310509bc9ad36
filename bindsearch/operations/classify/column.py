"""Columns of classes of a store: written, written again for new items, removed, counted."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bindsearch.arguments import did_you_mean, shell_command, shown
from bindsearch.encoders.base import Encoder, libraries_of, query_encoder
from bindsearch.encoders.zero_shot import DEFAULT_TEMPLATES, ClassNames, class_vectors, read_templates
from bindsearch.environment import check_libraries
from bindsearch.errors import StoreError, UsageError
from bindsearch.ingest.media.sidecar import COLUMN_NAME, MAX_COLUMN_NAME
from bindsearch.operations.classify.labels import check_prompts
from bindsearch.operations.classify.vectors import classify_items, counts_of, joined_values, logit_scale
from bindsearch.operations.compact import locked_catalog
from bindsearch.reports import OnRows, ignore_rows
from bindsearch.search.filter import collections_named
from bindsearch.search.generation import Generation, Reader
from bindsearch.search.sql_filter.columns import FilterColumns
from bindsearch.storage.class_columns import (
    MAX_COLUMNS,
    MAX_RECORD_BYTES,
    ClassColumn,
    ClassValues,
    look_up,
    of_collections,
)
from bindsearch.storage.snapshot import Snapshot
from bindsearch.storage.writer import Writer
from bindsearch.types import DOCUMENTED_COLUMNS, Modality, PathLike


@dataclass(frozen=True)
class ColumnRequest:
    """A column to write.

    Attributes:
        name: Name of the column.
        probability: Name of a column of probabilities; None: none, or that of the column as it is.
        classes: The classes; None: those of the column as it is.
        templates: Set of templates or file; None: `general`, or those of the column as it is.
        collections: Names of collections; none: all, or those of the column as it is.
        modality: Modality of the segments to classify; None: that of each item, or that of the column as it is.
    """

    name: str
    probability: str | None = None
    classes: ClassNames | None = None
    templates: PathLike | None = None
    collections: Sequence[str] = ()
    modality: Modality | None = None


@dataclass(frozen=True)
class ColumnReport:
    """Report of writing a column.

    Attributes:
        name: Name of the column.
        probability: Name of the column of probabilities; None if there is none.
        labels: Number of labels.
        replaced: Whether a column of this name with other labels, templates or modality was replaced.
        items: Number of items with a class now.
        classified: Number of items that had none before.
        without_vectors: Number of items without a vector of the modality, which have no class.
        cancelled: Number of items whose vectors cancel each other, which have no class.
        counts: Number of items by label, most frequent first.
        dry_run: Whether nothing was written.
        took_s: Duration in seconds.
    """

    name: str
    probability: str | None
    labels: int
    replaced: bool
    items: int
    classified: int
    without_vectors: int
    cancelled: int
    counts: Mapping[str, int]
    dry_run: bool
    took_s: float


@dataclass(frozen=True)
class ColumnStatus:
    """Status of a column of classes.

    Attributes:
        name: Name of the column.
        probability: Name of the column of probabilities; None if there is none.
        labels: Labels of the classes.
        templates: Templates of their names.
        modality: Modality of the segments that were classified; None: that of each item.
        collections: Roots of the collections whose items have a class; none: all.
        encoder: Name of the encoder.
        digest: Digest of the encoder's weights.
        written: Time when it was last written, UTC.
        items: Number of items with a class.
        missing: Number of items that are new or changed since, and have none yet.
    """

    name: str
    probability: str | None
    labels: tuple[str, ...]
    templates: tuple[str, ...]
    modality: Modality | None
    collections: tuple[Path, ...]
    encoder: str
    digest: str
    written: str
    items: int
    missing: int


def write_column(
    store: Path, encoder: Encoder, request: ColumnRequest, *, dry_run: bool, on_rows: OnRows
) -> ColumnReport:
    """Write a column of classes; see `Store.classify`."""
    started = time.monotonic()
    generation = Reader(store).current()
    before = _named(_columns(generation.snapshot), request.name)
    column = _requested(request, before, generation.snapshot, encoder)
    _check_names(column, generation.snapshot)
    check_prompts(ClassNames(column.labels, column.texts), column.templates, encoder)
    same = before is not None and column.makes_the_same(before)
    known = _values_of(generation.snapshot, column.name) if same else joined_values([])
    values, fresh, cancelled = _values(generation, column, known, encoder, on_rows)
    if not dry_run:
        with locked_catalog(store) as (config, catalog):
            if _named(catalog.class_records().values(), column.name) != before:
                raise StoreError(f"the column {column.name} was changed by another process meanwhile: run it again")
            Writer(store, catalog, config.dim).set_class_columns([(column, values)])
    keys, inside = _keys_of(generation.snapshot, column)
    counts = counts_of(values, keys[inside], column.labels)
    return ColumnReport(
        name=column.name,
        probability=column.probability,
        labels=len(column.labels),
        replaced=before is not None and not same,
        items=sum(counts.values()),
        classified=fresh,
        without_vectors=int(np.count_nonzero(keys[inside] < 0)),
        cancelled=cancelled,
        counts=counts,
        dry_run=dry_run,
        took_s=time.monotonic() - started,
    )


def remove_column(store: Path, name: str) -> None:
    """Remove a column of classes, with its probabilities.

    Raises:
        UsageError: there is no such column.
        StoreNotFoundError: there is no store.
        StoreLockedError: another process is writing.
    """
    with locked_catalog(store) as (config, catalog):
        names = [column.name for column in catalog.class_records().values()]
        if name not in names:
            listed = f"{did_you_mean(name, names)}the columns are {', '.join(names)}" if names else "there is none"
            raise UsageError(f"`classify` has written no column {shown(name)} in {store}: {listed}")
        Writer(store, catalog, config.dim).set_class_columns([], [name])


def carry_columns(
    columns: Iterable[tuple[ClassColumn, Mapping[int, str]]], store: Path, encoder: Encoder, source: str
) -> list[str]:
    """Write the columns of another store into a store, with classes of its own vectors.

    Args:
        columns: Columns, each with the root of each collection of the other store by id.
        store: The store.
        encoder: Encoder of the store.
        source: What the columns are of, for messages.

    Returns:
        A line for each column that cannot be written, with the reason.

    Raises:
        StoreLockedError: another process is writing.
    """
    notices = []
    made: list[tuple[ClassColumn, ClassValues]] = []
    generation = Reader(store).current()
    for column, roots in columns:
        try:
            made.append(_carried(column, roots, generation, encoder))
        except UsageError as error:
            notices.append(f"the column {column.name} of {source} is left out: {error}")
    if made:
        with locked_catalog(store) as (config, catalog):
            Writer(store, catalog, config.dim).set_class_columns(made)
    return notices


def column_status(snapshot: Snapshot) -> list[ColumnStatus]:
    """Return the status of the columns of classes of a snapshot, in the order in which they were written."""
    roots = snapshot.manifest.collections
    kept = ("name", "probability", "labels", "templates", "modality", "encoder", "digest", "written")
    listed = []
    for column in _columns(snapshot):
        keys, inside = _keys_of(snapshot, column)
        _, known = look_up(_values_of(snapshot, column.name), keys[inside])
        collections = tuple(Path(roots[key]) for key in column.collections if key in roots)
        items, missing = np.count_nonzero(known), np.count_nonzero(~known & (keys[inside] >= 0))
        values = {name: getattr(column, name) for name in kept}
        listed.append(ColumnStatus(**values, collections=collections, items=int(items), missing=int(missing)))
    return listed


def missing_notices(snapshot: Snapshot) -> list[str]:
    """Return a line for each column of classes that new or changed items are missing from."""
    notices = []
    for column in filter(lambda column: column.missing, column_status(snapshot)):
        items = "1 item has" if column.missing == 1 else f"{column.missing} items have"
        command = shell_command("classify", "--write-column", column.name)
        notices.append(f"{items} no class in the column {column.name} yet: run `{command}`")
    return notices


def _requested(request: ColumnRequest, before: ClassColumn | None, snapshot: Snapshot, encoder: Encoder) -> ClassColumn:
    """Return the column to write: what the request leaves open is as it was; raise UsageError if it was not there."""
    roots = snapshot.manifest.collections
    named = tuple(sorted({key for name in request.collections for key in collections_named(name, roots)}))
    probability = None if request.probability is None else request.probability.lower()
    if before is not None and probability is None:
        probability = before.probability
    modality = request.modality
    if request.classes is not None:
        labels, texts = request.classes.labels, request.classes.texts
        templates = read_templates(DEFAULT_TEMPLATES if request.templates is None else request.templates)
    elif before is None:
        raise UsageError(f"the store has no column {shown(request.name)} to write again: give labels (--labels a,b,c)")
    elif request.templates is not None or modality is not None:
        raise UsageError(f"other templates or another modality change the column {before.name}: give its labels, too")
    else:
        labels, texts, templates, modality = before.labels, before.texts, before.templates, before.modality
    column = ClassColumn(
        name=request.name.lower(),
        probability=probability,
        labels=labels,
        texts=texts,
        templates=templates,
        modality=modality,
        collections=named,
        encoder=encoder.name,
        digest=encoder.digest,
        written=_now(),
    )
    if before is not None and not named and request.classes is None:
        return replace(column, collections=before.collections)
    if before is None or not named or not column.makes_the_same(before):
        return column
    return replace(column, collections=_either(before.collections, named))


def _carried(
    column: ClassColumn, roots: Mapping[int, str], generation: Generation, encoder: Encoder
) -> tuple[ClassColumn, ClassValues]:
    """Return a column of another store, and its values for the vectors of this one; raise UsageError if it has none."""
    snapshot = generation.snapshot
    ids = {root: key for key, root in snapshot.manifest.collections.items()}
    inside = tuple(sorted(ids[roots[key]] for key in column.collections if roots.get(key) in ids))
    if column.collections and not inside:
        raise UsageError("its collections are not in this store")
    moved = replace(column, collections=inside, encoder=encoder.name, digest=encoder.digest, written=_now())
    before = _named(_columns(snapshot), column.name)
    if before is not None and not moved.makes_the_same(before):
        raise UsageError("the store has another one of this name: remove or rename one of them")
    if before is not None:
        moved = replace(moved, collections=_either(before.collections, inside), probability=before.probability)
    _check_names(moved, snapshot)
    check_prompts(ClassNames(moved.labels, moved.texts), moved.templates, encoder)
    known = _values_of(snapshot, moved.name)
    return moved, _values(generation, moved, known, encoder, ignore_rows)[0]


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _either(before: tuple[int, ...], after: tuple[int, ...]) -> tuple[int, ...]:
    """Return the collections that are in one of two columns; none stands for all."""
    return tuple(sorted({*before, *after})) if before and after else ()


def _named(columns: Iterable[ClassColumn], name: str) -> ClassColumn | None:
    return next((column for column in columns if column.name == name.lower()), None)


def _columns(snapshot: Snapshot) -> Sequence[ClassColumn]:
    return () if snapshot.class_columns is None else [*snapshot.class_columns.columns.values()]


def _values_of(snapshot: Snapshot, name: str) -> ClassValues:
    stored = snapshot.class_columns
    key = None if stored is None else stored.named(name)
    return joined_values([]) if stored is None or key is None else stored.values_of(key)


def _check_names(column: ClassColumn, snapshot: Snapshot) -> None:
    """Check the names of a column, that no other has them, and that columns are not too many; raise UsageError."""
    others = [other for other in _columns(snapshot) if other.name != column.name]
    if len(others) >= MAX_COLUMNS:
        raise UsageError(f"the store has {len(others)} columns of classes: remove one with --remove-column")
    if len(json.dumps(column.to_record())) > MAX_RECORD_BYTES:
        raise UsageError(f"labels and templates exceed {MAX_RECORD_BYTES >> 20} MiB: give fewer or shorter ones")
    if column.probability == column.name:
        raise UsageError(f"the class and its probability have one name, {column.name}: give the probability another")
    declared = {name.lower() for name in FilterColumns(snapshot).user_types}
    written = {name for other in others for name in other.column_names()}
    for name in column.column_names():
        if len(name) > MAX_COLUMN_NAME or not COLUMN_NAME.fullmatch(name):
            form = f"at most {MAX_COLUMN_NAME} letters, digits and underscores, not beginning with a digit"
            raise UsageError(f"{shown(name)} cannot be the name of a column: give {form}")
        if name in DOCUMENTED_COLUMNS:
            raise UsageError(f"{name} is a column that every store has: give another name")
        if name in declared:
            raise UsageError(f"{name} is a column of your own, of sidecars or lists: give another name")
        if name in written:
            raise UsageError(f"{name} is another column that `classify` has written: give another name")


def _keys_of(snapshot: Snapshot, column: ClassColumn) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the vector that the class of each item is stored under, -1: none, and whether an item is to have one."""
    inside = of_collections(column, snapshot.items.column("collection_id").to_numpy())
    return snapshot.class_keys(column.modality), inside if snapshot.item_alive is None else snapshot.item_alive & inside


def _values(
    generation: Generation, column: ClassColumn, known: ClassValues, encoder: Encoder, on_rows: OnRows
) -> tuple[ClassValues, int, int]:
    """Return the values of a column, known and new, how many items had none, and how many have vectors that cancel."""
    keys, inside = _keys_of(generation.snapshot, column)
    _, has_value = look_up(known, keys)
    wanted = np.flatnonzero(inside & ~has_value & (keys >= 0))
    unique, firsts = np.unique(keys[wanted], return_index=True)
    kept = known.at(np.isin(known.vector_ids, keys[inside]))  # of vectors that an item has
    on_rows(0, len(unique))
    if not len(unique):
        return kept, 0, 0
    check_libraries(libraries_of(encoder, Modality.TEXT))
    classes = ClassNames(column.labels, column.texts)
    names = class_vectors(query_encoder(encoder, column.modality), classes, column.templates)
    done = 0

    def count(n: int) -> None:
        nonlocal done
        done += n
        on_rows(done, len(unique))

    scale = partial(logit_scale, encoder)
    fresh, cancelled = classify_items(generation, wanted[firsts], column.modality, names, scale, count)
    return joined_values([kept, fresh]), len(wanted) - cancelled, cancelled
