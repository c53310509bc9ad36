"""Checks of encoders and the store: installed models, opening the store, and embedding a tiny item per modality."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bindsearch.arguments import shell_command
from bindsearch.atomic import folder_size, is_there
from bindsearch.encoders.base import Encoder, encode_media
from bindsearch.encoders.mini.weights import weight_files
from bindsearch.encoders.model_store.installed import (
    BOUND_PREFIX,
    ModelManifest,
    damaged_models,
    list_models,
    read_model,
    towers_of,
    verify_model,
)
from bindsearch.encoders.model_store.source import can_be_pulled
from bindsearch.encoders.registry import parts_of
from bindsearch.encoders.torch_runtime.device import Runtime
from bindsearch.environment import installation_fault, is_installation_failure
from bindsearch.errors import BindSearchError, EncoderError
from bindsearch.media import (
    MODALITY_OF,
    NO_CONTENT,
    DepthMap,
    Frames,
    Media,
    Motion,
    Passage,
    Picture,
    Sound,
    ThermalPicture,
)
from bindsearch.operations.doctor.libraries import Check, Level, checked
from bindsearch.search.generation import Reader
from bindsearch.storage.config import STORE_FILE, load_store_encoder
from bindsearch.types import Modality


def check_encoders() -> Iterator[Check]:
    """Check the weights of the default encoder and of installed models, by file size."""
    try:
        size = sum(file.stat().st_size for file in weight_files())
    except EncoderError as error:
        message, _, remedy = str(error).partition("; ")
        yield Check("encoders", "mini", Level.PROBLEM, message, remedy.replace("install it again with: ", ""))
    except OSError as error:
        message = f"the weights cannot be read: {error}"
        yield Check("encoders", "mini", Level.PROBLEM, message, "check their permissions")
    else:
        yield Check("encoders", "mini", Level.OK, f"weights are installed ({size / 1e6:.0f} MB)")
    for manifest in list_models():
        faults, missing = verify_model(manifest.name, digests=False), _missing_parts(manifest)
        towers = len(towers_of(manifest))
        contents = f"{towers} towers" if towers else f"{len(manifest.files)} files"  # files: those of a repository
        level = Level.PROBLEM if faults or missing else Level.OK
        message = "; ".join([*faults, *missing]) or f"{contents}, {manifest.dtype}"
        yield Check("encoders", manifest.name, level, message, _remedy(manifest.name) if faults else "")
    remedy = "remove the folder of the model, and pull or bind it again"
    for fault in damaged_models():
        yield Check("encoders", "models", Level.PROBLEM, fault, remedy)


def _missing_parts(manifest: ModelManifest) -> list[str]:
    """Return a line for each pulled model that a bound one is made of and that is not there; nothing is loaded."""
    faults = []
    for name in filter(can_be_pulled, parts_of(manifest)):
        try:
            read_model(name)
        except EncoderError as error:
            faults.append(str(error))
    return faults


def _remedy(name: str) -> str:
    """Return the command that replaces a damaged model."""
    if name.startswith(BOUND_PREFIX):
        return f"bindsearch bind --out {name.removeprefix(BOUND_PREFIX)} --replace, with its other options"
    return f"bindsearch model pull {name} --force"


def check_store(path: Path) -> Iterator[Check]:
    """Open the newest generation of a store, and yield a summary of its contents."""
    try:
        if not is_there(path / STORE_FILE):
            yield Check("store", "store", Level.OK, f"none at {path} yet; `bindsearch index FOLDER` creates one")
            return
        generation = Reader(path).current()
    except Exception as error:
        if installation_fault(error) is not None:  # reported by `check_installed`
            return
        if not isinstance(error, BindSearchError | OSError):
            raise
        yield Check("store", "store", Level.PROBLEM, str(error), shell_command("verify", "--store", path))
        return
    if generation.problem is not None:
        yield Check("store", "store", Level.PROBLEM, generation.problem, shell_command("compact", "--store", path))
        return
    snapshot = generation.snapshot
    reasons = [] if snapshot.failures is None else snapshot.failures.column("reason").to_pylist()
    failures = [reason for reason in reasons if not reason.startswith(NO_CONTENT)]
    index_errors = (partition.index_error for partition in generation.partitions.values())
    problems = [error for error in index_errors if error is not None]
    size = folder_size(path) / 1e6
    message = f"{sum(snapshot.counts('items').values())} items, {len(failures)} failed files, {size:.1f} MB at {path}"
    yield checked("store", "store", "; ".join([message, *problems]), "bindsearch optimize" if problems else "")
    if n_retried := sum(map(is_installation_failure, failures)):
        message = f"{n_retried} files failed because a library could not be loaded"
        yield checked("store", "failed files", message, "the next `bindsearch index` retries them")


def embed_samples(path: Path) -> Iterator[Check]:
    """Embed one tiny item of each modality with the encoder of the store at `path`, or with the default one."""
    try:
        encoder = load_store_encoder(path, None, {}, Runtime())
    except (BindSearchError, OSError) as error:
        remedy = "see the findings about the store and the encoders above"
        yield Check("deep", "encoder", Level.PROBLEM, str(error), remedy)
        return
    noise = np.random.default_rng(7)
    picture = noise.integers(0, 256, (64, 64, 3), np.uint8)
    grey = noise.uniform(0.0, 1.0, (64, 64)).astype(np.float32)
    samples: list[Media] = [
        Passage("a dog on the beach"),
        Picture(picture),
        Frames(np.stack([picture, picture]), np.array([0.0, 1.0])),
        Sound(noise.uniform(-0.5, 0.5, 32_000).astype(np.float32), 16_000),
        DepthMap(1.0 + grey, np.ones((64, 64), np.bool_), 52.0, 0.075),
        ThermalPicture(grey),
        Motion(np.tile(np.array([0.0, 0.0, 9.81, 0.0, 0.0, 0.0], np.float32), (250, 1)), 50.0),
    ]
    for medium in samples:
        modality = MODALITY_OF[type(medium)]
        if modality in encoder.modalities:
            yield _embed(encoder, modality, medium)


def _embed(encoder: Encoder, modality: Modality, medium: Media) -> Check:
    """Embed one item, and return the finding."""
    name = f"{modality} by {encoder.name}"
    started = time.perf_counter()
    try:
        vectors = encode_media(encoder, [medium])
    except Exception as error:
        fault = installation_fault(error)
        message = str(error) or type(error).__name__
        return Check("deep", name, Level.PROBLEM, *((message, "") if fault is None else (fault.fault, fault.remedy)))
    took_s = time.perf_counter() - started
    norm = float(np.linalg.norm(vectors[0]))
    if not abs(norm - 1.0) < 1e-3:
        message = f"returned a vector of length {norm:g}, expected 1"
        return Check("deep", name, Level.PROBLEM, message, "report this as a bug")
    return Check("deep", name, Level.OK, f"embedded in {took_s:.2f} s")
