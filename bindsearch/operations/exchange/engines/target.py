"""Targets of an export that are engines: `qdrant:PATH`, `qdrant:URL` and `pgvector:DSN`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec

from bindsearch.environment import ENGINE_EXTRAS, raise_installation_fault
from bindsearch.errors import BindSearchError, InstallationError, StoreError, UsageError
from bindsearch.types import PathLike

DEFAULT_NAME = "bindsearch"
"""Collection or table of an export."""

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")
"""Names that Qdrant, PostgreSQL and file systems all take; indexes are named after it, in at most 63 bytes."""

MAX_REASON = 300
"""Characters of an engine's message, which may quote a whole request."""

_ADDRESS = re.compile(r"([a-z]+)://", re.IGNORECASE)


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
        if (found := _ADDRESS.match(text)) is not None:
            scheme = found[1].lower()
            form = {
                "postgres": "pgvector:postgresql://USER@HOST/DATABASE",
                "postgresql": "pgvector:postgresql://USER@HOST/DATABASE",
                "http": "qdrant:http://HOST:6333",
                "https": "qdrant:https://HOST:6333",
                "qdrant": "qdrant:http://HOST:6333",
            }.get(scheme)
            if form is not None:
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
            extra = ENGINE_EXTRAS[module]
            raise InstallationError(
                f"an export to {engine} needs the extra [{extra}]", f"pip install 'bindsearch[{extra}]'"
            )


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
