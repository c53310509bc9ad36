"""The store end to end with the null encoder: equal content finds itself, whatever happens to the folder."""

import json
import os
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

import bindsearch as bs
from bindsearch.errors import StoreError, StoreNotFoundError, UsageError, VectorError
from bindsearch.search.query import Searchable
from bindsearch.storage.config import write_config
from bindsearch.types import Modality
from helpers.stores import connect


def write_picture(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (24, 32, 3), np.uint8)).save(path)
    return path


def write_sound(path: Path, seconds: float, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, int(8000 * seconds)).astype(np.float32)
    soundfile.write(path, samples, 8000)
    return path


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    for n in range(6):
        write_picture(folder / "pictures" / f"{n}.png", n)
    write_sound(folder / "sounds" / "long.wav", 25.0)
    (folder / "notes.txt").write_text("a dog runs on the beach")
    (folder / "other.md").write_text("two cats sleep")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> bs.Store:
    return connect(tmp_path / "store", encoder="null")


def counts(report: object) -> tuple[int, ...]:
    return tuple(getattr(report, name) for name in ("added", "unchanged", "changed", "removed", "failed"))


def test_every_file_finds_itself(store: bs.Store, media: Path) -> None:
    assert counts(store.index(media)) == (9, 0, 0, 0, 0)
    for path in sorted(media.rglob("*.png")):
        hit = store.search(bs.image(path), to="image", k=1, include_query=True)[0]
        assert (hit.path, hit.rank, hit.modality) == (path, 1, Modality.IMAGE)
        assert hit.cosine == pytest.approx(1.0, abs=1e-3)
    hit = store.search("two cats sleep", to="text", k=1)[0]
    assert (hit.path, hit.text) == (media / "other.md", "two cats sleep")


def test_a_hit_names_file_and_span(store: bs.Store, media: Path) -> None:
    store.index(media)
    query = bs.parse_query(f'audio:"{media / "sounds" / "long.wav"}"@10s-20s')
    hit = store.search(query, to="audio", k=5, include_query=True)[0]
    assert (hit.path.name, hit.start_s, hit.end_s) == ("long.wav", 10.0, 20.0)
    assert store.status().segments[Modality.AUDIO] == 3


def test_an_item_appears_once_by_its_best_segment(store: bs.Store, media: Path) -> None:
    store.index(media)
    hits = store.search(bs.audio(media / "sounds" / "long.wav"), to="audio", k=10, include_query=True)
    assert [hit.path.name for hit in hits] == ["long.wav"]


def test_the_querys_own_files_are_left_out_copies_too(store: bs.Store, media: Path) -> None:
    shutil.copy(media / "pictures" / "0.png", media / "pictures" / "copy.png")
    store.index(media)
    names = {hit.path.name for hit in store.search(bs.image(media / "pictures" / "0.png"), to="image")}
    assert names == {f"{n}.png" for n in range(1, 6)}
    names = {hit.path.name for hit in store.search(bs.like(media / "pictures" / "0.png"), to="image")}
    assert names == {f"{n}.png" for n in range(1, 6)}
    found = store.search(bs.like(media / "pictures" / "0.png"), to="image", k=2, include_query=True, copies=True)
    assert {hit.path.name for hit in found} == {"0.png", "copy.png"}


def test_a_file_that_is_not_indexed_finds_its_copies(store: bs.Store, media: Path, tmp_path: Path) -> None:
    shutil.copy(media / "pictures" / "0.png", media / "pictures" / "copy.png")
    store.index(media)
    shutil.copy(media / "pictures" / "0.png", tmp_path / "mine.png")
    best = store.search(bs.image(tmp_path / "mine.png"), to="image", k=1)[0]
    assert (best.path.name, best.match, [path.name for path in best.copies]) == ("0.png", "exact", ["copy.png"])
    answer = store.answer(bs.make_query(bs.image(media / "pictures" / "0.png"), to="image"))
    assert "0.png" not in {hit.path.name for hit in answer.hits}
    assert "copies of the query's own files are left out: 1 (--include-query)" in answer.notices
    answer = store.answer(bs.make_query(bs.image(media / "pictures" / "1.png"), to="image"))
    assert answer.notices == ()


