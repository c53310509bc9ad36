"""Names in archives are those that were packed, or shown as what they are: no code page is taken for another."""

from __future__ import annotations

import io
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bindsearch as bs
from bindsearch.errors import UsageError
from bindsearch.ingest.archives.limits import ArchiveLimits
from bindsearch.ingest.archives.names import STANDARD, likely_encoding, parse_encoding
from bindsearch.ingest.archives.samples import Member, Skipped, read_members
from helpers.stores import connect

WORDS = {
    "cyrillic": "\u041e\u0442\u043f\u0443\u0441\u043a \u043c\u043e\u0440\u0435 \u041c\u043e\u0441\u043a\u0432\u0430 "
    "\u043f\u043b\u043e\u0449\u0430\u0434\u044c \u0434\u043e\u043a\u0443\u043c\u0435\u043d\u0442\u044b "
    "\u0424\u043e\u0442\u043e \u043b\u0435\u0442\u043e \u0434\u0430\u0447\u0430 \u041d\u043e\u0432\u0430\u044f "
    "\u043f\u0430\u043f\u043a\u0430 \u0441\u043e\u0431\u0430\u043a\u0430",
    "latin": "M\u00fcller Stra\u00dfe \u00e9t\u00e9 plage caf\u00e9 a\u00f1o ni\u00f1os \u00dcbung "
    "gar\u00e7on for\u00eat Holiday",
    "japanese": "\u5199\u771f \u6d77\u306e\u65e5 \u65e5\u672c\u8a9e\u30d5\u30a1\u30a4\u30eb \u72ac\u3068\u732b "
    "\u65b0\u3057\u3044\u30d5\u30a9\u30eb\u30c0\u30fc",
    "simplified": "\u7167\u7247 \u6d77\u8fb9\u7684\u72d7 \u65b0\u5efa\u6587\u4ef6\u5939 \u6e2f\u53e3\u7684\u8239 "
    "\u6211\u7684\u6587\u6863 \u5317\u4eac",
    "traditional": "\u7167\u7247 \u6d77\u908a\u7684\u72d7 \u65b0\u589e\u8cc7\u6599\u593e \u6e2f\u53e3\u7684\u8239 "
    "\u6211\u7684\u6587\u4ef6 \u53f0\u5317",
    "korean": "\uc0ac\uc9c4 \ubc14\ub2f7\uac00\uc758 \uac15\uc544\uc9c0 \uc0c8 \ud3f4\ub354 \ud56d\uad6c\uc758 \ubc30 "
    "\uc11c\uc6b8 \uc5ec\ub984",
    "greek": "\u0395\u03bb\u03bb\u03ac\u03b4\u03b1 \u03b8\u03ac\u03bb\u03b1\u03c3\u03c3\u03b1 "
    "\u03ba\u03b1\u03bb\u03bf\u03ba\u03b1\u03af\u03c1\u03b9 \u0391\u03b8\u03ae\u03bd\u03b1",
}
CODE_PAGES = {
    "cyrillic": ("cp866", "cp1251", "koi8-r"),
    "latin": ("cp437", "cp850", "cp1252"),
    "japanese": ("cp932", "euc_jp"),
    "simplified": ("gbk",),
    "traditional": ("big5",),
    "korean": ("cp949",),
    "greek": ("cp737", "cp1253"),
}
SURE = {"cp866", "cp1251", "koi8-r", "cp932", "gbk", "big5", "cp949", "cp1252"}


@settings(max_examples=400)
@given(st.data())
def test_no_name_is_decoded_in_a_wrong_code_page(data: st.DataObject) -> None:
    script = data.draw(st.sampled_from(sorted(WORDS)))
    words = st.lists(st.sampled_from([*WORDS[script].split(), "2019", "IMG"]), min_size=1, max_size=4)
    names = [f"{'/'.join(parts)}.jpg" for parts in data.draw(st.lists(words, min_size=1, max_size=6))]
    code_page = data.draw(st.sampled_from(CODE_PAGES[script]))
    raw = [name.encode(code_page) for name in names]
    unknown = [one for one in raw if not one.isascii()]
    if not unknown:
        return
    found = likely_encoding(unknown)
    if found is not None:
        assert [one.decode(found) for one in raw] == names


