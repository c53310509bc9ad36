"""open_clip models: found without network, converted and checked, and in agreement with open_clip's own forward."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

import bindsearch as bs
from bindsearch.encoders.model_store.installed import FORMAT, ModelFile, ModelManifest, model_folder, write_manifest
from bindsearch.encoders.openclip import checkpoint, model_source
from bindsearch.encoders.openclip.encoder import OpenClipEncoder
from bindsearch.encoders.torch_runtime.device import Runtime, has_fast_bf16
from bindsearch.errors import EncoderError, MediaError
from bindsearch.media import Frames, Passage, Picture, Sound
from bindsearch.types import Modality
from helpers.stores import connect

NAME = "openclip:ViT-S-32-alt/random"
TEXTS = ["a dog", "two cats sleep on a red sofa in the afternoon sun", "!", "42 birds, 3 trees"]
VIT = {"image_size": 64, "layers": 2, "width": 128, "patch_size": 16}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "vit": {"embed_dim": 48, "vision_cfg": VIT, "text_cfg": TEXT, "quick_gelu": True},
    "resnet": {
        "embed_dim": 48,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 32, "patch_size": None},
        "text_cfg": TEXT,
        "quick_gelu": False,
    },
    "convnext": {
        "embed_dim": 48,
        "vision_cfg": {
            "timm_model_name": "convnext_atto",
            "timm_model_pretrained": False,
            "timm_pool": "",
            "timm_proj": "linear",
            "image_size": 64,
        },
        "text_cfg": TEXT,
        "quick_gelu": False,
    },
}
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def architecture(kind: str, **preprocess: Any) -> dict[str, Any]:
    facts = {"size_px": 64, "mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"}
    return {"model": kind, "pretrained": "random", "config": CONFIGS[kind], "preprocess": {**facts, **preprocess}}


def full_model(kind: str, *, custom_text: bool = False) -> torch.nn.Module:
    """open_clip's own model with seeded random weights, its biases and norms too."""
    torch.manual_seed(0)
    build = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
    model: torch.nn.Module = build(**CONFIGS[kind])
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and tensor.ndim == 1 and "var" not in name:
                tensor.add_(0.1 * torch.randn_like(tensor))
    return model.eval()


@pytest.fixture(scope="module")
def vit() -> torch.nn.Module:
    return full_model("vit")


@pytest.fixture(autouse=True)
def models_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path / "models"))


def ignore(_done: int, _total: int) -> None:
    pass


def install(source: Path, facts: Mapping[str, Any], dtype: str = "fp32") -> ModelManifest:
    """Convert a checkpoint and write its manifest, as `bindsearch model pull` does."""
    folder = model_folder(NAME)
    folder.mkdir(parents=True, exist_ok=True)
    temperatures = checkpoint.convert(source, folder, facts, dtype, ignore)
    manifest = ModelManifest(
        format=FORMAT,
        name=NAME,
        family="openclip",
        architecture=facts,
        dtype=dtype,
        source=str(source),
        source_sha256=hashlib.sha256(source.read_bytes()).hexdigest(),
        source_bytes=source.stat().st_size,
        license="none",
        created="2025-01-01T00:00:00Z",
        temperatures=temperatures,
        files={tower: ModelFile((folder / f"{tower}.safetensors").stat().st_size, "") for tower in ("image", "text")},
    )
    write_manifest(folder, manifest)
    return manifest


def save_torch(model: torch.nn.Module, path: Path) -> Path:
    torch.save(model.state_dict(), path)
    return path


def save_safetensors(model: torch.nn.Module, path: Path) -> Path:
    safetensors.torch.save_file(model.state_dict(), path)
    return path


def save_training(model: torch.nn.Module, path: Path) -> Path:
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, path)
    return path


def pictures(n: int = 3) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (80 + 31 * i, 140 - 29 * i, 3), np.uint8) for i in range(n)]


