"""Index folders: published atomically, and used only if every file matches its digest.

FAISS loads damaged files without an error, so the manifest contains a digest of each file, and each reference to the
folder contains the digest of the manifest. Indexes are derived from the vector files and can be rebuilt.
"""

from __future__ import annotations

import dataclasses
import io
import json
import mmap
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.atomic import TEMPORARY_SUFFIX, sync_folder
from bindsearch.errors import IndexDamagedError
from bindsearch.hashing import hash_file
from bindsearch.indexes import types
from bindsearch.indexes.types import IndexForm, IndexManifest, IndexParameters, IndexQuality, IndexSettings
from bindsearch.small_files import parse_json_object, read_small_file

if TYPE_CHECKING:
    from bindsearch.indexes.ivf_pq import IvfPqIndex

FORMAT = 1
INDEXES = "indexes"
MANIFEST = "manifest.json"
CODES = "index.faiss"
GPU_CODES = "gpu.faiss"
VECTOR_IDS = "vector_ids.npy"
STATISTICS = "statistics.npz"


@dataclass(frozen=True, eq=False)
class OpenedIndex:
    """A checked index folder.

    Attributes:
        manifest: its manifest.
        index: None if rows are searched exactly.
        vector_ids: int64 (n,), mapped: the vector of each ordinal.
        statistics: the arrays it was published with.
    """

    manifest: IndexManifest
    index: IvfPqIndex | None
    vector_ids: NDArray[np.int64]
    statistics: Mapping[str, NDArray[Any]]


def publish_index(
    store: Path,
    manifest: IndexManifest,
    index: IvfPqIndex | None,
    vector_ids: NDArray[np.int64],
    statistics: Mapping[str, NDArray[Any]],
    gpu_codes: IvfPqIndex | None = None,
) -> tuple[str, str]:
    """Write an index folder; it is durable when this returns.

    A folder of the same generation, left over from a killed run and referenced nowhere, is replaced.

    Args:
        store: the store's folder.
        manifest: the manifest; its `files` are filled in here.
        index: None for an exact search.
        vector_ids: int64 (n,), by ordinal.
        statistics: arrays by name.
        gpu_codes: see `open_gpu_codes`; None: no file for GPUs.

    Returns:
        The name of the folder and the digest of its manifest.
    """
    folder = store / INDEXES / manifest.modality / f"{manifest.generation:08d}"
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        np.save(temporary / VECTOR_IDS, np.ascontiguousarray(vector_ids, np.int64), allow_pickle=False)
        np.savez(temporary / STATISTICS, allow_pickle=False, **statistics)
        if index is not None:
            index.write(temporary / CODES)
        if gpu_codes is not None:
            gpu_codes.write(temporary / GPU_CODES)
        paths = sorted(temporary.iterdir())
        files = {path.name: (path.stat().st_size, hash_file(path)) for path in paths}
        text = json.dumps({"format": FORMAT} | _manifest_record(dataclasses.replace(manifest, files=files)), indent=1)
        (temporary / MANIFEST).write_text(text)
        digest = hash_file(temporary / MANIFEST)
        for path in temporary.iterdir():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        sync_folder(temporary)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    for parent in (folder.parent, folder.parent.parent, store):
        sync_folder(parent)
    return folder.name, digest


def open_index(store: Path, modality: str, folder: str, manifest_digest: str) -> OpenedIndex:
    """Check every file of an index folder, except that for GPUs, and open it.

    The bytes that are hashed are the ones used: the same bytes in memory.

    Raises:
        IndexDamagedError: a file is missing, truncated, changed or of another format.
    """
    path = store / INDEXES / modality / folder
    manifest = _read_manifest(path / MANIFEST, manifest_digest)
    if manifest.parameters.form != IndexForm.EXACT and CODES not in manifest.files:
        raise _damaged(path / MANIFEST, f"it does not list {CODES}")
    names = [name for name in manifest.files if name != GPU_CODES]
    contents = {name: _read_checked(path / name, *manifest.files[name]) for name in names}
    try:
        vector_ids = _parse_array(contents[VECTOR_IDS])
        with np.load(io.BytesIO(contents[STATISTICS]), allow_pickle=False) as arrays:
            statistics = dict(arrays)
        index = _parse_codes(contents[CODES], manifest.parameters) if CODES in contents else None
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise _damaged(path, f"this version cannot read it ({str(error).splitlines()[0]})") from error
    if len(vector_ids) != manifest.n or (index is not None and index.n != manifest.n):
        raise _damaged(path, f"its files do not contain the {manifest.n} rows of its manifest")
    return OpenedIndex(manifest, index, vector_ids, statistics)


def open_gpu_codes(store: Path, folder: str, manifest: IndexManifest) -> IvfPqIndex:
    """Open the 8-bit codes for GPUs: the same rows in the same order, if the manifest lists them.

    Raises:
        IndexDamagedError: the file is missing, truncated or changed.
    """
    path = store / INDEXES / manifest.modality / folder / GPU_CODES
    if manifest.gpu_parameters is None or GPU_CODES not in manifest.files:
        raise _damaged(path, "the manifest does not list it")
    content = _read_checked(path, *manifest.files[GPU_CODES])
    try:
        codes = _parse_codes(content, manifest.gpu_parameters)
    except RuntimeError as error:
        raise _damaged(path, f"this version cannot read it ({str(error).splitlines()[0]})") from error
    if codes.n != manifest.n:
        raise _damaged(path, f"it does not contain the {manifest.n} rows of the manifest")
    return codes