def test_like_by_id_and_by_path_are_the_same_and_need_no_encoder(store: bs.Store, media: Path, tmp_path: Path) -> None:
    store.index(media)
    path = media / "sounds" / "long.wav"
    item = store.search(bs.audio(path), to="audio", k=1, include_query=True)[0].item_id
    write_config(tmp_path / "store", replace(store.config, encoder="no-such-encoder"))
    unknown = connect(tmp_path / "store")
    assert unknown.search(bs.like(item)) == unknown.search(bs.like(path))
    with pytest.raises(bs.EncoderError, match="no-such-encoder"):
        unknown.search("text needs one")


def test_a_composition_scores_as_the_formula_says_and_explains_its_terms(store: bs.Store, media: Path) -> None:
    store.index(media)
    a, b = (bs.image(media / "pictures" / f"{n}.png") for n in (0, 1))
    hits = store.search(0.5 * a + 0.5 * b, to="image", k=2, include_query=True, copies=True)
    assert {hit.path.name for hit in hits} == {"0.png", "1.png"}
    for hit in hits:
        assert sum(hit.contributions) == pytest.approx(hit.cosine, abs=1e-3)
    without = store.search(a - b, to="image", k=6, include_query=True)
    assert without[0].path.name == "0.png"
    assert without[-1].path.name == "1.png"
    with pytest.raises(UsageError, match="cancel"):
        store.search(a - a)


def test_a_ready_vector_is_a_query(store: bs.Store, media: Path) -> None:
    store.index(media)
    vector = np.random.default_rng(0).standard_normal(64)
    hits = store.search(vector, k=3)
    assert len(hits) == 3
    assert [hit.contributions for hit in hits] == [(hit.cosine,) for hit in hits]
    with pytest.raises(VectorError, match=r"needs \(64,\)"):
        store.search(vector[:10])


def test_a_filter_may_leave_nothing_to_compare_a_ready_vector_with(store: bs.Store, media: Path) -> None:
    store.index(media)
    vector = np.random.default_rng(0).standard_normal(64)
    assert store.search(vector, filter="size_bytes < 0") == []
    assert store.search_many([vector, vector], filter="size_bytes < 0", ranking="z") == [[], []]


def test_options_are_checked_in_every_search(store: bs.Store, media: Path) -> None:
    store.index(media)
    targets = ["image"]
    assert {hit.modality for hit in store.search("a dog", to=targets)} == {"image"}
    targets[0] = "text"
    assert {hit.modality for hit in store.search("a dog", to=targets)} == {"text"}
    assert len(store.search("a dog", k=1)) == 1
    with pytest.raises(UsageError, match="k is True"):
        store.search("a dog", k=True)


def test_search_many_gives_what_search_gives(store: bs.Store, media: Path) -> None:
    store.index(media)
    queries: list[Searchable] = ["a dog", bs.like(1), 0.5 * bs.text("x") + 0.5 * bs.like(2)]
    assert store.search_many(queries, k=4) == [store.search(query, k=4) for query in queries]


def test_rankings(store: bs.Store, media: Path) -> None:
    store.index(media)
    by_cosine = store.search("a dog runs on the beach", ranking="cosine")
    assert [hit.score for hit in by_cosine] == sorted((hit.cosine for hit in by_cosine), reverse=True)
    per = store.search("x", ranking="per-modality", to="image,text", k=2)
    assert [hit.modality for hit in per] == [Modality.TEXT, Modality.TEXT, Modality.IMAGE, Modality.IMAGE]
    assert [hit.rank for hit in per] == [1, 2, 3, 4]
    calibrated = store.search("x", k=9)
    assert [hit.score for hit in calibrated] == sorted((hit.score for hit in calibrated), reverse=True)
    assert len(calibrated) == 9


def test_a_second_run_embeds_nothing(store: bs.Store, media: Path) -> None:
    store.index(media)
    generation = store.status().generation
    assert counts(store.index(media)) == (0, 9, 0, 0, 0)
    assert store.status().generation == generation


def test_a_touched_file_is_unchanged_and_a_changed_one_is_embedded_anew(store: bs.Store, media: Path) -> None:
    store.index(media)
    item = store.search("two cats sleep", to="text", k=1)[0].item_id
    os.utime(media / "notes.txt", (time.time() + 5, time.time() + 5))
    (media / "other.md").write_text("three cows graze")
    assert counts(store.index(media)) == (0, 8, 1, 0, 0)
    assert counts(store.index(media)) == (0, 9, 0, 0, 0)
    hit = store.search("three cows graze", to="text", k=1)[0]
    assert (hit.item_id, hit.path.name) == (item, "other.md")
    assert store.search("two cats sleep", to="text", k=1)[0].cosine < 0.9
    assert store.status().segments[Modality.TEXT] == 2


