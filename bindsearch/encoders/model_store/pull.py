"""Bring a model: download its checkpoint or take a file, convert it to one file a tower, put it in its place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from bindsearch.encoders.model_store.checkpoints import BadCheckpointError
from bindsearch.encoders.model_store.download import (
    DownloadedFile,
    NotFoundError,
    check_space,
    check_url,
    download,
    hash_sha256,
    note_of,
    part_of,
)
from bindsearch.encoders.model_store.installed import (
    FORMAT,
    MODELS_VARIABLE,
    NEW_FOLDER,
    ModelFile,
    ModelManifest,
    clean_up_partial_pulls,
    is_installed,
    model_folder,
    model_lock,
    publish_model,
    read_model,
    verify_model,
    work_folder,
    write_manifest,
)
from bindsearch.encoders.model_store.pull_record import PullRecord, read_record, write_record
from bindsearch.encoders.model_store.source import ModelSource
from bindsearch.errors import EncoderError, UsageError
from bindsearch.hashing import hash_file

OFFLINE_VARIABLE = "BINDSEARCH_OFFLINE"
_BYTES_PER_WEIGHT = {"fp32": 4, "bf16": 2, "fp16": 2}


@dataclass(frozen=True, slots=True)
class PullProgress:
    """Progress of one step: "download" and "read" (the digest of a file) count bytes, "convert" what its family counts.

    `total`: None where a server does not tell.
    """

    step: str
    done: int
    total: int | None


@dataclass(frozen=True, slots=True)
class PullResult:
    """Result of a pull. `is_new`: False where the model was here already. `notices`: what the user should know."""

    manifest: ModelManifest
    is_new: bool
    notices: tuple[str, ...] = ()


OnPullProgress = Callable[[PullProgress], None]


def ignore_pull_progress(_progress: PullProgress) -> None:
    """Progress for nobody."""


def refuse_offline(source: ModelSource, *, from_file: Path | None, offline: bool) -> None:
    """Make sure that a pull may use the network, where it needs to.

    Raises:
        EncoderError: it may not, by `offline` or $BINDSEARCH_OFFLINE.
    """
    by_variable = os.environ.get(OFFLINE_VARIABLE, "") not in ("", "0")
    if from_file is None and (offline or by_variable):
        why = "--offline" if offline else OFFLINE_VARIABLE
        where = " or ".join(source.urls) or "its checkpoint"
        raise EncoderError(
            f"cannot download {source.name} in offline mode ({why}): fetch {where} on another machine, "
            f"then run `bindsearch model pull {source.name} --from FILE`"
        )


def has_consent(source: ModelSource) -> bool:
    """Return whether the licence needs no consent, or was accepted before."""
    return not source.needs_consent or read_record(source.name).license == source.license


def pull_model(
    source: ModelSource,
    *,
    from_file: Path | None = None,
    url: str | None = None,
    dtype: str | None = None,
    offline: bool = False,
    consent: Callable[[ModelSource], bool] = lambda _source: False,
    force: bool = False,
    on_progress: OnPullProgress = ignore_pull_progress,
    delay_s: float = 1.0,
) -> PullResult:
    """Bring a model and convert it; where it is here already, from there and in that format, do nothing.

    `from_file`: a checkpoint to take, never changed; `url`: a mirror to take it from; neither: the source's own.
    `dtype`: "fp32", "bf16" or "fp16"; None: what this machine runs fastest. `force`: convert again in any case.
    `consent`: asked whether the licence is accepted, where it was not before. `delay_s`: first wait before a broken
    download is tried again.

    Raises:
        UsageError: an option is wrong, or the licence was not accepted.
        EncoderError: the checkpoint cannot be had or converted, the disk is full, or another process pulls the model.
    """
    _check_options(from_file, url, dtype)
    asked = _PullRequest(source, from_file, url, dtype, force)
    work = work_folder(source.name)
    if not work.exists() and (here := asked.is_here()):  # nothing to tidy up, so a read-only folder will do
        return here
    try:
        with model_lock(source.name):
            clean_up_partial_pulls(source.name)
            if here := asked.is_here():
                shutil.rmtree(work, ignore_errors=True)
                return here
            refuse_offline(source, from_file=from_file, offline=offline)
            if not has_consent(source) and not consent(source):
                raise UsageError(
                    f"{source.name} comes under the licence {source.license}, which was not accepted: "
                    "add --accept-license, or run the same command on a terminal"
                )
            write_record(source.name, PullRecord(source.license, read_record(source.name).sha256))
            try:
                return _pull(asked, on_progress, delay_s)
            finally:
                with suppress(OSError):  # not empty: there is a download to go on with
                    work.rmdir()
    except OSError as error:
        raise EncoderError(
            f"cannot pull {source.name} into {model_folder(source.name)}: {error.strerror or error}; "
            f"${MODELS_VARIABLE} names another folder for models"
        ) from error


@dataclass(frozen=True, slots=True)
class _PullRequest:
    """Request of a pull."""

    source: ModelSource
    from_file: Path | None
    url: str | None
    dtype: str | None
    force: bool

    def is_here(self, sha256: str = "") -> PullResult | None:
        """The installed model, if it is whole and what was asked for, by where it came from or by `sha256`."""
        found = None if self.force else self.installed()
        if found is None:
            return None
        if self.dtype not in (None, found.dtype):
            return None
        if sha256 and found.source_sha256 != sha256:
            return None
        if not sha256 and (self.from_file is not None or self.url not in (None, found.source)):
            return None
        notice = f"{found.name} is already installed, in {found.dtype}, from {found.source}; --force downloads it again"
        return PullResult(found, is_new=False, notices=(notice,))

    def installed(self) -> ModelManifest | None:
        """The installed model, if it is whole."""
        if not is_installed(self.source.name):
            return None
        try:
            return None if verify_model(self.source.name, digests=False) else read_model(self.source.name)
        except EncoderError:  # a damaged model.json: pulling is the way out
            return None

    @property
    def stored_dtype(self) -> str:
        """The format to convert to."""
        if self.dtype is not None:
            return self.dtype
        from bindsearch.encoders.torch_runtime.device import default_dtype

        return default_dtype()


def _check_options(from_file: Path | None, url: str | None, dtype: str | None) -> None:
    if from_file is not None and url is not None:
        raise UsageError("--from and --url exclude each other: choose one")
    if from_file is not None and not from_file.is_file():
        what = "is not a regular file" if from_file.exists() else "does not exist"
        raise UsageError(f"--from {from_file} {what}: give a checkpoint")
    if url is not None:
        check_url(url)
    if dtype is not None and dtype not in _BYTES_PER_WEIGHT:
        raise UsageError(f"dtype {dtype!r} is not known: choose fp16, bf16 or fp32")


def _pull(asked: _PullRequest, on_progress: OnPullProgress, delay_s: float) -> PullResult:
    source, work, dtype = asked.source, work_folder(asked.source.name), asked.stored_dtype
    work.mkdir(parents=True, exist_ok=True)
    if asked.from_file is None:
        checkpoint, origin = _download(asked, dtype, on_progress, delay_s)
    else:
        checkpoint, origin = _read(asked.from_file, on_progress), str(asked.from_file.absolute())
    if here := asked.is_here(checkpoint.sha256):
        _drop_download(asked, checkpoint)
        return here
    _refuse_another(asked, checkpoint)
    check_space(work, _converted_bytes(checkpoint.size_bytes, dtype), f"the converted {source.name}")
    notices = _notices(source.name, checkpoint.sha256)
    try:
        manifest = _convert(source, checkpoint, origin, dtype, on_progress)
        publish_model(source.name)
    except BadCheckpointError as error:
        if asked.from_file is not None:
            raise
        _drop_download(asked, checkpoint)
        raise BadCheckpointError(f"{error}; what {origin} sent was deleted") from error
    except EncoderError as error:
        if asked.from_file is not None:
            raise
        it = "it and the model" if is_installed(source.name) else "it"
        resume_hint = f"the download is kept for another try, `bindsearch model remove {source.name}` deletes {it}"
        raise EncoderError(f"{error}; {resume_hint}") from error
    finally:
        shutil.rmtree(work / NEW_FOLDER, ignore_errors=True)
    write_record(source.name, PullRecord(source.license, checkpoint.sha256))
    _drop_download(asked, checkpoint)
    return PullResult(manifest, is_new=True, notices=notices)


def _refuse_another(asked: _PullRequest, checkpoint: DownloadedFile) -> None:
    """Keep a whole model from being replaced unasked by one whose vectors mean something else."""
    name, here = asked.source.name, asked.installed()
    if not asked.force and here is not None and here.source_sha256 != checkpoint.sha256:
        raise UsageError(
            f"{name} is installed from another checkpoint "
            f"(sha256 {here.source_sha256[:12]}, not {checkpoint.sha256[:12]}): "
            "stores that were indexed with it could not be searched any more; --force replaces it"
        )


def _download(
    asked: _PullRequest, dtype: str, on_progress: OnPullProgress, delay_s: float
) -> tuple[DownloadedFile, str]:
    """The checkpoint in the work folder, and the URL it came from."""
    source = asked.source

    def report(done: int, total: int | None) -> None:
        on_progress(PullProgress("download", done, total))

    urls = source.urls if asked.url is None else (asked.url,)
    reserve = _converted_bytes(source.expected_bytes or 0, dtype)
    for n, url in enumerate(urls, start=1):
        place = _download_place(source.name, url)
        try:
            found = download(url, place, on_progress=report, reserve_bytes=reserve, delay_s=delay_s)
        except NotFoundError:
            if n == len(urls):
                raise
            continue
        if source.sha256 and found.sha256 != source.sha256:
            _drop_download(asked, found)
            raise EncoderError(
                f"{url} is not the published {source.name}: its sha256 is {found.sha256}, "
                f"expected {source.sha256}; try again, or give a mirror with --url"
            )
        return found, url
    raise EncoderError(f"the model {source.name} has no URL: use --from FILE")


def _download_place(name: str, url: str) -> Path:
    """Return where a checkpoint is downloaded to; it keeps its suffix, by which converters know what it is."""
    suffix = PurePosixPath(urlsplit(url).path).suffix
    return work_folder(name) / f"checkpoint{suffix if suffix[1:].isalnum() and suffix.isascii() else ''}"


def _read(file: Path, on_progress: OnPullProgress) -> DownloadedFile:
    digest = hash_sha256(file, lambda done, total: on_progress(PullProgress("read", done, total)))
    return DownloadedFile(file, file.stat().st_size, digest)


def _converted_bytes(checkpoint_bytes: int, dtype: str) -> int:
    """About how large the towers become; checkpoints are in fp32 (where not, writing says that the disk is full)."""
    return checkpoint_bytes * _BYTES_PER_WEIGHT[dtype] // 4


def _convert(
    source: ModelSource, checkpoint: DownloadedFile, origin: str, dtype: str, on_progress: OnPullProgress
) -> ModelManifest:
    """Make the model in `new` of the work folder."""
    folder = work_folder(source.name) / NEW_FOLDER
    folder.mkdir()
    convert = import_module(f"bindsearch.encoders.{source.family}.checkpoint").convert

    def report(done: int, total: int) -> None:
        on_progress(PullProgress("convert", done, total))

    temperatures = convert(checkpoint.path, folder, source.architecture, dtype, report)
    towers = sorted(folder.glob("*.safetensors"))
    manifest = ModelManifest(
        format=FORMAT,
        name=source.name,
        family=source.family,
        architecture=dict(source.architecture),
        dtype=dtype,
        source=origin,
        source_sha256=checkpoint.sha256,
        source_bytes=checkpoint.size_bytes,
        license=source.license,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        temperatures=dict(temperatures),
        files={path.stem: ModelFile(path.stat().st_size, hash_file(path)) for path in towers},
    )
    write_manifest(folder, manifest)
    return manifest


def _drop_download(asked: _PullRequest, checkpoint: DownloadedFile) -> None:
    """Delete the checkpoint, unless it is the user's own file."""
    if asked.from_file is None:
        for path in (checkpoint.path, part_of(checkpoint.path), note_of(checkpoint.path)):
            path.unlink(missing_ok=True)


def _notices(name: str, sha256: str) -> tuple[str, ...]:
    before = read_record(name).sha256
    if not before or before == sha256:
        return ()
    return (
        f"{name} was pulled before from another checkpoint (sha256 {before}, now {sha256}): "
        "a store that was indexed with that one has to be indexed again",
    )
