"""Photographs: ImageNet, Places365, Flickr8k, COCO captions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bindsearch.encoders.zero_shot import ClassNames
from bindsearch.errors import UsageError
from bindsearch.evaluation.datasets.csv_list import ALL, read_list
from bindsearch.evaluation.datasets.dataset import DataSet, EvalItem, Metric
from bindsearch.evaluation.datasets.entries import assemble, in_words, path_inside, pictures_in
from bindsearch.evaluation.datasets.tables import (
    LayoutError,
    find,
    read_json_list,
    read_lines,
    read_list_text,
    read_table,
)
from bindsearch.types import Modality

_NO_SPLITS = "the list has no splits: all of it is measured"
_WNID = re.compile(r"n\d{8}", re.ASCII)
_CLASS_FILES = ("classes.csv", "LOC_synset_mapping.txt", "imagenet_class_index.json")


def read_imagenet(folder: Path, split: str) -> DataSet:
    """Return ImageNet (Deng et al. 2009): a folder a class, named by its WordNet id or in words.

    Names of WordNet ids are those of a class file, else those with which CLIP was published.
    """
    if (folder / "labels.csv").is_file() and not (folder / split).is_dir():
        data_set = read_list("imagenet", folder / "labels.csv", modality=Modality.IMAGE, label="wnid", texts="label")
        return replace(data_set, templates="imagenet", notes=(_NO_SPLITS, *data_set.notes))
    root = find(folder, split)
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    if not folders:
        raise LayoutError(f"{split} has no folder a class (sort flat pictures into folders first)")
    names, source = _class_names(folder)
    labels = [path.name for path in folders]
    unknown = [label for label in labels if _WNID.fullmatch(label) and label not in names]
    if unknown:
        raise UsageError(f"{folder}: the class {unknown[0]} has no name: give {' or '.join(_CLASS_FILES)}")
    texts = tuple(names.get(label, (in_words(label),)) for label in labels)
    entries = [EvalItem(path, Modality.IMAGE, labels=(one.name,)) for one in folders for path in pictures_in(one)]
    classes = ClassNames(tuple(labels), texts)
    notes = [f"names of the classes: {source}"] if any(map(_WNID.fullmatch, labels)) else []
    how = "imagenet", Modality.IMAGE, entries, Metric.TOP1
    return assemble(*how, classes=classes, templates="imagenet", split=split, notes=notes)


def _class_names(folder: Path) -> tuple[Mapping[str, tuple[str, ...]], str]:
    """Return the names of WordNet ids, and where they are from."""
    path = next((folder / name for name in _CLASS_FILES if (folder / name).is_file()), None)
    if path is None:
        from bindsearch.encoders.mini.class_prototypes import read_classes

        return {row.wnid: (row.curated_name,) for row in read_classes()}, "those that CLIP was published with"
    names: dict[str, tuple[str, ...]] = {}
    if path.suffix == ".csv":
        for row in read_table(path, ("label", "name")):
            names[row["label"]] = (*names.get(row["label"], ()), row["name"])
    elif path.suffix == ".json":
        for value in read_json_list(path).values():
            if not isinstance(value, list) or len(value) != 2 or not all(isinstance(part, str) for part in value):
                raise UsageError(f'{path} is not a class index: expected values such as ["n01440764", "tench"]')
            names[value[0]] = (in_words(value[1]),)
    else:
        for line in read_lines(path):
            label, _, rest = line.partition(" ")
            names[label] = (rest.partition(",")[0],)
    return names, path.name


def read_places365(folder: Path, split: str) -> DataSet:
    """Return the validation part of Places365 (Zhou et al. 2017)."""
    categories = find(folder, "categories_places365.txt")
    listed = find(folder, f"places365_{split}.txt")
    root = find(folder, f"{split}_256", f"{split}_large")
    labels = {number: name for name, number in _pairs(categories)}
    entries = []
    for name, number in _pairs(listed):
        if number not in labels:
            raise UsageError(f"{listed}: {name!r} has the class {number}, which {categories.name} does not list")
        entries.append(EvalItem(path_inside(root, name.lstrip("/")), Modality.IMAGE, labels=(labels[number],)))
    texts = tuple((in_words(name.removeprefix("/")[2:].replace("/", " ")),) for name in labels.values())
    classes = ClassNames(tuple(labels.values()), texts) if labels else None
    return assemble(
        "places365", Modality.IMAGE, entries, Metric.TOP1, classes=classes, templates="general", split=split
    )


def _pairs(path: Path) -> list[tuple[str, str]]:
    """Return name and number of each line; raise UsageError if one has another form."""
    pairs = []
    for number, line in enumerate(read_lines(path), 1):
        name, _, index = line.rpartition(" ")
        if not name or not index.isdigit():
            raise UsageError(f"{path}, line {number}: expected a name and a number with a space between")
        pairs.append((name.strip(), index))
    return pairs


def read_flickr8k(folder: Path, split: str) -> DataSet:
    """Return Flickr8k (Hodosh et al. 2013): photographs with five captions each."""
    if (folder / "captions.csv").is_file():
        data_set = read_list("flickr8k", folder / "captions.csv", modality=Modality.IMAGE)
        return replace(data_set, notes=(_NO_SPLITS, *data_set.notes))
    tokens = find(folder, "Flickr8k.token.txt", "Flickr8k_text/Flickr8k.token.txt", "captions.txt")
    root = find(folder, "Flicker8k_Dataset", "Flickr8k_Dataset", "Images", "images")
    captions: dict[str, list[str]] = {}
    for name, caption in _captions(tokens):
        captions.setdefault(name, []).append(caption)
    if split == ALL:
        names = list(captions)
    else:
        listed = f"Flickr_8k.{split}Images.txt"
        names = read_lines(find(folder, listed, f"Flickr8k_text/{listed}"))
    without = next((name for name in names if name not in captions), None)
    if without is not None:
        raise UsageError(f"{tokens} has no caption of {without!r}, which the list of the split names")
    entries = [EvalItem(path_inside(root, name), Modality.IMAGE, captions=(*captions[name],)) for name in names]
    return assemble("flickr8k", Modality.IMAGE, entries, Metric.RECALL, split=split)


def _captions(path: Path) -> list[tuple[str, str]]:
    """Return picture and caption of each line of Flickr8k's tokens, or of the table image,caption."""
    if path.name == "captions.txt":
        return [(row["image"], row["caption"]) for row in read_table(path, ("image", "caption"))]
    found = []
    for number, line in enumerate(read_list_text(path).splitlines(), 1):
        if not line.strip():
            continue
        name, tab, caption = line.partition("\t")
        if not tab or "#" not in name:
            raise UsageError(f"{path}, line {number}: expected <picture>#<number>, a tab and the caption")
        found.append((name.rpartition("#")[0], caption.strip()))
    return found