def test_removed_files_are_swept_only_under_the_path_given(store: bs.Store, media: Path) -> None:
    store.index(media)
    (media / "pictures" / "0.png").unlink()
    (media / "notes.txt").unlink()
    assert counts(store.index(media / "pictures")) == (0, 5, 0, 1, 0)
    assert store.status().items[Modality.TEXT] == 2
    assert counts(store.index(media / "other.md")) == (0, 1, 0, 0, 0)
    assert counts(store.index(media)) == (0, 7, 0, 1, 0)
    assert len(store.status().collections) == 1


def test_a_suddenly_empty_root_sweeps_nothing_and_says_so(store: bs.Store, media: Path, tmp_path: Path) -> None:
    store.index(media)
    media.rename(tmp_path / "elsewhere")
    media.mkdir()
    report = store.index(media)
    assert report.removed == 0
    assert "is empty: its" in report.notices[0]
    assert sum(store.status().items.values()) == 9


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_an_unreadable_folder_sweeps_nothing_below_it(store: bs.Store, media: Path) -> None:
    store.index(media)
    (media / "pictures").chmod(0)
    try:
        report = store.index(media)
    finally:
        (media / "pictures").chmod(0o755)
    assert (report.removed, report.unchanged) == (0, 3)
    assert "cannot read" in report.notices[0]


