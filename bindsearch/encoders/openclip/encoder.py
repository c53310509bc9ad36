"""OpenClipEncoder: text, images and video in the space of a CLIP model of the open_clip library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from bindsearch.encoders.base import locating
from bindsearch.encoders.model_store.installed import (
    ModelManifest,
    damaged_manifest,
    how_to_repair,
    load_installed_tower,
    model_file,
)
from bindsearch.encoders.openclip.texts import (
    TOKENIZER_FILE,
    TOKENIZER_SETTINGS_FILE,
    TOWER_CONFIG_FILE,
    make_tokenizer,
    reads_padding,
)
from bindsearch.encoders.picture_model import Options, PictureModelEncoder
from bindsearch.encoders.preprocessing.clip_tokenizer import ClipTokenizer
from bindsearch.encoders.preprocessing.hub_tokenizer import HubTokenizer, TokenizerFiles, read_settings
from bindsearch.encoders.preprocessing.picture_input import PictureInput
from bindsearch.encoders.torch_runtime.device import DEFAULT_RUNTIME, Runtime
from bindsearch.encoders.torch_runtime.towers import mean_of_views, on_device, run_texts
from bindsearch.errors import EncoderError
from bindsearch.media import MODALITY_OF, Frames, Media, Passage, Picture
from bindsearch.types import Modality
from bindsearch.vectors import l2_normalize, scale_features

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from bindsearch.encoders.torch_runtime.picture_tower import PictureTower

_TOWER_OF = {Modality.TEXT: "text", Modality.IMAGE: "image", Modality.VIDEO: "image"}
_LIBRARIES = ("torch", "torchvision", "open_clip", "safetensors")
_TIMM_TRUNKS = ("convnext", "eva", "fastvit", "vit")
_OTHER_TRUNKS = ("vit_relpos",)  # its blocks are of another class
_ATTENTION = ("qk_norm", "scale_attn", "scale_attn_inner", "scale_heads", "scaled_cosine_attn")
_OTHER_BLOCKS = ("block_type", "scale_fc", *_ATTENTION)


class OpenClipEncoder(PictureModelEncoder):
    """Encoder with the towers of a CLIP model; see `bindsearch.encoders.base.Encoder`."""

    preprocessing_version = 2
    modalities = frozenset(_TOWER_OF)

    libraries: Mapping[Modality, tuple[str, ...]] = MappingProxyType(dict.fromkeys(_TOWER_OF, _LIBRARIES))

    def __init__(self, manifest: ModelManifest, *, runtime: Runtime = DEFAULT_RUNTIME) -> None:
        super().__init__(manifest, runtime=runtime)
        for part in ("text_cfg", "vision_cfg"):
            if not isinstance(self._config.get(part), Mapping):
                raise damaged_manifest(manifest, f"{part} is missing")
        self._text: Mapping[str, Any] = self._config["text_cfg"]
        if self._text.get("hf_model_name"):
            self.libraries = MappingProxyType({**self.libraries, Modality.TEXT: (*_LIBRARIES, "transformers")})

    @property
    def locatable(self) -> frozenset[Modality]:
        """Pictures, if the network has vectors of their patches."""
        return frozenset({Modality.IMAGE} if has_dense_features(self._config["vision_cfg"]) else ())

    @property
    def max_tokens(self) -> int:
        """Maximum number of tokens, the positions of the text tower."""
        return self._tokenizer.max_tokens

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text, including special tokens."""
        return self._tokenizer.count_tokens(text)

    def prepare(self, media: Media) -> NDArray[Any]:
        """Return tokens, int64 (1, length), or pictures, uint8 (views, height, width, 3); thread-safe.

        There is a view for each frame of a video, and for each part of a wide picture.

        Raises:
            MediaError: the text is empty or too long, or the picture has no pixels.
            EncoderError: the model has no tower for that modality, or a file of the tokenizer is damaged.
        """
        match media:
            case Passage(text=text):
                return self._tokens(text)
            case Picture() | Frames():
                return self._prepare_pictures(media)
        raise EncoderError(f"{self.name} encodes text, images and video, not {MODALITY_OF[type(media)]}")

    def features(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return temperature-scaled features, averaged over the views of each of n media: float32 (n, d)."""
        if modality not in _TOWER_OF:
            raise EncoderError(f"{self.name} encodes text, images and video, not {modality}")
        views = [view for medium in prepared for view in medium]
        if modality != Modality.TEXT:
            vectors = self._picture_vectors(views)
        elif reads_padding(self._text):
            vectors = l2_normalize(self._towers.run("text", views, on_device))
        else:
            vectors = l2_normalize(run_texts(self._towers, views, self._tokenizer.pad))
        return mean_of_views(scale_features(vectors, self.temperatures[modality]), prepared)

    def locate(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Embed the patches of all views of prepared pictures: float32 (views, h, w, d), unit L2 norm.

        Raises:
            UsageError: the modality is not one of `locatable`.
        """
        locating(self, modality)
        views = [view for medium in prepared for view in medium]
        return l2_normalize(self._towers.run("image", views, self._pixels, "locate"))

    def picture_tower(self) -> PictureTower:
        """Return the image tower in fp32 as a module that can be trained; it is not shared with this encoder."""
        from bindsearch.encoders.torch_runtime.picture_tower import PictureTower

        return PictureTower(self._load, self._input.normalized, self.dim)

    @cached_property
    def _vocabulary(self) -> int | None:
        """Number of tokens that the text tower knows; None if the configuration leaves it to the library."""
        known: int | None = (self._tower_config() or self._text).get("vocab_size")
        return known

    @cached_property
    def _tokenizer(self) -> ClipTokenizer | HubTokenizer:
        return make_tokenizer(self._text, self._tokenizer_files)

    def _tokenizer_files(self) -> TokenizerFiles:
        settings = TOKENIZER_SETTINGS_FILE in self._manifest.files
        return TokenizerFiles(
            model_file(self._manifest, TOKENIZER_FILE),
            model_file(self._manifest, TOKENIZER_SETTINGS_FILE) if settings else None,
        )

    def _tokens(self, text: str) -> NDArray[np.int64]:
        """Return token ids, int64 (1, length); padded to all positions if the tower reads the padding."""
        ids = self._tokenizer.tokenize(text)
        largest, known = int(ids.max()), self._vocabulary
        if known is not None and largest >= known:
            raise EncoderError(
                f"{TOKENIZER_FILE} is not that of {self.name}: it has the token {largest}, the model knows {known}: "
                f"{how_to_repair(self.name)}"
            )
        if not reads_padding(self._text):
            return ids
        padded = np.full((1, self.max_tokens), self._tokenizer.pad, np.int64)
        padded[:, : ids.shape[1]] = ids
        return padded

    def _read_input(self, preprocess: Mapping[str, Any]) -> tuple[PictureInput, Options]:
        facts = dict(preprocess)
        size, fit, fill = facts.pop("size_px"), facts.pop("resize_mode"), facts.pop("fill_color", 0)
        height, width = (size, size) if isinstance(size, int) else size
        options = {"resize_mode": fit, **({"fill_color": fill} if fit == "longest" else {})}
        return PictureInput(height_px=height, width_px=width, fit=fit, fill=fill, **facts), options

    def _load(self, tower: str, device: torch.device) -> nn.Module:
        """Load a tower from the files of the installed model."""
        from bindsearch.encoders.openclip.networks import ImageTower, build_text_tower

        if tower == "image":
            return load_installed_tower(self._manifest, tower, partial(ImageTower, self._config), device)
        build = partial(build_text_tower, self._config, self._tower_config())
        return load_installed_tower(self._manifest, tower, build, device)

    def _tower_config(self) -> Mapping[str, Any] | None:
        """Return the configuration of a text tower of the transformers library; None for another one."""
        if not self._text.get("hf_model_name"):
            return None
        return read_settings(model_file(self._manifest, TOWER_CONFIG_FILE), "configuration of a model")


def has_dense_features(vision: Mapping[str, Any]) -> bool:
    """Return whether patches of a picture have vectors of their own: see `bindsearch.encoders.openclip.dense`."""
    if trunk := vision.get("timm_model_name"):
        name = str(trunk).removeprefix("test_")
        return name.startswith(_TIMM_TRUNKS) and not name.startswith(_OTHER_TRUNKS)
    has_one_query = not isinstance(vision.get("attentional_pool"), str)
    return has_one_query and not any(vision.get(setting) for setting in _OTHER_BLOCKS)
