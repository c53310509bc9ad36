"""Models on disk: one folder a model, one safetensors file a tower, and model.json, which says what they are.

A model is made in a hidden work folder and appears by a rename: a kill at any moment leaves a whole one or none.
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

from bindsearch.atomic import TEMPORARY_SUFFIX, atomic_write, sync_folder
from bindsearch.encoders.model_store.source import can_be_pulled
from bindsearch.errors import EncoderError, UsageError
from bindsearch.hashing import hash_file

if TYPE_CHECKING:
    import torch
    from torch import nn

MODELS_VARIABLE = "BINDSEARCH_MODELS"
MANIFEST_FILE = "model.json"
FORMAT = 1

WORK_FOLDER = ".pulls"
"""In the models' folder: a work folder a model (downloads and what is being made of them), and its lock."""
NEW_FOLDER = "new"
OLD_FOLDER = "old"

_DEEPEST_PLACE = 3  # openclip/MODEL/PRETRAINED


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One tower's file: its size, and the xxh3-128 digest of its bytes."""

    size_bytes: int
    xxh3: str


@dataclass(frozen=True, slots=True)
class ModelManifest:
    """Content of model.json.

    `name`: what the encoder is asked for by. `family`: which code runs it, "imagebind" or "openclip". `architecture`:
    what that code needs to build the towers. `dtype`: "fp32", "bf16" or "fp16". `source`: where the checkpoint came
    from; `source_sha256`, `source_bytes`: of the checkpoint as published, which decide what a vector means.
    `temperatures`: logit scale by modality. `files`: by tower.
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


def models_folder() -> Path:
    """Return where models live: $BINDSEARCH_MODELS, else `models` in the user's data directory."""
    if named := os.environ.get(MODELS_VARIABLE):
        return Path(named).expanduser()
    from platformdirs import user_data_path

    return user_data_path("bindsearch", appauthor=False) / "models"


def model_folder(name: str) -> Path:
    """The folder of the model `name`: "openclip:ViT-B-32/laion400m_e32" lies in openclip/ViT-B-32/laion400m_e32.

    Raises:
        UsageError: the name would lead out of the models' folder.
    """
    parts = name.replace(":", "/").split("/")
    if not all(part and part[0] != "." and part.isprintable() and "\\" not in part for part in parts):
        raise UsageError(f"{name!r} is not a model name: `bindsearch model list` shows those there are")
    return models_folder().joinpath(*parts)


def is_installed(name: str) -> bool:
    """Return whether the model is there."""
    return (model_folder(name) / MANIFEST_FILE).is_file()


def read_model(name: str) -> ModelManifest:
    """Return what is known of an installed model.

    Raises:
        EncoderError: it is not installed (the message says which command brings it), or model.json is damaged.
    """
    path = model_folder(name) / MANIFEST_FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        resume_hint = f"run `bindsearch model pull {name}`"
        if not can_be_pulled(name):
            resume_hint = "see `bindsearch model list`"
        raise EncoderError(f"the model {name} is not installed: {resume_hint}") from None
    except (OSError, ValueError) as error:
        raise EncoderError(f"{path} cannot be read ({error}): run `bindsearch model pull {name}` again") from error
    return _parse(data, path, name)


def write_manifest(folder: Path, manifest: ModelManifest) -> None:
    """Write model.json into `folder` atomically."""
    with atomic_write(folder / MANIFEST_FILE) as file:
        file.write(json.dumps(asdict(manifest), indent=2).encode() + b"\n")


def list_models() -> list[ModelManifest]:
    """All installed models, by name; those whose model.json is damaged are left out (see `damaged_models`)."""
    return sorted((found for found in _scan() if isinstance(found, ModelManifest)), key=lambda model: model.name)


def damaged_models() -> list[str]:
    """For each folder whose model.json cannot be read, what is wrong with it and the way out."""
    return [str(found) for found in _scan() if isinstance(found, EncoderError)]


def unfinished_pulls() -> dict[str, int]:
    """By name, the bytes that pulls without an end keep for the next try."""
    found = {}
    for work in sorted((models_folder() / WORK_FOLDER).glob("*/")):
        if size := _bytes_under(work):
            found[_name_of(Path(unquote(work.name)))] = size
    return found


def verify_model(name: str, *, digests: bool = True) -> list[str]:
    """Return what is wrong with the files of an installed model, one line each; nothing: it is whole.

    `digests`: read every byte, not only the sizes.

    Raises:
        EncoderError: it is not installed, or model.json is damaged.
    """
    manifest = read_model(name)
    faults = []
    for tower, facts in manifest.files.items():
        path = model_folder(name) / f"{tower}.safetensors"
        try:
            size = path.stat().st_size
            if size != facts.size_bytes:
                faults.append(f"{path} has {size} bytes instead of {facts.size_bytes}")
            elif digests and (found := hash_file(path)) != facts.xxh3:
                faults.append(f"{path} has the digest {found} instead of {facts.xxh3}")
        except OSError as error:
            faults.append(f"{path} cannot be read: {error.strerror}")
    return faults


def remove_model(name: str) -> int:
    """Delete an installed model, and what unfinished pulls of it left; the bytes freed.

    Raises:
        EncoderError: there is nothing of it, it is being pulled, or it cannot be deleted.
    """
    folder, work = model_folder(name), work_folder(name)
    if not (folder / MANIFEST_FILE).is_file() and not work.is_dir():
        raise EncoderError(f"the model {name} is not installed: see `bindsearch model list`")
    try:
        with model_lock(name):
            _sweep(work)  # brings back what a kill hid, so that its bytes are counted
            freed = _bytes_under(work)
            _delete(work)
            if (folder / MANIFEST_FILE).is_file():
                freed += sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
                (folder / MANIFEST_FILE).unlink()  # first, so that a kill leaves no half model that looks whole
                _delete(folder)
    except OSError as error:
        raise EncoderError(f"cannot delete {folder}: {error.strerror or error}") from error
    return freed


