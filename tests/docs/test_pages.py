"""Every command and every Python block of the README and of docs/ works as printed, with the default encoder.

The pages of formats and sensors, which need media of their own, have tests of their own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from urllib.request import urlopen

import pytest

from helpers.pages import (
    Block,
    become_user,
    blocks_of,
    check_block,
    check_options,
    commands_of,
    first_difference,
    run_page,
)
from helpers.postgres import running_postgres
from helpers.qdrant_http import running_qdrant
from helpers.stores import connect

PROJECT = Path(__file__).parents[2]
DOCS = PROJECT / "docs"
OWN_TESTS = {"formats.md", "sensors.md"}
REFERENCE = {"cli.md", "api.md"}
PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
SERVED = DOCS / "page.md"
SERVER = "http://127.0.0.1:8642"
"""Address of the server in the page about it."""
ENGINES = DOCS / "engines.md"
RUN = [
    page
    for page in PAGES
    if page.name not in OWN_TESTS | REFERENCE | {SERVED.name, ENGINES.name} and blocks_of(page.read_text("utf-8"))
]
FROM_SCRATCH = {"README.md", "index.md"}
"""Pages that a reader starts with: no store is there."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that pages are run in; what it begins with is beside it, see `fresh`."""
    root = tmp_path_factory.mktemp("pages")
    folder = root / "work"
    make_media = [sys.executable, str(PROJECT / "examples" / "make_media.py"), str(folder / "demo")]
    subprocess.run(make_media, check=True, capture_output=True)
    with connect(folder / "store") as store:
        store.index(folder / "demo" / "media")
    folder.rename(root / "first")
    return folder


@pytest.fixture
def environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Set up the environment of a user whose home is the folder, and return what differs from this process's."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(folder.parent / "first", folder)
    yield become_user(folder, monkeypatch)
    shutil.rmtree(folder)


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_a_page_runs_as_printed(page: Path, folder: Path, environment: dict[str, str]) -> None:
    if page.name in FROM_SCRATCH:
        shutil.rmtree(folder / "store")
    run_page(page.read_text("utf-8"), folder, environment)


def test_the_page_about_the_server_runs_as_printed(folder: Path, environment: dict[str, str]) -> None:
    text = SERVED.read_text("utf-8")
    with served(environment) as address:
        run_page(text.replace(SERVER, address), folder, environment)
        with urlopen(f"{address}/api/openapi.json") as answer:
            described = json.load(answer)["paths"]
    endpoints = {
        (method.upper(), path) for path, methods in described.items() for method in methods if method != "head"
    }
    assert {*re.findall(r"^\| `(GET|POST) (/api[^`?]*)", text, re.MULTILINE)} == endpoints


