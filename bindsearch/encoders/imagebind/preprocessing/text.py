"""Text: CLIP's byte-pair encoding, 77 tokens (published code); longer passages are split by ingestion, never cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bindsearch.encoders.preprocessing.clip_tokenizer import clip_tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def prepare_text(text: str) -> NDArray[np.int64]:
    """Token ids int64 (1, length) of a passage, start and end token included; thread-safe.

    Raises:
        MediaError: there is no word in it, or it has more than 77 tokens.
    """
    return clip_tokenizer().tokenize(text)
