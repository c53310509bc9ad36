"""Encoder protocol: maps media to unit vectors of one embedding space."""

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
    """Mapping of media of several modalities to vectors of one embedding space.

    The work is split in two steps so that ingestion can overlap them: `prepare` is the preprocessing of one medium
    (NumPy and Pillow only, thread-safe, loads no tower), `encode` runs the tower of one modality over a batch. Towers
    load on first use.

    An encoder may also have an attribute `libraries`: for each modality the names of the modules that it imports to
    embed it, such as {Modality.TEXT: ("torch",)}. They are loaded before anything is embedded; if one cannot be loaded,
    the run ends with an error of one line.

    What else an encoder may have is in `QueryEncoders`, `JointEncoder`, `LocatingEncoder` and `ShortenedEncoder`; none
    of it is required.
    """

    @property
    def name(self) -> str:
        """Name that the encoder is loaded by, such as "mini"."""

    @property
    def dim(self) -> int:
        """Dimension d of the embedding space."""

    @property
    def digest(self) -> str:
        """Hex digest of the weights and of everything else that determines the vectors."""

    @property
    def options(self) -> Mapping[str, str | int | float | bool]:
        """Preprocessing options; they are recorded in the store."""

    @property
    def modalities(self) -> frozenset[Modality]:
        """Modalities that the encoder can embed."""

    @property
    def temperatures(self) -> Mapping[Modality, float]:
        """Logit scale of each modality: features = temperature * unit vector."""

    @property
    def wants(self) -> DecodeHints:
        """Sizes and rates that decoders should deliver media in."""

    @property
    def max_tokens(self) -> int:
        """Maximum length of a passage of text, in tokens as counted by `count_tokens`."""

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text, including special tokens."""

    def prepare(self, media: Media) -> NDArray[Any]:
        """Preprocess one medium; thread-safe.

        Returns:
            Array (views, ...) with at least one view, in the type that the tower takes.

        Raises:
            MediaError: the medium has no content to encode.
        """

    def features(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return temperature-scaled features of prepared media.

        Views of one medium are embedded separately, scaled and averaged, and not normalised again. Features are for
        softmaxes and for comparison with published numbers; everything else uses `encode`.

        Args:
            modality: Modality of all media.
            prepared: Results of `prepare` for n media.

        Returns:
            Features, float32 (n, d).
        """

    def encode(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Embed prepared media.

        Views of one medium are embedded separately, averaged and normalised again.

        Args:
            modality: Modality of all media.
            prepared: Results of `prepare` for n media.

        Returns:
            Vectors of unit L2 norm, float32 (n, d).
        """


DIM_OPTION = "dim"
"""Option that truncates the vectors of an encoder; see `ShortenedEncoder`."""


OF_SECOND = "2_"
"""Prefix of the options of the second encoder where two are used as one."""


class QueryEncoders(Protocol):
    """Member of an encoder whose queries are not embedded like what is indexed: other prompts, prefixes or heads."""

    def as_query(self, target: Modality | None) -> Encoder:
        """Return the encoder of queries that search one modality.

        Args:
            target: Modality of what is searched; None: several, or unknown.

        Returns:
            An encoder of the same space, towers and modalities. The same object is returned for each target that
            queries are embedded alike for, so that they are embedded once.
        """


class JointEncoder(Protocol):
    """Member of an encoder that embeds pictures or videos together with a caption as one vector.

    `prepare` then takes a Picture or Frames with a caption. What is indexed has captions, and videos have their sound,
    only if `wants.joint` says so: usually by an option, which the store records.
    """

    @property
    def captioned(self) -> frozenset[Modality]:
        """Modalities of media that may have a caption: of IMAGE and VIDEO."""


class LocatingEncoder(Protocol):
    """Member of an encoder that embeds each part of a picture, not only the whole: dense features.

    Videos are located frame by frame, as pictures; sounds and motion by the vectors of sliding views.

    An encoder may also have `relevance_scale(source, target)`, which returns what cosines of a query's modality and
    that of a medium are multiplied by for their relevance, if that is not its temperature.
    """

    @property
    def locatable(self) -> frozenset[Modality]:
        """Modalities of media that `locate` takes: of IMAGE, DEPTH and THERMAL; known before a tower loads."""

    def locate(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Embed the cells of a grid over each view of prepared media.

        Args:
            modality: Modality of all media.
            prepared: Results of `prepare`.

        Returns:
            Vectors of unit L2 norm of all views in their order, float32 (views, h, w, d); row 0 is the top.
        """


class ShortenedEncoder(Protocol):
    """Member of an encoder whose first dimensions are a space of their own (Matryoshka, arXiv 2205.13147).

    With the option DIM_OPTION, `load_encoder` truncates its vectors and normalises them again.
    """

    @property
    def shorter_dims(self) -> tuple[int, ...]:
        """Dimensions that the model was trained for, in ascending order; empty if it does not state them."""


def query_encoders(encoder: Encoder) -> dict[Modality | None, Encoder]:
    """Return the encoder of queries for any target, under None, and those that differ from it, by target."""
    make = getattr(encoder, "as_query", None)
    if make is None:
        return {None: encoder}
    usual: Encoder = make(None)
    by_target: dict[Modality | None, Encoder] = {target: make(target) for target in sorted(encoder.modalities)}
    return {None: usual, **{target: head for target, head in by_target.items() if head is not usual}}


def query_encoder(encoder: Encoder, target: Modality | None) -> Encoder:
    """Return the encoder of queries that search one modality; None: several, or unknown."""
    heads = query_encoders(encoder)
    return heads.get(target, heads[None])


def captioned_modalities(encoder: Encoder) -> frozenset[Modality]:
    """Return the modalities of media that an encoder embeds with a caption; see `JointEncoder`."""
    captioned: frozenset[Modality] = getattr(encoder, "captioned", frozenset())
    return captioned


def locatable_modalities(encoder: Encoder) -> frozenset[Modality]:
    """Return the modalities whose parts an encoder embeds; see `LocatingEncoder`."""
    locatable: frozenset[Modality] = getattr(encoder, "locatable", frozenset())
    return locatable


def libraries_of(encoder: Encoder, modality: Modality) -> tuple[str, ...]:
    """Return the modules that an encoder imports to embed a modality; none if it declares none."""
    declared: Mapping[Modality, tuple[str, ...]] = getattr(encoder, "libraries", {})
    return declared.get(modality, ())


def encode_media(encoder: Encoder, media: Sequence[Media]) -> NDArray[np.float32]:
    """Embed media of one modality.

    Args:
        encoder: Encoder to use.
        media: n media of one class of `bindsearch.media`, such as [Passage("a dog")].

    Returns:
        Vectors of unit L2 norm, float32 (n, d).

    Raises:
        UsageError: `media` is empty, or holds other objects or media of several modalities.
    """
    kinds = {type(medium) for medium in media}
    if len(kinds) != 1 or not kinds <= MODALITY_OF.keys():
        given = ", ".join(sorted(kind.__name__ for kind in kinds)) or "nothing"
        known = ", ".join(kind.__name__ for kind in MODALITY_OF)
        raise UsageError(f"cannot embed {given}: give media of one kind, of bindsearch.media: {known}")
    modality = MODALITY_OF[kinds.pop()]
    return encoder.encode(modality, [encoder.prepare(medium) for medium in media])
