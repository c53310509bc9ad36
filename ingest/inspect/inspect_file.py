"""The first look at a file: what it is, whether its content is known, what is said of it. Nothing is decoded."""

from __future__ import annotations

import errno
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bindsearch.hashing import fingerprint_of, hash_file
from bindsearch.ingest.inspect.classify import Classification, Rule, classify, rule_for
from bindsearch.ingest.manifests.manifest import ListEntry
from bindsearch.ingest.media.sidecar import Sidecar, decode_facts, merge_sidecar, read_sidecar
from bindsearch.ingest.media.sniff import RAW_EXTENSIONS
from bindsearch.storage.file_state import FileState
from bindsearch.types import Metadata, Modality


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to take in: its bytes lie at `path`, it is known as `rel_path` inside its collection.

    `sidecar`: what is said of it in the archive it comes from; None: in the sidecar beside it, if there is one.
    `listed`: what a list says of it. `archive`: rel_path of the archive it comes from; then `path` is a temporary copy.
    """

    path: Path
    rel_path: str
    state: FileState
    sidecar: Sidecar | None = None
    listed: ListEntry | None = None
    archive: str | None = None


@dataclass(frozen=True, slots=True)
class InspectOptions:
    """Options that decide how files are classified: rules (the first that matches), the modalities that can be
    embedded, and the name of the collection's folder."""

    rules: Sequence[Rule]
    modalities: frozenset[Modality]
    root_name: str = ""


@dataclass(frozen=True, slots=True)
class InspectResult:
    """Result of an inspection; modality None in the verdict: the file is left out.

    `refused`: its modality where it is left out because the encoder cannot embed it. `fingerprint`: equal for files
    that give equal vectors. `columns`: the user's own, a JSON object. `content_state`: what would differ had the file
    changed since.
    """

    verdict: Classification
    refused: Modality | None = None
    content_hash: str = ""
    fingerprint: str = ""
    sidecar: Sidecar = Sidecar()  # noqa: RUF009  (frozen)
    columns: str | None = None
    metadata: Metadata = Metadata()  # noqa: RUF009  (frozen)
    content_state: tuple[int, int, int] = (0, 0, 0)


def content_state(path: Path) -> tuple[int, int, int]:
    """Size, time of the last change and inode of a file."""
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns, facts.st_ino


def check_same(path: Path, before: tuple[int, int, int]) -> None:
    """Refuse a file that is not as it was.

    Raises:
        OSError: it has changed: what was read of it may be of two minds.
    """
    if content_state(path) != before:
        raise OSError(errno.ESTALE, "it changed while it was read")


def inspect_file(file: SourceFile, options: InspectOptions) -> InspectResult:
    """Classify a file, read what is said of it and what it says of itself, and hash it.

    Raises:
        MediaError: its sidecar is damaged.
        OSError: it cannot be read, or changed meanwhile.
    """
    from bindsearch.ingest.media.file_tags import read_metadata

    verdict = _verdict(file, options)
    if verdict.modality is None:
        return InspectResult(verdict)
    if verdict.modality not in options.modalities:
        return InspectResult(Classification(None, "the encoder cannot embed it"), refused=verdict.modality)
    sidecar = read_sidecar(file.path) if file.sidecar is None else file.sidecar
    if (listed := file.listed) is not None:
        sidecar = merge_sidecar(sidecar, listed.captions, listed.columns, listed.metadata)
    state = content_state(file.path)
    content_hash = hash_file(file.path)
    metadata = sidecar.metadata.merge_over(read_metadata(file.path, verdict.modality))
    check_same(file.path, state)
    suffix = file.path.suffix.lower()
    as_raw = suffix if suffix in RAW_EXTENSIONS else ""  # the same bytes may be a plain TIFF under another name
    return InspectResult(
        verdict,
        content_hash=content_hash,
        fingerprint=fingerprint_of(content_hash, decode_facts(sidecar), verdict.modality.value, as_raw),
        sidecar=sidecar,
        columns=json.dumps(dict(sidecar.columns), ensure_ascii=False) if sidecar.columns else None,
        metadata=metadata,
        content_state=state,
    )


def _verdict(file: SourceFile, options: InspectOptions) -> Classification:
    """A rule first, then what a list says, then the file itself."""
    listed = file.listed
    if listed is not None and listed.modality is not None and rule_for(file.rel_path, options.rules) is None:
        return Classification(listed.modality, "as a list says")
    if file.sidecar is not None and file.sidecar.axes:  # said in an archive, where `classify` does not look
        return Classification(Modality.IMU, "a sidecar names the axes")
    return classify(file.path, file.rel_path, options.rules, root_name=options.root_name)