@pytest.mark.parametrize("script", sorted(WORDS))
def test_many_names_are_sure(script: str) -> None:
    for code_page in CODE_PAGES[script]:
        found = likely_encoding([word.encode(code_page) for word in WORDS[script].split()])
        assert found == (code_page if code_page in SURE else STANDARD if script == "latin" else None)


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=5))
def test_any_bytes_have_an_encoding_that_decodes_them_or_none(names: list[bytes]) -> None:
    found = likely_encoding(names)
    if found is not None:
        for name in names:
            name.decode(found)


def test_encodings_are_checked() -> None:
    assert parse_encoding("Shift-JIS", "x") == "shift_jis"
    for name in ("rot13", "utf-16", "cp875", "hex", "idna", "unicode_escape", "nothing", "\0"):
        with pytest.raises(UsageError, match="expected one such as cp866"):
            parse_encoding(name, "x")


def packed(members: dict[bytes, bytes], extra: dict[bytes, bytes] | None = None, system: int = 0) -> bytes:
    """Return a zip with names of any bytes."""
    result = io.BytesIO()
    places = {f"{i:04d}{'x' * (len(raw) - 4)}": raw for i, raw in enumerate(members)}
    with zipfile.ZipFile(result, "w") as archive:
        for place, raw in places.items():
            info = zipfile.ZipInfo(place)
            info.create_system, info.extra = system, (extra or {}).get(raw, b"")
            archive.writestr(info, members[raw])
    content = result.getvalue()
    for place, raw in places.items():
        content = content.replace(place.encode(), raw)
    return content


def unicode_path(raw: bytes, name: str, version: int = 1, crc: int | None = None) -> bytes:
    data = bytes([version]) + (zlib.crc32(raw) if crc is None else crc).to_bytes(4, "little") + name.encode()
    return b"up" + len(data).to_bytes(2, "little") + data


def names_in(path: Path, encoding: str | None = None) -> tuple[list[str], dict[str, str], list[str]]:
    """Return the names of members, the reasons of skipped ones, and the notes."""
    spool = Path(tempfile.mkdtemp(dir=path.parent))
    notes: list[str] = []
    found = [*read_members(path, ArchiveLimits(), spool, encoding=encoding, note=notes.append)]
    return (
        sorted(one.name for one in found if isinstance(one, Member)),
        {one.name: one.reason for one in found if isinstance(one, Skipped)},
        notes,
    )


