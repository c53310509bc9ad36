"""Configurations of an unCLIP pipeline, as diffusers saves it: a folder for each component. Nothing is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bindsearch.encoders.model_store.snapshot_files import WEIGHTS, is_pipeline_weights
from bindsearch.errors import EncoderError
from bindsearch.small_files import read_json_object

PIPELINE_FILE = "model_index.json"
PIPELINE = "StableUnCLIPImg2ImgPipeline"
"""Class of the pipeline: its decoder is given the embedding of a picture."""

NETWORKS = ("image_encoder", "image_normalizer", "text_encoder", "unet", "vae")
"""Components that have weights."""

CONFIGS: Mapping[str, str] = MappingProxyType(
    {
        **{network: f"{network}/config.json" for network in NETWORKS},
        "feature_extractor": "feature_extractor/preprocessor_config.json",
        "image_noising_scheduler": "image_noising_scheduler/scheduler_config.json",
        "scheduler": "scheduler/scheduler_config.json",
        "tokenizer": "tokenizer/tokenizer_config.json",
    }
)
"""Configuration of each component, by its path in the folder."""

MAX_DIM, MAX_SIDE = 16_384, 8_192
"""Greatest dimension of an embedding, and side of a picture in pixels, that a configuration may state."""


@dataclass(frozen=True, slots=True)
class PipelineShape:
    """Sizes of a pipeline.

    Attributes:
        dim: Dimension d of the embedding that the decoder takes.
        input_px: Side of the input of its own picture encoder, in pixels.
        side_px: Side of the square pictures that it was trained on, in pixels.
        vae_factor: Side of a picture in pixels for each value of a side of the latent.
        vae_channels: Channels of the decoder of latents at the full size of the picture.
        noise_levels: Number of levels of noise that may be added to an embedding.
        max_steps: Maximum number of steps.
    """

    dim: int
    input_px: int
    side_px: int
    vae_factor: int
    vae_channels: int
    noise_levels: int
    max_steps: int


def folder_files(folder: Path) -> dict[str, Path]:
    """Return the configurations that are in a folder, by their path in it."""
    return {path: folder / path for path in (PIPELINE_FILE, *CONFIGS.values()) if (folder / path).is_file()}


def weight_files(folder: Path) -> list[Path]:
    """Return the files of the weights of all components in a folder.

    Raises:
        EncoderError: a component has none that can be loaded.
    """
    found = []
    for network in NETWORKS:
        files = sorted((folder / network).glob(f"*{WEIGHTS}"))
        chosen = [file for file in files if is_pipeline_weights(f"{network}/{file.name}")]
        if not chosen:
            raise EncoderError(
                f"{folder / network} has no weights as safetensors in the usual number format: "
                f"`bindsearch model pull unclip:ORG/NAME --from {folder}` converts those of torch.save"
            )
        found += chosen
    return found


def read_shape(name: str, files: Mapping[str, Path]) -> PipelineShape:
    """Check the configurations of a pipeline and return its sizes.

    Raises:
        EncoderError: it is not such a pipeline, a configuration is missing or damaged, or sizes do not match.
    """
    if PIPELINE_FILE not in files:
        raise EncoderError(
            f"{name} has no {PIPELINE_FILE}: it is not a pipeline of diffusers; give the folder that has it, or the "
            "name of a decoder that is installed with `bindsearch model pull unclip:ORG/NAME`"
        )
    kind = _read(name, files, PIPELINE_FILE).get("_class_name")
    if kind != PIPELINE:
        raise EncoderError(f"{name} is a pipeline of the class {str(kind)[:80]!r}: pictures are made by {PIPELINE}")
    configs = {component: _read(name, files, path) for component, path in CONFIGS.items()}
    encoder, unet, vae = configs["image_encoder"], configs["unet"], configs["vae"]
    dim = _number(name, "image_encoder", encoder.get("projection_dim", 512), MAX_DIM)
    if (kind := unet.get("class_embed_type")) != "projection":
        raise EncoderError(f"{name}: the unet has class_embed_type {str(kind)[:40]!r}, not 'projection'")
    wanted = {
        "unet": (unet.get("projection_class_embeddings_input_dim"), 2 * dim),  # the embedding, and its noise level
        "image_normalizer": (configs["image_normalizer"].get("embedding_dim", 768), dim),
    }
    for component, (found, expected) in wanted.items():
        if found != expected:
            raise EncoderError(
                f"{name}: the {component} is for {str(found)[:20]} dimensions, not {expected}: parts of two models?"
            )
    channels = vae.get("block_out_channels")
    if not isinstance(channels, list) or not 0 < len(channels) <= 8:
        raise EncoderError(f"{name}: vae/config.json states no block_out_channels")
    factor = 2 ** (len(channels) - 1)
    side = _number(name, "unet", unet.get("sample_size"), MAX_SIDE // factor) * factor
    steps = {
        component: _number(name, component, configs[component].get("num_train_timesteps", 1000), 1_000_000)
        for component in ("image_noising_scheduler", "scheduler")
    }
    return PipelineShape(
        dim=dim,
        input_px=_number(name, "image_encoder", encoder.get("image_size", 224), MAX_SIDE),
        side_px=side,
        vae_factor=factor,
        vae_channels=_number(name, "vae", channels[min(1, len(channels) - 1)], MAX_DIM),
        noise_levels=steps["image_noising_scheduler"],
        max_steps=steps["scheduler"],
    )


def _read(name: str, files: Mapping[str, Path], path: str) -> Mapping[str, Any]:
    """Return a configuration; raise EncoderError if it is missing or damaged."""
    try:
        return read_json_object(files[path])
    except KeyError:
        raise EncoderError(f"{name} has no {path}: the pipeline is not complete") from None
    except (OSError, ValueError, RecursionError) as error:
        raise EncoderError(f"{name}: {path} is damaged ({error}): install the model again") from error


def _number(name: str, component: str, value: object, highest: int) -> int:
    """Return a size of a configuration; raise EncoderError if it is not a number from 1 to `highest`."""
    if type(value) is not int or not 0 < value <= highest:
        raise EncoderError(f"{name}: the {component} states the size {str(value)[:40]}: expected 1 to {highest}")
    return value
