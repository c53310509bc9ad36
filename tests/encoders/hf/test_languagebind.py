"""LanguageBind: its vectors as a transcription of the published code has them, and towers of several repositories."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bindsearch.encoders.hf.languagebind_inputs import SoundShape, prepare_depth, prepare_sound
from bindsearch.encoders.preprocessing.clip_tokenizer import clip_tokenizer
from bindsearch.encoders.torch_runtime.device import has_fast_bf16
from bindsearch.errors import EncoderError, MediaError, UsageError
from bindsearch.media import DepthMap, Frames, Media, Passage, Picture, Sound, ThermalPicture
from bindsearch.types import Modality
from helpers import published_languagebind as published
from helpers.command import run_command
from helpers.hf_models import TEXTS, perturb, pulled, save_languagebind, sounds
from helpers.media_files import write_depth, write_picture, write_sound, write_video

AUDIO = {"num_mel_bins": 126, "target_length": 168, "audio_mean": -4.2677393, "audio_std": 4.5689974}
SETTINGS: dict[str, dict[str, Any]] = {
    "Image": {},
    "Video": {"add_time_attn": True, "num_frames": 4},
    "Audio": {**AUDIO, "patch_size": 42},
    "Depth": {"max_depth": 10},
    "Thermal": {},
}


@pytest.fixture(autouse=True)
def models_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("BINDSEARCH_OFFLINE", "1")


def tower_of(kind: str) -> published.PublishedTower:
    torch.manual_seed(sorted(SETTINGS).index(kind))
    if kind == "Audio":
        tower = published.PublishedTower(126, 168, patch=42)
    else:
        tower = published.PublishedTower(frames=SETTINGS[kind].get("num_frames", 0))
    perturb(tower, 1.5)
    return tower


def config_of(kind: str) -> dict[str, Any]:
    return {**published.SIZES, "patch_size": 56, "hidden_act": "gelu", "lora_r": 0, **SETTINGS[kind]}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in SETTINGS}
    for kind, folder in folders.items():
        save_languagebind(folder, kind, tower_of(kind), config_of(kind))
    return folders


def coarse(seed: int, *shape: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return np.kron(rng.integers(0, 256, shape, np.uint8), np.ones((*(1 for _ in shape[:-3]), 40, 30, 1), np.uint8))


def media(kind: str) -> tuple[list[Media], torch.Tensor]:
    """Media of a modality, and the input that the published code makes of them."""
    pictures = [coarse(seed, 8, 9, 3) for seed in range(2)]
    match kind:
        case "Image":
            return [Picture(rgb) for rgb in pictures], torch.stack([published.picture(rgb) for rgb in pictures])
        case "Thermal":
            grey = [np.repeat(rgb[..., :1], 3, axis=2) for rgb in pictures]
            values = [ThermalPicture(rgb[..., 0].astype(np.float32) / np.float32(255)) for rgb in grey]
            return list(values), torch.stack([published.picture(rgb) for rgb in grey])
        case "Depth":
            raw = [rgb[..., 0].astype(np.float32) * np.float32(60) + np.float32(1) for rgb in pictures]  # to 15 m
            maps = [DepthMap(mm / np.float32(1000), mm > 0, 500.0, 0.1) for mm in raw]
            return list(maps), torch.stack([published.depth(mm) for mm in raw])
        case "Video":
            clips = [coarse(0, 6, 6, 10, 3), coarse(1, 2, 10, 6, 3)]
            return [Frames(rgb, np.arange(len(rgb)) / 2) for rgb in clips], torch.stack(
                [published.video(rgb, 4) for rgb in clips]
            )
    heard = [*sounds(), np.concatenate(sounds())]
    facts = (AUDIO["audio_mean"], AUDIO["audio_std"])
    inputs = [published.sound(sound, 48_000, 126, 168, *facts) for sound in heard]
    return [Sound(sound, 48_000) for sound in heard], torch.stack(inputs)


def encoded(encoder: Any, modality: Modality, given: list[Media]) -> NDArray[np.float32]:
    return encoder.encode(modality, [encoder.prepare(medium) for medium in given])


@pytest.mark.parametrize("kind", SETTINGS)
def test_vectors_are_those_of_the_published_code(kind: str, saved: dict[str, Path]) -> None:
    encoder = pulled(saved[kind], f"hf:LanguageBind/{kind}")
    modality = Modality(kind.lower())
    given, pixels = media(kind)
    prepared = np.concatenate([encoder.prepare(medium) for medium in given])
    np.testing.assert_allclose(prepared, pixels.numpy(), atol=2e-4)  # sums of the resizing in another order
    with torch.inference_mode():
        expected = tower_of(kind)(pixels).numpy()
    vectors = encoded(encoder, modality, given)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-2  # they are told apart
    single = np.concatenate([encoded(encoder, modality, [medium]) for medium in given])
    np.testing.assert_allclose(single, vectors, atol=1e-5)
    assert encoder.temperatures == {Modality.TEXT: pytest.approx(np.exp(3)), modality: pytest.approx(np.exp(3))}
    if has_fast_bf16():
        half = pulled(saved[kind], f"hf:LanguageBind/{kind}", "bf16")
        assert (encoded(half, modality, given) * vectors).sum(axis=1).min() > 0.999


def test_texts_are_those_of_clip_with_77_tokens(saved: dict[str, Path]) -> None:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    encoder = pulled(saved["Depth"], "hf:LanguageBind/Depth")
    config = json.loads((saved["Depth"] / "config.json").read_text())["text_config"]
    model = CLIPTextModelWithProjection(CLIPTextConfig(**config, projection_dim=24)).eval()
    stored = torch.load(saved["Depth"] / "pytorch_model.bin", weights_only=True)
    model.load_state_dict({name: tensor for name, tensor in stored.items() if name in model.state_dict()})
    ids = [clip_tokenizer().tokenize(text)[0] for text in TEXTS]
    padded = torch.full((len(ids), 77), 49_407)
    mask = torch.zeros_like(padded)
    for row, tokens in enumerate(ids):
        padded[row, : len(tokens)], mask[row, : len(tokens)] = torch.from_numpy(tokens), 1
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(model(input_ids=padded, attention_mask=mask).text_embeds, dim=1)
    vectors = encoded(encoder, Modality.TEXT, [Passage(text) for text in TEXTS])
    np.testing.assert_allclose(vectors, expected.numpy(), atol=1e-5)
    assert encoder.max_tokens == 77


def test_changes_by_lora_are_added_to_the_weights(saved: dict[str, Path], tmp_path: Path) -> None:
    """As PEFT names them: of old versions without `base_layer`, of new ones with it."""
    exact = pulled(saved["Depth"], "hf:LanguageBind/Depth")
    given, _ = media("Depth")
    vectors = encoded(exact, Modality.DEPTH, given)
    whole = torch.load(saved["Depth"] / "pytorch_model.bin", weights_only=True)
    generator = torch.Generator().manual_seed(0)
    for version, base in (("old", "weight"), ("new", "base_layer.weight")):
        tensors: dict[str, torch.Tensor] = {}
        for name, tensor in whole.items():
            renamed = name.replace("vision_model.encoder.", "vision_model.encoder.base_model.model.")
            if "self_attn.q_proj.weight" not in name or "vision_model" not in name:
                tensors[renamed] = tensor
                continue
            down, up = torch.randn(2, 32, generator=generator), torch.randn(32, 2, generator=generator)
            layer = renamed.removesuffix("weight")
            tensors[f"{layer}lora_A.default.weight"], tensors[f"{layer}lora_B.default.weight"] = down, up
            tensors[f"{layer}{base}"] = tensor - 16 / 2 * up @ down
        folder = tmp_path / version
        folder.mkdir()
        facts = json.loads((saved["Depth"] / "config.json").read_text())
        facts["vision_config"] |= {"lora_r": 2, "lora_alpha": 16}
        (folder / "config.json").write_text(json.dumps(facts))
        torch.save(tensors, folder / "pytorch_model.bin")
        merged = pulled(folder, f"hf:LanguageBind/{version}")
        np.testing.assert_allclose(encoded(merged, Modality.DEPTH, given), vectors, atol=1e-4)
        del tensors[next(name for name in tensors if "lora_A" in name)]
        torch.save(tensors, folder / "pytorch_model.bin")
        with pytest.raises(EncoderError, match=r"the changes of .*q_proj.weight by LoRA are incomplete"):
            pulled(folder, f"hf:LanguageBind/{version}-incomplete")


def test_a_configuration_in_the_old_form_replaces_the_other(saved: dict[str, Path], tmp_path: Path) -> None:
    facts = json.loads((saved["Video"] / "config.json").read_text())
    facts["vision_config_dict"] = facts.pop("vision_config")
    facts["vision_config"] = {"hidden_size": 999, "num_frames": 3}
    (tmp_path / "config.json").write_text(json.dumps(facts))
    (tmp_path / "pytorch_model.bin").symlink_to(saved["Video"] / "pytorch_model.bin")
    given, _ = media("Video")
    old = encoded(pulled(tmp_path, "hf:LanguageBind/Old"), Modality.VIDEO, given)
    np.testing.assert_array_equal(old, encoded(pulled(saved["Video"], "hf:LanguageBind/Video"), Modality.VIDEO, given))


def test_depth_is_in_metres_and_gaps_are_filled() -> None:
    rng = np.random.default_rng(0)
    depth_m = rng.uniform(1, 20, (240, 320)).astype(np.float32)
    holes = np.full((240, 320), 5.0, np.float32)
    holes[50:90, 60:70] = 0
    holes[100, 150:] = np.nan
    whole = DepthMap(depth_m, depth_m > 0, 500.0, 0.1)
    with_gaps = DepthMap(holes, holes > 0, 500.0, 0.1)
    published_code = published.depth(depth_m * 1000).numpy()
    np.testing.assert_allclose(prepare_depth(whole, 10), published_code, atol=2e-4)
    np.testing.assert_allclose(prepare_depth(whole, 0), published.depth(depth_m * 1000, 0).numpy(), atol=2e-4)
    flat = published.depth(np.full((9, 9), 5000.0)).numpy()
    np.testing.assert_allclose(prepare_depth(with_gaps, 10), flat, atol=1e-5)
    large = DepthMap(np.full((3000, 3000), 5.0, np.float32), np.ones((3000, 3000), bool), 500.0, 0.1)
    np.testing.assert_allclose(prepare_depth(large, 10), flat, atol=1e-5)
    with pytest.raises(MediaError, match="no pixel of the depth map has a value above 0"):
        prepare_depth(DepthMap(depth_m * 0, depth_m > 0, 500.0, 0.1), 10)


@pytest.mark.parametrize("seconds", [0.4, 1.68, 1.685, 1.69, 1.7, 5.0, 9.3])
def test_sounds_of_each_length_agree(seconds: float) -> None:
    rng = np.random.default_rng(1)
    samples = rng.standard_normal(round(16_000 * seconds)).astype(np.float32)
    shape = SoundShape(rate_hz=16_000, bins=40, frames=168, mean=-4.0, std=4.5)
    try:
        expected = published.sound(samples, 16_000, 40, 168, -4.0, 4.5).numpy()
    except IndexError:  # the published code has no part of a sound that is longer by less than a frame
        assert 1.68 < seconds < 1.705
        expected = None
    found = prepare_sound(samples, 16_000, shape)
    assert found.shape == (3, 40, 168)
    if expected is not None:
        np.testing.assert_allclose(found, expected, atol=1e-3)


def still(rgb: NDArray[np.uint8], _time_s: float) -> NDArray[np.uint8]:
    return rgb


def run(*arguments: str | Path, status: int = 0) -> CompletedProcess[str]:
    done = run_command(arguments)
    assert done.returncode == status, done.stderr
    return done


def test_towers_of_several_repositories_are_one_encoder(
    saved: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BINDSEARCH_STORE", str(tmp_path / "store"))
    place = tmp_path / "media"
    place.mkdir()
    for number in range(2):
        rgb = coarse(number, 8, 9, 3)
        write_picture(place / f"photo{number}.png", rgb)
        write_picture(place / f"{number}_thermal.png", rgb[..., 0])
        write_depth(place / f"{number}_depth.png", (rgb[..., 0].astype(np.uint16) * 30 + 500))
        write_sound(place / f"{number}.wav", sounds()[number], 48_000)
        write_video(place / f"{number}.mp4", 2.0, picture=partial(still, rgb), size=(270, 320))
    names = {kind: f"hf:LanguageBind/LanguageBind_{kind}" for kind in saved}
    for kind, name in names.items():
        run("model", "pull", name, "--from", saved[kind], "--dtype", "fp32")
    others = ",".join(name for kind, name in names.items() if kind != "Video")
    indexed = run("index", place, "--encoder", names["Video"], "--encoder-option", f"towers={others}", "--json")
    assert json.loads(indexed.stdout)["added"] == 10
    held = json.loads(run("status", "--json").stdout)["segments"]
    assert held == {"audio": 2, "depth": 2, "image": 2, "thermal": 2, "video": 2}
    for modality, name in (
        ("image", "photo1.png"), ("depth", "1_depth.png"), ("thermal", "1_thermal.png"), ("audio", "1.wav"),
        ("video", "1.mp4"),
    ):  # fmt: skip
        hits = json.loads(
            run(
                "search", f"--{modality}", place / name, "--to", modality, "--include-query", "--copies", "--json"
            ).stdout
        )["hits"]
        assert Path(hits[0]["path"]).name == name
        assert hits[0]["cosine"] > 0.999
        assert hits[1]["cosine"] < hits[0]["cosine"] - 1e-5
    assert len(run("search", "a red car", "--to", "depth", "--paths").stdout.splitlines()) == 2
    alone = run("index", place, "--encoder", names["Video"], "--encoder-option", "towers=", status=5)
    assert "towers=" in alone.stderr


def test_towers_that_do_not_belong_together_are_refused(saved: dict[str, Path], tmp_path: Path) -> None:
    name = "hf:LanguageBind/Video"
    depth = pulled(saved["Depth"], "hf:LanguageBind/Depth")
    one = pulled(saved["Video"], name)
    both = pulled(saved["Video"], name, towers=depth.name)
    assert both.digest != one.digest
    assert both.modalities == {Modality.TEXT, Modality.VIDEO, Modality.DEPTH}
    with pytest.raises(UsageError, match=r"towers has hf:LanguageBind/Video for video, which hf:LanguageBind/Video"):
        pulled(saved["Video"], name, towers=name)
    with pytest.raises(EncoderError, match="the model hf:LanguageBind/None is not installed: download it with"):
        pulled(saved["Video"], name, towers="hf:LanguageBind/None")
    other = tmp_path / "other"
    other.mkdir()
    save_languagebind(other, "Thermal", tower_of("Thermal"), config_of("Thermal"), seed=1)
    stranger = pulled(other, "hf:LanguageBind/Stranger")
    mixed = pulled(saved["Video"], name, towers=stranger.name)
    given, _ = media("Thermal")
    with pytest.raises(EncoderError, match="the text tower of hf:LanguageBind/Stranger is not that of"):
        encoded(mixed, Modality.THERMAL, given)
    with pytest.raises(EncoderError, match=r"hf:LanguageBind/Video has no image tower: it encodes text, video"):
        one.prepare(Picture(np.zeros((4, 4, 3), np.uint8)))
