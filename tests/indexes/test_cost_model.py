"""Unit costs: measured with the code that searches, kept for this machine alone."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import faiss
import numpy as np
import pytest

from bindsearch.indexes.cost_model import COSTS_FILE, costs_path, load_costs, machine, measure_costs, save_costs
from bindsearch.indexes.types import UnitCosts

COSTS = UnitCosts(0.05, 0.2, 1.5, 0.03, 900.0, 30_000.0)


def test_costs_are_measured_in_a_plausible_range() -> None:
    threads = faiss.omp_get_max_threads()
    costs = asdict(measure_costs(128, budget_s=0.1))
    for name, usual in asdict(UnitCosts()).items():
        assert type(costs[name]) is float
        assert usual / 10 <= costs[name] <= usual * 10
    assert faiss.omp_get_max_threads() == threads


def test_measuring_does_not_touch_the_random_state_of_others() -> None:
    np.random.seed(3)
    expected = np.random.random()
    np.random.seed(3)
    measure_costs(64, budget_s=0.01)
    assert np.random.random() == expected


def test_costs_come_back_as_they_were_kept(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / COSTS_FILE
    assert load_costs(path) is None
    save_costs(path, COSTS)
    assert load_costs(path) == COSTS
    assert [found.name for found in path.parent.iterdir()] == [COSTS_FILE]


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, None, "1.0", True])
def test_a_cost_that_cannot_be_is_not_loaded(tmp_path: Path, value: object) -> None:
    path = tmp_path / COSTS_FILE
    save_costs(path, COSTS)
    kept = json.loads(path.read_text())
    kept["costs"]["probe_ns"] = value
    path.write_text(json.dumps(kept))
    assert load_costs(path) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [("format", 0), ("costs", {}), ("costs", None), ("costs", {**asdict(COSTS), "more": 1.0}), ("machine", None)],
)
def test_costs_of_another_form_are_not_loaded(tmp_path: Path, key: str, value: object) -> None:
    path = tmp_path / COSTS_FILE
    save_costs(path, COSTS)
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    assert load_costs(path) is None


@pytest.mark.parametrize("key", ["faiss", "build", "cpu", "cores"])
def test_costs_of_another_machine_are_not_loaded(tmp_path: Path, key: str) -> None:
    path = tmp_path / COSTS_FILE
    save_costs(path, COSTS)
    kept = json.loads(path.read_text())
    assert kept["machine"] == machine()
    kept["machine"][key] = "another"
    path.write_text(json.dumps(kept))
    assert load_costs(path) is None


def test_a_damaged_file_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / COSTS_FILE
    save_costs(path, COSTS)
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"[]", b"\xff" + whole, b"null"):
        path.write_bytes(damaged)
        assert load_costs(path) is None


def test_costs_are_kept_in_the_named_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDSEARCH_CACHE", str(tmp_path))
    assert costs_path() == tmp_path / "costs.json"
    monkeypatch.delenv("BINDSEARCH_CACHE")
    assert costs_path().name == "costs.json"
    assert "bindsearch" in costs_path().parts[-2].lower() or "bindsearch" in costs_path().parts[-3].lower()
