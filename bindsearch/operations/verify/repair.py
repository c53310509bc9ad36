"""Repair of a store's catalog, without an encoder."""

from __future__ import annotations

from pathlib import Path

from bindsearch.atomic import is_there
from bindsearch.errors import StoreError
from bindsearch.operations.verify.catalog import CheckedCatalog
from bindsearch.operations.verify.check import StoreCheck
from bindsearch.operations.verify.findings import Finding, FindingKind
from bindsearch.operations.verify.store_files import lost_vectors, stored_vectors
from bindsearch.reports import OnStage, ignore_stage
from bindsearch.storage.catalog_file import keep_aside
from bindsearch.storage.config import StoreConfig
from bindsearch.types import Modality

DISCARDED_KINDS = (FindingKind.VECTOR_FILE_MISSING, FindingKind.VECTOR_FILE_DAMAGED, FindingKind.VECTORS_UNFIT)
UNREPAIRABLE_KINDS = (FindingKind.CONFIG, FindingKind.CATALOG, FindingKind.FILE_UNREADABLE)


def repair(
    store: Path,
    config: StoreConfig,
    catalog: CheckedCatalog,
    *,
    on_stage: OnStage = ignore_stage,
) -> list[Finding]:
    """Repair the catalog of a store, and return what was found.

    The caller holds the writer's lock. A Writer created next finds only faults that it recovers from itself. Vector
    files whose content has changed since they were written are moved to `lost/`; the next `index` embeds their items
    again.

    Args:
        store: Folder of the store.
        config: Configuration of the store.
        catalog: Open catalog of the store.
        on_stage: Called with the name of each stage.

    Returns:
        All findings of the check, those that were repaired and those that remain.

    Raises:
        StoreError: the damage cannot be repaired; nothing was changed.
    """
    check = StoreCheck(store, on_stage)
    check.check_catalog(catalog)
    check.check_files()
    kinds = {finding.kind for finding in check.findings}
    for finding in check.findings:
        if finding.kind in UNREPAIRABLE_KINDS:
            raise StoreError(finding.message)
    catalog.repair()
    discarded = {finding.where[0] for finding in check.findings if finding.kind in DISCARDED_KINDS}
    for file in check.vectors:
        if str(file.path) in discarded:
            if is_there(file.path):
                keep_aside(store, file.path)
            catalog.forget_lost_vectors(file.modality, file.path.name, file.first_id, file.end_id)
    if FindingKind.VECTORS_LOST in kinds:
        files = stored_vectors(store, catalog.vector_files())
        for modality in Modality:
            lost = lost_vectors(files, modality, config.dim, catalog.live_vector_ids)
            if len(lost):
                catalog.forget_vectors(modality, lost)
    return check.findings
