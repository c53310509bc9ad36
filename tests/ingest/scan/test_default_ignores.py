"""What systems and programs keep beside people's files is left out, unless the collection says otherwise."""

from __future__ import annotations

import threading
import zipfile
from pathlib import Path

import pytest

import bindsearch as bs
from bindsearch.ingest.scan.default_ignores import FILES, FOLDERS, default_reason, is_in_default
from helpers.stores import connect


def test_names_are_compared_in_any_case() -> None:
    assert default_reason("Thumbs.DB", is_dir=False) == "ignored by default: thumbs.db, thumbnails of Windows"
    assert default_reason("@eaDir", is_dir=True) == "ignored by default: @eadir, thumbnails of a Synology NAS"
    assert default_reason("@eaDir", is_dir=False) is None
    assert default_reason("thumbs.db", is_dir=True) is None
    assert is_in_default("a/node_modules/b/c.png")
    assert is_in_default("a/desktop.ini")
    assert not is_in_default("node_modules")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "media"
    for folder in FOLDERS:
        (root / "sub" / folder.upper() / "photo.jpg").mkdir(parents=True)
        (root / "sub" / folder.upper() / "photo.jpg" / "words.txt").write_text(f"words of {folder}")
    for name in FILES:
        (root / name).write_text("words")
    (root / "photo.txt").write_text("a dog")
    (root / ".thumbnails").mkdir()
    (root / ".thumbnails" / "x.txt").write_text("hidden")
    return root


def test_they_are_left_out_and_included_again_by_a_line_or_a_setting(root: Path, tmp_path: Path) -> None:
    with connect(tmp_path / "store", encoder="null") as store:
        planned = {file.path.name: file.why for file in store.plan_index(root)}
        assert planned["@EADIR"] == "ignored by default: @eadir, thumbnails of a Synology NAS"
        report = store.index(root)
        assert report.added == 1
        assert report.skipped.total() == len(FOLDERS) + len(FILES) + 1
        assert {file.path.name.lower() for file in store.left_out()} == {*FOLDERS, *FILES, ".thumbnails"}
        (root / ".bindsearchignore").write_text("!@eaDir/\n!@EADIR/\n")
        assert store.index(root).added == 1
        (root / ".bindsearchignore").unlink()
        (root / ".bindsearch.toml").write_text("default_ignore = false\n")
        assert store.index(root).added == len(FOLDERS) - 1
        (root / "photo.txt").unlink()
        (root / ".bindsearch.toml").unlink()
        report = store.index(root)  # all that is left is ignored: no disk is away
        assert report.removed == len(FOLDERS) + 1 - 1
        assert store.status().items == {"text": 1}
        notice = next(notice for notice in report.notices if "ignored by default" in notice)
        assert notice.startswith(f"{len(FOLDERS)} indexed files are in {root / 'sub'}/")
        assert "to keep them, write !" in notice
        (root / "other.txt").write_text("a cat")
        assert store.index(root).removed == 1
        (root / ".bindsearch.toml").write_text("default_ignore = 1\n")
        with pytest.raises(bs.UsageError, match="default_ignore is 1: expected true or false"):
            store.index(root)


def test_changes_in_them_are_not_indexed(root: Path, tmp_path: Path) -> None:
    stop = threading.Event()
    reports: list[bs.IndexReport] = []

    def on_report(report: bs.IndexReport) -> None:
        reports.append(report)
        if len(reports) == 1:
            (root / "sub" / "@EADIR" / "new").mkdir()
            (root / "sub" / "@EADIR" / "new" / "new.txt").write_text("words of a thumbnail")
            (root / "new.txt").write_text("a horse")
        if sum(report.added for report in reports) == 2:
            stop.set()

    with connect(tmp_path / "store", encoder="null") as store:
        timer = threading.Timer(60, stop.set)
        timer.start()
        store.watch(root, on_report=on_report, stop=stop)
        timer.cancel()
        assert store.status().items == {"text": 2}


def test_members_of_archives_are_ignored_too(tmp_path: Path) -> None:
    root = tmp_path / "media"
    root.mkdir()
    with zipfile.ZipFile(root / "a.zip", "w") as archive:
        for name in ("a.txt", "@eaDir/a.txt/b.txt", "node_modules/c.txt", "__MACOSX/d.txt"):
            archive.writestr(name, f"words of {name}")
    (root / ".bindsearch.toml").write_text("default_ignore = false\n")
    with connect(tmp_path / "store", encoder="null") as store:
        assert store.index(root).added == 3
        (root / ".bindsearch.toml").unlink()
        (root / "a.zip").touch()
        assert store.index(root).removed == 2
