"""Labels of pairs, and random views of sound and motion for the networks that distinguish labels.

Views are drawn from levels of a whole sound, or a whole recording of motion, which are computed once and kept.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.binding.augmentations.motion import augment_motion
from bindsearch.binding.augmentations.options import MotionOptions, SoundOptions
from bindsearch.binding.augmentations.sound import augment_levels, mask_levels
from bindsearch.binding.data.array_files import read_arrays, write_arrays
from bindsearch.binding.data.pair_data import PairData
from bindsearch.binding.recipe import RunSettings
from bindsearch.encoders.bound.tower_config import LABEL_NETWORKS
from bindsearch.encoders.mini.imu import MARGIN_SAMPLES, SAMPLE_RATE_HZ, VIEW_SAMPLES
from bindsearch.encoders.preprocessing.resampling import check_motion, resample_motion
from bindsearch.encoders.preprocessing.sound_views import VIEW_FRAMES, normalize_levels, sound_levels
from bindsearch.encoders.torch_runtime.threads import single_threaded
from bindsearch.errors import MediaError, UsageError
from bindsearch.media import Media, Motion, Sound
from bindsearch.vectors import l2_normalize

if TYPE_CHECKING:
    from numpy.typing import NDArray

ACTIVE_DB = 50.0
"""Leading and trailing parts of a sound this far below its loudest point are no part of it."""


def with_labels(settings: RunSettings, data: PairData, processes: int) -> RunSettings:
    """Return settings with the number of labels, if the network distinguishes labels.

    Raises:
        UsageError: a pair to train on has no label, all have the same, or there are several processes.
    """
    network = settings.tower.network
    if network not in LABEL_NETWORKS:
        return settings
    if processes > 1:
        raise UsageError(f"{network} is trained by one process, not {processes}: start it without torchrun")
    labels = [data.pairs[row].label for row in data.rows(validation=False)]
    if missing := labels.count(""):
        raise UsageError(
            f"{missing} of {len(labels)} pairs to train on have no label: {network} distinguishes labels, so fill in a "
            "column label, or choose another network"
        )
    count = len(set(labels))
    if count < 2:
        raise UsageError(f"all pairs have the label {labels[0]}: {network} distinguishes labels, so give at least two")
    return replace(settings, tower=replace(settings.tower, labels=count))


def label_bank(data: PairData) -> NDArray[np.float32]:
    """Return a vector for each label of the pairs to train on, sorted: float32 (labels, d), unit rows.

    It is the mean of the label's vectors of the hub, such as those of its phrasings, each once.
    """
    groups_of: dict[str, set[int]] = {}
    for row in data.rows(validation=False):
        groups_of.setdefault(data.pairs[row].label, set()).add(int(data.groups[row]))
    means = [data.whole_vectors[sorted(groups)].mean(axis=0) for _, groups in sorted(groups_of.items())]
    return l2_normalize(np.stack(means))


def label_view(data: PairData, row: int, settings: RunSettings, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a random view of a pair: levels of sound, float32 (64, 125), or motion, float32 (6, 128)."""
    source, options = _kept_source(data, row), settings.augmentations
    if isinstance(options, MotionOptions):
        return augment_motion(source, rng, options, VIEW_SAMPLES)
    assert isinstance(options, SoundOptions)
    levels_db = augment_levels(source, rng, options, VIEW_FRAMES)
    return mask_levels(normalize_levels(levels_db[None])[0], rng, options)


def _kept_source(data: PairData, row: int) -> NDArray[np.float32]:
    """Return what the views of a pair are drawn from, from its file if it is there."""
    key = data.media_keys[row]
    entry = data.cache.folder / key[:2] / f"{key}.views.safetensors"
    if (found := read_arrays(entry)) is not None and "source" in found[0]:
        return found[0]["source"]
    with single_threaded():
        source = view_source(data.media(row))
    write_arrays(entry, {"source": source})
    return source


def view_source(media: Media) -> NDArray[np.float32]:
    """Return what random views of a medium are drawn from.

    Args:
        media: Sound or motion.

    Returns:
        Levels of a sound in dB, float32 (64, n), 50 frames per second, without leading and trailing silence; or motion,
        float32 (6, n), at 50 Hz.

    Raises:
        MediaError: it is another medium, or has no content.
    """
    match media:
        case Sound(samples=samples, sample_rate_hz=rate_hz):
            levels_db = sound_levels(samples, rate_hz)
            loudest = levels_db.max(axis=0)
            frames = np.flatnonzero(loudest > loudest.max() - ACTIVE_DB)
            return levels_db[:, frames[0] : frames[-1] + 1]
        case Motion(samples=motion, sample_rate_hz=motion_rate_hz):
            signal = check_motion(motion, motion_rate_hz).T
            return resample_motion(signal, motion_rate_hz, SAMPLE_RATE_HZ, margin_samples=MARGIN_SAMPLES)
    raise MediaError(f"views of {type(media).__name__} cannot be drawn: expected sound or motion")