def check_index(store: Path, modality: str, folder: str, manifest_digest: str) -> None:
    """Read every file of an index folder, that for GPUs too, and compare it with its digest.

    Raises:
        IndexDamagedError: a file is missing, truncated or changed.
    """
    path = store / INDEXES / modality / folder
    for name, (size, digest) in _read_manifest(path / MANIFEST, manifest_digest).files.items():
        _read_checked(path / name, size, digest)


def remove_indexes(store: Path, modality: str, keep: set[str]) -> None:
    """Delete all index folders of a modality except those in `keep`, also incomplete ones; only for the writer."""
    path = store / INDEXES / modality
    for folder in path.iterdir() if path.is_dir() else ():
        if folder.name not in keep:
            shutil.rmtree(folder, ignore_errors=True)


def _damaged(path: Path, problem: str) -> IndexDamagedError:
    """Return the error for a damaged file, with the command that rebuilds the index."""
    return IndexDamagedError(f"index file {path}: {problem}; run `bindsearch optimize` to rebuild the index")


def _read_manifest(path: Path, digest: str) -> IndexManifest:
    import xxhash

    try:
        content = read_small_file(path)
    except OSError as error:
        raise _damaged(path, f"it cannot be read ({error.strerror})") from error
    if xxhash.xxh3_128(content).hexdigest() != digest:
        raise _damaged(path, "its content does not match its digest")
    try:
        data: Any = parse_json_object(content)
        if data.pop("format") != FORMAT:
            raise _damaged(path, f"it is not of format {FORMAT}, which this version of BindSearch reads")
        return _parse_manifest(data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, "it is not a valid manifest") from error


MANIFEST_KEYS = {"settings": "wishes", "measured_sources": "queried", "in_distribution_cosine": "inside_cosine"}
"""Keys in the file for fields of the manifest whose keys differ from their names."""


def _manifest_record(manifest: IndexManifest) -> dict[str, Any]:
    record = {MANIFEST_KEYS.get(name, name): value for name, value in dataclasses.asdict(manifest).items()}
    points = {name: [*map(types.point_record, getattr(manifest, name))] for name in ("points", "gpu_points")}
    return record | points


def _parse_manifest(data: dict[str, Any]) -> IndexManifest:
    names = {key: name for name, key in MANIFEST_KEYS.items()}
    data = {names.get(key, key): value for key, value in data.items()}
    settings, gpu = data["settings"], data.get("gpu_parameters")
    form = None if settings["form"] is None else IndexForm(settings["form"])
    parsed = {
        "parameters": _parse_parameters(data["parameters"]),
        "settings": IndexSettings(**settings | {"form": form}),
        "measured_sources": tuple(data["measured_sources"]),
        "quality": None if data["quality"] is None else IndexQuality(**data["quality"]),
        "points": tuple(map(types.parse_point, data["points"])),
        "gpu_parameters": None if gpu is None else _parse_parameters(gpu),
        "gpu_points": tuple(map(types.parse_point, data.get("gpu_points", ()))),
        "files": {str(name): (int(size), str(digest)) for name, (size, digest) in data["files"].items()},
    }
    return IndexManifest(**data | parsed)


def _parse_parameters(data: dict[str, Any]) -> IndexParameters:
    return IndexParameters(**data | {"form": IndexForm(data["form"])})


def _read_checked(path: Path, size: int, digest: str) -> mmap.mmap:
    """Return a file's content, mapped, after checking its size and digest."""
    import xxhash

    try:
        with path.open("rb") as file:
            size_found = os.fstat(file.fileno()).st_size
            if size_found != size:
                raise _damaged(path, f"it has {size_found} bytes instead of {size}")
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise _damaged(path, f"it cannot be read ({error.strerror})") from error
    if xxhash.xxh3_128(content).hexdigest() != digest:
        raise _damaged(path, "its content does not match its digest")
    return content


def _parse_array(content: mmap.mmap) -> NDArray[np.int64]:
    """Return a one-dimensional int64 array in the format of np.save, as a view of the map."""
    header = io.BytesIO(content[:128])
    np.lib.format.read_magic(header)
    shape, _, dtype = np.lib.format.read_array_header_1_0(header)
    if dtype != np.int64 or len(shape) != 1:
        raise ValueError(f"{dtype} {shape} instead of int64 (n,)")
    return np.frombuffer(content, np.int64, shape[0], header.tell())


def _parse_codes(content: mmap.mmap, parameters: IndexParameters) -> IvfPqIndex:
    """Return the index in a mapped file; FAISS copies the codes, so the map's pages need not stay in memory."""
    from bindsearch.indexes.ivf_pq import read_ivf_pq

    index = read_ivf_pq(np.frombuffer(content, np.uint8), parameters)
    if hasattr(mmap, "MADV_DONTNEED"):
        content.madvise(mmap.MADV_DONTNEED)
    return index
