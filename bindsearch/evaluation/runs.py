"""Whole runs of `bindsearch eval`: one data set, those of the paper, a suite, or a store."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bindsearch.encoders.base import encode_media
from bindsearch.encoders.registry import shipped_calibration
from bindsearch.errors import StoreError, UsageError
from bindsearch.evaluation.datasets.csv_list import read_list
from bindsearch.evaluation.datasets.registry import DATASETS, read_dataset
from bindsearch.evaluation.engine import QUERIES, measure_engine
from bindsearch.evaluation.linear_probe import SHOTS
from bindsearch.evaluation.paper import FEW_SHOT, folders_of_paper, with_published
from bindsearch.evaluation.report.data import LeftOutSet, Report
from bindsearch.evaluation.results import SetResult
from bindsearch.evaluation.suite import read_entry, read_suite, with_least
from bindsearch.evaluation.tasks.geometry import space_of_sets
from bindsearch.evaluation.tasks.measure import Work, measure, sampled
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.media import Passage
from bindsearch.search.scoring.calibration_file import read_calibration
from bindsearch.search.scoring.probability import DEFAULT_MODEL, ProbabilityModel
from bindsearch.storage.config import new_config
from bindsearch.storage.probe_captions import generic_captions
from bindsearch.types import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bindsearch.encoders.base import Encoder
    from bindsearch.search.generation import Generation

SPACE_ROWS = 5000
"""Stored vectors of each modality that the geometry is measured on, an even sample of more."""


def run_set(name: str, folder: Path, work: Work, split: str | None = None, items: int | None = None) -> Report:
    """Measure an encoder on one data set.

    Args:
        name: Its name in DATASETS.
        folder: Its folder.
        work: How it is measured.
        split: Part of it; None: the one that is published.
        items: Number of items, an even sample; None: all.
    """
    started = time.perf_counter()
    data = sampled(read_dataset(name, folder, split), items)
    train = None
    if work.shots and len(data.folds) <= 1:  # with folds, the other ones are trained on
        if "train" not in DATASETS[name].splits or data.split == "train":
            raise UsageError(f"{name} has neither a training part nor folds: leave --shots out")
        train = read_dataset(name, folder, "train")
    result = with_published(measure(data, work, train), name)
    return _report(name, work, (result,), started, {"split": data.split})


def run_list(
    path: Path, work: Work, split: str | None = None, items: int | None = None, modality: Modality | None = None
) -> Report:
    """Measure an encoder on a list of one's own.

    Args:
        path: A CSV of path, and label or caption.
        work: How it is measured.
        split: Value of its column `split`; None: all rows.
        items: Number of items, an even sample; None: all.
        modality: Modality of the files; None: as their column or their names tell.
    """
    started = time.perf_counter()
    data = sampled(read_list(path.stem, path, split or "all", modality=modality), items)
    return _report(path.stem, work, (measure(data, work),), started, {"split": data.split})


def run_paper(folder: Path, work: Work, items: int | None = None) -> Report:
    """Measure an encoder on those data sets of the ImageBind paper that are there.

    Args:
        folder: Folder with a folder for each data set.
        work: How they are measured.
        items: Number of items of each, an even sample; None: all.
    """
    started = time.perf_counter()
    results: list[SetResult] = []
    left_out: list[LeftOutSet] = []
    for name, place in folders_of_paper(folder):
        if place is None:
            left_out.append(LeftOutSet(name, f"no folder {folder / name}, with {DATASETS[name].layout}"))
            continue
        try:
            data = sampled(read_dataset(name, place), items)
            train = read_dataset(name, place, FEW_SHOT[name]) if FEW_SHOT.get(name) else None
            shots = SHOTS if name in FEW_SHOT and items is None else ()
            results.append(with_published(measure(data, replace(work, shots=shots), train), name))
        except UsageError as error:
            left_out.append(LeftOutSet(name, str(error)))
    return _report("ImageBind's protocols", work, tuple(results), started, {}, tuple(left_out))


def run_suite(path: Path, folder: Path, work: Work, items: int | None = None) -> Report:
    """Measure an encoder on the data sets of a suite; those that are missing are left out, with the reason.

    Args:
        path: The suite.
        folder: Folder of the data.
        work: How they are measured.
        items: Number of items of each, an even sample; None: all.
    """
    started = time.perf_counter()
    title, entries = read_suite(path)
    results: list[SetResult] = []
    left_out: list[LeftOutSet] = []
    for entry in entries:
        try:
            data = sampled(read_entry(entry, folder), items)
        except UsageError as error:
            left_out.append(LeftOutSet(entry.title or entry.set, str(error)))
            continue
        kinds = work.kinds & entry.measure
        templates = work.templates or entry.templates
        results.append(with_least(measure(data, replace(work, kinds=kinds, templates=templates)), entry))
    return _report(title, work, tuple(results), started, {}, tuple(left_out))


def run_engine(generation: Generation, work: Work) -> Report:
    """Measure the recall of a store's indexes."""
    started = time.perf_counter()
    encoder = work.encoder

    def captions() -> NDArray[np.float32]:
        return encode_media(encoder, [Passage(caption) for caption in generic_captions()[:QUERIES]])

    found = measure_engine(generation, captions if Modality.TEXT in encoder.modalities else None, work.on_stage)
    if not found:
        raise UsageError("the store has no vectors: index something first")
    return replace(_report("Engine", work, (), started, {}), engine=found)


def run_space(generation: Generation, work: Work) -> Report:
    """Measure the geometry of a store's vectors."""
    started = time.perf_counter()
    partitions = generation.partitions.items()
    vectors = {modality.value: one.sample(SPACE_ROWS)[1] for modality, one in partitions if one.live_rows}
    found = space_of_sets(vectors)
    if not found:
        raise UsageError("the store has fewer than two vectors of any modality: index something first")
    rows = sum(one.live_rows for _, one in partitions)
    seconds, used = time.perf_counter() - started, sum(map(len, vectors.values()))
    result = SetResult("store", ", ".join(vectors), "all", rows, used, tuple(found), seconds=seconds)
    return _report("Space", work, (result,), started, {})


def model_for(encoder: Encoder) -> ProbabilityModel:
    """Return the probabilities of matches that a new store of an encoder has."""
    shipped = shipped_calibration(encoder.name)
    with suppress(StoreError):  # fitted for other weights: a new store has the default too
        if shipped is not None and (model := read_calibration(shipped, new_config(encoder, DecodeOptions()))):
            return model
    return DEFAULT_MODEL


def _report(
    title: str,
    work: Work,
    sets: tuple[SetResult, ...],
    started: float,
    settings: Mapping[str, Any],
    left_out: tuple[LeftOutSet, ...] = (),
) -> Report:
    if left_out and not sets:
        raise UsageError(f"nothing could be measured: {left_out[0].name}: {left_out[0].reason}")
    encoder, lengths = work.encoder, ("audio_segment_s", "video_segment_s", "imu_segment_s")
    own = {
        "templates": None if work.templates is None else str(work.templates),
        "shots": list(work.shots),
        **{name: getattr(work.options, name) for name in lengths},
        "encoder_options": dict(encoder.options),
    }
    about = title, encoder.name, encoder.digest, encoder.dim
    notes = tuple(work.cache.notes) if work.cache is not None else ()
    seconds = time.perf_counter() - started
    return Report(*about, {**own, **settings}, sets, left_out=left_out, notes=notes, seconds=seconds)