def tower_file(manifest: ModelManifest, tower: str) -> Path:
    """The file of one tower, whole by its size.

    Raises:
        EncoderError: the model has no such tower, or its file is missing or cut short.
    """
    if tower not in manifest.files:
        raise EncoderError(f"the model {manifest.name} has no {tower} tower: it has {', '.join(manifest.files)}")
    path = model_folder(manifest.name) / f"{tower}.safetensors"
    size = path.stat().st_size if path.is_file() else 0
    if size != manifest.files[tower].size_bytes:
        raise EncoderError(
            f"{path} has {size} bytes instead of {manifest.files[tower].size_bytes}: "
            f"run `bindsearch model pull {manifest.name}` again"
        )
    return path


def load_installed_tower(
    manifest: ModelManifest, name: str, build: Callable[[], nn.Module], device: torch.device
) -> nn.Module:
    """One tower of an installed model; see `torch_runtime.towers.load_tower`.

    Raises:
        EncoderError: as `load_tower`, or the model has been replaced since `manifest` was read: its towers would not
            share a space with those that are loaded.
    """
    from bindsearch.encoders.torch_runtime.towers import load_tower

    tower = load_tower(build, tower_file(manifest, name), device)
    if read_model(manifest.name) != manifest:  # asked after the file was mapped, which no replacement changes
        raise EncoderError(f"the model {manifest.name} was replaced meanwhile: run the same command again")
    return tower


def work_folder(name: str) -> Path:
    """Return where a pull of `name` keeps its download and makes the new model.

    Raises:
        UsageError: the name would lead out of the models' folder.
    """
    place = model_folder(name).relative_to(models_folder()).as_posix()
    return models_folder() / WORK_FOLDER / quote(place, safe="")


@contextmanager
def model_lock(name: str) -> Iterator[None]:
    """Keep other processes from pulling or removing the model; the system lets go of it when the process dies.

    Raises:
        EncoderError: another process is at it.
    """
    from filelock import FileLock, Timeout

    work = work_folder(name)
    work.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(work.with_name(f"{work.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise EncoderError(f"the model {name} is being pulled by another process: wait for it to finish") from None
    try:
        yield
    finally:
        lock.release()


def publish_model(name: str) -> None:
    """Put what was made in `new` of the work folder, model.json included, in the model's place. Hold `model_lock`.

    A kill between the two renames leaves no model; `clean_up_partial_pulls` then brings the old one back.
    """
    work, folder = work_folder(name), model_folder(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        folder.rename(work / OLD_FOLDER)
    (work / NEW_FOLDER).rename(folder)
    sync_folder(folder.parent)
    _delete(work / OLD_FOLDER)


def clean_up_partial_pulls(name: str) -> None:
    """Tidy up after killed pulls, of `name` (hold its lock) and of any other that is not being pulled."""
    _sweep(work_folder(name))
    for work in (models_folder() / WORK_FOLDER).glob("*/"):
        other = unquote(work.name)
        if work != work_folder(name):
            try:
                with model_lock(other):
                    _sweep(work)
            except (EncoderError, UsageError, OSError):  # at work, or nothing of ours
                continue


def _sweep(work: Path) -> None:
    folder = models_folder() / unquote(work.name)
    if (work / OLD_FOLDER / MANIFEST_FILE).is_file() and not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        (work / OLD_FOLDER).rename(folder)
    cut_writes = (*work.glob(f".*{TEMPORARY_SUFFIX}"), *work.parent.glob(f".{work.name}.*{TEMPORARY_SUFFIX}"))
    for leftover in (work / NEW_FOLDER, work / OLD_FOLDER, *cut_writes):
        _delete(leftover)


def _delete(path: Path) -> None:
    if path.is_symlink() or path.is_file():  # a model's folder may lie elsewhere
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def _bytes_under(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _scan() -> Iterator[ModelManifest | EncoderError]:
    root = models_folder()
    for depth in range(1, _DEEPEST_PLACE + 1):  # no `**`, which does not enter links
        for path in sorted(root.glob("*/" * depth + MANIFEST_FILE)):
            place = path.parent.relative_to(root)
            if any(part.startswith(".") for part in place.parts):  # being written, or a leftover
                continue
            try:
                yield read_model(_name_of(place))
            except EncoderError as error:
                yield error
            except UsageError:  # a folder that is named as no model can be
                continue


def _name_of(place: Path) -> str:
    """ "openclip:ViT-B-32/laion400m_e32" for openclip/ViT-B-32/laion400m_e32."""
    return place.as_posix().replace("/", ":", 1)


def _parse(data: Any, path: Path, name: str) -> ModelManifest:
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else None
        raise EncoderError(
            f"{path} has format {found}, this BindSearch reads {FORMAT}: run `bindsearch model pull {name}` again"
        )
    try:
        files = {tower: ModelFile(**facts) for tower, facts in data.pop("files").items()}
        if not all(isinstance(facts.size_bytes, int) for facts in files.values()):
            raise TypeError("a size is not a number")
        if data["name"] != name:
            raise TypeError(f"it is that of {data['name']!r}")
        return ModelManifest(**data, files=files)
    except (TypeError, KeyError, AttributeError) as error:
        raise EncoderError(f"{path} is damaged ({error}): run `bindsearch model pull {name}` again") from error
