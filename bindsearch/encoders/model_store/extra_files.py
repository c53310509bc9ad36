"""Files that a model needs besides its checkpoint: found beside a local one, or downloaded."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urljoin

from bindsearch.encoders.model_store.download import NotFoundError, download
from bindsearch.encoders.model_store.installed import ModelFile
from bindsearch.encoders.model_store.source import ModelSource
from bindsearch.errors import EncoderError, UsageError
from bindsearch.hashing import hash_file

EXTRA_FOLDER = "extra"
"""Folder in a work folder for downloaded files."""

MAX_BYTES = 256_000_000
"""Largest extra file that is taken."""

_CHECKPOINT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
_PREFERRED = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors", "pytorch_model.bin")


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint that a path names: itself, or the one in the folder.

    Raises:
        UsageError: the path does not exist, or is a folder without a checkpoint or with several ones.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        what = "is not a regular file" if path.exists() else "does not exist"
        raise UsageError(f"--from {path} {what}: give a checkpoint, or a folder with one")
    found = sorted(file for file in path.iterdir() if file.suffix in _CHECKPOINT_SUFFIXES and file.is_file())
    if not found:
        raise UsageError(f"--from {path} holds no checkpoint: expected a file *{', *'.join(_CHECKPOINT_SUFFIXES)}")
    chosen = [path / name for name in _PREFERRED if path / name in found] or found
    if len(found) > 1 and chosen is found:
        names = ", ".join(file.name for file in found[:5])
        raise UsageError(f"--from {path} holds {len(found)} checkpoints ({names}): give one of these files")
    return chosen[0]


def find_extra_files(source: ModelSource, folder: Path) -> dict[str, Path]:
    """Return the extra files of a model in the folder of a local checkpoint, by their names in the model's folder.

    Raises:
        EncoderError: a required file is missing.
    """
    found = {extra.name: folder / extra.local_name for extra in source.extra_files}
    for extra in source.extra_files:
        if extra.required and not found[extra.name].is_file():
            raise EncoderError(
                f"{source.name} needs the file {extra.local_name} beside its checkpoint, in {folder}: "
                f"download {extra.url}, and give the folder with both as --from"
            )
    return {name: path for name, path in found.items() if path.is_file()}


def download_extra_files(source: ModelSource, work: Path, mirror: str | None, delay_s: float) -> dict[str, Path]:
    """Download the extra files of a model; interrupted downloads are resumed, complete ones kept.

    Args:
        source: Source of the model.
        work: Work folder of the pull.
        mirror: URL of the checkpoint on a mirror, which has the files beside it; None: the URLs of the source.
        delay_s: Delay before a failed download is retried the first time.

    Returns:
        Paths of the files, by their names in the model's folder.

    Raises:
        EncoderError: a required file does not exist, or the server cannot be reached.
    """
    found = {}
    for extra in source.extra_files:
        url = extra.url if mirror is None else urljoin(mirror, extra.local_name)
        try:
            found[extra.name] = download(url, work / EXTRA_FOLDER / extra.name, delay_s=delay_s).path
        except NotFoundError:
            if extra.required:
                raise
    return found


def copy_extra_files(extra_files: Mapping[str, Path], folder: Path) -> dict[str, ModelFile]:
    """Copy extra files into the folder of a model, and return their sizes and digests by name.

    Raises:
        EncoderError: a file is larger than MAX_BYTES.
    """
    copied = {}
    for name, path in extra_files.items():
        if (size := path.stat().st_size) > MAX_BYTES:
            raise EncoderError(f"{path} has {size / 1e6:,.0f} MB, more than the {MAX_BYTES / 1e6:,.0f} MB of {name}")
        shutil.copyfile(path, folder / name)
        copied[name] = ModelFile((folder / name).stat().st_size, hash_file(folder / name))
    return copied