def read_coco(folder: Path, split: str) -> DataSet:
    """Return the captions of COCO's val2017 (Lin et al. 2014; Chen et al. 2015)."""
    path = find(folder, f"annotations/captions_{split}2017.json", f"captions_{split}2017.json")
    root = find(folder, f"{split}2017", f"images/{split}2017")
    content = read_json_list(path)
    pictures = _records(content, "images", ("id", "file_name"), path)
    names = {record["id"]: str(record["file_name"]) for record in pictures}
    captions: dict[object, list[str]] = {}
    for record in _records(content, "annotations", ("image_id", "caption"), path):
        captions.setdefault(record["image_id"], []).append(str(record["caption"]).strip())
    entries = [
        EvalItem(path_inside(root, name), Modality.IMAGE, captions=(*captions.get(number, ()),))
        for number, name in names.items()
    ]
    return assemble("coco", Modality.IMAGE, entries, Metric.RECALL, split=split)


def _records(
    content: Mapping[str, object], key: str, fields: tuple[str, ...], path: Path
) -> list[Mapping[str, object]]:
    """Return the records of COCO's JSON; raise UsageError if one has another form."""
    records = content.get(key)
    if not isinstance(records, list):
        raise UsageError(f"{path} has no list {key!r}: expected COCO's captions")
    for record in records:
        if not isinstance(record, dict) or not all(isinstance(record.get(name), str | int) for name in fields):
            raise UsageError(f"{path} has a record of {key!r} without {' and '.join(fields)}: expected COCO's captions")
    return records
