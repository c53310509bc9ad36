"""CombinedEncoder: the modalities of one encoder, and some of a second one in the same space."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from bindsearch.encoders.base import (
    OF_SECOND,
    Encoder,
    captioned_modalities,
    libraries_of,
    locatable_modalities,
    locating,
    query_encoders,
)
from bindsearch.encoders.model_store.installed import MANIFEST_FILE, ModelManifest, how_to_repair, tower_file
from bindsearch.errors import EncoderError
from bindsearch.hashing import fingerprint_of
from bindsearch.media import MODALITY_OF, DecodeHints, Media
from bindsearch.types import Modality
from bindsearch.vectors import l2_normalize, scale_features

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BRIDGE_TOWER = "bridge"
"""Name of the file of a bridge in the folder of its model."""

_MATRIX, _TARGET = "matrix", "target_mean"
_MEAN = "mean."


@dataclass(frozen=True)
class Bridge:
    """A linear map from one space to another.

    Attributes:
        matrix: float32 (d of the second encoder, d of the first).
        means: Mean vector of each modality in the second space, float32 (d,), which is subtracted: it is what the
            vectors of a modality have in common, and says nothing about their content.
        target_mean: Mean of the texts in the first space, float32 (d,), which is added.
        digest: Digest of the values.
    """

    matrix: NDArray[np.float32]
    means: Mapping[Modality, NDArray[np.float32]]
    target_mean: NDArray[np.float32]
    digest: str

    def map(self, modality: Modality, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return vectors of the second space (..., d) in the first: float32 (..., d), not of unit length.

        Of modalities without a mean of their own, that of texts is subtracted.
        """
        mean = self.means.get(modality, self.means[Modality.TEXT])
        return np.asarray((vectors - mean) @ self.matrix + self.target_mean, np.float32)


def bridge_tensors(bridge: Bridge) -> dict[str, NDArray[np.float32]]:
    """Return the arrays of a bridge by name, for its file."""
    means = {f"{_MEAN}{modality}": mean for modality, mean in bridge.means.items()}
    return {_MATRIX: bridge.matrix, _TARGET: bridge.target_mean, **means}


def load_bridge(manifest: ModelManifest, dims: tuple[int, int]) -> Bridge:
    """Load the bridge of an installed model.

    Raises:
        EncoderError: the file is missing or damaged, or is a bridge between other spaces.
    """
    from bindsearch.encoders.torch_runtime.tensor_files import map_tensors

    tensors = {name: tensor.numpy() for name, tensor in map_tensors(tower_file(manifest, BRIDGE_TOWER)).items()}
    first, second = dims
    means = {name.removeprefix(_MEAN): array for name, array in tensors.items() if name.startswith(_MEAN)}
    shapes = [array.shape == (second,) for array in means.values()]
    fits = tensors.keys() >= {_MATRIX, _TARGET} and tensors[_MATRIX].shape == (second, first)
    if not (fits and tensors[_TARGET].shape == (first,) and all(shapes) and Modality.TEXT in means):
        raise EncoderError(
            f"the bridge of {manifest.name} is damaged ({MANIFEST_FILE}): {how_to_repair(manifest.name)}"
        )
    return Bridge(
        tensors[_MATRIX],
        {Modality(name): mean for name, mean in means.items() if name in list(Modality)},
        tensors[_TARGET],
        manifest.source_sha256,
    )


