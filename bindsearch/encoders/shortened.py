"""Encoders whose vectors are truncated to their first dimensions (Matryoshka, arXiv 2205.13147)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bindsearch.arguments import to_integer
from bindsearch.encoders.base import (
    DIM_OPTION,
    Encoder,
    captioned_modalities,
    libraries_of,
    locatable_modalities,
    locating,
)
from bindsearch.errors import UsageError
from bindsearch.hashing import fingerprint_of
from bindsearch.types import Modality
from bindsearch.vectors import l2_normalize, scale_features

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def shorten(encoder: Encoder, dim: object) -> Encoder:
    """Return an encoder with the first `dim` dimensions of another one, at unit length again.

    Args:
        encoder: The whole encoder.
        dim: Number of dimensions, or its text from a command line; all dimensions change nothing.

    Raises:
        UsageError: the vectors of the encoder cannot be truncated, or not to that number of dimensions.
    """
    stated: tuple[int, ...] | None = getattr(encoder, "shorter_dims", None)
    if stated is None:
        choices = f"{encoder.dim}, for its vectors cannot be truncated"
    else:
        choices = f"{', '.join(map(str, stated))} or {encoder.dim}" if stated else f"2 to {encoder.dim}"
    number = int(dim) if isinstance(dim, str) and dim.isdecimal() else dim
    kept = to_integer(number, DIM_OPTION, f"give the dimensions of {encoder.name}, {choices}", lowest=2)
    if kept == encoder.dim:
        return encoder
    if stated is None or kept > encoder.dim or (stated and kept not in stated):
        raise UsageError(f"dim is {kept}: give the dimensions of {encoder.name}, {choices}")
    return _Shortened(encoder, kept)


class _Shortened:
    """Encoder with the first dimensions of another one; see `bindsearch.encoders.base.Encoder`."""

    def __init__(self, whole: Encoder, dim: int) -> None:
        self._whole, self.name, self.dim = whole, whole.name, dim
        self._heads: dict[int, _Shortened] = {}
        self.digest = fingerprint_of(whole.digest, f"{DIM_OPTION} {dim}")
        self.options: Mapping[str, str | int | float | bool] = {**whole.options, DIM_OPTION: dim}
        self.modalities, self.wants = whole.modalities, whole.wants
        self.captioned, self.locatable = captioned_modalities(whole), locatable_modalities(whole)
        self.libraries = {modality: libraries_of(whole, modality) for modality in whole.modalities}
        self.count_tokens, self.prepare = whole.count_tokens, whole.prepare

    def __reduce__(self) -> tuple[Callable[[Encoder, int], _Shortened], tuple[Encoder, int]]:
        return _Shortened, (self._whole, self.dim)

    @property
    def temperatures(self) -> Mapping[Modality, float]:
        return self._whole.temperatures

    @property
    def max_tokens(self) -> int:
        return self._whole.max_tokens

    def as_query(self, target: Modality | None) -> Encoder:
        """Return the encoder of queries, truncated too."""
        make = getattr(self._whole, "as_query", None)
        head = self._whole if make is None else make(target)
        if head is self._whole:
            return self
        return self._heads.setdefault(id(head), _Shortened(head, self.dim))  # held by its _whole: ids are not reused

    def features(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return the temperature-scaled vectors of n prepared media: float32 (n, dim)."""
        return scale_features(self.encode(modality, prepared), self.temperatures[modality])

    def encode(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Embed n prepared media: float32 (n, dim), unit L2 norm."""
        return l2_normalize(self._whole.encode(modality, prepared)[:, : self.dim])

    def locate(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Embed the parts of prepared media: float32 (views, h, w, dim), unit L2 norm."""
        return l2_normalize(locating(self._whole, modality).locate(modality, prepared)[..., : self.dim])
