"""Lists of one's own: columns, merging of rows, and hostile tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from bindsearch.errors import UsageError
from bindsearch.evaluation.datasets import tables
from bindsearch.evaluation.datasets.dataset import DataSet, Metric
from bindsearch.evaluation.datasets.registry import read_dataset
from bindsearch.types import Modality, Span
from helpers.data_set_files import write_media, write_texts


def read(folder: Path, table: str, split: str | None = None) -> DataSet:
    return read_dataset("csv", write_texts(folder, {"labels.csv": table}), split)


def test_labels_make_a_classification_with_templates_of_the_modality(tmp_path: Path) -> None:
    write_media(tmp_path, "a.wav", "b.wav")
    data = read(tmp_path, "path,label,fold\na.wav,Church_bells,2\nb.wav,rain,10\nc.wav,rain,10\n")
    assert data.classes is not None
    assert data.classes.texts == (("church bells",), ("rain",))
    assert (data.metric, data.modality, data.templates) == (Metric.TOP1, Modality.AUDIO, "sound")
    assert data.folds == ("2", "10")
    assert data.notes == ("1 of 3 left out: no file (the first: 'c.wav')",)


def test_rows_of_one_path_are_one_item_with_their_captions(tmp_path: Path) -> None:
    write_media(tmp_path, "a.jpg", "b.jpg")
    data = read(tmp_path, 'path,caption\na.jpg,"a dog, running"\nb.jpg,a cat\na.jpg,a hound\n')
    assert [item.captions for item in data.items] == [("a dog, running", "a hound"), ("a cat",)]
    assert (data.metric, data.classes, data.templates) == (Metric.RECALL, None, "none")


def test_several_labels_spans_modality_groups_and_others(tmp_path: Path) -> None:
    write_media(tmp_path, "a.wav", "a.jpg")
    data = read(
        tmp_path,
        "path,label,group,start_s,end_s,image_path\na.wav,dog | rain,x,0,1.5,a.jpg\na.wav,rain,x,1.5,3,a.jpg\n",
    )
    assert [item.labels for item in data.items] == [("dog", "rain"), ("rain",)]
    assert [item.span for item in data.items] == [Span(0, 1.5), Span(1.5, 3)]
    assert data.items[0].others == {Modality.IMAGE: tmp_path / "a.jpg"}
    assert (data.items[0].group, data.folds, data.metric) == ("x", (), Metric.MAP)
    thermal = read(tmp_path, "path,label,modality\na.jpg,person,thermal\n")
    assert thermal.modality is Modality.THERMAL


def test_splits_are_those_of_the_column(tmp_path: Path) -> None:
    write_media(tmp_path, "a.wav", "b.wav")
    table = "path,label,split\na.wav,dog,train\nb.wav,rain,test\n"
    assert [item.path.name for item in read(tmp_path, table, "test").items] == ["b.wav"]
    assert len(read(tmp_path, table).items) == 2
    with pytest.raises(UsageError, match=r"has no rows of the split 'val': choose from test, train"):
        read(tmp_path, table, "val")


def test_a_class_file_gives_classes_other_names(tmp_path: Path) -> None:
    write_media(tmp_path, "a.jpg")
    write_texts(tmp_path, {"classes.csv": "label,name\nother,foyer\nother,cafe\nnone,nothing\n"})
    data = read(tmp_path, "path,label\na.jpg,other\n")
    assert data.classes is not None
    assert dict(zip(data.classes.labels, data.classes.texts, strict=True)) == {
        "none": ("nothing",),
        "other": ("foyer", "cafe"),
    }


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    write_media(tmp_path, "é.wav")
    (tmp_path / "mine.csv").write_bytes('\ufeffpath,label\r\n"é.wav","a ""loud"" bell"\r\n\r\n'.encode())
    data = read_dataset("csv", tmp_path / "mine.csv")
    assert data.items[0].labels == ('a "loud" bell',)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("path,label\n../a.wav,x\n", r"'\.\./a\.wav' is not a path in "),
        ("path,label\n/etc/a.wav,x\n", r"'/etc/a\.wav' is not a path in "),
        ("path,label\nC:\\a.wav,x\n", r"is not a path in "),
        ("path,label\n,x\n", r"'' is not a path in "),
        ("path,label\na.wav,x,y\n", r"labels\.csv, line 2: 3 values for 2 columns: quote values that have commas"),
        ('path,label\na.wav,"x\n' + "y" * 200_000, r"labels\.csv, line \d: field larger than field limit"),
        ("file,label\na.wav,x\n", r"has no column 'path', its columns are 'file, label'"),
        ("path,label,label\na.wav,x,y\n", r"has the column 'label' twice"),
        ("path,kind\na.wav,x\n", r"has neither a column 'label' nor 'caption'"),
        ("path,label\n", r"labels\.csv has no rows: csv expects labels\.csv"),
        ("", r"is empty: expected the columns path"),
        ("path,label\na.dat,x\n", r"the modality of 'a\.dat' is not known by its name: give a column modality"),
        ("path,label,modality\na.wav,x,smell\n", r"modality is 'smell': give a column modality with one of text, "),
        ("path,label\na.wav,x\na.jpg,y\n", r"has items of audio and image: give each modality a list of its own"),
        ("path,label,start_s,end_s\na.wav,x,1,\n", r"has only one of start_s and end_s"),
        ("path,label,start_s,end_s\na.wav,x,2,1\n", r"has end_s 1, which is not after start_s 2"),
        ("path,label,start_s,end_s\na.wav,x,nan,1\n", r"start_s is 'nan': expected seconds, 0 or more"),
        ("path,label\ngone.wav,x\n", r"1 of 1 left out: no file \(the first: 'gone\.wav'\): csv expects"),
        ("path,label\na.wav,***\n", r"the class '\*\*\*' has a name without letters or digits"),
    ],
)
def test_errors_of_a_list_are_one_line_with_the_way_out(tmp_path: Path, table: str, message: str) -> None:
    write_media(tmp_path, "a.wav", "a.jpg")
    with pytest.raises(UsageError, match=message) as caught:
        read(tmp_path, table)
    assert "\n" not in str(caught.value)


def test_other_encodings_and_sizes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_media(tmp_path, "a.wav")
    (tmp_path / "labels.csv").write_bytes("path,label\na.wav,Vögel\n".encode("latin-1"))
    with pytest.raises(UsageError, match=r"labels\.csv is not UTF-8 \(byte 18\): save it as UTF-8"):
        read_dataset("csv", tmp_path)
    monkeypatch.setattr(tables, "MAX_LIST_BYTES", 20)
    with pytest.raises(UsageError, match=r"labels\.csv cannot be read: larger than 20 bytes"):
        read(tmp_path, "path,label\n" + "a.wav,x\n" * 9)
    monkeypatch.undo()
    monkeypatch.setattr(tables, "MAX_ITEMS", 3)
    with pytest.raises(UsageError, match=r"has more than 3 rows: split it"):
        read(tmp_path, "path,label\n" + "a.wav,x\n" * 9)


def test_a_list_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "labels.csv")
    with pytest.raises(UsageError, match=r"labels\.csv cannot be read: not a regular file"):
        read_dataset("csv", tmp_path)
