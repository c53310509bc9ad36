"""Checkpoints of a run: one safetensors file, replaced as a whole, from which a run goes on bit for bit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bindsearch.atomic import atomic_write
from bindsearch.encoders.bound.networks import load_trained, trained_state
from bindsearch.errors import UsageError

FORMAT = 1
_STATES = ("exp_avg", "exp_avg_sq", "step")


@dataclass
class TrainingState:
    """State of a run: all that changes while a tower is trained.

    Attributes:
        tower: The tower.
        log_scale: Logarithm of the logit scale, a scalar.
        optimizer: AdamW over both.
        average: Moving average of the tower's trained parameters by name; empty if none is kept.
        best: Trained parameters at the best validation; empty before the first.
        best_score: Its score.
        since_best: Validations since then.
        step: Number of steps that are done.
    """

    tower: nn.Module
    log_scale: nn.Parameter
    optimizer: torch.optim.AdamW
    average: dict[str, Tensor]
    best: dict[str, Tensor]
    best_score: float = -1.0
    since_best: int = 0
    step: int = 0

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return all trained parameters by name."""
        own = {name: value for name, value in self.tower.named_parameters() if value.requires_grad}
        return {**own, "log_scale": self.log_scale}


def save_checkpoint(state: TrainingState, settings: Mapping[str, Any], file: Path) -> None:
    """Write the state of a run.

    Args:
        state: The state.
        settings: All settings that determine the run, for comparison.
        file: File to replace.
    """
    from safetensors.torch import save

    tensors = {f"tower.{name}": value for name, value in trained_state(state.tower).items()}
    tensors["log_scale"] = state.log_scale.data
    tensors |= {f"average.{name}": value for name, value in state.average.items()}
    tensors |= {f"best.{name}": value for name, value in state.best.items()}
    for name, parameter in state.parameters().items():
        tensors |= {f"optimizer.{kind}.{name}": value for kind, value in state.optimizer.state[parameter].items()}
    facts = {
        "format": FORMAT,
        "step": state.step,
        "best_score": state.best_score,
        "since_best": state.since_best,
        "settings": dict(settings),
    }
    content = save(
        {name: value.detach().cpu().contiguous() for name, value in tensors.items()}, {"run": json.dumps(facts)}
    )
    with atomic_write(file) as out:
        out.write(content)


def load_checkpoint(state: TrainingState, settings: Mapping[str, Any], file: Path) -> bool:
    """Fill the state of a run from its checkpoint.

    Returns:
        Whether there is one.

    Raises:
        UsageError: it is damaged, or belongs to a run with other settings.
    """
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        return False
    try:
        with safe_open(file, "pt") as opened:
            facts = json.loads((opened.metadata() or {})["run"])
            _check_settings(facts["settings"], settings, file)
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  (no mapping)
        _fill(state, facts, tensors)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"the checkpoint {file} is damaged ({reason}): use --restart to begin again") from error
    return True


def _fill(state: TrainingState, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    if facts["format"] != FORMAT:
        raise ValueError(f"format {facts['format']} instead of {FORMAT}")
    device = state.log_scale.device
    load_trained(state.tower, _below(tensors, "tower."))
    with torch.no_grad():
        state.log_scale.copy_(tensors["log_scale"])
    if state.average:
        state.average = {name: value.to(device) for name, value in _below(tensors, "average.").items()}
    state.best = _below(tensors, "best.")
    for name, parameter in state.parameters().items():
        entries = {kind: tensors.get(f"optimizer.{kind}.{name}") for kind in _STATES}
        if all(value is not None for value in entries.values()):
            state.optimizer.state[parameter] = {
                kind: value if kind == "step" else value.to(device)  # torch keeps the number of steps on the CPU
                for kind, value in entries.items()
                if value is not None
            }
    state.step, state.since_best = int(facts["step"]), int(facts["since_best"])
    state.best_score = float(facts["best_score"])


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names have a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _check_settings(old: Mapping[str, Any], new: Mapping[str, Any], file: Path) -> None:
    """Raise UsageError if a run has other settings than its checkpoint."""
    changed = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    if changed:
        name = changed[0]
        raise UsageError(
            f"{file} is of a run with {name}={old.get(name)} instead of {new.get(name)}: give the same settings to "
            "resume, or --restart to begin again"
        )
