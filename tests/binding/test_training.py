"""The training loop: schedule, averages, early stop, scale, precision, checkpoints, log and validation."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bindsearch.binding.bind import BindOptions, BindResult, bind
from bindsearch.binding.recipe import Recipe
from bindsearch.binding.training import train as train_module
from bindsearch.binding.training.checkpoint import COLUMNS, TrainingLog
from bindsearch.binding.training.train import MAX_SCALE, StepReport, learning_rate
from bindsearch.binding.training.validation import Validation
from bindsearch.encoders import registry
from bindsearch.errors import UsageError
from bindsearch.types import Modality
from helpers.bound_world import THERMAL_SETTINGS, WorldEncoder, make_scenes, write_pairs, write_scenes

SCENES = 24
FEW = (*THERMAL_SETTINGS, "batch=8", "epochs=2")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    write_scenes(tmp_path, make_scenes(SCENES, 1), ["image", "thermal"])
    return write_pairs(tmp_path / "pairs.csv", "thermal", "image", SCENES, validation=8, labels=("day", "night"))


def run(table: Path, *settings: str, name: str = "t", **options: Any) -> tuple[BindResult, list[StepReport]]:
    reports: list[StepReport] = []
    chosen = BindOptions(work=table.parent / "work", **options)
    result = bind(table, "thermal", "world", name, settings=[*FEW, *settings], options=chosen, on_step=reports.append)
    return result, reports


def weights(table: Path, name: str = "t") -> dict[str, torch.Tensor]:
    return load_file(table.parent / f"models/bound/{name}/thermal.safetensors")


def rows(table: Path, name: str = "t") -> list[dict[str, str]]:
    return list(csv.DictReader((table.parent / f"models/bound/{name}/training.csv").read_text().splitlines()))


def test_learning_rate_by_hand() -> None:
    recipe = Recipe(learning_rate=1.0, warmup_epochs=2.0)
    rates = [learning_rate(step, 12, 2.0, recipe) for step in range(12)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4:] == pytest.approx([(1 + math.cos(math.pi * n / 8)) / 2 for n in range(8)])
    short = [learning_rate(step, 4, 2.0, recipe) for step in range(4)]  # half of the steps at most
    assert short[:2] == [0.5, 1.0]
    assert learning_rate(0, 1, 5.0, replace(recipe, warmup_epochs=0.0)) == 1.0


def test_log_has_the_rates_and_a_validation_for_each_epoch(table: Path) -> None:
    result, reports = run(table)
    log = rows(table)
    assert [float(row["learning_rate"]) for row in log] == pytest.approx(
        [learning_rate(step, 4, 2.0, Recipe(learning_rate=3e-3, warmup_epochs=4.0)) for step in range(4)], rel=1e-4
    )
    assert [bool(row["recall_at_1"]) for row in log] == [False, True, False, True]
    assert [report.validation is not None for report in reports] == [False, True, False, True]
    assert result.last == reports[-1].validation
    assert (result.pairs, result.validation_pairs, result.steps) == (16, 8, 4)
    assert result.notes == ()


def test_replication_draws_each_pair_as_often(table: Path) -> None:
    assert run(table, "replication=2.5")[0].steps == 10


def test_average_is_between_first_and_last_weights(table: Path) -> None:
    run(table, name="last")
    run(table, "average=1000", name="mean")
    last, mean = weights(table, "last"), weights(table, "mean")
    assert last.keys() == mean.keys()
    assert not all(torch.equal(last[name], mean[name]) for name in last)
    run(table, "average=1", name="newest")  # 1: no memory
    assert all(torch.allclose(last[name], value, atol=1e-7) for name, value in weights(table, "newest").items())


def test_early_stop_keeps_the_best_weights(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores are told: the second validation is the best, and the tower is that of its step."""
    scores = iter([0.25, 0.75, 0.5, 0.5, 0.5, 0.5])
    true_validate = train_module._validate
    kept: list[dict[str, torch.Tensor]] = []

    def validate(state: Any, run: Any, validator: Any) -> Any:
        class Told:
            def run(self, *_: Any) -> Any:
                return Validation(next(scores), 0.0, None)

        validation = true_validate(state, run, Told())  # type: ignore[arg-type]
        kept.append({name: value.detach().clone() for name, value in state.tower.named_parameters()})
        return validation

    monkeypatch.setattr(train_module, "_validate", validate)
    result, _ = run(table, "epochs=50", "patience=3")
    assert (result.steps, result.best_score) == (10, 0.75)
    assert all(torch.equal(kept[1][name], value) for name, value in weights(table).items())
    monkeypatch.setattr(train_module, "_validate", true_validate)
    again, reports = run(table, "epochs=50", "patience=3")  # the same command: nothing is trained again
    assert (again.steps, reports) == (10, [])
    assert all(torch.equal(kept[1][name], value) for name, value in weights(table).items())


def test_early_stop_needs_pairs_for_it(table: Path) -> None:
    few = write_pairs(table, "thermal", "image", SCENES)
    with pytest.raises(UsageError, match="patience is 3, but no pairs are kept for validation: add some"):
        run(few, "patience=3")


