from __future__ import annotations

import io
import json
import os
import random
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from bindsearch.errors import MediaError
from bindsearch.ingest.archives.samples import (
    MAX_SAMPLE_MEMBERS,
    ArchiveLimits,
    Member,
    Skipped,
    archive_kind,
    read_members,
    safe_name,
)
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.types import Metadata

LIMITS = ArchiveLimits()
MIB = 1 << 20


def write_tar(path: Path, members: Mapping[str, bytes], mode: str = "w", **options: int) -> Path:
    with tarfile.open(path, mode, **options) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            add(archive, name, content)
    return path


def add(archive: tarfile.TarFile, name: str, content: bytes = b"", **facts: object) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mtime = len(content), 1_700_000_000
    for key, value in facts.items():
        setattr(info, key, value)
    archive.addfile(info, io.BytesIO(content))


def write_zip(path: Path, members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def zip_entry(
    name: bytes, packed: bytes, *, size: int, crc: int, method: int = 8, offset: int = 0, flags: int = 0
) -> tuple[bytes, bytes]:
    """Return the two headers of a member with wrong values."""
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, flags, method, 0, 33, crc, len(packed), size, len(name), 0) + name
    central = struct.pack(
        "<4s6H3L5H2L", b"PK\1\2", 20, 20, flags, method, 0, 33, crc, len(packed), size, len(name), 0, 0, 0, 0, 0, offset
    )
    return local, central + name


def end_of_zip(directory: bytes, offset: int, count: int) -> bytes:
    return directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), offset, 0)


def deflated(content: bytes) -> bytes:
    deflate = zlib.compressobj(9, wbits=-15)
    return deflate.compress(content) + deflate.flush()


def read(path: Path, limits: ArchiveLimits = LIMITS, **options: object) -> tuple[dict[str, bytes], dict[str, str]]:
    """Contents of the members given out, and the reasons of those left out."""
    spool = path.parent / "spool"
    spool.mkdir(exist_ok=True)
    contents, reasons = {}, {}
    for found in read_members(path, limits, spool, **options):  # type: ignore[arg-type]
        if isinstance(found, Skipped):
            reasons[found.name] = found.reason
        else:
            contents[found.name] = found.path.read_bytes()
            found.path.unlink()
    assert not list(spool.iterdir())
    return contents, reasons


def sidecars(path: Path) -> dict[str, Sidecar | None]:
    spool = path.parent / "spool"
    spool.mkdir()
    found = {found.name: found.sidecar for found in read_members(path, LIMITS, spool) if isinstance(found, Member)}
    shutil.rmtree(spool)
    return found


def before_failure(path: Path, match: str, limits: ArchiveLimits = LIMITS) -> list[str]:
    """Names of the good members before the archive fails with that message."""
    spool = path.parent / "spool"
    spool.mkdir(exist_ok=True)
    names = []

    def run() -> None:
        for found in read_members(path, limits, spool):
            if isinstance(found, Member):
                names.append(found.name)
                found.path.unlink()

    with pytest.raises(MediaError, match=match):
        run()
    assert not list(spool.iterdir())
    return names


@pytest.mark.parametrize(("suffix", "mode"), [
    (".tar", "w"), (".tar", "w:gz"), (".tar.gz", "w:gz"), (".tgz", "w:gz"), (".tar.bz2", "w:bz2"), (".tar.xz", "w:xz"),
])  # fmt: skip
def test_a_tar_is_read_however_it_is_compressed(tmp_path: Path, suffix: str, mode: str) -> None:
    big = os.urandom(MIB + 17)
    path = write_tar(tmp_path / f"a{suffix}", {"x/big.png": big, "./y.wav": b"sound", "z": b""}, mode)
    assert archive_kind(path) == "tar"
    assert read(path) == ({"x/big.png": big, "y.wav": b"sound", "z": b""}, {})


def test_a_tar_is_read_out_of_zstd(tmp_path: Path) -> None:
    import pyarrow as pa

    plain = write_tar(tmp_path / "a.tar", {"a.png": b"a" * MIB, "b.png": b"b"}).read_bytes()
    path = tmp_path / "a.tar.zst"
    with pa.CompressedOutputStream(str(path), "zstd") as file:
        file.write(plain)
    assert archive_kind(path) == "tar"
    assert read(path)[0] == {"a.png": b"a" * MIB, "b.png": b"b"}
    path.write_bytes(path.read_bytes()[:-20])
    assert before_failure(path, "damaged or truncated|truncated") in (["a.png"], [])


