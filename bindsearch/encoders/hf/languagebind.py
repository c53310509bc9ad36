"""LanguageBind (arXiv 2310.01852): a modality and texts each repository, whose vectors share one space.

transformers has no class for it: the vision tower is in languagebind_networks, the text tower is CLIP's of the library.
The repositories share their text tower, which was frozen, so that towers of several can be used together: the option
`towers` names further installed models, whose text towers are compared with that of the first one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from bindsearch.encoders.hf import languagebind_inputs as inputs
from bindsearch.encoders.hf.adapter import CONFIG_FILE, ModelAdapter, Options, check_model_type
from bindsearch.encoders.hf.library import library_errors, load_network, read_all_tensors, read_scale
from bindsearch.encoders.model_store.installed import ModelManifest, check_not_replaced, read_model, snapshot_folder
from bindsearch.encoders.model_store.snapshot_files import read_json
from bindsearch.encoders.preprocessing.clip_tokenizer import clip_tokenizer
from bindsearch.encoders.preprocessing.crops import wide_parts
from bindsearch.errors import EncoderError, UsageError
from bindsearch.media import MODALITY_OF, DecodeHints, DepthMap, Frames, Media, Passage, Picture, Sound, ThermalPicture
from bindsearch.types import Modality

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from bindsearch.encoders.hf.languagebind_networks import VisionConfig

_MODALITIES = (Modality.IMAGE, Modality.VIDEO, Modality.AUDIO, Modality.DEPTH, Modality.THERMAL)
MODALITY_OF_TYPE: Mapping[str, Modality] = MappingProxyType(
    {f"LanguageBind{modality.value.capitalize()}": modality for modality in _MODALITIES}
)
"""Modality beside texts, by `model_type`."""

TOWERS_OPTION = "towers"
FRAMES_PER_S = 2.0
MAX_BATCH = 16

_VISION: Mapping[str, Any] = MappingProxyType(
    {
        **{"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
        **{"image_size": 224, "patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
        **{"add_time_attn": False, "num_frames": 1, "lora_r": 2, "lora_alpha": 16, "max_depth": 10},
        **{"num_mel_bins": 0, "target_length": 0, "audio_sample_rate": 16_000},
        **{"audio_mean": 0.5, "audio_std": 0.5},
    }
)
_TEXT: Mapping[str, Any] = MappingProxyType(
    {
        **{"vocab_size": 49_408, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12},
        **{"num_attention_heads": 8, "max_position_embeddings": 77, "hidden_act": "quick_gelu"},
        **{"layer_norm_eps": 1e-5, "eos_token_id": 2},
    }
)
"""Defaults of the configurations in the published code (configuration_*.py)."""


class _Repository:
    """Model of one modality and texts: its configuration and its files."""

    def __init__(self, folder: Path, name: str) -> None:
        """Read config.json."""
        self.folder, self.name = folder, name
        config = read_json(folder / CONFIG_FILE)
        kind = check_model_type(config, name)
        if kind not in MODALITY_OF_TYPE:
            raise EncoderError(f"{name} is a model of the type {kind}, not one of {', '.join(MODALITY_OF_TYPE)}")
        self.modality = MODALITY_OF_TYPE[kind]
        try:
            self.text = _merged(config, "text_config", _TEXT)
            self.vision = _merged(config, "vision_config", _VISION)
            self.dim = int(config.get("projection_dim", 512))
            sound = self.modality is Modality.AUDIO
            size = ("num_mel_bins", "target_length") if sound else ("image_size", "image_size")
            self.height_px, self.width_px = (int(self.vision[key]) for key in size)
            self.frames = int(self.vision["num_frames"]) if self.modality is Modality.VIDEO else 0
            self.max_depth_m = float(self.vision["max_depth"])
            if not (sound or self.height_px == inputs.SIDE_PX) or not 0 < self.height_px * self.width_px <= 1 << 20:
                raise ValueError(f"an input of {self.height_px} x {self.width_px}")
            has_clip_words = int(self.text["vocab_size"]) == _TEXT["vocab_size"]
            if not has_clip_words or not 0 <= self.frames <= 64 or self.max_depth_m < 0:
                raise ValueError("its vocabulary is not CLIP's, or its frames or depths are out of range")
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise EncoderError(f"the configuration of {name} is damaged ({error}): pull the model again") from error

    def prepare(self, media: Media) -> NDArray[np.float32]:
        """Return views of a medium of the modality, float32 (views, ...)."""
        match media:
            case Picture(rgb=rgb):
                return np.stack([inputs.prepare_picture(part) for part in wide_parts(rgb)])
            case ThermalPicture(values=values):
                return inputs.prepare_plane(values.clip(0.0, 1.0))[None]
            case DepthMap():
                return inputs.prepare_depth(media, self.max_depth_m)[None]
            case Frames(rgb=frames):
                return inputs.prepare_frames(frames, self.frames)[None]
            case Sound(samples=samples, sample_rate_hz=rate_hz):
                mean, std = float(self.vision["audio_mean"]), float(self.vision["audio_std"])
                model_hz = int(self.vision["audio_sample_rate"])
                shape = inputs.SoundShape(model_hz, self.height_px, self.width_px, mean, std)
                return inputs.prepare_sound(samples, rate_hz, shape)[None]
        raise TypeError(f"{type(media).__name__} is not {self.modality}")

    def vision_config(self) -> VisionConfig:
        """Return the sizes of the vision tower."""
        from bindsearch.encoders.hf.languagebind_networks import VisionConfig

        sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "patch_size")
        return VisionConfig(
            **{key: int(self.vision[key]) for key in sizes},
            height_px=self.height_px,
            width_px=self.width_px,
            frames=self.frames if self.vision["add_time_attn"] else 0,
            projection_dim=self.dim,
            hidden_act=str(self.vision["hidden_act"]),
            layer_norm_eps=float(self.vision["layer_norm_eps"]),
        )


class Adapter(ModelAdapter):
    """Adapter of models of LanguageBind; see `bindsearch.encoders.hf.adapter.ModelAdapter`."""

    wants = DecodeHints(picture_side_px=inputs.SIDE_PX, frames_per_s=FRAMES_PER_S)
    settable = (TOWERS_OPTION,)

    def __init__(self, folder: Path, name: str, options: Options) -> None:
        """Read the configuration of a model, and of those that the option `towers` names."""
        self._main = _Repository(folder, name)
        self._others: dict[str, ModelManifest] = {}
        self._by_modality = {self._main.modality: self._main}
        for other in re.split(r"[\s,]+", str(options.get(TOWERS_OPTION, "")).strip()):
            if other:
                self._add(other)
        self.dim, self.tokenizer = self._main.dim, clip_tokenizer()
        self.modalities = frozenset({Modality.TEXT, *self._by_modality})
        more = {
            Modality.AUDIO: ("torch", "torchaudio", "safetensors"),
            Modality.DEPTH: ("torch", "scipy.ndimage", "safetensors"),
            Modality.TEXT: ("torch", "transformers"),
        }
        self.libraries = {modality: more.get(modality, ("torch", "safetensors")) for modality in self.modalities}
        self.options = {TOWERS_OPTION: ",".join(sorted(self._others))}
        if video := self._by_modality.get(Modality.VIDEO):
            self.options = {**self.options, "frames": video.frames, "frames_per_s": FRAMES_PER_S}
        if depth := self._by_modality.get(Modality.DEPTH):
            self.options = {**self.options, "max_depth_m": depth.max_depth_m}
        self.other_digests = tuple(self._others[name].source_sha256 for name in sorted(self._others))

    def _add(self, name: str) -> None:
        manifest = read_model(name)
        if manifest.family != "hf":
            raise UsageError(f"{TOWERS_OPTION} has {name}: give models of LanguageBind, such as hf:LanguageBind/NAME")
        found = _Repository(snapshot_folder(manifest), name)
        if found.modality in self._by_modality:
            of = self._by_modality[found.modality].name
            raise UsageError(f"{TOWERS_OPTION} has {name} for {found.modality}, which {of} embeds: omit one")
        if found.dim != self._main.dim:
            raise EncoderError(f"{name} has {found.dim} dimensions, {self._main.name} {self._main.dim}: use them apart")
        self._others[name] = manifest
        self._by_modality[found.modality] = found

    def prepare(self, media: Media) -> NDArray[Any]:
        """Return token ids, int64 (1, length), or views of a medium, float32 (views, ...).

        Raises:
            MediaError: the medium has no content to encode.
        """
        if isinstance(media, Passage):
            return self.tokenizer.tokenize(media.text)
        return self._by_modality[MODALITY_OF[type(media)]].prepare(media)

    def temperatures(self, target: Modality | None) -> Mapping[Modality, float]:
        """Return the logit scale of each model; of texts that of the one for `target`, else of the first."""
        scales = {one: read_scale(model.folder, "logit_scale") for one, model in self._by_modality.items()}
        return {Modality.TEXT: scales.get(target or self._main.modality, scales[self._main.modality]), **scales}

    def most_views(self, tower: str) -> int | None:
        """Return MAX_BATCH for videos and sounds, whose inputs are several times those of pictures."""
        return MAX_BATCH if tower in (Modality.VIDEO, Modality.AUDIO) else None

    def load(self, tower: str, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """Return a tower with the weights of its model."""
        if tower == Modality.TEXT:
            from bindsearch.encoders.torch_runtime.picture_tower import Tower, embed_texts

            with library_errors(self._main.folder):
                from transformers import CLIPTextConfig, CLIPTextModelWithProjection

                config = CLIPTextConfig(**{key: self._main.text[key] for key in _TEXT}, projection_dim=self.dim)
            network = load_network(CLIPTextModelWithProjection, self._main.folder, device, dtype, config=config)
            return Tower(network, embed_texts)
        from bindsearch.encoders.hf.languagebind_networks import build_vision_tower, same_texts

        model = self._by_modality[Modality(tower)]
        tensors = read_all_tensors(model.folder)
        if model is not self._main:
            check_not_replaced(self._others[model.name])
            if not same_texts(read_all_tensors(self._main.folder), tensors):
                raise EncoderError(
                    f"the text tower of {model.name} is not that of {self._main.name}: their vectors cannot be compared"
                )
        alpha = float(model.vision["lora_alpha"])
        try:
            return build_vision_tower(model.vision_config(), tensors, alpha, device, dtype)
        except (EncoderError, KeyError, ValueError, TypeError) as error:
            raise EncoderError(f"{model.name} cannot be loaded: {error}; pull the model again") from error


def _merged(config: Mapping[str, Any], part: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return a part of the configuration as the published code reads it: `PART_dict` replaces all of `PART`."""
    given, replaced = config.get(part) or {}, config.get(f"{part}_dict")
    return {**defaults, **given} if replaced is None else {**given, **defaults, **replaced}
