"""The pairs of a run that can be used, with the vectors of the hub, which are computed once and kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bindsearch.arguments import shown
from bindsearch.binding.data.array_files import kept_rows
from bindsearch.binding.data.pair_media import Crop, MediaCache, check_content, crop_media, draw_crop, duration_of
from bindsearch.binding.data.pairs import Pair, PairTable
from bindsearch.binding.recipe import RunSettings
from bindsearch.device import usable_cores
from bindsearch.encoders.base import Encoder
from bindsearch.encoders.bound.encoder import base_of, prepare
from bindsearch.encoders.bound.tower_config import LABEL_NETWORKS, TowerConfig
from bindsearch.environment import check_libraries
from bindsearch.errors import MediaError, UsageError
from bindsearch.hashing import fingerprint_of, hash_bytes
from bindsearch.media import DecodeHints, Media, Passage
from bindsearch.types import Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH = 32
"""Media of the hub that are embedded at a time."""

SHOWN_FAILURES = 5

OnProgress = Callable[[str, int, int], None]
"""Called with the name of a stage, the number of its units that are done and the total."""


@dataclass(frozen=True)
class PairData:
    """Pairs whose both files can be used.

    Attributes:
        modality: The new modality.
        pairs: The pairs.
        media_keys: Entry of the cache of each pair's file of the new modality.
        groups: Number of each pair's member of the hub; the same content has the same: int64 (n,).
        durations_s: Length of the shortest recording of each group in seconds, infinity if it has none:
            float64 (groups,).
        alike: Number of what each pair counts as: that of its label where labels are what is distinguished, else of its
            member of the hub: int64 (n,).
        crops: Number of crops of each member of the hub.
        crop_vectors: Vectors of these crops, group after group; of the whole members if there are no crops:
            float32 (groups * max(crops, 1), d).
        whole_vectors: Vectors of whole members, float32 (groups, d).
        cache: Decoded media.
        notes: What was left out, one line each.
    """

    modality: Modality
    pairs: tuple[Pair, ...]
    media_keys: tuple[str, ...]
    groups: NDArray[np.int64]
    durations_s: NDArray[np.float64]
    alike: NDArray[np.int64]
    crops: int
    crop_vectors: NDArray[np.float32]
    whole_vectors: NDArray[np.float32]
    cache: MediaCache
    notes: tuple[str, ...]

    def media(self, row: int) -> Media:
        """Return the medium of the new modality of a pair."""
        pair = self.pairs[row]
        return self.cache.get(pair.path, self.modality, pair.span, self.media_keys[row])

    def crop(self, group: int, number: int, settings: RunSettings) -> Crop:
        """Return a crop of a member of the hub and of all that belong to it."""
        options, seed = settings.augmentations, settings.recipe.seed
        return draw_crop(group, number, self.durations_s[group], self.modality, options, seed)

    def rows(self, *, validation: bool) -> NDArray[np.int64]:
        """Return the numbers of the pairs for training or for validation."""
        return np.array([row for row, pair in enumerate(self.pairs) if pair.is_validation is validation], np.int64)


def load_pair_data(
    table: PairTable, hub: Encoder, settings: RunSettings, folder: Path, on_progress: OnProgress
) -> PairData:
    """Decode all pairs, and embed the members of the hub.

    Args:
        table: The pairs.
        hub: The frozen encoder.
        settings: Settings of the run.
        folder: Folder for decoded media and vectors; what is there from an earlier run is used.
        on_progress: Called as the files are done.

    Raises:
        UsageError: no pair can be used for training.
    """
    modality = Modality(settings.tower.modality)
    libraries: Mapping[Modality, tuple[str, ...]] = getattr(hub, "libraries", {})
    check_libraries(libraries.get(table.hub_modality, ()))
    wants = hub.wants
    side_px = max(wants.picture_side_px, settings.tower.side_px)
    cache = MediaCache(folder / "media", DecodeHints(side_px, wants.frames_per_s, wants.motion_s))
    usable, failures = _decode_all(table, hub, settings.tower, cache, on_progress)
    notes = [*table.notes]
    if failures:
        more = f" (the first {SHOWN_FAILURES} follow)" if len(failures) > SHOWN_FAILURES else ""
        notes += [f"{len(failures)} of {len(table.pairs)} pairs cannot be used{more}", *failures[:SHOWN_FAILURES]]
    if not any(not table.pairs[row].is_validation for row in usable):
        reason = f"; the first: {failures[0]}" if failures else ""
        raise UsageError(f"no pair of the table can be used for training{reason}")
    rows = sorted(usable)
    groups = _numbered([usable[row].hub_key for row in rows])
    durations_s = np.full(groups.max() + 1, np.inf)
    np.minimum.at(durations_s, groups, [usable[row].duration_s for row in rows])
    data = PairData(
        modality=modality,
        pairs=tuple(table.pairs[row] for row in rows),
        media_keys=tuple(usable[row].key for row in rows),
        groups=groups,
        durations_s=durations_s,
        alike=_alike(table, rows, groups, settings),
        crops=settings.recipe.crops,
        crop_vectors=np.empty((0, hub.dim), np.float32),
        whole_vectors=np.empty((0, hub.dim), np.float32),
        cache=cache,
        notes=tuple(notes),
    )
    _, first_rows = np.unique(groups, return_index=True)
    hub_keys = tuple(usable[rows[row]].hub_key for row in first_rows)
    embed = _HubEmbedding(data, hub, table.hub_modality, hub_keys, first_rows, settings, folder / "hub")
    whole = embed.vectors(0, on_progress)
    crops = embed.vectors(data.crops, on_progress) if data.crops else whole
    return replace(data, whole_vectors=whole, crop_vectors=crops)


class _Decoded(NamedTuple):
    """A pair that can be used: entries of the cache of both files (of a text its digest), and the shorter length."""

    key: str
    hub_key: str
    duration_s: float


def _decode_all(
    table: PairTable, hub: Encoder, tower: TowerConfig, cache: MediaCache, on_progress: OnProgress
) -> tuple[dict[int, _Decoded], list[str]]:
    """Decode and prepare both members of each pair; return what can be used by its number, and why others cannot."""
    modality = Modality(tower.modality)

    def decode(row: int) -> _Decoded | str:
        pair = table.pairs[row]
        what: str | Path = pair.path
        partner: Media
        try:
            key = cache.key(pair.path, modality, pair.span)
            media = cache.get(pair.path, modality, pair.span, key)
            prepare(media, tower, base_of(hub))
            if table.hub_modality is Modality.TEXT:
                what, hub_key, partner = shown(pair.hub), hash_bytes(pair.hub.encode()), Passage(pair.hub)
                check_content(partner)
            else:
                what = Path(pair.hub)
                hub_key = cache.key(what, table.hub_modality, pair.span)
                partner = cache.get(what, table.hub_modality, pair.span, hub_key)
            hub.prepare(partner)
        except MediaError as error:
            return f"{what}: {error}"
        return _Decoded(key, hub_key, min(duration_of(media), duration_of(partner)))

    usable, failures, total = {}, [], len(table.pairs)
    with ThreadPoolExecutor(usable_cores()) as threads:
        for start in range(0, total, 64):  # a bounded number of files waits
            batch = range(start, min(start + 64, total))
            for row, result in zip(batch, threads.map(decode, batch), strict=True):
                if isinstance(result, str):
                    failures.append(result)
                else:
                    usable[row] = result
            on_progress("decode", batch.stop, total)
    return usable, failures


def _numbered(keys: Sequence[str]) -> NDArray[np.int64]:
    """Return a number for each key, the same for equal ones, in the order of their first use: int64 (n,)."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def _alike(
    table: PairTable, rows: Sequence[int], groups: NDArray[np.int64], settings: RunSettings
) -> NDArray[np.int64]:
    """Return `PairData.alike`: texts of one label, such as "dog" and "a dog barking", are not distinguished."""
    if table.hub_modality is not Modality.TEXT and settings.tower.network not in LABEL_NETWORKS:
        return groups
    labels = [table.pairs[row].label for row in rows]
    return _numbered([f"label {label}" if label else f"{group}" for label, group in zip(labels, groups, strict=True)])