def test_a_damaged_header_ends_the_reading_with_an_error_not_silently_as_in_tarfile(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"a.png": b"a", "b.png": b"b", "c.png": b"c"})
    content = bytearray(path.read_bytes())
    content[1024 + 5] ^= 0xFF  # in the name of the second member
    path.write_bytes(content)
    with tarfile.open(path) as archive:
        assert [member.name for member in archive] == ["a.png"]
    assert before_failure(path, "damaged") == ["a.png"]


def test_several_gzip_streams_are_one_file(tmp_path: Path) -> None:
    import gzip

    plain = write_tar(tmp_path / "a.tar", {"a.png": b"a" * 5000, "b.png": b"b"}).read_bytes()
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(plain[:3000]) + gzip.compress(plain[3000:]) + bytes(100))
    assert read(path)[0] == {"a.png": b"a" * 5000, "b.png": b"b"}


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_and_times_of_both_kinds_of_tar(tmp_path: Path, kind: int) -> None:
    name = "/".join(["ö" * 60] * 5) + ".png"
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=kind) as archive:
        add(archive, name, b"x", mtime=1_700_000_000.5 if kind == tarfile.PAX_FORMAT else 1_700_000_000)
        add(archive, "short.png", b"y", mtime=-5 if kind == tarfile.GNU_FORMAT else 2**40)
    spool = tmp_path / "spool"
    spool.mkdir()
    found = [member for member in read_members(path, LIMITS, spool) if isinstance(member, Member)]
    assert [member.name for member in found] == [name, "short.png"]
    assert found[0].mtime_ns // 10**9 == 1_700_000_000
    assert found[1].mtime_ns == 0
    assert [member.path.name for member in found] == ["00000000.png", "00000001.png"]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_a_zip_is_read_in_the_order_of_names(tmp_path: Path, method: int) -> None:
    big = os.urandom(3 * MIB + 17)
    path = write_zip(tmp_path / "a.zip", {"x/": b"", "z.png": b"z", "x/b.png": big, "a": b""}, method)
    assert archive_kind(path) == "zip"
    contents, reasons = read(path)
    assert list(contents) == ["a", "x/b.png", "z.png"]
    assert contents["x/b.png"] == big
    assert not reasons


def test_a_zip_behind_something_else_a_zip64_and_an_empty_one(tmp_path: Path) -> None:
    plain = write_zip(tmp_path / "a.zip", {"a.png": b"a"})
    shifted = tmp_path / "shifted.zip"
    with shifted.open("wb") as file:
        file.write(b"PK\3\4 a program that unpacks itself")
        file.write(plain.read_bytes())
    assert read(shifted)[0] == {"a.png": b"a"}
    wide = tmp_path / "wide.zip"
    with zipfile.ZipFile(wide, "w") as archive, archive.open("a.png", "w", force_zip64=True) as member:
        member.write(b"wide")
    raw = wide.read_bytes()
    end = raw.rindex(b"PK\5\6")
    size, offset = struct.unpack("<2L", raw[end + 12 : end + 20])
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, size, offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
    wide.write_bytes(raw[:end] + end64 + locator + raw[end : end + 12] + b"\xff" * 8 + raw[end + 20 :])
    assert read(wide)[0] == {"a.png": b"wide"}
    assert read(write_zip(tmp_path / "empty.zip", {})) == ({}, {})


def test_what_is_no_archive_of_media_is_none(tmp_path: Path) -> None:
    zipped = write_zip(tmp_path / "a.zip", {"a.png": b"a"}).read_bytes()
    for name in ("a.npz", "a.docx", "a.jar", "a.apk", "a.epub", "a.png"):
        (tmp_path / name).write_bytes(zipped)
        assert archive_kind(tmp_path / name) is None
    for name, content in {"b.zip": b"no zip", "b.tar": b"no tar" * 200, "c.tar": b"", "b.tgz": zipped}.items():
        (tmp_path / name).write_bytes(content)
        assert archive_kind(tmp_path / name) is None
    with pytest.raises(MediaError, match="not a tar or zip"):
        next(read_members(tmp_path / "b.zip", LIMITS, tmp_path))
    assert archive_kind(write_tar(tmp_path / "EMPTY.TAR", {})) == "tar"


