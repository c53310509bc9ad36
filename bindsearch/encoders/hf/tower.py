"""Tower of a model of the library: a network, and how it is called."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

Call = Callable[[nn.Module, Tensor], Tensor]
"""Runs a network on the input of a tower and returns vectors (n, d)."""


class Tower(nn.Module):
    """Network that maps one tensor to vectors, whatever its own arguments and results are."""

    def __init__(self, network: nn.Module, call: Call) -> None:
        super().__init__()
        self.network = network
        self._call = call

    def forward(self, batch: Tensor) -> Tensor:
        """Return vectors (n, d), not of unit length."""
        return self._call(self.network, batch)
