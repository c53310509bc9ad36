"""Lists in a folder caption its files and add columns; a list given as the source names the files itself."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import bindsearch as bs
from bindsearch.types import Modality
from helpers.media_files import two_tone
from helpers.stores import connect


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "media"
    (root / "sub").mkdir(parents=True)
    for n, place in enumerate(("a.png", "b.png", "sub/c.png")):
        Image.fromarray(two_tone(20, 40 * n)).save(root / place)
    return root


@pytest.fixture
def store(tmp_path: Path) -> Iterator[bs.Store]:
    with connect(tmp_path / "store", encoder="null") as opened:
        yield opened


def names(hits: list[bs.Hit]) -> list[str]:
    return [hit.path.name for hit in hits]


def test_captions_are_found_and_lead_to_their_files(store: bs.Store, folder: Path) -> None:
    (folder / "captions.csv").write_text("path,caption\na.png,a red dog\na.png,a dog that is red\nsub/c.png,a boat\n")
    report = store.index(folder)
    assert (report.added, report.failed, report.notices) == (3, 0, [])
    assert store.status().segments == {Modality.TEXT: 3, Modality.IMAGE: 3}
    assert names(store.search("a dog that is red", to="text", k=1)) == ["a.png"]
    assert names(store.search("a boat", to="text", k=1)) == ["c.png"]
    assert store.index(folder).unchanged == 3


def test_a_changed_list_changes_the_files_it_speaks_of_and_no_other(store: bs.Store, folder: Path) -> None:
    (folder / "captions.csv").write_text("path,caption,rating\na.png,a dog,1\nb.png,a cat,2\n")
    store.index(folder)
    (folder / "captions.csv").write_text("path,caption,rating\na.png,a dog,5\nb.png,a cat,2\n")
    report = store.index(folder)
    assert (report.changed, report.unchanged) == (1, 2)
    assert names(store.search("x", to="image", filter="rating = 5")) == ["a.png"]
    (folder / "captions.csv").unlink()
    report = store.index(folder)
    assert (report.changed, report.unchanged, report.removed) == (2, 1, 0)
    assert store.status().segments == {Modality.IMAGE: 3}


def test_a_list_counts_also_where_only_a_part_is_indexed_again(store: bs.Store, folder: Path) -> None:
    (folder / "captions.csv").write_text("path,caption\nsub/c.png,a boat\na.png,a dog\n")
    store.index(folder)
    assert store.index(folder / "sub").unchanged == 1
    assert store.index(folder / "a.png").unchanged == 1
    (folder / "captions.csv").write_text("path,caption\nsub/c.png,a ship\na.png,a dog\n")
    assert store.index(folder / "captions.csv").changed == 1
    assert names(store.search("a ship", to="text", k=1)) == ["c.png"]


def test_a_manifest_is_a_source_of_its_own(store: bs.Store, folder: Path, tmp_path: Path) -> None:
    table = {
        "path": [str(folder / "a.png"), str(folder / "sub" / "c.png"), str(folder / "missing.png")],
        "modality": ["thermal", None, None],
        "caption": ["warm", "cold", "nothing"],
        "site": ["north", "south", "north"],
        "taken": ["2024-05-01T12:00:00", None, None],
    }
    manifest = tmp_path / "lists" / "manifest.parquet"
    manifest.parent.mkdir()
    pq.write_table(pa.table(table), manifest)
    report = store.index(manifest)
    assert report.added == 2
    assert [(file.path.name, file.reason) for file in report.failures] == [
        ("missing.png", "listed in a manifest, but the file does not exist")
    ]
    assert store.status().collections == (folder,)
    assert store.status().segments == {Modality.TEXT: 2, Modality.IMAGE: 1, Modality.THERMAL: 1}
    assert names(store.search("x", to="thermal", filter="site = 'north' and taken >= '2024-01-01'")) == ["a.png"]
    assert store.index(manifest).unchanged == 2
    assert store.index(folder).added == 1  # and what the list says stays
    assert store.status().segments == {Modality.TEXT: 2, Modality.IMAGE: 2, Modality.THERMAL: 1}
    (folder / "a.png").unlink()
    assert store.index(manifest).removed == 1


def test_a_list_of_files_all_over_the_disk_makes_no_collection_of_it(store: bs.Store, folder: Path) -> None:
    (folder / "list.csv").write_text("path\n/etc/hostname\n" + str(folder / "a.png") + "\n")
    with pytest.raises(bs.UsageError, match="without a common folder"):
        store.index(folder / "list.csv")


def test_a_jsonl_manifest_with_relative_paths(store: bs.Store, folder: Path) -> None:
    rows = [{"path": "a.png", "caption": "one", "n": 1}, {"path": "sub/c.png", "n": 2}]
    (folder / "list.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assert store.index(folder / "list.jsonl").added == 2
    assert names(store.search("x", to="image", filter="n = 2")) == ["c.png"]
    assert store.index(folder).added == 1  # b.png, which the list does not name


def test_broken_rows_are_told_and_the_rest_is_used(store: bs.Store, folder: Path) -> None:
    (folder / "list.jsonl").write_text('{"path": "a.png", "caption": "one"}\n{"path": 5}\nno json\n')
    report = store.index(folder)
    assert (report.added, report.failed) == (3, 0)
    assert len(report.notices) == 2
    assert all(str(folder / "list.jsonl") in notice for notice in report.notices)
    assert names(store.search("one", to="text", k=1)) == ["a.png"]


def test_a_motion_table_is_no_list(store: bs.Store, folder: Path) -> None:
    rows = "\n".join(f"{n / 50},{n % 3},0,9.8,0,0,0" for n in range(300))
    (folder / "walk.csv").write_text("time_s,acc_x,acc_y,acc_z,gyro_x,gyro_y,gyro_z\n" + rows)
    assert store.index(folder).added == 4
    assert store.index(folder).unchanged == 4


def test_listed_files_that_are_not_there_are_counted(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.txt").write_text("a dog")
    (root / "list.csv").write_text("path\na.txt\nb.txt\nc.txt\n")
    many = tmp_path / "many.csv"
    many.write_text("path\n" + "".join(f"root/{n}.txt\n" for n in range(1500)))
    with connect(tmp_path / "store") as store:
        report = store.index(root)
        assert report.added == 1
        assert f"{root / 'list.csv'}: 2 of 3 listed files are not there, hidden or ignored" in report.notices
        report = store.index(many)
        assert "1500 of 1500 listed files are not there: the first 1000 are reported as failed" in report.notices
        assert len(report.failures) == 1000
        with pytest.raises(bs.UsageError, match="more than 100 rows: split it, or give a larger --limit list-rows=N"):
            store.index(many, limits={"max_list_rows": 100})


def test_a_table_is_a_list_only_if_it_names_files_of_the_collection(tmp_path: Path) -> None:
    root = tmp_path / "media"
    root.mkdir()
    for name in ("a.txt", "b.txt", "c.txt"):
        (root / name).write_text(f"words of {name}")
    with zipfile.ZipFile(root / "z.zip", "w") as archive:
        archive.writestr("d.txt", "words of d")
    (root / "contacts.csv").write_text("name,file,phone\nAnna,anna.vcf,12\nBen,ben.vcf,34\n")
    (root / "access.csv").write_text(
        "path,status\n" + "".join(f"/usr/share/{i}.html,200\n../up/{i}.png,404\n" for i in range(50))
    )
    (root / "late.csv").write_text("path,rating\n" + "".join(f"gone{i}.txt,1\n" for i in range(200)) + "a.txt,5\n")
    (root / "members.csv").write_text("path,rating\nz.zip/d.txt,7\n")
    nothing = "not media, and no list of files: none of its paths is that of a file of the collection"
    with connect(tmp_path / "store", encoder="null") as store:
        planned = {file.path.name: file.why for file in store.plan_index(root)}
        assert planned["contacts.csv"] == planned["access.csv"] == nothing
        assert planned["late.csv"] == planned["members.csv"] == "manifest: metadata of other files"
        report = store.index(root)
        assert report.added == 4
        assert report.skipped == {nothing: 2}
        assert not any("contacts" in notice or "access" in notice for notice in report.notices)
        assert {hit.path.name for hit in store.search("a", filter="rating >= 5")} == {"a.txt", "d.txt"}
        report = store.index(root)
        assert (report.unchanged, report.skipped) == (4, {nothing: 2})
        (root / "anna.vcf").write_text("BEGIN:VCARD")  # then it is a list of that file
        assert nothing not in store.index(root / "contacts.csv").skipped
        (root / "c.txt").unlink()
        (root / "only.csv").write_text("path,rating\nc.txt,3\n")
        assert store.index(root).skipped[nothing] == 2
        (root / "c.txt").write_text("words of c.txt")
        store.index(root)
        assert len(store.search("a", filter="rating = 3")) == 1