@pytest.mark.parametrize(("name", "reason"), [
    ("/etc/passwd", "absolute"), ("../a.png", '".."'), ("x/../../a.png", '".."'), ("x\\a.png", "backslash"),
    ("C:/a.png", "absolute"), ("c:a.png", "absolute"), ("a\nb.png", "control"), ("a\x1b[2Jb.png", "control"),
    ("a" * 1025, "1024 bytes"), ("ö" * 513, "1024 bytes"),
])  # fmt: skip
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        add(archive, name, b"bad")
        add(archive, "good.png", b"good")
    contents, reasons = read(path)
    assert list(contents) == ["good.png"]
    assert [reason in said for said in reasons.values()] == [True]
    assert all(shown.isprintable() for shown in reasons)


def test_a_name_becomes_a_plain_relative_path() -> None:
    assert safe_name("./a//b/./c.png") == "a/b/c.png"
    assert safe_name(".hidden/a.png") == safe_name("a/.b.png") == safe_name("x/__MACOSX/a.png") == safe_name("./") == ""


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        add(archive, "caf\xe9.png", b"x")
        add(archive, "b.png", b"b")
    assert read(path) == ({"caf\xe9.png": b"x", "b.png": b"b"}, {})
    local, central = zip_entry(b"caf\xe9.png", b"x", size=1, crc=zlib.crc32(b"x"), method=0, flags=1 << 11)
    bad = tmp_path / "a.zip"
    bad.write_bytes(local + b"x" + end_of_zip(central, len(local) + 1, 1))
    assert read(bad) == ({}, {r"caf\xe9.png": "a name that is not UTF-8"})
    for raw, name in ((b"caf\x82.png", "café.png"), ("café.png".encode(), "café.png")):  # code page 437, and macOS
        local, central = zip_entry(raw, b"x", size=1, crc=zlib.crc32(b"x"), method=0)
        bad.write_bytes(local + b"x" + end_of_zip(central, len(local) + 1, 1))
        assert read(bad) == ({name: b"x"}, {})


