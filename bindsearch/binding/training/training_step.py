"""One step of training: the loss of a whole batch, and its gradients computed in parts (GradCache).

The loss is symmetric InfoNCE between the vectors of a new tower and those of the frozen hub (ImageBind, section 3.1,
eq. 1). Letters: n media, m vectors of the hub, d dimensions.

Gao et al. 2021 (arXiv 2101.06983): all vectors are computed without gradients, the loss gives the gradient of each
vector, and then each part of the batch is embedded again and that gradient is propagated through the tower. Memory is
that of a part, the gradients are those of the whole batch. With several processes each embeds its rows; since all of
them have all vectors, the sum of their gradients is the gradient of the whole batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
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
        mixing: What `mixed_targets` needs of each row, tensors (b,); empty: nothing is mixed.
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
    count = len(batch.media)
    first_row = workers.rank * count
    is_whole = workers.count == 1 and count <= forward.part
    parts = [slice(start, min(start + forward.part, count)) for start in range(0, count, forward.part)]
    with torch.set_grad_enabled(is_whole):
        own = torch.cat([forward(batch.media[part], step, first_row + part.start) for part in parts])
    vectors = own if is_whole else workers.gather(own).requires_grad_()
    facts = (batch.anchors, batch.keys, batch.groups, *batch.mixing)
    whole = loss(vectors, *(workers.gather(rows) for rows in facts))
    whole.backward()  # type: ignore[no-untyped-call]
    if not is_whole:
        assert vectors.grad is not None
        for part in parts:
            rows = slice(first_row + part.start, first_row + part.stop)
            embedded = forward(batch.media[part], step, rows.start)
            embedded.backward(vectors.grad[rows])  # type: ignore[no-untyped-call]
        workers.add_gradients(forward.tower.parameters())
    return float(whole.detach())


def contrastive_loss(
    vectors: Tensor, anchors: Tensor, shares: Tensor, scale: Tensor, *, neither: Tensor | None = None
) -> Tensor:
    """Return the mean of the losses of both directions.

    Each medium is told from all vectors of the hub but its own, and each of those from all other media. A medium may
    belong to several vectors, such as two equal texts: then its target is their mixture. The paper's sum of both
    directions is twice this mean.

    Args:
        vectors: Unit vectors of the media, float32 (n, d).
        anchors: Unit vectors of the hub, float32 (m, d).
        shares: Share of each vector of the hub in the target of a medium, float32 (n, m); rows have the sum 1.
        scale: Logit scale, the inverse of the paper's temperature: a scalar.
        neither: bool (n, m), pairs that are neither alike nor different, such as two crops of one picture.

    Returns:
        The loss, a scalar.
    """
    logits = scale * vectors @ anchors.T
    if neither is not None:
        logits = logits.masked_fill(neither, -torch.inf)
    to_hub = _cross_entropy(logits, shares)
    columns = shares.sum(dim=0)
    from_hub = shares.T[columns > 0] / columns[columns > 0, None]
    to_tower = _cross_entropy(logits.T[columns > 0], from_hub)
    return (to_hub.mean() + to_tower.mean()) / 2


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of each row; a target of 0 has no part in it, even where its logit is -inf."""
    logs = logits.log_softmax(dim=1)
    return -(targets * logs.masked_fill(targets == 0, 0.0)).sum(dim=1)


def shares_of(keys: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Return the targets of a batch of pairs, and what is neither alike nor different.

    Args:
        keys: Number of the hub's vector of each pair, int64 (n,); equal ones are the same content.
        groups: Number of what it is alike to, int64 (n,): crops of one picture have the same, and texts of one label.

    Returns:
        Shares, float32 (n, n), and the mask of other vectors of the same group, bool (n, n).
    """
    alike = keys[:, None] == keys[None]
    shares = alike / alike.sum(dim=1, keepdim=True)
    return shares.float(), (groups[:, None] == groups[None]) & ~alike


def mixed_targets(shares: Tensor, neither: Tensor, partners: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Return the targets of mixtures: what is in a mixture is what it belongs to, to the same share.

    Args:
        shares: Targets of the rows, float32 (n, n).
        neither: What is neither alike to a row nor different, bool (n, n).
        partners: Row that is mixed into each, int64 (n,).
        kept: Share of each row in its mixture, float32 (n,); 1: nothing is mixed in.

    Returns:
        Both for the mixtures.
    """
    mixed = kept[:, None] * shares + (1 - kept[:, None]) * shares[partners]
    either = neither | (neither[partners] & (kept < 1)[:, None])
    return mixed, either & (mixed == 0)
