"""Completion in shells, as they ask for it: by a process with the words of the command line in its environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.stores import connect

PROGRAM = str(Path(sys.executable).with_name("bindsearch"))
Complete = Callable[..., list[str]]


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that is indexed in the store beside it, with hostile names in it."""
    folder = tmp_path_factory.mktemp("completion") / "media"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.txt", "b.md", "deep/c.txt", "deep/d.txt", "$(touch x).txt", "`x`.txt", "q'uote.txt", "li\nne.txt"):
        (folder / name).write_text(f"the text of {name}")
    with connect(folder.parent / "store", encoder="null") as store:
        store.index(folder)
    return folder


@pytest.fixture
def complete(media: Path, tmp_path: Path) -> Complete:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("BINDSEARCH_")},
        "BINDSEARCH_STORE": str(media.parent / "store"),
        "BINDSEARCH_CONFIG": str(tmp_path / "config.toml"),
        "BINDSEARCH_MODELS": str(tmp_path / "models"),
        "XDG_DATA_HOME": str(tmp_path / "data"),
    }

    def run(*words: str, shell: str = "bash", cwd: Path = media, **variables: str) -> list[str]:
        line = {"COMP_WORDS": "\n".join(["bindsearch", *words]), "COMP_CWORD": str(len(words))}
        if shell != "bash":
            line = {"_TYPER_COMPLETE_ARGS": " ".join(["bindsearch", *words]), "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
        asked = {**environment, "_BINDSEARCH_COMPLETE": f"complete_{shell}", **line, **variables}
        done = subprocess.run([PROGRAM], env=asked, cwd=cwd, capture_output=True, text=True, timeout=60)
        assert done.stderr == ""
        return [line for line in done.stdout.splitlines() if line]

    return run


def test_commands_and_options(complete: Complete) -> None:
    assert complete("sea") == ["search"]
    assert complete("search", "--mi") == ["--min-match"]
    assert complete("config", "se") == ["set"]


def test_values_of_options(complete: Complete, tmp_path: Path) -> None:
    assert complete("search", "--to", "im") == ["image", "imu"]
    assert complete("search", "--to", "image,so") == ["image,sounds"]
    assert "image,image" not in complete("search", "--to", "image,")
    assert complete("search", "--to=te") == ["text"]
    assert complete("search", "--ranking", "p") == ["probability", "per-modality"]
    assert complete("search", "--min-match", "s") == ["strong"]
    assert complete("index", "--encoder", "") == ["mini"]
    assert complete("bind", "--hub", "") == ["mini"]
    assert complete("bind", "--modality", "th") == ["thermal"]
    assert complete("bind", "--re") == ["--restart", "--replace"]
    assert complete("config", "set", "search.ra") == ["search.ranking"]
    assert complete("config", "set", "min") == ["min-match"]
    (tmp_path / "config.toml").write_text('[options]\nk = 3\n[stores]\nphotos = "/photos"\n')
    assert complete("config", "unset", "") == ["k", "stores.photos"]
    (tmp_path / "photostore").mkdir()
    assert complete("search", "--store", "ph", cwd=tmp_path) == ["photos", "photostore"]


def test_indexed_paths_and_collections(complete: Complete, media: Path) -> None:
    assert complete("search", "--like", "deep/") == ["deep/c.txt", "deep/d.txt"]
    assert complete("search", "--like", f"{media}/deep/c") == [f"{media}/deep/c.txt"]
    assert complete("search", "--like", "../a", cwd=media / "deep") == ["../a.txt"]
    assert complete("search", "--like", "b", "--store", "nowhere") == []
    assert complete("search", "--collection", "m") == ["media"]
    assert complete("search", "--store", str(media.parent / "store"), "--like", "b", BINDSEARCH_STORE="") == ["b.md"]


def test_names_that_a_shell_would_read_are_not_offered(complete: Complete, media: Path) -> None:
    for shell in ("bash", "zsh", "fish"):
        offered = "\n".join(complete("search", "--like", "", shell=shell))
        assert not {*"`$\\"} & {*offered}
        assert "touch" not in offered
        assert "ne.txt" not in offered
    assert {*complete("search", "--like", "")} == {"a.txt", "b.md", "deep/c.txt", "deep/d.txt"}


def test_filters(complete: Complete) -> None:
    assert complete("search", "--where", "dur") == ["duration_s"]
    assert complete("search", "--where", "'width_px > 3 and ext") == ["width_px > 3 and extension"]
    assert complete("search", "--where", "\"modality = 'im") == ["modality = 'image'", "modality = 'imu'"]
    assert complete("search", "--where", "extension=") == ["extension='txt'", "extension='md'"]


def test_values_of_columns_of_the_user(complete: Complete, media: Path, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    speakers = {"a": "Ada", "b": "Ada", "c": "Bob", "d": "$(x)"}
    for name in speakers:
        (tmp_path / "files" / f"{name}.txt").write_text(name)
    rows = "\n".join(json.dumps({"path": f"{name}.txt", "speaker": speaker}) for name, speaker in speakers.items())
    (tmp_path / "files" / "list.jsonl").write_text(rows)
    with connect(tmp_path / "store", encoder="null") as store:
        store.index(tmp_path / "files" / "list.jsonl")
    variables = {"BINDSEARCH_STORE": str(tmp_path / "store")}
    assert complete("search", "--where", "spe", **variables) == ["speaker"]
    assert complete("search", "--where", "speaker=", **variables) == ["speaker='Ada'", "speaker='Bob'"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells(complete: Complete, shell: str) -> None:
    offered = complete("search", "--to", "im", shell=shell)
    assert "image" in offered[0]
    assert "imu" in "".join(offered)


def test_nothing_is_printed_where_something_is_wrong(complete: Complete, media: Path, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[options\n")
    assert complete("search", "--to", "im") == ["image", "imu"]
    assert complete("search", "--store", "xy") == []
    assert complete("config", "unset", "") == []
    damaged = tmp_path / "damaged"
    shutil.copytree(media.parent / "store", damaged)
    for path in damaged.rglob("*.arrow"):
        path.write_bytes(b"damaged")
    for store in (damaged, tmp_path / "none", tmp_path / "config.toml"):
        assert complete("search", "--like", "", BINDSEARCH_STORE=str(store)) == []
        assert complete("search", "--where", "dur", BINDSEARCH_STORE=str(store)) == ["duration_s"]
    assert "search" in complete("serch", "--like", "")
    assert complete("search", "--nosuch", "x", "--to", "im") == ["image", "imu"]


LOADED = """
import sys
from bindsearch.cli.main import main
try:
    main([])
except SystemExit:
    pass
heavy = ("torch", "duckdb", "faiss", "av", "PIL", "scipy", "tomlkit")
print("loaded:", *(name for name in heavy if name in sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize("words", [["--to", "im"], ["--where", "dur"], ["--like", "a"], ["--store", "a"], ["--rank"]])
def test_nothing_heavy_is_imported(media: Path, words: list[str]) -> None:
    words = ["bindsearch", "search", *words]
    environment = {
        **os.environ,
        "BINDSEARCH_STORE": str(media.parent / "store"),
        "_BINDSEARCH_COMPLETE": "complete_bash",
        "COMP_WORDS": "\n".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run([sys.executable, "-c", LOADED], env=environment, cwd=media, capture_output=True, text=True)
    assert done.stderr == "loaded:\n"
    assert done.stdout.strip() or words[-2] == "--store"


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_install_in_bash(tmp_path: Path, media: Path) -> None:
    environment = {
        "PATH": f"{Path(PROGRAM).parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "BINDSEARCH_STORE": str(media.parent / "store"),
    }
    install = ["bash", "-c", "bindsearch --install-completion; exit $?"]
    done = subprocess.run(install, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "bash completion installed in" in done.stdout
    script = """
        source ~/.bashrc
        COMP_WORDS=(bindsearch search --like deep/) COMP_CWORD=3
        "$(complete -p bindsearch | sed 's/.*-F \\([^ ]*\\) .*/\\1/')" bindsearch
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(["bash", "-c", script], env=environment, cwd=media, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("deep/c.txt\ndeep/d.txt\n", "")
