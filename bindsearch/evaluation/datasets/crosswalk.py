"""Sounds that find photographs of what makes them, by a list of which photographs show the subject of a sound."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bindsearch.errors import UsageError
from bindsearch.evaluation.datasets.csv_list import read_list
from bindsearch.evaluation.datasets.dataset import DataSet, EvalItem, Metric
from bindsearch.evaluation.datasets.entries import LeftOut, assemble, in_words, path_inside, pictures_in
from bindsearch.evaluation.datasets.tables import find, read_table
from bindsearch.types import Modality

STRONG = "-strong"
"""End of the name of a split that leaves out photographs that show the subject only loosely."""


def read_sound_to_picture(folder: Path, split: str) -> DataSet:
    """Return the sounds of `audio_<split>`, and all photographs beside the listed ones as candidates.

    A photograph has the labels of the sounds that it is listed for. Sounds without a photograph are left out.
    """
    table = find(folder, "audio_image_crosswalk.csv")
    sounds = read_list("sound-to-picture", find(folder, f"audio_{split.removesuffix(STRONG)}/labels.csv"))
    listed: dict[Path, list[str]] = {}
    for row in read_table(table, ("audio_label", "image_path", "strength")):
        path = path_inside(folder, row["image_path"])
        labels = listed.setdefault(path, [])
        if row["strength"] == "strong" or not split.endswith(STRONG):
            labels.append(in_words(row["audio_label"]))
    missing = next((path for path in listed if not path.is_file()), None)
    if missing is not None:
        raise UsageError(f"{missing}, which {table.name} lists, is missing: unpack the photographs beside it")
    photos = dict.fromkeys(path for parent in {path.parent: 0 for path in listed} for path in pictures_in(parent))
    candidates = tuple(EvalItem(path, Modality.IMAGE, labels=tuple(listed.get(path, ()))) for path in photos)
    shown = {label for item in candidates for label in item.labels}
    entries = [
        replace(item, labels=(in_words(item.labels[0]),))
        if in_words(item.labels[0]) in shown
        else LeftOut(item.path.name, "no photograph shows what makes its sound")
        for item in sounds.items
    ]
    return assemble(
        "sound-to-picture",
        Modality.AUDIO,
        entries,
        Metric.RECALL,
        split=split,
        candidates=candidates,
        notes=sounds.notes,
    )
