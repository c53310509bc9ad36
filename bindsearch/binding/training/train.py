"""The training loop: AdamW with warm-up and cosine decay, checkpoints, validation and early stop."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bindsearch.binding.data.loader import Drawing, batches
from bindsearch.binding.recipe import BETAS, Recipe
from bindsearch.binding.training.checkpoint import TrainingLog, TrainingState, load_checkpoint, save_checkpoint
from bindsearch.binding.training.training_step import Forward, backward, contrastive_loss, mixed_targets, shares_of
from bindsearch.binding.training.validation import Validation, Validator
from bindsearch.binding.training.workers import Workers
from bindsearch.encoders.bound.networks import load_trained, trained_state
from bindsearch.errors import UsageError

MAX_SCALE = 100.0
"""Largest learned logit scale (CLIP, Radford et al. 2021, section 2.5)."""

CHECKPOINT_FILE = "checkpoint.safetensors"
LOG_FILE = "training.csv"

CHECKPOINT_S = 60.0
"""Seconds of training that a kill can lose."""


@dataclass(frozen=True, slots=True)
class StepReport:
    """Progress after one step.

    Attributes:
        step: Number of steps that are done.
        steps: Number of all steps.
        loss: Loss of the batch.
        media_per_s: Media of a second, over all processes.
        validation: Figures of the validation after this step; None: there was none.
    """

    step: int
    steps: int
    loss: float
    media_per_s: float
    validation: Validation | None


@dataclass(frozen=True)
class Run:
    """Parts of a run besides its state.

    Attributes:
        drawing: How batches are drawn.
        validator: The validation; None: no pairs are kept for it.
        settings: All settings that determine the run, for its checkpoint.
        workers: The processes.
        device: Device of the tower.
        folder: Folder of checkpoint and log.
        tensorboard: Folder of TensorBoard's events; None: none.
        on_step: Called after each step.
    """

    drawing: Drawing
    validator: Validator | None
    settings: Mapping[str, Any]
    workers: Workers
    device: torch.device
    folder: Path
    tensorboard: Path | None
    on_step: Callable[[StepReport], None]

    @property
    def recipe(self) -> Recipe:
        """Settings of batches, optimizer and schedule."""
        return self.drawing.settings.recipe

    @property
    def steps_of_epoch(self) -> float:
        """Number of steps in which each pair is drawn once, times its replication."""
        return len(self.drawing.train_rows) * self.recipe.replication / self.recipe.batch

    @property
    def steps(self) -> int:
        """Number of all steps, at least 1."""
        return max(1, math.ceil(self.recipe.epochs * self.steps_of_epoch))


def train(tower: nn.Module, run: Run) -> TrainingState:
    """Train a tower; a run that was interrupted goes on from its checkpoint.

    Args:
        tower: The new tower, on the device of the run.
        run: Everything else.

    Returns:
        The state at the end, of which `kept_weights` returns the result.
    """
    state = _new_state(tower, run.recipe)
    checkpoint = run.folder / CHECKPOINT_FILE
    load_checkpoint(state, run.settings, checkpoint)
    tower.train()
    logs = TrainingLog(run.folder / LOG_FILE, run.tensorboard, state.step) if run.workers.is_first else nullcontext()
    with logs as log:
        _train_steps(state, run, log, checkpoint)
    return state


def _train_steps(state: TrainingState, run: Run, log: TrainingLog | None, checkpoint: Path) -> None:
    """Train until the last step, or until validation has stopped to improve."""
    recipe, workers = run.recipe, run.workers
    forward = Forward(state.tower, recipe.part, recipe.seed, recipe.precision == "bf16")
    saved_s = time.monotonic()
    every = max(1, round(run.steps_of_epoch))
    first = run.steps if _has_stopped(state, recipe) else state.step
    drawn = batches(run.drawing, range(first, run.steps), workers, run.device)
    for batch in drawn:
        started_s = time.monotonic()
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(state.step, run.steps, run.steps_of_epoch, recipe)
        loss = backward(forward, batch, lambda *rows: _loss(state.log_scale, *rows), state.step, workers)
        norm = _update(state, recipe, loss)
        state.step += 1
        validation = None
        if run.validator is not None and (state.step % every == 0 or state.step == run.steps):
            validation = _validate(state, run, run.validator)
        media_per_s = recipe.batch / max(time.monotonic() - started_s, 1e-6)
        if log is not None:
            values = {
                "epoch": state.step / run.steps_of_epoch,
                "loss": loss,
                "learning_rate": state.optimizer.param_groups[0]["lr"],
                "scale": float(state.log_scale.detach().exp()),
                "gradient_norm": norm,
                "media_per_s": media_per_s,
            }
            figures = {} if validation is None else {**asdict(validation), "score": validation.score}
            log.write(state.step, **values, **{name: one for name, one in figures.items() if one is not None})
            if time.monotonic() - saved_s > CHECKPOINT_S or validation is not None or state.step == run.steps:
                log.flush()
                save_checkpoint(state, run.settings, checkpoint)
                saved_s = time.monotonic()
            run.on_step(StepReport(state.step, run.steps, loss, media_per_s, validation))
        if workers.agree(_has_stopped(state, recipe)):
            break
    drawn.close()  # type: ignore[attr-defined]


def _has_stopped(state: TrainingState, recipe: Recipe) -> bool:
    """Return whether validation has not improved for as long as the recipe waits."""
    return bool(recipe.patience) and state.since_best >= recipe.patience


def kept_weights(state: TrainingState, recipe: Recipe) -> dict[str, Tensor]:
    """Return the trained parameters to keep: of early stop the best ones, else the average if there is one."""
    if recipe.patience and state.best:
        return state.best
    return state.average or {name: value.detach() for name, value in trained_state(state.tower).items()}


def learning_rate(step: int, steps: int, steps_of_epoch: float, recipe: Recipe) -> float:
    """Return the learning rate of a step: it rises linearly, then falls as half a cosine to 0."""
    warm_up = min(recipe.warmup_epochs * steps_of_epoch, 0.5 * steps)
    if step + 1 <= warm_up:
        return recipe.learning_rate * (step + 1) / warm_up
    share = (step - warm_up) / max(steps - warm_up, 1.0)
    return recipe.learning_rate * 0.5 * (1.0 + math.cos(math.pi * min(share, 1.0)))


def _new_state(tower: nn.Module, recipe: Recipe) -> TrainingState:
    """Return the state of a run that has not begun."""
    device = next(tower.parameters()).device
    log_scale = nn.Parameter(torch.tensor(math.log(recipe.scale), device=device), bool(recipe.learn_scale))
    parameters = [value for value in tower.parameters() if value.requires_grad]
    # Biases, norms, tokens and positions do not decay: they are no maps, and their size means something.
    matrices = [value for value in parameters if value.ndim > 1 and len(value) > 1]
    others = [value for value in parameters if value.ndim <= 1 or len(value) == 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": [*others, *([log_scale] if recipe.learn_scale else [])], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], recipe.learning_rate, betas=BETAS)
    return TrainingState(tower, log_scale, optimizer, _copied(tower) if recipe.average else {}, {})


def _copied(tower: nn.Module) -> dict[str, Tensor]:
    """Return copies of the trained parameters of a tower by name."""
    return {name: value.detach().clone() for name, value in trained_state(tower).items()}


def _loss(log_scale: Tensor, vectors: Tensor, anchors: Tensor, keys: Tensor, groups: Tensor, *mixing: Tensor) -> Tensor:
    """Return the loss of a whole batch; crops of one file of the hub are neither alike nor different."""
    shares, neither = shares_of(keys, groups)
    if mixing:
        shares, neither = mixed_targets(shares, neither, *mixing)
    return contrastive_loss(vectors, anchors, shares, log_scale.exp(), neither=neither)


def _update(state: TrainingState, recipe: Recipe, loss: float) -> float:
    """Apply the gradients, and return their norm before it was clipped; raise UsageError if training has diverged."""
    parameters = [value for value in state.parameters().values() if value.grad is not None]
    norm = float(nn.utils.clip_grad_norm_(parameters, recipe.clip))
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise UsageError(
            f"training diverged in step {state.step + 1} (loss {loss:g}, gradient norm {norm:g}): "
            f"use --restart and a learning_rate below {recipe.learning_rate:g}"
        )
    state.optimizer.step()
    state.optimizer.zero_grad()
    with torch.no_grad():
        state.log_scale.clamp_(max=math.log(MAX_SCALE))
        # A short memory at the start: the first weights are far from the last.
        keep = min(1.0 - 1.0 / max(recipe.average, 1), (1 + state.step) / (10 + state.step))
        for name, value in trained_state(state.tower).items() if state.average else ():
            state.average[name].lerp_(value, 1.0 - keep)
    return norm


def _validate(state: TrainingState, run: Run, validator: Validator) -> Validation:
    """Return the figures of the tower, with its averaged weights if there are any, and keep the best ones."""
    tower = state.tower
    if state.average:
        tower = copy.deepcopy(tower)
        load_trained(tower, state.average)
    validation = validator.run(tower, run.recipe.part, run.device)
    if validation.score > state.best_score:
        state.best_score, state.since_best = validation.score, 0
        state.best = _copied(tower)
    else:
        state.since_best += 1
    return validation
