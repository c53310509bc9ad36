"""timm's image models: found without network, converted, and in agreement with timm's own call."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform

from bindsearch.encoders.model_store.pull import pull_model
from bindsearch.encoders.registry import load_encoder
from bindsearch.encoders.timm.encoder import TimmEncoder
from bindsearch.encoders.timm.model_source import find_timm_source
from bindsearch.encoders.torch_runtime.device import Runtime, has_fast_bf16
from bindsearch.errors import EncoderError, MediaError
from bindsearch.media import Frames, Passage, Picture, Sound
from bindsearch.types import Modality
from helpers.forked import BINDSEARCH, TORCH, run_forked

VIT = "vit_tiny_patch16_224"
DISTILLED = "deit_tiny_distilled_patch16_224.fb_in1k"
CONVOLUTIONAL = "test_convnext.r160_in1k"
BATCH_NORM = "resnet10t"
WITH_TABLES = "test_vit_relpos"  # of positions, which no checkpoint holds


@pytest.fixture(autouse=True)
def models_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path / "models"))


def full_model(name: str) -> torch.nn.Module:
    """Return timm's own model with its classifier and seeded random weights, its biases and norms too."""
    torch.manual_seed(0)
    model: torch.nn.Module = timm.create_model(name, pretrained=False)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if tensor.is_floating_point() and tensor.ndim == 1 and "var" not in key:
                tensor.add_(0.1 * torch.randn_like(tensor))
    return model.eval()


def pull(model: torch.nn.Module, name: str, folder: Path, dtype: str = "fp32", **options: Any) -> TimmEncoder:
    """Save a model and pull it, as `bindsearch model pull timm:NAME --from FILE` does."""
    file = folder / "model.safetensors"
    safetensors.torch.save_file(model.state_dict(), file)
    pull_model(find_timm_source(f"timm:{name}"), from_file=file, dtype=dtype, **options)
    encoder = load_encoder(f"timm:{name}", runtime=Runtime("cpu"))
    assert isinstance(encoder, TimmEncoder)
    return encoder


def pictures() -> list[NDArray[np.uint8]]:
    """Pictures with structure, in shapes whose crops have odd and even rests."""
    rng = np.random.default_rng(0)
    shapes = [(30, 41), (37, 33), (25, 25), (31, 58)]
    return [np.kron(rng.integers(0, 256, (h, w, 3), np.uint8), np.ones((9, 9, 1), np.uint8)) for h, w in shapes]


def own_features(model: torch.nn.Module) -> NDArray[np.float32]:
    """Return timm's own pooled features of pictures(), by its own preprocessing: float32 (n, d), unit L2 norm."""
    transform = create_transform(**resolve_model_data_config(model), is_training=False)
    model.reset_classifier(0)  # type: ignore[operator]
    with torch.inference_mode():
        features = model(torch.stack([transform(Image.fromarray(rgb)) for rgb in pictures()]))
        unit: NDArray[np.float32] = torch.nn.functional.normalize(features, dim=1).numpy()
    return unit


def encoded(encoder: TimmEncoder) -> NDArray[np.float32]:
    return encoder.encode(Modality.IMAGE, [encoder.prepare(Picture(rgb)) for rgb in pictures()])


@pytest.mark.parametrize("name", [VIT, DISTILLED, CONVOLUTIONAL, BATCH_NORM, WITH_TABLES])
def test_vectors_are_those_of_timm(name: str, tmp_path: Path) -> None:
    model = full_model(name)
    encoder = pull(model, name, tmp_path)
    vectors, expected = encoded(encoder), own_features(model)
    assert vectors.dtype == np.float32
    assert vectors.shape[1] == encoder.dim
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3  # the pictures are told apart