def published_features(model: Any, facts: Mapping[str, Any]) -> dict[Modality, NDArray[np.float32]]:
    """Return the embeddings of open_clip itself for TEXTS and pictures(): float32 (n, d), unit L2 norm."""
    preprocess = {name: value for name, value in facts["preprocess"].items() if name != "size_px"}
    transform = image_transform_v2(PreprocessCfg(size=facts["preprocess"]["size_px"], **preprocess), is_train=False)
    with torch.inference_mode():
        pixels = torch.stack([transform(Image.fromarray(rgb)) for rgb in pictures()])
        return {
            Modality.IMAGE: model.encode_image(pixels, normalize=True).numpy(),
            Modality.TEXT: model.encode_text(open_clip.tokenize(TEXTS), normalize=True).numpy(),
        }


def encoded(encoder: OpenClipEncoder) -> dict[Modality, NDArray[np.float32]]:
    return {
        Modality.IMAGE: encoder.encode(Modality.IMAGE, [encoder.prepare(Picture(rgb)) for rgb in pictures()]),
        Modality.TEXT: encoder.encode(Modality.TEXT, [encoder.prepare(Passage(text)) for text in TEXTS]),
    }


@pytest.mark.parametrize("save", [save_torch, save_safetensors, save_training])
def test_vectors_are_those_of_open_clip_however_the_checkpoint_was_saved(
    vit: torch.nn.Module, save: Callable[[torch.nn.Module, Path], Path], tmp_path: Path
) -> None:
    facts = architecture("vit")
    vectors = encoded(OpenClipEncoder(install(save(vit, tmp_path / "checkpoint"), facts), runtime=Runtime("cpu")))
    for modality, expected in published_features(vit, facts).items():
        assert vectors[modality].dtype == np.float32
        np.testing.assert_allclose(vectors[modality], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "preprocess"),
    [
        ("vit", {"resize_mode": "squash", "mean": [0.5, 0.4, 0.3], "std": [0.5, 0.6, 0.7]}),
        ("vit", {"interpolation": "bilinear"}),
        ("resnet", {}),
        ("convnext", {}),
    ],
)
@pytest.mark.parametrize("custom_text", [False, True])
def test_other_towers_and_preprocessing_agree_too(
    kind: str, preprocess: dict[str, Any], custom_text: bool, tmp_path: Path
) -> None:
    model, facts = full_model(kind, custom_text=custom_text), architecture(kind, **preprocess)
    manifest = install(save_torch(model, tmp_path / "checkpoint.pt"), facts)
    vectors = encoded(OpenClipEncoder(manifest, runtime=Runtime("cpu")))
    for modality, expected in published_features(model, facts).items():
        np.testing.assert_allclose(vectors[modality], expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["vit", "resnet", "convnext"])
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_precision_points_the_same_way(kind: str, dtype: str, tmp_path: Path) -> None:
    model, facts = full_model(kind), architecture(kind)
    source = save_safetensors(model, tmp_path / "checkpoint")
    exact = install(source, facts)
    exact_encoder = OpenClipEncoder(exact, runtime=Runtime("cpu"))
    exact_vectors = encoded(exact_encoder)
    half = install(source, facts, dtype)
    encoder = OpenClipEncoder(half, runtime=Runtime("cpu"))
    for modality, vectors in encoded(encoder).items():
        assert (vectors * exact_vectors[modality]).sum(axis=1).min() >= 0.999
    assert half.files["image"].size_bytes < 0.6 * exact.files["image"].size_bytes
    assert (encoder.digest, encoder.options) == (exact_encoder.digest, exact_encoder.options)


@pytest.mark.skipif(not has_fast_bf16(), reason="this CPU has no bfloat16")
def test_bfloat16_is_run_as_it_is_stored_and_norms_stay_exact(vit: torch.nn.Module, tmp_path: Path) -> None:
    manifest = install(save_torch(vit, tmp_path / "checkpoint"), architecture("vit"), "bf16")
    tower = OpenClipEncoder(manifest, runtime=Runtime("cpu"))._load("image", torch.device("cpu"))
    formats = {name: tensor.dtype for name, tensor in tower.state_dict().items()}
    assert formats["visual.transformer.resblocks.0.mlp.c_fc.weight"] == torch.bfloat16
    assert formats["visual.ln_pre.weight"] == torch.float32


