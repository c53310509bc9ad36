"""Dry run: how each file of a collection would be indexed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from bindsearch.device import usable_cores
from bindsearch.environment import raise_installation_fault
from bindsearch.errors import MediaError
from bindsearch.ingest.archives.samples import archive_kind
from bindsearch.ingest.archives.zip import name_notes
from bindsearch.ingest.inspect.classify import Classification
from bindsearch.ingest.inspect.inspect_file import InspectOptions, SourceFile, classify_source, declared_of
from bindsearch.ingest.manifests.manifest import is_manifest, names_files
from bindsearch.ingest.manifests.rows import MANIFEST_NAMES
from bindsearch.ingest.media.decode import describe
from bindsearch.ingest.scan.listed_files import Declarations, read_manifests
from bindsearch.ingest.scan.target import IndexOptions, ScanTarget
from bindsearch.ingest.scan.walk import scan
from bindsearch.ingest.workers.prepare import failure_of
from bindsearch.reports import OnRows, PlannedFile, ignore_rows
from bindsearch.small_files import NOT_REGULAR
from bindsearch.types import Modality

MANIFEST = "manifest: metadata of other files"
FILES_AT_ONCE = 64
"""Files that are planned between two reports of progress."""


def plan_collection(target: ScanTarget, options: IndexOptions, on_rows: OnRows = ignore_rows) -> Iterator[PlannedFile]:
    """Yield how each file would be classified and read, and why; nothing is written.

    Depth maps, thermal pictures and motion recordings are decoded, several at a time.

    Args:
        target: the collection.
        options: options of the run.
        on_rows: called with the number of files done and their total.
    """
    belongs, ignore = options.share.belongs, options.settings.default_ignore
    found = scan(target.root, target.paths, target.skipped_folders, default_ignore=ignore, belongs=belongs)
    manifests = read_manifests(found, {}, besides=target.manifests, limits=options.lists)
    inspect = InspectOptions(
        options.rules, frozenset(Modality), target.root.name, options.settings.facts, options.decode
    )
    links = [(path, f"a link to {end}, which is {NOT_REGULAR}") for path, end in found.bad_links.items()]
    for rel_path, reason in (*links, *(found.failed | found.unreadable).items()):
        if options.narrowing.includes(rel_path):
            yield PlannedFile(target.root / rel_path, None, f"would fail: {reason}")
    for rel_path, reason in found.left_out.items():
        if options.narrowing.includes(rel_path.rstrip("/")) and belongs(rel_path.rstrip("/")):
            yield PlannedFile(target.root / rel_path, None, reason)
    rel_paths = found.rel_paths
    rows = [row for row, path in enumerate(rel_paths) if options.narrowing.includes(path) and belongs(path)]

    def plan(row: int) -> PlannedFile:
        path, rel_path = target.root / rel_paths[row], rel_paths[row]
        if rel_path in manifests.states:
            return PlannedFile(path, None, MANIFEST)
        listed, subtitles = manifests.entries.get(rel_path), found.subtitles_of(rel_path)
        file = SourceFile(path, rel_path, found.state(row), listed=listed, subtitles=subtitles)
        planned = _plan_file(file, inspect, options)
        why = manifests.others.get(rel_path)
        return planned if why is None or planned.modality is not None else replace(planned, why=why)

    with ThreadPoolExecutor(usable_cores(), "dry-run") as threads:
        for start in range(0, len(rows), FILES_AT_ONCE):
            part = rows[start : start + FILES_AT_ONCE]
            yield from threads.map(plan, part)
            on_rows(start + len(part), len(rows))


def _plan_file(file: SourceFile, inspect: InspectOptions, options: IndexOptions) -> PlannedFile:
    """Return how a file that is no manifest would be classified and read."""
    verdict: Classification | None = None
    note = ""
    try:
        if (verdict := _classify_archive(file.path)) is not None:
            encoding = Declarations({}, options.settings).zip_encoding(file.rel_path)
            return PlannedFile(file.path, None, verdict.why, name_notes(file.path, encoding))
        verdict = classify_source(file, inspect)
        if verdict.modality is not None:
            declared = declared_of(file, inspect).for_modality(verdict.modality)
            note = describe(file.path, verdict.modality, declared, options.decode, file.subtitles)
    except Exception as error:  # one file must not end the plan
        raise_installation_fault(error)
        note = f"would fail: {failure_of(error).reason}"
    if verdict is None:
        return PlannedFile(file.path, None, note)
    return PlannedFile(file.path, verdict.modality, verdict.why, note)


def classify_container(path: Path) -> Classification | None:
    """Return the classification of an archive or manifest; None for other files."""
    with suppress(OSError, MediaError):
        if (verdict := _classify_archive(path)) is not None:
            return verdict
        is_list = path.suffix.lower() in MANIFEST_NAMES and is_manifest(path)
        if is_list and names_files(path, Path(path.anchor), ()):
            return Classification(None, MANIFEST)
    return None


def _classify_archive(path: Path) -> Classification | None:
    """Return the classification of an archive; None for other files."""
    kind = archive_kind(path)
    return None if kind is None else Classification(None, f"{kind} archive: its members are indexed")