def test_links_devices_and_sparse_files_are_named_and_folders_and_hidden_files_are_not(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        add(archive, "folder", type=tarfile.DIRTYPE)
        add(archive, "link.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(archive, "hard.png", type=tarfile.LNKTYPE, linkname="a.png")
        add(archive, "disk.png", type=tarfile.BLKTYPE)
        add(archive, "pipe.png", type=tarfile.FIFOTYPE)
        add(archive, ".DS_Store", b"x")
        add(archive, "__MACOSX/a.png", b"x")
        add(archive, "odd.png", b"x" * 600, type=b"Q")
        add(archive, "sparse.png", b"x", type=tarfile.GNUTYPE_SPARSE)
        add(archive, "a.png", b"a")
    contents, reasons = read(path)
    assert contents == {"a.png": b"a"}
    assert reasons == {
        "link.png": "a link", "hard.png": "a link", "disk.png": "a device", "pipe.png": "a device",
        "odd.png": "a member of unknown kind b'Q'", "sparse.png": "a sparse file: pack it without --sparse",
    }  # fmt: skip


def test_a_real_sparse_file_does_not_grow(tmp_path: Path) -> None:
    with (tmp_path / "holes.png").open("wb") as file:
        file.truncate(1 << 31)
    (tmp_path / "b.png").write_bytes(b"b")
    for kind in ("gnu", "pax"):
        command = ["tar", f"--format={kind}", "--sparse", "-cf", "a.tar", "holes.png", "b.png"]
        if subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode:
            pytest.skip("no GNU tar here")
        contents, reasons = read(tmp_path / "a.tar")
        assert contents == {"b.png": b"b"}
        assert reasons == {"holes.png": "a sparse file: pack it without --sparse"}


def test_links_and_encrypted_members_of_a_zip_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("link.png")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("a.png", b"a")
    assert read(path) == ({"a.png": b"a"}, {"link.png": "a link"})
    local, central = zip_entry(b"secret.png", b"x", size=1, crc=0, method=0, flags=1)
    path.write_bytes(local + b"x" + end_of_zip(central, len(local) + 1, 1))
    assert read(path) == ({}, {"secret.png": "encrypted: unpack it with its password"})
    local, central = zip_entry(b"odd.png", b"x", size=1, crc=0, method=9)
    path.write_bytes(local + b"x" + end_of_zip(central, len(local) + 1, 1))
    assert read(path)[1]["odd.png"].startswith("compressed by method 9")


@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_an_archive_inside_an_archive_is_not_opened(tmp_path: Path, write) -> None:  # type: ignore[no-untyped-def]
    inner = write_zip(tmp_path / "inner.zip", {"a.png": b"a"}).read_bytes()
    path = write(
        tmp_path / ("a.tar" if write is write_tar else "a.zip"), {"inner.zip": inner, "b.tar.gz": b"", "c": b"c"}
    )
    contents, reasons = read(path)
    assert contents == {"c": b"c"}
    assert set(reasons.values()) == {"an archive inside an archive is not read: unpack it"}
    assert len(reasons) == 2


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_first_of_two_members_of_one_name_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        add(archive, "a.png", b"first")
        add(archive, "./a.png", b"second")
    assert read(path) == ({"a.png": b"first"}, {"a.png": "a member of the same name came before"})
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"first")
        archive.writestr("a.png", b"second")
    assert read(path) == ({"a.png": b"first"}, {"a.png": "a member of the same name came before"})


@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_what_is_not_wanted_is_not_copied(tmp_path: Path, write) -> None:  # type: ignore[no-untyped-def]
    path = write(tmp_path / ("a.tar" if write is write_tar else "a.zip"), {"a.png": b"a", "b.pdf": b"b", "c.txt": b"c"})
    assert read(path, wanted=lambda name: name == "a.png") == ({"a.png": b"a"}, {})


def test_a_large_member_is_left_out_and_the_next_ones_are_read(tmp_path: Path) -> None:
    members = {"a.png": b"a", "big.png": bytes(5000), "c.png": b"c"}
    for path in (write_tar(tmp_path / "a.tar", members), write_zip(tmp_path / "a.zip", members)):
        contents, reasons = read(path, ArchiveLimits(max_member_bytes=4999))
        assert list(contents) == ["a.png", "c.png"]
        assert reasons == {"big.png": "its 5000 bytes are more than 4999: give a larger --limit member=N to read it"}


def test_many_members_end_the_reading(tmp_path: Path) -> None:
    members = {f"{n:02d}.png": b"" for n in range(20)}
    limits = ArchiveLimits(max_members=10)
    assert (
        len(before_failure(write_tar(tmp_path / "a.tar", members), "more than 10 members.*--limit members=N", limits))
        == 10
    )
    path = write_zip(tmp_path / "a.zip", members)
    assert before_failure(path, "more than 10 members.*--limit members=N", limits) == []


def test_a_hundred_thousand_empty_members_are_counted_before_they_fill_the_disk(tmp_path: Path) -> None:
    header = tarfile.TarInfo("same.png").tobuf()
    path = tmp_path / "a.tar.gz"
    gzip = zlib.compressobj(1, wbits=31)
    path.write_bytes(gzip.compress(header * 100_000) + gzip.flush())
    assert before_failure(path, "more than 50000 members", ArchiveLimits(max_members=50_000)) == ["same.png"]


def test_a_tar_that_grows_too_much_ends_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    head = tarfile.TarInfo("a.png")
    head.size = 1
    bomb = tarfile.TarInfo("zeros.png")
    bomb.size = 200 * MIB
    gzip = zlib.compressobj(1, wbits=31)
    packed = [gzip.compress(head.tobuf() + b"a" + bytes(511) + bomb.tobuf())]
    packed += [gzip.compress(bytes(MIB)) for _ in range(200)]
    path.write_bytes(b"".join(packed) + gzip.flush())
    assert before_failure(path, "more than 200 times.*--limit ratio=N") == ["a.png"]
    limits = ArchiveLimits(max_total_bytes=10 * MIB)
    assert before_failure(path, "contains more than 10485760 bytes", limits) == ["a.png"]


def test_a_zip_bomb_is_found_by_what_it_says_or_by_what_comes_out(tmp_path: Path) -> None:
    zeros = deflated(bytes(100 * MIB))
    path = tmp_path / "a.zip"
    honest = zip_entry(b"zeros.png", zeros, size=100 * MIB, crc=0)
    path.write_bytes(honest[0] + zeros + end_of_zip(honest[1], len(honest[0] + zeros), 1))
    assert before_failure(path, "more than 200 times.*--limit ratio=N") == []
    lying = zip_entry(b"zeros.png", zeros, size=10, crc=0)
    path.write_bytes(lying[0] + zeros + end_of_zip(lying[1], len(lying[0] + zeros), 1))
    assert read(path) == (
        {},
        {"zeros.png": "damaged: more than the 10 bytes stated in the central directory"},
    )
    path.write_bytes(honest[0] + zeros + end_of_zip(honest[1], len(honest[0] + zeros), 1))
    assert "zeros.png" in read(path, ArchiveLimits(max_ratio=2000))[1]  # its checksum is wrong


def test_members_of_a_zip_that_share_their_bytes_are_a_bomb(tmp_path: Path) -> None:
    kernel = deflated(bytes(MIB))
    entries = [zip_entry(f"{n}.png".encode(), kernel, size=MIB, crc=zlib.crc32(bytes(MIB))) for n in range(50)]
    local = b"".join(header for header, _ in entries) + kernel
    directory, offset = b"", 0
    for n, (header, _) in enumerate(entries):
        directory += zip_entry(f"{n}.png".encode(), kernel, size=MIB, crc=zlib.crc32(bytes(MIB)), offset=offset)[1]
        offset += len(header)
    path = tmp_path / "a.zip"
    path.write_bytes(local + end_of_zip(directory, len(local), 50))
    assert before_failure(path, "members overlap, as in a zip bomb") == []
    same = zip_entry(b"0.png", kernel, size=MIB, crc=zlib.crc32(bytes(MIB)))
    path.write_bytes(same[0] + kernel + end_of_zip(same[1] * 100, len(same[0] + kernel), 100))
    assert before_failure(path, "members overlap, as in a zip bomb") == []


def test_damaged_members_of_a_zip_are_left_out_and_the_next_ones_are_read(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"a.png": b"a" * 50, "b.png": b"b" * 50, "c.png": b"c"}, zipfile.ZIP_STORED)
    good = path.read_bytes()
    path.write_bytes(good.replace(b"a" * 50, b"a" * 49 + b"x"))
    assert read(path)[1] == {"a.png": "damaged: its checksum differs from the central directory"}
    assert list(read(path)[0]) == ["b.png", "c.png"]
    path.write_bytes(good.replace(b"a.png" + b"a" * 50, b"z.png" + b"a" * 50))
    assert read(path)[1] == {"a.png": "damaged: its name differs from the central directory"}
    path.write_bytes(b"PK\3\4" + b"XX" + good[6:30].replace(b"PK", b"KP") + good[30:])
    assert "a.png" in read(path)[0]  # the version needed counts for nothing
    second = good.index(b"PK\3\4", 10)
    path.write_bytes(good[:second] + b"JUNK" + good[second + 4 :])
    assert read(path)[1] == {"b.png": "damaged: not at the offset stated in the central directory"}
    garbage = zip_entry(b"a.png", b"\xff" * 20, size=100, crc=0)
    path.write_bytes(garbage[0] + b"\xff" * 20 + end_of_zip(garbage[1], len(garbage[0]) + 20, 1))
    assert read(path)[1]["a.png"].startswith("damaged: Error -3")
    short = deflated(b"short")
    less = zip_entry(b"a.png", short, size=100, crc=zlib.crc32(b"short"))
    path.write_bytes(less[0] + short + end_of_zip(less[1], len(less[0] + short), 1))
    assert read(path)[1] == {"a.png": "damaged: 5 of the 100 bytes stated in the central directory"}


