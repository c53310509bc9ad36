"""Models on disk: one folder per model with model.json, a safetensors file per tower, and other published files.

A model that is a repository of the hub (st:, hf:, owlv2:) has the files of the repository instead, in `files`.

A model is built in a hidden work folder and published by a rename: if the process is killed, the model is either
complete or missing.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from bindsearch.atomic import TEMPORARY_SUFFIX, atomic_write, make_folder, sync_folder
from bindsearch.encoders.model_store.snapshot_files import is_safe
from bindsearch.encoders.model_store.source import can_be_pulled, snapshot_family
from bindsearch.errors import EncoderError, UsageError
from bindsearch.hashing import hash_file

if TYPE_CHECKING:
    import torch
    from torch import nn

MODELS_VARIABLE = "BINDSEARCH_MODELS"
MANIFEST_FILE = "model.json"
FORMAT = 1

WORK_FOLDER = ".pulls"
"""Folder in the folder of the models, with a work folder per model (downloads and conversions) and its lock."""

BOUND_PREFIX = "bound:"
"""Prefix of models that were made with `bindsearch bind`, and cannot be downloaded."""

SNAPSHOT_FOLDER = "files"
"""Folder in the folder of a model for the files of its repository."""

NEW_FOLDER = "new"
"""Folder in a work folder for the model that is being built."""

OLD_FOLDER = "old"
"""Folder in a work folder for the model that is being replaced."""

_MAX_DEPTH = 3  # openclip/MODEL/PRETRAINED


@dataclass(frozen=True, slots=True)
class ModelFile:
    """File of one tower, other published file, or file of a repository: its size and xxh3-128 digest, hex."""

    size_bytes: int
    xxh3: str


@dataclass(frozen=True, slots=True)
class ModelManifest:
    """Contents of model.json.

    Attributes:
        format: Version of the format.
        name: Name that the encoder is loaded by.
        family: Code that runs the model, such as "imagebind" or "openclip".
        architecture: Settings that the towers are built with.
        dtype: Number format of the weights, "fp32", "bf16" or "fp16"; of a repository, whose files are kept as they
            are, the one to load them in.
        source: URL or path of the checkpoint.
        source_sha256: SHA-256 of the published checkpoint, which determines the vectors; with extra files,
            and of a repository, `snapshot_files.digest_of` of all files.
        source_bytes: Size of the published checkpoint.
        license: Short name of the licence.
        created: Time of the conversion, ISO 8601 in UTC.
        temperatures: Logit scale by modality.
        files: File of each tower, by its name, and extra files, by their names with a suffix; of a repository each
            file, by its path.
        revision: Commit of the repository, 40 hex digits; "" if there is none, or it is unknown.
    """

    format: int
    name: str
    family: str
    architecture: Mapping[str, Any]
    dtype: str
    source: str
    source_sha256: str
    source_bytes: int
    license: str
    created: str
    temperatures: Mapping[str, float]
    files: Mapping[str, ModelFile]
    revision: str = ""


def models_folder() -> Path:
    """Return the folder of the models: $BINDSEARCH_MODELS, else `models` in the user's data directory."""
    if configured := os.environ.get(MODELS_VARIABLE):
        return Path(configured).expanduser()
    from platformdirs import user_data_path

    return user_data_path("bindsearch", appauthor=False) / "models"


def model_folder(name: str) -> Path:
    """Return the folder of a model: openclip/ViT-B-32/laion400m_e32 for "openclip:ViT-B-32/laion400m_e32".

    Raises:
        UsageError: the name is not valid; the folder would be outside of the folder of the models.
    """
    parts = name.replace(":", "/").split("/")
    if not all(part and part[0] != "." and part.isprintable() and "\\" not in part for part in parts):
        raise UsageError(f"{name!r} is not a valid model name: `bindsearch model list` lists the installed models")
    return models_folder().joinpath(*parts)


def is_installed(name: str) -> bool:
    """Return whether a model is installed."""
    return (model_folder(name) / MANIFEST_FILE).is_file()


