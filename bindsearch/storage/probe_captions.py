"""Generic English captions: 500 texts used as text queries for measurements if a store has few texts."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bindsearch.encoders.base import Encoder, encode_media
from bindsearch.errors import StoreError, VectorError
from bindsearch.media import Passage
from bindsearch.storage.vector_files import check_vectors, open_vectors, write_vectors

BATCH_CAPTIONS = 50


@cache
def generic_captions() -> tuple[str, ...]:
    """Return the captions, all different.

    Subjects: people, animals, places, nature, sounds, sports, food, motion, night, rooms.
    """
    return tuple(files("bindsearch.storage").joinpath("probe_captions.txt").read_text(encoding="utf-8").splitlines())


def caption_vectors(encoder: Encoder, store: Path) -> NDArray[np.float32]:
    """Return embeddings of `generic_captions`, encoded once and then stored in the store; a damaged file is replaced.

    Args:
        encoder: Encoder of the store; it must embed texts.
        store: Folder of the store.

    Returns:
        Unit vectors, float32 (500, d), rounded to float16.
    """
    path = store / "indexes" / f"captions-{encoder.digest[:16]}.arrow"
    captions = generic_captions()
    try:
        stored = open_vectors(path, encoder.dim).embeddings.astype(np.float32)
        check_vectors(stored, encoder.dim)
        if len(stored) == len(captions):
            return stored
    except (StoreError, VectorError):  # missing or damaged
        pass
    batches = [captions[start : start + BATCH_CAPTIONS] for start in range(0, len(captions), BATCH_CAPTIONS)]
    vectors = np.concatenate([encode_media(encoder, [Passage(caption) for caption in batch]) for batch in batches])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_vectors(path, np.arange(len(captions)), vectors)
    return vectors.astype(np.float16).astype(np.float32)  # the same values as read from the file
