"""Head of the sound and motion towers: a mixture of label texts, weighted by the probabilities of its members.

The vectors are among those of texts (like those of ConSE, arXiv 1312.5650); a sound of two labels is between both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from bindsearch.errors import EncoderError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class LabelMixture(nn.Module):
    """Network that maps views (n, ...) to unit vectors (n, d)."""

    bank: Tensor

    def __init__(self, members: Sequence[nn.Module], bank: Tensor) -> None:
        """Combine members.

        Args:
            members: Networks that map views (n, ...) to logits (n, labels).
            bank: Unit text embedding of each label, float32 (labels, d).
        """
        super().__init__()
        self.members = nn.ModuleList(members)
        self.register_buffer("bank", bank)

    def forward(self, views: Tensor) -> Tensor:
        """Return the sum of the label texts, weighted by the mean probabilities of the members, at unit length."""
        probabilities = torch.stack([member(views).softmax(dim=1) for member in self.members]).mean(dim=0)
        return functional.normalize(probabilities @ self.bank, dim=1)


def mixture_from_state(state: Mapping[str, Tensor], make_member: Callable[[int], nn.Module]) -> LabelMixture:
    """Build the mixture of a state dict, ready for inference.

    Args:
        state: Tensors of the members and the bank.
        make_member: Returns an untrained member for a number of labels.

    Raises:
        KeyError: a tensor is missing.
        RuntimeError: the tensors are not those of such members.
    """
    count = len({name.split(".")[1] for name in state if name.startswith("members.")})
    members = [make_member(state["bank"].shape[0]) for _ in range(count)]
    mixture = LabelMixture(members, torch.zeros(state["bank"].shape))
    mixture.load_state_dict(dict(state))
    return mixture.eval()


def load_mixture(weights: Path, build: Callable[[Mapping[str, Tensor]], LabelMixture]) -> LabelMixture:
    """Read a weights file, and build its mixture.

    Args:
        weights: File of the weights.
        build: Builds the mixture of a state dict.

    Raises:
        EncoderError: the file is missing or does not fit the network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return build(load_file(weights))
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise EncoderError(f"cannot read weights {weights}: {reason}; reinstall bindsearch") from error


def embed_views(mixture: LabelMixture, views: NDArray[np.float32]) -> NDArray[np.float32]:
    """Embed views, float32 (n, ...): float32 (n, d), unit L2 norm."""
    with torch.inference_mode():
        embeddings: NDArray[np.float32] = mixture(torch.from_numpy(views)).numpy()
    return embeddings
