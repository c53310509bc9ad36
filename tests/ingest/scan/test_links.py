"""Links to files are followed; what never ends, under whatever name, fails or is skipped at once with a reason."""

from __future__ import annotations

import json
import os
import socket
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bindsearch.errors import UsageError
from bindsearch.ingest.scan.walk import may_be_unmounted
from bindsearch.small_files import open_regular, read_small_file
from helpers.stores import connect

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)  # the path itself may be too long
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{folder}/{path.name}")
    os.close(folder)


def link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


ENDLESS = {
    "fifo": make_fifo,
    "socket": make_socket,
    "zero": link_to("/dev/zero"),
    "kernel log": link_to("/proc/kmsg"),
    "kernel file": link_to("/proc/version"),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_what_is_no_file_is_not_read(tmp_path: Path, kind: str) -> None:
    ENDLESS[kind](tmp_path / "x")
    with pytest.raises(OSError, match=r"not a regular file|No such device|Permission denied|not permitted"):
        read_small_file(tmp_path / "x")


def test_a_file_is_read_from_its_beginning_whether_it_is_empty_or_not(tmp_path: Path) -> None:
    for content in (b"", b"content"):
        (tmp_path / "x").write_bytes(content)
        with open_regular(tmp_path / "x") as file:
            assert file.read() == content


def test_links_to_files_are_followed_and_all_others_fail_with_a_reason(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (tmp_path / "note.txt").write_text("a dog")
    (root / "good.txt").symlink_to(tmp_path / "note.txt")
    (root / "folder.txt").symlink_to(root / "folder")
    (root / "ignored.log").symlink_to("/dev/null")
    make_fifo(root / "pipe.txt")
    make_fifo(tmp_path / "pipe")
    bad = {}
    for suffix in ("txt", "csv", "jsonl", "parquet", "zip", "tar.gz", "npy", "jpg"):
        for name, target in (("k", "/proc/kmsg"), ("z", "/dev/zero"), ("p", str(tmp_path / "pipe"))):
            (root / f"{name}.{suffix}").symlink_to(target)
            bad[str(root / f"{name}.{suffix}")] = f"a link to {target}, which is not a regular file: remove it"
    with connect(tmp_path / "store") as store:
        planned = {str(file.path): file.why for file in store.plan_index(root)}
        for report in (store.index(root), store.retry(), store.index(root, retry_failed=True)):
            assert {str(failure.path): failure.reason for failure in report.failures} == bad
        assert store.status().items == {"text": 1}
        assert bad.keys() < planned.keys()
        (root / "k.txt").unlink()
        (root / "k.txt").write_text("a cat")
        report = store.index(root)
        assert report.added == 1
        assert len(report.failures) == len(bad) - 1


def test_links_to_one_file_are_items_that_share_its_vectors(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (root / "note.txt").write_text("a dog")
    (root / "folder" / "hard.txt").hardlink_to(root / "note.txt")
    (root / "folder" / "soft.txt").symlink_to("../note.txt")
    with connect(tmp_path / "store", encoder="null") as store:
        assert store.index(root).added == 3
        assert store.status().partitions[0].rows == 1
        (root / "note.txt").unlink()
        report = store.index(root)
        assert (report.removed, report.unchanged, report.notices) == (2, 1, [])
        assert report.skipped == {"a link to nothing": 1}
        assert [hit.path.name for hit in store.search("a dog")] == ["hard.txt"]


def test_what_is_no_file_is_left_out_with_what_it_is(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "other").mkdir()
    (root / "note.txt").write_text("a dog")
    (root / "nothing.jpg").symlink_to(tmp_path / "deleted.jpg")
    (root / "through.jpg").symlink_to(root / "note.txt" / "x.jpg")
    (root / "loop.jpg").symlink_to(root / "pool.jpg")
    (root / "pool.jpg").symlink_to(root / "loop.jpg")
    (root / "folder").symlink_to(tmp_path / "other")
    make_fifo(root / "pipe.wav")
    make_socket(root / "socket.wav")
    left_out = {
        "nothing.jpg": "a link to nothing",
        "through.jpg": "a link to nothing",
        "loop.jpg": "a loop of links",
        "pool.jpg": "a loop of links",
        "folder": "a link to a folder",
        "pipe.wav": "a named pipe",
        "socket.wav": "a socket",
    }
    with connect(tmp_path / "store", encoder="null") as store:
        planned = {file.path.name: file.why for file in store.plan_index(root)}
        assert left_out.items() <= planned.items()
        report = store.index(root)
        assert (report.added, report.failures, report.notices) == (1, [], [])
        assert {file.path.name: file.reason for file in store.left_out()} == left_out


def test_thousands_of_links_to_nothing_are_one_count(tmp_path: Path) -> None:
    root = tmp_path / "annex"
    (root / ".git" / "annex" / "objects").mkdir(parents=True)
    (root / "note.txt").write_text("a dog")
    for i in range(2000):
        (root / f"{i}.jpg").symlink_to(f".git/annex/objects/{i:03x}/SHA256E-s1--{i}/SHA256E-s1--{i}.jpg")
    (root / ".git" / "annex" / "config").write_text("")
    with connect(tmp_path / "store", encoder="null") as store:
        report = store.index(root)
        assert (report.added, report.failures, report.notices) == (1, [], [])
        assert report.skipped == {"a link to nothing": 2000, "hidden": 1}


@pytest.mark.parametrize("is_archive", [False, True])
def test_what_is_linked_from_a_disk_that_may_not_be_mounted_stays(tmp_path: Path, is_archive: bool) -> None:
    root, disk = tmp_path / "root", tmp_path / "disk"
    root.mkdir()
    disk.mkdir()
    (root / "note.txt").write_text("a cat")
    if is_archive:
        with zipfile.ZipFile(disk / "x.zip", "w") as archive:
            archive.writestr("a.txt", "a dog")
    else:
        (disk / "x.txt").write_text("a dog")
    (content,) = disk.iterdir()
    (root / content.name).symlink_to(content)
    with connect(tmp_path / "store", encoder="null") as store:
        assert store.index(root).added == 2
        aside = content.rename(tmp_path / content.name)
        for _ in range(2):
            report = store.index(root)
            (notice,) = report.notices
            assert notice == (
                f"a link to nothing, {root / content.name} to {content}: the 1 files indexed there stay in the store, "
                "since a disk may not be mounted; mount it, or run again with --prune"
            )
            assert report.removed == 0
        aside.rename(content)
        report = store.index(root)
        assert (report.unchanged, report.skipped) == (2, {})
        assert len(store.search("a")) == 2
        (disk / "another").write_text("")
        content.unlink()
        report = store.index(root)
        assert (report.removed, report.notices) == (1, [])


def test_without_a_disk_links_are_removed_only_with_prune(tmp_path: Path) -> None:
    root, disk = tmp_path / "root", tmp_path / "disk"
    root.mkdir()
    disk.mkdir()
    for i in range(3):
        (root / f"note {i}.txt").write_text(f"a cat {i}")
        (disk / f"{i}.txt").write_text(f"a dog {i}")
        (root / f"{i}.txt").symlink_to(disk / f"{i}.txt")
    with connect(tmp_path / "store", encoder="null") as store:
        assert store.index(root).added == 6
        for path in disk.iterdir():
            path.unlink()
        assert store.index(root).notices[0].startswith("3 links to nothing, such as ")
        assert store.index(root, prune=True).removed == 3


def test_targets_that_a_disk_may_be_mounted_at() -> None:
    for target in ("/media/someone/disk/a.jpg", "/nothing/here/a.jpg"):
        assert may_be_unmounted(target, "/usr")
    for target in ("/usr/bin/nothing", "/usr/nothing/at/all.jpg", "/x/.git/annex/objects/a/b/c.jpg"):
        assert not may_be_unmounted(target, "/usr")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_faults_of_permissions_are_told_apart(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("a", "b", "c"):
        (root / name).mkdir(parents=True)
        (root / name / "note.txt").write_text(f"a dog {name}")
    with connect(tmp_path / "store", encoder="null") as store:
        assert store.index(root).added == 3
        for name in ("a", "b"):
            (root / name).chmod(0)
        report = store.index(root)
        for name in ("a", "b"):
            (root / name).chmod(0o755)
        (notice,) = report.notices
        assert notice == (
            f"cannot read 2 files and folders, such as {root / 'a'} (Permission denied): the 2 files indexed there "
            "stay in the store; check the permissions"
        )


@pytest.mark.parametrize("kind", ENDLESS)
@pytest.mark.parametrize("name", [".bindsearch.toml", ".bindsearchignore"])
def test_rules_that_never_end_are_refused_with_one_line(tmp_path: Path, kind: str, name: str) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "note.txt").write_text("a dog")
    ENDLESS[kind](tmp_path / "root" / name)
    with connect(tmp_path / "store") as store, pytest.raises(UsageError, match=rf"^cannot read .*{name}: .*$"):
        store.index(tmp_path / "root")


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_sidecar_that_never_ends_fails_its_file_alone(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "note.txt").write_text("a dog")
    (root / "other.txt").write_text("a cat")
    (root / "other.txt.json").write_text(json.dumps({"caption": "a pet"}))
    ENDLESS[kind](root / "note.txt.json")
    with connect(tmp_path / "store") as store:
        report = store.index(root)
        assert report.added == 1
        (failure,) = report.failures
        assert failure.path == root / "note.txt"
        assert failure.reason.startswith("cannot read sidecar note.txt.json: ")


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_manifest_that_is_replaced_by_what_never_ends_stops_the_run_with_one_line(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "note.txt").write_text("a dog")
    (root / "list.csv").write_text("path,rating\nnote.txt,3\n")
    with connect(tmp_path / "store") as store:
        store.index(root)
        (root / "list.csv").unlink()
        ENDLESS[kind](root / "list.csv")
        with pytest.raises(UsageError, match=r"^cannot read the manifest .*list.csv \(.*\): make it readable"):
            store.index(root)
