"""PE-AV of the transformers library: its own vectors by all its heads, from a pull to a search."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bindsearch.encoders.base import query_encoders
from bindsearch.encoders.torch_runtime.device import has_fast_bf16
from bindsearch.errors import EncoderError, MediaError, UsageError
from bindsearch.media import Frames, Passage, Picture, Sound
from bindsearch.types import Modality
from helpers.command import run_command
from helpers.hf_models import TEXTS, pulled, save_pe_audio_video, sounds
from helpers.media_files import tone, write_sound, write_video

NAME = "hf:org/pe-av"
SPEAKING = {
    "audio_embeds": Modality.AUDIO,
    "video_embeds": Modality.VIDEO,
    "text_audio_embeds": Modality.TEXT,
    "text_video_embeds": Modality.TEXT,
    "text_audio_video_embeds": Modality.TEXT,
}


@pytest.fixture(autouse=True)
def models_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("BINDSEARCH_OFFLINE", "1")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pe-av")
    save_pe_audio_video(folder)
    return folder


def videos() -> list[Frames]:
    """Videos of 4, 6 and 4 frames, with sounds of three lengths."""
    made = []
    for number, (count, sound) in enumerate(zip((4, 6, 4), sounds(), strict=True)):
        coarse = np.random.default_rng(number).integers(0, 256, (count, 6, 8, 3), np.uint8)
        rgb = np.kron(coarse, np.ones((1, 8, 8, 1), np.uint8))
        made.append(Frames(rgb, np.arange(count) / 2, sound=Sound(sound, 48_000)))
    return made


@pytest.fixture(scope="module")
def expected(saved: Path) -> Mapping[str, NDArray[np.float32]]:
    """Return unit vectors of the library's own call, with all three inputs, one after another."""
    from transformers import PeAudioVideoModel, PeAudioVideoProcessor

    model, processor = PeAudioVideoModel.from_pretrained(saved).eval(), PeAudioVideoProcessor.from_pretrained(saved)
    found: dict[str, list[torch.Tensor]] = {}
    for frames, text in zip(videos(), TEXTS, strict=True):
        assert frames.sound is not None
        inputs = {
            **processor.feature_extractor([frames.sound.samples], sampling_rate=48_000, return_tensors="pt"),
            **processor.video_processor([frames.rgb], input_data_format="channels_last", return_tensors="pt"),
            **processor.tokenizer([text], return_tensors="pt"),
        }
        with torch.inference_mode():
            outputs = model(**inputs)
        for name in (*SPEAKING, "audio_video_embeds"):
            found.setdefault(name, []).append(torch.nn.functional.normalize(outputs[name], dim=1))
    return {name: torch.cat(rows).numpy() for name, rows in found.items()}


def media(modality: Modality) -> list[Any]:
    match modality:
        case Modality.TEXT:
            return [Passage(text) for text in TEXTS]
        case Modality.AUDIO:
            return [Sound(sound, 48_000) for sound in sounds()]
    return list(videos())


def encoded(encoder: Any, modality: Modality, *, together: bool = True) -> NDArray[np.float32]:
    prepared = [encoder.prepare(medium) for medium in media(modality)]
    if together:
        return encoder.encode(modality, prepared)
    return np.concatenate([encoder.encode(modality, [one]) for one in prepared])


def test_each_head_gives_the_vectors_of_the_library(saved: Path, expected: Mapping[str, NDArray[np.float32]]) -> None:
    encoder = pulled(saved, NAME)
    heads = {
        "audio_embeds": encoder,
        "video_embeds": encoder,
        "text_audio_embeds": encoder.as_query(Modality.AUDIO),
        "text_video_embeds": encoder.as_query(Modality.VIDEO),
        "text_audio_video_embeds": encoder,
    }
    for name, head in heads.items():
        vectors = encoded(head, SPEAKING[name])
        np.testing.assert_allclose(vectors, expected[name], atol=1e-5, err_msg=name)
        assert np.abs(vectors[0] - vectors[1]).max() > 1e-2, name  # they are told apart
        np.testing.assert_allclose(encoded(head, SPEAKING[name], together=False), vectors, atol=1e-5, err_msg=name)
    assert np.abs(expected["text_audio_embeds"] - expected["text_video_embeds"]).max() > 0.1
    assert query_encoders(encoder) == {
        None: encoder,
        Modality.AUDIO: encoder.as_query(Modality.AUDIO),
        Modality.VIDEO: encoder.as_query(Modality.VIDEO),
    }
    again = pickle.loads(pickle.dumps(encoder.as_query(Modality.AUDIO)))
    np.testing.assert_allclose(encoded(again, Modality.TEXT), expected["text_audio_embeds"], atol=1e-5)


def test_videos_with_their_sound_are_one_input(saved: Path, expected: Mapping[str, NDArray[np.float32]]) -> None:
    encoder = pulled(saved, NAME, joint="1")
    assert (encoder.options["joint"], encoder.wants.joint) == (1, {Modality.AUDIO})
    vectors = encoded(encoder, Modality.VIDEO)
    np.testing.assert_allclose(vectors, expected["audio_video_embeds"], atol=1e-5)
    np.testing.assert_allclose(encoded(encoder, Modality.VIDEO, together=False), vectors, atol=1e-5)
    sought = encoder.as_query(Modality.VIDEO)
    np.testing.assert_allclose(encoded(sought, Modality.TEXT), expected["text_audio_video_embeds"], atol=1e-5)
    hearing = encoder.as_query(Modality.AUDIO)  # no head compares a video with its sound and a sound
    np.testing.assert_allclose(encoded(hearing, Modality.VIDEO), expected["video_embeds"], atol=1e-5)
    loud, silent = videos()[0], Frames(videos()[0].rgb, videos()[0].times_s)
    zeros = Frames(loud.rgb, loud.times_s, sound=Sound(np.zeros(2 * 48_000, np.float32), 48_000))
    rows = encoder.encode(Modality.VIDEO, [encoder.prepare(one) for one in (silent, zeros)])
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-6)  # 4 frames at 2 a second
    assert np.abs(rows[0] - vectors[0]).max() > 1e-3