def test_only_the_tower_that_is_needed_is_loaded(vit: torch.nn.Module, tmp_path: Path) -> None:
    encoder = OpenClipEncoder(
        install(save_torch(vit, tmp_path / "checkpoint"), architecture("vit")), runtime=Runtime("cpu")
    )
    (model_folder(NAME) / "image.safetensors").unlink()
    prepared = [encoder.prepare(Passage("a dog"))]
    assert encoder.loaded_towers == frozenset()
    encoder.encode(Modality.TEXT, prepared)
    assert encoder.loaded_towers == {"text"}
    with pytest.raises(EncoderError, match=f"`bindsearch model pull {NAME}` downloads it again"):
        encoder.encode(Modality.IMAGE, [encoder.prepare(Picture(pictures(1)[0]))])


def test_a_text_does_not_depend_on_its_batch(vit: torch.nn.Module, tmp_path: Path) -> None:
    encoder = OpenClipEncoder(
        install(save_torch(vit, tmp_path / "checkpoint"), architecture("vit")), runtime=Runtime("cpu")
    )
    prepared = [encoder.prepare(Passage(text)) for text in [*TEXTS, "word " * 75]]
    together = encoder.encode(Modality.TEXT, prepared)
    alone = np.concatenate([encoder.encode(Modality.TEXT, [tokens]) for tokens in prepared])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_videos_frames_are_averaged_and_features_are_scaled(vit: torch.nn.Module, tmp_path: Path) -> None:
    manifest = install(save_torch(vit, tmp_path / "checkpoint"), architecture("vit"))
    encoder = OpenClipEncoder(manifest, runtime=Runtime("cpu"))
    frames = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    prepared = encoder.prepare(Frames(frames, np.arange(3.0)))
    assert prepared.shape == (3, 64, 64, 3)
    each = encoder.encode(Modality.IMAGE, [encoder.prepare(Picture(frame)) for frame in frames])
    np.testing.assert_allclose(encoder.features(Modality.VIDEO, [prepared])[0], each.mean(axis=0), atol=1e-5)
    text = [encoder.prepare(Passage("a dog"))]
    norm = np.linalg.norm(encoder.features(Modality.TEXT, text))
    assert norm == pytest.approx(1 / 0.07, rel=1e-3)  # open_clip's logit scale before training
    assert encoder.temperatures == {Modality.TEXT: pytest.approx(norm), Modality.IMAGE: 1.0, Modality.VIDEO: 1.0}


def test_a_large_logit_scale_is_clipped(vit: torch.nn.Module, tmp_path: Path) -> None:
    state = {**vit.state_dict(), "logit_scale": torch.tensor([5.0])}
    torch.save(state, tmp_path / "checkpoint")
    assert install(tmp_path / "checkpoint", architecture("vit")).temperatures["text"] == 100.0


def test_other_modalities_and_empty_texts_are_refused(vit: torch.nn.Module, tmp_path: Path) -> None:
    manifest = install(save_torch(vit, tmp_path / "checkpoint"), architecture("vit"))
    encoder = OpenClipEncoder(manifest, runtime=Runtime("cpu"))
    with pytest.raises(EncoderError, match="encodes text, images and video, not audio"):
        encoder.prepare(Sound(np.zeros(100, np.float32), 16000))
    with pytest.raises(EncoderError, match="not depth"):
        encoder.encode(Modality.DEPTH, [])
    with pytest.raises(MediaError, match="has no words"):
        encoder.prepare(Passage("  "))
    with pytest.raises(MediaError, match="no pixels"):
        encoder.prepare(Picture(np.zeros((0, 4, 3), np.uint8)))


