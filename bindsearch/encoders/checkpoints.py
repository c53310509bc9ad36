"""Checkpoints of others, read one tensor at a time in little memory, without running what is in them."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bindsearch.errors import EncoderError

if TYPE_CHECKING:
    import torch

MAPPED_BYTES = 256 << 20
"""The file is mapped anew after this much has been read, since pages once touched count as memory until then."""


class MappedCheckpoint:
    """A checkpoint saved by torch.save, mapped: `state` has its tensors without reading them.

    Raises:
        EncoderError: the file is none, damaged, in the format of before PyTorch 1.6, or holds more than plain tensors.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_bytes = 0
        self.state = _open(path)

    def read(self, key: str) -> torch.Tensor:
        """One tensor. Let go of it before the next is read, and memory stays within a tensor and MAPPED_BYTES."""
        if self._read_bytes > MAPPED_BYTES:
            self.state = {}  # unmapped before it is mapped again
            self.state = _open(self._path)
            self._read_bytes = 0
        tensor: torch.Tensor = self.state[key]
        self._read_bytes += tensor.nbytes
        return tensor


def _open(path: Path) -> Mapping[str, Any]:
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise EncoderError(f"checkpoint {path} does not exist: check the path") from None
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        line = " ".join(str(error).split())[:200]
        raise EncoderError(f"checkpoint {path} cannot be read ({line}): it is damaged or no checkpoint") from error
    if not isinstance(state, dict):
        raise EncoderError(f"checkpoint {path} holds a {type(state).__name__}, expected a state dict of tensors")
    return state
