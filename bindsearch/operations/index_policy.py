"""Upkeep: what the index of a partition needs, as its rows change. Pure; `optimize` does it. And what was wished."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from bindsearch.atomic import atomic_write
from bindsearch.errors import StoreError
from bindsearch.indexes.storage import INDEXES
from bindsearch.indexes.types import IndexForm, IndexManifest, IndexParameters, IndexQuality, IndexSettings

TAIL_ELEMENTS = 2048 * 1024
"""A tail of so many numbers takes 0.2 ms to scan: beyond it, and beyond `TAIL_SHARE`, it is added to the index."""

TAIL_SHARE = 0.02

GROWTH_TRAINED = 2.0
GROWTH_TUNED = 1.25
"""An index is trained anew when it holds so many times the rows it was trained on; its operating points are measured
anew when it holds so many times the rows they were measured on."""

MAX_CODE_ERROR_GROWTH = 1.15
MAX_IMBALANCE_GROWTH = 2.0
"""New rows whose codes err so many times more, or lists so many times more uneven, mean that the data has drifted."""

DEAD_SHARE = 0.2
"""An index with more dead rows than this is built anew without them."""

INDEX_SETTINGS_FILE = "wishes.json"


class IndexActionKind(StrEnum):
    """Maintenance that an index can need."""

    NOTHING = "nothing"
    REFUSED = "refused"
    """Refusal: what was once wished cannot be met any more, and the index stays as it is."""
    DROP = "drop"
    TUNE = "tune"
    APPEND = "append"
    BUILD = "build"


@dataclass(frozen=True)
class IndexAction:
    """Maintenance action for a partition's index, and the reason for it."""

    work: IndexActionKind
    reason: str


@dataclass(frozen=True)
class IndexState:
    """State of a partition that an action is chosen by: `rows` and `live_rows` of the partition, rows that the index
    covers, `dead` ones that it holds; `wanted`: what the rows call for today, or why they cannot have what is wished;
    `sources`: modalities that queries can be taken from; `wants_codes`: for a GPU, where the rows themselves do not
    fit."""

    rows: int
    live_rows: int
    indexed_rows: int
    dead: int
    dim: int
    wanted: IndexParameters | str
    settings: IndexSettings
    sources: frozenset[str]
    manifest: IndexManifest | None
    index_error: str | None
    wants_codes: bool = False


def choose_action(state: IndexState) -> IndexAction:
    """Return what a partition needs; pure."""
    manifest, wanted = state.manifest, state.wanted
    if state.live_rows == 0 or (not isinstance(wanted, str) and wanted.form is IndexForm.EXACT):
        if manifest is None and state.index_error is None:
            return IndexAction(IndexActionKind.NOTHING, "few rows: scanned exactly")
        return IndexAction(IndexActionKind.DROP, "exact scans do: few rows, or asked for")
    if isinstance(wanted, str):
        return IndexAction(IndexActionKind.REFUSED, wanted)
    if state.index_error is not None:
        return IndexAction(IndexActionKind.BUILD, f"the index is damaged ({state.index_error})")
    if manifest is None:
        return IndexAction(IndexActionKind.BUILD, f"{state.live_rows:,} rows have none")
    if manifest.settings != state.settings or manifest.parameters.form is not wanted.form:
        return IndexAction(IndexActionKind.BUILD, "other options are requested")
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
    return IndexAction(IndexActionKind.NOTHING, "it is up to date")


def drift_reason(trained: IndexQuality, now: IndexQuality) -> str | None:
    """Return why new rows should not be added to codes trained on old ones; None where they may. Pure."""
    if now.code_error > MAX_CODE_ERROR_GROWTH * trained.code_error:
        return f"the codes of new rows err {now.code_error / trained.code_error:.2f} times as much as at training"
    if now.imbalance > MAX_IMBALANCE_GROWTH * trained.imbalance:
        return f"the lists are {now.imbalance / trained.imbalance:.1f} times as uneven as at training"
    return None


def read_index_settings(store: Path) -> IndexSettings:
    """Return what was last asked of the indexes of a store; the defaults where nothing was.

    Raises:
        StoreError: the file is damaged.
    """
    path = store / INDEXES / INDEX_SETTINGS_FILE
    try:
        data = json.loads(path.read_text())
        form = None if data["form"] is None else IndexForm(data["form"])
        memory = None if data["memory_bytes"] is None else int(data["memory_bytes"])
        overrides = {str(name): int(value) for name, value in data["overrides"].items()}
        return IndexSettings(form, memory, float(data["recall"]), overrides or None)
    except FileNotFoundError:
        return IndexSettings()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} is damaged ({error}): remove it, and give the options again") from error


def write_index_settings(store: Path, settings: IndexSettings) -> None:
    """Remember what is asked of the indexes of a store."""
    (store / INDEXES).mkdir(parents=True, exist_ok=True)
    with atomic_write(store / INDEXES / INDEX_SETTINGS_FILE) as file:
        file.write(json.dumps({**asdict(settings), "overrides": dict(settings.overrides or {})}).encode())
