"""The head of the sound and motion towers: a mixture of label texts, weighted with the probabilities of its members.

So their vectors lie among the texts (as ConSE's do, arXiv 1312.5650), and a sound of two labels lies between both.
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
    """Views (n, ...) to unit vectors (n, d). `members` give logits (n, labels); `bank` float32 (labels, d) holds the
    unit text embedding of each label."""

    bank: Tensor

    def __init__(self, members: Sequence[nn.Module], bank: Tensor) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.register_buffer("bank", bank)

    def forward(self, views: Tensor) -> Tensor:
        """The label texts, weighted with the mean probabilities of the members, at unit length."""
        probabilities = torch.stack([member(views).softmax(dim=1) for member in self.members]).mean(dim=0)
        return functional.normalize(probabilities @ self.bank, dim=1)


def mixture_from_state(state: Mapping[str, Tensor], make_member: Callable[[int], nn.Module]) -> LabelMixture:
    """The mixture a state dict belongs to, ready for inference; `make_member(labels)` makes an untrained member.

    Raises:
        KeyError, RuntimeError: the state is not one of such members.
    """
    count = len({name.split(".")[1] for name in state if name.startswith("members.")})
    members = [make_member(state["bank"].shape[0]) for _ in range(count)]
    mixture = LabelMixture(members, torch.zeros(state["bank"].shape))
    mixture.load_state_dict(dict(state))
    return mixture.eval()


def load_mixture(weights: Path, build: Callable[[Mapping[str, Tensor]], LabelMixture]) -> LabelMixture:
    """Read a weights file and `build` its mixture.

    Raises:
        EncoderError: the file is missing or does not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return build(load_file(weights))
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise EncoderError(f"cannot read weights {weights}: {reason}; reinstall bindsearch") from error


def embed_views(mixture: LabelMixture, views: NDArray[np.float32]) -> NDArray[np.float32]:
    """Embed views float32 (n, ...): float32 (n, d), unit L2 norm."""
    with torch.inference_mode():
        embeddings: NDArray[np.float32] = mixture(torch.from_numpy(views)).numpy()
    return embeddings
