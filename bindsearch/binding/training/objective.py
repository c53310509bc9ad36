"""Symmetric InfoNCE between the vectors of a new tower and those of the frozen hub (ImageBind, section 3.1, eq. 1).

Letters: n media, m vectors of the hub, d dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor


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
