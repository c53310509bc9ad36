"""Validation of a tower: retrieval against the hub, and zero-shot classes that it was never trained on.

No pair of the tower's modality and a text is trained on, so agreement with class names emerges (paper, section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from bindsearch.binding.data.features import embed_views
from bindsearch.binding.data.pair_data import PairData
from bindsearch.encoders.base import Encoder
from bindsearch.encoders.bound.encoder import base_of, prepare
from bindsearch.encoders.bound.tower_config import TowerConfig
from bindsearch.encoders.torch_runtime.towers import mean_of_views
from bindsearch.encoders.zero_shot import ClassVectors, class_names, class_scores, class_vectors, read_templates
from bindsearch.evaluation.classification import mean_class_accuracy
from bindsearch.evaluation.retrieval import both_directions
from bindsearch.types import Modality
from bindsearch.vectors import l2_normalize

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_PAIRS = 2_000
"""Most pairs of a validation, whose prepared media stay in memory; of more, as many are used at even distances."""


@dataclass(frozen=True, slots=True)
class Validation:
    """Figures of one validation.

    Attributes:
        recall_at_1: Mean of both directions between the tower and the hub.
        recall_at_10: The same.
        zero_shot: Mean accuracy of the classes by their names; None: the pairs have no labels.
    """

    recall_at_1: float
    recall_at_10: float
    zero_shot: float | None

    @property
    def score(self) -> float:
        """Figure that training improves: recall at 1, and zero-shot accuracy to the same part if there is one."""
        return self.recall_at_1 if self.zero_shot is None else (self.recall_at_1 + self.zero_shot) / 2


@dataclass(frozen=True)
class Validator:
    """The pairs of a validation.

    Attributes:
        data: All pairs.
        rows: Numbers of those that are used: int64 (v,).
        prepared: Their prepared media.
        classes: Vectors of the names of their labels; None: they are not used.
        labels: Number of the label of each pair, -1: none: int64 (v,).
        note: Why labels are not used; None if they are, or if there are none.
    """

    data: PairData
    rows: NDArray[np.int64]
    prepared: Sequence[NDArray[Any]]
    classes: ClassVectors | None
    labels: NDArray[np.int64]
    note: str | None

    def run(self, tower: nn.Module, part: int, device: torch.device) -> Validation:
        """Return the figures of a tower, which is left in training."""
        tower.eval()
        rows = embed_views(tower, chain.from_iterable(self.prepared), part, device)
        tower.train()
        vectors = l2_normalize(mean_of_views(rows, self.prepared))  # as `encode` of the finished encoder will
        groups = self.data.groups[self.rows]
        own, first = np.unique(groups, return_index=True)
        alike = self.data.alike[self.rows]
        relevant = alike[:, None] == alike[first]
        forth, back = both_directions(vectors, self.data.whole_vectors[own], relevant)
        zero_shot = None
        if self.classes is not None:
            labelled = self.labels >= 0
            scores = class_scores(self.classes, vectors[labelled])
            zero_shot = mean_class_accuracy(scores, self.labels[labelled])
        return Validation(
            (forth.recall_at(1) + back.recall_at(1)) / 2, (forth.recall_at(10) + back.recall_at(10)) / 2, zero_shot
        )


def make_validator(data: PairData, hub: Encoder, config: TowerConfig, templates: str) -> Validator | None:
    """Return the validation of a run; None if no pairs are kept for it.

    Args:
        data: The pairs.
        hub: The hub, which embeds the names of labels.
        config: Settings of the tower.
        templates: Set of templates of these names.
    """
    rows = data.rows(validation=True)
    if not len(rows):
        return None
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MAX_PAIRS)).round().astype(np.int64))]
    names = [data.pairs[row].label for row in rows]
    known = sorted({name for name in names if name})
    classes = None
    if len(known) > 1 and Modality.TEXT in hub.modalities:
        classes = class_vectors(hub, class_names(known), read_templates(templates))
    numbers = {"": -1, **{name: number for number, name in enumerate(known)}}
    labels = np.array([numbers[name] for name in names], np.int64)
    prepared = [prepare(data.media(int(row)), config, base_of(hub)) for row in rows]
    note = None
    if known and Modality.TEXT not in hub.modalities:
        note = f"labels are not used: {hub.name} embeds no text"
    elif len(known) == 1:
        note = "labels are not used: all pairs that are kept for validation have the same one"
    return Validator(data, rows, prepared, classes, labels, note)
