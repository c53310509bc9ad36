"""Detectors: boxes and scores of the library itself, for queries that are vectors, from a pull to a search."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray

from bindsearch.encoders.detectors.detector import Detections, Detector, load_detector
from bindsearch.encoders.hf.owl import MAX_TIMES, Adapter
from bindsearch.encoders.listing import list_encoders
from bindsearch.encoders.model_store.snapshot_pull import pull_snapshot
from bindsearch.encoders.registry import load_encoder
from bindsearch.encoders.torch_runtime.device import Runtime, has_fast_bf16
from bindsearch.errors import EncoderError, InstallationError, MediaError, UsageError
from bindsearch.media import Passage, Picture, Sound
from bindsearch.types import Modality
from helpers.command import run_command
from helpers.hf_models import TEXTS
from helpers.owl_models import DIM, PATCHES, SIDE_PX, save_owl

KINDS = ("owlv2", "owlvit")
CPU = Runtime("cpu")
SIZES = ((100, 100), (100, 160), (150, 90), (40, 33), (7, 64))


@pytest.fixture(autouse=True)
def models_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("BINDSEARCH_OFFLINE", "1")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of a detector of each type, saved once."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in KINDS}
    for kind, folder in folders.items():
        save_owl(folder, kind)
    return folders.__getitem__


def pulled(folder: Path, kind: str = "owlv2", dtype: str = "fp32") -> Detector:
    """Pull a saved detector as `bindsearch model pull KIND:org/tiny --from FOLDER` does, and load it."""
    pull_snapshot(f"{kind}:org/tiny", from_folder=folder, dtype=dtype, force=True)
    return load_detector(f"{kind}:org/tiny", runtime=CPU)


def library(folder: Path, kind: str) -> tuple[Any, Any, Any]:
    """Return the library's own network, processor of pictures, and tokenizer."""
    import transformers

    name = {"owlv2": "Owlv2", "owlvit": "OwlViT"}[kind]
    network = getattr(transformers, f"{name}ForObjectDetection").from_pretrained(folder).eval()
    processor = getattr(transformers, f"{name}ImageProcessor").from_pretrained(folder)
    return network, processor, transformers.CLIPTokenizer.from_pretrained(folder)