def test_a_folder_inside_a_collection_and_one_around_it_hold_no_file_twice(store: bs.Store, media: Path) -> None:
    store.index(media / "pictures")
    store.index(media)
    status = store.status()
    assert sum(status.items.values()) == 9
    assert status.collections == (media / "pictures", media)
    assert counts(store.index(media)) == (0, 9, 0, 0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux allows any bytes in names")
def test_odd_names_are_indexed_and_impossible_ones_named(store: bs.Store, media: Path) -> None:
    names = [
        "with space.txt",
        "[red]bracket.txt",
        "new\nline.txt",
        "ünïcödé 猫.txt",
        "-dash.txt",
        "100%.txt",
        "'quote\".txt",
    ]
    for number, name in enumerate(names):
        (media / name).write_text(f"odd name number {number}")
    with open(os.path.join(os.fsencode(media), b"latin\xe9.txt"), "w") as file:  # noqa: PTH123, PTH118
        file.write("not utf-8")
    report = store.index(media)
    assert report.added == 9 + len(names)
    (failure,) = report.failures
    assert failure.path == media / "latin\\xe9.txt"
    assert failure.reason == "its name is not UTF-8: rename it"
    assert store.status().failures == (failure,)
    for number, name in enumerate(names):
        assert store.search(f"odd name number {number}", to="text", k=1)[0].path == media / name


def test_bad_files_are_recorded_and_harm_nothing_else(store: bs.Store, media: Path) -> None:
    (media / "broken.png").write_bytes((media / "pictures" / "0.png").read_bytes()[:60])
    (media / "empty.jpg").write_bytes(b"")
    np.save(media / "depth_bad.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    report = store.index(media)
    assert counts(report) == (9, 0, 0, 0, 3)
    reasons = {file.path.name: file.reason for file in store.status().failures}
    assert set(reasons) == {"broken.png", "empty.jpg", "depth_bad.npy"}
    assert all(reasons.values())
    assert counts(store.index(media)) == (0, 9, 0, 0, 3)
    write_picture(media / "broken.png", 77)
    (media / "empty.jpg").unlink()
    assert counts(store.index(media)) == (1, 9, 0, 0, 1)
    assert [file.path.name for file in store.status().failures] == ["depth_bad.npy"]


def test_failed_files_are_tried_again_on_request(store: bs.Store, media: Path) -> None:
    bad = media / "walk_imu.csv"
    rows = "\n".join(f"0.1,0.{n},9.8,0,0,0" for n in range(300))
    bad.write_text("acc_x,acc_y,acc_z,gyro_x,gyro_y,gyro_z\n" + rows)
    report = store.index(media)
    assert "--imu-rate" in report.failures[0].reason
    assert counts(store.index(media)) == (0, 9, 0, 0, 1)
    assert counts(store.index(media, retry_failed=True)) == (0, 9, 0, 0, 1)
    assert counts(store.index(media, imu_rate_hz=50.0)) == (1, 9, 0, 0, 0)
    assert store.status().failures == ()


def test_a_file_that_breaks_is_removed_and_recorded(store: bs.Store, media: Path) -> None:
    store.index(media)
    (media / "pictures" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    report = store.index(media)
    assert counts(report) == (0, 8, 0, 0, 1)
    assert store.status().items[Modality.IMAGE] == 5


def test_a_rule_changes_what_an_unchanged_file_is(store: bs.Store, media: Path) -> None:
    store.index(media)
    assert counts(store.index(media, rules=["thermal=pictures/0.png"])) == (0, 8, 1, 0, 0)
    assert store.status().items[Modality.THERMAL] == 1
    assert counts(store.index(media)) == (0, 9, 0, 0, 0)


def test_a_caption_in_the_sidecar_finds_the_file_and_its_change_is_noticed(store: bs.Store, media: Path) -> None:
    sidecar = media / "pictures" / "3.png.json"
    sidecar.write_text(json.dumps({"caption": "my grandmother's house"}))
    store.index(media)
    hit = store.search("my grandmother's house", to="text", k=1)[0]
    assert (hit.path.name, hit.text) == ("3.png", "my grandmother's house")
    sidecar.unlink()
    assert counts(store.index(media)) == (0, 8, 1, 0, 0)


def test_hidden_files_and_the_store_itself_are_not_indexed(media: Path) -> None:
    write_picture(media / ".hidden" / "a.png", 1)
    write_picture(media / ".b.png", 2)
    store = connect(media / "my-store", encoder="null")
    assert counts(store.index(media)) == (9, 0, 0, 0, 0)
    assert counts(store.index(media)) == (0, 9, 0, 0, 0)


def test_many_batches_keep_files_and_parts_few(store: bs.Store, media: Path, tmp_path: Path) -> None:
    store.index(media)
    for n in range(80):
        (media / f"text{n % 50}.txt").write_text(f"line number {n}")
        store.index(media / f"text{n % 50}.txt")
    status = store.status()
    assert status.items[Modality.TEXT] == 52
    assert len(list((tmp_path / "store" / "vectors" / "text").iterdir())) <= 33
    assert len(list((tmp_path / "store" / "snapshots").iterdir())) <= 36
    for n in range(30, 80):
        assert store.search(f"line number {n}", to="text", k=1)[0].cosine > 0.99
    assert store.search("line number 3", to="text", k=1)[0].cosine < 0.9


@pytest.mark.parametrize("rebuilt_by", ["search", "index"])
@pytest.mark.parametrize("damage", ["lost", "truncated", "garbage", "no CURRENT", "CURRENT garbage"])
def test_a_damaged_snapshot_is_rebuilt(
    store: bs.Store, media: Path, tmp_path: Path, damage: str, rebuilt_by: str
) -> None:
    store.index(media)
    before = store.search("two cats sleep", k=9)
    store.close()
    part = next((tmp_path / "store" / "snapshots").glob("*/segments.arrow"))
    current = tmp_path / "store" / "CURRENT"
    if damage == "lost":
        shutil.rmtree(tmp_path / "store" / "snapshots")
    elif damage == "truncated":
        part.write_bytes(part.read_bytes()[:100])
    elif damage == "garbage":
        part.write_bytes(b"x" * part.stat().st_size)
    elif damage == "no CURRENT":
        current.unlink()
    else:
        current.write_text("{")
    reopened = connect(tmp_path / "store")
    if rebuilt_by == "search":
        assert reopened.search("two cats sleep", k=9) == before
    assert counts(reopened.index(media)) == (0, 9, 0, 0, 0)
    assert reopened.search("two cats sleep", k=9) == before


def test_another_encoder_is_refused_by_name(store: bs.Store, media: Path, tmp_path: Path) -> None:
    store.index(media)
    with pytest.raises(StoreError, match=r"encoder null, not of mini"):
        connect(tmp_path / "store", encoder="mini").index(media)


def test_no_store_and_no_path_are_one_clear_line(store: bs.Store, tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError, match="bindsearch index"):
        store.search("x")
    with pytest.raises(UsageError, match="does not exist"):
        store.index(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="nothing to index"):
        store.index()
    assert not (tmp_path / "store").exists()


def test_a_second_writer_is_told_who_the_first_one_is(store: bs.Store, media: Path, tmp_path: Path) -> None:
    from bindsearch.storage.session import writer_lock

    store.index(media)
    with writer_lock(tmp_path / "store"), pytest.raises(bs.StoreLockedError, match=f"process {os.getpid()} on"):
        store.index(media)


def test_a_lost_vector_file_is_embedded_again(store: bs.Store, media: Path, tmp_path: Path) -> None:
    store.index(media)
    before = [hit.path for hit in store.search("two cats sleep", k=9)]
    store.close()
    vectors = tmp_path / "store" / "vectors"
    next((vectors / "text").iterdir()).unlink()
    damaged = next((vectors / "audio").iterdir())
    damaged.write_bytes(damaged.read_bytes()[:50])
    reopened = connect(tmp_path / "store")
    assert counts(reopened.index(media)) == (0, 6, 3, 0, 0)
    assert [hit.path for hit in reopened.search("two cats sleep", k=9)] == before


def test_a_rate_given_later_helps_and_is_not_needed_again(store: bs.Store, media: Path) -> None:
    rows = "\n".join(f"0.1,0.{n},9.8,0,0,0" for n in range(300))
    (media / "walk_imu.csv").write_text("acc_x,acc_y,acc_z,gyro_x,gyro_y,gyro_z\n" + rows)
    assert store.index(media, imu_rate_hz=50.0).failed == 0
    os.utime(media / "walk_imu.csv", (time.time() + 5, time.time() + 5))
    assert counts(store.index(media)) == (0, 10, 0, 0, 0)


def test_a_deleted_path_inside_a_collection_can_be_named(store: bs.Store, media: Path) -> None:
    store.index(media)
    (media / "notes.txt").unlink()
    shutil.rmtree(media / "pictures")
    assert counts(store.index(media / "notes.txt", media / "pictures")) == (0, 0, 0, 7, 0)


def test_a_link_to_a_disk_that_is_away_keeps_its_item(store: bs.Store, media: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    write_picture(disk / "far.png", 50)
    (media / "link.png").symlink_to(disk / "far.png")
    assert store.index(media).added == 10
    disk.rename(tmp_path / "away")
    report = store.index(media)
    assert (report.removed, report.unchanged) == (0, 9)
    assert "link.png" in report.notices[0]


def test_a_folder_that_is_no_store_is_not_written_into(media: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not empty and not a store"):
        connect(media, encoder="null").index(media)
    with pytest.raises(UsageError, match="empty: name a folder"):
        connect("")
    (tmp_path / "file").touch()
    with pytest.raises(StoreNotFoundError):
        connect(tmp_path / "file").search("x")


def test_segment_lengths_are_chosen_once_and_recorded(media: Path, tmp_path: Path) -> None:
    store = connect(tmp_path / "short", encoder="null", segment_s={"audio": 5.0})
    store.index(media)
    assert store.status().segments[Modality.AUDIO] == 5
    assert connect(tmp_path / "short").config.audio_segment_s == 5.0
    with pytest.raises(UsageError, match="segments of 'text' have no length"):
        connect(tmp_path / "other", segment_s={"text": 5.0})


def test_a_video_file_without_a_picture_is_a_sound(store: bs.Store, media: Path) -> None:
    import av

    path = media / "talk.mp4"
    with av.open(str(path), "w") as container:
        track = container.add_stream("aac", rate=16000, layout="mono")
        noise = np.random.default_rng(4).uniform(-0.5, 0.5, (1, 48 * 1024)).astype(np.float32)
        for start in range(0, noise.shape[1], 1024):
            frame = av.AudioFrame.from_ndarray(noise[:, start : start + 1024].copy(), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, start
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    store.index(media)
    assert store.status().items[Modality.AUDIO] == 2
    assert store.search(bs.like(path), to="audio", include_query=True)[0].path == path


def test_a_store_killed_before_its_first_commit_holds_nothing_yet(store: bs.Store, media: Path, tmp_path: Path) -> None:
    store.index(media)
    for path in (tmp_path / "store").iterdir():
        if path.name != "store.json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(StoreNotFoundError, match="bindsearch index"):
        connect(tmp_path / "store").search("x")
    assert connect(tmp_path / "store").index(media).added == 9
