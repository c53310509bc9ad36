"""`locate --detector`: the boxes of a detector as places, from the command line, for queries of several kinds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bindsearch.encoders.detectors.detector import Detector, load_detector
from bindsearch.encoders.model_store.snapshot_pull import pull_snapshot
from bindsearch.encoders.torch_runtime.device import Runtime
from bindsearch.operations.locate.boxes import Rectangles, intersection_over_union
from bindsearch.operations.locate.by_detector import locate_by_detector, peak_of, reached_boxes
from bindsearch.operations.locate.located import Peak
from bindsearch.operations.locate.relevance import LocateOptions
from bindsearch.search.query import image, text
from helpers.command import run_command
from helpers.media_files import write_sound, write_video
from helpers.owl_models import save_owl
from helpers.stores import connect

NAME = "owlv2:org/tiny"
LOW = "0.01"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("owlv2")
    save_owl(folder)
    return folder


@pytest.fixture
def world(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a picture; a small detector is installed, and there is no store."""
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("BINDSEARCH_OFFLINE", "1")
    monkeypatch.setenv("BINDSEARCH_STORE", str(tmp_path / "store"))
    for name in (NAME, "hf:org/tiny"):
        pull_snapshot(name, from_folder=saved, dtype="fp32")
    small = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    Image.fromarray(small.repeat(9, axis=0).repeat(9, axis=1)).save(tmp_path / "photo.png")
    return tmp_path


def located(*arguments: str | Path, status: int = 0) -> Any:
    done = run_command(["locate", *arguments, "--detector", NAME, "--json"])
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)


def refused(*arguments: str | Path, status: int) -> str:
    done = run_command(["locate", *arguments])
    assert (done.returncode, done.stdout) == (status, "")
    (line,) = done.stderr.splitlines()
    return line


def detector() -> Detector:
    return load_detector(NAME, runtime=Runtime("cpu"))


def rgb_of(path: Path) -> Any:
    return np.asarray(Image.open(path))


def test_boxes_are_those_of_the_detector_best_first(world: Path) -> None:
    (file,) = located("a dog barks", world / "photo.png", "--threshold", LOW)["files"]
    found = detector().detect(rgb_of(world / "photo.png"), detector().text_embeddings(["a dog barks"]))
    scores = [box["relevance"] for box in file["boxes"]]
    assert file["method"] == NAME
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == pytest.approx(float(found.scores.max()), abs=1e-5)
    sides = np.array([[box[side] for side in ("left", "top", "right", "bottom")] for box in file["boxes"]])
    np.testing.assert_allclose(sides[0], found.boxes[found.scores[:, 0].argmax()], atol=1e-5)
    for row in range(1, len(sides)):
        assert intersection_over_union(sides[row], sides[:row]).max() <= 0.5
    assert file["peak"]["x"] == pytest.approx(sides[0, [0, 2]].mean(), abs=1e-5)


def test_the_threshold_and_the_number_of_boxes_are_kept(world: Path) -> None:
    every = located("a dog barks", world / "photo.png", "--threshold", LOW)["files"][0]["boxes"]
    limit = every[1]["relevance"]
    kept = located("a dog barks", world / "photo.png", "--threshold", f"{limit - 1e-6}")["files"][0]["boxes"]
    assert kept == every[:2]
    (one,) = located("a dog barks", world / "photo.png", "--threshold", LOW, "--max-boxes", "1")["files"]
    assert one["boxes"] == every[:1]
    assert f"less relevant boxes or spans are left out: {len(every) - 1}" in one["notices"]
    assert located("a dog barks", world / "photo.png", "--threshold", "1", status=1)["files"][0]["boxes"] == []