def test_progress_counts_the_bytes_of_both_towers(vit: torch.nn.Module, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    source = save_torch(vit, tmp_path / "checkpoint")
    checkpoint.convert(source, tmp_path, architecture("vit"), "fp32", lambda *counts: seen.append(counts))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert {total for _, total in seen} == {seen[-1][0]}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"visual.proj": None}, "the tensor visual.proj is missing"),
        ({"ln_final.weight": None}, "the tensor ln_final.weight is missing"),
        ({"logit_scale": None}, "the tensor logit_scale is missing"),
        ({"logit_scale": torch.zeros(2)}, r"logit_scale has the shape \(2,\) instead of \(\)"),
        ({"visual.conv1.weight": torch.zeros(128, 3, 8, 8)}, r"\(128, 3, 8, 8\) instead of \(128, 3, 16, 16\)"),
        ({"visual.extra": torch.zeros(1)}, "unknown tensor visual.extra, 1 unknown in total"),
        ({"epoch": 3}, r"holds epoch, which are not tensors: save the model's state_dict\(\)"),
    ],
)
def test_damaged_checkpoints_are_refused_by_the_fault(
    vit: torch.nn.Module, damage: dict[str, Any], message: str, tmp_path: Path
) -> None:
    changed = {**vit.state_dict(), **damage}
    torch.save({name: value for name, value in changed.items() if value is not None}, tmp_path / "checkpoint")
    with pytest.raises(EncoderError, match=message):
        install(tmp_path / "checkpoint", architecture("vit"))


def test_files_that_are_no_checkpoints_are_refused(vit: torch.nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    with pytest.raises(EncoderError, match="No such file"):
        install(path, architecture("vit"))
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(EncoderError, match="neither a safetensors nor a torch file"):
        install(path, architecture("vit"))
    for save in (save_torch, save_safetensors):
        whole = save(vit, path).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(EncoderError, match="cannot be read"):
            install(path, architecture("vit"))
    torch.save({"weights": Path("/")}, path)
    with pytest.raises(EncoderError, match="cannot be read"):
        install(path, architecture("vit"))


# torch 2.11 says of its own TorchScript, which OpenAI's files are made of, that it is deprecated.
@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_a_program_instead_of_tensors_is_refused(tmp_path: Path) -> None:
    trace: Any = torch.jit.trace
    trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(tmp_path / "checkpoint"))
    with pytest.raises(EncoderError, match="is a TorchScript program, as OpenAI publishes them"):
        install(tmp_path / "checkpoint", architecture("vit"))


def test_numbers_too_large_for_fp16_are_refused(vit: torch.nn.Module, tmp_path: Path) -> None:
    torch.save({**vit.state_dict(), "visual.proj": torch.full((128, 48), 1e5)}, tmp_path / "checkpoint")
    with pytest.raises(EncoderError, match=r"visual\.proj holds numbers too large for fp16"):
        install(tmp_path / "checkpoint", architecture("vit"), "fp16")


def test_real_names_resolve_without_network() -> None:
    hub = "https://huggingface.co"
    source = model_source.find_openclip_source("openclip:ViT-B-32/laion2b_s34b_b79k")
    repository = f"{hub}/laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
    assert source.urls == (
        f"{repository}/resolve/main/open_clip_model.safetensors",
        f"{repository}/resolve/main/open_clip_pytorch_model.bin",
    )
    assert repository in source.license_text
    assert (source.family, source.needs_consent) == ("openclip", False)
    assert source.architecture["config"]["quick_gelu"] is False
    assert source.architecture["preprocess"]["size_px"] == 224
    source = model_source.find_openclip_source("openclip:ViT-B-32/laion400m_e32")
    assert (
        source.urls[0] == f"{hub}/timm/vit_base_patch32_clip_224.laion400m_e32/resolve/main/open_clip_model.safetensors"
    )
    assert source.urls[2].startswith("https://github.com/mlfoundations/open_clip/releases/download/")


