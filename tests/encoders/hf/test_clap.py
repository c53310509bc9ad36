"""CLAP of the transformers library: its own vectors, the same in every batch, from a pull to a search."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray

from bindsearch.encoders.model_store.snapshot_pull import pull_snapshot
from bindsearch.encoders.registry import load_encoder
from bindsearch.encoders.torch_runtime.device import Runtime, has_fast_bf16
from bindsearch.errors import EncoderError, MediaError
from bindsearch.media import Passage, Picture, Sound
from bindsearch.types import Modality
from helpers.command import run_command
from helpers.hf_models import TEXTS, pulled, save_clap, sounds
from helpers.hub_server import COMMIT, serve_hub
from helpers.media_files import write_sound

NAME = "hf:org/clap"


@pytest.fixture(autouse=True)
def models_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("BINDSEARCH_OFFLINE", "1")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Path]:
    """Folders of the models without and with feature fusion, saved once."""
    folders = {fusion: tmp_path_factory.mktemp(f"clap-{fusion}") for fusion in (False, True)}
    for fusion, folder in folders.items():
        save_clap(folder, fusion=fusion)
        (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return folders.__getitem__


def library(folder: Path) -> tuple[Any, Any]:
    """Return the library's own model and processor."""
    from transformers import ClapModel, ClapProcessor

    return ClapModel.from_pretrained(folder).eval(), ClapProcessor.from_pretrained(folder)


