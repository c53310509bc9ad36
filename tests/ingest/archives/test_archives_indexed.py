"""Archives in a folder: members are items, an unchanged archive costs nothing, a damaged one keeps what was good."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bindsearch as bs
from bindsearch.types import Modality
from helpers.stores import connect


def png(shade: int) -> bytes:
    out = io.BytesIO()
    pixels = np.full((20, 20, 3), shade, np.uint8)
    pixels[:10] = 255 - shade
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def write_zip(path: Path, members: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "media"
    root.mkdir()
    (root / "plain.txt").write_text("a plain text")
    return root


@pytest.fixture
def store(tmp_path: Path) -> Iterator[bs.Store]:
    with connect(tmp_path / "store", encoder="null") as opened:
        yield opened


def paths(store: bs.Store) -> set[str]:
    return set(store._reader.current().snapshot.live_tables()[0].column("rel_path").to_pylist())


def test_members_are_items_and_an_unchanged_archive_is_not_opened(store: bs.Store, folder: Path) -> None:
    archive = write_zip(folder / "pictures.zip", {f"deep/{n}.png": png(n) for n in range(30)})
    report = store.index(folder)
    assert (report.added, report.failed, report.notices) == (31, 0, [])
    assert "pictures.zip/deep/7.png" in paths(store)
    hit = store.search("x", to="image", filter="path like '%/pictures.zip/deep/7.png'")[0]
    assert hit.path == folder / "pictures.zip" / "deep" / "7.png"
    archive.chmod(0)
    assert store.index(folder).unchanged == 31
    assert not (store.path / "spool").exists()


def test_a_changed_archive_gives_what_is_new_and_loses_what_is_gone(store: bs.Store, folder: Path) -> None:
    write_zip(folder / "a.zip", {f"{n}.png": png(n) for n in range(5)})
    store.index(folder)
    write_zip(folder / "a.zip", {f"{n}.png": png(n) for n in range(2, 8)})
    report = store.index(folder)
    assert (report.added, report.removed, report.unchanged, report.changed) == (3, 2, 4, 0)
    (folder / "a.zip").unlink()
    assert store.index(folder).removed == 6
    assert paths(store) == {"plain.txt"}


def test_members_with_the_bytes_of_files_share_their_vectors(store: bs.Store, folder: Path) -> None:
    (folder / "1.png").write_bytes(png(1))
    store.index(folder)
    write_tar(folder / "a.tar", {"1.png": png(1), "2.png": png(2)})
    assert store.index(folder).added == 2
    segments = store._reader.current().snapshot.live_tables()[1]
    assert len(set(segments.column("vector_id").to_pylist())) == segments.num_rows - 1


def test_a_web_dataset_shard_gives_captions_and_columns(store: bs.Store, folder: Path) -> None:
    members: dict[str, bytes] = {}
    for n in range(4):
        members |= {f"{n:05d}.png": png(n), f"{n:05d}.txt": f"caption {n}".encode()}
        members |= {f"{n:05d}.json": json.dumps({"score": n / 10, "nested": {"x": 1}}).encode()}
    write_tar(folder / "shard-000.tar", members)
    report = store.index(folder)
    assert (report.added, report.failed) == (5, 0)
    assert store.status().segments == {Modality.TEXT: 5, Modality.IMAGE: 4}
    assert store.search("caption 2", to="text", k=1)[0].path.name == "00002.png"
    assert [hit.path.name for hit in store.search("x", to="image", filter="score > 0.25")] == ["00003.png"]


def test_a_truncated_archive_keeps_its_good_members_and_is_told_once(store: bs.Store, folder: Path) -> None:
    whole = write_tar(folder / "a.tar", {f"{n}.png": png(n) for n in range(10)}).read_bytes()
    (folder / "a.tar").write_bytes(whole[: len(whole) // 2])
    report = store.index(folder)
    assert report.added > 3
    assert [failure.path for failure in report.failures] == [folder / "a.tar"]
    again = store.index(folder)
    assert (again.added, again.failed, again.removed) == (0, 1, 0)
    assert again.unchanged == report.added
    (folder / "a.tar").write_bytes(whole)
    mended = store.index(folder)
    assert (mended.failed, mended.added + mended.unchanged) == (0, 11)
    assert store.status().failures == ()


def test_a_bomb_is_cut_off_and_the_limit_can_be_raised(store: bs.Store, folder: Path) -> None:
    write_zip(folder / "bomb.zip", {"zeros.txt": bytes(80 << 20)})
    report = store.index(folder)
    (failure,) = report.failures
    assert "--limit" in failure.reason
    assert report.added == 1
    report = store.index(folder, limits={"max_ratio": 1e9}, retry_failed=True)
    assert "zeros.txt" in str(report.failures[0].path)  # it holds no text, but it was looked at


def test_an_unknown_cap_is_refused(store: bs.Store, folder: Path) -> None:
    with pytest.raises(
        bs.UsageError, match="unknown limit 'pixel': did you mean 'pixels'\\? choose from pixels, samples"
    ):
        store.index(folder, limits={"max_pixel": 3})
    with pytest.raises(bs.UsageError, match="the limit pixels is 0: expected a number above 0"):
        store.index(folder, limits={"max_pixels": 0})
    (folder / "1.png").write_bytes(png(1))
    report = store.index(folder, limits={"max_pixels": 100})
    assert "20x20 pixels: more than 100 are not decoded (--limit" in report.failures[0].reason


def test_only_what_is_included_is_taken_from_an_archive(store: bs.Store, folder: Path) -> None:
    write_zip(folder / "a.zip", {**{f"{n}.png": png(n) for n in range(5)}, "note.txt": b"a note"})
    assert store.index(folder, include=["**/*.png"]).added == 5
    report = store.index(folder)
    assert (report.added, report.unchanged) == (2, 5)


def test_new_facts_about_a_member_reach_it(store: bs.Store, folder: Path) -> None:
    for rating in (4, 5):
        sidecar = json.dumps({"columns": {"rating": rating}}).encode()
        write_zip(folder / "a.zip", {"x.png": png(1), "x.png.json": sidecar})
        store.index(folder)
        assert len(store.search("x", to="image", filter=f"rating = {rating}")) == 1


def test_an_archive_that_comes_back_as_it_was_has_its_members_again(store: bs.Store, folder: Path) -> None:
    first = write_zip(folder / "a.zip", {"x.png": png(1), "y.png": png(2)})
    store.index(folder)
    first.rename(folder.parent / "kept")
    for other in (
        lambda: write_zip(folder / "a.zip", {"x.png": png(3)}),
        lambda: (folder / "a.zip").write_text("none"),
    ):
        other()
        store.index(folder / "a.zip")
        (folder.parent / "kept").replace(folder / "a.zip")
        store.index(folder)
        assert paths(store) == {"plain.txt", "a.zip/x.png", "a.zip/y.png"}
        assert store.status().failures == ()
        (folder / "a.zip").rename(folder.parent / "kept")
    (folder / "a.zip").mkdir()
    (folder / "a.zip" / "z.txt").write_text("a folder now")
    store.index(folder)
    assert paths(store) == {"plain.txt", "a.zip/z.txt"}


def test_a_member_that_is_left_out_now_is_an_item_no_more(store: bs.Store, folder: Path) -> None:
    write_zip(folder / "a.zip", {"x.txt": b"small", "y.txt": b"text"})
    store.index(folder)
    write_zip(folder / "a.zip", {"x.txt": b"large" * 100, "y.txt": b"text"})
    report = store.index(folder, limits={"member": 100})
    assert [failure.path.name for failure in report.failures] == ["x.txt"]
    assert paths(store) == {"plain.txt", "a.zip/y.txt"}


def test_a_path_inside_an_archive_stands_for_the_archive(store: bs.Store, folder: Path) -> None:
    write_zip(folder / "a.zip", {"x.png": png(1), "y.png": png(2)})
    store.index(folder)
    write_zip(folder / "a.zip", {"x.png": png(1), "y.png": png(3)})
    report = store.index(folder / "a.zip" / "y.png")
    assert (report.changed, report.unchanged, report.removed) == (1, 1, 0)