class CombinedEncoder:
    """Encoder of two encoders in one space; see `bindsearch.encoders.base.Encoder`.

    The second embeds the modalities that are taken from it; a bridge maps its vectors to the space of the first.
    """

    def __init__(
        self, name: str, first: Encoder, second: Encoder, taken: frozenset[Modality], bridge: Bridge | None = None
    ) -> None:
        self.name, self.dim = name, first.dim
        self._first, self._second, self._taken, self._bridge = first, second, taken, bridge
        self._heads: dict[Modality | None, CombinedEncoder] = {}
        self.digest = fingerprint_of(first.digest, second.digest, bridge.digest if bridge else "shared")
        of_second = {OF_SECOND + key: value for key, value in second.options.items()}
        self.options: Mapping[str, str | int | float | bool] = {**first.options, **of_second}
        self.modalities = first.modalities | taken
        owners = {modality: self._of(modality) for modality in self.modalities}
        self.libraries = {modality: libraries_of(owner, modality) for modality, owner in owners.items()}
        self.captioned = frozenset(one for one, owner in owners.items() if one in captioned_modalities(owner))
        self.locatable = frozenset(one for one, owner in owners.items() if one in locatable_modalities(owner))
        hints = {modality: owner.wants for modality, owner in owners.items()}
        seeing = [owners[one] for one in (Modality.IMAGE, Modality.VIDEO) if one in owners]
        # Joint inputs only where one encoder embeds all pictures.
        is_seen_by_one = bool(seeing) and all(one is seeing[0] for one in seeing)
        self.wants = DecodeHints(
            picture_side_px=max(first.wants.picture_side_px, second.wants.picture_side_px),
            frames_per_s=self._of(Modality.VIDEO).wants.frames_per_s,
            motion_s=self._of(Modality.IMU).wants.motion_s,
            longest_s={one: wants.longest_s[one] for one, wants in hints.items() if one in wants.longest_s},
            joint=seeing[0].wants.joint if is_seen_by_one else frozenset(),
        )

    def __reduce__(self) -> tuple[Callable[..., CombinedEncoder], tuple[Any, ...]]:
        """Recreate the encoder in another process."""
        return CombinedEncoder, (self.name, self._first, self._second, self._taken, self._bridge)

    @cached_property
    def temperatures(self) -> Mapping[Modality, float]:
        """Logit scales of the encoder that embeds each modality."""
        return MappingProxyType({modality: self._of(modality).temperatures[modality] for modality in self.modalities})

    @property
    def max_tokens(self) -> int:
        """Maximum length of a passage of the encoder of texts."""
        return self._of(Modality.TEXT).max_tokens

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens as the encoder of texts counts them."""
        return self._of(Modality.TEXT).count_tokens(text)

    def as_query(self, target: Modality | None) -> CombinedEncoder:
        """Return the encoder of queries: both with theirs."""
        heads = [query_encoders(encoder) for encoder in (self._first, self._second)]
        first, second = (head.get(target, head[None]) for head in heads)
        if first is self._first and second is self._second:
            return self
        key = target if any(target in head for head in heads) else None
        if key not in self._heads:
            self._heads[key] = CombinedEncoder(self.name, first, second, self._taken, self._bridge)
        return self._heads[key]

    def prepare(self, media: Media) -> NDArray[Any]:
        """Preprocess one medium with the encoder of its modality; thread-safe."""
        return self._of(MODALITY_OF[type(media)]).prepare(media)

    def features(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return temperature-scaled features of n prepared media: float32 (n, d)."""
        owner = self._of(modality)
        if self._bridge is None or owner is self._first:
            return owner.features(modality, prepared)
        return scale_features(self.encode(modality, prepared), self.temperatures[modality])

    def encode(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Embed n prepared media of one modality: float32 (n, d), unit L2 norm."""
        return self._in_space_of_first(modality, self._of(modality).encode(modality, prepared))

    def locate(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Embed the parts of prepared media with the encoder of their modality: float32 (views, h, w, d), unit L2 norm.

        Raises:
            UsageError: the modality is not one of `locatable`.
        """
        return self._in_space_of_first(modality, locating(self._of(modality), modality).locate(modality, prepared))

    def _in_space_of_first(self, modality: Modality, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return unit vectors (..., d) of the encoder of a modality in the space of the first."""
        if self._bridge is None or self._of(modality) is self._first:
            return vectors
        return l2_normalize(self._bridge.map(modality, vectors))

    def _of(self, modality: Modality) -> Encoder:
        """Return the encoder that embeds a modality."""
        return self._second if modality in self._taken else self._first
