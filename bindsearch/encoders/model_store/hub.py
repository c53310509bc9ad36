"""Repositories of the Hugging Face hub: their files, licence, gating and commit."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bindsearch.arguments import shown
from bindsearch.encoders.model_store.snapshot_files import SnapshotFile, card_of, licence_of
from bindsearch.encoders.model_store.source import is_free_license
from bindsearch.errors import EncoderError, UsageError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

HUB = "https://huggingface.co"
ENDPOINT_VARIABLE = "HF_ENDPOINT"
TOKEN_VARIABLE = "HF_TOKEN"

TIMEOUT_S = 30.0

_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.\-]{0,95}/[A-Za-z0-9][\w.\-]{0,95}", re.ASCII)
REVISION = re.compile(r"[\w.\-/]{1,200}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Repository:
    """Repository of a model at one commit.

    Attributes:
        where: URL of the repository at that commit, or the path of a local folder.
        revision: Commit, 40 hex digits; "" if it is unknown.
        license: Licence in the hub's words; "" if none is stated.
        license_url: URL of its text; "" if it is not stated.
        gated: Whether conditions have to be accepted on the hub before files can be downloaded.
        files: All files.
    """

    where: str
    revision: str
    license: str
    license_url: str
    gated: bool
    files: tuple[SnapshotFile, ...]

    @property
    def needs_consent(self) -> bool:
        """Return whether the licence has to be accepted: it is not known to allow any use, or the hub asks too."""
        return self.gated or not is_free_license(self.license)


def repository_of(name: str) -> str:
    """Return ORG/NAME of a model's name "st:ORG/NAME".

    Raises:
        UsageError: the name has another form.
    """
    prefix, _, repository = name.partition(":")
    is_valid = _REPOSITORY.fullmatch(repository) and "--" not in repository and ".." not in repository
    if not is_valid:
        hint = ""
        if prefix == "st" and re.fullmatch(r"[\w.\-]+", repository):
            hint = f": did you mean st:sentence-transformers/{repository}?"
        raise UsageError(f"{shown(name)} is not a name of a model: names are {prefix}:ORG/NAME, as on the hub{hint}")
    return repository


def token() -> str | None:
    """Return the user's access token, $HF_TOKEN; None if it is not set."""
    return os.environ.get(TOKEN_VARIABLE, "").strip() or None


def read_repository(name: str, endpoint: str, revision: str | None) -> Repository:
    """Ask the hub for the files, licence, gating and commit of a model.

    Raises:
        UsageError: the hub has no such revision.
        EncoderError: the hub has no such repository, cannot be reached, or its answer is not valid.
    """
    repository = repository_of(name)
    info = _ask(name, repository, endpoint, revision)
    commit, siblings = info.sha, info.siblings
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit) or not isinstance(siblings, list):
        raise EncoderError(f"{endpoint} does not state the commit and the files of {name}: this is not a hub")
    try:
        files = tuple(_file(sibling) for sibling in siblings)
    except (TypeError, ValueError, AttributeError):
        raise EncoderError(f"{endpoint} does not state the size of each file of {name}: this is not a hub") from None
    licence, url = licence_of(vars(info.card_data) if info.card_data is not None else None)
    where, gated = f"{endpoint}/{repository}/tree/{commit}", info.gated not in (None, False)
    return Repository(where, commit, licence, url, gated, files)


def describe_folder(folder: Path, files: tuple[SnapshotFile, ...]) -> Repository:
    """Return the repository that a local folder is a copy of, with what its README states."""
    licence, url = licence_of(card_of(folder / "README.md"))
    return Repository(str(folder.absolute()), _commit_of(folder), licence, url, gated=False, files=files)


def no_access(name: str) -> EncoderError:
    """Return the error for files that the hub does not give to this user."""
    accept = f"accept its conditions at {HUB}/{repository_of(name)}"
    if token() is None:
        way_out = f"{accept}, make a token at {HUB}/settings/tokens, and set {TOKEN_VARIABLE} to it"
        return EncoderError(f"{name} is gated: {way_out}")
    fault = f"the hub gives no access to {name} for the token in {TOKEN_VARIABLE}"
    return EncoderError(f"{fault}: {accept} with the account of that token")


def _ask(name: str, repository: str, endpoint: str, revision: str | None) -> ModelInfo:
    """Return the hub's answer about a repository."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    api = HfApi(endpoint=endpoint, token=token() or False)
    try:
        return api.model_info(repository, revision=revision, timeout=TIMEOUT_S, files_metadata=True)
    except RevisionNotFoundError:
        raise UsageError(f"{name} has no revision {revision!r}: see {endpoint}/{repository}/commits/main") from None
    except GatedRepoError:
        raise no_access(name) from None
    except RepositoryNotFoundError:
        private = "" if token() else f"; if it is private, set {TOKEN_VARIABLE}"
        raise EncoderError(f"{endpoint} has no model {repository}: check the name{private}") from None
    except OfflineModeIsEnabled:
        raise EncoderError(f"cannot download {name}: HF_HUB_OFFLINE is set; unset it, or use --from FOLDER") from None
    except HfHubHTTPError as error:
        status = f"HTTP {error.response.status_code}"
        raise EncoderError(f"{endpoint} answers {status} for {repository}: try again, or use --from FOLDER") from error
    except Exception as error:  # of the HTTP client, which differs by version, or of an answer that is not the hub's
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise EncoderError(
            f"cannot ask {endpoint} about {repository} ({reason}): check the connection, or use --from FOLDER"
        ) from error


def _file(sibling: Any) -> SnapshotFile:
    """Return a file as the hub lists it; raise TypeError or ValueError if something is not stated."""
    lfs: Mapping[str, Any] = sibling.lfs or {}
    if type(sibling.size) is not int or sibling.size < 0 or not isinstance(sibling.rfilename, str):
        raise TypeError
    if not lfs:
        return SnapshotFile(sibling.rfilename, sibling.size, git_sha1=str(sibling.blob_id or ""))
    if not re.fullmatch(r"[0-9a-f]{64}", sha256 := str(lfs["sha256"])):
        raise ValueError
    return SnapshotFile(sibling.rfilename, sibling.size, sha256)


def _commit_of(folder: Path) -> str:
    """Return the commit of a folder in the hub's cache, or of one that `hf download --local-dir` wrote; else ""."""
    absolute = folder.absolute()
    if absolute.parent.name == "snapshots" and _COMMIT.fullmatch(absolute.name):
        return absolute.name
    note = folder / ".cache" / "huggingface" / "download" / "config.json.metadata"
    try:
        with note.open(encoding="utf-8") as file:
            line = file.readline(64).strip()
    except (OSError, ValueError):
        return ""
    return line if _COMMIT.fullmatch(line) else ""
