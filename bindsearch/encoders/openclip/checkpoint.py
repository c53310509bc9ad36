"""Conversion of an open_clip checkpoint to one tensor file per tower, in little memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bindsearch.encoders.model_store.checkpoints import (
    MAX_TEMPERATURE,
    StoredTensor,
    check_stored,
    check_tensor,
    open_checkpoint,
    temperature_of,
    tower_specs,
    without_module,
)
from bindsearch.encoders.openclip.texts import (
    TOKENIZER_FILE,
    TOKENIZER_SETTINGS_FILE,
    TOWER_CONFIG_FILE,
    make_tokenizer,
)
from bindsearch.encoders.preprocessing.hub_tokenizer import TokenizerFiles, read_settings
from bindsearch.encoders.torch_runtime.tensor_files import OnProgress, write_towers
from bindsearch.errors import EncoderError

if TYPE_CHECKING:
    from torch import nn

_TEMPERATURE = "logit_scale"
_BIAS = "logit_bias"  # SigLIP's: added to every logit, it changes no direction
_UNUSED = (
    _BIAS,
    "transformer.embeddings.position_ids",  # a table that is computed
    "text_decoder.",  # CoCa writes captions with it; vectors do not depend on it
)


def convert(
    source: Path, folder: Path, architecture: Mapping[str, Any], dtype: str, on_progress: OnProgress
) -> Mapping[str, float]:
    """Write image.safetensors and text.safetensors into a folder.

    The checkpoint is memory-mapped and read tensor by tensor. The extra files of the model are in the folder, and are
    checked.

    Args:
        source: Checkpoint of open_clip.
        folder: Existing folder for the files.
        architecture: Settings from `find_openclip_source`.
        dtype: Number format of the matrices, "fp32", "bf16" or "fp16"; norms stay in fp32 if their module supports it.
        on_progress: Called with the number of bytes written so far and the total.

    Returns:
        Temperatures by modality.

    Raises:
        EncoderError: the checkpoint cannot be read, a tensor is missing, unknown or has another shape than the
            model's, or an extra file is damaged.
    """
    import torch

    from bindsearch.encoders.openclip.networks import NORMS_IN_FP32, ImageTower, build_text_tower

    config = architecture["config"]
    tower_config = None
    if config["text_cfg"].get("hf_model_name"):
        tower_config = read_settings(folder / TOWER_CONFIG_FILE, "configuration of a model")
    with torch.device("meta"):
        towers = {"image": ImageTower(config), "text": build_text_tower(config, tower_config)}
    _check_tokenizer(folder, config["text_cfg"], tower_config)
    stored = check_towers(open_checkpoint(source), towers, f"{source} is not a checkpoint of {architecture['model']}")
    specs = {name: tower_specs(tower, stored, dtype, NORMS_IN_FP32) for name, tower in towers.items()}
    write_towers(folder, specs, on_progress)
    # Only a model with a bias was trained without CLIP's bound (SigLIP, arXiv 2303.15343, algorithm 1).
    largest = math.inf if _BIAS in stored else MAX_TEMPERATURE
    temperature = temperature_of(float(check_tensor(stored[_TEMPERATURE].read(), _TEMPERATURE)), largest)
    return {"text": temperature, "image": 1.0, "video": 1.0}


def check_towers(
    stored: Mapping[str, StoredTensor], towers: Mapping[str, nn.Module], prefix: str
) -> dict[str, StoredTensor]:
    """Return the tensors of a checkpoint by their names in the towers.

    Raises:
        BadCheckpointError: they are not those of the towers.
    """
    # Separate text towers have a prefix of their own.
    stored = {name.removeprefix("text."): tensor for name, tensor in without_module(stored).items()}
    shapes = {name: tuple(tensor.shape) for tower in towers.values() for name, tensor in tower.state_dict().items()}
    shapes[_TEMPERATURE] = (1,) if _TEMPERATURE in stored and stored[_TEMPERATURE].shape == (1,) else ()
    check_stored(stored, shapes, prefix, unused=_UNUSED)
    return stored


def _check_tokenizer(folder: Path, text: Mapping[str, Any], tower_config: Mapping[str, Any] | None) -> None:
    """Raise EncoderError if the tokenizer cannot be read, or pads with another token than the text tower."""
    settings = folder / TOKENIZER_SETTINGS_FILE
    files = TokenizerFiles(folder / TOKENIZER_FILE, settings if settings.is_file() else None)
    tokenizer = make_tokenizer(text, lambda: files)
    tokenizer.count_tokens("a")
    expected = tokenizer.pad if tower_config is None else tower_config.get("pad_token_id")
    if expected != tokenizer.pad:
        raise EncoderError(
            f"{TOKENIZER_FILE} pads with the token {tokenizer.pad}, and {TOWER_CONFIG_FILE} with {expected}: "
            "they are not of the same model"
        )