@pytest.mark.parametrize(
    "settings", [{"crop_mode": "squash"}, {"interpolation": "bilinear", "crop_pct": 0.7}, {"interpolation": "lanczos"}]
)
def test_other_preprocessing_agrees_too(settings: Mapping[str, Any], tmp_path: Path) -> None:
    model = full_model(CONVOLUTIONAL)
    encoder = pull(model, CONVOLUTIONAL, tmp_path)
    architecture = encoder._manifest.architecture
    changed = {**architecture, "preprocess": {**architecture["preprocess"], **settings}}
    file = tmp_path / "models" / "timm" / CONVOLUTIONAL / "model.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "architecture": changed}))
    model.pretrained_cfg.update(settings)  # type: ignore[operator, union-attr]
    other = load_encoder(f"timm:{CONVOLUTIONAL}", runtime=Runtime("cpu"))
    assert isinstance(other, TimmEncoder)
    np.testing.assert_allclose(encoded(other), own_features(model), atol=1e-5)
    assert (other.digest, other.options) != (encoder.digest, encoder.options)


@pytest.mark.parametrize("name", [VIT, CONVOLUTIONAL, BATCH_NORM, WITH_TABLES])
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_precision_points_the_same_way(name: str, dtype: str, tmp_path: Path) -> None:
    if dtype == "bf16" and not has_fast_bf16():
        pytest.skip("this CPU has no bfloat16")
    model = full_model(name)
    exact = encoded(pull(model, name, tmp_path))
    half = encoded(pull(model, name, tmp_path, dtype, force=True))
    assert (exact * half).sum(axis=1).min() > 0.999


def test_a_model_without_classifier_and_a_file_of_torch(tmp_path: Path) -> None:
    model = full_model(VIT)
    expected = encoded(pull(model, VIT, tmp_path))
    model.reset_classifier(0)  # type: ignore[operator]
    torch.save({f"module.{name}": tensor for name, tensor in model.state_dict().items()}, tmp_path / "model.pth")
    pull_model(find_timm_source(f"timm:{VIT}"), from_file=tmp_path / "model.pth", dtype="fp32", force=True)
    encoder = load_encoder(f"timm:{VIT}", runtime=Runtime("cpu"))
    assert isinstance(encoder, TimmEncoder)
    np.testing.assert_array_equal(encoded(encoder), expected)


def test_all_of_a_classifier_is_left_out(tmp_path: Path) -> None:
    """LeViT's two classifiers have a batch norm each, which timm does not name as a part of them."""
    model = full_model("levit_128s")
    encoder = pull(model, "levit_128s", tmp_path)
    with safetensors.safe_open(tmp_path / "models" / "timm" / "levit_128s" / "image.safetensors", "pt") as file:
        assert not [name for name in file.keys() if name.startswith("visual.head")]  # noqa: SIM118  (a file object)
    np.testing.assert_allclose(encoded(encoder), own_features(model), atol=1e-5)


