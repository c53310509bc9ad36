"""Pull of a model: download its checkpoint or read a file, convert it to one file per tower, and publish it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from bindsearch.atomic import atomic_write
from bindsearch.encoders.model_store.checkpoints import BadCheckpointError
from bindsearch.encoders.model_store.download import (
    DownloadedFile,
    NotFoundError,
    check_disk_space,
    check_url,
    download,
    hash_sha256,
    note_of,
    part_of,
)
from bindsearch.encoders.model_store.extra_files import (
    EXTRA_FOLDER,
    copy_extra_files,
    download_extra_files,
    find_checkpoint,
    find_extra_files,
)
from bindsearch.encoders.model_store.installed import (
    FORMAT,
    MODELS_VARIABLE,
    NEW_FOLDER,
    ModelFile,
    ModelManifest,
    clean_up_partial_pulls,
    complete_model,
    is_installed,
    model_folder,
    model_lock,
    publish_model,
    work_folder,
    write_manifest,
)
from bindsearch.encoders.model_store.snapshot_files import digest_of
from bindsearch.encoders.model_store.source import ModelSource
from bindsearch.errors import EncoderError, UsageError
from bindsearch.hashing import hash_file

OFFLINE_VARIABLE = "BINDSEARCH_OFFLINE"
_BYTES_PER_WEIGHT = {"fp32": 4, "bf16": 2, "fp16": 2}


@dataclass(frozen=True, slots=True)
class PullProgress:
    """Progress of one step of a pull.

    Attributes:
        step: "download", "read" (computing the digest of a file) or "convert".
        done: Amount done, in bytes; of "convert" in the unit of the family's converter.
        total: Total amount; None if the server does not send it.
    """

    step: str
    done: int
    total: int | None


@dataclass(frozen=True, slots=True)
class PullResult:
    """Result of a pull.

    Attributes:
        manifest: Manifest of the model.
        is_new: False if the model was already installed.
        notices: Notices for the user.
    """

    manifest: ModelManifest
    is_new: bool
    notices: tuple[str, ...] = ()


OnPullProgress = Callable[[PullProgress], None]


def forbidden_by(*, offline: bool) -> str:
    """Return what forbids downloads: the option --offline or $BINDSEARCH_OFFLINE; "" if they are allowed."""
    if offline:
        return "--offline"
    return OFFLINE_VARIABLE if os.environ.get(OFFLINE_VARIABLE, "") not in ("", "0") else ""


def has_consent(source: ModelSource) -> bool:
    """Return whether the licence needs no consent or was accepted before."""
    return not source.needs_consent or read_record(source.name).license == source.license


def record_consent(source: ModelSource, consent: Callable[[ModelSource], bool]) -> None:
    """Ask for consent to a licence that needs it and was not accepted before, and record it.

    Raises:
        UsageError: the licence was not accepted.
        OSError: the record cannot be written.
    """
    if not has_consent(source) and not consent(source):
        raise UsageError(
            f"{source.name} has the licence {source.license}, which was not accepted: "
            "add --accept-license, or run the same command in a terminal"
        )
    write_record(source.name, PullRecord(source.license, read_record(source.name).sha256))


def pull_model(
    source: ModelSource,
    *,
    from_file: Path | None = None,
    url: str | None = None,
    dtype: str | None = None,
    offline: bool = False,
    consent: Callable[[ModelSource], bool] = lambda _source: False,
    force: bool = False,
    on_progress: OnPullProgress = lambda _progress: None,
    delay_s: float = 1.0,
) -> PullResult:
    """Download and convert a model; do nothing if it is installed from the same source and in the same format.

    Args:
        source: Source of the model.
        from_file: Local checkpoint, which is not changed, or a folder with it; extra files are beside it. None: all
            are downloaded.
        url: URL of the checkpoint on a mirror, with extra files beside it; None: those of the source.
        dtype: Number format "fp32", "bf16" or "fp16"; None: the fastest one on this machine.
        offline: Do not use the network.
        consent: Called if the licence was not accepted before; returns whether it is accepted.
        force: Convert the model even if it is installed.
        on_progress: Called with the progress of each step.
        delay_s: Delay before a failed download is retried the first time.

    Returns:
        Manifest of the installed model, and notices.

    Raises:
        UsageError: an option is invalid, or the licence was not accepted.
        EncoderError: the checkpoint cannot be downloaded, read or converted, the disk is full, or another process is
            pulling the model.
    """
    if from_file is not None and url is not None:
        raise UsageError("--from and --url exclude each other: choose one")
    if url is not None:
        check_url(url)
    check_dtype(dtype)
    from_file = None if from_file is None else find_checkpoint(from_file)
    request = _PullRequest(source, from_file, url, dtype, force, on_progress, delay_s)
    work = work_folder(source.name)
    # Without a work folder there is nothing to clean up, and the folder of the models may be read-only.
    if not work.exists() and (installed := request.find_match()):
        return installed
    try:
        with model_lock(source.name):
            clean_up_partial_pulls(source.name)
            if installed := request.find_match():
                shutil.rmtree(work, ignore_errors=True)
                return installed
            if from_file is None and (why := forbidden_by(offline=offline)):
                more = (extra.url for extra in source.extra_files if extra.required)
                where = ", ".join([" or ".join(source.urls) or "its checkpoint", *more])
                what = "FOLDER" if source.extra_files else "FILE"
                raise EncoderError(
                    f"cannot download {source.name} in offline mode ({why}): download {where} on another machine and "
                    f"run `bindsearch model pull {source.name} --from {what}`"
                )
            record_consent(source, consent)
            try:
                return _pull(request)
            finally:
                with suppress(OSError):  # not empty: it holds an unfinished download
                    work.rmdir()
    except OSError as error:
        raise cannot_pull(source.name, error) from error


def cannot_pull(name: str, error: OSError) -> EncoderError:
    """Return the error for a pull that cannot write or read its files."""
    return EncoderError(
        f"cannot pull {name} into {model_folder(name)}: {error.strerror or error}; "
        f"set {MODELS_VARIABLE} to use another folder for models"
    )


def kept_download(name: str, error: EncoderError) -> EncoderError:
    """Return an error after a download, with the way to try again or to delete it."""
    deletes = f"`bindsearch model remove {name}` deletes {'it and the model' if is_installed(name) else 'it'}"
    return EncoderError(f"{error}; the download is kept for another attempt, {deletes}")


def new_manifest(folder: Path, **values: Any) -> ModelManifest:
    """Write the manifest of a new model with these values into its folder, and return it."""
    manifest = ModelManifest(format=FORMAT, created=datetime.now(UTC).isoformat(timespec="seconds"), **values)
    write_manifest(folder, manifest)
    return manifest


@dataclass(frozen=True, slots=True)
class _PullRequest:
    """Options of a pull, as for `pull_model`."""

    source: ModelSource
    from_file: Path | None
    url: str | None
    dtype: str | None
    force: bool
    on_progress: OnPullProgress
    delay_s: float

    def find_match(self, sha256: str = "") -> PullResult | None:
        """Return the installed model if it is complete and matches the request by its source or by `sha256`."""
        manifest = None if self.force else complete_model(self.source.name)
        if manifest is None or self.dtype not in (None, manifest.dtype):
            return None
        if sha256 and manifest.source_sha256 != sha256:
            return None
        if not sha256 and (self.from_file is not None or self.url not in (None, manifest.source)):
            return None
        kept = f"{manifest.name} is already installed, in {manifest.dtype}, from {manifest.source}"
        return PullResult(manifest, is_new=False, notices=(f"{kept}; --force pulls it again",))

    def report(self, step: str) -> Callable[[int, int | None], None]:
        """Return a function that reports the progress of a step."""
        return lambda done, total: self.on_progress(PullProgress(step, done, total))

    def delete_download(self, checkpoint: DownloadedFile) -> None:
        """Delete the downloaded checkpoint and extra files; local files of the user are not deleted."""
        if self.from_file is None:
            shutil.rmtree(work_folder(self.source.name) / EXTRA_FOLDER, ignore_errors=True)
            for path in (checkpoint.path, part_of(checkpoint.path), note_of(checkpoint.path)):
                path.unlink(missing_ok=True)


def check_dtype(dtype: str | None) -> None:
    """Raise UsageError if a number format is not known; None is the fastest one on this machine."""
    if dtype is not None and dtype not in _BYTES_PER_WEIGHT:
        raise UsageError(f"dtype {dtype!r} is not known: choose fp16, bf16 or fp32")


def _pull(request: _PullRequest) -> PullResult:
    """Get the checkpoint, convert and publish it; the lock of the model is held."""
    from bindsearch.encoders.torch_runtime.device import default_dtype

    source, work, dtype = request.source, work_folder(request.source.name), request.dtype or default_dtype()
    work.mkdir(parents=True, exist_ok=True)
    if request.from_file is None:
        extra_files = download_extra_files(source, work, request.url, request.delay_s)
        checkpoint, origin = _download(request, dtype)
    else:
        file = request.from_file
        extra_files = find_extra_files(source, file.parent)
        checkpoint = DownloadedFile(file, file.stat().st_size, hash_sha256(file, request.report("read")))
        origin = str(file.absolute())
    if extra_files:  # the digest of a folder with all of them
        digests = {name: hash_sha256(path) for name, path in extra_files.items()}
        checkpoint = replace(checkpoint, sha256=digest_of({"checkpoint": checkpoint.sha256, **digests}))
    if installed := request.find_match(checkpoint.sha256):
        request.delete_download(checkpoint)
        return installed
    old = None if request.force else complete_model(source.name)
    if old is not None and old.source_sha256 != checkpoint.sha256:
        raise UsageError(
            f"{source.name} is installed from another checkpoint "
            f"(sha256 {old.source_sha256[:12]}, not {checkpoint.sha256[:12]}): "
            "stores indexed with it could no longer be searched; --force replaces it"
        )
    check_disk_space(work, _converted_bytes(checkpoint.size_bytes, dtype), f"the converted {source.name}")
    notices = notices_of_change(source.name, checkpoint.sha256)
    try:
        manifest = _convert(request, checkpoint, extra_files, origin, dtype)
        publish_model(source.name)
    except EncoderError as error:
        if request.from_file is not None:
            raise
        if isinstance(error, BadCheckpointError):
            request.delete_download(checkpoint)
            raise BadCheckpointError(f"{error}; the download from {origin} was deleted") from error
        raise kept_download(source.name, error) from error
    finally:
        shutil.rmtree(work / NEW_FOLDER, ignore_errors=True)
    write_record(source.name, PullRecord(source.license, checkpoint.sha256))
    request.delete_download(checkpoint)
    return PullResult(manifest, is_new=True, notices=notices)


def _download(request: _PullRequest, dtype: str) -> tuple[DownloadedFile, str]:
    """Download the checkpoint to the work folder; return it with its URL."""
    source = request.source
    urls = source.urls if request.url is None else (request.url,)
    reserve = _converted_bytes(source.expected_bytes or 0, dtype)
    for n, url in enumerate(urls, start=1):
        suffix = PurePosixPath(urlsplit(url).path).suffix  # kept
        name = f"checkpoint{suffix if suffix[1:].isalnum() and suffix.isascii() else ''}"
        path, report = work_folder(source.name) / name, request.report("download")
        try:
            downloaded = download(url, path, on_progress=report, reserve_bytes=reserve, delay_s=request.delay_s)
        except NotFoundError:
            if n == len(urls):
                raise
            continue
        if source.sha256 and downloaded.sha256 != source.sha256:
            request.delete_download(downloaded)
            raise EncoderError(
                f"{url} is not the published {source.name}: its sha256 is {downloaded.sha256}, "
                f"expected {source.sha256}; try again, or use a mirror with --url"
            )
        return downloaded, url
    raise EncoderError(f"the model {source.name} has no URL: use --from FILE")


def _converted_bytes(checkpoint_bytes: int, dtype: str) -> int:
    """Return the approximate size of the converted towers, of a checkpoint in fp32; a full disk is detected later."""
    return checkpoint_bytes * _BYTES_PER_WEIGHT[dtype] // 4


def _convert(
    request: _PullRequest, checkpoint: DownloadedFile, extra_files: Mapping[str, Path], origin: str, dtype: str
) -> ModelManifest:
    """Build the model in `new` of the work folder; its converter finds the extra files there."""
    source = request.source
    folder = work_folder(source.name) / NEW_FOLDER
    folder.mkdir()
    copied = copy_extra_files(extra_files, folder)
    convert = import_module(f"bindsearch.encoders.{source.family}.checkpoint").convert
    temperatures = convert(checkpoint.path, folder, source.architecture, dtype, request.report("convert"))
    towers = sorted(folder.glob("*.safetensors"))
    return new_manifest(
        folder,
        name=source.name,
        family=source.family,
        architecture=dict(source.architecture),
        dtype=dtype,
        source=origin,
        source_sha256=checkpoint.sha256,
        source_bytes=checkpoint.size_bytes,
        license=source.license,
        temperatures=dict(temperatures),
        files={path.stem: ModelFile(path.stat().st_size, hash_file(path)) for path in towers} | copied,
    )


def notices_of_change(name: str, sha256: str) -> tuple[str, ...]:
    """Return a notice if the model was pulled from another checkpoint before."""
    previous = read_record(name).sha256
    notice = (
        f"{name} was pulled before from another checkpoint (sha256 {previous}, now {sha256}): "
        "stores indexed with the previous one must be indexed again"
    )
    return () if previous in ("", sha256) else (notice,)


@dataclass(frozen=True, slots=True)
class PullRecord:
    """Record of a pulled model, kept after its removal: the accepted licence and the last checkpoint, "" for none."""

    license: str = ""
    sha256: str = ""


def read_record(name: str) -> PullRecord:
    """Return the record of a model; an empty one if it is missing or damaged."""
    try:
        return PullRecord(**json.loads(_record_path(name).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return PullRecord()


def write_record(name: str, record: PullRecord) -> None:
    """Write the record of a model; the folder of the models must exist.

    Raises:
        OSError: the record cannot be written.
    """
    with atomic_write(_record_path(name)) as file:
        file.write(json.dumps(asdict(record)).encode())


def _record_path(name: str) -> Path:
    work = work_folder(name)
    return work.with_name(f"{work.name}.json")