def test_a_picture_may_be_the_query_and_an_encoder_of_the_same_space_may_embed_it(world: Path) -> None:
    own = located("--image", world / "photo.png", world / "photo.png", "--threshold", LOW)
    other = located("--image", world / "photo.png", world / "photo.png", "--threshold", LOW, "--encoder", "hf:org/tiny")
    assert own["files"][0]["boxes"] == other["files"][0]["boxes"]
    assert other["encoder"] == "hf:org/tiny"
    both = text("a dog barks") + image(world / "photo.png")
    (mixed,) = locate_by_detector(both, world / "photo.png", detector(), options=LocateOptions(threshold=0.01))
    assert mixed.located is not None
    assert mixed.located.boxes


def test_frames_of_a_video_are_looked_at_one_by_one(world: Path) -> None:
    rgb = rgb_of(world / "photo.png")
    write_video(
        world / "clip.mp4", picture=lambda time_s: np.ascontiguousarray(np.roll(rgb, int(9 * time_s), 0)[:48, :64])
    )
    (file,) = located("a dog barks", world / "clip.mp4", "--threshold", LOW)["files"]
    assert len({box["at_s"] for box in file["boxes"]}) > 1
    assert file["peak"]["at_s"] is not None


def test_boxes_that_overlap_a_better_one_or_miss_the_threshold_are_left_out() -> None:
    sides = np.array([[0, 0, 0.5, 0.5], [0.02, 0, 0.5, 0.5], [0.6, 0.6, 0.9, 0.9]])
    found = Rectangles(sides, np.array([0.4, 0.95, 0.2]))
    (box,) = reached_boxes(found, LocateOptions(0.3), 1.5)
    assert (box.left, box.relevance, box.at_s) == (0.02, 0.95, 1.5)
    assert len(reached_boxes(found, LocateOptions(0.1), None)) == 2
    assert peak_of(found, None) == Peak(0.26, 0.25, 0.95)
    assert peak_of(Rectangles(np.zeros((0, 4)), np.zeros(0)), None) is None


def test_what_cannot_be_located_has_one_line(world: Path) -> None:
    write_sound(world / "sound.wav", (np.sin(np.arange(16_000) / 9) / 2).astype(np.float32), 16_000)
    photo = world / "photo.png"
    (file,) = located("a dog", world / "sound.wav", status=3)["files"]
    assert file["failure"] == "is audio: a detector looks in pictures and videos"
    asked = ("a dog", photo, "--detector", NAME)
    assert "against has no effect on a detector" in refused(*asked, "--against", "a cat", status=2)
    assert "detail has no effect on a detector" in refused(*asked, "--detail", "2", status=2)
    assert "the encoder mini has 384 dimensions, the detector" in refused(*asked, "--encoder", "mini", status=4)
    no_detector = refused("a dog", photo, "--detector", "mini", status=4)
    assert "'mini' is not a detector" in no_detector
    assert "install one with `bindsearch model pull owlv2:google/owlv2-base-patch16-ensemble`" in no_detector
    assert "download it with `bindsearch model pull owlv2:org/x`" in refused(
        "a dog", photo, "--detector", "owlv2:org/x", status=4
    )
    heard = refused("--audio", world / "sound.wav", photo, "--detector", NAME, status=2)
    assert f"the detector {NAME} embeds texts and pictures alone, not audio: search with texts or pictures, " in heard
    assert "or with an encoder that was bound to hf:org/tiny (`bindsearch bind --hub hf:org/tiny`)" in heard


def test_an_indexed_item_is_looked_in(world: Path) -> None:
    photo = world / "photo.png"
    options = LocateOptions(threshold=0.01)
    with connect(world / "store") as store:
        store.index(photo)
        (hit,) = store.search("a dog", to="image")
        sources = [f"like:{hit.item_id}", f"like:{photo}", str(photo), "like:99"]
        *found, missing = store.locate_by_detector("a dog barks", sources, detector(), options=options)
    (of_file,) = locate_by_detector("a dog barks", str(photo), detector(), options=options)
    assert of_file.located is not None
    assert [one.located for one in found] == [of_file.located] * 3
    assert "no indexed item '99'" in missing.failure
