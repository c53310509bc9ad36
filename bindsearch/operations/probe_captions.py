"""500 generic English captions: they stand for text queries where a store holds no texts of its own."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.encoders.base import Encoder, encode_media
from bindsearch.errors import StoreError, VectorError
from bindsearch.media import Passage
from bindsearch.storage.vector_files import check_vectors, open_vectors, write_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH_CAPTIONS = 50


@cache
def generic_captions() -> tuple[str, ...]:
    """The captions, all different: people, animals, places, nature, sounds, sports, food, motion, night, rooms."""
    return tuple(files("bindsearch.operations").joinpath("captions.txt").read_text(encoding="utf-8").splitlines())


def caption_vectors(encoder: Encoder, store: Path) -> NDArray[np.float32]:
    """Embeddings of `generic_captions`, float32 (500, d), unit norm: encoded once and then kept in the store.

    What is kept and damaged is encoded again. `encoder` must take texts.
    """
    path = store / "indexes" / f"captions-{encoder.digest[:16]}.arrow"
    captions = generic_captions()
    try:
        kept = open_vectors(path, encoder.dim).embeddings.astype(np.float32)
        check_vectors(kept, encoder.dim)
        if len(kept) == len(captions):
            return kept
    except (StoreError, VectorError):  # not there yet, or damaged
        pass
    batches = [captions[start : start + BATCH_CAPTIONS] for start in range(0, len(captions), BATCH_CAPTIONS)]
    vectors = np.concatenate([encode_media(encoder, [Passage(caption) for caption in batch]) for batch in batches])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_vectors(path, np.arange(len(captions)), vectors)
    return vectors.astype(np.float16).astype(np.float32)  # the same numbers as from the file
