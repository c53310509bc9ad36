"""Models on disk: one folder a model, one safetensors file a tower, and model.json, which says what they are."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bindsearch.errors import EncoderError, UsageError
from bindsearch.files import atomic_write

MODELS_VARIABLE = "BINDSEARCH_MODELS"
MANIFEST_FILE = "model.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One tower's file: its size, and the xxh3-128 digest of its bytes."""

    size_bytes: int
    xxh3: str


@dataclass(frozen=True, slots=True)
class ModelManifest:
    """What model.json records.

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
    """Where models live: $BINDSEARCH_MODELS, else `models` in the user's data directory."""
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
        raise UsageError(f"{name!r} is no name of a model: `bindsearch model list` shows those there are")
    return models_folder().joinpath(*parts)


def is_installed(name: str) -> bool:
    """Whether the model is there."""
    return (model_folder(name) / MANIFEST_FILE).is_file()


def read_model(name: str) -> ModelManifest:
    """What is known of an installed model.

    Raises:
        EncoderError: it is not installed (the message says which command brings it), or model.json is damaged.
    """
    path = model_folder(name) / MANIFEST_FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise EncoderError(f"the model {name} is not here: bring it with `bindsearch model pull {name}`") from None
    except (OSError, ValueError) as error:
        raise EncoderError(
            f"{path} cannot be read ({error}): `bindsearch model pull {name}` brings it again"
        ) from error
    return _parse(data, path, name)


def write_manifest(folder: Path, manifest: ModelManifest) -> None:
    """Write model.json into `folder` atomically."""
    with atomic_write(folder / MANIFEST_FILE) as file:
        file.write(json.dumps(asdict(manifest), indent=2).encode() + b"\n")


def list_models() -> list[ModelManifest]:
    """All installed models, by name."""
    root = models_folder()
    found = []
    for path in sorted(root.glob(f"**/{MANIFEST_FILE}")):
        if any(part.startswith(".") for part in path.relative_to(root).parts):  # being written, or a leftover
            continue
        data = json.loads(path.read_text(encoding="utf-8"))
        found.append(_parse(data, path, str(data.get("name"))))
    return sorted(found, key=lambda model: model.name)


def remove_model(name: str) -> int:
    """Delete an installed model; the bytes freed.

    Raises:
        EncoderError: it is not installed.
    """
    folder = model_folder(name)
    if not (folder / MANIFEST_FILE).is_file():
        raise EncoderError(f"the model {name} is not here: `bindsearch model list` shows those that are")
    freed = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    (folder / MANIFEST_FILE).unlink()  # first, so that a kill leaves no half model that looks whole
    shutil.rmtree(folder)
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
            f"`bindsearch model pull {manifest.name}` brings it again"
        )
    return path


def _parse(data: Any, path: Path, name: str) -> ModelManifest:
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else None
        raise EncoderError(f"{path} has format {found}, this BindSearch reads {FORMAT}: pull {name} again")
    try:
        files = {tower: ModelFile(**facts) for tower, facts in data.pop("files").items()}
        return ModelManifest(**data, files=files)
    except (TypeError, KeyError, AttributeError) as error:
        raise EncoderError(f"{path} is damaged ({error}): pull {name} again") from error
