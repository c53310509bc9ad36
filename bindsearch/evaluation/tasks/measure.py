"""Measurements on a data set, as it allows: classification, retrieval, combinations, few-shot probes, the space."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bindsearch.encoders.base import query_encoder
from bindsearch.encoders.zero_shot import ClassNames, ClassVectors, class_vectors, read_templates
from bindsearch.errors import UsageError
from bindsearch.evaluation.datasets.dataset import DataSet, EvalItem
from bindsearch.evaluation.embedding import Failure, ItemVectors, embed_items, embed_texts
from bindsearch.evaluation.results import Kind, Measurement, SetResult, Setting
from bindsearch.evaluation.tasks.calibration import calibration
from bindsearch.evaluation.tasks.few_shot import few_shot
from bindsearch.evaluation.tasks.geometry import Pair, space_of_sets
from bindsearch.evaluation.tasks.retrieve import by_label, retrieval, same_label, sweep_retrieval
from bindsearch.evaluation.tasks.zero_shot import sweep_classes, zero_shot
from bindsearch.evaluation.vector_cache import VectorCache
from bindsearch.hashing import fingerprint_of
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.reports import OnRows, OnStage, ignore_rows, ignore_stage
from bindsearch.types import Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bindsearch.encoders.base import Encoder
    from bindsearch.evaluation.arrays import Vectors
    from bindsearch.search.scoring.probability import ProbabilityModel


@dataclass(frozen=True, slots=True)
class Work:
    """Way that data sets are measured: the encoder, what is kept of it, and who is shown the progress.

    Attributes:
        encoder: Encoder to measure.
        cache: Vectors of earlier runs; None: none are kept.
        options: Lengths of segments and limits.
        templates: Set of prompt templates, or a file of them; None: that of the data set.
        kinds: Kinds of measurements that are made where the data allow them.
        shots: Numbers of samples a class of few-shot probes; empty: none are trained.
        model: Probabilities of matches, which are compared with what is counted; None: they are not.
        on_rows: Called with the number of items done and their number.
        on_stage: Called with the name of each stage.
    """

    encoder: Encoder
    cache: VectorCache | None = None
    options: DecodeOptions = DecodeOptions()  # noqa: RUF009  (frozen)
    templates: str | Path | None = None
    kinds: frozenset[Kind] = frozenset(Kind)
    shots: tuple[int, ...] = ()
    model: ProbabilityModel | None = None
    on_rows: OnRows = ignore_rows
    on_stage: OnStage = ignore_stage


class _Embedded(NamedTuple):
    """Items that could be embedded, their places among all, their vectors (n, d), and the items that could not be."""

    items: tuple[EvalItem, ...]
    kept: NDArray[np.int64]
    vectors: Vectors
    failures: tuple[Failure, ...]


def measure(data: DataSet, work: Work, train: DataSet | None = None) -> SetResult:
    """Measure an encoder on a data set.

    Args:
        data: The data set.
        work: How.
        train: Its part to train few-shot probes with; None: the other folds of the data set, if it has folds.

    Raises:
        UsageError: the encoder does not embed a modality of the data set, none of its items can be embedded, or there
            is nothing to measure.
        EncoderError: its model is missing.
    """
    started = time.perf_counter()
    has_text = Modality.TEXT in work.encoder.modalities
    notes = list(data.notes)
    own = _embed(data.items, work, f"{data.name}: {data.modality}")
    failures = list(own.failures)
    found: list[Measurement] = []
    vectors_of: dict[str, Vectors] = {data.modality.value: own.vectors}
    if not len(own.items):
        reason = own.failures[0].reason if own.failures else "there is none"
        raise UsageError(f"{data.name} cannot be measured: no item can be embedded ({reason})")
    aligned: dict[tuple[str, str], Pair] = {}
    classes = None
    if data.classes is not None and has_text:
        classes = _class_vectors(data.classes, data.templates, _for_queries(work, data.modality))
        vectors_of["text"] = classes.vectors
        rows = _labelled(own.items, classes.labels)
        if len(rows) < len(own.items):
            notes.append(f"{len(own.items) - len(rows)} of {len(own.items)} items have no class: not classified")
        if Kind.ZERO_SHOT in work.kinds and len(rows):
            settings: dict[str, Setting] = {
                "templates": str(work.templates or data.templates),
                "classes": len(data.classes.labels),
                "names": len(classes.vectors),
                "temperature": float(work.encoder.temperatures.get(data.modality, 1.0)),
            }
            found.append(zero_shot(data, [own.items[row] for row in rows], own.vectors[rows], classes, settings))
    elif data.classes is not None:
        notes.append(f"the encoder {work.encoder.name} has no text: classes cannot be found by their names")
    pairs_of = [(caption, row) for row, item in enumerate(own.items) for caption in item.captions if has_text]
    captions, owners = [caption for caption, _ in pairs_of], np.array([row for _, row in pairs_of], np.int64)
    if captions:
        asking = _for_queries(work, data.modality)
        texts, cut = embed_texts(asking.encoder, captions, work.on_rows, cache=asking.cache)
        vectors_of["text"] = texts
        aligned["text", data.modality.value] = texts, own.vectors[owners]
        notes += [f"{cut} captions are longer than the encoder's context: only their beginning counts"] if cut else []
        if Kind.RETRIEVAL in work.kinds:
            found += _captions_both_ways(data, own, captions, texts, owners)
    for other in Modality:
        there = [row for row, item in enumerate(own.items) if other in item.others]
        if not there:
            continue
        if other not in work.encoder.modalities:
            notes.append(f"the encoder {work.encoder.name} embeds no {other}: that half of the pairs is left out")
            continue
        paired = [own.items[row] for row in there]
        halves = [EvalItem(one.others[other], other, one.labels, group=one.group, span=one.span) for one in paired]
        pairs = _embed(halves, work, f"{data.name}: {other}")
        failures += pairs.failures
        rows = np.array(there, np.int64)[pairs.kept]
        vectors_of[other.value] = pairs.vectors
        if not len(rows):
            continue
        aligned[data.modality.value, other.value] = own.vectors[rows], pairs.vectors
        if Kind.RETRIEVAL in work.kinds:
            found += _pairs_both_ways(data.modality, other, own, pairs, rows)
        if Kind.COMBINATION in work.kinds and has_text:
            found += _combinations(data, other, own, pairs, rows, classes, owners, vectors_of)
    if data.candidates and Kind.RETRIEVAL in work.kinds:
        others = _embed(data.candidates, work, f"{data.name}: candidates")
        failures += others.failures
        if len(others.items):
            found.append(_by_labels(data.modality, own, others))
            vectors_of.setdefault(others.items[0].modality.value, others.vectors)
    if work.shots and Kind.FEW_SHOT in work.kinds and data.classes is not None:
        trained = None if train is None else _embed(train.items, work, f"{data.name}: {train.split}")
        failures += () if trained is None else trained.failures
        pair = None if trained is None else (trained.items, trained.vectors)
        work.on_stage(f"{data.name}: few-shot probes")
        found += few_shot(data, own.items, own.vectors, pair, work.shots)
    if Kind.SPACE in work.kinds:
        found += space_of_sets(vectors_of, aligned)
    if Kind.CALIBRATION in work.kinds and work.model is not None and captions and len(own.items) > 1:
        found.append(calibration(vectors_of["text"], own.vectors, owners, (Modality.TEXT, data.modality), work.model))
    if not found:
        raise UsageError(
            f"{data.name} cannot be measured: it has neither classes nor captions nor pairs that this encoder embeds"
        )
    listed, about = max(data.listed, len(data.items)), tuple(dict.fromkeys(notes))
    name, modality, seconds = data.name, data.modality.value, time.perf_counter() - started
    return SetResult(name, modality, data.split, listed, len(own.items), tuple(found), tuple(failures), about, seconds)


def sampled(data: DataSet, n: int | None) -> DataSet:
    """Return a data set of at most n of its items, evenly spaced, with a note; None: all of them."""
    if n is None or len(data.items) <= n:
        return data
    chosen = np.linspace(0, len(data.items) - 1, n).astype(np.int64)
    note = f"a sample of {n} of {len(data.items)} items: figures differ from published ones"
    listed = max(data.listed, len(data.items))
    return replace(data, items=tuple(data.items[row] for row in chosen), listed=listed, notes=(*data.notes, note))


def _embed(items: Sequence[EvalItem], work: Work, stage: str) -> _Embedded:
    """Embed items, and return those that could be."""
    work.on_stage(stage)
    done: ItemVectors = embed_items(work.encoder, items, work.on_rows, cache=work.cache, options=work.options)
    return _Embedded(tuple(items[row] for row in done.kept), done.kept, done.vectors, done.failures)


def _for_queries(work: Work, target: Modality) -> Work:
    """Return the work with the encoder of queries that search a modality; vectors of its texts are not cached."""
    head = query_encoder(work.encoder, target)
    return work if head is work.encoder else replace(work, encoder=head, cache=None)


def _class_vectors(classes: ClassNames, templates: str, work: Work) -> ClassVectors:
    """Return the vectors of the names of classes, each from the cache if it is there."""
    texts = read_templates(work.templates or templates)
    names = list(dict.fromkeys(name for names in classes.texts for name in names))
    keys = {name: fingerprint_of("class", name, *texts) for name in names}
    known = {name: None if work.cache is None else work.cache.get(keys[name]) for name in names}
    missing = [name for name in names if known[name] is None]
    if missing:
        work.on_stage("names of classes")
        named = ClassNames(tuple(missing), tuple((name,) for name in missing))
        made = class_vectors(work.encoder, named, texts, work.on_rows)
        for name, vector in zip(missing, made.vectors, strict=True):
            known[name] = vector
            if work.cache is not None:
                work.cache.add(keys[name], vector)
        if work.cache is not None:
            work.cache.flush()
    counts = [len(names) for names in classes.texts]
    vectors = np.stack([vector for names in classes.texts for name in names if (vector := known[name]) is not None])
    return ClassVectors(classes.labels, vectors, np.repeat(np.arange(len(counts), dtype=np.int64), counts))


def _labelled(items: Sequence[EvalItem], labels: Sequence[str]) -> NDArray[np.int64]:
    """Return the rows of the items that have a class: int64 (m,)."""
    known = set(labels)
    return np.array([row for row, item in enumerate(items) if known & set(item.labels)], np.int64)


def _captions_both_ways(
    data: DataSet, own: _Embedded, captions: list[str], texts: Vectors, owners: NDArray[np.int64]
) -> list[Measurement]:
    """Return how captions find items, and how items find captions."""
    groups = [item.group for item in own.items]
    several = len(owners) > len(set(owners.tolist()))  # captions of one item are alike
    of_captions = [(groups[row] or f"item {row}") if several else groups[row] for row in owners]
    items_of = [[int(row)] for row in owners]
    rows_of = [np.flatnonzero(owners == row).tolist() for row in range(len(own.items))]
    return [
        retrieval(f"text -> {data.modality}", texts, own.vectors, items_of, of_captions, (captions, own.items)),
        retrieval(f"{data.modality} -> text", own.vectors, texts, rows_of, groups, (own.items, captions)),
    ]


def _pairs_both_ways(
    modality: Modality, other: Modality, own: _Embedded, pairs: _Embedded, rows: NDArray[np.int64]
) -> list[Measurement]:
    """Return how the two halves of pairs find each other."""
    items = [own.items[row] for row in rows]
    groups = [item.group for item in items]
    labels = [item.labels[0] if item.labels else "" for item in items]
    has_scenes = all(labels) and 1 < len(set(labels)) < len(labels)
    matches = [[row] for row in range(len(rows))]
    found = []
    for title, queries, candidates, shown in (
        (f"{modality} -> {other}", own.vectors[rows], pairs.vectors, (items, pairs.items)),
        (f"{other} -> {modality}", pairs.vectors, own.vectors[rows], (pairs.items, items)),
    ):
        one = retrieval(title, queries, candidates, matches, groups, shown)
        if has_scenes:
            one = replace(one, figures=(*one.figures, same_label(queries, candidates, (labels, labels), groups)))
        found.append(one)
    return found


def _combinations(
    data: DataSet,
    other: Modality,
    own: _Embedded,
    pairs: _Embedded,
    rows: NDArray[np.int64],
    classes: ClassVectors | None,
    owners: NDArray[np.int64],
    vectors_of: Mapping[str, Vectors],
) -> list[Measurement]:
    """Return the figures of items whose vectors are combined of both halves of their pairs."""
    names = (data.modality.value, other.value)
    both = (own.vectors[rows], pairs.vectors)
    items = [own.items[row] for row in rows]
    found = []
    if classes is not None and len(known := _labelled(items, classes.labels)):
        labelled = [items[row] for row in known]
        found.append(sweep_classes(data, labelled, (both[0][known], both[1][known]), names, classes))
    if len(owners):
        place = {int(row): position for position, row in enumerate(rows)}
        kept = [number for number, owner in enumerate(owners) if int(owner) in place]
        relevant = [[place[int(owners[number])]] for number in kept]
        groups = [items[rows_[0]].group or f"item {rows_[0]}" for rows_ in relevant]
        found.append(sweep_retrieval(vectors_of["text"][kept], both, names, relevant, groups))
    return found


def _by_labels(modality: Modality, own: _Embedded, others: _Embedded) -> Measurement:
    """Return how items find candidates that share a label with them."""
    rows_by_label: dict[str, list[int]] = {}
    for row, item in enumerate(others.items):
        for label in item.labels:
            rows_by_label.setdefault(label, []).append(row)
    relevant = [[row for label in item.labels for row in rows_by_label.get(label, [])] for item in own.items]
    groups = [item.group for item in own.items]
    title = f"{modality} -> {others.items[0].modality} of the same label"
    one = retrieval(title, own.vectors, others.vectors, relevant, groups, (own.items, others.items))
    labels = [item.labels[0] if item.labels else "" for item in own.items]
    return replace(one, figures=(*one.figures, *by_label(own.vectors, others.vectors, relevant, labels)))
