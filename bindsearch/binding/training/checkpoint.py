"""Files of a run: its checkpoint, one safetensors file from which it continues bit for bit, and its log.

The log has a row of CSV for each step, and optionally the same for TensorBoard.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import IO, Any, Self

import torch
from torch import Tensor, nn

from bindsearch.atomic import atomic_write
from bindsearch.encoders.bound.networks import load_trained, trained_state
from bindsearch.errors import InstallationError, UsageError

FORMAT = 1
_STATES = ("exp_avg", "exp_avg_sq", "step")
_PROGRESS = ("step", "best_score", "since_best")


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
    facts = {"format": FORMAT, **{name: getattr(state, name) for name in _PROGRESS}, "settings": dict(settings)}
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    content = save(contiguous, {"run": json.dumps(facts)})
    with atomic_write(file) as out:
        out.write(content)


def load_checkpoint(state: TrainingState, settings: Mapping[str, Any], file: Path) -> None:
    """Fill the state of a run from its checkpoint, if there is one.

    Raises:
        UsageError: it is damaged, or belongs to a run with other settings.
    """
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        return
    try:
        with safe_open(file, "pt") as opened:
            facts = json.loads((opened.metadata() or {})["run"])
            old = facts["settings"]
            if changed := [name for name in {**old, **settings} if old.get(name) != settings.get(name)]:
                name = changed[0]
                raise UsageError(
                    f"{file} is of a run with {name}={old.get(name)} instead of {settings.get(name)}: give the same "
                    "settings to resume, or --restart to begin again"
                )
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  (no mapping)
        _fill(state, facts, tensors)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"the checkpoint {file} is damaged ({reason}): use --restart to begin again") from error


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
        entries = {kind: tensors[key] for kind in _STATES if (key := f"optimizer.{kind}.{name}") in tensors}
        if len(entries) == len(_STATES):  # torch keeps the number of steps on the CPU
            moved = {kind: value.to(device) for kind, value in entries.items() if kind != "step"}
            state.optimizer.state[parameter] = {**entries, **moved}
    state.step, state.since_best = int(facts["step"]), int(facts["since_best"])
    state.best_score = float(facts["best_score"])


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names have a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


COLUMNS = (
    "step", "epoch", "loss", "learning_rate", "scale", "gradient_norm", "media_per_s",
    "recall_at_1", "recall_at_10", "zero_shot", "score",
)  # fmt: skip
"""Columns: those from `recall_at_1` on are of a validation, and empty for other steps."""


class TrainingLog:
    """The log file, and a writer of TensorBoard's events if there is a folder for them."""

    def __init__(self, file: Path, tensorboard: Path | None, done_steps: int) -> None:
        """Open the log; rows of steps that a resumed run repeats are removed.

        Args:
            file: CSV file.
            tensorboard: Folder of TensorBoard's events; None: none are written.
            done_steps: Number of steps of the checkpoint.

        Raises:
            InstallationError: TensorBoard is not installed.
            UsageError: the file cannot be written.
        """
        self._events = None if tensorboard is None else _event_writer(tensorboard, done_steps)
        try:
            _keep_rows(file, done_steps)
            self._file: IO[str] = file.open("a", newline="", encoding="utf-8")
        except OSError as error:
            reason = error.strerror or error
            raise UsageError(f"{file} cannot be written ({reason}): choose another folder with --work") from None
        except csv.Error as error:
            raise UsageError(f"{file} is damaged ({error}): use --restart to begin again") from None
        self._writer = csv.DictWriter(self._file, COLUMNS)

    def __enter__(self) -> Self:
        """Return the log."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Close both files."""
        self._file.close()
        if self._events is not None:
            self._events.close()

    def write(self, step: int, **values: float) -> None:
        """Write the values of a step by the names of COLUMNS."""
        self._writer.writerow({"step": step, **{name: f"{value:.6g}" for name, value in values.items()}})
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)

    def flush(self) -> None:
        """Make the rows durable, before a checkpoint that is later than they are."""
        self._file.flush()
        os.fsync(self._file.fileno())


def _keep_rows(file: Path, done_steps: int) -> None:
    """Leave only the header and the rows of steps that are done; a row that was cut is removed."""
    rows = []
    if file.is_file() and done_steps:
        with file.open(newline="", encoding="utf-8", errors="replace") as lines:
            read = [row for row in csv.DictReader(lines) if (row.get("step") or "").isdecimal() and None not in row]
        rows = [{name: row.get(name) or "" for name in COLUMNS} for row in read if int(row["step"]) <= done_steps]
    text = StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    with atomic_write(file) as out:
        out.write(text.getvalue().encode())


def _event_writer(folder: Path, done_steps: int) -> Any:
    """Return a writer of TensorBoard's events."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InstallationError(
            'TensorBoard is not installed: run pip install "bindsearch[tensorboard]", or omit --tensorboard'
        ) from None
    return SummaryWriter(str(folder), purge_step=done_steps + 1)
