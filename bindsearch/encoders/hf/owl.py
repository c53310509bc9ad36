"""OWLv2 (arXiv 2306.09683) and OWL-ViT (arXiv 2205.06230): detectors whose patches are compared with queries.

A text is embedded by the text tower. A picture is embedded as the library does for a query that is a picture
(`embed_image_query`): as the class embedding of one patch, in OWLv2 of the one that is most likely an object, in
OWL-ViT of one whose box covers most of the picture. The projection of whole pictures, `visual_projection`, is not used:
detectors do not need it, and the published conversion of OWLv2 to transformers leaves it at random values.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from bindsearch.encoders.hf.adapter import CONFIG_FILE, HubTokenizer, ModelAdapter, Options
from bindsearch.encoders.hf.library import from_folder, library_errors, load_network, read_scale
from bindsearch.encoders.model_store.snapshot_files import read_json
from bindsearch.encoders.torch_runtime.threads import single_threaded
from bindsearch.errors import EncoderError, MediaError
from bindsearch.media import DecodeHints, Media, Passage, Picture
from bindsearch.types import Modality

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

CLASSES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "owlv2": ("Owlv2ForObjectDetection", "Owlv2ImageProcessor"),
        "owlvit": ("OwlViTForObjectDetection", "OwlViTImageProcessor"),
    }
)
"""Classes of the library for the network and for pictures, by `model_type`."""

PADDED = "owlv2"
"""Type whose pictures are padded to squares, right and below; those of the other one are squeezed to them."""

MAX_SIDE_PX = 2_048
"""Greatest side of the input."""

MAX_TIMES = 4
"""Pictures are reduced before padding if their longer side is more than so many times that of the input.

