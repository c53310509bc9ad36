"""Inspection of a file: modality, fingerprint and metadata; nothing is decoded."""

from __future__ import annotations

import errno
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bindsearch.hashing import fingerprint_of, hash_file
from bindsearch.ingest.inspect.classify import Classification, classify
from bindsearch.ingest.inspect.declared import Declared
from bindsearch.ingest.inspect.folder_settings import NO_FACTS, FolderFacts
from bindsearch.ingest.inspect.rules import Rule, rule_for
from bindsearch.ingest.manifests.manifest import ManifestEntry
from bindsearch.ingest.media.imu.joining import part_paths
from bindsearch.ingest.media.kinds import RAW_EXTENSIONS
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.depth_map.units import mask_of, unit_by_name
from bindsearch.ingest.media.sidecar import RECORDINGS, Sidecar, decode_facts
from bindsearch.ingest.media.sidecar_file import read_sidecar
from bindsearch.ingest.media.subtitles.read import hash_subtitles
from bindsearch.storage.file_state import FileState
from bindsearch.types import Metadata, Modality


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to index.

    Attributes:
        path: where its bytes are.
        rel_path: its path inside the collection.
        state: size and times, for the detection of changes.
        sidecar: its metadata from the archive that contains it; None: a sidecar file beside it is read, if it exists.
        listed: its entry in a manifest; None: no manifest lists it.
        archive: rel_path of the archive that contains it; then `path` is a temporary copy. None: a file on disk.
        subtitles: the subtitle files beside it, if it may be a recording.
    """

    path: Path
    rel_path: str
    state: FileState
    sidecar: Sidecar | None = None
    listed: ManifestEntry | None = None
    archive: str | None = None
    subtitles: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class InspectOptions:
    """Options of a collection that decide how its files are classified and decoded.

    Attributes:
        rules: the first matching rule decides.
        modalities: those that the encoder can embed.
        root_name: name of the collection's folder.
        facts: facts by glob.
        decode: options of decoders.
    """

    rules: Sequence[Rule]
    modalities: frozenset[Modality]
    root_name: str = ""
    facts: FolderFacts = NO_FACTS
    decode: DecodeOptions = DecodeOptions()  # noqa: RUF009  (frozen)


@dataclass(frozen=True, slots=True)
class InspectResult:
    """Result of an inspection; if the modality of its classification is None, the file is skipped.

    Attributes:
        verdict: the classification.
        refused: its modality, if it is skipped because the encoder cannot embed it; else None.
        content_hash: hash of the content.
        fingerprint: equal for files that have equal vectors.
        sidecar: all that is declared about it.
        columns: the user's columns as a JSON object; None: there are none.
        metadata: title, times and the like.
        content_state: size, mtime and inode, which show whether the file changed since.
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
    """Return size in bytes, time of the last change in nanoseconds and inode of a file."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def check_same(path: Path, before: tuple[int, int, int]) -> None:
    """Check that a file did not change while it was read.

    Raises:
        OSError: it changed, so what was read may be inconsistent.
    """
    if content_state(path) != before:
        raise OSError(errno.ESTALE, "the file changed while it was read")


def inspect_file(file: SourceFile, options: InspectOptions) -> InspectResult:
    """Classify a file, read its metadata, and hash it.

    Raises:
        MediaError: its sidecar is damaged, or says what has no effect.
        OSError: it cannot be read, or changed while it was read.
    """
    from bindsearch.ingest.media.file_tags import read_metadata

    verdict = classify_source(file, options)
    if verdict.modality is None:
        return InspectResult(verdict)
    subtitles = file.subtitles if verdict.modality in RECORDINGS else ()
    has_words = bool(subtitles) and Modality.TEXT in options.modalities  # of them, texts with times are embedded
    if verdict.modality not in options.modalities and not has_words:
        refusal = Classification(None, f"the encoder cannot embed {verdict.modality}")
        return InspectResult(refusal, refused=verdict.modality)
    sidecar = declared_of(file, options).for_modality(verdict.modality)
    if verdict.modality is Modality.DEPTH and sidecar.depth_unit is None:
        sidecar = replace(sidecar, depth_unit=unit_by_name(f"{options.root_name}/{file.rel_path}"))
    state = content_state(file.path)
    content_hash = hash_file(file.path)
    parts = part_paths(file.path) if verdict.modality is Modality.IMU else []
    facts = "\0".join([decode_facts(sidecar), *(f"{part.name} {hash_file(part)}" for part in parts)])
    metadata = sidecar.metadata.merge_over(read_metadata(file.path, verdict.modality)).merge_over(sidecar.found)
    if verdict.modality is Modality.DEPTH and (mask := mask_of(file.path)) is not None:
        facts += f" mask {hash_file(mask)}"
    if subtitles:
        facts += f" subtitles {hash_subtitles(subtitles)}"
    check_same(file.path, state)
    suffix = file.path.suffix.lower()
    raw_suffix = suffix if suffix in RAW_EXTENSIONS else ""  # the same bytes may be a plain TIFF under another name
    fingerprint = fingerprint_of(content_hash, facts, verdict.modality.value, raw_suffix)
    columns = json.dumps(dict(sidecar.columns), ensure_ascii=False) if sidecar.columns else None
    return InspectResult(verdict, None, content_hash, fingerprint, sidecar, columns, metadata, state)


def declared_of(file: SourceFile, options: InspectOptions) -> Declared:
    """Return what is declared about a file; raise MediaError if its sidecar is damaged."""
    name, facts = file.rel_path.rsplit("/", 1)[-1], options.facts.at(file.rel_path)
    sidecar = read_sidecar(file.path) if file.sidecar is None else file.sidecar
    return Declared(name, sidecar, file.listed, facts, bool(file.subtitles))


def classify_source(file: SourceFile, options: InspectOptions) -> Classification:
    """Return the classification by a rule, else by a list, else by the file itself."""
    listed = file.listed
    if listed is not None and listed.modality is not None and rule_for(file.rel_path, options.rules) is None:
        return Classification(listed.modality, "by a manifest")
    if file.sidecar is not None and (file.sidecar.axes or file.sidecar.layout):  # from an archive: not beside the copy
        return Classification(Modality.IMU, "its sidecar names the axes or the layout")
    if file.sidecar is not None and file.sidecar.depth_unit and rule_for(file.rel_path, options.rules) is None:
        return Classification(Modality.DEPTH, "its sidecar says depth_unit")

    def read_facts(_: Path) -> Sidecar:
        return declared_of(file, options).for_classification()

    return classify(file.path, file.rel_path, options.rules, root_name=options.root_name, read_facts=read_facts)
