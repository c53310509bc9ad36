"""Data sets as lists of items, with what a figure over them depends on: classes, split, metric and templates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from bindsearch.encoders.zero_shot import ClassNames
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.media import Media
from bindsearch.types import Modality, Span

MAX_ITEMS = 2_000_000
"""Most items of a data set: the whole of AudioSet."""

_NO_OTHERS: Mapping[Modality, Path] = MappingProxyType({})


class Metric(StrEnum):
    """The figure that a data set is published with."""

    TOP1 = "top1"
    MEAN_CLASS = "mean_class"
    MAP = "mAP"
    RECALL = "recall"


@dataclass(frozen=True, slots=True)
class EvalItem:
    """One example of a data set.

    Attributes:
        path: The file; of an item with `media`, the file that it was read from.
        modality: Modality that it is embedded as.
        labels: Its classes, among the labels of the data set's classes; several if more than one is right.
        captions: Its texts: each finds the item, and is found by it.
        group: Fold, recording or person: items of one group are never on both sides of a split. None: not known.
        span: Seconds of the file; None: the whole of it.
        crop: Left, top, right and bottom in pixels of the upright picture, right and bottom excluded; None: all of it.
        others: Files that show the same in other modalities, each the one match of the item.
        sidecar: What the layout declares about the file, such as the unit of depth; it precedes a sidecar beside it.
        media: The medium itself, where a file holds many items, such as the windows of UCI HAR; None: read the file.
        name: What the item is called in reports; empty: the name of the file.
    """

    path: Path
    modality: Modality
    labels: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    group: str | None = None
    span: Span | None = None
    crop: tuple[int, int, int, int] | None = None
    others: Mapping[Modality, Path] = field(default_factory=lambda: _NO_OTHERS)
    sidecar: Sidecar = Sidecar()  # noqa: RUF009  (frozen)
    media: Media | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set, ready to be embedded.

    Attributes:
        name: Name that it has in DATASETS.
        modality: Modality of its items.
        items: The examples, in the order of its list.
        classes: Its classes; None: it has none, its items are found by captions, `others` or `candidates`.
        metric: The figure that it is published with.
        templates: Name of a built-in set of prompt templates.
        split: Name of the part that was read, such as "test"; "all": the whole.
        folds: Groups whose figures are averaged, in order; empty: one figure over all items.
        candidates: What the items find, relevant if a label is common to both; empty: captions, or `others`.
        listed: Number of items in its list, of which `items` are those with files.
        notes: What was left out, with count and reason, and what was assumed: one short line each.
    """

    name: str
    modality: Modality
    items: tuple[EvalItem, ...]
    classes: ClassNames | None
    metric: Metric
    templates: str = "general"
    split: str = "test"
    folds: tuple[str, ...] = ()
    candidates: tuple[EvalItem, ...] = ()
    listed: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """A data set that can be read: its entry in DATASETS.

    Attributes:
        read: Reads the part of that name from a folder.
        modality: Modality of its items.
        metric: The figure that it is published with.
        summary: One line: what it is.
        layout: What is expected in its folder, as it is published.
        origin: Where it is from.
        licence: Its licence, in short.
        splits: Names of its parts, first the one that is measured if none is named; empty: any, as its list has.
    """

    read: Callable[[Path, str], DataSet]
    modality: Modality
    metric: Metric
    summary: str
    layout: str
    origin: str
    licence: str
    splits: tuple[str, ...] = ()
