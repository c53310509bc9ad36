"""The encoder protocol: media in, unit vectors of one space out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from bindsearch.errors import UsageError
from bindsearch.media import MODALITY_OF, DecodeHints, Media
from bindsearch.types import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Encoder(Protocol):
    """Turns media of several modalities into vectors of one embedding space.

    Work is split in two so that ingestion can overlap it: `prepare` is the per-file preprocessing (NumPy and Pillow
    only, thread-safe, loads no tower), `encode` runs the tower of one modality over a batch. Towers load on first use.

    An encoder may also have `libraries`: for each modality the names of the modules that it imports to embed it, such
    as {Modality.TEXT: ("torch",)}. They are loaded before anything is embedded; where one cannot be, a run ends with
    one line.
    """

    @property
    def name(self) -> str:
        """The name it is asked for by, such as "mini"."""

    @property
    def dim(self) -> int:
        """d, the number of dimensions of the space."""

    @property
    def digest(self) -> str:
        """Hex digest over the weights and everything else that decides what a vector means."""

    @property
    def options(self) -> Mapping[str, str | int | float | bool]:
        """Preprocessing options, recorded in the store."""

    @property
    def modalities(self) -> frozenset[Modality]:
        """What it can encode."""

    @property
    def temperatures(self) -> Mapping[Modality, float]:
        """Logit scale of each modality: features = temperature * unit vector."""

    @property
    def wants(self) -> DecodeHints:
        """What decoders should deliver."""

    @property
    def max_tokens(self) -> int:
        """Longest passage of text, in tokens as `count_tokens` counts them."""

    def count_tokens(self, text: str) -> int:
        """Tokens of `text`, special tokens included."""

    def prepare(self, media: Media) -> NDArray[Any]:
        """Preprocess one medium: an array (views, ...), at least one view. Thread-safe.

        Raises:
            MediaError: the medium holds nothing to encode.
        """

    def features(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Temperature-scaled features of what `prepare` gave for n media of one modality: float32 (n, d).

        Views of one medium are embedded one by one, scaled and averaged, and not normalised again. They are for
        softmaxes and for comparison with published numbers; everything else uses `encode`.
        """

    def encode(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Embed what `prepare` gave for n media of one modality: float32 (n, d), unit L2 norm.

        Views of one medium are embedded one by one, averaged and normalised again.
        """


def libraries_of(encoder: Encoder, modality: Modality) -> tuple[str, ...]:
    """Return the modules that an encoder imports to embed a modality; none where it does not say."""
    declared: Mapping[Modality, tuple[str, ...]] = getattr(encoder, "libraries", {})
    return declared.get(modality, ())


def encode_media(encoder: Encoder, media: Sequence[Media]) -> NDArray[np.float32]:
    """Embed media of one modality, such as [Passage("a dog")]: float32 (n, d), unit L2 norm.

    Raises:
        UsageError: nothing, no media (see `bindsearch.media`), or media of several modalities.
    """
    kinds = {type(medium) for medium in media}
    if len(kinds) != 1 or not kinds <= MODALITY_OF.keys():
        found = ", ".join(sorted(kind.__name__ for kind in kinds)) or "nothing"
        known = ", ".join(kind.__name__ for kind in MODALITY_OF)
        raise UsageError(f"cannot embed {found}: give media of one kind, of bindsearch.media: {known}")
    modality = MODALITY_OF[kinds.pop()]
    return encoder.encode(modality, [encoder.prepare(medium) for medium in media])