def test_learned_scale_has_a_limit(table: Path) -> None:
    run(table, "learn_scale=1", "scale=99.9", "learning_rate=1", "warmup_epochs=0")
    scales = [float(row["scale"]) for row in rows(table)]
    assert max(scales) <= MAX_SCALE + 1e-3
    assert len({*scales}) > 1
    run(table, "scale=50", name="fixed")
    assert {row["scale"] for row in rows(table, "fixed")} == {"50"}


def test_bf16_is_near_and_kept_as_fp32(table: Path) -> None:
    run(table, name="exact")
    run(table, "precision=bf16", name="mixed")
    exact, mixed = rows(table, "exact"), rows(table, "mixed")
    for one, other in zip(exact, mixed, strict=True):
        assert float(other["loss"]) == pytest.approx(float(one["loss"]), rel=0.05)
    assert [row["loss"] for row in exact] != [row["loss"] for row in mixed]
    assert {value.dtype for value in weights(table, "mixed").values()} == {torch.float32}


def test_divergence_is_one_line(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_module, "backward", lambda *_: math.nan)
    with pytest.raises(UsageError) as raised:
        run(table)
    assert str(raised.value) == (
        "training diverged in step 1 (loss nan, gradient norm 0): use --restart and a learning_rate below 0.003"
    )


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "format"])
def test_damaged_checkpoints(table: Path, damage: str) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    run(table, "epochs=1")
    file = table.parent / "work/runs/t/checkpoint.safetensors"
    match damage:
        case "cut":
            file.write_bytes(file.read_bytes()[:-9])
        case "garbage":
            file.write_bytes(b"\xff" * 300)
        case "empty":
            file.write_bytes(b"")
        case "format":
            with safe_open(file, "pt") as opened:
                text = opened.metadata()["run"].replace('"format": 1', '"format": 2')
            save_file(load_file(file), file, {"run": text})
    with pytest.raises(
        UsageError, match=r"the checkpoint .* is damaged \(.+\): use --restart to begin again"
    ) as raised:
        run(table, "epochs=1", replace=True)
    assert "\n" not in str(raised.value)
    assert run(table, "epochs=1", replace=True, restart=True)[0].steps == 2


def test_log_without_rows_that_were_cut_or_are_repeated(tmp_path: Path) -> None:
    file = tmp_path / "training.csv"
    full = [",".join(COLUMNS), *(f"{n},0.1,2.0,,,,,,,," for n in range(1, 6)), "6,0."]
    file.write_text("\n".join(full))
    with TrainingLog(file, None, 3) as log:
        log.write(4, loss=1.23456789)
        log.flush()
    kept = list(csv.DictReader(file.read_text().splitlines()))
    assert [(row["step"], row["loss"]) for row in kept] == [("1", "2.0"), ("2", "2.0"), ("3", "2.0"), ("4", "1.23457")]
    file.write_text(f"{','.join(COLUMNS)}\n1,{'9' * 200_000}\n")
    with pytest.raises(UsageError, match=r"training.csv is damaged \(field larger than .*\): use --restart to begin"):
        TrainingLog(file, None, 1)
    with TrainingLog(file, None, 0):
        assert file.read_text().splitlines() == [",".join(COLUMNS)]


def test_notes_say_why_labels_are_not_used(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(table, "epochs=0")[0].last is not None
    one = write_pairs(table, "thermal", "image", SCENES, validation=8, labels=("day",))
    result, _ = run(one, "epochs=0", name="one")
    assert result.notes == ("labels are not used: all pairs that are kept for validation have the same one",)
    assert result.last is not None
    assert result.last.zero_shot is None

    class Mute(WorldEncoder):
        modalities = frozenset({Modality.IMAGE})

    monkeypatch.setattr(registry, "BUILT_IN", {**registry.BUILT_IN, "world": Mute})
    two = write_pairs(table, "thermal", "image", SCENES, validation=8, labels=("day", "", "night"))
    assert run(two, "epochs=0", name="mute")[0].notes == ("labels are not used: world embeds no text",)
    none = write_pairs(table, "thermal", "image", SCENES)
    result, _ = run(none, "validation=0", "epochs=0", name="none")
    assert (result.last, result.best_score) == (None, None)
    assert result.notes == ("no pairs are kept for validation: nothing says how good the tower is on others",)


def test_crops_of_what_looks_alike_everywhere_do_no_harm(table: Path) -> None:
    """Aligned crops that are whole pictures: the same figures as without crops, and vectors of the same parts."""
    whole, _ = run(table, "epochs=12", "validation=0", name="whole")
    crops, _ = run(table, "epochs=12", "validation=0", "crops=2", name="crops")
    assert whole.last is not None
    assert crops.last is not None
    assert crops.last.recall_at_10 >= whole.last.recall_at_10 - 0.15
    assert np.isfinite([float(row["loss"]) for row in rows(table, "crops")]).all()
