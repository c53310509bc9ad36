"""Queries of a detector from media of any modality, by an encoder that has the detector's space.

A detector's text tower was trained further with its class head, so that the published CLIP model that it was made from
has another space. Encoders with the same one are that of the detector's own files, `hf:ORG/NAME`, and those that were
bound to it (`bindsearch bind --hub hf:ORG/NAME`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bindsearch.encoders.base import Encoder, encode_media, query_encoder
from bindsearch.errors import EncoderError, UsageError
from bindsearch.media import MODALITY_OF, Media, Passage
from bindsearch.types import Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bindsearch.encoders.detectors.detector import Detector

MIN_COSINE = 0.999
"""Least cosine of the vectors of a text by two towers that are the same: bf16 and fp32 differ by less than 0.001."""

PROBES = (
    "a dog",
    "a cat on a sofa",
    "a person riding a bicycle",
    "red car",
    "the sound of rain",
    "a train at a station",
    "birds in the sky",
    "a cup of coffee",
    "an old wooden door",
    "a photo of a street at night",
    "people playing football",
    "a plate with food",
    "keyboard and mouse",
    "green grass",
    "a ringing phone",
    "snow on a mountain",
    "a boat on a lake",
    "traffic light",
    "a child laughing",
    "nothing but a white wall",
)
"""Texts that the towers are compared by; each has at most 16 tokens."""


def embed_queries(detector: Detector, media: Sequence[Media], encoder: Encoder | None = None) -> NDArray[np.float32]:
    """Embed n media of one modality as queries of a detector: float32 (n, d), unit L2 norm.

    Texts and pictures are embedded by the detector itself, other media by an encoder that shares its space.

    Args:
        detector: The detector.
        media: n media of one class of `bindsearch.media`.
        encoder: Encoder of other media; None: there is none.

    Raises:
        UsageError: there are no media, or of several modalities, or they need an encoder.
        EncoderError: the encoder has another space, or no tower for the media.
        MediaError: a medium has no content to encode.
    """
    own = detector.encoder
    modalities = {MODALITY_OF.get(type(medium)) for medium in media}
    if None in modalities or modalities <= own.modalities:
        return encode_media(own, media)
    if encoder is None:
        raise lacks_encoder(detector, str(next(iter(modalities))))
    check_shared_space(detector, encoder)
    return encode_media(query_encoder(encoder, Modality.IMAGE), media)


def lacks_encoder(detector: Detector, modality: str) -> UsageError:
    """Return the error for a query that a detector cannot embed itself, where no encoder is given."""
    return UsageError(
        f"the detector {detector.name} embeds texts and pictures alone, not {modality}: {_way_out(detector)}"
    )


def check_shared_space(detector: Detector, encoder: Encoder) -> None:
    """Check that an encoder has the space of a detector: both embed PROBES alike.

    Raises:
        EncoderError: the encoder has no texts, or another dimension, or a cosine is below MIN_COSINE; the message has
            the lowest one.
    """
    if Modality.TEXT not in encoder.modalities:
        raise EncoderError(
            f"the encoder {encoder.name} has no texts to compare its space with that of the detector {detector.name}: "
            f"{_way_out(detector)}"
        )
    if encoder.dim != detector.dim:
        raise EncoderError(
            f"the encoder {encoder.name} has {encoder.dim} dimensions, the detector {detector.name} has "
            f"{detector.dim}, so that its vectors are no queries of it: {_way_out(detector)}"
        )
    vectors = encode_media(query_encoder(encoder, Modality.IMAGE), [Passage(text) for text in PROBES])
    cosines = (vectors * detector.text_embeddings(PROBES)).sum(axis=1)
    lowest = int(np.argmin(cosines))
    if not cosines[lowest] >= MIN_COSINE:
        raise EncoderError(
            f"the encoder {encoder.name} has another space than the detector {detector.name}: their vectors of "
            f'"{PROBES[lowest]}" have the cosine {cosines[lowest]:.3f}, at least {MIN_COSINE} is needed: '
            f"{_way_out(detector)}"
        )


def _way_out(detector: Detector) -> str:
    """Return how media other than texts become queries of a detector."""
    own = f"hf:{detector.name.partition(':')[2]}"
    return f"search with texts or pictures, or with an encoder that was bound to {own} (`bindsearch bind --hub {own}`)"
