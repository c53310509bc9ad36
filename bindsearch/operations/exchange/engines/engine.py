"""Export to an engine: its target (`qdrant:PATH`, `qdrant:URL`, `pgvector:DSN`), and the segments with all columns."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from bindsearch.arguments import with_slash
from bindsearch.environment import ENGINE_EXTRAS, raise_installation_fault
from bindsearch.errors import BindSearchError, InstallationError, StoreError, UsageError
from bindsearch.reports import OnRows, ignore_rows
from bindsearch.search.generation import Generation
from bindsearch.search.sql_filter.columns import DOCUMENTED, FilterColumns, Level
from bindsearch.storage.config import StoreConfig
from bindsearch.types import Modality, PathLike

if TYPE_CHECKING:
    from numpy.typing import NDArray


DEFAULT_NAME = "bindsearch"
"""Collection or table of an export."""

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")
"""Names that Qdrant, PostgreSQL and file systems all take; indexes are named after it, in at most 63 bytes."""

MAX_REASON = 300
"""Characters of an engine's message, which may quote a whole request."""

_ADDRESS = re.compile(r"([a-z]+)://", re.IGNORECASE)
_FORMS = {
    **dict.fromkeys(("postgres", "postgresql"), "pgvector:postgresql://USER@HOST/DATABASE"),
    **dict.fromkeys(("http", "qdrant"), "qdrant:http://HOST:6333"),
    "https": "qdrant:https://HOST:6333",
}
"""Targets with the engine that an address lacks, by its scheme."""


class Engine(StrEnum):
    """Engine that an export is written to."""

    QDRANT_EDGE = "qdrant-edge"
    QDRANT = "qdrant"
    PGVECTOR = "pgvector"


MODULES = {
    Engine.QDRANT_EDGE: ("qdrant_edge",),
    Engine.QDRANT: ("qdrant_client",),
    Engine.PGVECTOR: ("psycopg", "pgvector"),
}
"""Modules that write to an engine, all of them from extras."""


@dataclass(frozen=True, slots=True)
class EngineTarget:
    """Destination of an export to an engine.

    Attributes:
        engine: The engine.
        address: Path of a folder, URL or connection string; the last two may hold a password.
        name: Name of the collection or table.
        replace: Whether an earlier export of that name is replaced.
    """

    engine: Engine
    address: str
    name: str = DEFAULT_NAME
    replace: bool = False


@dataclass(frozen=True, slots=True)
class EngineResult:
    """Result of an export to an engine.

    Attributes:
        place: Where it is, without passwords.
        size_bytes: Size of files or table with indexes; None if the engine does not report it.
        notices: Messages about values that the engine cannot hold.
    """

    place: str
    size_bytes: int | None
    notices: tuple[str, ...] = ()


def parse_engine_target(target: PathLike, name: str = DEFAULT_NAME, *, replace: bool = False) -> EngineTarget | None:
    """Return the engine that a target names; None for a folder.

    Args:
        target: A folder, `qdrant:PATH`, `qdrant:URL` or `pgvector:DSN`; a path object is a folder.
        name: Name of the collection or table.
        replace: Whether an earlier export is replaced.

    Raises:
        UsageError: an address without its engine, an engine without an address, or an invalid name.
    """
    text = target if isinstance(target, str) else ""
    prefix, colon, address = text.partition(":")
    if not colon or prefix not in ("qdrant", "pgvector"):
        scheme = "" if (found := _ADDRESS.match(text)) is None else found[1].lower()
        if (form := _FORMS.get(scheme)) is not None:
            raise UsageError(f"an address {scheme}://... needs the engine before it: write {form}")
        return None
    if NAME.fullmatch(name) is None:
        raise UsageError(f"invalid name {name!r}: up to 40 letters, digits, _ and -, the first a letter or _")
    if prefix == "pgvector":
        return EngineTarget(Engine.PGVECTOR, address, name, replace)
    if re.match(r"https?://[^/]", address, re.IGNORECASE):
        return EngineTarget(Engine.QDRANT, address, name, replace)
    if not address or address.startswith("//") or _ADDRESS.match(address):
        raise UsageError(f"invalid target {text!r}: write qdrant:FOLDER or qdrant:http://HOST:6333")
    return EngineTarget(Engine.QDRANT_EDGE, address, name, replace)


def check_modules(engine: Engine) -> None:
    """Check that the libraries of an engine are installed, without loading them.

    Raises:
        InstallationError: one is missing; the message names the extra.
    """
    for module in MODULES[engine]:
        if find_spec(module) is None:
            extra = f"[{ENGINE_EXTRAS[module]}]"
            fault = f"an export to {engine} needs the extra {extra}"
            raise InstallationError(fault, f"pip install 'bindsearch{extra}'")


