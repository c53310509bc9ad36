"""Training of one member of a tower: InfoNCE towards the text embeddings of the labels. See TRAINING.md."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

TEMPERATURE = 20.0  # logit scale of InfoNCE, the same as ImageBind's for audio
AVERAGED_STEPS = 100  # horizon of the moving average of the weights
WARM_UP = 0.15  # share of the steps during which the learning rate rises

Batches = Callable[[np.random.Generator], tuple[Tensor, Tensor]]
"""Function that draws one batch: views (n, ...), and the shares of the labels in each (n, labels), which sum to 1."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Schedule of the training of one member.

    Attributes:
        steps: Number of steps.
        learning_rate: Maximum learning rate.
        sharpness: Factor of the logits after training. InfoNCE leaves the probabilities far too even (the largest is
            0.37 on average for unseen sounds, of which 90% are classified correctly), and an even mixture of texts is
            close to other pictures than its parts are.
        weight_decay: Weight decay of AdamW.
    """

    steps: int
    learning_rate: float
    sharpness: float
    weight_decay: float = 0.05


def phrase_vectors(phrases: Sequence[Sequence[str]]) -> Tensor:
    """Return unit text embeddings, float32 (phrasings, labels, d); all labels have the same number of phrasings."""
    from bindsearch.encoders.mini.text import TextTower

    tower = TextTower()
    return torch.from_numpy(np.stack([tower.encode_texts(same_kind) for same_kind in zip(*phrases, strict=True)]))


def label_bank(phrases: Tensor) -> Tensor:
    """Return one unit vector per label, the mean of its phrasings: float32 (labels, d)."""
    return functional.normalize(phrases.mean(dim=0), dim=1)


def contrastive_loss(embeddings: Tensor, targets: Tensor, texts: Tensor) -> Tensor:
    """Return the InfoNCE loss.

    Args:
        embeddings: Unit vectors of the views, (n, d).
        targets: Shares of the labels in each view, (n, labels); a mixture has several positives.
        texts: Unit text embedding of each label, (labels, d).

    Returns:
        Mean loss, a scalar.
    """
    logits = TEMPERATURE * embeddings @ texts.T
    return -(targets * logits.log_softmax(dim=1)).sum(dim=1).mean()


def train_member(member: nn.Module, batches: Batches, phrases: Tensor, schedule: Schedule, *, seed: int) -> nn.Module:
    """Train one member, and return the moving average of its weights with sharpened logits.

    Args:
        member: Untrained network that maps views to logits.
        batches: Draws batches.
        phrases: Text embeddings, float32 (phrasings, labels, d).
        schedule: Steps, learning rate and sharpness.
        seed: Seed of the batches.
    """
    rng = np.random.default_rng(seed)
    bank = label_bank(phrases)
    averaged = copy.deepcopy(member)
    optimizer = torch.optim.AdamW(member.parameters(), schedule.learning_rate, weight_decay=schedule.weight_decay)
    rates = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, schedule.learning_rate, total_steps=schedule.steps, pct_start=WARM_UP
    )
    member.train()
    for step in range(schedule.steps):
        views, targets = batches(rng)
        embeddings = functional.normalize(member(views).softmax(dim=1) @ bank, dim=1)
        texts = phrases[rng.integers(len(phrases))]
        loss = contrastive_loss(embeddings, targets, texts)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        rates.step()
        _move_average(averaged, member, step)
    _sharpen(averaged.get_submodule("head"), schedule.sharpness)
    return averaged.eval()


def _sharpen(head: nn.Module, sharpness: float) -> None:
    """Multiply the parameters of a head, and thereby its logits."""
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(sharpness)


def _move_average(averaged: nn.Module, member: nn.Module, step: int) -> None:
    """Update an exponential moving average, with a short memory at the start."""
    keep = min(1.0 - 1.0 / AVERAGED_STEPS, (1 + step) / (10 + step))
    with torch.no_grad():
        for mean, now in zip(averaged.state_dict().values(), member.state_dict().values(), strict=True):
            if mean.dtype.is_floating_point:
                mean.lerp_(now, 1.0 - keep)
            else:
                mean.copy_(now)


def save_network(network: nn.Module, out: Path) -> None:
    """Write the weights as safetensors; floating-point tensors are written in fp16."""
    from safetensors.torch import save_file

    state = {
        name: (value.half() if value.dtype.is_floating_point else value).contiguous()
        for name, value in network.state_dict().items()
    }
    save_file(state, out)
    out.chmod(0o644)  # files of safetensors are readable by their owner only