@dataclass(frozen=True)
class _HubEmbedding:
    """Embedding of the members of the hub: each group has an entry of the cache and a first pair, int64 (groups,)."""

    data: PairData
    hub: Encoder
    hub_modality: Modality
    hub_keys: Sequence[str]
    first_rows: NDArray[np.int64]
    settings: RunSettings
    folder: Path

    def vectors(self, crops: int, on_progress: OnProgress) -> NDArray[np.float32]:
        """Return the vectors of all crops of all groups (0: whole members), float32 (groups * max(crops, 1), d)."""
        seed, augmentations = self.settings.recipe.seed, self.settings.augmentations
        drawn = (str(seed), repr(augmentations), hash_bytes(self.data.durations_s.tobytes())) if crops else ()
        name = fingerprint_of(self.hub.digest, *self.hub_keys, str(crops), *drawn)

        def embed(rows: range) -> NDArray[np.float32]:
            parts = []
            for start in range(0, len(rows), BATCH):
                prepared = [self.hub.prepare(self._media(row, crops)) for row in rows[start : start + BATCH]]
                parts.append(self.hub.encode(self.hub_modality, prepared))
            return np.concatenate(parts)

        shape = len(self.hub_keys) * max(crops, 1), self.hub.dim
        return kept_rows(self.folder / name, shape, embed, partial(on_progress, "embed"))

    def _media(self, row: int, crops: int) -> Media:
        """Return the medium of a row."""
        group, number = divmod(row, max(crops, 1))
        pair = self.data.pairs[self.first_rows[group]]
        if self.hub_modality is Modality.TEXT:
            return Passage(pair.hub)
        media = self.data.cache.get(Path(pair.hub), self.hub_modality, pair.span, self.hub_keys[group])
        return crop_media(media, self.data.crop(group, number, self.settings)) if crops else media
