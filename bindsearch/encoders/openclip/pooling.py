"""Picture towers split at their pooling; see `bindsearch.encoders.openclip.dense`.

Letters: n pictures, h and w rows and columns of patches, d dimensions of the space.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Values:
    """Values that a network pools.

    Attributes:
        patches: Those of patches, (n, h, w, width).
        others: Those of other tokens, such as the class token, (n, tokens, width).
    """

    patches: Tensor
    others: Tensor


@dataclass(frozen=True)
class Pooling:
    """The two parts of a network around its pooling.

    Attributes:
        values: Maps normalised pictures (n, 3, height, width) to what the network pools.
        project: Maps values (..., width) to features (..., d), not of unit length.
    """

    values: Callable[[Tensor], Values]
    project: Callable[[Tensor], Tensor]


def split_tokens(tokens: Tensor, grid: tuple[int, int]) -> Values:
    """Return tokens (n, tokens, width), of which the last are the h * w patches, as values."""
    others = tokens.shape[1] - grid[0] * grid[1]
    return Values(tokens[:, others:].reshape(len(tokens), *grid, -1), tokens[:, :others])
