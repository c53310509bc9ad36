"""Bounds of uploads: sizes, numbers, age, names."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bindsearch.server import uploads
from bindsearch.server.limits import Refusal
from bindsearch.server.uploads import Uploads, safe_name
from bindsearch.types import Modality


async def body(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def send(kept: Uploads, *chunks: bytes) -> str:
    key, path = asyncio.run(kept.receive("a.txt", body(*chunks)))
    assert path.read_bytes() == b"".join(chunks)
    return kept.keep(key, "a.txt", path, Modality.TEXT).key


def refused(kept: Uploads, *chunks: bytes) -> int:
    with pytest.raises(Refusal) as caught:
        asyncio.run(kept.receive("a.txt", body(*chunks)))
    return caught.value.status


def test_files_are_bounded_in_size_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_UPLOAD_BYTES", 10)
    monkeypatch.setattr(uploads, "MAX_UPLOADS_BYTES", 15)
    monkeypatch.setattr(uploads, "MAX_UPLOADS", 3)
    kept = Uploads()
    try:
        assert oct(kept.folder.stat().st_mode)[-3:] == "700"
        assert refused(kept, b"12345678", b"901") == 413
        first = send(kept, b"12345", b"67890")
        assert refused(kept, b"123456") == 507
        send(kept, b"1")
        send(kept, b"2")
        assert refused(kept, b"3") == 507
        kept.discard(first)
        send(kept, b"3")
        assert len([*kept.folder.glob("*/*")]) == 3
    finally:
        kept.close()
    assert not kept.folder.exists()


def test_files_of_a_server_that_was_killed_are_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed, fresh, foreign = (tmp_path / f"bindsearch-uploads-{name}" for name in ("killed", "fresh", "foreign"))
    for folder in (killed, fresh):
        (folder / "key").mkdir(parents=True)
        (folder / "key" / "a.txt").write_text("1")
        (folder / "lock").touch()
    foreign.mkdir()
    running = Uploads()
    key = send(running, b"1")
    for folder in (killed, foreign, running.folder):
        os.utime(folder, (time.time() - 100,) * 2)
    (tmp_path / "bindsearch-uploads-link").symlink_to(fresh)
    later = Uploads()
    try:
        assert not killed.exists()
        assert (fresh / "key" / "a.txt").exists()  # its server may be about to lock it
        assert foreign.exists()
        assert running.find(key).path.exists()
    finally:
        later.close()
        running.close()
    assert not running.folder.exists()


def test_files_are_removed_after_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Uploads()
    try:
        key = send(kept, b"1")
        assert kept.find(key).size_bytes == 1
        now_s = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now_s + 3601)
        with pytest.raises(Refusal, match="there is no such upload"):
            kept.find(key)
        assert [*kept.folder.glob("*/*")] == []
    finally:
        kept.close()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.png", "a.png"),
        ("../a.png", "_a.png"),
        ("/etc/passwd", "_etc_passwd"),
        (".bindsearch.toml", "bindsearch.toml"),
        ("...", "upload"),
        ("", "upload"),
        ("a\0.png", "a_.png"),
        ("é" * 200 + ".png", "é" * 98 + ".png"),
        ("a." + "x" * 300, "a"),
    ],
)
def test_a_copy_has_a_safe_name(name: str, expected: str) -> None:
    assert safe_name(name) == expected
    assert len(os.fsencode(safe_name(name))) <= 200
