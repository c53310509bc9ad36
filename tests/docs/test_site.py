"""The site is built without a warning, from all pages, and loads nothing from other hosts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
LOADED = re.compile(r"<(?:script|img|link|iframe|source)\b[^>]*?(?:src|href)=\"?((?:https?:)?//[^\">\s]+)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_there(site: Path) -> None:
    pages = {f"{page.stem}.html" for page in (PROJECT / "docs").glob("*.md")}
    assert {page.name for page in site.glob("*.html")} == pages | {"404.html"}
    assert not [*site.rglob("*.py"), *site.rglob("__pycache__")]


def test_nothing_is_loaded_from_other_hosts(site: Path) -> None:
    found = {page.name: LOADED.findall(page.read_text("utf-8")) for page in site.glob("*.html")}
    assert found == {name: [] for name in found}
    styles = "".join(path.read_text("utf-8") for path in site.rglob("*.css"))
    assert not re.findall(r"(?:@import|url\()[^;)]*//", styles)


def test_the_search_knows_the_pages(site: Path) -> None:
    index = (site / "search" / "search_index.json").read_text("utf-8")
    for word in ("queries.html", "encoders.html#mini", "cli.html#bindsearch-search"):
        assert word in index


def test_what_loads_from_other_hosts_is_found() -> None:
    assert LOADED.findall('<link rel="x" href="https://fonts.example/css">') == ["https://fonts.example/css"]
    assert LOADED.findall("<script src=//cdn.example/a.js>") == ["//cdn.example/a.js"]
    assert LOADED.findall('<a href="https://a.example">') == []
