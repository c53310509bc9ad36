"""One server and one small store for all tests of a module that change neither."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.media_files import write_every_modality
from helpers.server_process import ServerProcess, serving
from helpers.stores import connect

PROGRAM = "<!doctype html><script>alert(1)</script>"


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `media`, which is indexed in `store`, and `queries`, which are not indexed."""
    folder = tmp_path_factory.mktemp("served")
    write_every_modality(folder / "media", 2)
    (folder / "media" / "page.html").write_text(f"{PROGRAM}<p>a page about cats")
    (folder / "media" / "two words.txt").write_text("a cat sleeps")
    write_every_modality(folder / "queries", 3)
    with connect(folder / "store") as store:
        store.index(folder / "media")
    return folder


@pytest.fixture(scope="module")
def server(world: Path) -> Iterator[ServerProcess]:
    """Return a running server of the store."""
    with serving(world / "store") as running:
        yield running