def test_a_zip_without_its_end_or_with_a_wrong_one_is_damaged(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"a.png": os.urandom(500)})
    good = path.read_bytes()
    path.write_bytes(good[:400])
    assert before_failure(path, "damaged or truncated: its central directory is missing") == []
    end = good.rindex(b"PK\5\6")
    for size, offset in ((0xFFFF, 0), (46, 1 << 31), (20, 500), (1 << 31, 0)):
        path.write_bytes(good[: end + 12] + struct.pack("<2L", size, offset) + good[end + 20 :])
        before_failure(path, "damaged")
    rng = random.Random(5)
    for _ in range(300):  # whatever is flipped, nothing but what is documented comes out
        flipped = bytearray(good)
        for _ in range(3):
            flipped[rng.randrange(4, len(flipped))] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        try:
            read(path)
        except MediaError:
            continue


def test_a_damaged_or_cut_tar_fails_after_its_good_members(tmp_path: Path) -> None:
    members = {f"{n}.png": os.urandom(2000) for n in range(5)}
    path = write_tar(tmp_path / "a.tar", members)
    good = path.read_bytes()
    for end, count, match in (
        (2560 * 2 + 700, 2, "the archive is truncated"), (2560 * 3 + 100, 3, "the archive is truncated"),
        (2560 * 3, 3, "the archive is truncated"),
    ):  # fmt: skip
        path.write_bytes(good[:end])
        assert before_failure(path, match) == [f"{n}.png" for n in range(count)]
    path.write_bytes(good[: 2560 * 2] + os.urandom(512) + good[2560 * 2 + 512 :])
    assert before_failure(path, "invalid header at byte 5120") == ["0.png", "1.png"]


