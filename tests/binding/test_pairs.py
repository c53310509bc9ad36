"""Tables of pairs: every message, splits, groups, spans and hostile content."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from bindsearch.binding.data.pairs import MAX_FIELD_CHARACTERS, PairTable, read_pairs
from bindsearch.errors import UsageError
from bindsearch.types import Modality, Span

HUB = frozenset({Modality.TEXT, Modality.IMAGE, Modality.VIDEO, Modality.THERMAL})


def read(folder: Path, text: str | bytes, validation: float = 0.0) -> PairTable:
    table = folder / "pairs.csv"
    table.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_pairs(table, Modality.THERMAL, HUB, validation)


def test_a_row(tmp_path: Path) -> None:
    table = read(
        tmp_path,
        '\ufeffthermal , image,label,start_s,end_s,camera\r\n"a, b.png",/x/c.png, day ,1.5,3,front\r\n\r\nd,e,,,,\r\n',
    )
    first, second = table.pairs
    assert (table.hub_modality, table.folder, table.notes) == (Modality.IMAGE, tmp_path, ())
    assert (first.path, first.hub, first.label) == (tmp_path / "a, b.png", "/x/c.png", "day")
    assert (first.span, first.is_validation) == (Span(1.5, 3.0), False)
    assert (second.path, second.hub, second.span, second.label) == (tmp_path / "d", str(tmp_path / "e"), None, "")


def test_texts_stand_in_the_cell(tmp_path: Path) -> None:
    (pair,) = read(tmp_path, 'text,thermal\n"a dog, ""running""\nfast",a.png\n').pairs
    assert pair.hub == 'a dog, "running"\nfast'
    assert pair.path == tmp_path / "a.png"


def test_splits_of_the_table(tmp_path: Path) -> None:
    words = ["train", "Training", "val", "valid", "VALIDATION", "test", "test", "", "dev"]
    table = read(tmp_path, "thermal,image,split\n" + "".join(f"{n},{n},{word}\n" for n, word in enumerate(words)))
    assert [pair.is_validation for pair in table.pairs] == [False, False, True, True, True]
    assert table.notes == (
        "1 row is left out: the split is ''",
        "1 row is left out: the split is 'dev'",
        "2 rows are left out: the split is 'test'",
    )


def test_groups_are_never_split_and_more_rows_move_none(tmp_path: Path) -> None:
    rows = [(f"{n}.png", f"{n}.jpg", f"video {n % 40}") for n in range(400)]

    def kept(count: int) -> dict[str, bool]:
        lines = [",".join(row) for row in rows[:count]]
        pairs = read(tmp_path, "\n".join(["thermal,image,group", *lines]), validation=0.3).pairs
        return {pair.path.name: pair.is_validation for pair in pairs}

    all_rows, few = kept(400), kept(100)
    assert {name: all_rows[name] for name in few} == few
    by_group: dict[str, set[bool]] = {}
    for name, _, group in rows:
        by_group.setdefault(group, set()).add(all_rows[name])
    assert {len(splits) for splits in by_group.values()} == {1}
    assert 0.1 < sum(all_rows.values()) / 400 < 0.5
    same = read(
        tmp_path, "thermal,image\n" + "".join(f"{n}.png,{n % 9}.jpg\n" for n in range(99)), validation=0.5
    ).pairs
    assert len({(pair.hub, pair.is_validation) for pair in same}) == 9


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "{table} has the columns none: expected thermal and one of image, text, video"),
        ("a,b\n", "{table} has the columns 'a', 'b': expected thermal and one of image, text, video"),
        ("thermal\na\n", "{table} has the columns 'thermal': expected thermal and one of image, text, video"),
        ("thermal,image,text\na,b,c\n", "{table} has the columns 'thermal', 'image', 'text': expected thermal and one"),
        ("thermal,audio\na,b\n", "the hub cannot embed audio, a column of {table}: it embeds image, text, video"),
        ("thermal,image,split,split\n", "{table} has the column split twice: leave one out"),
        ("thermal,image,thermal\n", "{table} has the column thermal twice: leave one out"),
        ("thermal,image\n", "{table} has no pairs to train on: give rows, with split=train if there is a column split"),
        ("thermal,image,split\na,b,val\n", "{table} has no pairs to train on"),
        ("thermal,image\na\n", "line 2 of {table} has an empty image: fill it in"),
        ("thermal,image\nx,y\n , b\n", "line 3 of {table} has an empty thermal: fill it in"),
        ("thermal,text\na,a dog, running\n", 'line 2 of {table} has more cells than there are columns: write "..." ar'),
        ("thermal,image\na\0b,c\n", "line 2 of {table} has a zero byte: write the table as plain text"),
        ("thermal,image,start_s,end_s\na,b,1,\n", "line 2 of {table} has the span '1' to '': give seconds"),
        ("thermal,image,start_s,end_s\na,b,3,2\n", "line 2 of {table} has the span '3' to '2': give seconds"),
        ("thermal,image,start_s,end_s\na,b,3,3\n", "line 2 of {table} has the span '3' to '3': give seconds"),
        ("thermal,image,start_s,end_s\na,b,-1,2\n", "line 2 of {table} has the span '-1' to '2': give seconds"),
        ("thermal,image,start_s,end_s\na,b,nan,2\n", "line 2 of {table} has the span 'nan' to '2': give seconds"),
        ("thermal,image,start_s,end_s\na,b,0,inf\n", "line 2 of {table} has the span '0' to 'inf': give seconds"),
        (b"thermal,image\n\xff\xfe,b\n", "{table} cannot be read ('utf-8' codec can't decode byte 0xff"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "{table} cannot be read ('utf-8' codec can't decode byte 0x89"),
        (
            f"thermal,text\na,{'x' * (MAX_FIELD_CHARACTERS + 1)}\n",
            "{table} cannot be read (field larger than field limi",
        ),
    ],
)
def test_messages(tmp_path: Path, text: str | bytes, message: str) -> None:
    limit = csv.field_size_limit()
    with pytest.raises(UsageError) as raised:
        read(tmp_path, text)
    assert str(raised.value).startswith(message.format(table=tmp_path / "pairs.csv"))
    assert "\n" not in str(raised.value)
    assert csv.field_size_limit() == limit


def test_what_is_no_file(tmp_path: Path) -> None:
    for path, reason in ((tmp_path, "not a regular file"), (tmp_path / "none", "No such file or directory")):
        with pytest.raises(UsageError) as raised:
            read_pairs(path, Modality.THERMAL, HUB, 0.0)
        expected = f"{path} cannot be read ({reason}): give a CSV file in UTF-8 with a row for each pair"
        assert str(raised.value) == expected
    with pytest.raises(UsageError, match=r"/dev/zero cannot be read \(not a regular file\)"):
        read_pairs("/dev/zero", Modality.THERMAL, HUB, 0.0)
