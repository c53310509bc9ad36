"""Text: CLIP's byte-pair encoding, 77 tokens (published code); longer passages are split by ingestion, never cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bindsearch.encoders.clip_text import clip_tokenizer, pad_tokens

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


def prepare_text(text: str) -> NDArray[np.int64]:
    """Token ids int64 (1, length) of a passage, start and end token included; thread-safe.

    Raises:
        MediaError: there is no word in it, or it has more than 77 tokens.
    """
    return clip_tokenizer().tokenize(text)


def to_tokens(prepared: Sequence[NDArray[np.int64]]) -> torch.Tensor:
    """n prepared texts as the tower takes them: int64 (n, longest), zeros behind the end token."""
    return pad_tokens(prepared)