def picture(height: int = 100, width: int = 100, seed: int = 0) -> NDArray[np.uint8]:
    """Return a picture of blots in many colours."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (-(-height // 9), -(-width // 9), 3), np.uint8)
    return np.ascontiguousarray(small.repeat(9, axis=0).repeat(9, axis=1)[:height, :width])


def expected(folder: Path, kind: str, rgb: NDArray[np.uint8]) -> Detections:
    """Return what the library computes from token ids, its boxes scaled as by its own post-processing."""
    network, processor, tokenizer = library(folder, kind)
    tokens = tokenizer(list(TEXTS), padding="max_length", return_tensors="pt")
    pixels = processor(rgb, input_data_format="channels_last", return_tensors="pt")
    with torch.inference_mode():
        found = network(**tokens, **pixels)
    height, width = rgb.shape[:2]
    (post,) = processor.post_process_object_detection(found, threshold=-1.0, target_sizes=[(height, width)])
    boxes = (post["boxes"].numpy() / [width, height, width, height]).clip(0, 1)
    return Detections(boxes.astype(np.float32), found.logits[0].sigmoid().numpy())


@pytest.mark.parametrize("kind", KINDS)
def test_its_own_text_embeddings_as_queries_change_nothing(kind: str, saved: Callable[[str], Path]) -> None:
    detector = pulled(saved(kind), kind)
    texts = detector.text_embeddings(TEXTS)
    for number, (height, width) in enumerate(SIZES):
        rgb = picture(height, width, number)
        own, found = expected(saved(kind), kind, rgb), detector.detect(rgb, texts)
        inside = (own.boxes[:, 2:] > own.boxes[:, :2]).all(axis=1)
        assert kind == "owlv2" or inside.all()
        np.testing.assert_allclose(found.boxes, own.boxes[inside], atol=1e-5)
        np.testing.assert_allclose(logits(found.scores), logits(own.scores[inside]), atol=1e-5)
        assert (found.boxes.dtype, found.scores.dtype) == (np.float32, np.float32)
        assert (found.boxes >= 0).all()
        assert (found.boxes <= 1).all()
    assert np.ptp(found.scores) > 0.01  # texts and patches are told apart
    assert len(detector.detect(picture(), texts).boxes) == PATCHES
    assert len(detector.detect(picture(20, 100), texts).boxes) < PATCHES or kind == "owlvit"  # without the padding
    assert (detector.name, detector.dim) == (f"{kind}:org/tiny", DIM)


def logits(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(np.log(scores.astype(np.float64) / (1 - scores.astype(np.float64))))


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_follow_the_embedding_that_is_put_in(kind: str, saved: Callable[[str], Path]) -> None:
    detector, (network, processor, _) = pulled(saved(kind), kind), library(saved(kind), kind)
    rgb = picture()
    with torch.inference_mode():
        pixels = processor(rgb, input_data_format="channels_last", return_tensors="pt")["pixel_values"]
        patches = network.class_predictor(network.image_embedder(pixels)[0].flatten(1, 2))[1][0].numpy()
    found = detector.detect(rgb, patches)
    chosen = found.scores.argmax(axis=0)
    assert (chosen == np.arange(PATCHES)).sum() >= PATCHES - 1  # shifts and scales differ from patch to patch
    for number in (0, 5, 10, 15):
        alone = detector.detect(rgb, 7 * patches[number : number + 1])  # the head normalises queries
        assert alone.scores[:, 0].argmax() == number
        np.testing.assert_allclose(alone.scores[:, 0], found.scores[:, number], atol=1e-5)
        np.testing.assert_array_equal(alone.boxes, found.boxes)
    assert len(np.unique(found.boxes.round(3), axis=0)) == PATCHES


def test_a_score_depends_neither_on_other_queries_nor_on_earlier_pictures(saved: Callable[[str], Path]) -> None:
    detector = pulled(saved("owlv2"))
    texts = detector.text_embeddings(TEXTS)
    np.testing.assert_allclose(np.concatenate([detector.text_embeddings([text]) for text in TEXTS]), texts, atol=1e-5)
    many = np.concatenate([texts, np.random.default_rng(0).standard_normal((500, DIM)).astype(np.float32)])
    first = detector.detect(picture(), many)
    detector.detect(picture(50, 70, 3), texts)
    for number in range(len(texts)):
        again = detector.detect(picture(), texts[number : number + 1])
        np.testing.assert_allclose(again.scores[:, 0], first.scores[:, number], atol=1e-5)
        np.testing.assert_array_equal(again.boxes, first.boxes)


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_prepared_as_by_the_library(kind: str, saved: Callable[[str], Path]) -> None:
    adapter, (_, processor, _) = Adapter(saved(kind), kind, {}), library(saved(kind), kind)
    for height, width in (*SIZES, (MAX_TIMES * SIDE_PX, 200), (1, 200)):
        rgb = picture(height, width)
        own = processor(rgb, input_data_format="channels_last", return_tensors="pt")["pixel_values"][0].numpy()
        np.testing.assert_array_equal(adapter.pixels(rgb), own)
    rgb.flags.writeable = False
    assert adapter.prepare(Picture(rgb)).shape == (1, 3, SIDE_PX, SIDE_PX)
    grey = np.full((100, 300, 3), 90, np.uint8)  # a larger one is reduced first: its mean colour stays
    np.testing.assert_allclose(adapter.pixels(grey)[:, 0, 0], adapter.pixels(grey[:80, :240])[:, 0, 0], atol=1e-5)


def test_a_long_strip_takes_little_memory(saved: Callable[[str], Path]) -> None:
    adapter = Adapter(saved("owlv2"), "owlv2", {})
    strip = np.zeros((1, 100_000, 3), np.uint8)  # padded, it would have 30 GB
    strip[:, 50_000:] = 255
    top = adapter.pixels(strip)[:, 0]
    assert (top[:, -1] > top[:, 0]).all()


def test_half_precision_is_near(saved: Callable[[str], Path]) -> None:
    if not has_fast_bf16():
        pytest.skip("this CPU has no bfloat16")
    exact = pulled(saved("owlv2"))
    texts = exact.text_embeddings(TEXTS)
    one = exact.detect(picture(), texts)
    half = pulled(saved("owlv2"), dtype="bf16")
    assert (half.text_embeddings(TEXTS) * texts).sum(axis=1).min() > 0.999
    other = half.detect(picture(), texts)
    np.testing.assert_allclose(other.boxes, one.boxes, atol=0.02)
    np.testing.assert_allclose(other.scores, one.scores, atol=0.02)
    assert half.digest == exact.digest


@pytest.mark.parametrize("kind", KINDS)
def test_as_an_encoder_it_has_the_queries_of_the_library(
    kind: str, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    detector = pulled(saved(kind), kind)
    pull_snapshot("hf:org/tiny", from_folder=tmp_path / f"models/{kind}/org/tiny/files", dtype="fp32")
    encoder = load_encoder("hf:org/tiny", runtime=CPU)
    assert encoder.modalities == {Modality.TEXT, Modality.IMAGE}
    assert encoder.digest == detector.encoder.digest
    network, processor, tokenizer = library(saved(kind), kind)
    pictures = [picture(seed=seed) for seed in range(3)]
    pixels = processor(pictures, input_data_format="channels_last", return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        feature_map = network.image_embedder(pixels)[0]
        queries = network.embed_image_query(feature_map.flatten(1, 2), feature_map)[0][:, 0]
        tokens = tokenizer(list(TEXTS), padding="max_length", return_tensors="pt")
        texts = getattr(network, kind).get_text_features(**tokens).pooler_output
    for modality, media, own in (
        (Modality.IMAGE, [Picture(rgb) for rgb in pictures], queries),
        (Modality.TEXT, [Passage(text) for text in TEXTS], texts),
    ):
        prepared = [encoder.prepare(medium) for medium in media]
        unit = torch.nn.functional.normalize(own, dim=-1).numpy()
        np.testing.assert_allclose(encoder.encode(modality, prepared), unit, atol=1e-5)
        np.testing.assert_allclose(encoder.encode(modality, prepared[1:2])[0], unit[1], atol=1e-5)
    scale = getattr(network, kind).logit_scale.detach().exp()
    assert encoder.temperatures[Modality.IMAGE] == pytest.approx(float(scale))
    assert encoder.max_tokens == 16
    with pytest.raises(EncoderError, match="hf:org/tiny has no audio tower: it encodes text, image"):
        encoder.prepare(Sound(np.zeros(9, np.float32), 16_000))


def test_what_cannot_be_detected_has_a_reason(saved: Callable[[str], Path]) -> None:
    detector = pulled(saved("owlv2"))
    texts = detector.text_embeddings(TEXTS)
    with pytest.raises(MediaError, match=r"the picture has no pixels \(height 0, width 9\)"):
        detector.detect(np.zeros((0, 9, 3), np.uint8), texts)
    with pytest.raises(UsageError, match=r"the picture is float32 \(9, 9, 3\): give uint8 \(height, width, 3\)"):
        detector.detect(np.zeros((9, 9, 3), np.float32), texts)
    with pytest.raises(EncoderError, match=r"the queries have 384 dimensions, the detector owlv2:org/tiny has 32"):
        detector.detect(picture(), np.ones((2, 384), np.float32))
    with pytest.raises(UsageError, match=r"the queries have the shape \(32,\): give at least one vector"):
        detector.detect(picture(), texts[0])
    for bad in (0.0, np.nan):
        with pytest.raises(UsageError, match="a query is 0 or not finite"):
            detector.detect(picture(), np.full((1, DIM), bad, np.float32))
    with pytest.raises(UsageError, match="cannot embed nothing"):
        detector.text_embeddings([])
    with pytest.raises(MediaError, match="the text has 42 tokens: the text tower takes at most 16"):
        detector.text_embeddings(["dog " * 40])


def refusal(name: str, *arguments: str | Path) -> str:
    """Return the one line of a pull that fails."""
    failed = run_command(["model", "pull", name, *arguments])
    assert (failed.returncode != 0, failed.stdout) == (True, "")
    (line,) = [line for line in failed.stderr.splitlines() if line and not line.startswith(f"{name}: licence")]
    return line


def test_pull_list_and_refusal_as_an_encoder(saved: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="is not installed: download it with `bindsearch model pull owlv2:org/tiny`"):
        load_detector("owlv2:org/tiny")
    with pytest.raises(EncoderError, match="'mini' is not a detector: give owlv2:ORG/NAME or owlvit:ORG/NAME"):
        load_detector("mini")
    done = run_command(["model", "pull", "owlv2:org/tiny", "--from", saved("owlv2")])
    assert done.returncode == 0, done.stderr
    assert "use it with: bindsearch locate QUERY FILE --detector owlv2:org/tiny" in done.stdout
    assert "owlv2:org/tiny" in run_command(["model", "list"]).stdout
    (listed,) = json.loads(run_command(["model", "list", "--json"]).stdout)["models"]
    assert (listed["family"], listed["architecture"]) == ("detectors", {"model_type": "owlv2", "dim": DIM})
    assert "owlv2:org/tiny" in run_command(["doctor"]).stdout
    assert "owlv2:org/tiny" not in {entry.name for entry in list_encoders()}
    for name in ("owlv2:org/tiny", "mini+owlv2:org/tiny"):
        refused = run_command(["index", tmp_path, "--encoder", name, "--store", tmp_path / "store"])
        assert refused.returncode == 4
        assert refused.stderr.splitlines() == [
            "bindsearch: owlv2:org/tiny is not an encoder: use it with `bindsearch locate QUERY FILE --detector "
            "owlv2:org/tiny`; hf:org/tiny embeds its texts and pictures"
        ]
    unknown = run_command(["index", tmp_path, "--encoder", "owl", "--store", tmp_path / "store"]).stderr
    assert "unknown encoder 'owl'" in unknown
    assert "owlv2:org/tiny" not in unknown


def test_a_model_that_does_not_fit_is_refused_in_one_line(saved: Callable[[str], Path], tmp_path: Path) -> None:
    assert refusal("owlv2:org/tiny", "--from", saved("owlvit")) == (
        "bindsearch: owlv2:org/tiny is a model of the type 'owlvit', not 'owlv2': pull owlvit:org/tiny"
    )
    broken = shutil.copytree(saved("owlv2"), tmp_path / "broken")
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, "model_type": "clip"}))
    assert "is a model of the type 'clip', not 'owlv2': detectors are owlv2 and owlvit" in refusal(
        "owlv2:org/tiny", "--from", broken
    )
    (broken / "config.json").write_text(json.dumps({**config, "projection_dim": 24}))
    assert "is damaged (its texts and patches have different dimensions)" in refusal("owlv2:org/tiny", "--from", broken)
    (broken / "config.json").write_text(json.dumps(config))
    settings = json.loads((broken / "preprocessor_config.json").read_text())
    (broken / "preprocessor_config.json").write_text(json.dumps({**settings, "size": {"height": 32, "width": 32}}))
    assert "makes pictures of (3, 32, 32) instead of (3, 64, 64)" in refusal("owlv2:org/tiny", "--from", broken)
    (broken / "preprocessor_config.json").write_text(json.dumps(settings))
    tensors = safetensors.torch.load_file(broken / "model.safetensors")
    lacking = {name: tensor for name, tensor in tensors.items() if not name.startswith("class_head.dense0")}
    safetensors.torch.save_file(lacking, broken / "model.safetensors", {"format": "pt"})
    assert "lack class_head.dense0.bias, class_head.dense0.weight" in refusal("owlv2:org/tiny", "--from", broken)


def test_a_file_damaged_after_the_pull_is_named(saved: Callable[[str], Path], tmp_path: Path) -> None:
    detector = pulled(saved("owlv2"))
    weights = tmp_path / "models/owlv2/org/tiny/files/model.safetensors"
    size = weights.stat().st_size
    weights.write_bytes(b"\0" * size)
    with pytest.raises(EncoderError, match=r"cannot be (loaded|read).*pull the model again"):
        detector.detect(picture(), np.ones((1, DIM), np.float32))
    weights.write_bytes(b"\0" * 9)
    with pytest.raises(EncoderError, match=rf"has 9 bytes instead of {size}: `bindsearch model pull owlv2:org/tiny`"):
        load_detector("owlv2:org/tiny")


def test_a_missing_library_is_named_with_its_extra(
    saved: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pulled(saved("owlv2"))
    monkeypatch.setitem(sys.modules, "transformers", None)
    line = "detectors need the extra [detect]: pip install 'bindsearch[detect]'"
    with pytest.raises(InstallationError) as raised:
        load_detector("owlv2:org/tiny")
    assert str(raised.value) == line
    assert refusal("owlv2:org/other", "--from", saved("owlv2")) == f"bindsearch: {line}"
