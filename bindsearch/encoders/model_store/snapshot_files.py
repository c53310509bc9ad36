"""Files of a repository of the Hugging Face hub: which ones a model needs, their names, limits and digests."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import file_digest, sha1, sha256
from pathlib import Path, PurePosixPath
from typing import Any

from bindsearch.encoders.model_store.download import BLOCK_BYTES
from bindsearch.errors import EncoderError

MAX_LISTED, MAX_FILES = 20_000, 1_000
"""Most files of a repository, and most files that are taken of it."""

MAX_BYTES = 400 << 30
"""Greatest size of a model: larger ones fit into no machine that this program is made for."""

MAX_TEXT_BYTES = 512 << 20
"""Greatest size of a file that is not weights; the largest tokenizers have some 40 MB."""

MAX_PATH_LETTERS, MAX_DEPTH = 200, 6
"""Longest path, and most folders in it, of a file that is taken."""

MAX_CONFIG_BYTES = 4 << 20
"""Largest JSON file of a model that is read whole."""

WEIGHTS = ".safetensors"
PICKLED = re.compile(r"(diffusion_)?pytorch_model(-\d{5}-of-\d{5})?\.bin")
"""Names of weights of torch.save, as transformers, sentence-transformers and diffusers write them."""

_OF_PIPELINE = re.compile(r"(diffusion_pytorch_)?model(-\d{5}-of-\d{5})?\.safetensors")
"""Names of weights of a pipeline of diffusers; others are the same weights in another number format (*.fp16.*)."""

PICKLED_INDEXES = frozenset({"pytorch_model.bin.index.json", "diffusion_pytorch_model.bin.index.json"})
"""Names of the indexes of several files of them."""

_TEXTS = frozenset({".json", ".model", ".txt", ".jinja"})
_ABOUT = re.compile(r"(readme|licen[cs]e|notice)(\.[a-z]{2,3})?", re.IGNORECASE)
_OTHER_RUNTIMES = frozenset({"onnx", "openvino", "coreml", "original"})
"""Folders of repositories with the same model for other programs."""


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """File of a repository.

    Attributes:
        path: Path in the repository, with slashes.
        size_bytes: Size of the file.
        sha256: SHA-256 as stated by the hub, hex; "" if it states none.
        git_sha1: Git's object id of the content (SHA-1), hex; "" if it is not stated.
    """

    path: str
    size_bytes: int
    sha256: str = ""
    git_sha1: str = ""

    @property
    def is_weights(self) -> bool:
        """Return whether the file holds weights."""
        return self.path.endswith(WEIGHTS) or is_pickled(self.path)

    @property
    def is_about(self) -> bool:
        """Return whether the file is for people only: README, licence, notice."""
        return _ABOUT.fullmatch(PurePosixPath(self.path).name) is not None


def is_pickled(path: str) -> bool:
    """Return whether a file has weights of torch.save."""
    return PICKLED.fullmatch(PurePosixPath(path).name) is not None


def is_safe(path: str) -> bool:
    """Return whether a path stays in its folder and is the same file on every system."""
    parts = path.split("/")
    return (
        len(path) <= MAX_PATH_LETTERS
        and len(parts) <= MAX_DEPTH
        and path.isprintable()
        and not any(letter in path for letter in '\\:*?"<>|')
        and not any(part in ("", ".", "..") or part != part.strip(" ") or part.endswith(".") for part in parts)
    )


def choose_files(name: str, listed: Sequence[SnapshotFile]) -> tuple[list[SnapshotFile], str]:
    """Return the files that a model needs, sorted by path, and what is left out, in words; "" for nothing.

    Weights of torch.save are taken from folders without safetensors only, and of a pipeline of diffusers those of its
    components in one number format.

    Raises:
        EncoderError: there are no weights, a name could leave the folder, or the files are too many or too large.
    """
    if len(listed) > MAX_LISTED:
        raise EncoderError(f"{name} has {len(listed):,} files, more than {MAX_LISTED:,}: this is not a model")
    if any(file.path == "model_index.json" for file in listed):
        candidates = [file for file in listed if not file.is_weights or is_pipeline_weights(file.path)]
    else:
        candidates = list(listed)
    with_safetensors = {PurePosixPath(file.path).parent for file in candidates if file.path.endswith(WEIGHTS)}
    chosen = sorted((file for file in candidates if _is_needed(file, with_safetensors)), key=lambda file: file.path)
    _check_chosen(name, chosen)
    if not any(file.is_weights for file in chosen):
        raise EncoderError(f"{name} has no weights that can be read here: *.safetensors or pytorch_model.bin")
    taken = {file.path for file in chosen}
    return chosen, _left_out([file for file in listed if file.path not in taken])


def read_folder(name: str, folder: Path) -> list[SnapshotFile]:
    """Return all files of a user's folder with their sizes; hidden files and folders are not looked at.

    Raises:
        EncoderError: the folder has too many files.
        OSError: it cannot be read.
    """
    files = []
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        if any(part.startswith(".") for part in relative.parts) or not path.is_file():
            continue
        files.append(SnapshotFile(relative.as_posix(), path.stat().st_size))
        if len(files) > MAX_LISTED:
            raise EncoderError(f"--from {folder} has more than {MAX_LISTED:,} files: give the folder of {name} alone")
    return files


def digest_of(digests: Mapping[str, str]) -> str:
    """Return the digest of a model that is a folder: SHA-256 over the paths and SHA-256 of its files, hex.

    Files for people (README, licence) do not count, so that it is the same wherever the files come from.

    Args:
        digests: SHA-256 of each file that was published, by its path.
    """
    lines = (f"{digests[path]}  {path}\n" for path in sorted(digests) if not SnapshotFile(path, 0).is_about)
    return sha256("".join(lines).encode()).hexdigest()


def check_content(file: SnapshotFile, path: Path, digest: str, where: str) -> None:
    """Check a downloaded file against the size and digest that the hub states.

    Raises:
        EncoderError: the file is another one.
    """
    if path.stat().st_size != file.size_bytes:
        raise EncoderError(f"{where} has {path.stat().st_size:,} bytes, the hub states {file.size_bytes:,}: try again")
    if file.sha256:
        if file.sha256 != digest:
            raise EncoderError(f"{where} has the sha256 {digest}, the hub states {file.sha256}: try again")
    elif file.git_sha1 and file.git_sha1 != (found := _git_sha1(path)):
        raise EncoderError(f"{where} has the Git object id {found}, the hub states {file.git_sha1}: try again")


def copy_and_hash(source: Path, target: Path) -> str:
    """Copy a file; return the SHA-256 of what was copied, hex.

    Raises:
        OSError: a file cannot be read or written.
    """
    digest = sha256()
    with source.open("rb") as readable, target.open("wb") as writable:
        while block := readable.read(BLOCK_BYTES):
            digest.update(block)
            writable.write(block)
    return digest.hexdigest()


def licence_of(card: Any) -> tuple[str, str]:
    """Return the licence that the metadata of a model card state, and its URL; "" for what they do not state.

    The key `license` is an identifier of the hub, "other" with `license_name` and `license_link`
    (https://huggingface.co/docs/hub/repositories-licenses).
    """
    facts = card if isinstance(card, Mapping) else {}
    named, link = facts.get("license"), facts.get("license_link")
    if isinstance(named, Iterable) and not isinstance(named, str):
        named = ", ".join(str(part) for part in named)
    if named == "other" and isinstance(facts.get("license_name"), str):
        named = facts["license_name"]
    licence, url = (" ".join(str(text).split())[:200] if text else "" for text in (named, link))
    return licence, url if url.startswith("https://") else ""


def card_of(readme: Path) -> Any:
    """Return the metadata at the start of a README, between lines of three dashes; None if there are none."""
    import yaml  # type: ignore[import-untyped]

    try:
        with readme.open(encoding="utf-8", errors="replace") as file:
            start = file.read(1 << 20)
        found = re.match(r"\s*---\r?\n(.*?)\r?\n---", start, re.DOTALL)
        return yaml.safe_load(found[1]) if found else None
    except (OSError, yaml.YAMLError, RecursionError, ValueError):
        return None


def read_json(path: Path) -> dict[str, Any]:
    """Return the object of a JSON file of a model.

    Raises:
        EncoderError: the file is missing, too large or damaged.
    """
    try:
        if (size := path.stat().st_size) > MAX_CONFIG_BYTES:
            raise EncoderError(f"{path} has {size} bytes: a configuration has at most {MAX_CONFIG_BYTES}")
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EncoderError(f"{path} cannot be read ({error.strerror}): pull the model again") from error
    except (ValueError, RecursionError) as error:
        raise EncoderError(f"{path} is not JSON ({error}): pull the model again") from error
    if not isinstance(data, dict):
        raise EncoderError(f"{path} is not a JSON object: pull the model again")
    return data


def _is_needed(file: SnapshotFile, with_safetensors: set[PurePosixPath]) -> bool:
    """Return whether a model needs a file; code, pickles, pictures and files of other programs are not taken."""
    path = PurePosixPath(file.path)
    if not path.parts or path.parts[0] in _OTHER_RUNTIMES or path.name.startswith("."):
        return False
    if is_pickled(file.path) or path.name in PICKLED_INDEXES:
        return path.parent not in with_safetensors
    return path.suffix == WEIGHTS or path.suffix in _TEXTS or file.is_about


def is_pipeline_weights(path: str) -> bool:
    """Return whether a file has weights of a component of a pipeline, in the number format that it is loaded from."""
    of_component = PurePosixPath(path)
    return len(of_component.parts) == 2 and (is_pickled(path) or _OF_PIPELINE.fullmatch(of_component.name) is not None)


def _check_chosen(name: str, files: Sequence[SnapshotFile]) -> None:
    """Raise EncoderError for a name that could leave the folder or stand for two files, or too many or large files."""
    paths = [file.path for file in files]
    for path in paths:
        if not is_safe(path):
            raise EncoderError(f"{name} has a file {path[:MAX_PATH_LETTERS]!r}, whose name is not safe: not downloaded")
    counted = Counter(path.casefold() for path in paths)
    folders = {parent.as_posix() for path in counted for parent in PurePosixPath(path).parents}
    for path in paths:
        if counted[path.casefold()] > 1 or path.casefold() in folders:
            raise EncoderError(f"{name} has several files {path!r}, also by upper and lower case: not downloaded")
    if len(files) > MAX_FILES:
        raise EncoderError(f"{name} has {len(files):,} files of a model, more than {MAX_FILES:,}: not downloaded")
    for file in files:
        if file.size_bytes > MAX_TEXT_BYTES and not file.is_weights:
            raise EncoderError(f"{name} has a file {file.path} of {file.size_bytes:,} bytes, too large: not downloaded")
    if (total := sum(file.size_bytes for file in files)) > MAX_BYTES:
        raise EncoderError(
            f"{name} has {total / 1e9:,.0f} GB of files, more than {MAX_BYTES / 1e9:,.0f}: not downloaded"
        )


def _left_out(files: Sequence[SnapshotFile]) -> str:
    """Return how many files are left out, by the ends of their names."""
    if not files:
        return ""
    kinds = Counter(PurePosixPath(file.path).suffix or PurePosixPath(file.path).name for file in files)
    named = ", ".join(f"{count} {kind[:20]!r}" for kind, count in kinds.most_common(5))
    more = f" and {len(kinds) - 5} other kinds" if len(kinds) > 5 else ""
    return f"left out, as the model does not need them or they are code: {len(files)} files ({named}{more})"


def _git_sha1(path: Path) -> str:
    """Return Git's object id of a file: SHA-1 over its size and content."""
    digest = sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        return file_digest(file, lambda: digest).hexdigest()
