"""Reads of small files, such as JSON documents: whole, bounded, and of regular files only.

A pipe, a device or a file that never ends must not hold a process, whatever it is called.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from bindsearch.errors import StoreError

T = TypeVar("T")

NOT_REGULAR = "not a regular file"
MAX_BYTES = 64 << 20
"""Default limit of `read_small_file`; the largest documents of this program, manifests, take a few megabytes."""


def is_not_regular(error: OSError) -> bool:
    """Return whether a path was refused because a folder, pipe or device is there."""
    return isinstance(error, IsADirectoryError) or (error.strerror or "").startswith(NOT_REGULAR)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading, at once: a pipe, a device, and what the kernel makes up under /proc are refused.

    Raises:
        OSError: the file cannot be opened, or is not a regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, NOT_REGULAR, str(path))
        file = os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise
    try:
        if not status.st_size and file.read(1) != b"" and not os.fstat(descriptor).st_size:
            raise OSError(errno.EINVAL, f"{NOT_REGULAR}: it has 0 bytes and a content", str(path))
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def read_small_file(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the content of a regular file.

    Raises:
        OSError: the file cannot be read, is not a regular file, or is larger than `max_bytes`.
    """
    with open_regular(path) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"larger than {max_bytes} bytes", str(path))
    return content


def parse_json_object(content: bytes | str, *, finite: bool = True) -> dict[str, object]:
    """Return the JSON object in a document of UTF-8, with or without a byte order mark.

    Raises:
        ValueError: it is not UTF-8 or not JSON, is nested too deeply, is not an object, or with `finite` holds a number
            that is not finite, such as the NaN that many programs write.
    """
    text = content if isinstance(content, str) else content.decode("utf-8-sig")
    try:
        data = json.loads(
            text, parse_constant=_refuse_constant if finite else None, parse_float=_finite if finite else None
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(data, dict):
        raise ValueError(f"expected a JSON object, found {type(data).__name__}")
    return data


def read_json_object(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, object]:
    """Return the JSON object in a file.

    Raises:
        OSError: as for `read_small_file`.
        ValueError: as for `parse_json_object`.
    """
    return parse_json_object(read_small_file(path, max_bytes))


def read_json(
    path: Path, parse: Callable[[dict[str, Any]], T], remedy: str, damaged: type[StoreError] = StoreError
) -> T | None:
    """Return what `parse` makes of the JSON object in a file of a store; None if there is no such file.

    Args:
        path: The file.
        parse: Function that checks the object; its ValueError, or an error of a missing key or another type, is damage.
        remedy: What to do about a damaged file, the end of the message.
        damaged: Error for a damaged file.

    Raises:
        StoreError: the file is damaged (`damaged`), or cannot be read now.
    """
    try:
        return parse(read_json_object(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        stays = error.errno in (errno.EISDIR, errno.EFBIG, errno.EINVAL)
        kind, way_out = (damaged, remedy) if stays else (StoreError, "try again when it can")
        raise kind(f"{path} cannot be read ({error.strerror or error}): {way_out}") from error
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise damaged(f"{path} is damaged ({error}): {remedy}") from error


def sealed(data: Mapping[str, object], indent: int | None = None) -> bytes:
    """Return a JSON document with a last key `digest`, by which a changed bit is found when it is read."""
    return json.dumps({**data, "digest": _digest(data)}, indent=indent).encode()


def check_seal(data: dict[str, Any], *, required: bool) -> None:
    """Remove the key `digest` from an object of `parse_json_object`, and compare it with the rest.

    Raises:
        ValueError: it differs, or is `required` and missing.
    """
    digest = data.pop("digest", None)
    if digest != _digest(data) and (required or digest is not None):
        raise ValueError("it does not match its digest")


def _digest(data: Mapping[str, object]) -> str:
    import xxhash

    return str(xxhash.xxh3_128(json.dumps(data).encode()).hexdigest())


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large a number")
    return value