def test_the_weights_decide_the_activation_and_programs_are_not_offered() -> None:
    source = model_source.find_openclip_source("openclip:ViT-B-32/openai")
    assert source.architecture["config"]["quick_gelu"] is True
    assert all("timm/vit_base_patch32_clip_224.openai" in url for url in source.urls)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("openclip:ViT-B-32/laion2b", "the weights of ViT-B-32 are openai, laion400m_e31"),
        ("openclip:ViT-B32/openai", "similar names are .*openclip:ViT-B-32/openai"),
        ("openclip:", "unknown model 'openclip:': names are openclip:MODEL/PRETRAINED, such as openclip:ViT-B-32/"),
    ],
)
def test_names_that_cannot_be_are_refused_by_the_reason(name: str, message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        model_source.find_openclip_source(name)


def test_all_of_open_clips_weights_are_offered() -> None:
    names = model_source.list_openclip_names()
    assert names == [f"openclip:{model}/{tag}" for model, tag in open_clip.list_pretrained()]
    siglip = model_source.find_openclip_source("openclip:ViT-B-16-SigLIP2/webli")
    assert [extra.url for extra in siglip.extra_files] == [
        "https://huggingface.co/timm/ViT-B-16-SigLIP2/resolve/main/tokenizer.json",
        "https://huggingface.co/timm/ViT-B-16-SigLIP2/resolve/main/tokenizer_config.json",
    ]


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ({"tokenizer_mode": "clips"}, {}, "its text is tokenized in the mode 'clips'; choose another model, such as"),
        ({"tokenizer_kwargs": {"reduction_mask": "random"}}, {}, "its tokenizer has the option 'reduction_mask'"),
        ({"tokenizer_kwargs": {"clean": "all"}}, {}, "its text is cleaned by 'all'"),
        ({"hf_model_name": "some/model"}, {}, "its text tower has no tokenizer"),
        ({}, {"resize_mode": "fold"}, "its pictures are resized by 'fold'"),
        ({}, {"interpolation": "random"}, "its pictures are resized by 'random'"),
    ],
)
def test_what_a_later_open_clip_may_add_is_refused_by_the_reason(
    text: dict[str, Any], settings: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = {**open_clip.get_pretrained_cfg("ViT-B-32", "openai"), **settings}
    config = {**CONFIGS["vit"], "text_cfg": {**TEXT, **text}}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "later", config)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "later", {"tag": tag})
    with pytest.raises(EncoderError, match=f"openclip:later/tag cannot run here: {message}"):
        model_source.find_openclip_source("openclip:later/tag")
    assert "openclip:later/tag" not in model_source.list_openclip_names()


def test_a_folder_is_indexed_and_searched(vit: torch.nn.Module, tmp_path: Path) -> None:
    install(save_safetensors(vit, tmp_path / "checkpoint"), architecture("vit"))
    media = tmp_path / "media"
    media.mkdir()
    for number, rgb in enumerate(pictures()):
        Image.fromarray(rgb).save(media / f"{number}.png")
    (media / "notes.txt").write_text("a dog runs on the beach")
    with connect(tmp_path / "store", encoder=NAME) as store:
        assert store.index(media).added == 4
    with connect(tmp_path / "store") as store:
        hit = store.search(bs.image(media / "1.png"), to="image", k=1, include_query=True)[0]
        assert (hit.path.name, round(hit.cosine, 2)) == ("1.png", 1.0)
        assert store.search("a dog runs on the beach", to="text", k=1)[0].path.name == "notes.txt"


def test_importing_the_package_and_naming_an_encoder_load_no_torch(vit: torch.nn.Module, tmp_path: Path) -> None:
    install(save_torch(vit, tmp_path / "checkpoint"), architecture("vit"))
    program = (
        "import sys, bindsearch as bs; "
        f"encoder = bs.load_encoder({NAME!r}); encoder.digest, encoder.options, encoder.dim, encoder.temperatures; "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=dict(os.environ), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
