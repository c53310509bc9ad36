"""Text: CLIP's byte-pair encoding, 77 tokens (published code); ingestion splits longer passages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bindsearch.encoders.preprocessing.clip_tokenizer import clip_tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def prepare_text(text: str) -> NDArray[np.int64]:
    """Return the token ids, int64 (1, length), of a passage, including start and end token; thread-safe.

    Raises:
        MediaError: the passage has no words, or more than 77 tokens.
    """
    return clip_tokenizer().tokenize(text)
