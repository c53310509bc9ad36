"""Libraries that are missing, cut off or do not fit one another: one line, exit code 5, and no file is blamed."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from PIL import Image

import bindsearch as bs
from bindsearch import environment
from bindsearch.encoders.null import NullEncoder
from bindsearch.encoders.openclip.encoder import OpenClipEncoder
from bindsearch.environment import (
    FITS,
    check_libraries,
    does_fit,
    failed_module,
    installation_faults,
    is_installation_failure,
    is_truncated_elf,
    repair_command,
)
from bindsearch.errors import InstallationError
from bindsearch.media import Media, Sound
from helpers.broken_library import break_library
from helpers.heic_file import write_heic

ENCODER = {"av": "null", "soundfile": "null", "faiss": "null", "torchaudio": "mini"}


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "note.txt").write_text("a dog runs on the beach")
    Image.fromarray(np.random.default_rng(3).integers(0, 255, (24, 32, 3), np.uint8)).save(folder / "photo.png")
    soundfile.write(folder / "noise.wav", np.random.default_rng(9).uniform(-0.5, 0.5, 16_000), 16_000)
    return folder


def run(
    place: Path, arguments: list[str | Path], variables: Mapping[str, str], broken: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command with `broken` first on the path."""
    command = [str(Path(sys.executable).with_name("bindsearch")), *map(str, arguments)]
    found = {"PYTHONPATH": str(broken)} if broken is not None else {}
    environ = {**os.environ, "BINDSEARCH_STORE": str(place / "store"), "COLUMNS": "200", **found, **variables}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=300)


def is_one_line_about(done: subprocess.CompletedProcess[str], module: str) -> bool:
    distribution = environment.distribution_of(module)
    version = metadata.version(distribution)
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("watching ")]
    names_versions = f"{distribution} {version}" in line
    if module in FITS:
        names_versions &= f"torch {metadata.version('torch')}" in line
    return names_versions and line.startswith("bindsearch: ")


def contents(store: Path) -> dict[str, bytes]:
    """All files of a store but the note of who writes."""
    return {
        str(path): path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file() and "lock" not in path.name
    }


@pytest.mark.parametrize(
    ("module", "how"),
    [(module, "cut off") for module in sorted(ENCODER)] + [("av", "ImportError"), ("torchaudio", "OSError")],
)
def test_index_ends_before_anything_is_written(tmp_path: Path, media: Path, module: str, how: str) -> None:
    broken = break_library(tmp_path / "broken", module, how)
    done = run(tmp_path, ["index", media, "--encoder", ENCODER[module]], {}, broken)
    assert done.returncode == 5, done.stderr
    assert is_one_line_about(done, module), done.stderr
    if how == "cut off":
        assert f"pip install --force-reinstall --no-deps {environment.distribution_of(module)}==" in done.stderr
    else:
        assert f"it is imported from {broken / module}.py, not from the installed package" in done.stderr
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("module", "how", "query"),
    [
        ("av", "cut off", ["--video", "clip.mp4"]),
        ("soundfile", "OSError", ["--audio", "noise.wav"]),
        ("torchaudio", "cut off", ["--audio", "noise.wav"]),
        ("faiss", "cut off", ["a dog"]),
    ],
)
def test_search_and_later_index(tmp_path: Path, media: Path, module: str, how: str, query: list[str]) -> None:
    """A search that needs the library says so, and an index run over a store that exists leaves it as it was."""
    if module == "av":
        shutil.copy(media / "noise.wav", media / "clip.mp4")  # what it holds does not matter here
    made = run(tmp_path, ["index", media / "note.txt", "--encoder", ENCODER[module]], {})
    assert made.returncode == 0, made.stderr
    broken = break_library(tmp_path / "broken", module, how)
    arguments = [media / word if (media / word).is_file() else word for word in query]
    check_commands(tmp_path, [["search", *arguments], ["index", media]], module, broken, {})


def check_commands(
    place: Path, commands: list[list[str | Path]], module: str, broken: Path, variables: Mapping[str, str]
) -> None:
    """Each command ends with one line about the module, and changes nothing."""
    before = contents(place / "store")
    for command in commands:
        done = run(place, command, variables, broken)
        assert done.returncode == 5, done.stderr
        assert is_one_line_about(done, module), done.stderr
    assert contents(place / "store") == before
    assert run(place, ["status", "--failed"], variables).stdout == ""