def test_video_is_the_mean_of_frames_and_text_is_refused(tmp_path: Path) -> None:
    encoder = pull(full_model(CONVOLUTIONAL), CONVOLUTIONAL, tmp_path)
    frames = np.stack([np.roll(pictures()[0], 40 * n, axis=1) for n in range(3)])
    video = encoder.encode(Modality.VIDEO, [encoder.prepare(Frames(frames, np.arange(3.0)))])
    each = encoder.encode(Modality.IMAGE, [encoder.prepare(Picture(frame)) for frame in frames])
    np.testing.assert_allclose(video[0], each.mean(axis=0) / np.linalg.norm(each.mean(axis=0)), atol=1e-5)
    assert set(encoder.temperatures.values()) == {1.0}
    assert encoder.modalities == {Modality.IMAGE, Modality.VIDEO}
    message = f"timm:{CONVOLUTIONAL} has no text tower: it encodes images and video"
    for refused in (lambda: encoder.prepare(Passage("dog")), lambda: encoder.count_tokens("dog")):
        with pytest.raises(EncoderError) as raised:
            refused()
        assert str(raised.value) == message
    with pytest.raises(EncoderError, match="has no audio tower: it encodes images and video"):
        encoder.prepare(Sound(np.zeros(9, np.float32), 16_000))
    with pytest.raises(MediaError, match=r"the picture has no pixels \(height 0, width 4\)"):
        encoder.prepare(Picture(np.zeros((0, 4, 3), np.uint8)))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "vit_tiny_patch16_244",
            "unknown model 'timm:vit_tiny_patch16_244': similar names are .*timm:vit_tiny_patch16_224",
        ),
        ("vit_small_patch16_224.dyno", "unknown model .*: the weights of vit_small_patch16_224 are .*224.dino"),
        ("?", "unknown model 'timm:.': names are timm:MODEL with the names of timm, such as timm:vit_small_patch16"),
        ("hf-hub:timm/vit_tiny_patch16_224", "unknown model 'timm:hf-hub:timm/vit_tiny_patch16_224'"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(EncoderError, match=message) as raised:
        find_timm_source(f"timm:{name}")
    assert "\n" not in str(raised.value)


def test_source_of_published_weights() -> None:
    source = find_timm_source("timm:vit_small_patch16_224.dino")
    repository = "https://huggingface.co/timm/vit_small_patch16_224.dino"
    assert source.urls[0] == f"{repository}/resolve/main/model.safetensors"
    assert repository in source.license_text
    assert (source.family, source.license) == ("timm", "apache-2.0")
    assert source.architecture["config"]["embed_dim"] == 384
    assert source.architecture["preprocess"]["crop_pct"] == 0.9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cls_token": None}, "the tensor cls_token is missing; save the state_dict.. of timm's model of this name"),
        ({"cls_token": torch.zeros(1, 1, 8)}, r"cls_token has the shape \(1, 1, 8\) instead of \(1, 1, 192\)"),
        ({"mask_token": torch.zeros(1)}, "it holds the unknown tensor mask_token, 1 unknown in total; save the"),
        ({"norm.weight": torch.full((192,), torch.nan)}, "norm.weight holds NaN or infinity"),
    ],
)
def test_other_checkpoints_are_refused(change: Mapping[str, Any], message: str, tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in {**full_model(VIT).state_dict(), **change}.items() if tensor is not None}
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(EncoderError, match=message):
        pull_model(find_timm_source(f"timm:{VIT}"), from_file=tmp_path / "model.safetensors", dtype="fp32")


def test_pull_index_and_search(tmp_path: Path) -> None:
    name = f"timm:{VIT}"
    safetensors.torch.save_file(full_model(VIT).state_dict(), tmp_path / "model.safetensors")
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, rgb in enumerate(pictures()):
        Image.fromarray(rgb).save(folder / f"{number}.png")
    (folder / "notes.txt").write_text("a dog runs on the beach")

    def run(*arguments: str | Path) -> CompletedProcess[str]:
        models = {"BINDSEARCH_MODELS": str(tmp_path / "models"), "BINDSEARCH_STORE": str(tmp_path / "store")}
        environment = {**os.environ, **models, "BINDSEARCH_OFFLINE": "1"}
        return run_forked([BINDSEARCH, *arguments], modules=(*TORCH, "timm"), variables=environment)

    missing = run("index", folder, "--encoder", name)
    assert missing.returncode == 4
    assert f"the model {name} is not installed: download it with `bindsearch model pull {name}`" in missing.stderr
    pulled = run("model", "pull", name, "--from", tmp_path / "model.safetensors")
    assert pulled.returncode == 0, pulled.stderr
    assert name in run("model", "list").stdout
    indexed = run("index", folder, "--encoder", name, "--json")
    assert indexed.returncode == 0, indexed.stderr
    assert json.loads(indexed.stdout)["added"] == 4
    assert f"skipped, because the encoder {name} cannot embed them: 1 text" in indexed.stderr
    found = run("search", "--image", folder / "1.png", "--include-query", "--json")
    hit = json.loads(found.stdout)["hits"][0]
    assert Path(hit["path"]).name == "1.png"
    assert hit["cosine"] > 0.999
    words = run("search", "a red sofa")
    assert words.returncode == 2
    assert f"the encoder {name} has no text tower: search with a file, such as --image FILE" in words.stderr
    assert "Traceback" not in words.stderr