def read_model(name: str) -> ModelManifest:
    """Return the manifest of an installed model.

    Raises:
        EncoderError: the model is not installed (the message has the command to download it), or model.json is damaged.
    """
    path = model_folder(name) / MANIFEST_FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        hint = f"download it with `bindsearch model pull {name}`"
        if not can_be_pulled(name):
            hint = "`bindsearch model list` lists the installed models"
        raise EncoderError(f"the model {name} is not installed: {hint}") from None
    except (OSError, ValueError) as error:
        raise EncoderError(f"{path} cannot be read ({error}): {how_to_repair(name)}") from error
    return _parse(data, path, name)


def write_manifest(folder: Path, manifest: ModelManifest) -> None:
    """Write model.json into `folder` atomically."""
    with atomic_write(folder / MANIFEST_FILE) as file:
        file.write(json.dumps(asdict(manifest), indent=2).encode() + b"\n")


def how_to_repair(name: str) -> str:
    """Return how a damaged model is replaced: one that is not downloaded can only be made again."""
    if name.startswith(BOUND_PREFIX):
        return f"bind it again (`bindsearch bind --out {name.removeprefix(BOUND_PREFIX)} --replace ...`)"
    return f"`bindsearch model pull {name}` downloads it again"


def damaged_manifest(manifest: ModelManifest, fault: object) -> EncoderError:
    """Return the error for a manifest that lacks settings or has impossible ones."""
    return EncoderError(f"{MANIFEST_FILE} of {manifest.name} is damaged ({fault}): {how_to_repair(manifest.name)}")


def list_models() -> list[ModelManifest]:
    """Return all installed models, sorted by name; damaged ones are left out (see `damaged_models`)."""
    return sorted((entry for entry in _scan() if isinstance(entry, ModelManifest)), key=lambda model: model.name)


def damaged_models() -> list[str]:
    """Return a message for each folder whose model.json cannot be read: the fault and how to repair it."""
    return [str(entry) for entry in _scan() if isinstance(entry, EncoderError)]


def unfinished_pulls() -> dict[str, int]:
    """Return the number of bytes that unfinished pulls have kept, by the name of the model."""
    sizes = {}
    for work in sorted((models_folder() / WORK_FOLDER).glob("*/")):
        if size := _bytes_under(work):
            sizes[_name_of(Path(unquote(work.name)))] = size
    return sizes


def verify_model(name: str, *, digests: bool = True) -> list[str]:
    """Return a line for each fault of the files of an installed model; without `digests`, their sizes are checked.

    Raises:
        EncoderError: the model is not installed, or model.json is damaged.
    """
    manifest = read_model(name)
    faults = []
    for key, file in manifest.files.items():
        path = _path_of(name, key)
        try:
            size = path.stat().st_size
            if size != file.size_bytes:
                faults.append(f"{path} has {size} bytes instead of {file.size_bytes}")
            elif digests and (digest := hash_file(path)) != file.xxh3:
                faults.append(f"{path} has the digest {digest} instead of {file.xxh3}")
        except OSError as error:
            faults.append(f"{path} cannot be read: {error.strerror}")
    return faults


def complete_model(name: str) -> ModelManifest | None:
    """Return the manifest of an installed model; None if there is none, or pulling has to repair it."""
    try:
        return None if verify_model(name, digests=False) else read_model(name)
    except EncoderError:  # not installed, or model.json is damaged
        return None


