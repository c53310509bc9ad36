"""Dry run: how each file of a collection would be indexed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from bindsearch.device import usable_cores
from bindsearch.errors import MediaError
from bindsearch.ingest.archives.samples import archive_kind
from bindsearch.ingest.inspect.classify import Classification, classify
from bindsearch.ingest.manifests.manifest import is_manifest
from bindsearch.ingest.manifests.rows import MANIFEST_NAMES
from bindsearch.ingest.media.decode import describe
from bindsearch.ingest.media.sidecar import read_sidecar
from bindsearch.ingest.scan.collection import IndexOptions, ScanTarget
from bindsearch.ingest.scan.walk import scan
from bindsearch.reports import OnRows, PlannedFile, ignore_rows
from bindsearch.small_files import NOT_REGULAR

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
    found = scan(target.root, target.paths, target.skipped_folders)
    for rel_path, end in found.bad_links.items():
        if options.narrowing.includes(rel_path):
            yield PlannedFile(target.root / rel_path, None, f"would fail: a link to {end}, which is {NOT_REGULAR}", "")
    rel_paths = [rel_path for rel_path in found.rel_paths if options.narrowing.includes(rel_path)]
    with ThreadPoolExecutor(usable_cores(), "dry-run") as threads:
        for start in range(0, len(rel_paths), FILES_AT_ONCE):
            part = rel_paths[start : start + FILES_AT_ONCE]
            yield from threads.map(lambda rel_path: _plan_file(rel_path, target, options), part)
            on_rows(start + len(part), len(rel_paths))


def _plan_file(rel_path: str, target: ScanTarget, options: IndexOptions) -> PlannedFile:
    """Return how a file would be classified and read."""
    path = target.root / rel_path
    verdict = classify_container(path) or classify(path, rel_path, options.rules, root_name=target.root.name)
    note = ""
    if verdict.modality is not None:
        try:
            note = describe(path, verdict.modality, read_sidecar(path), options.decode)
        except MediaError as error:
            note = f"would fail: {error}"
    return PlannedFile(path, verdict.modality, verdict.why, note)


def classify_container(path: Path) -> Classification | None:
    """Return the classification of an archive or manifest; None for other files."""
    with suppress(OSError):
        if (kind := archive_kind(path)) is not None:
            return Classification(None, f"{kind} archive: its members are indexed")
        if path.suffix.lower() in MANIFEST_NAMES and is_manifest(path):
            return Classification(None, "manifest: metadata of other files")
    return None
