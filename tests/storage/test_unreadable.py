"""A file that cannot be read now is not lost: every command says so and gives nothing up."""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bindsearch as bs
from bindsearch.errors import StoreError
from bindsearch.operations.verify.findings import FindingKind, Repair
from helpers.stores import connect

ERRORS = (errno.EACCES, errno.EIO, errno.EMFILE, errno.ENOMEM, errno.ESTALE)

PARTS = ("vectors/text/", "CURRENT", "segments.arrow", "digests.json", "store.json")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a store of two batches of texts, and their folder."""
    folder = tmp_path_factory.mktemp("unreadable")
    media = folder / "media"
    media.mkdir()
    with connect(folder / "store", encoder="null") as store:
        for n in range(20):
            (media / f"{n}.txt").write_text(f"text number {n}")
            if n in (9, 19):
                store.index(media)
        (media / "later.txt").write_text("not indexed yet")
    return folder / "store", media


@pytest.fixture
def store(made: tuple[Path, Path], tmp_path: Path) -> Path:
    shutil.copytree(made[0], tmp_path / "store")
    return tmp_path / "store"


def fail_to_open(monkeypatch: pytest.MonkeyPatch, part: str, number: int) -> None:
    """Let each opening for reading of files whose path contains `part` fail with an errno."""
    real_open, real_os_open = io.open, os.open

    def opened(path: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        if mode == "rb" and part in str(path):
            raise OSError(number, os.strerror(number), str(path))
        return real_open(path, mode, *args, **options)

    def os_opened(path: Any, flags: int, *args: Any, **options: Any) -> int:
        if part in str(path) and not flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(number, os.strerror(number), str(path))
        return real_os_open(path, flags, *args, **options)

    monkeypatch.setattr(io, "open", opened)
    monkeypatch.setattr(os, "open", os_opened)


COMMANDS: dict[str, Callable[[bs.Store, Path, Path], object]] = {
    "search": lambda store, _media, _place: store.search("text number 1"),
    "status": lambda store, _media, _place: store.status(),
    "index": lambda store, media, _place: store.index(media),
    "retry": lambda store, _media, _place: store.retry(),
    "forget": lambda store, media, _place: store.forget(media / "3.txt"),
    "optimize": lambda store, _media, _place: store.optimize(),
    "compact": lambda store, _media, _place: store.compact(),
    "recover": lambda store, _media, _place: store.recover(),
    "export": lambda store, _media, place: store.export(place / "out"),
    "duplicates": lambda store, _media, _place: store.near_duplicates(),
}


def error_of(call: Callable[[], object]) -> str:
    """Return the message of the StoreError that a call raises; "" if it raises none."""
    try:
        call()
    except StoreError as error:
        return str(error)
    return ""


def cases() -> Iterator[Any]:
    """Each errno at each open of each command: of those, `make test` runs one errno for each pair of the others."""
    for row, command in enumerate(COMMANDS):
        for column, part in enumerate(PARTS):
            for number in ERRORS:
                chosen = number == ERRORS[(row + column) % len(ERRORS)]
                marks = () if chosen else (pytest.mark.slow,)
                yield pytest.param(command, part, number, marks=marks, id=f"{command}-{part}-{errno.errorcode[number]}")


def stored_files(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in (store / "vectors").rglob("*.arrow")}


@pytest.mark.parametrize(("command", "part", "number"), list(cases()))
def test_what_cannot_be_read_now_is_kept(
    command: str, part: str, number: int, store: Path, made: tuple[Path, Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    before = stored_files(store)
    with connect(store, encoder="null") as opened:
        with monkeypatch.context() as patch:
            fail_to_open(patch, part, number)
            error = error_of(lambda: COMMANDS[command](opened, made[1], tmp_path))
        if error:
            assert "\n" not in error
            assert os.strerror(number) in error
            assert "damaged" not in error
        after = stored_files(store)
        if command in ("index", "retry", "forget", "compact", "recover", "optimize") and after != before:
            assert command == "forget" or part != "vectors/text/"
        else:
            assert after == before
        assert not (store / "lost").exists()
        assert opened.index(made[1]).changed == 0  # nothing had to be embedded again
        assert opened.verify().findings == ()
        found = {hit.path.name for hit in opened.search("text number 1", to="text", k=100)}
        assert found == {path.name for path in made[1].iterdir()}


def test_verify_reports_what_it_cannot_read_and_goes_on(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = stored_files(store)
    with connect(store, encoder="null") as opened:
        for part, number in zip(PARTS, ERRORS, strict=True):
            with monkeypatch.context() as patch:
                fail_to_open(patch, part, number)
                report = opened.verify()
            unreadable = [one for one in report.findings if one.kind is FindingKind.FILE_UNREADABLE]
            assert len(report.findings) == len(unreadable) > 0
            for one in unreadable:
                assert one.repair is Repair.BY_HAND
                assert f" cannot be read ({os.strerror(number)}): " in one.message
        assert opened.verify().findings == ()
    assert stored_files(store) == before


@pytest.fixture
def unreadable_file(store: Path) -> Iterator[Path]:
    path = min((store / "vectors" / "text").iterdir())
    path.chmod(0)
    yield path
    path.chmod(0o600)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
@pytest.mark.parametrize("command", [["search", "text"], ["index", "MEDIA"], ["compact"], ["forget", "MEDIA/3.txt"]])
def test_a_vector_file_of_another_user_ends_the_command_with_its_own_text(
    command: list[str], store: Path, made: tuple[Path, Path], unreadable_file: Path,
    bindsearch_command: Callable[[list[str | Path]], subprocess.CompletedProcess[str]],
) -> None:  # fmt: skip
    words = [word.replace("MEDIA", str(made[1])) for word in command]
    done = bindsearch_command([*words, "--store", store])
    assert done.returncode == 5
    assert done.stderr.count("\n") == 1
    assert "Permission denied" in done.stderr
    assert unreadable_file.exists()
