"""Downloads against a real server that misbehaves: whole or not there, going on where they stopped."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.file_download import http_get

from bindsearch.encoders.model_store.download import (
    DownloadedFile,
    NotFoundError,
    download,
    note_of,
    part_of,
)
from bindsearch.errors import EncoderError, UsageError
from helpers.file_server import serve

CONTENT = bytes(range(256)) * 1200  # 300 KB


@pytest.fixture
def server() -> Iterator[Any]:
    with serve(CONTENT) as served:
        yield served


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "work" / "checkpoint.pth"


def fetch(url: str, place: Path, **options: Any) -> DownloadedFile:
    return download(url, place, **{"delay_s": 0.001, "timeout_s": 10.0, **options})


def check_whole(found: DownloadedFile, place: Path, content: bytes = CONTENT) -> None:
    assert place.read_bytes() == content
    assert found == DownloadedFile(place, len(content), hashlib.sha256(content).hexdigest())
    assert not part_of(place).exists()


def test_a_file_comes_whole_with_its_digest_and_progress(server: Any, place: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    check_whole(fetch(server.url, place, on_progress=lambda done, total: seen.append((done, total))), place)
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert seen == sorted(seen)
    assert server.requests == [""]


def test_a_whole_file_is_not_asked_for_again(server: Any, place: Path) -> None:
    first = fetch(server.url, place)
    assert fetch(server.url, place) == first
    assert len(server.requests) == 1
    place.write_bytes(CONTENT[:-1] + b"?")  # damaged on the disk: of the right size, but not what came
    check_whole(fetch(server.url, place), place)
    assert len(server.requests) == 2


def test_a_cut_goes_on_from_the_byte_it_reached(server: Any, place: Path) -> None:
    server.cuts = [100_000, 50_000, None]
    check_whole(fetch(server.url, place), place)
    assert server.requests == ["", "bytes=100000-", "bytes=150000-"]
    assert server.conditions == ["", server.tag, server.tag]


def test_the_date_serves_where_the_etag_does_not(server: Any, place: Path) -> None:
    server.etag, server.last_modified = 'W/"1"', "Wed, 21 Oct 2015 07:28:00 GMT"
    server.cuts = [100_000, None]
    check_whole(fetch(server.url, place), place)
    assert server.requests == ["", "bytes=100000-"]
    assert server.conditions == ["", server.last_modified]


def test_without_etag_and_date_it_starts_over(server: Any, place: Path) -> None:
    server.etag = ""
    server.cuts = [100_000, None]
    check_whole(fetch(server.url, place), place)
    assert server.requests == ["", ""]


def test_a_server_without_ranges_sends_it_all_again(server: Any, place: Path) -> None:
    server.ranges = False
    server.cuts = [100_000, None]
    check_whole(fetch(server.url, place), place)
    assert server.requests == ["", "bytes=100000-"]


def test_a_file_that_changed_on_the_server_starts_over(server: Any, place: Path) -> None:
    server.cuts = [100_000]
    with pytest.raises(
        EncoderError, match=r"ended after 100,000 of 307,200 bytes; 100,000 bytes are saved, run the same"
    ):
        fetch(server.url, place, tries=1)
    server.content = CONTENT[::-1]
    check_whole(fetch(server.url, place), place, CONTENT[::-1])


def test_the_hubs_client_would_join_the_bytes_of_two_files(server: Any, tmp_path: Path) -> None:
    server.content = CONTENT[::-1]
    path = tmp_path / "part"
    path.write_bytes(CONTENT[:100_000])
    with path.open("ab") as file:
        http_get(server.url, file, resume_size=100_000, expected_size=len(CONTENT))
    assert path.read_bytes() == CONTENT[:100_000] + CONTENT[::-1][100_000:]


def test_a_server_that_ignores_if_range_is_found_out(server: Any, place: Path) -> None:
    server.cuts = [100_000]
    with pytest.raises(EncoderError):
        fetch(server.url, place, tries=1)
    old_tag = server.tag
    server.content, server.last_modified = CONTENT[::-1], old_tag  # takes the old ETag for a match, sends the new one
    check_whole(fetch(server.url, place), place, CONTENT[::-1])
    assert server.requests == ["", "bytes=100000-", ""]


def test_a_server_that_keeps_cutting_is_given_up(server: Any, place: Path) -> None:
    server.etag = ""
    server.cuts = [2000] * 50
    with pytest.raises(EncoderError, match="the connection ended after 2,000 of 307,200 bytes"):
        fetch(server.url, place, tries=4)
    assert len(server.requests) == 4
    assert not place.exists()


def test_a_body_shorter_than_announced_is_never_whole(server: Any, place: Path) -> None:
    server.length = len(CONTENT) + 7
    with pytest.raises(EncoderError, match=r"of 307,207 bytes|has changed"):
        fetch(server.url, place, tries=3)
    assert not place.exists()


def test_chunks_are_whole_by_their_end(server: Any, place: Path) -> None:
    server.chunked = True
    server.cuts = [100_000, None]
    check_whole(fetch(server.url, place), place)


def test_a_body_of_unknown_length_is_refused(server: Any, place: Path) -> None:
    server.length = -1
    with pytest.raises(EncoderError, match="does not send the length"):
        fetch(server.url, place)
    assert not place.exists()


def test_passing_faults_are_tried_again(server: Any, place: Path) -> None:
    server.statuses = [503, 500, 429]
    check_whole(fetch(server.url, place), place)
    assert len(server.requests) == 4


def test_lasting_faults_end_in_one_line(server: Any, place: Path) -> None:
    server.statuses = [500] * 9
    with pytest.raises(EncoderError, match=r"cannot download http://127\S+: the server answers HTTP 500 Internal"):
        fetch(server.url, place, tries=3)
    assert len(server.requests) == 3
    server.statuses = [403]
    with pytest.raises(EncoderError, match="HTTP 403 Forbidden"):
        fetch(server.url, place)
    assert len(server.requests) == 4
    server.statuses = []
    server.missing = ("/checkpoint.pth",)
    with pytest.raises(NotFoundError, match="HTTP 404 Not Found"):
        fetch(server.url, place)
    assert len(server.requests) == 5


def test_unreachable_servers_are_named(place: Path) -> None:
    with pytest.raises(EncoderError, match=r"the host name no-such-host\.invalid cannot be resolved"):
        fetch("https://no-such-host.invalid/x.pth", place)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        with pytest.raises(EncoderError, match=r"127\.0\.0\.1 refuses the connection"):
            fetch(f"http://127.0.0.1:{taken.getsockname()[1]}/x.pth", place)


def test_a_silent_server_runs_into_the_timeout(server: Any, place: Path) -> None:
    server.hold_at = 1000
    with pytest.raises(EncoderError, match="timed out"):
        fetch(server.url, place, tries=2, timeout_s=0.2)
    assert part_of(place).stat().st_size > 0


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://host/x", "/a/file", "", "http://", "https://me:secret@host/x", "http://[x/y"]
)
def test_only_plain_http_urls(place: Path, url: str) -> None:
    with pytest.raises(UsageError, match=r"expected http://HOST/\.\.\. or https"):
        fetch(url, place)


def test_redirections_are_followed_but_not_to_other_schemes(server: Any, place: Path) -> None:
    server.redirect = server.url.replace("checkpoint", "moved")
    server.cuts = [100_000, None]
    check_whole(fetch(server.url, place), place)
    assert server.requests == ["", "", "bytes=100000-", "bytes=100000-"]
    server.redirect = "file:///etc/passwd"
    with pytest.raises(EncoderError, match="HTTP 302"):
        fetch(f"{server.url}2", place)


@pytest.mark.parametrize(
    "damage",
    [
        lambda place: part_of(place).write_bytes(CONTENT + b"more"),
        lambda place: note_of(place).write_text("{"),
        lambda place: note_of(place).write_text('{"url": 3}'),
        lambda place: note_of(place).write_text("[]"),
        lambda place: note_of(place).unlink(),
        lambda place: part_of(place).unlink(),
        lambda place: part_of(place).write_bytes(b""),
    ],
)
def test_damaged_parts_start_over(server: Any, place: Path, damage: Callable[[Path], object]) -> None:
    server.cuts = [100_000]
    with pytest.raises(EncoderError):
        fetch(server.url, place, tries=1)
    damage(place)
    check_whole(fetch(server.url, place), place)
    assert server.requests == ["", ""]


def test_a_part_of_another_url_starts_over(server: Any, place: Path) -> None:
    server.cuts = [100_000]
    with pytest.raises(EncoderError):
        fetch(server.url, place, tries=1)
    check_whole(fetch(f"{server.url}?mirror", place), place)
    assert server.requests == ["", ""]


def test_a_part_past_the_end_of_a_shorter_file_starts_over(server: Any, place: Path) -> None:
    server.chunked, server.etag = True, '"same"'  # so that neither a length nor the ETag shows it
    server.cuts = [100_000]
    with pytest.raises(EncoderError):
        fetch(server.url, place, tries=1)
    server.content = CONTENT[:50_000]
    check_whole(fetch(server.url, place), place, CONTENT[:50_000])
    assert server.requests == ["", "bytes=100000-", ""]


def test_killed_after_the_last_byte_needs_no_request(server: Any, place: Path) -> None:
    server.cuts = [100_000]
    with pytest.raises(EncoderError):
        fetch(server.url, place, tries=1)
    part_of(place).write_bytes(CONTENT)
    check_whole(fetch(server.url, place), place)
    assert len(server.requests) == 1


def test_a_full_disk_is_said_before_anything_is_written(
    server: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(place.parents[1])._replace(free=70_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(EncoderError, match=r"not enough disk space for http\S+: it needs 0.01 GB in .* 0.07 GB are"):
        fetch(server.url, place, reserve_bytes=10_000_000)
    assert not part_of(place).exists()
    check_whole(fetch(server.url, place), place)


def test_a_folder_that_cannot_be_written_is_one_line(server: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EncoderError, match=r"cannot write .*/file/x\.pth: (File exists|Not a directory)"):
        fetch(server.url, tmp_path / "file" / "x.pth")


def test_a_killed_process_goes_on_where_it_was(server: Any, place: Path) -> None:
    server.hold_at = 200_000
    code = (
        "import sys; from pathlib import Path; from bindsearch.encoders.model_store.download import download; "
        "download(sys.argv[1], Path(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, server.url, str(place)])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (part_of(place).exists() and part_of(place).stat().st_size >= 200_000):
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert json.loads(note_of(place).read_text())["total_bytes"] == len(CONTENT)
    server.hold_at = None
    server.release.set()
    check_whole(fetch(server.url, place), place)
    assert server.requests == ["", "bytes=200000-"]