def remove_model(name: str) -> int:
    """Delete an installed model and the files of its unfinished pulls.

    Returns:
        Number of bytes freed.

    Raises:
        EncoderError: neither exists, the model is being pulled, or it cannot be deleted.
    """
    folder, work = model_folder(name), work_folder(name)
    if not (folder / MANIFEST_FILE).is_file() and not work.is_dir():
        raise EncoderError(f"the model {name} is not installed: `bindsearch model list` lists the installed models")
    try:
        with model_lock(name):
            _clean_up(work)  # restores a model that a killed pull has moved, so that its bytes are counted
            freed = _bytes_under(work)
            _delete(work)
            if (folder / MANIFEST_FILE).is_file():
                freed += _bytes_under(folder)
                # The manifest goes first, so that an interrupted removal leaves no model that seems complete.
                (folder / MANIFEST_FILE).unlink()
                _delete(folder)
    except OSError as error:
        raise EncoderError(f"cannot delete {folder}: {error.strerror or error}") from error
    return freed


def towers_of(manifest: ModelManifest) -> list[str]:
    """Return the names of the towers of a model; none of a repository, whose files are kept as they are."""
    if snapshot_family(manifest.name) is not None:
        return []
    return [key for key in manifest.files if "." not in key]


def tower_file(manifest: ModelManifest, tower: str) -> Path:
    """Return the file of one tower; its size is checked.

    Raises:
        EncoderError: the model has no such tower, or its file is missing or truncated.
    """
    if tower not in manifest.files:
        raise EncoderError(f"the model {manifest.name} has no {tower} tower: it has {', '.join(towers_of(manifest))}")
    return model_file(manifest, tower)


def model_file(manifest: ModelManifest, key: str) -> Path:
    """Return a file of a model by its key in `ModelManifest.files`; its size is checked.

    Raises:
        EncoderError: the model has no such file, or it is missing or truncated.
    """
    path = _path_of(manifest.name, key)
    if key not in manifest.files:
        raise EncoderError(f"the model {manifest.name} has no {path.name}: {how_to_repair(manifest.name)}")
    size = path.stat().st_size if path.is_file() else 0
    if size != manifest.files[key].size_bytes:
        raise EncoderError(
            f"{path} has {size} bytes instead of {manifest.files[key].size_bytes}: {how_to_repair(manifest.name)}"
        )
    return path


def snapshot_folder(manifest: ModelManifest) -> Path:
    """Return the folder with the files of a repository; their sizes are checked.

    Raises:
        EncoderError: a file is missing or truncated.
    """
    for key in manifest.files:
        model_file(manifest, key)
    return model_folder(manifest.name) / SNAPSHOT_FOLDER


def load_installed_tower(
    manifest: ModelManifest, name: str, build: Callable[[], nn.Module], device: torch.device
) -> nn.Module:
    """Load one tower of an installed model; see `torch_runtime.towers.load_tower`.

    Raises:
        EncoderError: as `load_tower`, or the model was replaced after `manifest` was read: its towers might have
            another embedding space than those already loaded.
    """
    from bindsearch.encoders.torch_runtime.towers import load_tower

    tower = load_tower(build, tower_file(manifest, name), device)
    check_not_replaced(manifest)  # after the file was mapped; a later replacement does not affect the mapping
    return tower


def check_not_replaced(manifest: ModelManifest) -> None:
    """Raise EncoderError if a model was replaced after its manifest was read: its space may be another one."""
    if read_model(manifest.name) != manifest:
        raise EncoderError(f"the model {manifest.name} was replaced meanwhile: run the same command again")


def work_folder(name: str) -> Path:
    """Return the folder of a pull, for its download and the new model.

    Raises:
        UsageError: the name of the model is not valid.
    """
    relative = model_folder(name).relative_to(models_folder()).as_posix()
    return models_folder() / WORK_FOLDER / quote(relative, safe="")