ASKS_FOR_TORCHVISION = """
import sys, threading, types
import bindsearch as bs
from bindsearch.encoders.null import NullEncoder
class Encoder(NullEncoder):
    libraries = dict.fromkeys(NullEncoder.modalities, ("torchvision",))

media, place = sys.argv[1:]
store = bs.connect(place, encoder=Encoder())
query = bs.audio(f"{media}/noise.wav")
for command in (
    lambda: store.index(media),
    lambda: store.search(query),
    lambda: store.watch(media, on_report=print, stop=threading.Event()),
):
    try:
        command()
    except bs.InstallationError as error:
        print(f"bindsearch: {error}", file=sys.stderr)
"""


def test_torchvision_that_does_not_fit(tmp_path: Path, media: Path) -> None:
    assert all("torchvision" in modules for modules in OpenClipEncoder.libraries.values())
    bs.connect(tmp_path / "store", encoder="null").index(media / "note.txt")
    before = contents(tmp_path / "store")
    broken = break_library(tmp_path / "broken", "torchvision", "cut off")
    command = [sys.executable, "-c", ASKS_FOR_TORCHVISION, str(media), str(tmp_path / "store")]
    environ = {**os.environ, "PYTHONPATH": str(broken)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=300)
    lines = done.stderr.splitlines()
    assert len(lines) == 3, done.stderr
    for line in lines:
        assert is_one_line_about(subprocess.CompletedProcess((), 5, "", line), "torchvision"), line
    assert contents(tmp_path / "store") == before


@pytest.mark.parametrize(
    ("module", "how"),
    [("av", "ImportError"), ("soundfile", "cut off"), ("faiss", "OSError"), ("torchaudio", "OSError")],
)
def test_watch_ends(tmp_path: Path, media: Path, module: str, how: str) -> None:
    broken = break_library(tmp_path / "broken", module, how)
    done = run(tmp_path, ["watch", media, "--encoder", ENCODER[module]], {}, broken)
    assert done.returncode == 5, done.stderr
    assert is_one_line_about(done, module), done.stderr
    assert not (tmp_path / "store").exists()


def test_what_needs_no_broken_library_goes_on(tmp_path: Path, media: Path) -> None:
    made = run(tmp_path, ["index", media / "note.txt", "--encoder", "null"], {})
    assert made.returncode == 0, made.stderr
    broken = tmp_path / "broken"
    broken.mkdir()
    for module in ("av", "soundfile", "torchaudio", "torch"):
        (broken / f"{module}.py").write_text("raise ImportError('cannot be loaded')")
    searched = run(tmp_path, ["search", "a dog", "--paths"], {}, broken)
    assert searched.returncode == 0, searched.stderr
    assert "note.txt" in searched.stdout


def test_a_missing_library_is_named_with_what_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(break_library(tmp_path / "broken", "watchfiles", "missing")))
    monkeypatch.delitem(sys.modules, "watchfiles", raising=False)
    monkeypatch.setattr(environment, "version_of", lambda _distribution: None)
    with pytest.raises(
        InstallationError, match=r"^the library watchfiles is missing .*: pip install 'watchfiles<2,>=1.1'$"
    ):
        check_libraries(["watchfiles"])


class Deaf(NullEncoder):
    """An encoder whose preprocessing fails to load a library, in a process of its own as well."""

    def prepare(self, media: Media) -> NDArray[Any]:
        if isinstance(media, Sound):
            importlib.import_module("broken_late")
        return super().prepare(media)


