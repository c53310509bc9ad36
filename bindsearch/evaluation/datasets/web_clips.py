"""Clips of YouTube, of which some are gone: AudioSet, VGGSound, Kinetics, MSR-VTT."""

from __future__ import annotations

from pathlib import Path

from bindsearch.encoders.zero_shot import ClassNames
from bindsearch.errors import UsageError
from bindsearch.evaluation.datasets.dataset import DataSet, EvalItem, Metric
from bindsearch.evaluation.datasets.entries import Entry, LeftOut, assemble, classes_of, clip_file, media_below
from bindsearch.evaluation.datasets.tables import find, read_table, to_seconds
from bindsearch.types import Modality

_SEGMENTS = {"eval": "eval_segments", "train": "balanced_train_segments"}
_KINETICS_VALIDATION = ("val", "validate")


def read_audioset(folder: Path, split: str) -> DataSet:
    """Return AudioSet (Gemmeke et al. 2017), 527 classes, several a clip."""
    table = find(folder, f"{_SEGMENTS[split]}.csv")
    words = find(folder, "class_labels_indices.csv")
    names = {row["mid"]: row["display_name"] for row in read_table(words, ("mid", "display_name"))}
    files = media_below(folder, Modality.AUDIO)
    entries: list[Entry] = []
    for row in read_table(table, (), columns=("YTID", "start", "end", "labels"), comment="#", skip_spaces=True):
        labels = tuple(label.strip() for label in row["labels"].split(",") if label.strip())
        unknown = next((label for label in labels if label not in names), None)
        if unknown is not None:
            raise UsageError(f"{table}: the label {unknown!r} is not in {words.name}: give the list of this version")
        path = clip_file(files, row["YTID"], to_seconds(row["start"], table, "start"))
        item = LeftOut(row["YTID"]) if path is None else EvalItem(path, Modality.AUDIO, labels=labels, name=row["YTID"])
        entries.append(item)
    classes = ClassNames(tuple(names), tuple((name.lower(),) for name in names.values()))
    return assemble("audioset", Modality.AUDIO, entries, Metric.MAP, classes=classes, templates="sound", split=split)


def read_vggsound(folder: Path, split: str) -> DataSet:
    """Return VGGSound (Chen et al. 2020), clips of 10 s; the sound of videos is used."""
    table = find(folder, "vggsound.csv")
    rows = list(read_table(table, (), columns=("id", "start", "label", "split")))
    files = media_below(folder, Modality.AUDIO)
    entries: list[Entry] = []
    for row in rows:
        if row["split"] == split:
            path = clip_file(files, row["id"], to_seconds(row["start"], table, "start"))
            labels, clip, named = (row["label"],), row["id"], f"{row['id']}_{row['start']}"
            item = None if path is None else EvalItem(path, Modality.AUDIO, labels=labels, group=clip, name=named)
            entries.append(item or LeftOut(named))
    classes = classes_of(row["label"] for row in rows) if rows else None
    return assemble("vggsound", Modality.AUDIO, entries, Metric.TOP1, classes=classes, templates="sound", split=split)


def read_kinetics(folder: Path, split: str) -> DataSet:
    """Return Kinetics (Kay et al. 2017) with 400, 600 or 700 classes, as its list has."""
    names = _KINETICS_VALIDATION if split == "val" else (split,)
    table = find(folder, *(f"{place}{name}.csv" for name in names for place in ("", "annotations/")))
    rows = list(read_table(table, ("label", "youtube_id", "time_start", "time_end")))
    files = media_below(folder, Modality.VIDEO)
    entries: list[Entry] = []
    for row in rows:
        start_s, end_s = (to_seconds(row[name], table, name) for name in ("time_start", "time_end"))
        path = clip_file(files, row["youtube_id"], start_s, end_s - start_s)
        labels, clip = (row["label"].strip('"'),), row["youtube_id"]
        entries.append(LeftOut(clip) if path is None else EvalItem(path, Modality.VIDEO, labels=labels, name=clip))
    classes = classes_of(row["label"].strip('"') for row in rows) if rows else None
    return assemble("kinetics", Modality.VIDEO, entries, Metric.TOP1, classes=classes, templates="general", split=split)


def read_msrvtt(folder: Path, split: str) -> DataSet:
    """Return MSR-VTT 1k-A (Xu et al. 2016; Yu et al. 2018): 1000 videos with one caption each."""
    table = find(folder, "MSRVTT_JSFUSION_test.csv", "msrvtt_data/MSRVTT_JSFUSION_test.csv")
    files = media_below(folder, Modality.VIDEO)
    entries: list[Entry] = []
    for row in read_table(table, ("video_id", "sentence")):
        path, texts = files.get(row["video_id"]), (row["sentence"],)
        entries.append(EvalItem(path, Modality.VIDEO, captions=texts) if path else LeftOut(row["video_id"]))
    return assemble("msrvtt", Modality.VIDEO, entries, Metric.RECALL, split=split)