A picture of 1 x 100,000 pixels would be padded to 120 GB.
"""

MAX_BATCH = 8
"""Most pictures in a batch: each has thousands of patches."""

_DIM, _POSITIONS, _SIDE_PX = 512, 16, 768
"""Defaults of the configurations in the library, which config.json leaves out."""


class Adapter(ModelAdapter):
    """Adapter of both types; see `bindsearch.encoders.hf.adapter.ModelAdapter`."""

    modalities = frozenset({Modality.TEXT, Modality.IMAGE})
    libraries: Mapping[Modality, tuple[str, ...]] = MappingProxyType(
        {Modality.TEXT: ("torch", "transformers"), Modality.IMAGE: ("torch", "torchvision", "transformers")}
    )

    def __init__(self, folder: Path, name: str, options: Options) -> None:  # noqa: ARG002  (none can be set)
        """Read the configuration in the folder of a model."""
        self._folder = folder
        config = read_json(folder / CONFIG_FILE)
        self.kind = str(config.get("model_type"))
        try:
            if self.kind not in CLASSES:
                raise ValueError(f"its type is {self.kind}")
            texts, pictures = (config.get(part) or {} for part in ("text_config", "vision_config"))
            self.dim = int(config.get("projection_dim", _DIM))
            self.side_px = int(pictures.get("image_size", _SIDE_PX))
            if int(texts.get("hidden_size", _DIM)) != self.dim:
                raise ValueError("its texts and patches have different dimensions")
            if not 0 < self.side_px <= MAX_SIDE_PX:
                raise ValueError(f"pictures of {self.side_px} pixels")
            positions = int(texts.get("max_position_embeddings", _POSITIONS))
        except (TypeError, ValueError, AttributeError) as error:
            raise EncoderError(f"the configuration of {name} is damaged ({error}): pull the model again") from error
        self.wants = DecodeHints(picture_side_px=self.side_px, frames_per_s=1.0)
        self.tokenizer = HubTokenizer(folder, positions)

    def prepare(self, media: Media) -> NDArray[Any]:
        """Return token ids, int64 (1, length), or the pixels of a picture, float32 (1, 3, side, side).

        Raises:
            MediaError: the text is blank or too long, or the picture has no pixels.
        """
        match media:
            case Passage(text=text):
                return self.tokenizer.tokenize(text)
            case Picture(rgb=rgb):
                with single_threaded():
                    return self.pixels(rgb)[None]
        raise TypeError(f"{type(media).__name__} is neither a passage nor a picture")

    def pixels(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return a picture, uint8 (height, width, 3), as the library prepares it: float32 (3, side, side).

        Raises:
            MediaError: the picture has no pixels.
            EncoderError: the settings of the library's processor are missing or those of another model.
        """
        import torch

        if 0 in rgb.shape:
            raise MediaError(f"the picture has no pixels (height {rgb.shape[0]}, width {rgb.shape[1]})")
        if (factor := -(-max(rgb.shape[:2]) // (MAX_TIMES * self.side_px))) > 1:
            rgb = np.asarray(Image.fromarray(np.ascontiguousarray(rgb)).reduce(factor))
        with torch.inference_mode():
            picture = np.require(rgb, requirements=("C", "W"))
            found = self._processor(picture, input_data_format="channels_last", return_tensors="pt")["pixel_values"][0]
        if tuple(found.shape) != (3, self.side_px, self.side_px):
            raise EncoderError(
                f"the processor in {self._folder} makes pictures of {tuple(found.shape)} instead of "
                f"{(3, self.side_px, self.side_px)}: pull the model again"
            )
        pixels: NDArray[np.float32] = found.float().numpy()
        return pixels

    def input_sides(self, height: int, width: int) -> tuple[float, float]:
        """Return height and width of the input in heights and widths of the picture: (1, 1) if it is not padded."""
        longer = max(height, width)
        return (longer / height, longer / width) if self.kind == PADDED else (1.0, 1.0)

    def temperatures(self, target: Modality | None) -> Mapping[Modality, float]:  # noqa: ARG002  (one for all)
        """Return the logit scale of the CLIP model that the detector was made from, exp(logit_scale)."""
        return dict.fromkeys((Modality.TEXT, Modality.IMAGE), read_scale(self._folder, f"{self.kind}.logit_scale"))

    def most_views(self, tower: str) -> int | None:
        """Return MAX_BATCH for pictures."""
        return MAX_BATCH if tower == Modality.IMAGE else None

    def load(self, tower: str, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """Return a tower with the weights of the model; the other one is dropped."""
        from bindsearch.encoders.torch_runtime.picture_tower import Tower

        def embed_pictures(network: Any, pixels: torch.Tensor) -> torch.Tensor:
            embeds: torch.Tensor = network.embed_image_query(*embed_patches(network, pixels))[0]
            return embeds[:, 0]

        if tower == Modality.IMAGE:
            return Tower(self.load_detection(device, dtype), embed_pictures)

        def embed_texts(network: Any, tokens: torch.Tensor) -> torch.Tensor:
            found = network.get_text_features(input_ids=tokens[:, 0], attention_mask=tokens[:, 1])
            embeds: torch.Tensor = found.pooler_output
            return embeds

        network: Any = getattr(self._load_all(device, dtype), self.kind)
        network.vision_model = None
        return Tower(network, embed_texts)

    def load_detection(self, device: torch.device, dtype: torch.dtype) -> Any:
        """Return the library's network for detection without its text tower.

        Its heads compute in fp32: bf16 has 8 bits for a coordinate.

        Raises:
            EncoderError: weights or settings are missing, damaged, or those of another model.
        """
        network = self._load_all(device, dtype)
        getattr(network, self.kind).text_model = None
        for head in ("class_head", "box_head", "objectness_head"):
            if hasattr(network, head):
                getattr(network, head).float()
        network.box_bias = network.compute_box_bias(network.num_patches_height, network.num_patches_width).to(device)
        self.pixels(np.zeros((1, 1, 3), np.uint8))
        return network

    def _load_all(self, device: torch.device, dtype: torch.dtype) -> Any:
        """Return the library's network with all weights of the model."""
        with library_errors(self._folder):
            import transformers

            kind = getattr(transformers, CLASSES[self.kind][0])
        return load_network(kind, self._folder, device, dtype)

    @cached_property
    def _processor(self) -> Any:
        return from_folder(self._folder, CLASSES[self.kind][1])


def embed_patches(network: Any, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the heads of a network take of pictures (n, 3, side, side).

    Returns:
        Features of patches, float32 (n, patches, width), and the same as a map, float32 (n, rows, columns, width).
    """
    feature_map: torch.Tensor = network.image_embedder(pixel_values=pixels)[0].float()
    return feature_map.flatten(1, 2), feature_map


def _embed_pictures(network: Any, pixels: torch.Tensor) -> torch.Tensor:
    embeds: torch.Tensor = network.embed_image_query(*embed_patches(network, pixels))[0]
    return embeds[:, 0]


def _embed_texts(network: Any, tokens: torch.Tensor) -> torch.Tensor:
    embeds: torch.Tensor = network.get_text_features(input_ids=tokens[:, 0], attention_mask=tokens[:, 1]).pooler_output
    return embeds
