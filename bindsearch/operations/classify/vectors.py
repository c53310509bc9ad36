"""Classes of the items of a generation, from their stored vectors: nothing is decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bindsearch.encoders.base import Encoder
from bindsearch.encoders.zero_shot import ClassVectors, class_probabilities, class_scores
from bindsearch.search.generation import Generation
from bindsearch.search.scoring.probability import tower_of
from bindsearch.storage.class_columns import ClassValues, look_up
from bindsearch.storage.snapshot import Snapshot
from bindsearch.types import Modality
from bindsearch.vectors import MIN_SUM_NORM

BLOCK_SEGMENTS = 20_000
"""Segments whose vectors are in memory together: 82 MB for 1024 dimensions."""

BLOCK_ITEMS = 4096
"""Items whose sums of vectors are in memory together: 34 MB for 1024 dimensions."""

BLOCK_SCORES = 1 << 24
"""Scores, items times names, that are in memory together: 64 MB."""


def logit_scale(encoder: Encoder, modality: Modality) -> float:
    """Return what a cosine of a class and a vector of a modality is multiplied by before the softmax.

    It is the temperature that the modality was trained with against pictures, such as 20 for sounds, and for pictures
    that of texts, as in CLIP. The product of both, as of ImageBind's features, would be 2000 for sounds: every
    probability would be 0 or 1, right or wrong.
    """
    scaled = Modality.TEXT if tower_of(modality) is Modality.IMAGE else modality
    return float(encoder.temperatures[scaled])


def classify_items(
    generation: Generation,
    rows: NDArray[np.int64],
    modality: Modality | None,
    names: ClassVectors,
    scale: Callable[[Modality], float],
    on_items: Callable[[int], None],
) -> tuple[ClassValues, int]:
    """Return the classes of items.

    The vectors of an item's segments are averaged, as those of a query's file are, so that an item has the class that
    `classify` shows for its file. Their probabilities are not averaged: an item would have another class as a query.

    Args:
        generation: Generation to read.
        rows: Rows in `items` of the items, no two with the same key: int64 (m,).
        modality: Modality of the segments; None: that of each item.
        names: Vectors of the names of the classes.
        scale: Returns the logit scale of a modality.
        on_items: Called with the number of items that each block had.

    Returns:
        The values by their keys, and the number of items whose vectors cancel each other, which have none.
    """
    keys = generation.snapshot.class_keys(modality)
    found: list[ClassValues] = []
    cancelled = 0
    for target, item_rows, vector_ids in _segments(generation.snapshot, rows, modality):
        partition = generation.partitions[target]
        for items, block in _blocks(item_rows, max(1, min(BLOCK_ITEMS, BLOCK_SCORES // len(names.vectors)))):
            position = np.searchsorted(items, item_rows[block])
            sums = np.zeros((len(items), names.vectors.shape[1]), np.float64)
            for start in range(block.start, block.stop, BLOCK_SEGMENTS):
                part = slice(start, min(start + BLOCK_SEGMENTS, block.stop))
                stored = partition.rows.embeddings(partition.rows_of_vectors(vector_ids[part]))
                np.add.at(sums, position[part.start - block.start : part.stop - block.start], stored)
            norms = np.linalg.norm(sums, axis=1)
            sound = norms > MIN_SUM_NORM * np.bincount(position, minlength=len(items))
            cancelled += int(np.count_nonzero(~sound))
            if sound.any():
                unit = (sums[sound] / norms[sound, None]).astype(np.float32)
                scores = class_scores(names, unit)
                best = scores.argmax(axis=1)  # of equal scores the first
                probabilities = class_probabilities(scores, scale(target))
                chosen = probabilities[np.arange(len(best)), best].astype(np.float64)
                found.append(ClassValues(keys[items[sound]], best.astype(np.int64), chosen))
            on_items(len(items))
    return joined_values(found), cancelled


def joined_values(parts: list[ClassValues]) -> ClassValues:
    """Return the values of several parts, by their vector ids."""
    nothing = ClassValues(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    whole = ClassValues(*(np.concatenate(arrays) for arrays in zip(nothing, *parts, strict=True)))
    return whole.at(np.argsort(whole.vector_ids, kind="stable"))


def _segments(
    snapshot: Snapshot, rows: NDArray[np.int64], modality: Modality | None
) -> Iterator[tuple[Modality, NDArray[np.int64], NDArray[np.int64]]]:
    """Yield for each modality the item row of each segment to classify, ascending, and its vector: int64 (s,) each."""
    wanted = np.zeros(snapshot.items.num_rows, np.bool_)
    wanted[rows] = True
    owners = snapshot.item_of_segment_rows
    names = snapshot.items.column("modality")
    of_items = pc.index_in(names, value_set=pa.array([*Modality], names.type)).to_numpy()
    for number, target in enumerate(Modality):
        if modality not in (None, target):
            continue
        ids, segment_rows = snapshot.partition_segments(target)
        item_rows = owners[segment_rows]
        chosen = wanted[item_rows]
        if modality is None:
            chosen &= of_items[item_rows] == number
        if chosen.any():
            order = np.argsort(item_rows[chosen], kind="stable")
            yield target, item_rows[chosen][order], ids[chosen][order]


def _blocks(item_rows: NDArray[np.int64], most: int) -> Iterator[tuple[NDArray[np.int64], slice]]:
    """Yield the rows of at most `most` items, and where their segments are; item rows, int64 (s,), are ascending."""
    items, starts = np.unique(item_rows, return_index=True)
    ends = np.append(starts, len(item_rows))
    for first in range(0, len(items), most):
        last = min(first + most, len(items))
        yield items[first:last], slice(int(ends[first]), int(ends[last]))


def counts_of(values: ClassValues, keys: NDArray[np.int64], labels: tuple[str, ...]) -> Mapping[str, int]:
    """Return the number of items of each label, most frequent first, without labels that have none.

    Args:
        values: Values of a column; vector ids are ascending.
        keys: Key of each item that counts: int64 (n,).
        labels: Label of each class.
    """
    found, known = look_up(values, keys)
    numbers = np.bincount(found.classes[known], minlength=len(labels))
    order = np.argsort(-numbers, kind="stable").tolist()
    return {labels[row]: int(numbers[row]) for row in order if numbers[row]}
