"""Weights of attention as a network computes them, read where torch computes attention."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor


@contextmanager
def recorded_attention() -> Iterator[list[Tensor]]:
    """Record the weights of each attention, (n, heads, queries, keys), while it is computed as always.

    Modules of torch compute attention in one operation unless a gradient could follow: gradients must be enabled.
    """
    weights: list[Tensor] = []
    compute = torch.nn.functional.scaled_dot_product_attention

    def record(query: Tensor, key: Tensor, value: Tensor, *arguments: Any, **options: Any) -> Tensor:
        weights.append((query @ key.mT / math.sqrt(query.shape[-1])).softmax(dim=-1).detach())
        return compute(query, key, value, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "scaled_dot_product_attention", record)
        yield weights


def pool(weights: Tensor, values: Tensor) -> Tensor:
    """Return the sums of values (n, keys, width) with the weights of the first query: (n, width), head by head."""
    heads = values.reshape(*values.shape[:2], weights.shape[1], -1)
    return torch.einsum("nhk,nkhw->nhw", weights[:, :, 0], heads).flatten(1)
