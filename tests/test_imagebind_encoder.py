"""A checkpoint converted to towers: they load one by one, agree with the whole model, and serve a store."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import bindsearch as bs
from bindsearch.encoders.imagebind.checkpoint import convert
from bindsearch.encoders.imagebind.config import make_config
from bindsearch.encoders.imagebind.encoder import ImageBindEncoder
from bindsearch.encoders.imagebind.model import build_model, load_published_weights
from bindsearch.encoders.imagebind.random_weights import random_checkpoint
from bindsearch.encoders.models import ModelFile, ModelManifest, model_folder, write_manifest
from bindsearch.encoders.runtime import Runtime
from bindsearch.encoders.speed import sample_media
from bindsearch.errors import EncoderError, UsageError
from bindsearch.hashing import hash_file
from bindsearch.items import Modality
from bindsearch.media import Passage, Sound

CLOSENESS = runpy.run_path(str(Path(__file__).with_name("closeness.py")))

SMALL = {
    "out_embed_dim": 64,
    **{f"{tower}_embed_dim": 64 for tower in ("vision", "text", "audio", "depth", "thermal", "imu")},
    **{f"{tower}_num_blocks": 2 for tower in ("vision", "text", "audio", "depth", "thermal", "imu")},
    **{f"{tower}_num_heads": 4 for tower in ("vision", "text", "audio", "depth", "thermal", "imu")},
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "small.pth"
    torch.save(random_checkpoint(make_config(**SMALL), seed=5), path)
    return path


def install(checkpoint: Path, name: str, dtype: str) -> ModelManifest:
    """What `bindsearch model pull` does with a checkpoint, without the download."""
    folder = model_folder(name)
    folder.mkdir(parents=True)
    temperatures = convert(checkpoint, folder, SMALL, dtype, lambda _done, _total: None)
    files = {path.stem: ModelFile(path.stat().st_size, hash_file(path)) for path in folder.glob("*.safetensors")}
    manifest = ModelManifest(
        format=1,
        name=name,
        family="imagebind",
        architecture=SMALL,
        dtype=dtype,
        source=checkpoint.name,
        source_sha256=hash_file(checkpoint),
        source_bytes=checkpoint.stat().st_size,
        license="none",
        created="2026-01-01T00:00:00Z",
        temperatures=temperatures,
        files=files,
    )
    write_manifest(folder, manifest)
    return manifest


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def test_every_modality_agrees_with_the_whole_model(models: Path, checkpoint: Path) -> None:
    manifest = install(checkpoint, "imagebind-small", "fp32")
    encoder = ImageBindEncoder(manifest, runtime=Runtime("cpu"))
    whole = build_model(**SMALL)
    load_published_weights(whole, torch.load(checkpoint, weights_only=True))
    for modality in Modality:
        prepared = [encoder.prepare(sample_media(modality, seed)) for seed in range(3)]
        features = encoder.features(modality, prepared)
        with torch.inference_mode():
            key = "vision" if modality in (Modality.IMAGE, Modality.VIDEO) else modality.value
            expected = torch.cat([whole({key: published_input(modality, views)})[key] for views in prepared]).numpy()
        np.testing.assert_allclose(features, expected, atol=2e-4 * np.abs(expected).max())
        vectors = encoder.encode(modality, prepared)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(vectors * encoder.temperatures[modality], features, atol=1e-3)


def published_input(modality: Modality, views: np.ndarray) -> torch.Tensor:
    """One view as the published code would get it: float pixels, normalised, channels first."""
    tensor = torch.from_numpy(views)
    if modality in (Modality.IMAGE, Modality.VIDEO):
        mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])
        std = torch.tensor([0.26862954, 0.26130258, 0.27577711])
        pixels = ((tensor / 255 - mean) / std).movedim(-1, -3)  # (1, [2,] 3, 224, 224)
        return pixels.movedim(1, 2)[:, None] if modality is Modality.VIDEO else pixels
    return tensor


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_16_bit_towers_stay_close(models: Path, checkpoint: Path, dtype: str) -> None:
    exact = ImageBindEncoder(install(checkpoint, "imagebind-exact", "fp32"), runtime=Runtime("cpu"))
    half = ImageBindEncoder(install(checkpoint, "imagebind-half", dtype), runtime=Runtime("cpu"))
    for modality in Modality:
        prepared = [exact.prepare(sample_media(modality, seed)) for seed in range(CLOSENESS["MEDIA"])]
        CLOSENESS["check_alike"](exact.encode(modality, prepared), half.encode(modality, prepared))


def test_conversions_of_one_checkpoint_share_its_space(models: Path, checkpoint: Path) -> None:
    exact = ImageBindEncoder(install(checkpoint, "imagebind-exact", "fp32"))
    half = ImageBindEncoder(install(checkpoint, "imagebind-half", "bf16"))
    assert exact.digest == half.digest


def test_towers_load_one_by_one(models: Path, checkpoint: Path) -> None:
    encoder = ImageBindEncoder(install(checkpoint, "imagebind-small", "fp32"))
    assert encoder.dim == 64
    assert encoder.digest
    assert encoder.loaded_towers == frozenset()
    prepared = [encoder.prepare(sample_media(modality, 1)) for modality in Modality]
    assert encoder.loaded_towers == frozenset()
    encoder.encode(Modality.TEXT, prepared[:1])
    assert encoder.loaded_towers == {"text"}
    encoder.encode(Modality.VIDEO, prepared[2:3])
    assert encoder.loaded_towers == {"text", "image"}


def test_mapped_weights_are_not_copied(models: Path, checkpoint: Path) -> None:
    manifest = install(checkpoint, "imagebind-small", "fp32")
    encoder = ImageBindEncoder(manifest, runtime=Runtime("cpu"))
    encoder.encode(Modality.TEXT, [encoder.prepare(sample_media(Modality.TEXT, 1))])
    weight = encoder._towers._loaded["text"].token_embedding.weight  # type: ignore[attr-defined]
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("no /proc here")
    spans = [line.split() for line in maps.read_text().splitlines() if line.endswith("text.safetensors")]
    inside = [
        low <= weight.data_ptr() < high for span, *_ in spans for low, high in [[int(x, 16) for x in span.split("-")]]
    ]
    assert any(inside)


def test_sound_of_several_views_is_the_mean_of_their_scaled_features(models: Path, checkpoint: Path) -> None:
    encoder = ImageBindEncoder(install(checkpoint, "imagebind-small", "fp32"))
    samples = np.random.default_rng(3).uniform(-0.5, 0.5, 5 * 16_000).astype(np.float32)
    views = encoder.prepare(Sound(samples, 16_000))
    assert len(views) == 3  # ceil(5 / 2)
    each = encoder.features(Modality.AUDIO, [view[None] for view in views])
    together = encoder.features(Modality.AUDIO, [views])
    np.testing.assert_allclose(together[0], each.mean(axis=0), rtol=1e-4, atol=1e-4)
    assert np.linalg.norm(together[0]) < encoder.temperatures[Modality.AUDIO]  # not normalised again


def test_long_and_short_texts_of_one_batch_keep_their_places(models: Path, checkpoint: Path) -> None:
    encoder = ImageBindEncoder(install(checkpoint, "imagebind-small", "fp32"))
    texts = [" ".join(["sea"] * n) for n in (40, 1, 7, 70, 2, 3, 11)] * 4
    prepared = [encoder.prepare(Passage(text)) for text in texts]
    together = encoder.encode(Modality.TEXT, prepared)
    alone = np.concatenate([encoder.encode(Modality.TEXT, [one]) for one in prepared])
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_a_damaged_tower_file_is_told(models: Path, checkpoint: Path) -> None:
    manifest = install(checkpoint, "imagebind-small", "fp32")
    encoder = ImageBindEncoder(manifest)
    prepared = [encoder.prepare(sample_media(Modality.IMU, 1))]
    path = models / "imagebind-small" / "imu.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(EncoderError, match=r"imu\.safetensors has \d+ bytes instead of \d+: `bindsearch model pull"):
        encoder.encode(Modality.IMU, prepared)
    path.write_bytes(b"\xff" * len(whole))
    with pytest.raises(EncoderError, match=r"cannot read .*imu\.safetensors"):
        encoder.encode(Modality.IMU, prepared)
    path.write_bytes(whole)
    assert encoder.encode(Modality.IMU, prepared).shape == (1, 64)


def test_a_store_remembers_the_model_and_its_options(models: Path, checkpoint: Path, tmp_path: Path) -> None:
    manifest = install(checkpoint, "imagebind-small", "fp32")
    media = tmp_path / "media"
    media.mkdir()
    for number, text in enumerate(["a dog on the beach", "rain on a roof"]):
        (media / f"{number}.txt").write_text(text)
    with bs.connect(tmp_path / "s", encoder="imagebind-small", encoder_options={"spatial_crops": "3"}) as store:
        assert store.index(media).added == 2
    with bs.connect(tmp_path / "s") as store:
        assert store.config.encoder_options["spatial_crops"] == 3
        assert store.search("a dog on the beach", k=1)[0].path.name == "0.txt"
    with (
        bs.connect(tmp_path / "s", encoder="imagebind-small", encoder_options={"spatial_crops": 1}) as store,
        pytest.raises(bs.StoreError, match=r"was made with spatial_crops=3, not 1: leave"),
    ):
        store.search("a dog")
    with (
        bs.connect(tmp_path / "t", encoder="imagebind-small", encoder_options={"crops": 3}) as store,
        pytest.raises(UsageError, match="unknown preprocessing option 'crops'"),
    ):
        store.index(media)
    (models / "imagebind-small" / "model.json").unlink()
    with bs.connect(tmp_path / "s") as store:
        assert store.search(bs.like(str(media / "1.txt")), include_query=True)[0].path.name == "1.txt"
        with pytest.raises(EncoderError, match="the model imagebind-small is not here: `bindsearch model list`"):
            store.search("a dog")
    write_manifest(models / "imagebind-small", replace(manifest, source_sha256="0" * 64))
    with bs.connect(tmp_path / "s") as store, pytest.raises(bs.StoreError, match="holds vectors of encoder"):
        store.search("a dog")


def test_motion_that_is_padded_is_told(models: Path, checkpoint: Path, tmp_path: Path) -> None:
    install(checkpoint, "imagebind-small", "fp32")
    media = tmp_path / "media"
    media.mkdir()
    rows = np.random.default_rng(1).standard_normal((350, 6))  # 7 s at 50 Hz: 5 s and 2 s
    header = "acc_x,acc_y,acc_z,gyro_x,gyro_y,gyro_z"
    np.savetxt(media / "imu.csv", rows, delimiter=",", header=header, comments="")
    with bs.connect(tmp_path / "s", encoder="imagebind-small") as store:
        report = store.index(media, imu_rate_hz=50.0)
        (notice,) = report.notices
        assert notice == (
            "motion segments shorter than the 5 s that imagebind-small looks at: 1, each padded with its last sample"
        )
        assert store.index(media, imu_rate_hz=50.0).notices == []
