"""Index policy: choose the maintenance action for the index of a partition, and store the index settings."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from bindsearch.atomic import atomic_write
from bindsearch.indexes.index_files import INDEXES
from bindsearch.indexes.types import IndexForm, IndexManifest, IndexParameters, IndexQuality, IndexSettings
from bindsearch.small_files import check_seal, read_json, sealed

TAIL_ELEMENTS = 2048 * 1024
"""Number of values (rows times d) in a tail that takes 0.2 ms to scan; a larger tail may be added to the index."""

TAIL_SHARE = 0.02
"""Share of the indexed rows that a tail must exceed, besides TAIL_ELEMENTS, to be added to the index."""

GROWTH_TRAINED = 2.0
"""An index is rebuilt when it holds more than this many times the rows it was trained on."""

GROWTH_TUNED = 1.25
"""Operating points are measured again when the index holds this many times the rows they were measured on."""

MAX_CODE_ERROR_GROWTH = 1.15
"""The data has drifted if the code error of new rows is more than this many times that at training."""

MAX_IMBALANCE_GROWTH = 2.0
"""The data has drifted if the imbalance of the lists is more than this many times that at training."""

DEAD_SHARE = 0.2
"""Share of deleted rows above which an index is rebuilt without them."""

INDEX_SETTINGS_FILE = "wishes.json"


class IndexActionKind(StrEnum):
    """Kind of maintenance of an index."""

    NOTHING = "nothing"
    REFUSED = "refused"
    """No action: the stored settings can no longer be met; the index is not changed."""
    DROP = "drop"
    TUNE = "tune"
    APPEND = "append"
    BUILD = "build"


@dataclass(frozen=True)
class IndexAction:
    """Maintenance action for the index of a partition.

    Attributes:
        work: Kind of the action.
        reason: Reason for it.
    """

    work: IndexActionKind
    reason: str


@dataclass(frozen=True)
class IndexState:
    """State of a partition that the action for its index is chosen by."""

    rows: int
    live_rows: int  # not deleted
    indexed_rows: int  # covered by the index
    dead: int  # number of deleted rows in the index
    dim: int
    wanted: IndexParameters | str  # for the current rows, or why the settings cannot be met
    settings: IndexSettings
    sources: frozenset[str]  # modalities that queries for measurements can be taken from
    manifest: IndexManifest | None  # of the published index; None if there is none or it is damaged
    index_error: str | None  # why the index cannot be opened; None if it can or there is none
    wants_codes: bool = False  # whether a GPU needs codes because the rows do not fit into its memory


def choose_action(state: IndexState) -> IndexAction:
    """Return the action that a partition needs; pure function."""
    manifest, wanted = state.manifest, state.wanted
    if state.live_rows == 0 or (not isinstance(wanted, str) and wanted.form is IndexForm.EXACT):
        if manifest is None and state.index_error is None:
            return IndexAction(IndexActionKind.NOTHING, "few rows: scanned exactly")
        return IndexAction(IndexActionKind.DROP, "exact scans are sufficient (few rows), or requested")
    if isinstance(wanted, str):
        return IndexAction(IndexActionKind.REFUSED, wanted)
    if state.index_error is not None:
        return IndexAction(IndexActionKind.BUILD, f"the index is damaged ({state.index_error})")
    if manifest is None:
        return IndexAction(IndexActionKind.BUILD, f"{state.live_rows:,} rows have no index")
    if manifest.settings != state.settings or manifest.parameters.form is not wanted.form:
        return IndexAction(IndexActionKind.BUILD, "the index settings have changed")
    if state.wants_codes and manifest.gpu_parameters is None:
        return IndexAction(IndexActionKind.BUILD, "it has no codes for the GPU")
    if state.dead > DEAD_SHARE * manifest.n:
        return IndexAction(IndexActionKind.BUILD, f"{state.dead:,} of its {manifest.n:,} rows are deleted")
    if state.live_rows > GROWTH_TRAINED * manifest.trained_rows:
        return IndexAction(IndexActionKind.BUILD, f"{state.live_rows:,} rows, trained on {manifest.trained_rows:,}")
    tail = state.rows - state.indexed_rows
    if tail * state.dim > TAIL_ELEMENTS and tail > TAIL_SHARE * state.indexed_rows:
        return IndexAction(IndexActionKind.APPEND, f"{tail:,} rows are newer than the index")
    if missing := sorted(state.sources.difference(manifest.measured_sources)):
        return IndexAction(IndexActionKind.TUNE, f"not measured for queries of {', '.join(missing)}")
    return IndexAction(IndexActionKind.NOTHING, "the index is up to date")


def drift_reason(trained: IndexQuality, now: IndexQuality) -> str | None:
    """Return why new rows should not be added to codes trained on older ones; None if they can be; pure function.

    Args:
        trained: Quality of the index at training.
        now: Quality for the new rows.
    """
    if now.code_error > MAX_CODE_ERROR_GROWTH * trained.code_error:
        return f"the code error of new rows is {now.code_error / trained.code_error:.2f} times that at training"
    if now.imbalance > MAX_IMBALANCE_GROWTH * trained.imbalance:
        return f"the lists are {now.imbalance / trained.imbalance:.1f} times as uneven as at training"
    return None


def read_index_settings(store: Path) -> IndexSettings:
    """Return the stored index settings of a store, the defaults if none are stored.

    Raises:
        StoreError: the file is damaged.
    """
    path = store / INDEXES / INDEX_SETTINGS_FILE
    return read_json(path, _parse_settings, "remove it and give the index options again") or IndexSettings()


def _parse_settings(data: dict[str, Any]) -> IndexSettings:
    check_seal(data, required=False)
    form = None if data["form"] is None else IndexForm(data["form"])
    memory = None if data["memory_bytes"] is None else int(data["memory_bytes"])
    overrides = {str(name): int(value) for name, value in data["overrides"].items()}
    settings = IndexSettings(form, memory, float(data["recall"]), overrides or None)
    if not 0 < settings.recall <= 1 or (memory is not None and memory <= 0):
        raise ValueError(f"recall is {settings.recall}, memory_bytes is {memory}")
    return settings


def write_index_settings(store: Path, settings: IndexSettings) -> None:
    """Store the index settings of a store; the file is replaced atomically."""
    (store / INDEXES).mkdir(parents=True, exist_ok=True)
    with atomic_write(store / INDEXES / INDEX_SETTINGS_FILE) as file:
        file.write(sealed({**asdict(settings), "overrides": dict(settings.overrides or {})}))
