"""Pull of a model that is a repository of the hub: its files are checked and kept as they are, in one folder.

What a family knows of its models is in `bindsearch/encoders/FAMILY/snapshot.py`, with the functions of
`SnapshotFamily`. Code of a repository is neither downloaded nor run, and weights of torch.save become safetensors.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import quote

from bindsearch.arguments import shown
from bindsearch.encoders.model_store.checkpoints import write_as_safetensors
from bindsearch.encoders.model_store.download import NoAccessError, check_disk_space, check_url, download, hash_sha256
from bindsearch.encoders.model_store.hub import (
    ENDPOINT_VARIABLE,
    HUB,
    REVISION,
    Repository,
    describe_folder,
    no_access,
    read_repository,
    repository_of,
    token,
)
from bindsearch.encoders.model_store.installed import (
    NEW_FOLDER,
    SNAPSHOT_FOLDER,
    ModelFile,
    ModelManifest,
    clean_up_partial_pulls,
    complete_model,
    model_folder,
    model_lock,
    publish_model,
    work_folder,
    write_manifest,
)
from bindsearch.encoders.model_store.pull import (
    OnPullProgress,
    PullProgress,
    PullRecord,
    PullResult,
    cannot_pull,
    check_dtype,
    forbidden_by,
    kept_download,
    new_manifest,
    notices_of_change,
    record_consent,
    write_record,
)
from bindsearch.encoders.model_store.snapshot_files import (
    SnapshotFile,
    check_content,
    choose_files,
    copy_and_hash,
    digest_of,
    is_pickled,
    read_folder,
)
from bindsearch.encoders.model_store.source import ModelSource, snapshot_family
from bindsearch.errors import EncoderError, UsageError
from bindsearch.hashing import hash_file

DOWNLOAD_FOLDER = "download"
"""Folder in a work folder for the files of an unfinished download."""


class SnapshotFamily(Protocol):
    """Functions of `bindsearch/encoders/FAMILY/snapshot.py`."""

    def check_libraries(self) -> None:
        """Raise InstallationError if a library of the family is missing; the message names the extra."""

    def check_files(self, name: str, files: Mapping[str, Path]) -> None:
        """Raise EncoderError if a model cannot run here, before its weights are downloaded.

        Args:
            name: Name of the model.
            files: Files that are not weights, by their path in the repository.
        """

    def describe(self, name: str, folder: Path, dtype: str) -> tuple[Mapping[str, Any], Mapping[str, float]]:
        """Load a model once, in "fp32", "bf16" or "fp16"; raise EncoderError if it cannot be loaded.

        Returns:
            Values of `ModelManifest.architecture` and `ModelManifest.temperatures`.
        """


def pull_snapshot(
    name: str,
    *,
    revision: str | None = None,
    from_folder: Path | None = None,
    url: str | None = None,
    dtype: str | None = None,
    offline: bool = False,
    show: Callable[[ModelSource], None] = lambda _source: None,
    consent: Callable[[ModelSource], bool] = lambda _source: False,
    force: bool = False,
    on_progress: OnPullProgress = lambda _progress: None,
    delay_s: float = 1.0,
) -> PullResult:
    """Download a model from the hub or copy it from a folder; do nothing if it is installed.

    Args:
        name: Name of the model, such as "st:ORG/NAME".
        revision: Branch, tag or commit; None: the main branch, or the one that is installed.
        from_folder: Local copy of the repository, which is not changed; None: it is downloaded.
        url: Address of another hub; None: $HF_ENDPOINT or that of Hugging Face.
        dtype: Number format to load the weights in; None: the fastest one on this machine.
        offline: Do not use the network.
        show: Called with the licence and the size before anything is downloaded.
        consent: Called if the licence has to be accepted and was not before; returns whether it is.
        force: Replace an installed model, also by another revision.
        on_progress: Called with the progress of each step.
        delay_s: Delay before a failed download is retried the first time.

    Returns:
        Manifest of the installed model, and notices.

    Raises:
        UsageError: an option is invalid, another revision is installed, or the licence was not accepted.
        EncoderError: the model cannot be downloaded, read or run, the disk is full, or another process is pulling it.
    """
    pull = _Pull(name, revision, from_folder, url, dtype, force, on_progress, delay_s)
    pull.check()
    pull.family.check_libraries()
    try:
        # Without a work folder there is nothing to clean up, and the folder of the models may be read-only.
        if not pull.work.exists() and (old := pull.find_installed()) and dtype in (None, old.dtype):
            return pull.keep(old)
        with model_lock(name):
            clean_up_partial_pulls(name)
            if old := pull.find_installed():
                shutil.rmtree(pull.work, ignore_errors=True)
                return pull.keep(old)
            if from_folder is None and (why := forbidden_by(offline=offline)):
                raise EncoderError(
                    f"cannot download {name} in offline mode ({why}): run `hf download {repository_of(name)} "
                    f"--local-dir FOLDER` on another machine, then `bindsearch model pull {name} --from FOLDER` here"
                )
            return pull.run(show, consent)
    except OSError as error:
        raise cannot_pull(name, error) from error


@dataclass(slots=True)
class _Pull:
    """Pull with the options of `pull_snapshot`; the lock of the model is held where files are changed."""

    name: str
    revision: str | None
    from_folder: Path | None
    url: str | None
    dtype: str | None
    force: bool
    on_progress: OnPullProgress
    delay_s: float
    done_bytes: int = 0

    def check(self) -> None:
        """Raise UsageError for options that are invalid or exclude each other."""
        repository_of(self.name)
        if self.from_folder is not None and self.url is not None:
            raise UsageError("--from and --url exclude each other: choose one")
        if self.from_folder is not None and not self.from_folder.is_dir():
            what = "is not a folder" if self.from_folder.exists() else "does not exist"
            raise UsageError(f"--from {self.from_folder} {what}: give a folder with the files of {self.name}")
        revision = "main" if self.revision is None else self.revision
        if not REVISION.fullmatch(revision) or ".." in revision:
            raise UsageError(f"--revision {shown(revision)} is not a branch, tag or commit")
        check_url(self.endpoint)
        check_dtype(self.dtype)

    @property
    def endpoint(self) -> str:
        return (self.url or os.environ.get(ENDPOINT_VARIABLE) or HUB).rstrip("/")

    @property
    def work(self) -> Path:
        return work_folder(self.name)

    @property
    def family(self) -> SnapshotFamily:
        return cast("SnapshotFamily", import_module(f"bindsearch.encoders.{snapshot_family(self.name)}.snapshot"))

    def find_installed(self) -> ModelManifest | None:
        """Return the installed model if nothing but its number format may differ; None: the source has to be asked."""
        old = None if self.force or self.from_folder is not None else complete_model(self.name)
        return old if old is not None and self.revision in (None, old.revision) else None

    def keep(self, manifest: ModelManifest) -> PullResult:
        """Return the installed model, in the wanted number format: its files are the same in each."""
        if self.dtype in (None, manifest.dtype):
            at = f", at {manifest.revision[:12]}" if manifest.revision else ""
            notice = f"{self.name} is already installed, in {manifest.dtype}{at}; --force pulls it again"
            return PullResult(manifest, is_new=False, notices=(notice,))
        changed = replace(manifest, dtype=self.dtype)
        write_manifest(model_folder(self.name), changed)
        return PullResult(changed, is_new=True)

    def check_same(self, revision: str, digest: str) -> None:
        """Raise UsageError if a complete model would be replaced by one with another space, unless forced."""
        old = None if self.force else complete_model(self.name)
        if old is None or (digest and digest == old.source_sha256):
            return
        if digest or (revision and revision != old.revision):
            was, new = (old.revision, revision) if revision and old.revision else (old.source_sha256, digest)
            raise UsageError(
                f"{self.name} is installed from {was[:12] or 'another source'}, not {new[:12]}: stores indexed with it "
                "could no longer be searched; --force replaces it"
            )

    def run(self, show: Callable[[ModelSource], None], consent: Callable[[ModelSource], bool]) -> PullResult:
        """Get the files, check and publish them."""
        name, folder, wanted = self.name, self.from_folder, self.revision
        if folder is None:
            repository = read_repository(name, self.endpoint, wanted)
        else:
            repository = describe_folder(folder, tuple(read_folder(name, folder)))
            if wanted is not None and wanted != repository.revision:
                stated = f"commit {repository.revision}" if repository.revision else "of no stated commit"
                raise UsageError(f"--from {folder} is {stated}, not {wanted}: omit --revision, or give another folder")
        self.check_same(repository.revision, "")
        if (old := complete_model(name)) and not self.force and repository.revision == old.revision != "":
            return self.keep(old)
        chosen, left_out = choose_files(name, repository.files)
        source = _source_of(name, repository, chosen)
        show(source)
        if repository.gated and token() is None:
            raise no_access(name)
        record_consent(source, consent)
        self.work.mkdir(parents=True, exist_ok=True)
        try:
            total = sum(file.size_bytes for file in chosen)
            kept = sum(path.stat().st_size for path in (self.work / DOWNLOAD_FOLDER).glob("*"))  # of earlier pulls
            check_disk_space(self.work, total - kept, name)
            result = self._get(repository, chosen, total, source.license)
        finally:
            shutil.rmtree(self.work / NEW_FOLDER, ignore_errors=True)
            with suppress(OSError):  # not empty: it holds an unfinished download
                self.work.rmdir()
        return PullResult(result.manifest, result.is_new, (*result.notices, *([left_out] if left_out else [])))

    def _get(self, repository: Repository, chosen: list[SnapshotFile], total: int, licence: str) -> PullResult:
        """Download or read the files, texts first, and publish the model."""
        places: dict[str, Path] = {}
        digests: dict[str, str] = {}
        for file in sorted(chosen, key=lambda file: (file.is_weights, file.path)):
            if file.is_weights and not any(SnapshotFile(place, 0).is_weights for place in places):
                self.family.check_files(self.name, places)
            places[file.path], digests[file.path] = self._fetch(repository, file, total)
            self.done_bytes += file.size_bytes
        digest, downloaded = digest_of(digests), self.work / DOWNLOAD_FOLDER
        self.check_same(repository.revision, digest)
        old = None if self.force else complete_model(self.name)
        if old is not None:
            shutil.rmtree(downloaded, ignore_errors=True)
            return self.keep(old)
        notices = notices_of_change(self.name, digest)
        try:
            files = self._lay_out(chosen, places, digests)
            manifest = self._describe(repository, files, total, digest, licence)
        except EncoderError as error:
            if self.from_folder is not None:
                raise
            raise kept_download(self.name, error) from error
        publish_model(self.name)
        write_record(self.name, PullRecord(licence, digest))
        shutil.rmtree(downloaded, ignore_errors=True)
        return PullResult(manifest, is_new=True, notices=notices)

    def _fetch(self, repository: Repository, file: SnapshotFile, total: int) -> tuple[Path, str]:
        """Return the place of a file and its SHA-256; it is downloaded if there is no local folder."""

        def report(done: int, _total: int | None) -> None:
            step = "download" if self.from_folder is None else "read"
            self.on_progress(PullProgress(step, self.done_bytes + done, total))

        if self.from_folder is not None:
            path = self.from_folder / file.path
            return path, hash_sha256(path, report)
        url = f"{self.endpoint}/{repository_of(self.name)}/resolve/{repository.revision}/{quote(file.path)}"
        # Named by a digest: no name of a repository can be that of another.
        target, size = self.work / DOWNLOAD_FOLDER / sha256(file.path.encode()).hexdigest()[:32], file.size_bytes
        try:
            found = download(url, target, on_progress=report, token=token(), size_bytes=size, delay_s=self.delay_s)
        except NoAccessError:
            raise no_access(self.name) from None
        try:
            check_content(file, target, found.sha256, url)
        except EncoderError:
            for path in target.parent.glob(f"{target.name}*"):
                path.unlink()
            raise
        return target, found.sha256

    def _lay_out(
        self, chosen: list[SnapshotFile], places: Mapping[str, Path], digests: Mapping[str, str]
    ) -> dict[str, ModelFile]:
        """Put the files into `new` of the work folder under their paths; return their sizes and digests."""
        folder = self.work / NEW_FOLDER / SNAPSHOT_FOLDER
        done, total = 0, sum(file.size_bytes for file in chosen)
        for file in chosen:
            target = folder / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            if is_pickled(file.path) or file.path.endswith(".bin.index.json"):
                write_as_safetensors(places[file.path], target)
            elif self.from_folder is None:
                try:  # a second name, so that the file stays if the pull fails later
                    os.link(places[file.path], target)
                except OSError:
                    shutil.copyfile(places[file.path], target)
            elif copy_and_hash(places[file.path], target) != digests[file.path]:
                raise EncoderError(f"{places[file.path]} changed while it was read: run the same command again")
            done += file.size_bytes
            self.on_progress(PullProgress("convert", done, total))
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): ModelFile(path.stat().st_size, hash_file(path)) for path in paths}

    def _describe(
        self, repository: Repository, files: dict[str, ModelFile], total: int, digest: str, licence: str
    ) -> ModelManifest:
        """Load the model once, and write its manifest into `new` of the work folder."""
        from bindsearch.encoders.torch_runtime.device import default_dtype

        folder, fastest = self.work / NEW_FOLDER, default_dtype()
        dtype = self.dtype or ("bf16" if fastest == "fp16" else fastest)  # large models overflow in fp16
        architecture, temperatures = self.family.describe(self.name, folder / SNAPSHOT_FOLDER, dtype)
        return new_manifest(
            folder,
            name=self.name,
            family=snapshot_family(self.name) or "",
            architecture=dict(architecture),
            dtype=dtype,
            source=repository.where,
            source_sha256=digest,
            source_bytes=total,
            license=licence,
            temperatures=dict(temperatures),
            files=files,
            revision=repository.revision,
        )


def _source_of(name: str, repository: Repository, chosen: list[SnapshotFile]) -> ModelSource:
    """Return the source of a model, with the paragraph about licence, gating and size."""
    licence = repository.license or "not stated"
    page = repository.where
    about = f"licence {licence}" + (f" ({repository.license_url})" if repository.license_url else "")
    gate = "; gated: its conditions have to be accepted on that page first" if repository.gated else ""
    total = sum(file.size_bytes for file in chosen)
    return ModelSource(
        name=name,
        family=snapshot_family(name) or "",
        urls=(page,),
        license=licence,
        license_text=f"{name}: {about}, {len(chosen)} files, {total / 1e9:.2f} GB, from {page}{gate}",
        needs_consent=repository.needs_consent,
        architecture={},
        expected_bytes=total,
    )
