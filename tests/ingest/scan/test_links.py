"""Links to files are followed; what never ends, under whatever name, fails or is skipped at once with a reason."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bindsearch.errors import UsageError
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
        assert (report.removed, report.unchanged) == (1, 1)
        (notice,) = report.notices
        assert notice.endswith(
            "soft.txt: its 1 indexed files stay in the store; mount what the link leads to, or remove the link"
        )
        assert len(store.search("a dog", copies=True)) == 2
        (root / "folder" / "soft.txt").unlink()
        assert store.index(root).removed == 1
        assert [hit.path.name for hit in store.search("a dog")] == ["hard.txt"]


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
