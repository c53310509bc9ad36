"""Settings of a run by their names: every message, and defaults."""

from __future__ import annotations

from dataclasses import fields

import pytest

from bindsearch.binding.augmentations.options import OPTIONS
from bindsearch.binding.recipe import DEFAULTS, Recipe, parse_settings
from bindsearch.encoders.bound.tower_config import TowerConfig
from bindsearch.errors import UsageError
from bindsearch.types import Modality


@pytest.mark.parametrize("modality", DEFAULTS)
def test_each_name_means_one_setting(modality: Modality) -> None:
    names = [option.name for kind in (Recipe, TowerConfig, OPTIONS[modality]) for option in fields(kind)]
    assert len({*names}) == len(names)
    assert parse_settings(modality, 8, []).as_json().keys() == {*names}


def test_later_texts_override_earlier_ones() -> None:
    found = parse_settings(Modality.THERMAL, 8, ["batch=4", " batch = 8 ", "erase=0.5", "network=vit-tiny"])
    assert (found.recipe.batch, found.tower.network, found.tower.dim) == (8, "vit-tiny", 8)
    assert found.as_json()["erase"] == 0.5
    assert (found.recipe.epochs, found.recipe.replication, found.recipe.clip) == (64.0, 25.0, 5.0)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("batch", "the setting 'batch' is not NAME=VALUE: write for example batch=64"),
        ("=3", "unknown setting '' of thermal: choose from batch, part,"),
        ("learning-rate=3", "unknown setting 'learning-rate' of thermal: did you mean 'learning_rate'? choose from"),
        ("dim=3", "unknown setting 'dim' of thermal: "),
        ("modality=imu", "unknown setting 'modality' of thermal: "),
        ("batch=1", "batch is 1: expected a number from 2 to 1048576"),
        ("batch=1.5", "batch is '1.5': expected a whole number"),
        ("batch=" + "9" * 400, "batch is 99999"),
        ("batch=" + "9" * 5000, "batch is '99999"),
        ("epochs=nan", "epochs is nan: expected a number from 0.0 to 1000000.0"),
        ("learning_rate=inf", "learning_rate is inf: expected a number from 0.0 to 10.0"),
        ("clip=-1", "clip is -1.0: expected a number from 1e-06 to 1000000.0"),
        ("learn_scale=yes", "learn_scale is 'yes': expected a whole number"),
        ("precision=fp16", "precision is 'fp16': expected fp32 or bf16"),
        ("network=vit-tny", "network is 'vit-tny': did you mean 'vit-tiny'"),
        ("network=imu-base", "network is 'imu-base': "),
        ("head=none", "head is 'none': "),
        ("tuning=lora", "tuning is 'lora': a new network is trained in full, or set network=hub"),
        ("patch_px=0", "patch_px is 0: expected 1 to 1024"),
        ("patch_px=-16", "patch_px is -16: expected 1 to 1024"),
        ("patch_px=15", "side_px is 224: expected a multiple of patch_px, 15, up to 1024"),
        ("patch_px=2", "patch_px is 2: a picture has 12544 patches, at most 4096"),
        ("side_px=2048", "side_px is 2048: expected a multiple of patch_px, 16, up to 1024"),
        ("lora_rank=0", "lora_rank is 0: expected 1 to 256"),
        ("drop_path=1", "drop_path is 1: expected 0 or more, below 1"),
        ("drop_path=nan", "drop_path is nan: expected 0 or more, below 1"),
        ("erase=2", "erase is 2.0: expected a number from 0 to 1"),
    ],
)
def test_messages(setting: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_settings(Modality.THERMAL, 8, [setting])
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 1500


@pytest.mark.parametrize("modality", [Modality.TEXT, Modality.VIDEO])
def test_modalities_without_towers(modality: Modality) -> None:
    with pytest.raises(UsageError, match=f"towers of {modality} cannot be bound: choose from audio, depth, thermal, i"):
        parse_settings(modality, 8, [])
