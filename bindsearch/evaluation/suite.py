"""Suites: several data sets with what is wanted of their figures, as a file in TOML.

title = "Quality of mini"

[[sets]]
title = "sounds of fold 4"
set = "esc10"                 # name of a data set, see `bindsearch eval sets`
folder = "audio_esc10"        # below --data; a list of one's own: set = "csv", folder = "sounds/labels.csv"
split = "all"
groups = ["4"]                # only items of these groups; default: all
templates = "none"
measure = ["zero-shot"]       # default: everything that the data allow
names_find_items = true       # the names of classes are captions of their items
at_least = {"audio -> name of the class, top-1" = 0.8}
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bindsearch.arguments import did_you_mean
from bindsearch.errors import UsageError
from bindsearch.evaluation.datasets.dataset import DataSet, Metric
from bindsearch.evaluation.datasets.registry import read_dataset
from bindsearch.evaluation.results import Kind, SetResult
from bindsearch.small_files import read_small_file

MAX_BYTES = 1 << 20
MAX_SETS = 200


@dataclass(frozen=True, slots=True)
class SuiteSet:
    """One entry of a suite.

    Attributes:
        set: Name of the data set in DATASETS.
        folder: Its folder below the folder of data.
        title: What it is called in the report; empty: the name of the data set.
        split: Part of it; None: the one that is published.
        groups: Groups whose items are measured; empty: all.
        templates: Set of templates; None: that of the data set.
        measure: Kinds of measurements.
        names_find_items: Whether the names of classes are captions of their items, instead of classes.
        at_least: Least value of figures, by title of the measurement and name of the figure.
    """

    set: str
    folder: str
    title: str = ""
    split: str | None = None
    groups: tuple[str, ...] = ()
    templates: str | None = None
    measure: frozenset[Kind] = frozenset(Kind)
    names_find_items: bool = False
    at_least: Mapping[str, float] = field(default_factory=dict)


def read_suite(path: Path) -> tuple[str, tuple[SuiteSet, ...]]:
    """Return the title of a suite and its entries.

    Raises:
        UsageError: the file cannot be read, is not TOML, or has wrong keys or values.
    """
    try:
        content: dict[str, Any] = tomllib.loads(read_small_file(path, MAX_BYTES).decode("utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a suite in TOML: {error}") from error
    sets = content.get("sets")
    if not isinstance(sets, list) or not 1 <= len(sets) <= MAX_SETS or not all(isinstance(one, dict) for one in sets):
        raise UsageError(f"{path} has no list of sets: write 1 to {MAX_SETS} tables [[sets]]")
    if unknown := content.keys() - {"title", "sets"}:
        raise UsageError(f"{path}: unknown key {min(unknown)!r}: choose from title, sets")
    return str(content.get("title", path.stem)), tuple(_entry(path, number, one) for number, one in enumerate(sets, 1))


def read_entry(entry: SuiteSet, folder: Path) -> DataSet:
    """Return the data set of an entry.

    Args:
        entry: The entry.
        folder: Folder of the data.

    Raises:
        UsageError: as for `read_dataset`, or no item is in the groups.
    """
    data = read_dataset(entry.set, folder / entry.folder, entry.split)
    if entry.groups:
        items = tuple(item for item in data.items if item.group in entry.groups)
        if not items:
            raise UsageError(f"{entry.title or entry.set}: no item is in the groups {', '.join(entry.groups)}")
        note = f"groups {', '.join(entry.groups)} alone"
        data = replace(data, items=items, listed=len(items), folds=(), notes=(*data.notes, note))
    if entry.names_find_items and data.classes is not None:
        names = dict(zip(data.classes.labels, data.classes.texts, strict=True))
        captions = [[name for label in item.labels for name in names.get(label, ())] for item in data.items]
        named = zip(data.items, captions, strict=True)
        items = tuple(replace(item, labels=(), captions=tuple(own)) for item, own in named)
        data = replace(data, items=items, classes=None, metric=Metric.RECALL)
    return replace(data, name=entry.title or data.name)


def with_least(result: SetResult, entry: SuiteSet) -> SetResult:
    """Return a result with what is wanted of its figures.

    Raises:
        UsageError: the entry wants something of a figure that there is not.
    """
    names = {f"{part.title}, {figure.name}" for part in result.measurements for figure in part.figures}
    if unknown := entry.at_least.keys() - names:
        name = min(unknown)
        raise UsageError(f"{result.name} has no figure {name!r}: {did_you_mean(name, sorted(names))}see its report")
    measurements = []
    for part in result.measurements:
        least = [entry.at_least.get(f"{part.title}, {figure.name}") for figure in part.figures]
        figures = tuple(replace(figure, least=one) for figure, one in zip(part.figures, least, strict=True))
        measurements.append(replace(part, figures=figures))
    return replace(result, measurements=tuple(measurements))


_TYPES: Mapping[str, type] = {
    **dict.fromkeys(("set", "folder", "title", "split"), str),
    **{"groups": list, "templates": str, "measure": list, "names_find_items": bool, "at_least": dict},
}


def _entry(path: Path, number: int, record: Mapping[str, Any]) -> SuiteSet:
    """Return an entry of a suite; raise UsageError if it has unknown keys, lacks one, or has a wrong value."""
    where = f"{path}, set {number}"
    for key, value in record.items():
        if key not in _TYPES:
            near = did_you_mean(key, _TYPES)
            raise UsageError(f"{where}: unknown key {key!r}: {near}choose from {', '.join(_TYPES)}")
        if not isinstance(value, _TYPES[key]):
            raise UsageError(f"{where}: {key} is {value!r}: see `bindsearch eval --help` for an example")
    if missing := {"set", "folder"} - record.keys():
        raise UsageError(f"{where} has no {' and no '.join(sorted(missing))}")
    kinds = record.get("measure", list(Kind))
    if unknown := [kind for kind in kinds if kind not in list(Kind)]:
        raise UsageError(f"{where}: unknown kind {unknown[0]!r}: choose from {', '.join(Kind)}")
    at_least = record.get("at_least", {})
    if not all(isinstance(value, int | float) for value in at_least.values()):
        raise UsageError(f"{where}: at_least has a value that is not a number")
    converted = {
        "groups": tuple(map(str, record.get("groups", ()))),
        "measure": frozenset(map(Kind, kinds)),
        "at_least": {name: float(value) for name, value in at_least.items()},
    }
    return SuiteSet(**{**record, **converted})