@pytest.mark.parametrize(("suffix", "mode"), [(".gz", "w:gz"), (".bz2", "w:bz2"), (".xz", "w:xz")])
def test_a_damaged_or_cut_compressed_tar_fails(tmp_path: Path, suffix: str, mode: str) -> None:
    path = write_tar(tmp_path / f"a.tar{suffix}", {f"{n}.png": os.urandom(MIB // 4) for n in range(3)}, mode)
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    before_failure(path, "damaged or truncated|truncated")
    path.write_bytes(good[:-6])  # only its checksum is missing
    assert before_failure(path, "damaged or truncated") == ["0.png", "1.png", "2.png"]
    path.write_bytes(good[: len(good) // 2] + b"\0" * 50 + good[len(good) // 2 + 50 :])
    before_failure(path, "damaged or truncated")


def test_flipped_bits_of_a_tar_raise_nothing_undocumented(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        add(archive, "ö" * 120 + ".png", b"x" * 700)
        add(archive, "b.png", b"y", mtime=1.5)
    good = path.read_bytes()
    rng = random.Random(7)
    for _ in range(400):
        flipped = bytearray(good)
        place = rng.randrange(0, 4096)
        flipped[place] ^= 1 << rng.randrange(8)
        path.write_bytes(mended(flipped, place // 512 * 512))
        if archive_kind(path) is None:
            continue
        try:
            read(path)
        except MediaError:
            continue


def mended(raw: bytearray, block: int) -> bytes:
    """Return the tar with the right checksum in that header."""
    raw[block + 148 : block + 156] = b" " * 8
    raw[block + 148 : block + 156] = b"%06o\0 " % sum(raw[block : block + 512])
    return bytes(raw)


@pytest.mark.parametrize(("place", "text", "match"), [
    (124, b"\xff" * 12, "invalid header"),  # a size of -1
    (124, b"\x80" + b"\xff" * 11, "truncated|damaged|more than"),  # of 2^88
])  # fmt: skip
def test_sizes_that_cannot_be_are_refused(tmp_path: Path, place: int, text: bytes, match: str) -> None:
    raw = bytearray(write_tar(tmp_path / "a.tar", {"a.png": b"a", "b.png": b"b"}).read_bytes())
    raw[1024 + place : 1024 + place + len(text)] = text
    (tmp_path / "a.tar").write_bytes(mended(raw, 1024))
    assert before_failure(tmp_path / "a.tar", match) == ["a.png"]


def test_headers_about_headers_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    long = tarfile.TarInfo("x")
    long.type, long.size = tarfile.GNUTYPE_LONGNAME, 1 << 32
    path.write_bytes(long.tobuf() + bytes(5120))
    assert before_failure(path, "invalid header at byte 0") == []
    long.size = 0
    path.write_bytes(long.tobuf() * 5000)
    assert before_failure(path, "more than 16 headers in a row") == []
    for record in (
        b"5 a=",
        b"99999 path=x\n",
        b"-3 path=x\n",
        b"0 path=x\n",
        b"nonsense",
        b"12 size=-10\n",
        b"10 size=x\n",
    ):
        pax = tarfile.TarInfo("x")
        pax.type, pax.size = tarfile.XHDTYPE, len(record)
        path.write_bytes(pax.tobuf() + record.ljust(512, b"\0") + tarfile.TarInfo("a.png").tobuf() + bytes(1024))
        assert before_failure(path, "invalid header") == []


def test_an_archive_given_up_leaves_no_copies_but_the_one_in_hand(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"a.1.png": b"a", "a.2.png": b"b", "c.png": b"c"})
    spool = tmp_path / "spool"
    spool.mkdir()
    members = read_members(path, LIMITS, spool)
    first = next(members)
    assert isinstance(first, Member)
    members.close()  # type: ignore[attr-defined]
    assert list(spool.iterdir()) == [first.path]


def test_a_sample_of_a_shard_gives_its_media_their_caption_and_columns(tmp_path: Path) -> None:
    facts = {
        "caption": "less", "URL": "http://x/y", "width": 3, "similarity": 0.31, "NSFW": None, "exif": {"a": 1},
        "bad name": 1, "text": "less", "title": "Rome", "nan": float("nan"), "path": "x",
    }  # fmt: skip
    shard = write_tar(
        tmp_path / "a.tar",
        {
            "0/001.jpg": b"j", "0/001.txt": b" A dog. ", "0/001.json": json.dumps(facts).encode(),
            "0/001.cls": b"7\n", "0/002.seg.png": b"p", "0/002.jpg": b"q", "0/002.json": b'{"text": "Two."}',
            "0/002.cls": b"dog", "0/003.txt": b"A text of its own.", "0/003.json": b'{"lang": "en"}',
            "0/004.flac": b"f", "0/005.json": b'{"a": 1}', "0/006.wav": b"w", "0/006.caption": b"Rain.",
            "0/006.cap": b"On a roof.",
        },
    )  # fmt: skip
    found = sidecars(shard)
    assert list(found) == [
        f"0/{name}" for name in ("001.jpg", "002.seg.png", "002.jpg", "003.txt", "004.flac", "006.wav")
    ]
    columns: dict[str, Any] = {"url": "http://x/y", "width": 3, "similarity": 0.31, "cls": 7}
    assert found["0/001.jpg"] == Sidecar(captions=("A dog.",), columns=columns, metadata=Metadata(title="Rome"))
    assert found["0/002.seg.png"] == found["0/002.jpg"] == Sidecar(captions=("Two.",), columns={"cls": "dog"})
    assert found["0/003.txt"] == Sidecar(columns={"lang": "en"})
    assert found["0/004.flac"] is None
    assert found["0/006.wav"] == Sidecar(captions=("Rain.", "On a roof."))
    assert read(shard)[1] == {}


def test_what_a_sample_says_badly_is_named_and_its_media_are_taken(tmp_path: Path) -> None:
    shard = write_tar(
        tmp_path / "a.tar",
        {
            "1.jpg": b"j", "1.json": b"{broken", "2.jpg": b"j", "2.txt": b"\0\1\2\3", "3.jpg": b"j", "3.json": b"[1]",
            "4.jpg": b"j", "4.json": b'{"a": "' + b"x" * MIB + b'"}', "5.jpg": b"j", "5.json": b"[" * 100_000,
        },
    )  # fmt: skip
    contents, reasons = read(shard)
    assert list(contents) == ["1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg"]
    assert reasons["1.json"].startswith("no JSON object")
    assert reasons["2.txt"].startswith("not a text")
    assert reasons["3.json"] == "no JSON object: expected a JSON object, found list"
    assert "too large" in reasons["4.json"]
    assert reasons["5.json"].startswith("no JSON object")


def test_a_text_beside_a_picture_is_a_text_of_its_own_in_a_zip(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"a.txt": b"A dog.", "a.jpg": b"j", "a.json": b'{"b": 1}'})
    assert sidecars(path) == {"a.jpg": None, "a.txt": None}
    assert read(path)[1] == {}


@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_a_sidecar_in_an_archive_says_something_of_its_file(tmp_path: Path, write) -> None:  # type: ignore[no-untyped-def]
    members = {
        "x.jpg.json": b'{"caption": "Said.", "columns": {"n": 1}}', "x.jpg": b"j",
        "y.png": b"p", "y.png.json": b'{"caption": 5}',
        "z.csv": b"t", "z.csv.json": json.dumps({"axes": list("abcdef")}).encode(),
        "w.jpg": b"w", "w.jpg.json": b'{"another": "program"}',
    }  # fmt: skip
    path = write(tmp_path / ("a.tar" if write is write_tar else "a.zip"), members)
    found = sidecars(path)
    assert found == {
        "x.jpg": Sidecar(captions=("Said.",), columns={"n": 1}), "z.csv": Sidecar(axes=tuple("abcdef")),
        "w.jpg": Sidecar(notes=("JSON beside it is another program's (keys another): not used",)),
    }  # fmt: skip
    assert read(path)[1] == {"y.png": "sidecar y.png.json: caption is 5: expected a string, or a list of strings"}


def test_a_sidecar_counts_before_what_is_said_of_the_sample(tmp_path: Path) -> None:
    members = {"x.jpg": b"j", "x.png": b"p", "x.txt": b"All.", "x.cls": b"dog"}
    members["x.jpg.json"] = b'{"caption": "One.", "columns": {"cls": "cat"}, "fx": 5}'
    assert sidecars(write_tar(tmp_path / "a.tar", members)) == {
        "x.jpg": Sidecar(fx=5.0, captions=("One.",), columns={"cls": "cat"}),
        "x.png": Sidecar(captions=("All.",), columns={"cls": "dog"}),
    }


def test_frames_of_one_key_are_not_held_together_and_keep_their_sidecars(tmp_path: Path) -> None:
    count = 3 * MAX_SAMPLE_MEMBERS + 1
    members = {}
    for n in range(count):
        members[f"shot.{n:04d}.png"] = b"p"
        members[f"shot.{n:04d}.png.json"] = json.dumps({"columns": {"n": n}}).encode()
    members["zero.png"] = b"z"
    for path in (write_tar(tmp_path / "a.tar", members), write_zip(tmp_path / "a.zip", members)):
        spool = tmp_path / "spool"
        spool.mkdir(exist_ok=True)
        most, found = 0, {}
        for member in read_members(path, LIMITS, spool):
            assert isinstance(member, Member)
            most = max(most, len(list(spool.iterdir())))
            found[member.name] = member.sidecar
            member.path.unlink()
        assert most <= MAX_SAMPLE_MEMBERS
        assert found == {f"shot.{n:04d}.png": Sidecar(columns={"n": n}) for n in range(count)} | {"zero.png": None}


def test_a_long_text_in_a_shard_is_no_caption(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"a.jpg": b"j", "a.txt": b"word " * (MIB // 4)})
    assert sidecars(path) == {"a.jpg": None, "a.txt": None}


def test_members_take_no_memory_of_their_size(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    gzip = zlib.compressobj(1, wbits=31)
    info = tarfile.TarInfo("a.png")
    info.size = 100 * MIB
    block = os.urandom(MIB)
    packed = [gzip.compress(info.tobuf()), *(gzip.compress(block) for _ in range(100)), gzip.compress(bytes(1024))]
    path.write_bytes(b"".join(packed) + gzip.flush())
    program = f"""
import resource
from pathlib import Path
from bindsearch.ingest.archives.samples import ArchiveLimits, read_members
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for member in read_members(Path({str(path)!r}), ArchiveLimits(), Path({str(tmp_path)!r})):
    assert member.path.stat().st_size == 100 << 20
assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 48 << 10
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_reading_goes_on_only_when_it_is_asked_for(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {f"{n}.png": b"x" for n in range(50)})
    spool = tmp_path / "spool"
    spool.mkdir()
    members: Iterator[Member | Skipped] = read_members(path, LIMITS, spool)
    for _ in range(5):
        next(members)
    assert len(list(spool.iterdir())) <= 6


@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_a_takeout_archive_says_where_and_when(tmp_path: Path, write) -> None:  # type: ignore[no-untyped-def]
    taken = {"title": "x.jpg", "description": "A mill", "photoTakenTime": {"timestamp": "1625289129"}}
    members = {"t/x.jpg": b"j", "t/x.jpg.supplemental-metadata.json": json.dumps(taken).encode()}
    found = sidecars(write(tmp_path / ("a.tar" if write is write_tar else "a.zip"), members))["t/x.jpg"]
    assert found is not None
    assert (found.found_captions, found.found.taken) == (("A mill",), datetime(2021, 7, 3, 5, 12, 9))
