"""Batches for training: media are drawn, cropped, changed and prepared by threads while the tower runs.

What a row of a step is depends on the seed, the step and the row alone, so a run that is resumed, or divided among
processes, sees the same media.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bindsearch.binding.augmentations.augment import augment, mix, mixing_shares
from bindsearch.binding.augmentations.options import SoundOptions
from bindsearch.binding.augmentations.sound import mask_levels
from bindsearch.binding.data.label_views import label_view
from bindsearch.binding.data.pair_data import PairData
from bindsearch.binding.data.pair_media import crop_media
from bindsearch.binding.recipe import RunSettings
from bindsearch.binding.training.training_step import Batch, seed_of
from bindsearch.binding.training.workers import Workers
from bindsearch.device import usable_cores
from bindsearch.encoders.base import Encoder
from bindsearch.encoders.bound.encoder import prepare
from bindsearch.encoders.bound.tower_config import LABEL_NETWORKS
from bindsearch.errors import MediaError
from bindsearch.media import DepthMap, Media

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIXING_ALPHA = 0.3
"""Parameter of the Beta distribution of the shares of mixtures: most are near 0 and 1."""

STEPS_AHEAD = 2
"""Steps whose media are prepared while one is trained on."""


@dataclass(frozen=True)
class Drawing:
    """Sources that rows of batches are drawn from.

    Attributes:
        data: The pairs.
        hub: The hub, whose preprocessing a tower that starts from it has.
        settings: Settings of the run.
        train_rows: Numbers of the pairs to train on, int64 (n,).
        features: Features of each crop of each pair, which stand for its media: float32 (pairs, max(crops, 1), width);
            None: media are drawn.
    """

    data: PairData
    hub: Encoder
    settings: RunSettings
    train_rows: NDArray[np.int64]
    features: NDArray[np.float32] | None = None

    def pair_of(self, row: int) -> int:
        """Return the pair of a row, counted over all steps: each pair is drawn once before one is drawn again."""
        epoch, position = divmod(row, len(self.train_rows))
        return int(self.train_rows[_order(self.settings.recipe.seed, epoch, len(self.train_rows))[position]])

    def row(self, step: int, number: int) -> tuple[NDArray[Any], int, int]:
        """Return a prepared view or its features, the number of its hub vector, and that of what it is alike to.

        Args:
            step: Number of the step.
            number: Row of its batch.
        """
        recipe = self.settings.recipe
        pair = self.pair_of(step * recipe.batch + number)
        rng = np.random.default_rng(seed_of(recipe.seed, step, number, 1))
        group, alike, crops = int(self.data.groups[pair]), int(self.data.alike[pair]), self.data.crops
        if self.settings.tower.network in LABEL_NETWORKS:
            return label_view(self.data, pair, self.settings, rng), group, alike
        choice = int(rng.integers(crops)) if crops else 0
        if self.features is not None:
            return self.features[pair, choice], group * max(crops, 1) + choice, alike
        media = self.data.media(pair)
        if crops:
            media, choice = self._cropped(pair, media, choice)
        views = prepare(augment(media, self.settings.augmentations, rng), self.settings.tower, self.hub)
        view = views[int(rng.integers(len(views)))]
        if isinstance(self.settings.augmentations, SoundOptions):
            view = mask_levels(view[0], rng, self.settings.augmentations)[None]
        return view, group * max(crops, 1) + choice, alike

    def _cropped(self, pair: int, media: Media, first: int) -> tuple[Media, int]:
        """Return a crop and its number: the first one that shows anything, as depth may be known in places alone."""
        group, crops = int(self.data.groups[pair]), self.data.crops
        for number in range(first, first + crops):
            crop = crop_media(media, self.data.crop(group, number % crops, self.settings))
            if not isinstance(crop, DepthMap) or crop.valid.any():
                return crop, number % crops
        path = self.data.pairs[pair].path
        raise MediaError(f"no crop of {path} has a measurement: set crops=0, a larger crop_scale, or leave it out")


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """Return the order of the pairs in an epoch: int64 (n,)."""
    return np.random.default_rng(seed_of(seed, epoch)).permutation(count)


def batches(drawing: Drawing, steps: range, workers: Workers, device: torch.device) -> Iterator[Batch]:
    """Yield the rows of this process for each step."""
    rows = workers.rows(drawing.settings.recipe.batch)
    with ThreadPoolExecutor(usable_cores(), "load") as threads:
        waiting: list[list[Future[tuple[NDArray[Any], int, int]]]] = []
        try:
            for step in range(steps.start, steps.stop + STEPS_AHEAD):
                if step < steps.stop:
                    waiting.append([threads.submit(drawing.row, step, number) for number in rows])
                if step >= steps.start + STEPS_AHEAD and waiting:
                    drawn = [future.result() for future in waiting.pop(0)]
                    yield _batch(drawn, drawing, step - STEPS_AHEAD, rows.start, device)
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


def _batch(
    rows: list[tuple[NDArray[Any], int, int]], drawing: Drawing, step: int, first_row: int, device: torch.device
) -> Batch:
    """Return rows as tensors on a device, some of them mixed."""
    views, keys, groups = zip(*rows, strict=True)
    numbers, media, recipe = np.array(keys, np.int64), np.stack(views), drawing.settings.recipe
    mixing: tuple[torch.Tensor, ...] = ()
    if recipe.mix:
        rng = np.random.default_rng(seed_of(recipe.seed, step, first_row, 2))
        partners, kept = rng.permutation(len(rows)), mixing_shares(rng, len(rows), MIXING_ALPHA, recipe.mix)
        media = mix(media, media[partners], kept)
        mixing = (torch.from_numpy(partners + first_row).to(device), torch.from_numpy(kept).to(device))
    return Batch(
        torch.from_numpy(media).to(device),
        torch.from_numpy(drawing.data.crop_vectors[numbers]).to(device),
        torch.from_numpy(numbers).to(device),
        torch.tensor(groups, dtype=torch.int64, device=device),
        mixing,
    )
