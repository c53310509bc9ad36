"""Loading of an unCLIP pipeline by diffusers: from local files, without code or class names of the repository."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from logging import CRITICAL
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bindsearch.encoders.hf.library import check_complete, library_errors, load_network, without_messages
from bindsearch.encoders.package_files import check_extra
from bindsearch.encoders.unclip.folder import CONFIGS, MAX_SIDE, weight_files
from bindsearch.environment import check_libraries
from bindsearch.errors import EncoderError
from bindsearch.small_files import read_json_object

if TYPE_CHECKING:
    import torch
    from diffusers import StableUnCLIPImg2ImgPipeline

_OF_DIFFUSERS = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}


check_present = partial(check_extra, "pictures from embeddings: need", "generate", "diffusers", "transformers")
"""Raises InstallationError if a library is not installed; none is loaded."""


def check_installed() -> None:
    """Check that the libraries can be loaded.

    Raises:
        InstallationError: one is missing, or cannot be loaded.
    """
    check_present()
    check_libraries(("torch", "transformers", "diffusers"))


@contextmanager
def silenced() -> Iterator[None]:
    """Hold back the messages and progress bars of the libraries.

    Raises:
        InstallationError: a library is missing, or cannot be loaded.
    """
    check_installed()
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    with without_messages(of_diffusers, of_transformers, level=CRITICAL):
        yield


def load_pipeline(folder: Path, dtype: torch.dtype, device: torch.device) -> StableUnCLIPImg2ImgPipeline:
    """Return the pipeline in a folder, ready to run.

    The components are built from classes named here, not from those that model_index.json names.

    Raises:
        InstallationError: a library is missing, or cannot be loaded.
        EncoderError: a file is missing or damaged, or weights are missing or of another shape.
    """
    weight_files(folder)  # raises for a component without any
    with silenced(), library_errors(folder):
        import diffusers
        from diffusers.pipelines.stable_diffusion import StableUnCLIPImageNormalizer
        from transformers import CLIPImageProcessor, CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

        offline: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        parts: dict[str, Any] = {
            "feature_extractor": CLIPImageProcessor.from_pretrained(folder / "feature_extractor", **offline),
            "tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer", **offline),
            "image_encoder": load_network(CLIPVisionModelWithProjection, folder / "image_encoder", device, dtype),
            "text_encoder": load_network(CLIPTextModel, folder / "text_encoder", device, dtype),
            "image_normalizer": _load(StableUnCLIPImageNormalizer, folder / "image_normalizer", dtype),
            **{name: _load(getattr(diffusers, kind), folder / name, dtype) for name, kind in _OF_DIFFUSERS.items()},
            **{name: _load_scheduler(folder, name) for name in ("scheduler", "image_noising_scheduler")},
        }
        _try_inputs(folder, parts)
        pipeline = diffusers.StableUnCLIPImg2ImgPipeline(**parts)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline.to(device)


def _load(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """Return a network of diffusers with the weights in a folder; none are drawn at random."""
    # Another way of using memory needs the library accelerate.
    options = {"local_files_only": True, "use_safetensors": True, "low_cpu_mem_usage": False}
    network, found = kind.from_pretrained(folder, torch_dtype=dtype, output_loading_info=True, **options)
    check_complete(found, folder, "install the model again")
    return network.eval().requires_grad_(False)


def _try_inputs(folder: Path, parts: Mapping[str, Any]) -> None:
    """Prepare a picture and a text once, whose settings nothing else checks."""
    import numpy as np

    extract, side = parts["feature_extractor"], parts["image_encoder"].config.image_size
    sizes = [value for size in (extract.size, extract.crop_size) for value in dict(size or {}).values() if value]
    found: object = "too large"
    if max(sizes, default=0) <= MAX_SIDE:
        found = tuple(extract(images=[np.zeros((8, 8, 3), np.uint8)], return_tensors="np").pixel_values[0].shape)
    if found != (3, side, side):
        raise EncoderError(
            f"the feature_extractor in {folder} makes pictures that are {found}, not {(3, side, side)}: "
            "install the model again"
        )
    tokenizer = parts["tokenizer"]
    tokenizer("a", padding="max_length", max_length=tokenizer.model_max_length, truncation=True)


def _load_scheduler(folder: Path, name: str) -> Any:
    """Return a scheduler of the class that its configuration names, which must be one that the pipeline takes."""
    import diffusers
    from diffusers.schedulers import KarrasDiffusionSchedulers

    named = str(read_json_object(folder / CONFIGS[name]).get("_class_name"))
    if named not in KarrasDiffusionSchedulers.__members__:
        raise EncoderError(f"{folder / CONFIGS[name]} names {named[:80]!r}, which is not a scheduler of this pipeline")
    scheduler: Any = getattr(diffusers, named)
    return scheduler.from_pretrained(folder / name, local_files_only=True)
