"""Bind a new modality to a hub: pairs in, an installed encoder out."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bindsearch.arguments import did_you_mean, shown, to_path
from bindsearch.atomic import atomic_write
from bindsearch.binding.data.features import features_of_views, has_frozen_start, train_features
from bindsearch.binding.data.label_views import label_bank, with_labels
from bindsearch.binding.data.loader import Drawing
from bindsearch.binding.data.pair_data import OnProgress, PairData, load_pair_data
from bindsearch.binding.data.pairs import read_pairs
from bindsearch.binding.recipe import DEFAULTS, RunSettings, parse_settings
from bindsearch.binding.training.train import CHECKPOINT_FILE, LOG_FILE, Run, StepReport, kept_weights, train
from bindsearch.binding.training.training_step import seed_of
from bindsearch.binding.training.validation import Validation, make_validator
from bindsearch.binding.training.workers import Workers, join_workers
from bindsearch.encoders.base import Encoder
from bindsearch.encoders.bound.encoder import BoundEncoder, base_of, start_of
from bindsearch.encoders.bound.label_tower import LabelTower, fill_bank
from bindsearch.encoders.bound.networks import HubTower, build_tower, initialize, load_trained
from bindsearch.encoders.bound.tower_config import TowerConfig
from bindsearch.encoders.model_store.installed import (
    BOUND_PREFIX,
    FORMAT,
    NEW_FOLDER,
    ModelFile,
    ModelManifest,
    is_installed,
    model_folder,
    model_lock,
    publish_model,
    tower_file,
    work_folder,
    write_manifest,
)
from bindsearch.encoders.registry import load_part
from bindsearch.encoders.torch_runtime.device import Runtime, check_device, resolve_device
from bindsearch.encoders.torch_runtime.tensor_files import TensorSpec, write_towers
from bindsearch.encoders.zero_shot import DEFAULT_TEMPLATES, read_templates
from bindsearch.errors import BindSearchError, UsageError
from bindsearch.hashing import hash_file
from bindsearch.types import Modality, PathLike

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def ignore_progress(*_progress: object) -> None:
    """Ignore the progress of decoding and embedding, or of training."""


@dataclass(frozen=True)
class BindOptions:
    """Options of a run that are no settings of its recipe.

    Attributes:
        work: Folder of checkpoints, logs and caches, which several runs may share; None: below the folder of the
            models, deleted at the end.
        restart: Begin again where there is a checkpoint.
        replace: Replace an installed model of the same name.
        device: "auto", "cpu", "cuda" or "cuda:1".
        templates: Set of templates for the names of labels in validation.
        tensorboard: Folder of TensorBoard's events; None: none.
    """

    work: Path | None = None
    restart: bool = False
    replace: bool = False
    device: str = "auto"
    templates: str = DEFAULT_TEMPLATES
    tensorboard: Path | None = None


@dataclass(frozen=True)
class BindResult:
    """Result of a run.

    Attributes:
        manifest: Manifest of the installed model; None in a process that is not the first.
        steps: Number of steps.
        pairs: Number of pairs that were trained on.
        validation_pairs: Number of pairs that were kept for validation.
        best_score: Best score of a validation; None: there was none.
        before: Validation of the tower before training; None as for `last`.
        last: Validation of the installed tower; None: no pairs are kept for it.
        log: The log, a CSV file.
        notes: What was left out or assumed, one line each.
    """

    manifest: ModelManifest | None
    steps: int
    pairs: int
    validation_pairs: int
    best_score: float | None
    before: Validation | None
    last: Validation | None
    log: Path
    notes: tuple[str, ...]


def bind(
    pairs: PathLike,
    modality: str | Modality,
    hub: str | Encoder,
    out: str,
    *,
    settings: Sequence[str] = (),
    options: BindOptions = BindOptions(),
    on_progress: OnProgress = ignore_progress,
    on_step: Callable[[StepReport], None] = ignore_progress,
) -> BindResult:
    """Train a tower of a modality towards the space of a hub, and install both as an encoder.

    Args:
        pairs: Table of pairs, see `read_pairs`.
        modality: The new modality.
        hub: Name of an encoder, or an encoder that can be loaded by its name.
        out: Name of the new encoder, which is loaded as "bound:NAME".
        settings: Texts such as "batch=64", see `parse_settings`.
        options: Folders, device and such.
        on_progress: Called while files are decoded and embedded.
        on_step: Called after each step of training.

    Raises:
        UsageError: a setting, the table or the name is not valid, or the model exists.
        EncoderError: the hub cannot be loaded.
        BindSearchError: a file cannot be written.
    """
    name, folder, run_folder = _places(out, options)
    check_run(out, modality, settings, options)
    encoder = load_part(hub, None, Runtime(options.device)) if isinstance(hub, str) else hub
    run_settings = parse_settings(Modality(modality), encoder.dim, settings)
    table = read_pairs(pairs, Modality(modality), encoder.modalities, run_settings.recipe.validation)
    if run_settings.recipe.patience and not any(pair.is_validation for pair in table.pairs):
        raise UsageError(f"patience is {run_settings.recipe.patience}, but no pairs are kept for validation: add some")
    workers = join_workers()
    try:
        with model_lock(name) if workers.is_first else nullcontext():
            if workers.is_first:
                run_folder.mkdir(parents=True, exist_ok=True)
                if options.restart:
                    (run_folder / CHECKPOINT_FILE).unlink(missing_ok=True)
            else:
                workers.wait()  # until the first process has filled the caches
            show = on_progress if workers.is_first else ignore_progress
            data = load_pair_data(table, encoder, run_settings, folder, show)
            if workers.is_first:
                workers.wait()
            result = _train_and_install(name, encoder, run_settings, data, workers, options, on_progress, on_step)
            if options.work is None and workers.is_first:
                shutil.rmtree(folder)
            return result
    except OSError as error:
        reason = f"{error.strerror or error}: {error.filename}" if error.filename else error.strerror or error
        raise BindSearchError(
            f"the files of the run cannot be written below {folder} ({reason}): make room or give another folder with "
            "--work, and run the same command again"
        ) from error
    finally:
        if workers.count > 1:
            torch.distributed.destroy_process_group()


def check_run(out: str, modality: str | Modality, settings: Sequence[str], options: BindOptions) -> None:
    """Check what can be checked of a run, whose arguments are those of `bind`, before anything is read.

    Raises:
        UsageError: a name or a setting is not valid, or the model exists.
    """
    if modality not in list(Modality):
        near = did_you_mean(str(modality), DEFAULTS)
        raise UsageError(f"unknown modality {shown(modality)}: {near}choose from {', '.join(DEFAULTS)}")
    parse_settings(Modality(modality), 1, settings)
    check_device(options.device)
    read_templates(options.templates)
    name, _, run_folder = _places(out, options)
    try:  # a model with the log of this run may be installed again
        is_of_run = (model_folder(name) / LOG_FILE).read_bytes() == (run_folder / LOG_FILE).read_bytes()
    except OSError:
        is_of_run = False
    check_name(out, replace=options.replace or is_of_run)


def check_name(out: str, *, replace: bool) -> str:
    """Return the name of a new model with its prefix.

    Raises:
        UsageError: it is not valid, or the model exists and may not be replaced.
    """
    bare = out.removeprefix(BOUND_PREFIX)
    if not _NAME.fullmatch(bare):
        raise UsageError(f"{shown(out)} is not a valid name: use letters, digits, '.', '-' and '_', at most 64")
    name = BOUND_PREFIX + bare
    if is_installed(name) and not replace:
        raise UsageError(f"the model {name} is installed already: choose another name, or --replace it")
    return name


def _places(out: str, options: BindOptions) -> tuple[str, Path, Path]:
    """Return the name of the model, the folder of what runs share, and that of the run; UsageError: a wrong name."""
    name = check_name(out, replace=True)
    folder = to_path(options.work) if options.work is not None else work_folder(name) / "run"
    return name, folder, folder / "runs" / name.removeprefix(BOUND_PREFIX)


def _train_and_install(
    name: str,
    hub: Encoder,
    settings: RunSettings,
    data: PairData,
    workers: Workers,
    options: BindOptions,
    on_progress: OnProgress,
    on_step: Callable[[StepReport], None],
) -> BindResult:
    device = workers.device(resolve_device(options.device))
    _, caches, folder = _places(name, options)
    settings = with_labels(settings, data, workers.count)
    rows = data.rows(validation=False)
    tower = build_tower(settings.tower, start_of(hub, settings.tower))
    initialize(tower, torch.Generator().manual_seed(seed_of(settings.recipe.seed)))
    if isinstance(tower, LabelTower):
        fill_bank(tower, torch.from_numpy(label_bank(data)))
    tower.to(device)
    validator = make_validator(data, hub, settings.tower, options.templates)
    features = None
    if isinstance(tower, HubTower) and has_frozen_start(settings):
        features = train_features(data, tower, base_of(hub), settings, caches / "features", on_progress)
        if validator is not None:
            prepared = features_of_views(tower, validator.prepared, settings.recipe.part)
            validator = replace(validator, prepared=prepared)
    recorded = {**settings.as_json(), "hub": hub.name, "hub_digest": hub.digest, "pairs": _digest_of(data)}
    drawing = Drawing(data, base_of(hub), settings, rows, features)
    run = Run(drawing, validator, recorded, workers, device, folder, options.tensorboard, on_step)
    part = settings.recipe.part
    before = validator.run(tower, part, device) if validator is not None and workers.is_first else None
    state = train(tower, run)
    manifest = last = None
    log_file = model_folder(name) / LOG_FILE
    if workers.is_first:
        weights = kept_weights(state, settings.recipe)
        load_trained(tower, weights)
        last = validator.run(tower, part, device) if validator is not None else None
        source = f"{len(rows)} pairs of {data.modality} bound with `bindsearch bind`"
        manifest = install_bound(name, hub, settings, weights, source, state.log_scale.exp().item())
        with atomic_write(log_file) as log:
            log.write((folder / LOG_FILE).read_bytes())
    notes = [*data.notes]
    if validator is None:
        notes.append("no pairs are kept for validation: nothing says how good the tower is on others")
    elif validator.note:
        notes.append(validator.note)
    if before is not None and last is not None and last.score < before.score:
        notes.append(
            f"the tower is worse than before training (score {last.score:.3f} instead of {before.score:.3f}): give "
            "more pairs, fewer epochs or a lower learning_rate, or tuning=head"
        )
    best, kept = state.best_score if state.best else None, len(data.pairs) - len(rows)
    return BindResult(manifest, state.step, len(rows), kept, best, before, last, log_file, tuple(notes))


def install_bound(
    name: str, hub: Encoder, settings: RunSettings, weights: Mapping[str, Tensor], source: str, scale: float
) -> ModelManifest:
    """Install an encoder of a hub and a trained tower; the lock of the model must be held.

    A hub that is a bound encoder gives its own towers and hub to the new one, which needs no other bound encoder.

    Args:
        name: Name of the model, with its prefix.
        hub: The hub.
        settings: Settings of the run, which are recorded.
        weights: Trained parameters of the tower.
        source: Description of the pairs.
        scale: Logit scale of the tower's modality.
    """
    modality = settings.tower.modality
    new = new_folder(name)
    towers: dict[str, TowerConfig] = {modality: settings.tower}
    temperatures = {modality: scale}
    if isinstance(hub, BoundEncoder):
        for other, config in hub.configs.items():
            if other != modality:
                shutil.copyfile(tower_file(hub.manifest, other), new / f"{other}.safetensors")
                towers[other.value], temperatures[other.value] = config, hub.temperatures[other]
        hub = hub.hub
    specs = [TensorSpec(key, tuple(value.shape), "fp32", value.detach().cpu) for key, value in weights.items()]
    write_towers(new, {modality: specs}, lambda *_: None)
    files = model_files(new, sorted(towers))
    configs = {tower: asdict(towers[tower]) for tower in files}
    content = json.dumps([configs, {tower: file.xxh3 for tower, file in files.items()}], sort_keys=True)
    architecture = {
        "hub": hub.name,
        "hub_digest": hub.digest,
        "hub_options": dict(hub.options) if hub.name.startswith("imagebind-") else {},
        "towers": configs,
        "settings": settings.as_json(),
    }
    digest = hashlib.sha256(content.encode()).hexdigest()
    return publish_bound(name, architecture, files, temperatures, source, digest)


def new_folder(name: str) -> Path:
    """Return an empty folder for the files of a new model, whose lock must be held."""
    new = work_folder(name) / NEW_FOLDER
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    return new


def model_files(new: Path, towers: Iterable[str]) -> dict[str, ModelFile]:
    """Return size and digest of the file of each tower."""
    paths = {tower: new / f"{tower}.safetensors" for tower in towers}
    return {tower: ModelFile(path.stat().st_size, hash_file(path)) for tower, path in paths.items()}


def publish_bound(
    name: str,
    architecture: Mapping[str, Any],
    files: Mapping[str, ModelFile],
    temperatures: Mapping[str, float],
    source: str,
    digest: str,
) -> ModelManifest:
    """Write the manifest of a model whose files are in its `new_folder`, and publish it."""
    manifest = ModelManifest(
        format=FORMAT,
        name=name,
        family="bound",
        architecture=architecture,
        dtype="fp32",
        source=source,
        source_sha256=digest,
        source_bytes=sum(file.size_bytes for file in files.values()),
        license="made here: the licences of the hub and of the pairs apply",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        temperatures=temperatures,
        files=files,
    )
    write_manifest(work_folder(name) / NEW_FOLDER, manifest)
    publish_model(name)
    return manifest


def _digest_of(data: PairData) -> str:
    """Return a digest of the pairs of a run: their files' contents, and which are kept for validation."""
    digest = hashlib.sha256()
    for key, group, pair in zip(data.media_keys, data.groups, data.pairs, strict=True):
        digest.update(repr((key, int(group), pair.label, pair.is_validation)).encode())
    digest.update(data.whole_vectors.tobytes())
    return digest.hexdigest()
