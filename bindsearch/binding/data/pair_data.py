"""The pairs of a run that can be used, with the vectors of the hub, which are computed once and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.atomic import atomic_write
from bindsearch.binding.data.pair_media import MediaCache, crop_media, draw_crop
from bindsearch.binding.data.pairs import Pair, PairTable
from bindsearch.binding.recipe import RunSettings
from bindsearch.device import usable_cores
from bindsearch.encoders.base import Encoder
from bindsearch.encoders.bound.tower_config import LABEL_NETWORKS
from bindsearch.environment import check_libraries
from bindsearch.errors import BindSearchError, UsageError
from bindsearch.hashing import fingerprint_of, hash_bytes
from bindsearch.media import DecodeHints, Media, Passage
from bindsearch.types import Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH = 32
"""Media of the hub that are embedded at a time."""

SHARD = 1024
"""Vectors of the hub in a file: what a kill can lose."""

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
    hints = DecodeHints(
        max(hub.wants.picture_side_px, settings.tower.side_px), hub.wants.frames_per_s, hub.wants.motion_s
    )
    cache = MediaCache(folder / "media", hints)
    usable, failures = _decode_all(table, modality, cache, on_progress)
    notes = [*table.notes, *_failure_notes(failures, len(table.pairs))]
    if not any(not table.pairs[row].is_validation for row in usable):
        reason = f"; the first: {failures[0]}" if failures else ""
        raise UsageError(f"no pair of the table can be used for training{reason}")
    rows = sorted(usable)
    groups = _numbered([usable[row][1] for row in rows])
    data = PairData(
        modality=modality,
        pairs=tuple(table.pairs[row] for row in rows),
        media_keys=tuple(usable[row][0] for row in rows),
        groups=groups,
        alike=_alike(table, rows, groups, settings),
        crops=settings.recipe.crops,
        crop_vectors=np.empty((0, hub.dim), np.float32),
        whole_vectors=np.empty((0, hub.dim), np.float32),
        cache=cache,
        notes=tuple(notes),
    )
    hub_keys = {int(group): usable[row][1] for row, group in zip(reversed(rows), reversed(groups), strict=True)}
    embed = _HubEmbedding(data, hub, table.hub_modality, hub_keys, settings, folder / "hub")
    whole = embed.vectors(0, on_progress)
    return replace(
        data, whole_vectors=whole, crop_vectors=embed.vectors(data.crops, on_progress) if data.crops else whole
    )


def _decode_all(
    table: PairTable, modality: Modality, cache: MediaCache, on_progress: OnProgress
) -> tuple[dict[int, tuple[str, str]], list[str]]:
    """Decode both members of each pair into the cache.

    Returns:
        Entries of the cache of both members by the number of the pair, and why the others cannot be used.
    """

    def decode(row: int) -> tuple[str, str] | str:
        pair = table.pairs[row]
        path = pair.path
        try:
            key = cache.key(path, modality, pair.span)
            cache.get(path, modality, pair.span, key)
            if table.hub_modality is Modality.TEXT:
                return key, hash_bytes(pair.hub.encode())
            path = Path(pair.hub)
            hub_key = cache.key(path, table.hub_modality, pair.span)
            cache.get(path, table.hub_modality, pair.span, hub_key)
        except (BindSearchError, OSError) as error:
            return f"{path}: {getattr(error, 'strerror', None) or error}"
        return key, hub_key

    usable, failures = {}, []
    with ThreadPoolExecutor(usable_cores()) as threads:
        rows = iter(range(len(table.pairs)))
        done = 0
        while batch := list(islice(rows, 64)):  # a bounded number of files waits
            for row, result in zip(batch, threads.map(decode, batch), strict=True):
                if isinstance(result, str):
                    failures.append(result)
                else:
                    usable[row] = result
            done += len(batch)
            on_progress("decode", done, len(table.pairs))
    return usable, failures


def _failure_notes(failures: Sequence[str], total: int) -> Iterator[str]:
    """Yield what to tell about pairs that cannot be used."""
    if failures:
        more = f" (the first {SHOWN_FAILURES} follow)" if len(failures) > SHOWN_FAILURES else ""
        yield f"{len(failures)} of {total} pairs cannot be used{more}"
        yield from failures[:SHOWN_FAILURES]


def _numbered(keys: Sequence[str]) -> NDArray[np.int64]:
    """Return a number for each key, the same for equal ones, in the order of their first use: int64 (n,)."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def _alike(
    table: PairTable, rows: Sequence[int], groups: NDArray[np.int64], settings: RunSettings
) -> NDArray[np.int64]:
    """Return what each pair counts as; see `PairData.alike`.

    Texts of one label, such as "dog" and "a dog barking", are not distinguished.
    """
    if table.hub_modality is not Modality.TEXT and settings.tower.network not in LABEL_NETWORKS:
        return groups
    labels = [table.pairs[row].label for row in rows]
    return _numbered([f"label {label}" if label else f"{group}" for label, group in zip(labels, groups, strict=True)])


@dataclass(frozen=True)
class _HubEmbedding:
    """Embedding of the members of the hub.

    Attributes:
        data: The pairs.
        hub: The frozen encoder.
        hub_modality: Modality of its members.
        hub_keys: Entry of the cache of each group.
        settings: Settings of the run.
        folder: Folder of the vectors.
    """

    data: PairData
    hub: Encoder
    hub_modality: Modality
    hub_keys: Mapping[int, str]
    settings: RunSettings
    folder: Path

    def vectors(self, crops: int, on_progress: OnProgress) -> NDArray[np.float32]:
        """Return the vectors of all crops of all groups (0: whole members), float32 (groups * max(crops, 1), d)."""
        augmentations = repr(self.settings.augmentations) if crops else ""
        name = fingerprint_of(
            self.hub.digest, *self.hub_keys.values(), str(crops), str(self.settings.recipe.seed), augmentations
        )
        total = len(self.hub_keys) * max(crops, 1)
        shards = []
        for start in range(0, total, SHARD):
            stop = min(start + SHARD, total)
            shards.append(self._shard(self.folder / name / f"{start:09d}.npy", range(start, stop), crops))
            on_progress("embed", stop, total)
        return np.concatenate(shards)

    def _shard(self, file: Path, rows: range, crops: int) -> NDArray[np.float32]:
        """Return the vectors of some rows, from their file if it is there."""
        if file.is_file():
            try:
                vectors = np.load(file, allow_pickle=False)
                if vectors.shape == (len(rows), self.hub.dim) and vectors.dtype == np.float32:
                    return np.asarray(vectors)
            except (OSError, ValueError):
                pass  # damaged: computed again
        parts = []
        for start in range(rows.start, rows.stop, BATCH):
            batch = range(start, min(start + BATCH, rows.stop))
            prepared = [self.hub.prepare(self._media(row, crops)) for row in batch]
            parts.append(self.hub.encode(self.hub_modality, prepared))
        vectors = np.concatenate(parts)
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as out:
            np.save(out, vectors, allow_pickle=False)
        return vectors

    def _media(self, row: int, crops: int) -> Media:
        """Return the medium of a row."""
        group, number = divmod(row, max(crops, 1))
        first = int(np.flatnonzero(self.data.groups == group)[0])
        pair = self.data.pairs[first]
        if self.hub_modality is Modality.TEXT:
            return Passage(pair.hub)
        media = self.data.cache.get(Path(pair.hub), self.hub_modality, pair.span, self.hub_keys[group])
        if not crops:
            return media
        crop = draw_crop(group, number, self.data.media(first), self.settings.augmentations, self.settings.recipe.seed)
        return crop_media(media, crop)
