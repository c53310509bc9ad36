"""HfEncoder: a model of the transformers library as an encoder, by the adapter of its type."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import cached_property, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from bindsearch.encoders.hf.adapter import Options, find_adapter
from bindsearch.encoders.hf.library import check_present
from bindsearch.encoders.model_store.installed import ModelManifest, check_not_replaced, snapshot_folder
from bindsearch.encoders.torch_runtime.device import DEFAULT_RUNTIME, Runtime, compute_dtype, torch_dtype
from bindsearch.encoders.torch_runtime.towers import Towers, mean_of_views, on_device, run_texts
from bindsearch.errors import EncoderError
from bindsearch.hashing import fingerprint_of
from bindsearch.media import MODALITY_OF, Media
from bindsearch.types import Modality
from bindsearch.vectors import l2_normalize, scale_features

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

PREPROCESSING_VERSION = 1
"""Version of the preprocessing code of all adapters; increased when code, not weights or options, changes vectors."""


class HfEncoder:
    """Encoder with the towers of a model of the library; see `bindsearch.encoders.base.Encoder`."""

    def __init__(
        self,
        manifest: ModelManifest,
        *,
        options: Options = MappingProxyType({}),
        runtime: Runtime = DEFAULT_RUNTIME,
        target: Modality | None = None,
    ) -> None:
        """Create the encoder of an installed model.

        Args:
            manifest: Manifest of the model.
            options: Options by name; those that its adapter cannot set are ignored.
            runtime: Device and settings that towers run with.
            target: Modality that queries search; None: several, or it embeds what is indexed.

        Raises:
            EncoderError: files of the model are missing or damaged, or no adapter runs models of its type.
            UsageError: the value of an option is invalid.
            InstallationError: the library is not installed.
        """
        check_present()
        self._manifest, self._target = manifest, target
        self._make = partial(HfEncoder, manifest, options=dict(options), runtime=runtime)
        self._adapter = find_adapter(snapshot_folder(manifest), manifest.name, options)
        self._towers = Towers(self._load, runtime)
        self._heads: dict[tuple[str, ...], HfEncoder] = {}
        self.name, self.dim, self.options = manifest.name, self._adapter.dim, self._adapter.options
        self.settable, self.modalities = self._adapter.settable, self._adapter.modalities
        self.libraries, self.wants = self._adapter.libraries, self._adapter.wants
        self.count_tokens = self._adapter.tokenizer.count_tokens
        self.digest = fingerprint_of(str(PREPROCESSING_VERSION), manifest.source_sha256, *self._adapter.other_digests)

    def __reduce__(self) -> tuple[Callable[..., HfEncoder], tuple[()]]:
        """Recreate the encoder in another process; towers load there on first use."""
        return partial(self._make, target=self._target), ()

    @cached_property
    def temperatures(self) -> Mapping[Modality, float]:
        """Logit scales that the model has learned."""
        return MappingProxyType(dict(self._adapter.temperatures(self._target)))

    @property
    def loaded_towers(self) -> frozenset[str]:
        """Names of the towers in memory."""
        return self._towers.loaded

    @property
    def max_tokens(self) -> int:
        """Maximum number of tokens, those of the model's tokenizer."""
        return self._adapter.tokenizer.max_tokens

    def as_query(self, target: Modality | None) -> HfEncoder:
        """Return the encoder of queries for a modality: this one, or one with the towers for it."""
        towers = self._towers_for(target)
        if towers == self._towers_for(self._target):
            return self
        if towers not in self._heads:
            head = copy(self)  # shares adapter and towers
            head._target = target
            vars(head).pop("temperatures", None)
            self._heads[towers] = head
        return self._heads[towers]

    def prepare(self, media: Media) -> NDArray[Any]:
        """Preprocess one medium to an array (views, ...); thread-safe.

        Raises:
            MediaError: the medium has no content to encode.
            EncoderError: the model has no tower for that modality.
        """
        self._check_modality(MODALITY_OF[type(media)])
        return self._adapter.prepare(media)

    def features(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return temperature-scaled features, averaged over the views of each of n media: float32 (n, d)."""
        return scale_features(self._means(modality, prepared), self.temperatures[modality])

    def encode(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Embed n prepared media of one modality: float32 (n, d), unit L2 norm."""
        return l2_normalize(self._means(modality, prepared))

    def _means(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return the mean unit vectors of the views of each medium, float32 (n, d)."""
        self._check_modality(modality)
        views = [view for medium in prepared for view in medium]
        tower = self._adapter.tower_of(modality, self._target)
        if modality is Modality.TEXT:
            raw = run_texts(self._towers, views, self._adapter.tokenizer.pad, tower=tower, with_masks=True)
        else:
            raw = run_by_shape(self._towers, tower, views, self._adapter.most_views(tower))
        return mean_of_views(l2_normalize(raw), prepared)

    def _towers_for(self, target: Modality | None) -> tuple[str, ...]:
        """Return the towers of queries for a modality."""
        return tuple(self._adapter.tower_of(modality, target) for modality in sorted(self.modalities))

    def _check_modality(self, modality: Modality) -> None:
        if modality not in self.modalities:
            known = ", ".join(each for each in Modality if each in self.modalities)
            raise EncoderError(f"{self.name} has no {modality} tower: it encodes {known}")

    def _load(self, tower: str, device: torch.device) -> nn.Module:
        """Load a tower from the files of the installed model."""
        loaded = self._adapter.load(tower, device, compute_dtype(torch_dtype(self._manifest.dtype), device))
        check_not_replaced(self._manifest)
        return loaded


def run_by_shape(
    towers: Towers, tower: str, views: Sequence[NDArray[Any]], most: int | None = None
) -> NDArray[np.float32]:
    """Run n views of any shapes through a tower; those of one shape share batches of at most `most`, without padding.

    Returns:
        Features, float32 (n, d), in the order of the views.
    """
    rows: dict[tuple[int, ...], list[int]] = {}
    for number, view in enumerate(views):
        rows.setdefault(view.shape, []).append(number)
    batches = []
    for numbers in rows.values():
        size = most or len(numbers)
        batches += [numbers[start : start + size] for start in range(0, len(numbers), size)]
    parts = [towers.run(tower, [views[number] for number in batch], on_device) for batch in batches]
    order = np.argsort(np.concatenate(batches), kind="stable")
    return np.concatenate(parts)[order]