def test_a_model_of_a_fixed_number_of_frames_gets_them_at_even_distances(tmp_path: Path) -> None:
    save_pe_audio_video(tmp_path / "saved", num_frames=3)
    encoder = pulled(tmp_path / "saved", NAME)
    frames = videos()[1]
    whole = encoder.prepare(frames)
    assert whole.shape == (1, 3, 3, 32, 32)
    chosen = Frames(frames.rgb[[0, 2, 5]], frames.times_s[[0, 2, 5]])
    assert (whole == encoder.prepare(chosen)).all()
    assert (encoder.prepare(Frames(frames.rgb[:1], frames.times_s[:1]))[0] == whole[0, 0]).all()  # one, three times


def test_logit_scales_are_those_of_cosines(saved: Path, expected: Mapping[str, NDArray[np.float32]]) -> None:
    from transformers import PeAudioVideoModel

    model = PeAudioVideoModel.from_pretrained(saved)
    encoder = pulled(saved, NAME)
    draws = torch.nn.functional.layer_norm(torch.randn(4000, 32, generator=torch.manual_seed(0)), (32,))
    with torch.inference_mode():
        head = model.audio_model.audio_head
        sound = head.proj(draws * head.layer_norm.weight + head.layer_norm.bias).norm(dim=1).square().mean().sqrt()
        draws = torch.nn.functional.layer_norm(torch.randn(4000, 24), (24,))
        head = model.audio_model.text_audio_head
        text = head.proj(draws * head.layer_norm.weight + head.layer_norm.bias).norm(dim=1).square().mean().sqrt()
        scale = model.audio_model.text_audio_logit_scale.abs() * sound * text
    assert encoder.temperatures[Modality.AUDIO] == pytest.approx(float(scale), rel=0.05)
    assert encoder.as_query(Modality.AUDIO).temperatures[Modality.TEXT] == encoder.temperatures[Modality.AUDIO]


def test_half_precision_points_the_same_way(saved: Path) -> None:
    if not has_fast_bf16():
        pytest.skip("this CPU has no bfloat16")
    exact = {joint: pulled(saved, NAME, joint=joint) for joint in (0, 1)}
    wanted = {(joint, m): encoded(exact[joint], m) for joint in exact for m in exact[joint].modalities}
    for (joint, modality), vectors in wanted.items():
        half = pulled(saved, NAME, "bf16", joint=joint)
        assert (encoded(half, modality) * vectors).sum(axis=1).min() > 0.999, (joint, modality)


def test_what_cannot_be_embedded_has_a_reason(saved: Path) -> None:
    encoder = pulled(saved, NAME)
    with pytest.raises(EncoderError, match=r"hf:org/pe-av has no image tower: it encodes text, video, audio"):
        encoder.prepare(Picture(np.zeros((4, 4, 3), np.uint8)))
    with pytest.raises(MediaError, match="no frames with pixels"):
        encoder.prepare(Frames(np.zeros((0, 4, 4, 3), np.uint8), np.zeros(0)))
    with pytest.raises(UsageError, match="joint is 'yes': give 0, or 1 to embed videos with their sound"):
        pulled(saved, NAME, joint="yes")
    with pytest.raises(UsageError, match=r"frames_per_s=9 cannot be set"):
        pulled(saved, NAME, frames_per_s=9)


def run(*arguments: str | Path, status: int = 0) -> CompletedProcess[str]:
    done = run_command(arguments)
    assert done.returncode == status, done.stderr
    return done


def test_pull_index_and_search(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDSEARCH_STORE", str(tmp_path / "store"))
    place = tmp_path / "media"
    place.mkdir()
    for number, size in enumerate(((64, 48), (48, 64), (96, 40))):
        write_video(place / f"{number}.mp4", 2.0, size=size, sound=tone(2.0, 48_000, 200.0 * 4**number))
        write_sound(place / f"{number}.wav", sounds()[number], 48_000)
    unasked = run("model", "pull", NAME, "--from", saved, status=2)
    assert "has the licence" in unasked.stderr
    run("model", "pull", NAME, "--from", saved, "--dtype", "fp32", "--accept-license")
    indexed = run("index", place, "--encoder", NAME, "--encoder-option", "joint=1", "--json")
    assert json.loads(indexed.stdout)["added"] == 6
    assert json.loads(run("status", "--json").stdout)["segments"] == {"audio": 6, "video": 3}
    for modality, name in (("video", "1.mp4"), ("audio", "1.wav")):
        found = run("search", f"--{modality}", place / name, "--to", modality, "--include-query", "--json")
        hits = json.loads(found.stdout)["hits"]
        assert Path(hits[0]["path"]).name == name
        assert hits[0]["cosine"] > 0.999
    for target in ("video", "audio"):
        assert run("search", "a dog barks", "--to", target, "--paths").stdout
    other = run("index", place, "--encoder", NAME, "--encoder-option", "joint=0", status=5)
    assert "joint=1, not 0" in other.stderr