def test_the_page_about_engines_runs_as_printed(
    folder: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in ("psycopg", "qdrant_client", "qdrant_edge"):
        pytest.importorskip(module, reason="the extras [qdrant] and [pgvector] are not installed")
    text = ENGINES.read_text("utf-8")
    with running_postgres(tmp_path / "pg") as uri, running_qdrant() as qdrant:
        variables = {"PGHOST": str(tmp_path / "pg"), "PGUSER": "postgres", "PGDATABASE": "postgres"}
        assert variables["PGHOST"] in uri
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        text = text.replace("postgresql://localhost/media", "postgresql://").replace(
            "http://localhost:6333", qdrant.url
        )
        run_page(text, folder, environment | variables)


def test_the_keys_of_the_page_are_those_that_it_lists() -> None:
    page = (PROJECT / "bindsearch" / "server" / "web" / "index.html").read_text("utf-8")
    rows = re.findall(r"<dt>(.*?)</dt>", page)
    listed = [[unescape(key) for key in re.findall(r"<kbd>(.*?)</kbd>", row)] for row in rows]
    table = SERVED.read_text("utf-8").split("| key | does |\n| --- | --- |\n")[1].split("\n\n")[0]
    assert [re.findall(r"`(.+?)`", line.split(" | ")[0]) for line in table.splitlines()] == listed


@contextmanager
def served(environment: dict[str, str]) -> Iterator[str]:
    """Run `bindsearch serve` on the default store of an environment; yields its address."""
    command = [str(Path(sys.executable).with_name("bindsearch")), "serve", "--port", "0"]
    with subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            found = re.search(r"http://[\d.:]+", server.stdout.readline())
            assert found is not None
            yield found[0]
        finally:
            server.terminate()


@pytest.mark.parametrize("page", [DOCS / name for name in sorted(REFERENCE)], ids=lambda page: page.name)
def test_the_examples_of_a_reference_have_valid_options(page: Path) -> None:
    blocks = blocks_of(page.read_text("utf-8"))
    commands = [line for block in blocks if block.language == "sh" for line in commands_of(block)]
    for block in blocks:
        if block.language == "sh":
            lines = [line for line in commands_of(block) if "[OPTIONS]" not in line]
            check_block(Block("sh", "\n".join(lines), block.line))
    assert (len(commands) > 50) == (page.name == "cli.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_in_blocks_that_are_run(page: Path) -> None:
    """Commands and Python in blocks of other kinds, or indented, would not be checked."""
    text = page.read_text("utf-8")
    assert not re.findall(r"^ {4}(?:bindsearch |import bindsearch).*", text, re.MULTILINE)
    assert {*re.findall(r"^```(\S+)", text, re.MULTILINE)} <= {
        *("sh", "python", "text", "json", "csv", "toml", "gitignore")
    }
    reasons = [block.not_run for block in blocks_of(text) if block.not_run is not None]
    assert len(re.findall(r"^<!-- not run", text, re.MULTILINE)) == len(reasons)


def test_the_readme_is_short() -> None:
    lines = (PROJECT / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= 150
    assert next(number for number, line in enumerate(lines) if line.startswith("![")) <= 60


def test_the_demo_finds_what_it_should(tmp_path: Path) -> None:
    demo = [sys.executable, str(PROJECT / "examples" / "demo.py"), str(tmp_path / "demo")]
    done = subprocess.run(demo, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 of 5" in done.stdout


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("```sh\nbindsearch search --nothing\n```", "No such option: --nothing"),
        ("```sh\nbindsearch status\nbindsearch search dog -k 0\n```", "line 1: bindsearch search dog -k 0: 2"),
        ("```sh\nbindsearch index void --dry-run || exit 7\n```", ": 7"),
        ("<!-- exit code: 1 -->\n\n```sh\nbindsearch status\n```", "line 3: bindsearch status: 0"),
        ("```sh\necho 3 files\n```\n\n```text\n4 files\n```", "'4 files' is not in"),
        ("a\n\n```python\nprint(1)\n```\n\n```text\n2\n```", "'2' is not in"),
        ("<!-- not run: large -->\n\n```python\nbs.nothing()\n```", "line 3: bindsearch has no nothing"),
    ],
)  # fmt: skip
def test_a_page_that_is_wrong_fails(page: str, message: str, folder: Path, environment: dict[str, str]) -> None:
    with pytest.raises(AssertionError, match=re.escape(message)):
        run_page(page, folder, environment)


@pytest.mark.parametrize("arguments", [["search", "--nothing"], ["serch", "dog"], ["model", "pul"], ["index"]])
def test_wrong_options_of_what_is_not_run_are_found(arguments: list[str]) -> None:
    with pytest.raises(Exception, match=r"No such|Missing|no command"):
        check_options(arguments)


@pytest.mark.parametrize(
    ("shown", "printed", "missing"),
    [
        ("1  a.jpg  0.16", "1  a.jpg  0.163", None),
        ("1  a.jpg  0.16", "1  a.jpg  0.26", "1 a.jpg 0.16"),
        ("read in 0.5 s", "read in 12.25 s", None),
        ("a\n...\nd", "a\nb\nc\nd", None),
        ("a\nd", "a\nb\nc\nd", "d"),
        ("b", "a\nb", None),
        ("1  weak  █░░  a", "1  weak  ░░░  a", None),
        ("12 files", "13 files", "12 files"),
    ],
)
def test_output_is_compared_loosely(shown: str, printed: str, missing: str | None) -> None:
    assert first_difference(shown, printed) == missing
