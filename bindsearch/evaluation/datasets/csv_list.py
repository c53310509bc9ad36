"""Lists of one's own: a CSV of paths with labels or captions.

Columns, besides `path`, which is relative to the folder of the list:
    label: class of the item; several are separated by |.
    caption: text about it; several rows of one path are several captions.
    modality: text, image, video, audio, depth, thermal or imu; without it the extension decides.
    fold, group: fold of a cross-validation; recording or person. `fold` counts if both are there.
    split: name of the part that the row belongs to.
    start_s, end_s: seconds of the file that are measured.
    image_path, audio_path, ...: file that shows the same in another modality; rgb_path, visible_path: image_path.
A file `classes.csv` beside the list, with the columns label and name, gives classes other names than their labels, or
several, a row each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from bindsearch.encoders.zero_shot import ClassNames
from bindsearch.errors import UsageError
from bindsearch.evaluation.datasets.dataset import DataSet, EvalItem, Metric
from bindsearch.evaluation.datasets.entries import assemble, classes_of, in_order, path_inside
from bindsearch.evaluation.datasets.tables import LayoutError, find, read_table, to_span
from bindsearch.ingest.media.kinds import EXTENSIONS
from bindsearch.types import Modality, Span

LIST_NAMES = ("labels.csv", "captions.csv", "list.csv")
CLASSES_NAME = "classes.csv"
ALL = "all"
"""The split that is every row."""

TEMPLATES: Mapping[Modality, str] = {Modality.AUDIO: "sound", Modality.IMU: "motion"}
"""Sets of templates of modalities that are not described as pictures are."""

_OTHERS: Mapping[str, Modality] = {
    **{f"{modality}_path": modality for modality in Modality},
    "rgb_path": Modality.IMAGE,
    "visible_path": Modality.IMAGE,
}


def read_csv(folder: Path, split: str) -> DataSet:
    """Return the data set of a list, or of the one list in a folder.

    Raises:
        UsageError: there is no list, or it has errors.
    """
    return read_list("csv", folder if folder.is_file() else find(folder, *LIST_NAMES), split)


def read_list(
    name: str, path: Path, split: str = ALL, *, modality: Modality | None = None, label: str = "label", texts: str = ""
) -> DataSet:
    """Return the data set of a list.

    Args:
        name: Name of the data set.
        path: The list; the files are beside it.
        split: Name in the column `split`.
        modality: Modality of its items; None: as the column or the extension tell.
        label: Column of the labels.
        texts: Column with the name of the class in words; empty: the label tells.

    Raises:
        UsageError: the list has errors, or the split or all files are missing.
    """
    rows = list(read_table(path, ("path", *([texts, label] if texts else []))))
    rows = _of_split(rows, split, path)
    if not any(column in row for row in rows[:1] for column in (label, "caption", *_OTHERS)):
        raise UsageError(f"{path} has neither a column 'label' nor 'caption': add one of them")
    items = _items(rows, path, label, modality)
    kind, *more = sorted({item.modality for item in items})
    if more:
        named = " and ".join([kind, *more])
        raise UsageError(f"{path} has items of {named}: give each modality a list of its own")
    classes = _classes(rows, path, label, texts)
    metric = Metric.MAP if any(len(item.labels) > 1 for item in items) else Metric.TOP1
    metric = Metric.RECALL if classes is None else metric
    folds = in_order(row["fold"] for row in rows if row.get("fold"))
    templates = TEMPLATES.get(kind, "general") if classes else "none"
    return assemble(name, kind, items, metric, classes=classes, templates=templates, split=split, folds=folds)


def _of_split(rows: list[Mapping[str, str]], split: str, path: Path) -> list[Mapping[str, str]]:
    """Return the rows of a split."""
    if not rows:
        raise LayoutError(f"{path.name} has no rows")
    if split == ALL:
        return rows
    names = in_order(row["split"] for row in rows if row.get("split"))
    if split not in names:
        known = f"choose from {', '.join(names)}" if names else "it has no column split"
        raise UsageError(f"{path} has no rows of the split {split!r}: {known}")
    return [row for row in rows if row["split"] == split]


def _items(rows: Iterable[Mapping[str, str]], path: Path, label: str, modality: Modality | None) -> list[EvalItem]:
    """Return the items of rows: rows of one file, span and modality are one item."""
    found: dict[tuple[Path, Modality, Span | None], EvalItem] = {}
    for row in rows:
        file = path_inside(path.parent, row["path"])
        kind = modality or _modality(row, file, path)
        key = (file, kind, _span(row, path))
        given = [(column, other) for column, other in _OTHERS.items() if row.get(column) and other is not kind]
        others = {other: path_inside(path.parent, row[column]) for column, other in given}
        group = row.get("fold") or row.get("group") or None
        item = found.get(key) or EvalItem(file, kind, group=group, span=key[2])
        labels = tuple(dict.fromkeys((*item.labels, *_labels(row, label))))
        captions = tuple(dict.fromkeys((*item.captions, *filter(None, [row.get("caption")]))))
        found[key] = replace(item, labels=labels, captions=captions, others={**item.others, **others})
    return list(found.values())


def _labels(row: Mapping[str, str], label: str) -> list[str]:
    return [part.strip() for part in row.get(label, "").split("|") if part.strip()]


def _modality(row: Mapping[str, str], file: Path, path: Path) -> Modality:
    """Return the modality of a row; raise UsageError if it is unknown."""
    word = row.get("modality") or EXTENSIONS.get(file.suffix.lower())
    if word not in tuple(Modality):
        shown = f"modality is {word!r}" if word else f"the modality of {row['path']!r} is not known by its name"
        raise UsageError(f"{path}: {shown}: give a column modality with one of {', '.join(Modality)}")
    return Modality(word)


def _span(row: Mapping[str, str], path: Path) -> Span | None:
    """Return the span of a row; None: the whole file; raise UsageError if it is not one."""
    start, end = row.get("start_s", ""), row.get("end_s", "")
    if bool(start) != bool(end):
        raise UsageError(f"{path}: {row['path']!r} has only one of start_s and end_s: give both, or none")
    return to_span(start, end, path, row["path"]) if start else None


def _classes(rows: Iterable[Mapping[str, str]], path: Path, label: str, texts: str) -> ClassNames | None:
    """Return the classes of a list; None if it has no labels."""
    names: dict[str, list[str]] = {}
    labels = []
    for row in rows:
        for one in _labels(row, label):
            labels.append(one)
            if texts and row[texts] not in names.setdefault(one, []):
                names[one].append(row[texts])
    beside = path.with_name(CLASSES_NAME)
    if beside.is_file() and beside != path and labels:
        for row in read_table(beside, ("label", "name")):
            names.setdefault(row["label"], []).append(row["name"])
            labels.append(row["label"])
    return classes_of(labels, names) if labels else None
