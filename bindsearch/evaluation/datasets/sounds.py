"""Sounds: ESC-50 and ESC-10, UrbanSound8K, Clotho, AudioCaps, and sounds that find photographs of what makes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from bindsearch.errors import UsageError
from bindsearch.evaluation.datasets.csv_list import ALL, read_list
from bindsearch.evaluation.datasets.dataset import DataSet, EvalItem, Metric
from bindsearch.evaluation.datasets.entries import (
    Entry,
    LeftOut,
    assemble,
    classes_of,
    clip_file,
    in_order,
    in_words,
    media_below,
    path_inside,
    pictures_in,
)
from bindsearch.evaluation.datasets.tables import find, read_table, to_seconds
from bindsearch.types import Modality

_FOLDED_LIST = "labels.csv"
"""List of a part of a data set with columns path, label and fold."""

STRONG = "-strong"
"""End of the name of a split that leaves out photographs that show the subject only loosely."""


def read_esc50(folder: Path, split: str) -> DataSet:
    """Return ESC-50 (Piczak 2015), 2000 clips in five folds; `split` is "all" or "fold1" to "fold5"."""
    return _folded("esc50", _esc_rows(folder), split)


def read_esc10(folder: Path, split: str) -> DataSet:
    """Return the ten classes of ESC-50 that are ESC-10, or a list of a part of it."""
    if (folder / _FOLDED_LIST).is_file():
        return _folded("esc10", _listed_rows(folder), split)
    return _folded("esc10", [row for row in _esc_rows(folder) if row["esc10"].lower() == "true"], split)


def read_urbansound8k(folder: Path, split: str) -> DataSet:
    """Return UrbanSound8K (Salamon et al. 2014), ten folds, or a list of a part of it."""
    if (folder / _FOLDED_LIST).is_file():
        return _folded("urbansound8k", _listed_rows(folder), split)
    table = find(folder, "metadata/UrbanSound8K.csv", "UrbanSound8K.csv")
    sounds = find(folder, "audio")
    rows = [
        {**row, "path": str(path_inside(sounds, f"fold{row['fold']}/{row['slice_file_name']}")), "label": row["class"]}
        for row in read_table(table, ("slice_file_name", "fold", "class"))
    ]
    return _folded("urbansound8k", rows, split)


def _esc_rows(folder: Path) -> list[Mapping[str, str]]:
    """Return the rows of ESC-50 with its paths and labels."""
    table = find(folder, "meta/esc50.csv", "esc50.csv")
    sounds = find(folder, "audio")
    return [
        {**row, "path": str(path_inside(sounds, row["filename"])), "label": row["category"]}
        for row in read_table(table, ("filename", "fold", "category", "esc10"))
    ]


def _listed_rows(folder: Path) -> list[Mapping[str, str]]:
    """Return the rows of a list with folds."""
    rows = read_table(folder / _FOLDED_LIST, ("path", "label", "fold"))
    return [
        {**row, "path": str(path_inside(folder, row["path"])), "fold": row["fold"].removeprefix("fold")} for row in rows
    ]


def _folded(name: str, rows: Iterable[Mapping[str, str]], split: str) -> DataSet:
    """Return a data set with folds, of rows with path, label and fold; the classes are those of all folds."""
    rows = list(rows)
    used = [row for row in rows if split in (ALL, f"fold{row['fold']}")]
    entries = [EvalItem(Path(row["path"]), Modality.AUDIO, labels=(row["label"],), group=row["fold"]) for row in used]
    classes, folds = classes_of(row["label"] for row in rows) if rows else None, in_order(row["fold"] for row in used)
    return assemble(
        name, Modality.AUDIO, entries, Metric.TOP1, classes=classes, templates="sound", split=split, folds=folds
    )


def read_clotho(folder: Path, split: str) -> DataSet:
    """Return Clotho (Drossos et al. 2020): sounds of 15 to 30 s with five captions each."""
    table = find(folder, f"clotho_captions_{split}.csv")
    sounds = find(folder, split, f"clotho_audio_{split}")
    columns = tuple(f"caption_{number}" for number in range(1, 6))
    entries = []
    for row in read_table(table, ("file_name", *columns)):
        captions = tuple(dict.fromkeys(row[name] for name in columns if row[name]))
        entries.append(EvalItem(path_inside(sounds, row["file_name"]), Modality.AUDIO, captions=captions))
    return assemble("clotho", Modality.AUDIO, entries, Metric.RECALL, split=split)


def read_audiocaps(folder: Path, split: str) -> DataSet:
    """Return AudioCaps (Kim et al. 2019): clips of 10 s of AudioSet, in the test part with five captions each."""
    table = find(folder, f"{split}.csv", f"audiocaps_{split}.csv", f"dataset/{split}.csv")
    files = media_below(folder, Modality.AUDIO)
    captions: dict[tuple[str, float], list[str]] = {}
    for row in read_table(table, ("youtube_id", "start_time", "caption")):
        key = (row["youtube_id"], to_seconds(row["start_time"], table, "start_time"))
        captions.setdefault(key, []).append(row["caption"])
    entries: list[Entry] = []
    for (clip, start_s), texts in captions.items():
        path = clip_file(files, clip, start_s)
        entries.append(LeftOut(clip) if path is None else EvalItem(path, Modality.AUDIO, captions=(*texts,), name=clip))
    return assemble("audiocaps", Modality.AUDIO, entries, Metric.RECALL, split=split)


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
    entries: list[Entry] = []
    for item in sounds.items:
        label, why = in_words(item.labels[0]), "no photograph shows what makes its sound"
        entries.append(replace(item, labels=(label,)) if label in shown else LeftOut(item.path.name, why))
    name, notes = "sound-to-picture", sounds.notes
    return assemble(name, Modality.AUDIO, entries, Metric.RECALL, split=split, candidates=candidates, notes=notes)
