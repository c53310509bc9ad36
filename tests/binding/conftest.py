"""Fixtures of the tests of binding: the constructed world as a hub, and a folder for models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from bindsearch.encoders import registry
from helpers.bound_world import WorldEncoder


@pytest.fixture(autouse=True)
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Provide the hub `world` by its name, models below the test's folder, and one thread, as small towers need."""
    monkeypatch.setattr(registry, "BUILT_IN", {**registry.BUILT_IN, "world": WorldEncoder})
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path / "models"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)
