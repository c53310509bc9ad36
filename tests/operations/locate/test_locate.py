"""Locating in real files: pictures, videos, sounds, motion, items of a store, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import bindsearch as bs
from bindsearch.cli.locate.output import files_data
from bindsearch.errors import MediaError, UsageError
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.media import DepthMap
from bindsearch.operations.locate.drawing import draw_located, write_drawing
from bindsearch.operations.locate.located import Located, located_data
from bindsearch.operations.locate.relevance import NEGATIVES, margins, relevance
from bindsearch.operations.recording import read_record
from bindsearch.types import Modality
from bindsearch.views.located_hits import frame_at
from bindsearch.views.thumbnails import thumbnail
from helpers.colour_encoder import ColourEncoder, DenseColourEncoder
from helpers.media_files import motion, tone, write_depth, write_motion_csv, write_picture, write_sound, write_video
from helpers.stores import connect

BLUE, RED = (0, 0, 255), (255, 0, 0)
DENSE = DenseColourEncoder()


def patch(left: int, top: int, shape: tuple[int, int] = (120, 160), side: int = 40) -> np.ndarray:
    rgb = np.full((*shape, 3), BLUE, np.uint8)
    rgb[top : top + side, left : left + side] = RED
    return rgb


def found(query: Any, file: Path | str, encoder: Any = DENSE, **options: Any) -> Located:
    (one,) = bs.locate(query, file, encoder=encoder, options=bs.LocateOptions(**options))
    assert one.located is not None, one.failure
    return one.located


def quiet_then_loud(quiet_s: float, loud_s: float) -> np.ndarray:
    quiet = 0.05 * np.sin(np.arange(int(quiet_s * 8000)) / 5)
    return np.concatenate([quiet, tone(loud_s, 8000)]).astype(np.float32)


@pytest.mark.parametrize("encoder", [DENSE, ColourEncoder()], ids=lambda one: one.name)
@pytest.mark.parametrize("detail", [1, 2])
def test_a_picture_has_the_box_of_its_patch(tmp_path: Path, encoder: ColourEncoder, detail: int) -> None:
    file = write_picture(tmp_path / "a.png", patch(90, 10, side=60))
    located = found("red", file, encoder, detail=detail, threshold=0.7)
    assert located.modality is Modality.IMAGE
    box, peak = located.boxes[0], located.peak
    assert peak is not None
    assert 90 / 160 - 0.1 < peak.x < 150 / 160 + 0.1
    assert 10 / 120 - 0.1 < peak.y < 70 / 120 + 0.1
    assert located.heat is not None
    assert peak.relevance == located.heat.max()
    assert abs((box.left + box.right) / 2 - 120 / 160) < 0.1
    assert abs((box.top + box.bottom) / 2 - 40 / 120) < 0.1
    assert located.heat is not None
    assert 0 <= located.heat.min() <= located.heat.max() <= 1
    assert any("no dense features" in notice for notice in located.notices) == (encoder.name == "colours")


def test_of_a_document_the_first_page_is_located(tmp_path: Path) -> None:
    pages = [Image.fromarray(patch(left, 20)) for left in (0, 100)]
    pages[0].save(tmp_path / "a.pdf", save_all=True, append_images=pages[1:])
    located = found("red", f"image:{tmp_path / 'a.pdf'}")
    assert located.notices == ("of the document a.pdf the first page is located",)
    (box,) = located.boxes
    assert box.left < 0.1


def test_what_is_absent_has_no_box(tmp_path: Path) -> None:
    located = found("green", write_picture(tmp_path / "a.png", patch(100, 20)))
    assert located.boxes == ()
    assert located.peak is not None
    assert located.peak.relevance < 0.9


def test_upright_pictures_have_upright_boxes(tmp_path: Path) -> None:
    picture = Image.fromarray(patch(0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise: what is stored at the left is shown above
    picture.save(tmp_path / "a.png", exif=exif)
    box = found("red", tmp_path / "a.png").boxes[0]
    assert box.left > 0.5
    assert box.top < 0.1


def test_depth_and_thermal_pictures_are_covered_whole(tmp_path: Path) -> None:
    metres = np.full((100, 240), 8000, np.uint16)
    metres[:, 200:] = 1000
    located = found("red", f"depth:{write_depth(tmp_path / 'depth.png', metres)}")
    assert located.modality is Modality.DEPTH
    assert located.boxes[0].right == 1.0
    assert located.boxes[0].left > 0.7
    warm = np.zeros((100, 240), np.uint8)
    warm[:, :40] = 255
    thermal = found("red", f"thermal:{write_picture(tmp_path / 'thermal.png', warm)}")
    assert thermal.boxes[0].left == 0.0
    assert thermal.boxes[0].right < 0.3


class KnownDepthEncoder(ColourEncoder):
    def prepare(self, media: Any) -> Any:
        if isinstance(media, DepthMap):
            if not media.valid.any():
                raise MediaError("no pixel has a depth")
            media = replace(media, depth_m=np.where(media.valid, media.depth_m, np.float32(8)))
        return super().prepare(media)


def test_parts_that_an_encoder_refuses_are_not_known(tmp_path: Path) -> None:
    metres = np.zeros((120, 300), np.uint16)
    metres[70:] = 8000
    metres[70:, 200:] = 1000
    file = write_depth(tmp_path / "depth.png", metres)
    (one,) = bs.locate("red", f"depth:{file}", encoder=KnownDepthEncoder(), options=bs.LocateOptions(detail=2))
    assert one.located is not None, one.failure
    heat, peak = one.located.heat, one.located.peak
    assert heat is not None
    assert np.isnan(heat[0]).all()
    assert not np.isnan(heat[-1]).any()
    assert peak is not None
    assert peak.x > 0.6
    assert peak.y > 0.5
    assert one.located.boxes[0].top > 0.3
    write_drawing(one, tmp_path / "out.png", DecodeOptions())
    (rows,) = (one["heat"] for one in json.loads(json.dumps(files_data([one]), allow_nan=False))["files"])
    assert rows[0] == [None] * heat.shape[1]


def test_boxes_of_a_video_have_the_time_of_their_frame(tmp_path: Path) -> None:
    def frame(time_s: float) -> np.ndarray:
        return patch(100, 20) if time_s >= 2 else patch(100, 20)[..., [1, 0, 2]]

    file = write_video(tmp_path / "a.mp4", 4.0, size=(160, 120), picture=frame)
    located = found("red", file)
    assert located.modality is Modality.VIDEO
    assert located.boxes
    assert all(box.at_s is not None and box.at_s >= 1.9 for box in located.boxes)
    assert located.peak is not None
    assert located.peak.at_s == located.boxes[0].at_s


def test_the_peak_of_a_video_is_in_the_frame_of_its_best_box(tmp_path: Path) -> None:
    """The first half has the greater cosine with red, the second the greater relevance, as it is not green at all."""

    def frame(time_s: float) -> np.ndarray:
        rgb = patch(100, 20)
        rgb[20:60, 100:140] = (230, 110, 0) if time_s < 2 else (200, 0, 150)
        return rgb

    file = write_video(tmp_path / "a.mp4", 4.0, size=(160, 120), picture=frame)
    located = found("red", file, against=["green"])
    assert {box.at_s for box in located.boxes} > {located.boxes[0].at_s}
    assert located.peak is not None
    assert located.peak.at_s == located.boxes[0].at_s
    assert located.boxes[0].at_s >= 2  # type: ignore[operator]


@pytest.mark.parametrize("fps", [7, 25, 60])
def test_the_frame_of_a_drawing_is_the_one_that_was_located(tmp_path: Path, fps: int) -> None:
    def grey(time_s: float) -> int:
        return 20 + 20 * (round(time_s * fps) % 10)

    def frame(time_s: float) -> np.ndarray:
        return np.where(patch(100, 20)[..., :1] == RED[0], RED, grey(time_s)).astype(np.uint8)

    file = write_video(tmp_path / "a.mp4", 3.0, size=(160, 120), fps=fps, picture=frame)
    (one,) = bs.locate("red", file, encoder=DENSE)
    assert one.located is not None
    assert one.place is not None
    assert one.located.peak is not None
    at_s = one.located.peak.at_s
    drawing = np.asarray(draw_located(one.located, one.place, one.asked, DecodeOptions()), np.int16)
    shown = np.asarray(thumbnail(frame_at(one.place, at_s), 160), np.int16)
    for picture, pixels in ((drawing[-200:-20, 20:300], 10_000), (shown[70:], 5000)):
        assert (np.abs(picture - grey(at_s or 0.0)).max(axis=-1) < 8).sum() > pixels


def test_a_span_of_a_sound(tmp_path: Path) -> None:
    file = write_sound(tmp_path / "a.wav", quiet_then_loud(8, 8), 8000)
    located = found("loud", file)
    (one,) = located.spans
    assert one.span.start_s == pytest.approx(8, abs=1.5)
    assert one.span.end_s == pytest.approx(16, abs=0.1)
    assert located.curve is not None
    assert located.curve.times_s[0] == pytest.approx(1.25)
    early = found("loud", f"{file}@0s-6s")
    assert early.spans == ()
    later = found("loud", f"{file}@12s-16s")
    assert later.spans[0].span.start_s == pytest.approx(12, abs=0.1)


def test_a_sound_without_content_is_refused_and_one_with_pauses_says_so(tmp_path: Path) -> None:
    silent = write_sound(tmp_path / "s.wav", np.zeros(80_000, np.float32), 8000)
    (one,) = bs.locate("loud", silent, encoder=DENSE)
    assert one.failure == "no content: digital silence"
    part = np.concatenate([np.zeros(80_000, np.float32), tone(4.0, 8000)])
    located = found("loud", write_sound(tmp_path / "p.wav", part, 8000))
    assert any("views have no content: digital silence" in notice for notice in located.notices)
    short = found("loud", write_sound(tmp_path / "t.wav", tone(0.3, 8000), 8000))
    assert short.spans[0].span.end_s == pytest.approx(0.3, abs=0.01)


def test_motion_has_spans(tmp_path: Path) -> None:
    samples = motion(12.0)
    samples[:, 3:] = np.random.default_rng(0).standard_normal((600, 3))
    samples[:300, 3:] *= 0.01
    located = found("loud", f"imu:{write_motion_csv(tmp_path / 'a.csv', samples)}")
    assert located.modality is Modality.IMU
    assert located.spans[0].span.start_s == pytest.approx(6, abs=1.6)


def test_files_that_cannot_be_read_do_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("red")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nbad")
    blank = write_picture(tmp_path / "blank.png", np.full((50, 50, 3), 9, np.uint8))
    good = write_picture(tmp_path / "good.png", patch(0, 0))
    files: list[str | Path] = [
        tmp_path / "none.png",
        tmp_path / "a.txt",
        tmp_path / "bad.png",
        blank,
        good,
        tmp_path,
        "like:1",
    ]
    results = bs.locate("red", files, encoder=DENSE)
    assert [bool(one.failure) for one in results] == [True, True, True, True, False, True, True]
    assert "does not exist" in results[0].failure
    assert "is a text" in results[1].failure
    assert results[3].failure == "no content: one colour"
    assert "give a file" in results[6].failure
    assert all("\n" not in one.failure for one in results)


@pytest.mark.parametrize("shape", [(1, 2), (1, 5000), (3000, 2)])
def test_odd_pictures(tmp_path: Path, shape: tuple[int, int]) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    located = found("red", write_picture(tmp_path / "a.png", rgb))
    assert located.peak is not None
    located_data(located)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 0}, "the threshold is 0"),
        ({"threshold": 1.1}, "the threshold is 1.1"),
        ({"threshold": math.nan}, "the threshold is nan"),
        ({"threshold": "0.5"}, "the threshold is '0.5'"),
        ({"detail": 0}, "detail is 0"),
        ({"detail": 5}, "detail is 5"),
        ({"max_boxes": 0}, "max_boxes is 0"),
        ({"max_boxes": 10**9}, "max_boxes is 1000000000"),
        ({"against": ["a"] * 101}, "101 negatives are given"),
        ({"against": 5}, "against is 5: give a list"),
        ({"against": None}, "against is None: give a list"),
    ],
)
def test_options_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        bs.LocateOptions(**arguments)


def test_negatives_of_ones_own(tmp_path: Path) -> None:
    file = write_picture(tmp_path / "a.png", patch(100, 20))
    other = write_picture(tmp_path / "b.png", patch(0, 0, side=120))
    assert found("red", file, against=["blue"]).boxes
    assert found("red", file, against=bs.text("blue")).boxes
    assert found("blue", file, against=[bs.image(other)]).method == "dense features of dense-colours"
    with pytest.raises(UsageError, match="the query is what it is compared with"):
        found("red", file, against=["red"])
    (of_person,) = bs.locate("a person", str(file))  # a negative of motion alone
    assert of_person.located is not None
    assert of_person.located.notices == ()
    kept = found("red", file, against=["red", "green"])
    assert "not compared with red, which is the query" in kept.notices
    with pytest.raises(UsageError, match="empty"):
        found("red", file, against=[" "])
    with pytest.raises(UsageError, match="cancel"):
        found(bs.text("red") - bs.text("red"), file)


class NanTexts(DenseColourEncoder):
    def encode(self, modality: Modality, prepared: Any) -> Any:
        vectors = super().encode(modality, prepared)
        return vectors * np.nan if modality is Modality.TEXT else vectors


def test_negatives_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    file = write_picture(tmp_path / "a.png", patch(100, 20))
    with pytest.raises(bs.BindSearchError) as caught:
        found(bs.image(file), file, NanTexts())
    assert "\n" not in str(caught.value)


def test_relevance_is_the_least_of_the_softmaxes() -> None:
    cosines = np.random.default_rng(0).uniform(-1, 1, (5, 3, 4)).astype(np.float32)
    pairs = [np.exp(7 * cosines[0]) / (np.exp(7 * cosines[0]) + np.exp(7 * other)) for other in cosines[1:]]
    assert relevance(margins(cosines), 7.0) == pytest.approx(np.min(pairs, axis=0), abs=1e-6)
    extreme = relevance(margins(np.array([[1.0], [-1.0]], np.float32)), 1e6)
    assert extreme[0] == 1.0


def test_boxes_that_are_left_out_are_counted(tmp_path: Path) -> None:
    rgb = np.full((160, 160, 3), BLUE, np.uint8)
    for number in range(4):
        rgb[40 * number : 40 * number + 20, 40 * number : 40 * number + 20] = RED
    file = write_picture(tmp_path / "a.png", rgb)
    every = found("red", file)
    assert len(every.boxes) == 4
    assert every.notices == ()
    some = found("red", file, max_boxes=3)
    assert some.boxes == every.boxes[:3]
    assert some.notices == ("less relevant boxes or spans are left out: 1",)


def test_hits_items_and_files_of_a_store(tmp_path: Path) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    file = write_picture(folder / "a.png", patch(100, 20))
    write_sound(folder / "b.wav", quiet_then_loud(12, 8), 8000)
    with connect(tmp_path / "store", encoder=DENSE) as store:
        store.index(folder)
        (hit,) = store.search("red", to="image", k=1)
        by_hit = store.locate("red", hit)
        for where in (hit.item_id, file, f"like:{hit.item_id}", f"like:{file}", str(file)):
            assert store.locate("red", where).boxes == by_hit.boxes
        (sound,) = store.search("loud", to="audio", k=1)
        assert sound.start_s == 10.0
        assert store.locate("loud", sound).spans[0].span.start_s == pytest.approx(12, abs=1.5)
        assert store.locate(bs.like(hit.item_id), hit, options=bs.LocateOptions(against=["blue"])).peak is not None
        with pytest.raises(UsageError, match="no indexed item '99'"):
            store.locate("red", 99)
        with pytest.raises(UsageError, match="does not exist"):
            store.locate("red", folder / "none.png")
        with pytest.raises(UsageError, match="the item"):
            store.locate("red", 1.5)  # type: ignore[arg-type]
        (one,) = store.locate_files("red", file)
        assert one.located is not None
        assert one.located.boxes == by_hit.boxes
        write_picture(file, patch(0, 0, (100, 90)))
        assert any("has changed since it was indexed" in note for note in store.locate("red", hit.item_id).notices)
        file.unlink()
        with pytest.raises(MediaError, match="the file is gone"):
            store.locate("red", hit)
    with pytest.raises(UsageError, match="is closed"):
        store.locate("red", hit)


def test_a_store_with_shards(tmp_path: Path) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    for number in range(4):
        write_picture(folder / f"{number}.png", patch(30 * number, 20))
    with connect(tmp_path / "store", encoder=DENSE, shards=2) as store:
        store.index(folder)
        for hit in store.search("red", to="image", k=4):
            number = int(hit.path.stem)
            for where in (hit, hit.item_id, hit.path):
                peak = store.locate("red", where).peak
                assert peak is not None
                assert abs(peak.x - (30 * number + 20) / 160) < 0.2


def test_drawings_have_a_record(tmp_path: Path) -> None:
    picture = write_picture(tmp_path / "a.png", patch(100, 20))
    sound = write_sound(tmp_path / "b.wav", quiet_then_loud(5, 5), 8000)
    video = write_video(tmp_path / "c.mp4", 2.0, size=(160, 120), picture=lambda _: patch(100, 20))
    moved = write_motion_csv(tmp_path / "d.csv", motion(6.0))
    thermal = write_picture(tmp_path / "thermal.png", patch(100, 20)[..., 0])
    depth = write_depth(tmp_path / "depth.png", patch(100, 20)[..., 0].astype(np.uint16) * 20 + 500)
    files: list[str | Path] = [picture, sound, video, f"imu:{moved}", f"thermal:{thermal}", f"depth:{depth}"]
    for number, one in enumerate(bs.locate(bs.text("red") + bs.text("loud"), files, encoder=DENSE)):
        assert one.located is not None, one.failure
        out = tmp_path / f"out-{number}.png"
        write_drawing(one, out, DecodeOptions())
        record = read_record(out)
        assert record is not None
        assert [term["source"] for term in record["query"]] == ["red", "loud"]
        assert record["encoder_digest"] == "colours-1"
        assert record["threshold"] == 0.9
        assert Path(record["file"]["path"]) == one.place.path  # type: ignore[union-attr]
        assert len(record["file"]["boxes"]) == len(one.located.boxes)
        if not number:
            assert record["against"] == list(NEGATIVES)