def test_a_library_that_fails_late_ends_the_run_and_blames_no_file(
    tmp_path: Path, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "late"
    broken.mkdir()
    (broken / "broken_late.py").write_text("raise OSError('libstub.so: undefined symbol: stub')")
    monkeypatch.syspath_prepend(str(broken))
    store = bs.connect(tmp_path / "store", encoder=Deaf())
    with pytest.raises(InstallationError, match=r"broken_late .*undefined symbol: stub"):
        store.index(media)
    later = bs.connect(tmp_path / "store", encoder=Deaf())
    assert later.status().failures == ()
    with pytest.raises(InstallationError, match="broken_late"):
        later.search(bs.audio(media / "noise.wav"))
    with pytest.raises(InstallationError, match="broken_late"):
        later.watch(media, on_report=lambda _report: None, stop=threading.Event())


@pytest.mark.parametrize(
    "reason",
    [
        "cannot be decoded as audio: Could not load this library: /venv/torchaudio/lib/libtorchaudio.so",
        "cannot be decoded as video: No module named 'av'",
        "ImportError: /venv/av/_core.so: undefined symbol: av_stub",
        "cannot be decoded as audio: sndfile library not found using ctypes.util.find_library",
    ],
)
def test_files_that_failed_for_a_library_are_tried_again(tmp_path: Path, media: Path, reason: str) -> None:
    (media / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    (media / "worse.jpg").write_bytes(b"\xff\xd8\xff\xe0 none either")
    store = bs.connect(tmp_path / "store", encoder="null")
    truth = {failure.path.name: failure.reason for failure in store.index(media).failures}
    store.close()
    with duckdb.connect(tmp_path / "store" / "catalog.duckdb") as catalog:
        catalog.execute("UPDATE failures SET reason = ? WHERE rel_path = 'bad.jpg'", [reason])
        catalog.execute("UPDATE failures SET reason = 'as it was' WHERE rel_path = 'worse.jpg'")
    report = bs.connect(tmp_path / "store").index(media)
    assert {failure.path.name: failure.reason for failure in report.failures} == {
        "bad.jpg": truth["bad.jpg"],
        "worse.jpg": "as it was",
    }


def test_index_tries_files_again_once_their_extra_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("pi_heif")
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("import sys\nsys.modules['pi_heif'] = None\n")
    (tmp_path / "media").mkdir()
    write_heic(tmp_path / "media" / "a.heic")
    (tmp_path / "media" / "note.txt").write_text("a note")
    index: list[str | Path] = ["index", tmp_path / "media", "--encoder", "null", "--json"]
    for times in range(2):  # while the extra is missing, the file is not tried again
        done = run(tmp_path, index, {}, hidden)
        assert (done.returncode, json.loads(done.stdout)["added"]) == (3, 1 - times), done.stderr
        assert "HEIC images need the extra [heic]: pip install 'bindsearch[heic]'" in done.stderr
    done = run(tmp_path, index, {})
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["added"], report["unchanged"], report["failed"]) == (1, 1, 0)


def test_an_extra_that_has_been_installed_since_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "HEIC pictures need the extra [heic]: pip install 'bindsearch[heic]'"
    found: dict[str, object] = {"pi_heif": object(), "rawpy": None}
    monkeypatch.setattr(environment, "find_spec", found.get)
    assert is_installation_failure(reason)
    assert not is_installation_failure(reason.replace("heic", "raw"))


@pytest.mark.parametrize("reason", ["damaged JPEG header (broken)", "the file is empty", "not a regular file", ""])
def test_other_reasons_are_not_the_installations(reason: str) -> None:
    assert not is_installation_failure(reason)


def test_failed_module() -> None:
    def error_of(act: Callable[[], object]) -> Exception:
        try:
            act()
        except Exception as error:
            return error
        raise AssertionError("nothing was raised")

    def import_missing() -> None:
        importlib.import_module("no_such_module_at_all")

    assert failed_module(error_of(import_missing)) == "no_such_module_at_all"
    assert failed_module(error_of(lambda: Path("/no/such/file").read_bytes())) is None
    assert failed_module(error_of(lambda: 1 / 0)) is None
    with pytest.raises(ZeroDivisionError), installation_faults():
        _ = 1 / 0


def test_versions_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert does_fit("torchaudio", "2.11.1", "2.14.1+cu130")
    assert does_fit("torchaudio", "2.11.0", "2.11.0+cpu")
    assert not does_fit("torchaudio", "2.11.1", "2.11.0")
    assert not does_fit("torchvision", "0.29.1", "2.11.0")
    assert not does_fit("torchvision", "0.29.2", "2.14.1")
    assert does_fit("torchvision", metadata.version("torchvision"), metadata.version("torch"))
    assert does_fit("torchaudio", metadata.version("torchaudio"), metadata.version("torch"))
    versions = {"torch": "2.11.0", "torchaudio": "2.11.1", "torchvision": "0.29.1"}
    monkeypatch.setattr(environment, "version_of", versions.get)
    assert repair_command("torchaudio") == "pip install 'torchaudio==2.11.0' 'torch==2.11.0'"
    assert repair_command("torchvision") == "pip install 'torchvision==0.26.*' 'torch==2.11.0'"


def test_every_cut_of_a_library_is_seen(tmp_path: Path) -> None:
    spec = find_spec("av._core")
    assert spec is not None
    assert spec.origin is not None
    whole = Path(spec.origin).read_bytes()
    path = tmp_path / "library.so"
    for size in (10, 63, 200, 4_096, 20_000, len(whole) // 2):
        path.write_bytes(whole[:size])
        assert is_truncated_elf(path), size
    path.write_bytes(whole)
    assert not is_truncated_elf(path)
    path.write_bytes(b"/* a linker script */ GROUP ( libstub.so.1 )")
    assert not is_truncated_elf(path)
