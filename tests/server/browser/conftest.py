"""Servers, browsers and pages of the tests of the page."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from helpers.browser import HOSTILE_NAMES, Open, Visit, open_browser, visiting
from helpers.server_process import ServerProcess, serving
from helpers.stores import connect

if TYPE_CHECKING:
    from playwright.sync_api import Browser

MAKE_MEDIA = Path(__file__).parents[3] / "examples" / "make_media.py"
KEPT = (
    *("photo_01.jpg", "photo_02.jpg", "photo_06.jpg", "sound_01.flac", "sound_02.wav", "note_04.md", "note_05.md"),
    *("note_07.txt", "note_10.txt", "note_01.txt", "scan_01.png", "frame_01.png", "recording_01.csv", "clip_01.mp4"),
)
"""Files of the examples that are indexed; fewer, so that it takes a few seconds."""


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with media in all seven modalities, queries, and a store of them with the encoder mini."""
    for package in ("fastapi", "uvicorn", "skimage", "sklearn", "playwright"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("page")
    subprocess.run([sys.executable, MAKE_MEDIA, folder], check=True, capture_output=True, timeout=120)
    for path in (folder / "media").rglob("*"):
        if path.is_file() and path.name.removesuffix(".json") not in KEPT:
            path.unlink()
    connect(folder / "store", encoder="mini").index(folder / "media")
    return folder


@pytest.fixture(scope="session")
def server(demo: Path) -> Iterator[ServerProcess]:
    """Return the server of the store of the demo."""
    with serving(demo / "store") as running:
        yield running


# of a module, not of the session: while it runs, no other test of this thread can have an event loop of asyncio
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return a running browser."""
    with open_browser() as running:
        yield running


@pytest.fixture
def open_page(server: ServerProcess, browser: Browser) -> Iterator[Open]:
    """Return a function that opens pages, with options of a browser's context; they are watched until the end."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(
            visiting(browser, f"http://127.0.0.1:{server.port}", **{"reduced_motion": "reduce", **options})
        )


@pytest.fixture
def visit(open_page: Open) -> Visit:
    """Return a page of the usual size."""
    return open_page()


HOSTILE_TEXT = "A dog barks <b>loudly</b> <script>alert(2)</script> \u202e backwards."


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with files whose names try to be something else, and a store of them."""
    for package in ("fastapi", "uvicorn", "playwright"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "media").mkdir()
    for number, name in enumerate(HOSTILE_NAMES):
        (folder / "media" / name).write_text(f"{HOSTILE_TEXT} Number {number}.")
    picture = Image.radial_gradient("L").convert("RGB")
    picture.save(folder / "media" / "<svg onload=alert(3)>.png")
    connect(folder / "store", encoder="mini").index(folder / "media")
    return folder


@pytest.fixture
def hostile_visit(hostile: Path, browser: Browser) -> Iterator[Visit]:
    """Return a page of the store with hostile names."""
    with serving(hostile / "store") as running, visiting(browser, f"http://127.0.0.1:{running.port}") as visit:
        yield visit
