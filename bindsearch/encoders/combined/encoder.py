"""CombinedEncoder: the modalities of one encoder, and some of a second one in the same space."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from bindsearch.atomic import atomic_write
from bindsearch.encoders.base import (
    OF_SECOND,
    Encoder,
    captioned_modalities,
    encode_media,
    libraries_of,
    locatable_modalities,
    locating,
    query_encoders,
)
from bindsearch.encoders.bound.encoder import BoundEncoder
from bindsearch.encoders.model_store.installed import (
    MANIFEST_FILE,
    ModelManifest,
    damaged_manifest,
    how_to_repair,
    models_folder,
    tower_file,
)
from bindsearch.errors import EncoderError, UsageError
from bindsearch.hashing import fingerprint_of
from bindsearch.media import MODALITY_OF, DecodeHints, Media, Passage, Picture
from bindsearch.types import Modality
from bindsearch.vectors import l2_normalize, scale_features

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bindsearch.encoders.registry import Options

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
        name, repair = manifest.name, how_to_repair(manifest.name)
        raise EncoderError(f"the bridge of {name} is damaged ({MANIFEST_FILE}): {repair}")
    known = {Modality(name): mean for name, mean in means.items() if name in list(Modality)}
    return Bridge(tensors[_MATRIX], known, tensors[_TARGET], manifest.source_sha256)


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
        self.count_tokens = self._of(Modality.TEXT).count_tokens
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


def load_combined(name: str, load: Callable[[str, Options], Encoder], options: Options) -> Encoder:
    """Return the encoder of "A+B", two encoders that share a space.

    Args:
        name: Both names, with a plus sign between them.
        load: Returns an encoder by name and options.
        options: Options of the first encoder, and with OF_SECOND before their names those of the second.

    Raises:
        EncoderError: an encoder cannot be loaded, or they share no space.
        UsageError: the name is not that of two encoders, or the second adds nothing.
    """
    first_name, _, second_name = name.partition("+")
    if not first_name or not second_name or "+" in second_name:
        raise UsageError(f"{name!r} is not a name: combine two encoders, such as bound:night+bound:depth")
    first, second = _load_both((first_name, second_name), load, options)
    # Taken from the second: what the first lacks, or has no bound tower for.
    bound = [set(one.configs) if isinstance(one, BoundEncoder) else set() for one in (first, second)]
    taken = (second.modalities - first.modalities) | (bound[1] - bound[0])
    if not taken:
        raise UsageError(f"{first_name} embeds all that {second_name} does: there is nothing to combine")
    find_anchor(first, second)
    return _checked(CombinedEncoder(name, first, second, taken), first, second)


def load_bridged(manifest: ModelManifest, load: Callable[[str, Options], Encoder], options: Options | None) -> Encoder:
    """Return the encoder of an installed bridge.

    Raises:
        EncoderError: the manifest is damaged, or an encoder is not the one that the bridge was made for.
    """
    try:
        parts = [(part["encoder"], part["digest"], dict(part["options"])) for part in manifest.architecture["bridge"]]
        (first_name, first_digest, first_options), (second_name, second_digest, second_options) = parts
    except (KeyError, TypeError, ValueError) as error:
        raise damaged_manifest(manifest, error) from error
    recorded = {**first_options, **{OF_SECOND + key: value for key, value in second_options.items()}, **(options or {})}
    first, second = _load_both((first_name, second_name), load, recorded)
    for encoder, digest in ((first, first_digest), (second, second_digest)):
        if encoder.digest != digest:
            raise EncoderError(
                f"{manifest.name} was made with another version of {encoder.name} than the installed one: bind it "
                f"again, or install that version of {encoder.name}"
            )
    taken = second.modalities - first.modalities
    bridge = load_bridge(manifest, (first.dim, second.dim))
    return _checked(CombinedEncoder(manifest.name, first, second, taken, bridge), first, second)


def _checked(combined: CombinedEncoder, first: Encoder, second: Encoder) -> CombinedEncoder:
    """Return the encoder; raise UsageError if a part is set to joint inputs that the whole does not make."""
    for prefix, part in (("", first), (OF_SECOND, second)):
        if part.wants.joint and part.wants.joint != combined.wants.joint:
            value = part.options.get("joint", "")
            raise UsageError(
                f"{prefix}joint={value} of {part.name} cannot be set in {combined.name}: captions and sound are "
                "embedded with pictures and videos only where one of both encoders embeds all of them"
            )
    return combined


def _load_both(
    names: tuple[str, str], load: Callable[[str, Options], Encoder], options: Options
) -> tuple[Encoder, Encoder]:
    of_second = {key: value for key, value in options.items() if key.startswith(OF_SECOND)}
    of_first = {key: value for key, value in options.items() if key not in of_second}
    second = {key.removeprefix(OF_SECOND): value for key, value in of_second.items()}
    return load(names[0], of_first), load(names[1], second)


LEAST_COSINE = 0.99
"""Least cosine of the vectors of one medium by two encoders that share a tower; number formats differ by less."""

TEXTS = ("a dog barks in the rain", "a red car", "three people play music on a stage", "an empty beach at night")

_FOLDER = ".anchors"
"""Folder of the anchors that were found, in the folder of the models: towers are loaded for it only once."""


def find_anchor(first: Encoder, second: Encoder) -> Modality:
    """Return a modality that two encoders embed alike, which shows that their vectors can be compared.

    Both embed a few texts or pictures; what was found is kept by their digests.

    Raises:
        EncoderError: there is none.
    """
    common = [one for one in (Modality.TEXT, Modality.IMAGE) if one in first.modalities & second.modalities]
    known = models_folder() / _FOLDER / f"{fingerprint_of(first.digest, second.digest)}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        if (kept := Modality(json.loads(known.read_text(encoding="utf-8"))["anchor"])) in common:
            return kept
    reasons = [] if common else ["both embed texts or both embed pictures in no modality"]
    if first.dim != second.dim:
        reasons = [f"{first.name} has {first.dim} dimensions, {second.name} {second.dim}"]
        common = []
    for modality in common:
        probes = _probes(modality)
        cosine = float((encode_media(first, probes) * encode_media(second, probes)).sum(axis=1).min())
        if cosine >= LEAST_COSINE:
            with suppress(OSError):  # where nothing can be written, it is found again next time
                known.parent.mkdir(parents=True, exist_ok=True)
                with atomic_write(known) as file:
                    file.write(json.dumps({"anchor": modality.value}).encode())
            return modality
        reasons.append(f"their vectors of the same {modality} have cosines down to {cosine:.2f}")
    raise EncoderError(
        f"{first.name}+{second.name} share no space ({'; '.join(reasons)}): make a bridge from captions, "
        f"`bindsearch bind --bridge {second.name} --hub {first.name} --pairs captions.csv --out NAME`"
    )


def _probes(modality: Modality) -> list[Media]:
    """Return media that differ from each other: texts, or pictures of noise and of stripes."""
    if modality is Modality.TEXT:
        return [Passage(text) for text in TEXTS]
    noise = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[::8] = (255, 64, 0)
    return [Picture(rgb) for rgb in (*noise, stripes, stripes.transpose(1, 0, 2))]
