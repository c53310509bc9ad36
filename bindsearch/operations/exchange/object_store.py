"""Files in object stores (s3://, gs:// and what else `pyarrow.fs` opens): written in place, read from a copy on disk.

Credentials are those of the usual environment variables and configuration files, or are part of the URI; they appear in
no message and no record. Every request has a timeout and few retries.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from bindsearch.arguments import to_absolute, to_path_text
from bindsearch.errors import BindSearchError, StoreError, UsageError, first_line
from bindsearch.reports import OnStage
from bindsearch.types import PathLike

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

CONNECT_SECONDS = 10.0
"""Time for opening a connection; one that is open and sends nothing ends after REQUEST_SECONDS."""

REQUEST_SECONDS = 30.0
TRIES = 3
GCS_RETRY_SECONDS = 15
"""Time for all tries of one request to Google Cloud Storage."""

DOWNLOADS = 4
"""Files that are downloaded at once."""

READ_BYTES = 8 << 20

DISK_RESERVE_BYTES = 100 << 20
"""Space that a download leaves free."""

_URI = re.compile("([a-zA-Z][a-zA-Z0-9+.-]+)://")
_S3_OPTIONS = frozenset({"region", "scheme", "endpoint_override"})
_SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID")

_NO_BUCKET = "NO_SUCH_BUCKET|NoSuchBucket|bucket does not exist"
_REFUSED = (
    "ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|INVALID_SIGNATURE|INVALID_CLIENT_TOKEN_ID|EXPIRED|"
    "UNRECOGNIZED_CLIENT|MISSING_AUTHENTICATION_TOKEN|HTTP status 40[13]|OAuth2|PERMISSION_DENIED|UNAUTHENTICATED"
)
_NO_ANSWER = "NETWORK_CONNECTION|REQUEST_TIMEOUT|UNAVAILABLE|DEADLINE_EXCEEDED|Could not resolve|timed out"
_REASONS = {
    _NO_BUCKET: "there is no such bucket: create it, or correct its name",
    _REFUSED: "access is refused: give credentials that are valid for it, for S3 in AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, for Google in GOOGLE_APPLICATION_CREDENTIALS",
    _NO_ANSWER: "the server does not answer: check the network, and the endpoint (AWS_ENDPOINT_URL for S3)",
}
"""Patterns of texts in errors of the libraries, and the reason that messages give in their place."""


@dataclass(frozen=True, eq=False)
class Remote:
    """A folder or file in an object store.

    Attributes:
        filesystem: The store.
        path: Path in it, with the bucket.
        name: The URI without credentials and options, for messages and records.
        secrets: Texts that must not appear in messages.
    """

    filesystem: FileSystem
    path: str
    name: str
    secrets: tuple[str, ...]


def to_place(place: PathLike) -> Path | Remote:
    """Return the absolute path of a place on this machine, or the place in an object store that a URI names.

    Raises:
        UsageError: as for `to_absolute`, or the URI cannot be used.
        StoreError: the server does not answer.
    """
    text = to_path_text(place)
    match = _URI.match(text)
    if match is None:
        return to_absolute(place)
    if match[1].lower() == "file":
        return to_absolute(unquote(urlsplit(text).path))
    return _open(text)


def name_of(place: Path | Remote) -> str:
    """Return a place as messages and records give it, without credentials."""
    return str(place) if isinstance(place, Path) else place.name


def below(folder: Path | str, name: str) -> Path | str:
    """Return what is called `name` in a folder; in that of a URI, its options and credentials stay."""
    if isinstance(folder, Path):
        return folder / name
    parts = urlsplit(folder)
    return parts._replace(path=f"{parts.path.rstrip('/')}/{name}").geturl()


def _open(uri: str) -> Remote:
    """Return the place of a URI; raise UsageError if it cannot be used, StoreError if the server does not answer."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        parts = SplitResult("", "", "", "", "")
    if not parts.hostname or parts.fragment or (parts.scheme == "s3" and ":" in parts.netloc.rpartition("@")[2]):
        form = "SCHEME://BUCKET/PATH, with special characters of credentials and names in the form %2F"
        raise UsageError(f"a {uri.partition(':')[0]} URI cannot be understood: give {form}")
    user, password = (unquote(text or "") for text in (parts.username, parts.password))
    is_azure = parts.scheme.startswith("abfs")
    owner = f"{user}@" if is_azure and user else ""  # the container
    name = f"{parts.scheme}://{owner}{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
    variables = (os.environ.get(variable, "") for variable in _SECRET_VARIABLES)
    texts = {uri, parts.password or "", password, *variables, *(() if is_azure else (parts.username or "", user))}
    secrets = tuple(sorted((text for text in texts if len(text) > 3), key=len, reverse=True))
    with remote_faults(name, secrets):
        if parts.scheme == "s3":
            path = unquote(parts.netloc.rpartition("@")[2] + parts.path).rstrip("/")
            return Remote(_s3(parts, user, password), path, name, secrets)
        from pyarrow.fs import FileSystem

        limited = uri
        if parts.scheme in ("gs", "gcs") and "retry_limit_seconds" not in parts.query:
            limited += f"{'&' if parts.query else '?'}retry_limit_seconds={GCS_RETRY_SECONDS}"
        filesystem, path = FileSystem.from_uri(limited)
        return Remote(filesystem, path.rstrip("/"), name, secrets)