def heard(encoder: Any, samples: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    return encoder.encode(Modality.AUDIO, [encoder.prepare(Sound(sound, 48_000)) for sound in samples])


def read(encoder: Any, texts: tuple[str, ...]) -> NDArray[np.float32]:
    return encoder.encode(Modality.TEXT, [encoder.prepare(Passage(text)) for text in texts])


@pytest.mark.parametrize("fusion", [False, True])
def test_vectors_are_those_of_the_library(fusion: bool, saved: Callable[[bool], Path]) -> None:
    encoder = pulled(saved(fusion), NAME)
    model, processor = library(saved(fusion))
    np.random.seed(0)
    audio = processor.feature_extractor(sounds(), sampling_rate=48_000, return_tensors="pt")
    with torch.inference_mode():
        expected = model.get_audio_features(**audio).pooler_output.numpy()
        texts = model.get_text_features(**processor.tokenizer(list(TEXTS), padding=True, return_tensors="pt"))
    vectors = heard(encoder, sounds())
    marked = audio["is_longer"].numpy().ravel()  # with fusion one sound, at random
    assert marked.sum() == fusion
    np.testing.assert_allclose(vectors[~marked], expected[~marked], atol=1e-5)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-2  # the sounds are told apart
    np.testing.assert_allclose(read(encoder, TEXTS), texts.pooler_output.numpy(), atol=1e-5)
    assert encoder.dim == vectors.shape[1]
    assert encoder.loaded_towers == {"audio", "text"}
    assert encoder.temperatures[Modality.AUDIO] == pytest.approx(float(model.logit_scale_a.detach().exp()))
    assert encoder.temperatures[Modality.TEXT] == pytest.approx(float(model.logit_scale_t.detach().exp()))


@pytest.mark.parametrize("fusion", [False, True])
def test_a_vector_does_not_depend_on_its_batch(fusion: bool, saved: Callable[[bool], Path]) -> None:
    encoder = pulled(saved(fusion), NAME)
    both = heard(encoder, sounds())
    np.testing.assert_allclose(np.concatenate([heard(encoder, [one]) for one in sounds()]), both, atol=1e-5)
    texts = read(encoder, TEXTS)
    np.testing.assert_allclose(np.concatenate([read(encoder, (text,)) for text in TEXTS]), texts, atol=1e-5)


def test_a_long_sound_is_the_mean_of_windows_that_cover_it(saved: Callable[[bool], Path]) -> None:
    encoder = pulled(saved(True), NAME)
    whole = np.concatenate(sounds() * 2)  # 6 s; the model takes 2 s
    prepared = encoder.prepare(Sound(whole, 48_000))
    assert prepared.shape[:2] == (3, 4)
    assert (prepared == encoder.prepare(Sound(whole, 48_000))).all()  # nothing is drawn at random
    parts = heard(encoder, [whole[start : start + 96_000] for start in (0, 96_000, 192_000)]).mean(axis=0)
    np.testing.assert_allclose(heard(encoder, [whole])[0], parts / np.linalg.norm(parts), atol=1e-5)


def test_half_precision_points_the_same_way(saved: Callable[[bool], Path]) -> None:
    if not has_fast_bf16():
        pytest.skip("this CPU has no bfloat16")
    exact = pulled(saved(True), NAME)
    vectors, texts = heard(exact, sounds()), read(exact, TEXTS)
    half = pulled(saved(True), NAME, "bf16")
    assert half.digest == exact.digest
    assert (heard(half, sounds()) * vectors).sum(axis=1).min() > 0.999
    assert (read(half, TEXTS) * texts).sum(axis=1).min() > 0.999


def test_what_cannot_be_embedded_has_a_reason(saved: Callable[[bool], Path]) -> None:
    encoder = pulled(saved(False), NAME)
    with pytest.raises(EncoderError, match=r"hf:org/clap has no image tower: it encodes text, audio"):
        encoder.prepare(Picture(np.zeros((4, 4, 3), np.uint8)))
    with pytest.raises(MediaError, match="the text is empty"):
        encoder.prepare(Passage(" "))
    with pytest.raises(MediaError, match=r"the text has \d+ tokens: the text tower takes at most 64"):
        encoder.prepare(Passage("dog " * 90))
    with pytest.raises(MediaError, match="has no samples"):
        encoder.prepare(Sound(np.zeros(0, np.float32), 48_000))
    tower = encoder.max_tokens
    assert tower == 64
    assert encoder.count_tokens("a dog") == len(encoder.prepare(Passage("a dog"))[0])


def run(*arguments: str | Path, status: int = 0) -> CompletedProcess[str]:
    done = run_command(arguments)
    assert done.returncode == status, done.stderr
    return done


def test_a_tokenizer_without_its_words_is_refused(saved: Callable[[bool], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(saved(False), tmp_path / "clap")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(EncoderError, match=r"gives different texts the same tokens, so its files are missing"):
        pulled(folder, "hf:org/lost")
    (folder / "tokenizer.json").write_text('{"model": 1}')
    with pytest.raises(EncoderError, match="cannot be loaded"):
        pulled(folder, "hf:org/lost")
    (folder / "config.json").write_text("[" * 100_000)
    with pytest.raises(EncoderError, match=r"config\.json is not JSON \(maximum recursion depth"):
        pulled(folder, "hf:org/lost")


def test_pull_index_and_search(saved: Callable[[bool], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDSEARCH_STORE", str(tmp_path / "store"))
    media = tmp_path / "media"
    media.mkdir()
    for number, sound in enumerate(sounds()):
        write_sound(media / f"{number}.wav", sound, 48_000)
    (media / "note.txt").write_text("a dog barks")

    missing = run("index", media, "--encoder", NAME, status=4)
    assert f"the model {NAME} is not installed: download it with `bindsearch model pull {NAME}`" in missing.stderr
    offline = run("model", "pull", NAME, status=4)
    assert f"cannot download {NAME} in offline mode (BINDSEARCH_OFFLINE)" in offline.stderr
    wrong = run("model", "pull", NAME, "--from", saved(False), "--revision", "v9", status=2)
    assert "is of no stated commit, not v9: omit --revision, or give another folder" in wrong.stderr
    run("model", "pull", NAME, "--from", saved(False), "--dtype", "fp32")
    other = run("model", "pull", NAME, "--from", saved(True), status=2)
    assert f"{NAME} is installed from" in other.stderr
    assert "--force replaces it" in other.stderr
    facts = json.loads(run("model", "info", NAME, "--json").stdout)
    assert facts["architecture"] == {"dim": 24, "model_type": "clap"}

    indexed = run("index", media, "--encoder", NAME, "--json")
    assert json.loads(indexed.stdout)["added"] == 4
    for number in range(3):
        found = run("search", "--audio", media / f"{number}.wav", "--include-query", "--json")
        hits = json.loads(found.stdout)["hits"]
        assert Path(hits[0]["path"]).name == f"{number}.wav"
        assert hits[0]["cosine"] > 0.999
    assert len(run("search", "a dog barks", "--to", "audio", "--paths").stdout.splitlines()) == 3
    deaf = run("search", "--image", media / "0.wav", status=2)
    assert f"the encoder {NAME} cannot embed image: it supports text, audio" in deaf.stderr
    refused = run("index", media, "--encoder", NAME, "--encoder-option", "joint=sound", status=2)
    assert "has no option joint" in refused.stderr


def test_a_pull_from_a_hub_gives_the_same_encoder(
    saved: Callable[[bool], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = pulled(saved(False), NAME)
    monkeypatch.delenv("BINDSEARCH_OFFLINE")
    with serve_hub({path.name: path.read_bytes() for path in saved(False).iterdir()}) as hub:
        downloaded = pull_snapshot(f"hf:{hub.repository}", url=hub.url, dtype="fp32", delay_s=0.001).manifest
    assert (downloaded.revision, downloaded.license) == (COMMIT, "mit")
    other = load_encoder(downloaded.name, runtime=Runtime("cpu"))
    assert other.digest == copied.digest
    np.testing.assert_array_equal(heard(other, sounds()), heard(copied, sounds()))


def refusal(folder: Path) -> str:
    failed = run_command(["model", "pull", NAME, "--from", folder])
    assert failed.returncode != 0
    assert failed.stdout == ""
    (line,) = [line for line in failed.stderr.splitlines() if line and not line.startswith(f"{NAME}: licence")]
    return line


def test_a_model_that_does_not_fit_is_refused_in_one_line(saved: Callable[[bool], Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(saved(False), broken)
    config = broken / "config.json"
    whole = config.read_text()
    config.write_text(whole.replace('"model_type": "clap"', '"model_type": "whisper"'))
    assert "hf:org/clap is a model of the type 'whisper', which does not run: the types are clap" in refusal(broken)
    config.write_text("[")
    assert "is not JSON" in refusal(broken)
    config.write_text(whole)
    tensors = safetensors.torch.load_file(broken / "model.safetensors")
    lacking = {name: tensor for name, tensor in tensors.items() if "text_projection" not in name}
    safetensors.torch.save_file(lacking, broken / "model.safetensors", {"format": "pt"})
    assert "lack text_projection.linear1.bias, text_projection.linear1.weight" in refusal(broken)
    (broken / "model.safetensors").write_bytes(b"\0" * 100)
    assert "cannot be" in refusal(broken)


def test_a_missing_library_is_named_with_its_extra(
    saved: Callable[[bool], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulled(saved(False), NAME)
    monkeypatch.setitem(sys.modules, "transformers", None)
    line = "bindsearch: models of hf: need the extra [hf]: pip install 'bindsearch[hf]'"
    assert refusal(saved(True)) == line
    assert run("index", tmp_path, "--encoder", NAME, status=5).stderr.strip() == line
