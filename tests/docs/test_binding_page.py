"""docs/binding.md: its tables name what the code has. Those of settings are generated, its commands run as printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from bindsearch.binding.data.pairs import SPLITS
from bindsearch.binding.training.checkpoint import COLUMNS
from bindsearch.encoders.bound.networks import build_tower
from bindsearch.encoders.bound.tower_config import HUB, LABEL_NETWORKS, TowerConfig, networks_of
from bindsearch.types import Modality

PAGE = (Path(__file__).parents[2] / "docs" / "binding.md").read_text(encoding="utf-8")
DIM, LABELS = 384, 10


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def network_rows() -> dict[str, tuple[list[str], float]]:
    """Return modalities and millions of parameters of the page's new networks by name."""
    rows = re.findall(r"^\| `([a-z]+-[a-z]+)` \| ([a-z, ]+) \| ([\d.]+)", section("Networks and what they cost"), re.M)
    return {name: (modalities.split(", "), float(millions)) for name, modalities, millions in rows}


def test_every_network_is_listed_with_its_modalities() -> None:
    modalities = {
        name: [modality.value for modality in Modality if name in networks_of(modality)]
        for modality in Modality
        for name in networks_of(modality)
        if name != HUB
    }
    assert {name: sorted(listed) for name, (listed, _) in network_rows().items()} == {
        name: sorted(found) for name, found in modalities.items()
    }


@pytest.mark.parametrize("name", [*network_rows()])
def test_parameters_of_a_network_are_as_printed(name: str) -> None:
    modalities, millions = network_rows()[name]
    labels = LABELS if name in LABEL_NETWORKS else 0
    with torch.device("meta"):
        tower = build_tower(TowerConfig(modalities[0], name, DIM, labels))
    assert sum(parameter.numel() for parameter in tower.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)


def test_every_column_of_the_log_is_described() -> None:
    rows = re.findall(r"^\| (`[^|]+) \|", section("Reading the log"), re.MULTILINE)
    assert re.findall(r"`(\w+)`", " ".join(rows)) == list(COLUMNS)


def test_every_split_is_described() -> None:
    row = next(line for line in section("The table of pairs").splitlines() if line.startswith("| `split`"))
    assert {*re.findall(r"`(\w+)`", row)} == {"split", "test", *SPLITS}