def _s3(parts: SplitResult, user: str, password: str) -> FileSystem:
    """Return the file system of an S3 URI, with limits of time. Raises ValueError: the URI has an unknown option."""
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem, resolve_s3_region

    options = dict(parse_qsl(parts.query))
    if unknown := sorted(options.keys() - _S3_OPTIONS):
        raise ValueError(f"unknown option {unknown[0]!r}: choose from {', '.join(sorted(_S3_OPTIONS))}")
    variables = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    endpoint = options.get("endpoint_override") or next(filter(None, map(os.environ.get, variables)), "")
    scheme, _, host = endpoint.rpartition("://")
    region = options.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if not region:
        region = "us-east-1" if endpoint else resolve_s3_region(parts.netloc.rpartition("@")[2])
    return S3FileSystem(
        access_key=user or None,
        secret_key=password or None,
        region=region,
        scheme=options.get("scheme") or scheme or "https",
        endpoint_override=host.rstrip("/") or None,
        connect_timeout=CONNECT_SECONDS,
        request_timeout=REQUEST_SECONDS,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=TRIES),
    )


@contextmanager
def remote_faults(name: str, secrets: tuple[str, ...] = ()) -> Iterator[None]:
    """Convert errors of object stores in the block into errors of one line, without credentials.

    Raises:
        UsageError: the URI cannot be used.
        StoreError: the store refuses a request or does not answer.
    """
    try:
        yield
    except (OSError, ValueError, NotImplementedError, ImportError) as error:
        text = first_line(error)
        for pattern, reason in _REASONS.items():
            if re.search(pattern, text):
                raise StoreError(f"{name}: {reason}") from None
        for secret in secrets:
            text = text.replace(secret, "...")
        if isinstance(error, OSError):
            raise StoreError(f"{name}: {text}") from None
        raise UsageError(f"{name} cannot be used: {text}") from None


def check_empty(remote: Remote) -> None:
    """Check that nothing is in a folder to write to, and that its bucket exists.

    Raises:
        UsageError: the folder is not empty, or there is no such bucket.
    """
    from pyarrow.fs import FileSelector, FileType

    with remote_faults(remote.name, remote.secrets):
        bucket = remote.path.partition("/")[0]
        if remote.filesystem.get_file_info(bucket).type is FileType.NotFound:
            raise UsageError(f"{remote.name}: there is no bucket {bucket}: create it, or correct its name")
        found = remote.filesystem.get_file_info(FileSelector(remote.path, allow_not_found=True))
        if found or remote.filesystem.get_file_info(remote.path).type is FileType.File:
            raise UsageError(f"{remote.name} is not an empty folder: choose another folder to export into")


@contextmanager
def write_remote(remote: Remote, rel_path: str) -> Iterator[BinaryIO]:
    """Open a file below a folder for binary writing; it appears when the block ends, and not after an exception."""
    path = f"{remote.path}/{rel_path}"
    with remote_faults(remote.name, remote.secrets):
        stream: Any = remote.filesystem.open_output_stream(path, compression=None)
        try:
            yield stream
        except BaseException:
            with suppress(OSError):  # streams cannot be abandoned: closing one publishes what was written
                stream.close()
                remote.filesystem.delete_file(path)
            raise
        stream.close()


