"""Thermal pictures: LLVIP and RoadScene."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from bindsearch.encoders.zero_shot import ClassNames
from bindsearch.errors import UsageError
from bindsearch.evaluation.datasets.dataset import DataSet, EvalItem, Metric
from bindsearch.evaluation.datasets.entries import Entry, LeftOut, assemble, path_inside, pictures_in
from bindsearch.evaluation.datasets.tables import find, read_table
from bindsearch.small_files import read_small_file
from bindsearch.types import Modality

Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels, right and bottom excluded."""

PERSON, BACKGROUND = "person", "background"
_PERSONS = ("person", "man", "woman", "people")
_BACKGROUNDS = ("street", "road", "car", "light", "tree")
"""Names of the two classes, of which the nearest counts (Girdhar et al. 2023, appendix B.3)."""

MIN_SIDE_PX = 16
"""Least width and height of a crop; fewer pixels show no person."""

_TRIES = 200
_MAX_XML_BYTES = 1 << 20
_DECLARATIONS = re.compile(rb"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)
"""Annotations have none; they could expand without limit."""

PERSON_TEXTS = {"person": _PERSONS, "no_person": _BACKGROUNDS}
TIME_TEXTS = {"day": ("day", "a sunny street", "daylight"), "night": ("night", "a dark street", "night time")}


def read_llvip(folder: Path, split: str) -> DataSet:
    """Return crops of persons and of the background of LLVIP (Jia et al. 2021).

    Each person is a crop by its box. Each has a crop of the same size at random in the same picture that overlaps no
    person, drawn with the picture's name as the seed, so that it is the same each time.
    """
    root = find(folder, f"infrared/{split}")
    annotations = find(folder, "Annotations")
    entries = [entry for path in pictures_in(root) for entry in _crops(path, annotations / f"{path.stem}.xml")]
    classes = ClassNames((PERSON, BACKGROUND), (_PERSONS, _BACKGROUNDS))
    return assemble("llvip", Modality.THERMAL, entries, Metric.TOP1, classes=classes, templates="general", split=split)


def _crops(path: Path, annotation: Path) -> Iterator[Entry]:
    """Yield the crops of one picture."""
    if not annotation.is_file():
        yield LeftOut(path.name, "no annotation")
        return
    (width, height), boxes = read_boxes(annotation)
    draw = random.Random(path.stem)
    for number, box in enumerate(boxes):
        if min(box[2] - box[0], box[3] - box[1]) < MIN_SIDE_PX:
            yield LeftOut(f"{path.name}, person {number + 1}", f"a person of less than {MIN_SIDE_PX} pixels")
            continue
        yield _crop(path, PERSON, box)
        place = _place_without(boxes, box, width, height, draw)
        if place is None:
            yield LeftOut(f"{path.name}, person {number + 1}", "no place of its size without persons")
        else:
            yield _crop(path, BACKGROUND, place)


def _crop(path: Path, label: str, box: Box) -> EvalItem:
    name = f"{path.name} at {box[0]},{box[1]}"
    return EvalItem(path, Modality.THERMAL, labels=(label,), group=path.stem, crop=box, name=name)


def _place_without(boxes: Sequence[Box], like: Box, width: int, height: int, draw: random.Random) -> Box | None:
    """Return a box of the size of another that overlaps none of `boxes`; None if none was found."""
    wide, high = like[2] - like[0], like[3] - like[1]
    for _ in range(_TRIES):
        left, top = draw.randint(0, width - wide), draw.randint(0, height - high)
        right, bottom = left + wide, top + high
        if not any(left < box[2] and box[0] < right and top < box[3] and box[1] < bottom for box in boxes):
            return left, top, right, bottom
    return None


def read_boxes(path: Path) -> tuple[tuple[int, int], list[Box]]:
    """Return the size of a picture and the boxes of its persons, clipped to it, of an annotation of PASCAL VOC.

    Raises:
        UsageError: it cannot be read, or has another form.
    """
    try:
        raw = read_small_file(path, _MAX_XML_BYTES)
        if _DECLARATIONS.search(raw.replace(b"\0", b"")):
            raise ValueError("it has declarations")
        root = ElementTree.fromstring(raw)
        width, height = (int(root.findtext(f"size/{side}", "")) for side in ("width", "height"))
        boxes = []
        for thing in root.iter("object"):
            if thing.findtext("name", "").strip() == PERSON:
                names = ("xmin", "ymin", "xmax", "ymax")
                left, top, right, bottom = (round(float(thing.findtext(f"bndbox/{name}", ""))) for name in names)
                boxes.append((max(left, 0), max(top, 0), min(right, width), min(bottom, height)))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ElementTree.ParseError, ValueError, OverflowError, LookupError) as error:
        raise UsageError(f"{path} is not an annotation of PASCAL VOC: {error}") from None
    return (width, height), boxes


def read_roadscene(folder: Path, split: str) -> DataSet:
    """Return RoadScene (Xu et al. 2020): thermal pictures that find the photograph taken with them."""
    columns = ("path", "visible_path")
    if (folder / "labels.csv").is_file():
        rows = read_table(folder / "labels.csv", columns)
        pairs = [tuple(path_inside(folder, row[column]) for column in columns) for row in rows]
    else:
        thermal, visible = find(folder, "cropinfrared"), find(folder, "crop_LR_visible")
        pairs = [(path, visible / path.name) for path in pictures_in(thermal)]
    entries = [EvalItem(path, Modality.THERMAL, others={Modality.IMAGE: photo}) for path, photo in pairs]
    return assemble("roadscene", Modality.THERMAL, entries, Metric.RECALL, split=split)


def read_labelled(folder: Path, split: str, *, name: str, column: str, texts: Mapping[str, tuple[str, ...]]) -> DataSet:
    """Return pictures of RoadScene with labels in a column of a list, of classes with these names."""
    rows = read_table(find(folder, "labels.csv"), ("path", column))
    entries: list[Entry] = [
        EvalItem(path_inside(folder, row["path"]), Modality.THERMAL, labels=(row[column],))
        if row[column] in texts
        else LeftOut(row["path"], f"its {column} is none of {', '.join(texts)}")
        for row in rows
    ]
    classes = ClassNames(tuple(texts), tuple(texts.values()))
    return assemble(
        name, Modality.THERMAL, entries, Metric.MEAN_CLASS, classes=classes, templates="general", split=split
    )
