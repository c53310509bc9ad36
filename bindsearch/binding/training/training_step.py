"""One step of training: the loss of a whole batch, and its gradients computed in parts (GradCache).

Gao et al. 2021 (arXiv 2101.06983): all vectors are computed without gradients, the loss gives the gradient of each
vector, and then each part of the batch is embedded again and that gradient is propagated through the tower. Memory is
that of a part, the gradients are those of the whole batch. With several processes each embeds its rows; since all of
them have all vectors, the sum of their gradients is the gradient of the whole batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bindsearch.binding.training.workers import Workers


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows of a batch that this process embeds.

    Attributes:
        media: Input of the tower, (b, ...).
        anchors: Vectors of the hub, float32 (b, d).
        keys: Number of the hub's vector of each row, int64 (b,).
        groups: Number of what each row is alike to, int64 (b,).
        mixing: What `objective.mixed_targets` needs of each row, tensors (b,); empty: nothing is mixed.
    """

    media: Tensor
    anchors: Tensor
    keys: Tensor
    groups: Tensor
    mixing: tuple[Tensor, ...] = ()


Loss = Callable[..., Tensor]
"""Loss of the vectors (n, d) of a whole batch, its anchors (n, d), keys (n,), groups (n,) and mixing."""


@dataclass(frozen=True, slots=True)
class Forward:
    """Forward pass of a tower.

    Attributes:
        tower: Module that maps media to unit vectors.
        part: Number of media that are embedded at a time.
        seed: Seed of dropout and stochastic depth.
        bf16: Multiply in bfloat16.
    """

    tower: nn.Module
    part: int
    seed: int
    bf16: bool = False

    def __call__(self, media: Tensor, step: int, first: int) -> Tensor:
        """Return the vectors of one part.

        Args:
            media: Media of the part, (p, ...).
            step: Number of the step.
            first: Row of its first medium in the whole batch: the same dropout is drawn whenever it is embedded.
        """
        torch.manual_seed(seed_of(self.seed, step, first))
        with torch.autocast(media.device.type, torch.bfloat16, enabled=self.bf16):
            vectors: Tensor = self.tower(media)
        return vectors.float()


def seed_of(*numbers: int) -> int:
    """Return a seed, 0 to 2^63 - 1, that depends on all numbers and on their order."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def backward(forward: Forward, batch: Batch, loss: Loss, step: int, workers: Workers) -> float:
    """Add the gradients of the loss of a whole batch to the parameters of the tower.

    Args:
        forward: How the tower is run.
        batch: The rows of this process.
        loss: Loss of the whole batch; it may have parameters of its own, whose gradients are the same in each process.
        step: Number of the step.
        workers: The processes.

    Returns:
        The loss of the whole batch.
    """
    first_row = workers.rank * len(batch.media)
    is_whole = workers.count == 1 and len(batch.media) <= forward.part
    with torch.set_grad_enabled(is_whole):
        own = torch.cat([forward(batch.media[part], step, first_row + part.start) for part in _parts(forward, batch)])
    vectors = own if is_whole else workers.gather(own).requires_grad_()
    facts = (batch.anchors, batch.keys, batch.groups, *batch.mixing)
    whole = loss(vectors, *(workers.gather(rows) for rows in facts))
    whole.backward()  # type: ignore[no-untyped-call]
    if not is_whole:
        assert vectors.grad is not None
        for part in _parts(forward, batch):
            rows = slice(first_row + part.start, first_row + part.stop)
            embedded = forward(batch.media[part], step, rows.start)
            embedded.backward(vectors.grad[rows])  # type: ignore[no-untyped-call]
        workers.add_gradients(forward.tower.parameters())
    return float(whole.detach())


def _parts(forward: Forward, batch: Batch) -> Iterator[slice]:
    """Yield the parts of a batch, in order."""
    for start in range(0, len(batch.media), forward.part):
        yield slice(start, min(start + forward.part, len(batch.media)))
