"""CLAP: sounds and texts (arXiv 2211.06687), by ClapModel of the transformers library.

Sounds are resampled to the rate of the feature extractor (48 kHz) and prepared by it. A sound that is longer than the
model takes (10 s) is covered by windows at even distances, whose vectors are averaged: the library draws random
crops of it instead, so that each of its calls gives another vector. Therefore no sound counts as longer, neither in
models with feature fusion. For those, the library marks one sound at random where none of a batch is longer, which
changes its vector; here none is marked, as for the others of that batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from bindsearch.encoders.hf.adapter import (
    CONFIG_FILE,
    PREPROCESSOR_FILE,
    PROCESSOR_FILE,
    HubTokenizer,
    ModelAdapter,
    Options,
)
from bindsearch.encoders.hf.library import from_folder, library_errors, load_network, read_scale
from bindsearch.encoders.model_store.snapshot_files import read_json
from bindsearch.encoders.preprocessing.resampling import at_rate, windows
from bindsearch.errors import EncoderError
from bindsearch.media import DecodeHints, Media, Passage, Sound
from bindsearch.types import Modality

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

_DIM = 512
_POSITIONS = 514
"""Defaults of ClapConfig and ClapTextConfig, which config.json leaves out; RoBERTa's first two positions are unused."""
_UNUSED_POSITIONS = 2
MIN_RATE_HZ, MAX_RATE_HZ = 8_000, 192_000
MAX_WINDOW_S = 120.0


class Adapter(ModelAdapter):
    """Adapter of ClapModel; see `bindsearch.encoders.hf.adapter.ModelAdapter`."""

    modalities = frozenset({Modality.TEXT, Modality.AUDIO})
    libraries: Mapping[Modality, tuple[str, ...]] = MappingProxyType(
        {Modality.TEXT: ("torch", "transformers"), Modality.AUDIO: ("torch", "torchaudio", "transformers")}
    )
    wants = DecodeHints(picture_side_px=0, frames_per_s=1.0)

    def __init__(self, folder: Path, name: str, options: Options) -> None:  # noqa: ARG002  (none can be set)
        self._folder = folder
        config = read_json(folder / CONFIG_FILE)
        try:
            self.dim = int(config.get("projection_dim", _DIM))
            positions = int((config.get("text_config") or {}).get("max_position_embeddings", _POSITIONS))
            self._rate_hz, self._window_samples, facts = _sound_facts(folder)
        except (TypeError, ValueError, AttributeError) as error:
            raise EncoderError(f"the configuration of {name} is damaged ({error}): pull the model again") from error
        self.options = MappingProxyType(facts)
        self.tokenizer = HubTokenizer(folder, positions - _UNUSED_POSITIONS)

    def prepare(self, media: Media) -> NDArray[Any]:
        """Return token ids, int64 (1, length), or log-mels of windows, float32 (windows, channels, frames, bins).

        Raises:
            MediaError: the text is blank or too long, or the sound has no samples.
        """
        match media:
            case Passage(text=text):
                return self.tokenizer.tokenize(text)
            case Sound(samples=samples, sample_rate_hz=rate_hz):
                sounds = windows(at_rate(samples, rate_hz, self._rate_hz), self._window_samples)
                features = self._extractor(sounds, sampling_rate=self._rate_hz)["input_features"]  # 4 channels: fusion
                return np.stack(features).astype(np.float32)
        raise TypeError(f"{type(media).__name__} is neither a passage nor a sound")

    def temperatures(self, target: Modality | None) -> Mapping[Modality, float]:  # noqa: ARG002  (as tower_of)
        """Return the learned logit scales, exp(logit_scale_t) of texts and exp(logit_scale_a) of sounds."""
        names = {Modality.TEXT: "logit_scale_t", Modality.AUDIO: "logit_scale_a"}
        return {modality: read_scale(self._folder, name) for modality, name in names.items()}

    def load(self, tower: str, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """Return a tower with the weights of the model; the other tower is not read."""
        from bindsearch.encoders.torch_runtime.picture_tower import Tower, embed_texts

        with library_errors(self._folder):
            from transformers import ClapAudioModelWithProjection, ClapConfig, ClapTextModelWithProjection

            config = ClapConfig.from_pretrained(self._folder, local_files_only=True)
        if tower == "text":
            network = load_network(ClapTextModelWithProjection, self._folder, device, dtype, config=config.text_config)
            return Tower(network, embed_texts)
        network = load_network(ClapAudioModelWithProjection, self._folder, device, dtype, config=config.audio_config)

        def embed_sounds(network: nn.Module, log_mels: torch.Tensor) -> torch.Tensor:
            """Return the vectors of log-mels, (n, channels, frames, bins), none of which counts as longer."""
            number_format, is_longer = next(network.parameters()).dtype, log_mels.new_zeros((len(log_mels), 1)) > 0
            embeds: torch.Tensor = network(input_features=log_mels.to(number_format), is_longer=is_longer).audio_embeds
            return embeds

        return Tower(network, embed_sounds)

    @cached_property
    def _extractor(self) -> Any:
        return from_folder(self._folder, "ClapFeatureExtractor")


def _sound_facts(folder: Path) -> tuple[int, int, dict[str, str | int | float | bool]]:
    """Return the rate in Hz, the length of a window in samples, and the settings of the feature extractor."""
    path = folder / PREPROCESSOR_FILE
    facts = read_json(path) if path.is_file() else read_json(folder / PROCESSOR_FILE).get("feature_extractor", {})
    rate_hz, longest_s = int(facts.get("sampling_rate", 48_000)), float(facts.get("max_length_s", 10))
    if not (MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ and 0 < longest_s <= MAX_WINDOW_S):
        raise ValueError(f"sounds of {longest_s:g} s at {rate_hz} Hz")
    options: dict[str, str | int | float | bool] = {"sample_rate_hz": rate_hz, "window_s": longest_s}
    options |= {key: str(facts.get(key, usual)) for key, usual in (("padding", "repeatpad"), ("truncation", "fusion"))}
    return rate_hz, int(longest_s * rate_hz), options