@contextmanager
def engine_faults(place: str) -> Iterator[None]:
    """Convert exceptions of an engine's library in the block into a StoreError of one line.

    Args:
        place: Where the export is written, without passwords.

    Raises:
        StoreError: the block raised an exception that is not of this project.
    """
    try:
        yield
    except BindSearchError:
        raise
    except Exception as error:
        raise_installation_fault(error)
        reason = " ".join(str(error).split())[:MAX_REASON] or type(error).__name__
        raise StoreError(f"cannot export to {place}: {reason}; nothing was published") from error


MAX_BLOCK_ROWS = 1000
BLOCK_BYTES = 2 << 20
"""Vectors of a block in float32; as JSON they take four times as much, less than the 32 MB that Qdrant accepts."""


class EngineBlock(NamedTuple):
    """Block of segments of one modality."""

    ids: list[int]  # of segments, the same in every export of the store
    values: Mapping[str, list[Any]]  # of each column by name, m each, None where unknown
    vectors: NDArray[Any]  # of unit length, float16 (m, d)


@dataclass(frozen=True)
class EngineSource:
    """Segments to export."""

    config: StoreConfig
    generation: Generation
    rows: Mapping[Modality, NDArray[Any]]  # segment rows by modality, int64 (m,); none is empty
    columns: FilterColumns
    kinds: Mapping[str, str]  # SQL type of each column by name: documented ones, those of classes, the users'

    @property
    def counts(self) -> dict[Modality, int]:
        """Number of vectors by modality."""
        return {modality: len(rows) for modality, rows in self.rows.items()}

    @property
    def total(self) -> int:
        """Number of all vectors."""
        return sum(self.counts.values())

    @property
    def known_kinds(self) -> dict[str, str]:
        """SQL type of each column that has a value in the store, by name."""
        arrays = ((name, self.columns.array(name)) for name in self.kinds)
        known = (name for name, array in arrays if array is None or array.null_count < len(array))
        return {name: self.kinds[name] for name in known}

    def describe(self) -> dict[str, Any]:
        """Return what is recorded with an export: the embedding space, and the number of vectors by modality."""
        return {"bindsearch_export": 1, "space": asdict(self.config), "vectors": {**self.counts}}


def is_description(text: str | None) -> bool:
    """Return whether a text is a description that `EngineSource.describe` made, as JSON."""
    try:
        return bool(json.loads(text or "")["bindsearch_export"] == 1)
    except (ValueError, TypeError, LookupError, RecursionError):
        return False


def make_source(config: StoreConfig, generation: Generation, rows: Mapping[Modality, NDArray[Any]]) -> EngineSource:
    """Return what an export writes; all its columns are computed, so that they fail before anything is written.

    Args:
        config: Configuration of the store.
        generation: Generation to read.
        rows: Segment rows by modality, int64 (m,).

    Raises:
        UsageError: a column has values that no type of SQL holds, or the name of another one.
    """
    columns = FilterColumns(generation.snapshot)
    documented = {name: kind for name, (_, kind, _) in DOCUMENTED.items()}
    kinds = {**documented, **columns.class_types, **columns.user_types}
    for name in kinds:
        columns.array(name)
    return EngineSource(config, generation, {name: part for name, part in rows.items() if len(part)}, columns, kinds)


def read_engine_blocks(source: EngineSource, on_progress: OnRows = ignore_rows) -> Iterator[EngineBlock]:
    """Yield the segments of a source, one modality after another, in blocks of bounded size; report those written."""
    done = 0
    on_progress(done, source.total)
    snapshot = source.generation.snapshot
    size = max(1, min(MAX_BLOCK_ROWS, BLOCK_BYTES // (4 * source.config.dim)))
    for modality, rows in source.rows.items():
        partition = source.generation.partitions[modality]
        for start in range(0, len(rows), size):
            block = rows[start : start + size]
            segments = snapshot.segments.select(["segment_id", "vector_id"]).take(pa.array(block))
            vector_ids = segments.column("vector_id").to_numpy()
            vectors = partition.rows.gather(partition.rows_of_vectors(vector_ids))
            columns = source.columns
            indices = {Level.SEGMENT: pa.array(block), Level.ITEM: pa.array(columns.item_rows[block])}
            values: dict[str, list[Any]] = {}
            for name in source.kinds:
                array = columns.array(name)
                values[name] = [] if array is None else array.take(indices[columns.level(name)]).to_pylist()
            rel_paths = snapshot.items.column("rel_path").take(indices[Level.ITEM]).to_pylist()
            roots = map(with_slash, values["collection"])
            values["path"] = [root + rel_path for root, rel_path in zip(roots, rel_paths, strict=True)]
            values["name"] = [rel_path.rpartition("/")[2] for rel_path in rel_paths]
            yield EngineBlock(segments.column("segment_id").to_pylist(), values, vectors)
            done += len(block)
            on_progress(done, source.total)
