"""Features of media by the frozen tower that a new head is added to, computed once: a head then trains in seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bindsearch.binding.augmentations.augment import augment
from bindsearch.binding.data.array_files import kept_rows
from bindsearch.binding.data.pair_data import OnProgress, PairData
from bindsearch.binding.data.pair_media import crop_media
from bindsearch.binding.recipe import RunSettings
from bindsearch.binding.training.training_step import seed_of
from bindsearch.device import usable_cores
from bindsearch.encoders.base import Encoder
from bindsearch.encoders.bound.encoder import prepare
from bindsearch.encoders.bound.networks import HubTower
from bindsearch.encoders.bound.tower_config import HUB
from bindsearch.hashing import fingerprint_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


def has_frozen_start(settings: RunSettings) -> bool:
    """Return whether only the head of a tower is trained."""
    return settings.tower.network == HUB and settings.tower.tuning == "head"


def train_features(
    data: PairData, tower: HubTower, hub: Encoder, settings: RunSettings, folder: Path, on_progress: OnProgress
) -> NDArray[np.float32]:
    """Return the features of each crop of each pair, with one random change each.

    Args:
        data: The pairs.
        tower: The tower, on its device.
        hub: The hub, whose preprocessing it has.
        settings: Settings of the run.
        folder: Folder of features from earlier runs.
        on_progress: Called as media are done.

    Returns:
        Features, float32 (pairs, max(crops, 1), width).
    """
    crops, recipe = max(data.crops, 1), settings.recipe

    def views(number: int) -> NDArray[Any]:
        pair, choice = divmod(number, crops)
        media = data.media(pair)
        if data.crops:
            media = crop_media(media, data.crop(int(data.groups[pair]), choice, settings))
        rng = np.random.default_rng(seed_of(recipe.seed, pair, choice, 2))
        prepared = prepare(augment(media, settings.augmentations, rng), settings.tower, hub)
        return np.asarray(prepared[int(rng.integers(len(prepared)))])

    device = next(tower.parameters()).device
    name = fingerprint_of(
        hub.digest, *data.media_keys, *map(str, data.groups), repr(settings.augmentations), f"{crops} {recipe.seed}"
    )
    with ThreadPoolExecutor(usable_cores()) as threads:

        def embed(numbers: range) -> NDArray[np.float32]:
            return embed_views(tower.frozen_features, threads.map(views, numbers), recipe.part, device)

        shape = len(data.pairs) * crops, tower.width
        rows = kept_rows(folder / name, shape, embed, partial(on_progress, "features"))
    return rows.reshape(len(data.pairs), crops, -1)


def features_of_views(tower: HubTower, prepared: Sequence[NDArray[Any]], part: int) -> list[NDArray[np.float32]]:
    """Return the features (views, width) of the views of each medium."""
    device = next(tower.parameters()).device
    flat = embed_views(tower.frozen_features, chain.from_iterable(prepared), part, device)
    return np.split(flat, np.cumsum([len(medium) for medium in prepared])[:-1])


def embed_views(
    embed: Callable[[torch.Tensor], torch.Tensor], views: Iterable[NDArray[Any]], part: int, device: torch.device
) -> NDArray[np.float32]:
    """Return what a tower or a part of it makes of views, `part` of them at a time: float32 (n, width)."""
    waiting, found = iter(views), []
    with torch.no_grad():
        while batch := list(islice(waiting, part)):
            found.append(embed(torch.from_numpy(np.stack(batch)).to(device)).float().cpu().numpy())
    return np.concatenate(found)