Wanted = Callable[[str], bool]
"""Returns whether a file is needed, by its path below the folder."""


@contextmanager
def local_copy(place: Path | Remote, wanted: Wanted, on_stage: OnStage) -> Iterator[Path]:
    """Yield a path to read a place from: itself, or that of a temporary copy of one in an object store.

    Messages of errors in the block name the place in the object store, not the copy. The copy is in the folder for
    temporary files (TMPDIR), and is deleted when the block ends.

    Args:
        place: A file or folder.
        wanted: Which files of a folder are copied.
        on_stage: Called with the progress of the download.

    Raises:
        UsageError: there is no such file or folder.
        StoreError: the store does not answer, or the disk has too little space.
    """
    if isinstance(place, Path):
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="bindsearch-") as temporary:
        folder = Path(temporary).resolve()
        try:
            with remote_faults(place.name, place.secrets):
                copy = _download(place, folder, wanted, on_stage)
            yield copy
        except BindSearchError as error:
            is_file = (folder / PurePosixPath(place.path).name).is_file()
            source = place.name.rpartition("/")[0] if is_file else place.name
            texts = (text.replace(str(folder), source) if isinstance(text, str) else text for text in error.args)
            error.args = tuple(texts)
            raise


def _download(remote: Remote, folder: Path, wanted: Wanted, on_stage: OnStage) -> Path:
    """Copy a file, with the Parquet files beside it if it is a .npy file, or the wanted files of a folder."""
    from pyarrow.fs import FileType

    is_file = remote.filesystem.get_file_info(remote.path).type is FileType.File
    if is_file:
        parent, _, name = remote.path.rpartition("/")
        beside = name.endswith(".npy")
        sizes = _sizes(remote, parent, lambda path: path == name or (beside and path.endswith(".parquet")), deep=False)
    else:
        parent, name = remote.path, ""
        sizes = _sizes(remote, parent, wanted, deep=True)
    if not sizes:
        raise UsageError(f"{remote.name} does not exist, or contains no files to read")
    total, free = sum(sizes.values()), shutil.disk_usage(folder).free
    if total + DISK_RESERVE_BYTES > free:
        fault = f"has {total / 1e6:,.0f} MB to copy, and {folder.parent} has {free / 1e6:,.0f} MB free"
        raise StoreError(f"{remote.name} {fault}: set TMPDIR to a folder with more space")

    def copy(path: str) -> int:
        _copy_file(remote.filesystem, f"{parent}/{path}", folder / path, sizes[path])
        return sizes[path]

    threads = ThreadPoolExecutor(DOWNLOADS, "download")
    try:
        for done in accumulate(threads.map(copy, sizes)):
            on_stage(f"downloading {remote.name} ({done / 1e6:,.1f} of {total / 1e6:,.1f} MB)")
    finally:
        threads.shutdown(cancel_futures=True)
    return folder / name if is_file else folder


def _sizes(remote: Remote, parent: str, wanted: Wanted, *, deep: bool) -> Mapping[str, int]:
    """Return the sizes of the wanted files below a folder, by their paths in it; raise UsageError for bad paths."""
    from pyarrow.fs import FileSelector, FileType

    entries = remote.filesystem.get_file_info(FileSelector(parent, allow_not_found=True, recursive=deep))
    sizes = {}
    for entry in sorted(entries, key=lambda entry: entry.path):
        path = entry.path[len(parent) :].lstrip("/")
        if entry.type is not FileType.File or not wanted(path):
            continue
        if {"..", ""} & {*path.split("/")} or "\0" in path or "\\" in path:
            raise UsageError(f"{remote.name} contains {path!r}, which cannot be the path of a file: rename it")
        sizes[path] = int(entry.size)
    return sizes


def _copy_file(filesystem: FileSystem, path: str, target: Path, size: int) -> None:
    """Copy a file of a known size; raise OSError if it has another one now."""
    target.parent.mkdir(parents=True, exist_ok=True)
    left = size
    with filesystem.open_input_stream(path, compression=None) as stream, target.open("wb") as file:
        while data := stream.read(min(READ_BYTES, left + 1)):
            left -= len(data)
            if left < 0:
                break
            file.write(data)
    if left:
        raise OSError(f"{PurePosixPath(path).name} changed while it was downloaded: try again")