def test_backslashes_of_windows_are_slashes(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    for system in (0, 10, 14):
        members = {rb"holiday\a.txt": b"a", rb"holiday\sub\c.txt": b"c", b"holiday\\": b""}
        path.write_bytes(packed(members, system=system))
        assert names_in(path) == (["holiday/a.txt", "holiday/sub/c.txt"], {}, [])
    for members, system in (
        ({rb"holiday\a.txt": b"a", b"sub/c.txt": b"c"}, 0),  # the writer knows slashes
        ({rb"holiday\a.txt": b"a", b"c.txt": b"c"}, 3),  # a name of Unix with a backslash
    ):
        path.write_bytes(packed(members, system=system))
        assert names_in(path)[1] == {r"holiday\a.txt": "a name with a backslash"}
    path.write_bytes(packed({rb"..\..\a.txt": b"a", rb"C:\b.txt": b"b", rb"\c.txt": b"c", b"good.txt": b"g"}))
    names, reasons, _ = names_in(path)
    assert names == ["good.txt"]
    assert sorted(reasons.values()) == ['a name with ".."', "an absolute name", "an absolute name"]


def test_a_unicode_path_is_the_name_if_it_belongs_to_the_name(tmp_path: Path) -> None:
    name = "\u041e\u0442\u043f\u0443\u0441\u043a/\u043c\u043e\u0440\u0435.txt"
    raw, path = name.encode("cp866"), tmp_path / "a.zip"
    path.write_bytes(packed({raw: b"a"}, {raw: unicode_path(raw, name)}))
    assert names_in(path) == ([name], {}, [])
    for field in (unicode_path(raw, "other.txt", crc=1), unicode_path(raw, "other.txt", version=2), b"up\x03\0abc"):
        path.write_bytes(packed({raw: b"a"}, {raw: field}))
        names, _, (note,) = names_in(path)
        assert names == [name]
        assert note == f"names of the zip in cp866 by its names; [zip_names] in .bindsearch.toml sets another: {name}"
    evil = packed({b"aaaa.txt": b"a"}, {b"aaaa.txt": unicode_path(b"aaaa.txt", "../../b.txt")})
    path.write_bytes(evil)
    assert names_in(path)[1] == {"../../b.txt": 'a name with ".."'}


def test_a_second_byte_that_is_a_backslash_stays(tmp_path: Path) -> None:
    name = "\u8868\u306e\u5199\u771f/\u30bd\u306e\u65e5.txt"  # in Shift JIS, some end in 0x5C
    path = tmp_path / "a.zip"
    path.write_bytes(packed({name.replace("/", "\\").encode("cp932"): b"a"}))
    assert names_in(path)[0] == [name]


def test_the_code_page_of_a_zip_can_be_set_and_is_shown(tmp_path: Path) -> None:
    root = tmp_path / "media"
    root.mkdir()
    greek = "\u0395\u03bb\u03bb\u03ac\u03b4\u03b1.txt"
    (root / "a.zip").write_bytes(packed({greek.encode("cp737"): b"words"}))
    with connect(tmp_path / "store", encoder="null") as store:
        (planned,) = store.plan_index(root)
        assert planned.note.startswith("names of the zip in cp437 by the standard, as their code page is not sure: set")
        report = store.index(root)
        assert [note.text for note in report.notes] == [planned.note]
        assert store.index(root).unchanged == 1
        settings_file = root / ".bindsearch.toml"
        settings_file.write_text('[zip_names]\n"*.zip" = "cp737"\n')
        report = store.index(root)
        assert (report.added, report.removed, report.segments) == (1, 1, 0)  # the same words under another name
        assert [hit.path.name for hit in store.search("words")] == [greek]
        assert store.plan_index(root)[0].note == f"names of the zip in cp737 as set: {greek}"
        assert store.index(root).unchanged == 1
        settings_file.write_text('[zip_names]\n"*.zip" = "cp9999"\n')
        with pytest.raises(bs.UsageError, match=r"\[zip_names\]: unknown encoding 'cp9999'"):
            store.index(root)


def tar_of(*members: tarfile.TarInfo | str, encoding: str = "utf-8") -> bytes:
    result = io.BytesIO()
    with tarfile.open(fileobj=result, mode="w", format=tarfile.GNU_FORMAT, encoding=encoding) as archive:
        for member in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            content = b"" if info.islnk() else info.name.encode()
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return result.getvalue()


def link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.LNKTYPE, target
    return info


def test_a_hard_link_of_a_tar_is_left_out_as_its_content_is_there(tmp_path: Path) -> None:
    root = tmp_path / "media"
    root.mkdir()
    long = "folder/" * 30 + "a.txt"
    (root / "a.tar").write_bytes(
        tar_of("a.txt", long, link("b.txt", "a.txt"), link("c.txt", long), link("d.txt", "e.txt"))
    )
    with connect(tmp_path / "store", encoder="null") as store:
        for _ in range(2):
            report = store.index(root)
            assert {failure.path.name: failure.reason for failure in report.failures} == {"d.txt": "a link"}
            assert report.skipped == {"a hard link: its content is that of another member": 2}
        assert store.status().items == {"text": 2}


def test_tars_one_after_the_other_are_all_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of("a.txt") + tar_of("b.txt") + tar_of("c.txt"))
    assert names_in(path) == (["a.txt", "b.txt", "c.txt"], {}, ["3 tar archives one after the other: all are read"])
    for rest in (b"", b"\0" * 5000, b"not a tar" * 500, b"x"):
        path.write_bytes(tar_of("a.txt") + rest)
        assert names_in(path) == (["a.txt"], {}, [])


def test_names_of_a_tar_in_other_encodings(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of("caf\xe9.txt", encoding="latin-1"))
    assert names_in(path) == (["caf\xe9.txt"], {}, ["names of the tar in cp1252, by the names: caf\xe9.txt"])
    path.write_bytes(tar_of("\u03ac.txt", "b.txt", encoding="cp1253"))
    assert names_in(path) == (["b.txt"], {r"\xdc.txt": "a name that is not UTF-8"}, [])
