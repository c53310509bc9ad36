"""Encoders that share a detector's space make it detect by any medium; others are refused by their texts."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from PIL import Image

from bindsearch.binding.bind import bind
from bindsearch.encoders.detectors.detector import PROBES, Detector, check_shared_space, embed_queries, load_detector
from bindsearch.encoders.model_store.snapshot_pull import pull_snapshot
from bindsearch.encoders.registry import load_encoder
from bindsearch.encoders.torch_runtime.device import Runtime, has_fast_bf16
from bindsearch.errors import EncoderError, UsageError
from bindsearch.media import Passage, Picture, Sound
from bindsearch.types import Modality
from helpers.bound_world import WorldEncoder
from helpers.command import run_command
from helpers.owl_models import save_owl

CPU = Runtime("cpu")
RATE_HZ = 16_000
KINDS = ("birds", "mountain", "a cup of coffee")  # whose vectors are far apart


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of two detectors with other weights."""
    made = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("other")
    for seed, folder in enumerate(made):
        save_owl(folder, seed=seed)
    return made


@pytest.fixture
def detector(folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Detector:
    """Return the first one; `hf:org/tiny` has its towers, `hf:org/other` those of the other one."""
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path / "models"))
    pull_snapshot("owlv2:org/tiny", from_folder=folders[0], dtype="fp32")
    for name, folder in zip(("hf:org/tiny", "hf:org/other"), folders, strict=True):
        pull_snapshot(name, from_folder=folder, dtype="fp32")
    return load_detector("owlv2:org/tiny", runtime=CPU)


class Blind(WorldEncoder):
    """Encoder without texts."""

    name = "blind"
    modalities = frozenset({Modality.IMAGE})


def test_the_same_towers_share_their_space(detector: Detector, folders: tuple[Path, Path]) -> None:
    check_shared_space(detector, load_encoder("hf:org/tiny", runtime=CPU))
    assert len(set(PROBES)) == 20
    assert max(map(detector.encoder.count_tokens, PROBES)) <= detector.encoder.max_tokens == 16
    if has_fast_bf16():
        pull_snapshot("hf:org/half", from_folder=folders[0], dtype="bf16")
        check_shared_space(detector, load_encoder("hf:org/half", runtime=CPU))


def test_other_spaces_are_refused_in_one_line(detector: Detector) -> None:
    way_out = r"or with an encoder that was bound to hf:org/tiny \(`bindsearch bind --hub hf:org/tiny`\)$"
    with pytest.raises(
        EncoderError,
        match=r"^the encoder hf:org/other has another space than the detector owlv2:org/tiny: their vectors of "
        rf'"[^"]+" have the cosine -?0\.\d{{3}}, at least 0\.999 is needed: search with texts or pictures, {way_out}',
    ):
        check_shared_space(detector, load_encoder("hf:org/other", runtime=CPU))
    with pytest.raises(EncoderError, match=rf"^the encoder mini has 384 dimensions, .*tiny has 32, .*{way_out}"):
        check_shared_space(detector, load_encoder("mini"))
    with pytest.raises(EncoderError, match=rf"^the encoder blind has no texts to compare its space with .*{way_out}"):
        check_shared_space(detector, Blind())


def test_texts_and_pictures_need_no_other_encoder(detector: Detector) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)
    np.testing.assert_array_equal(
        embed_queries(detector, [Passage(text) for text in KINDS]), detector.text_embeddings(KINDS)
    )
    query = embed_queries(detector, [Picture(rgb)])
    np.testing.assert_allclose(np.linalg.norm(query, axis=1), 1.0, atol=1e-5)
    assert detector.detect(rgb, query).scores.max() > detector.detect(rgb, -query).scores.max()
    with pytest.raises(
        UsageError, match="the detector owlv2:org/tiny embeds texts and pictures alone, not audio: search"
    ):
        embed_queries(detector, [Sound(np.zeros(9, np.float32), RATE_HZ)])
    with pytest.raises(UsageError, match="cannot embed nothing"):
        embed_queries(detector, [])


def made_sound(kind: str, seed: int) -> NDArray[np.float32]:
    """Return 2.5 s of a sound of a kind, no two alike."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(2.5 * RATE_HZ)) / RATE_HZ
    sound = 0.003 * rng.normal(size=len(times))
    match kind:
        case "birds":  # a whistle
            sound += 0.3 * np.sin(2 * np.pi * rng.uniform(900, 2_000) * times)
        case "mountain":  # wind
            sound += 0.02 * np.cumsum(rng.normal(size=len(times))) / 20 + 0.05 * rng.normal(size=len(times))
        case _:  # ticks
            ticks = (times * rng.uniform(2, 4)) % 1.0
            sound += 0.5 * np.exp(-ticks * 150) * np.sin(2 * np.pi * rng.uniform(3_000, 5_000) * times)
    return sound.astype(np.float32)


def test_a_bound_tower_makes_it_hear(detector: Detector, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("audio", "text", "label"))
        for kind in KINDS:
            for number in range(4):
                name = f"{kind}-{number}.wav"
                soundfile.write(tmp_path / name, made_sound(kind, number), RATE_HZ)
                table.writerow((name, kind, kind))
    settings = ["batch=24", "part=24", "members=2", "learning_rate=3e-3", "warmup_epochs=0.5", "average=10"]
    settings += ["network=label-sound", "epochs=100", "validation=0"]
    bind(tmp_path / "pairs.csv", "audio", "hf:org/tiny", "hearing", settings=settings)

    encoder = load_encoder("bound:hearing", runtime=CPU)
    sounds = embed_queries(detector, [Sound(made_sound(kind, 9), RATE_HZ) for kind in KINDS], encoder)
    texts = detector.text_embeddings(KINDS)
    np.testing.assert_allclose((sounds * texts).sum(axis=1), 1.0, atol=1e-3)
    chosen = set()
    for seed in range(8):
        rgb = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8).repeat(9, axis=0).repeat(9, axis=1)
        heard, read = detector.detect(rgb, sounds), detector.detect(rgb, texts)
        np.testing.assert_array_equal(heard.boxes, read.boxes)
        np.testing.assert_allclose(heard.scores, read.scores, atol=0.02)
        np.testing.assert_array_equal(heard.scores.argmax(axis=0), read.scores.argmax(axis=0))
        chosen.add(len(set(heard.scores.argmax(axis=0).tolist())))
    assert max(chosen) > 1  # different sounds point at different boxes

    Image.fromarray(rgb).save(tmp_path / "photo.png")
    soundfile.write(tmp_path / "whistle.wav", made_sound("birds", 9), RATE_HZ)
    looked: list[str | Path] = [
        "locate",
        tmp_path / "photo.png",
        "--detector",
        "owlv2:org/tiny",
        "--threshold",
        "0.01",
        "--json",
    ]
    by_sound = run_command([*looked, "--audio", tmp_path / "whistle.wav", "--encoder", "bound:hearing"])
    by_text = run_command([*looked, "--text", "birds"])
    (one,), (other,) = (json.loads(done.stdout)["files"][0]["boxes"][:1] for done in (by_sound, by_text))
    assert one == pytest.approx(other, abs=0.02)
    with pytest.raises(EncoderError, match="the encoder mini has 384 dimensions"):
        embed_queries(detector, [Sound(made_sound("mountain", 9), RATE_HZ)], load_encoder("mini"))
