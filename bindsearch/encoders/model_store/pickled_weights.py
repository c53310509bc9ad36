"""Weights of torch.save as safetensors: read without running code in them, and written under the usual names."""

from __future__ import annotations

import json
from pathlib import Path

from bindsearch.atomic import atomic_write
from bindsearch.encoders.model_store.checkpoints import BadCheckpointError, open_checkpoint
from bindsearch.encoders.model_store.snapshot_files import PICKLED_INDEXES


def write_as_safetensors(source: Path, target: Path) -> None:
    """Convert a file of weights, or the index of several, of torch.save to safetensors.

    The tensors of one file are in memory meanwhile. Tensors that share memory, such as tied embeddings, are written
    twice; loaders tie them again.

    Args:
        source: File to read.
        target: Path that it has in the repository, in an existing folder; it is written beside it, with the name of
            safetensors.

    Raises:
        BadCheckpointError: the file holds anything but tensors, or is damaged.
    """
    if target.name in PICKLED_INDEXES:
        _write_index(source, target.with_name(_name_of(target.name.removesuffix(".index.json")) + ".index.json"))
        return
    from safetensors.torch import save

    tensors = {name: stored.read().contiguous().clone() for name, stored in open_checkpoint(source).items()}
    with atomic_write(target.with_name(_name_of(target.name))) as file:
        file.write(save(tensors, metadata={"format": "pt"}))  # without it, transformers refuses the file


def _name_of(name: str) -> str:
    """Return model.safetensors for pytorch_model.bin, and likewise for its parts; diffusers changes the end alone."""
    stem = name.removesuffix(".bin")
    return (stem if stem.startswith("diffusion_") else stem.replace("pytorch_model", "model", 1)) + ".safetensors"


def _write_index(source: Path, target: Path) -> None:
    """Write the index of several files with their new names."""
    try:
        index = json.loads(source.read_text(encoding="utf-8"))
        index["weight_map"] = {str(key): _name_of(str(name)) for key, name in index["weight_map"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadCheckpointError(f"{source} is not an index of weights ({error}): download it again") from error
    with atomic_write(target) as file:
        file.write(json.dumps(index, indent=2).encode())
