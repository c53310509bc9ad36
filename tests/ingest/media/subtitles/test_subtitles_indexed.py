"""Subtitles beside and inside recordings, from `index` to `search`: texts with times, found where they are said."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import bindsearch as bs
from bindsearch.reports import IndexReport
from helpers.command import Run
from helpers.media_files import tone, write_sound
from helpers.stores import connect
from helpers.subtitle_files import film, srt, vtt, with_timed_text, with_track
from helpers.waiting import wait_for

ENGLISH = [(1.0, 2.0, "A dog barks."), (9.0, 20.0, "The end of it.")]
GERMAN = [(4.0, 5.0, "Ein Hund bellt.")]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("film") / "film.mp4")


@pytest.fixture
def folder(tmp_path: Path, source: Path) -> Path:
    root = tmp_path / "media"
    root.mkdir()
    (root / "film.mp4").write_bytes(source.read_bytes())
    (root / "film.srt").write_text(srt(ENGLISH))
    return root


@pytest.fixture
def store(tmp_path: Path) -> bs.Store:
    return connect(tmp_path / "store", encoder="null")


def texts(store: bs.Store) -> set[tuple[str, float | None, float | None, str | None]]:
    """Return file, start, end and words of all texts."""
    with tempfile.TemporaryDirectory() as folder:
        store.export(Path(folder) / "all.parquet")
        rows = pq.read_table(Path(folder) / "all.parquet").to_pylist()
    return {
        (Path(row["path"]).name, row["start_s"], row["end_s"], row["text"]) for row in rows if row["text"] is not None
    }


def test_subtitles_are_found_at_their_times(folder: Path, store: bs.Store) -> None:
    (folder / "film.de.vtt").write_text(vtt(GERMAN))
    write_sound(folder / "song.wav", tone(5.0))
    (folder / "song.wav.srt").write_text(srt([(1.0, 2.0, "la la")]))
    (folder / "alone.srt").write_text(srt(GERMAN))
    report = store.index(folder)
    assert not report.failures
    assert report.skipped == {"subtitles of film.mp4": 2, "subtitles of song.wav": 1}
    assert texts(store) == {
        ("film.mp4", 1.0, 12.0, "A dog barks.\nThe end of it."),
        ("film.mp4", 4.0, 5.0, "Ein Hund bellt."),
        ("song.wav", 1.0, 2.0, "la la"),
        ("alone.srt", None, None, "Ein Hund bellt."),
    }
    best = store.search("Ein Hund bellt.", k=1)[0]
    assert (best.path.name, best.cosine > 0.999) in (("film.mp4", True), ("alone.srt", True))
    assert store.status().items == {bs.Modality.VIDEO: 1, bs.Modality.AUDIO: 1, bs.Modality.TEXT: 1}
    assert store.search(f"{folder / 'film.mp4'}@1s-2s", k=1)
    assert store.search("like:" + str(folder / "film.mp4") + "@1s-2s", k=3)
    assert store.index(folder).unchanged == 3


def test_a_passage_ends_where_it_no_longer_fits(folder: Path, store: bs.Store) -> None:
    lines = [(0.1 * n, 0.1 * n + 0.1, f"sentence {n} of a long speech about boats") for n in range(100)]
    (folder / "film.srt").write_text(srt(lines))
    store.index(folder)
    found = sorted((hit[1] or 0.0, hit[2], hit[3]) for hit in texts(store))
    assert len(found) > 1
    for start_s, end_s, words in found:
        numbers = [int(line.split()[1]) for line in str(words).split("\n")]
        assert (start_s, end_s) == pytest.approx((0.1 * numbers[0], 0.1 * numbers[-1] + 0.1), abs=0.002)
    assert " ".join(str(words) for *_, words in found).split("sentence")[1:] != []


def test_added_changed_and_removed_subtitles_are_seen(folder: Path, store: bs.Store) -> None:
    (folder / "film.srt").unlink()
    store.index(folder)
    assert texts(store) == set()
    number = store.search("x", k=1)[0].item_id
    for name, lines in (("film.srt", ENGLISH), ("film.srt", GERMAN)):
        (folder / name).write_text(srt(lines))
        report = store.index(folder)
        assert (report.changed, report.added, report.removed) == (1, 0, 0)
        assert {hit[3] for hit in texts(store)} == {"\n".join(text for *_, text in lines)}
    one, other = folder / "film.de.srt", folder / "film.en.srt"
    for path in (one, other):  # of the same time, as from an archive
        path.write_text(srt(ENGLISH))
        os.utime(path, ns=(10**18, 10**18))
    assert store.index(folder).changed == 1
    assert {hit[3] for hit in texts(store)} == {"Ein Hund bellt.", "A dog barks.\nThe end of it."}
    for path in (one, other, folder / "film.srt"):
        path.unlink()
    assert store.index(folder).changed == 1
    assert texts(store) == set()
    assert store.search("x", k=1)[0].item_id == number


def test_a_recording_that_comes_or_goes_takes_its_subtitles(folder: Path, store: bs.Store) -> None:
    (folder / "film.mp4").rename(folder.parent / "film.mp4")
    store.index(folder)
    assert texts(store) == {("film.srt", None, None, "A dog barks.\nThe end of it.")}
    (folder.parent / "film.mp4").rename(folder / "film.mp4")
    report = store.index(folder)
    assert (report.added, report.removed) == (1, 1)
    assert {hit[:3] for hit in texts(store)} == {("film.mp4", 1.0, 12.0)}
    for name in ("film.mp4", "film.srt"):
        (folder / name).rename(folder / name.replace("film", "movie"))
    report = store.index(folder)
    assert (report.moved, report.added, report.removed) == (1, 0, 0)
    (folder / ".bindsearchignore").write_text("*.mp4\n")
    store.index(folder)
    assert {hit[:2] for hit in texts(store)} == {("movie.srt", None)}


def test_forget_takes_the_texts_too(folder: Path, store: bs.Store) -> None:
    store.index(folder)
    store.forget(folder / "film.mp4")
    assert store.search("A dog barks.", k=5) == []


def test_damaged_subtitles_cost_only_themselves(folder: Path, store: bs.Store) -> None:
    (folder / "film.srt").write_text(srt(ENGLISH) + "3\n00:00:0x,000 --> 00:00:03,000\nbad\n\n")
    (folder / "film.de.srt").write_bytes(b"1\n00:00:01,000 --> 00:00:02,000\n" + bytes(range(1, 32)) * 9)
    (folder / "film.fr.srt").write_text("nothing")
    (folder / "film.es.srt").write_text(srt([(100.0, 101.0, "after the end")]))
    (folder / "film.it.srt").mkdir()
    report = store.index(folder)
    assert not report.failures
    notes = "\n".join(note.text for note in report.notes)
    assert "1 of 4 cues of subtitles have damaged times, or are too many: skipped" in notes
    assert "subtitles film.fr.srt are not used: no cue with a time and a text" in notes
    assert "subtitles film.de.srt are not used: " in notes
    assert "1 cues of subtitles are after the end, 12.0 s: left out" in notes
    assert {hit[3] for hit in texts(store)} == {"A dog barks.\nThe end of it."}


def test_only_so_many_files_are_read(folder: Path, store: bs.Store) -> None:
    for n in range(20):
        (folder / f"film.x{chr(97 + n)}.srt").write_text(srt([(1.0, 2.0, f"words {n}")]))
    report = store.index(folder)
    assert any(note.text == "21 subtitle files beside it: the first 16 are used" for note in report.notes)
    assert len(texts(store)) == 16
    assert report.skipped["subtitles of film.mp4"] == 21


@pytest.mark.parametrize("way", ["sidecar", "glob", "list"])
def test_the_encoding_is_declared_as_for_texts(folder: Path, store: bs.Store, way: str) -> None:
    lines = [(1.0, 2.0, "Лодки"), (3.0, 4.0, "Мост")]
    (folder / "film.srt").write_bytes(srt(lines).encode("koi8-r"))
    (folder / "plain.mp4").write_bytes((folder / "film.mp4").read_bytes() + b"\0" * 8)
    match way:
        case "sidecar":
            (folder / "film.mp4.json").write_text(json.dumps({"encoding": "koi8-r"}))
            (folder / "plain.mp4.json").write_text(json.dumps({"encoding": "koi8-r"}))
        case "glob":
            (folder / ".bindsearch.toml").write_text('[facts."*.mp4"]\nencoding = "koi8-r"\n')
        case "list":
            (folder / "list.csv").write_text("path,encoding\nfilm.mp4,koi8-r\nplain.mp4,h264\n")
    report = store.index(folder)
    assert not report.failures, report.failures
    assert {hit[3] for hit in texts(store)} == {"Лодки\nМост"}
    if way == "list":  # without subtitles, the column is the user's own
        assert {hit.path.name for hit in store.search("x", k=5, filter="encoding = 'h264'")} == {"plain.mp4"}


def test_tracks_inside_count_without_files_beside(tmp_path: Path, source: Path, store: bs.Store) -> None:
    root = tmp_path / "media"
    root.mkdir()
    with_track(source, root / "one.mkv", srt(ENGLISH), ".srt")
    with_track(source, root / "two.mkv", vtt(GERMAN), ".vtt")
    with_timed_text(source, root / "three.mp4", GERMAN)
    with_timed_text(source, root / "four.mp4", GERMAN)
    (root / "four.srt").write_text(srt(ENGLISH))
    report = store.index(root)
    assert not report.failures
    assert texts(store) == {
        ("one.mkv", 1.0, 12.0, "A dog barks.\nThe end of it."),
        ("two.mkv", 4.0, 5.0, "Ein Hund bellt."),
        ("three.mp4", 4.0, 5.0, "Ein Hund bellt."),
        ("four.mp4", 1.0, 12.0, "A dog barks.\nThe end of it."),
    }
    start = "1 subtitle track in the file: texts with times, "
    assert any(note.text.startswith(start) for note in report.notes)  # notes that differ in numbers are one


def test_members_beside_one_another_belong_together(folder: Path, store: bs.Store) -> None:
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        for name in ("x/film.mp4", "x/film.srt"):
            archive.write(folder / Path(name).name, name)
        archive.writestr("x/other.srt", srt(GERMAN))
    for name in ("film.mp4", "film.srt"):
        (folder / name).unlink()
    report = store.index(folder)
    assert not report.failures
    assert report.skipped == {"subtitles of film.mp4": 1}
    assert texts(store) == {
        ("film.mp4", 1.0, 12.0, "A dog barks.\nThe end of it."),
        ("other.srt", None, None, "Ein Hund bellt."),
    }
    (folder / "b.txt").write_text("new")
    assert store.index(folder).added == 1


def test_an_encoder_without_sound_reads_the_words_of_a_sound(tmp_path: Path) -> None:
    from bindsearch.encoders.null import NullEncoder

    class Reader(NullEncoder):
        modalities = frozenset((bs.Modality.TEXT, bs.Modality.IMAGE))

    root = tmp_path / "media"
    root.mkdir()
    write_sound(root / "talk.wav", tone(5.0))
    (root / "talk.srt").write_text(srt([(1.0, 2.0, "la la")]))
    write_sound(root / "silent.wav", tone(4.0))
    with connect(tmp_path / "store", encoder=Reader()) as store:
        report = store.index(root)
        assert not report.failures
        assert texts(store) == {("talk.wav", 1.0, 2.0, "la la")}


def test_the_command_tells_times_and_plans(folder: Path, bindsearch_command: Run) -> None:
    planned = bindsearch_command(["index", folder, "--dry-run"]).stdout
    assert "subtitles of film.mp4" in planned
    assert "1 subtitle file beside it: texts with times, 2 cues" in planned
    assert bindsearch_command(["index", folder, "--encoder", "null"]).returncode == 0
    found = bindsearch_command(["search", "A dog barks.", "--to", "text"]).stdout
    assert "film.mp4 0:01-0:12" in found
    assert "A dog barks. The end of it." in found
    shown = bindsearch_command(["show", folder / "film.mp4"]).stdout
    assert "2 video, 1 text" in shown
    assert "subtitles of film.mp4" in bindsearch_command(["status", "--left-out"]).stdout


def test_watch_follows_subtitles_and_recordings(folder: Path, tmp_path: Path) -> None:
    seen: list[IndexReport] = []
    stop = threading.Event()
    with connect(tmp_path / "store", encoder="null") as writer, connect(tmp_path / "store") as reader:
        watch = threading.Thread(target=writer.watch, args=(folder,), kwargs={"on_report": seen.append, "stop": stop})
        watch.start()
        try:
            wait_for(lambda: bool(seen))

            def found() -> set[tuple[str, str | None]]:
                return {(hit[0], hit[3]) for hit in texts(reader)}

            wait_for(lambda: found() == {("film.mp4", "A dog barks.\nThe end of it.")})
            (folder / "film.srt").write_text(srt(GERMAN))
            wait_for(lambda: found() == {("film.mp4", "Ein Hund bellt.")})
            (folder / "film.mp4").rename(tmp_path / "film.mp4")
            wait_for(lambda: found() == {("film.srt", "Ein Hund bellt.")})
            (tmp_path / "film.mp4").rename(folder / "film.mp4")
            wait_for(lambda: found() == {("film.mp4", "Ein Hund bellt.")})
            (folder / "film.srt").unlink()
            wait_for(lambda: found() == set())
        finally:
            stop.set()
            watch.join(20)
