"""Pairs with pictures are enough: two modalities that were never paired find each other (ImageBind, section 3.2)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bindsearch.binding.bind import BindOptions, bind
from bindsearch.binding.data.pair_media import read_pair_media
from bindsearch.encoders.base import encode_media
from bindsearch.encoders.registry import load_encoder
from bindsearch.evaluation.retrieval import both_directions
from bindsearch.types import Modality
from helpers.bound_world import DEPTH_SETTINGS, THERMAL_SETTINGS, make_scenes, write_pairs, write_scenes

SCENES, TESTED = 300, 100


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write scenes with pictures and thermal pictures, others with all three modalities, and others to test on."""
    write_scenes(tmp_path / "a", make_scenes(SCENES, 10), ["image", "thermal"])
    write_scenes(tmp_path / "b", make_scenes(SCENES, 11), ["image", "thermal", "depth"])
    write_scenes(tmp_path / "test", make_scenes(TESTED, 12), ["thermal", "depth"])
    return tmp_path


def embedded(folder: Path, name: str, modality: Modality) -> NDArray[np.float32]:
    encoder = load_encoder(f"bound:{name}")
    paths = sorted((folder / "test" / modality).iterdir())
    return encode_media(encoder, [read_pair_media(path, modality, None, encoder.wants) for path in paths])


def recall(folder: Path, name: str) -> float:
    """Return the mean recall at 1 of both directions between thermal pictures and depth maps."""
    thermal, depth = (embedded(folder, name, modality) for modality in (Modality.THERMAL, Modality.DEPTH))
    forth, back = both_directions(thermal, depth, np.eye(TESTED, dtype=np.bool_))
    return (forth.recall_at(1) + back.recall_at(1)) / 2


def test_modalities_that_were_never_paired_find_each_other(folder: Path) -> None:
    bind(
        write_pairs(folder / "a/pairs.csv", "thermal", "image", SCENES),
        "thermal",
        "world",
        "a",
        settings=THERMAL_SETTINGS,
    )
    bind(
        write_pairs(folder / "b/pairs.csv", "depth", "image", SCENES), "depth", "bound:a", "ab", settings=DEPTH_SETTINGS
    )
    bind(
        write_pairs(folder / "b/direct.csv", "depth", "thermal", SCENES),
        "depth",
        "bound:a",
        "direct",
        settings=DEPTH_SETTINGS,
    )
    wrong = write_pairs(folder / "b/wrong.csv", "depth", "image", SCENES, shuffle=5)
    bind(wrong, "depth", "bound:a", "wrong", settings=DEPTH_SETTINGS)
    emergent, direct, shuffled = recall(folder, "ab"), recall(folder, "direct"), recall(folder, "wrong")
    chance = 1 / TESTED
    assert emergent >= 10 * chance
    assert emergent >= 0.85 * direct
    assert shuffled <= 4 * chance


def test_hub_is_kept_and_a_tower_is_replaced(folder: Path) -> None:
    pairs = write_pairs(folder / "a/pairs.csv", "thermal", "image", SCENES)
    few = [*THERMAL_SETTINGS, "epochs=1"]
    bind(pairs, "thermal", "world", "a", settings=few)
    first = load_encoder("bound:a")
    bind(pairs, "thermal", "bound:a", "again", settings=[*few, "seed=1"])
    again = load_encoder("bound:again")
    assert first.modalities == again.modalities == {Modality.IMAGE, Modality.TEXT, Modality.THERMAL}
    assert first.digest != again.digest
    assert not np.allclose(embedded(folder, "a", Modality.THERMAL), embedded(folder, "again", Modality.THERMAL))
    bind(pairs, "thermal", "world", "a", settings=few, options=BindOptions(replace=True))
    assert load_encoder("bound:a").digest == first.digest
