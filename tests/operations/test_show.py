"""`bindsearch show`: the same classification, sidecar, rules and decoder as an indexing run, for each modality."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bindsearch as bs
from bindsearch.encoders.null import NullEncoder
from bindsearch.errors import UsageError
from bindsearch.ingest.media.decode import DecodedSegment
from bindsearch.media import MODALITY_OF, DepthMap, Frames, Motion, Sound
from bindsearch.operations.show.curves import binned, curves_of, levels_db
from bindsearch.operations.show.picture import MAX_SIDE, WIDTH, draw_file
from bindsearch.operations.show.show_file import ShownFile, parse_file
from bindsearch.types import Modality, Span
from helpers.command import Run
from helpers.media_files import (
    motion,
    tone,
    write_depth,
    write_every_modality,
    write_motion_csv,
    write_sound,
    write_video,
)
from helpers.stores import connect


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("media")
    return {name: paths[0] for name, paths in write_every_modality(folder, copies=1).items()}


@pytest.fixture
def store(tmp_path: Path) -> bs.Store:
    return connect(tmp_path / "store")


def chosen(shown: ShownFile) -> DecodedSegment:
    assert shown.chosen is not None
    return shown.chosen


class EncoderOfText(NullEncoder):
    """An encoder of texts alone."""

    modalities = frozenset({Modality.TEXT})


@pytest.mark.parametrize("modality", Modality)
def test_every_modality_is_shown_and_drawn(modality: Modality, media: dict[str, Path], store: bs.Store) -> None:
    shown = store.show(media[modality])
    assert (shown.modality, shown.problem, shown.number) == (modality, "", 1)
    assert shown.why
    assert shown.chosen is not None
    picture = draw_file(shown)
    assert picture.width == WIDTH
    assert picture.height < 2000
    assert len(np.unique(np.asarray(picture))) > 1


def test_what_is_shown_is_what_is_indexed(media: dict[str, Path], store: bs.Store) -> None:
    folder = media["text"].parent
    rules = ["thermal=image-*.png"]
    report = store.index(folder, rules=rules)
    shown = [store.show(path, rules=rules) for path in sorted(folder.iterdir())]
    counts = {modality: sum(one.modality is modality for one in shown) for modality in Modality}
    assert {modality: n for modality, n in counts.items() if n} == dict(report.items)
    assert sum(sum(one.counts.values()) for one in shown) == report.segments


def test_sidecar_rules_and_list_of_the_collection_apply(tmp_path: Path, store: bs.Store) -> None:
    folder = tmp_path / "set"
    (folder / "scans").mkdir(parents=True)
    depth = write_depth(folder / "scans" / "1.png", np.arange(500, 1500, dtype=np.uint16).reshape(25, 40))
    depth.with_name("1.png.json").write_text('{"depth_unit": "cm", "caption": "a room"}')
    (folder / ".bindsearch.toml").write_text('[as]\ndepth = "scans/*.png"\n')
    shown = store.show(depth)
    assert (shown.root, shown.why) == (folder, "rule depth=scans/*.png")
    (curve,) = curves_of(chosen(shown).media)
    assert (curve.values.min(), curve.values.max(), curve.unit) == (5.0, pytest.approx(14.99), "m")
    assert shown.counts == {Modality.DEPTH: 1, Modality.TEXT: 1}
    assert chosen(store.show(depth, segment=2)).text == "a room"
    assert store.show(depth, root=folder / "scans").why == "depth_unit, fx or baseline_m is declared"
    assert "depth_unit has no effect" in store.show(f"thermal:{depth}").problem
    depth.with_name("1.png.json").unlink()
    assert store.show(f"thermal:{depth}").why == "given as thermal"
    (folder / "list.csv").write_text("path,modality,caption\nscans/1.png,image,a wall\n")
    assert chosen(store.show(depth, segment=2)).text == "a wall"


def test_the_innermost_collection_is_the_root(tmp_path: Path, store: bs.Store) -> None:
    for name in ("outer", "outer/inner"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(f"text of {name}")
    store.index(tmp_path / "outer" / "inner")
    store.index(tmp_path / "outer")
    assert store.show(tmp_path / "outer" / "inner" / "a.txt").root == tmp_path / "outer" / "inner"
    with pytest.raises(UsageError, match="is not a folder that contains"):
        store.show(tmp_path / "outer" / "a.txt", root=tmp_path / "outer" / "inner")


def test_segments_are_chosen_by_number_time_and_span(tmp_path: Path, store: bs.Store) -> None:
    path = write_video(tmp_path / "a video.mp4", 23.0, fps=5, sound=tone(23.0, 48_000))
    shown = store.show(path)
    assert shown.counts == {Modality.VIDEO: 3, Modality.AUDIO: 3}
    assert [segment.start_s for segment in shown.segments] == [0, 10, 20, 0, 10, 20]
    late = store.show(path, at_s=12.5)
    assert late.number == 2
    frames = chosen(late).media
    assert isinstance(frames, Frames)
    assert frames.times_s[0] == pytest.approx(10.4, abs=0.3)
    assert isinstance(chosen(store.show(path, segment=4)).media, Sound)
    part = store.show(f'"{path}"@11s-13s')
    assert [(one.modality, one.start_s, one.end_s) for one in part.segments] == [("video", 11, 13), ("audio", 11, 13)]
    for wrong, message in (
        ({"segment": 7}, "has no segment 7: it has 6 segments"),
        ({"at_s": 90.0}, "has no segment at 90 s"),
        ({"segment": 0}, "numbered from 1"),
        ({"segment": 1, "at_s": 1.0}, "give one of them"),
        ({"at_s": -1.0}, "0 or more"),
    ):
        with pytest.raises(UsageError, match=message):
            store.show(path, **wrong)


def test_files_that_are_left_out_or_fail_say_why(tmp_path: Path, store: bs.Store) -> None:
    (tmp_path / "x.qoi").write_bytes(b"qoif")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "a.txt.json").write_text('{"caption": 3}')
    write_sound(tmp_path / "silent.wav", np.zeros(16_000, np.float32))
    assert store.show(tmp_path / "x.qoi").why == "not media: .qoi"
    assert "damaged PNG" in store.show(tmp_path / "bad.png").problem
    assert "caption is 3" in store.show(tmp_path / "a.txt").problem
    assert store.show(tmp_path / "silent.wav").problem == "no content: digital silence"
    with connect(tmp_path / "other", encoder=EncoderOfText()) as other:
        assert other.show(tmp_path / "silent.wav").why == "the encoder null cannot embed audio"
    for name, message in (("nowhere.txt", "does not exist"), ("", "is a folder"), ("x.qoi@1s-0s", "ends before")):
        with pytest.raises(UsageError, match=message):
            store.show(f"{tmp_path}/{name}")


def test_a_file_is_parsed_as_in_queries(tmp_path: Path) -> None:
    plain, odd = tmp_path / "a.wav", tmp_path / "b@1s-2s.wav"
    for path in (plain, odd):
        path.write_bytes(b"")
    assert parse_file(f"audio:{plain}@2s-3.5s").span == Span(2, 3.5)
    assert parse_file(str(odd)).source == str(odd)
    for text in (f"2*{plain}", f"{plain} + {plain}", f"-{plain}", "like:3"):
        with pytest.raises(UsageError, match="is not a file: give FILE"):
            parse_file(text)


def test_the_command_prints_draws_and_refuses(tmp_path: Path, bindsearch_command: Run) -> None:
    walk = write_motion_csv(tmp_path / "walk.csv", motion(12.0))
    done = bindsearch_command(["show", walk, "--png", tmp_path / "walk.png", "--segment", "2"])
    assert done.returncode == 0, done.stderr
    assert "modality    imu (csv with accelerometer and gyroscope columns)" in done.stdout
    assert "accelerometer z" in done.stdout
    assert "m/s^2" in done.stdout
    assert "250 samples at 50 Hz" in done.stdout
    assert "shows segment 2 of 3" in done.stderr
    with Image.open(tmp_path / "walk.png") as picture:
        assert picture.width == WIDTH
    before = (tmp_path / "walk.png").read_bytes()
    for arguments, message in (
        ((walk, "--png", tmp_path / "walk.jpg"), "expected a name that ends in .png"),
        ((walk, "--png", tmp_path / "none" / "walk.png"), "does not exist"),
        ((tmp_path / "walk.png", "--png", tmp_path / "walk.png"), "is the file to show"),
        ((f"image:{tmp_path / 'walk.png'}", "--png", tmp_path / "walk.png"), "is the file to show"),
    ):
        refused = bindsearch_command(["show", *arguments])
        assert (refused.returncode, refused.stdout) == (2, "")
        assert message in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
    assert (tmp_path / "walk.png").read_bytes() == before
    failed = bindsearch_command(["show", f"imu:{tmp_path / 'walk.png'}", "--png", tmp_path / "no.png", "--json"])
    assert failed.returncode == 3
    assert json.loads(failed.stdout)["problem"]
    assert not (tmp_path / "no.png").exists()
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    "media",
    [
        Motion(np.zeros((1, 6), np.float32), 50.0),
        Motion(np.random.default_rng(0).standard_normal((100_000, 6)).astype(np.float32), 400.0),
        Sound(np.zeros(1, np.float32), 8000),
        DepthMap(np.full((1, 3000), 2.0, np.float32), np.arange(3000)[None] % 2 == 0, 100.0, 0.1),
        DepthMap(np.full((3000, 1), 2.0, np.float32), np.ones((3000, 1), np.bool_), 100.0, 0.1),
        Frames(np.zeros((700, 3, 2, 3), np.uint8), np.arange(700.0)),
    ],
    ids=["one sample", "long", "one sample of sound", "wide", "high", "many frames"],
)
def test_extreme_media_are_drawn_in_bounded_size(media: Motion | Sound | DepthMap | Frames) -> None:
    modality = MODALITY_OF[type(media)]
    piece = DecodedSegment(modality, media, 0.0, 1.0)
    notes = tuple(f"note {n} \x1b" + "long " * 200 for n in range(100))
    name = Path("a" * 300)
    shown = ShownFile(name, Path(), "mini", modality, "why", "", notes, {"rate_hz": 50.0}, (), {modality: 1}, 1, piece)
    picture = draw_file(shown)
    assert picture.width == WIDTH
    assert picture.height < 2 * MAX_SIDE[1] + 1200
    for curve in curves_of(media):
        assert 1 <= len(binned(curve.values, 40, is_series=curve.is_series)) <= 40
        assert np.isfinite(curve.summary()).all()


def test_levels_are_those_of_the_definition() -> None:
    sound = Sound(tone(1.0) * 0.5, 16_000)
    assert levels_db(sound) == pytest.approx(20 * np.log10(0.25 / np.sqrt(2)), abs=0.1)