@contextmanager
def model_lock(name: str) -> Iterator[None]:
    """Lock a model against pulls and removals by other processes; the system releases it if the process dies.

    Raises:
        EncoderError: another process holds the lock.
    """
    from filelock import FileLock, Timeout

    work = work_folder(name)
    make_folder(work.parent, Path(work.anchor))
    lock = FileLock(work.with_name(f"{work.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        doing = "bound" if name.startswith(BOUND_PREFIX) else "pulled"
        raise EncoderError(f"the model {name} is being {doing} by another process: wait for it to finish") from None
    try:
        yield
    finally:
        lock.release()


def publish_model(name: str) -> None:
    """Move the complete model from `new` in the work folder to the folder of the model; `model_lock` must be held.

    If the process is killed between the two renames, there is no model; `clean_up_partial_pulls` restores the old one.
    """
    work, folder = work_folder(name), model_folder(name)
    make_folder(folder.parent, Path(folder.anchor))
    if folder.exists():
        folder.rename(work / OLD_FOLDER)
    (work / NEW_FOLDER).rename(folder)
    sync_folder(folder.parent)
    _delete(work / OLD_FOLDER)


def clean_up_partial_pulls(name: str) -> None:
    """Clean up after killed pulls of `name`, whose lock must be held, and of all models that are not being pulled."""
    _clean_up(work_folder(name))
    for work in (models_folder() / WORK_FOLDER).glob("*/"):
        other = unquote(work.name)
        if work != work_folder(name):
            try:
                with model_lock(other):
                    _clean_up(work)
            except (EncoderError, UsageError, OSError):  # being pulled, or not a work folder
                continue


def _clean_up(work: Path) -> None:
    """Restore a model that a killed pull has moved, and delete temporary files of a work folder."""
    folder = models_folder() / unquote(work.name)
    if (work / OLD_FOLDER / MANIFEST_FILE).is_file() and not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        (work / OLD_FOLDER).rename(folder)
    cut_writes = (*work.glob(f".*{TEMPORARY_SUFFIX}"), *work.parent.glob(f".{work.name}.*{TEMPORARY_SUFFIX}"))
    for leftover in (work / NEW_FOLDER, work / OLD_FOLDER, *cut_writes):
        _delete(leftover)


def _path_of(name: str, key: str) -> Path:
    """Return the path of the file that a manifest has under a key."""
    if snapshot_family(name) is None:
        return model_folder(name) / (key if "." in key else f"{key}.safetensors")
    return model_folder(name) / SNAPSHOT_FOLDER / key


def _delete(path: Path) -> None:
    """Delete a file, link or folder if it exists."""
    if path.is_symlink() or path.is_file():  # the folder of a model may be a link
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def _bytes_under(folder: Path) -> int:
    """Return the size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _scan() -> Iterator[ModelManifest | EncoderError]:
    """Yield the manifest of each model, or the error of reading it."""
    root = models_folder()
    for depth in range(1, _MAX_DEPTH + 1):  # `**` does not follow links
        for path in sorted(root.glob("*/" * depth + MANIFEST_FILE)):
            relative = path.parent.relative_to(root)
            if any(part.startswith(".") for part in relative.parts):  # being written, or a leftover
                continue
            try:
                yield read_model(_name_of(relative))
            except EncoderError as error:
                yield error
            except UsageError:  # not a valid model name
                continue


def _name_of(relative: Path) -> str:
    """Return the name of a model, "openclip:ViT-B-32/laion400m_e32" for openclip/ViT-B-32/laion400m_e32."""
    return relative.as_posix().replace("/", ":", 1)


def _parse(data: Any, path: Path, name: str) -> ModelManifest:
    """Return the manifest from the contents of model.json; raise EncoderError if they are not valid."""
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found_format = data.get("format") if isinstance(data, dict) else None
        raise EncoderError(f"{path} has format {found_format}, expected {FORMAT}: {how_to_repair(name)}")
    try:
        files = {tower: ModelFile(**file) for tower, file in data.pop("files").items()}
        if not all(isinstance(file.size_bytes, int) for file in files.values()):
            raise TypeError("a size is not a number")
        if not all(map(is_safe, files)):
            raise TypeError("a name of a file is not safe")
        if data["name"] != name:
            raise TypeError(f"it belongs to the model {data['name']!r}")
        return ModelManifest(**data, files=files)
    except (TypeError, KeyError, AttributeError) as error:
        raise EncoderError(f"{path} is damaged ({error}): {how_to_repair(name)}") from error
