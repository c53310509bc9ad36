"""NumPy files, read without pickle and without trust in the sizes of headers."""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.media.options import check_limit

_NUMBERS = "biuf"
_MAX_HEADER_BYTES = 10_000
_DESCR = re.compile(rb"'descr': *'([<>|=]?)([a-zA-Z])(\d{0,4})'")
_ORDER = re.compile(rb"'fortran_order': *(True|False)")
_SHAPE = re.compile(rb"'shape': *\(((?: *\d{1,18} *,)* *\d{0,18} *)\)")


def read_npy(path: Path, *, max_bytes: int) -> NDArray[Any]:
    """Read the array in a .npy file: numbers only, with a size consistent with the file's.

    Raises:
        MediaError: not a .npy file, objects (pickled), not numbers, truncated, or above `max_bytes`.
    """
    with path.open("rb") as file:
        if not file.read(1):
            raise MediaError("the file is empty")
        file.seek(0)
        return _read_array(file, path.stat().st_size, max_bytes)


def npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """Read shape, dtype and Fortran order of the .npy data at the file's position.

    The header is matched, not evaluated as NumPy does: it is a Python literal, and evaluating a hostile one warns,
    fails in many ways or takes long (format: numpy.lib.format, versions 1.0 to 3.0).

    Raises:
        MediaError: not a .npy header, or one of objects, texts or records.
    """
    head = file.read(8)
    length = int.from_bytes(file.read(2 if head[6:7] == b"\x01" else 4), "little")
    header = file.read(length) if length <= _MAX_HEADER_BYTES else b""
    is_whole = head[:6] == b"\x93NUMPY" and head[6] in (1, 2, 3) and len(header) == length
    descr, order, sides = (pattern.search(header) for pattern in (_DESCR, _ORDER, _SHAPE))
    if not is_whole or order is None or sides is None:
        raise MediaError("not a .npy file: its header is damaged")
    if descr is None or descr[2] == b"O":
        raise MediaError("the array contains pickled objects or records: only numbers are read")
    if descr[2].decode() not in _NUMBERS:
        raise MediaError(f"the array does not contain real numbers (dtype {descr[0].decode()[-6:]})")
    try:
        dtype = np.dtype((descr[1] + descr[2] + descr[3]).decode())
    except TypeError as error:
        raise MediaError("not a .npy file: its header is damaged") from error
    return tuple(int(side) for side in sides[1].split(b",") if side.strip()), dtype, order[1] == b"True"


def _read_array(file: IO[bytes], size: int, max_bytes: int) -> NDArray[Any]:
    """Read one .npy of `size` bytes in total from `file`."""
    shape, dtype, fortran = npy_header(file)
    needed = math.prod(shape) * dtype.itemsize
    check_limit(needed, max_bytes, f"the array of shape {shape} has {needed} bytes", "array")
    if needed > size:
        raise MediaError(f"truncated: the array of shape {shape} needs {needed} bytes, the file has {size}")
    raw = file.read(needed)
    if len(raw) < needed:
        raise MediaError(f"truncated: the array of shape {shape} needs {needed} bytes, only {len(raw)} exist")
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")


def npz_names(path: Path) -> list[str]:
    """Return the names of the arrays in a .npz file, without reading them.

    Raises:
        MediaError: not a .npz file.
    """
    with _open_zip(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def read_npz(path: Path, *, max_bytes: int) -> dict[str, NDArray[Any]]:
    """Read the arrays of numbers in a .npz file by name; texts and objects are skipped.

    Raises:
        MediaError: not a .npz file, damaged, truncated, or above `max_bytes` in total.
    """
    arrays: dict[str, NDArray[Any]] = {}
    with _open_zip(path) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        total = sum(info.file_size for info in members)
        check_limit(total, max_bytes, f"the arrays have {total} bytes", "array")
        for info in members:
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise MediaError("damaged .npz file (a compression method that NumPy does not use)")
            try:
                with archive.open(info) as file:
                    if _holds_numbers(file):
                        file.seek(0)
                        arrays[info.filename.removesuffix(".npy")] = _read_array(file, info.file_size, max_bytes)
            except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
                raise MediaError(f"damaged .npz file ({error})") from error
    return arrays


def _holds_numbers(file: IO[bytes]) -> bool:
    try:
        npy_header(file)
    except MediaError as error:
        if "damaged" in str(error):
            raise
        return False
    return True


def _open_zip(path: Path) -> zipfile.ZipFile:
    if not path.stat().st_size:
        raise MediaError("the file is empty")
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as error:
        raise MediaError(f"not a .npz file ({error})") from error
