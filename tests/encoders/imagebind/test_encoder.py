"""A checkpoint converted to towers: they load one by one, agree with the whole model, and serve a store."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bindsearch as bs
from bindsearch.encoders.benchmark import sample_media
from bindsearch.encoders.imagebind.checkpoint import convert
from bindsearch.encoders.imagebind.config import make_config
from bindsearch.encoders.imagebind.encoder import ImageBindEncoder
from bindsearch.encoders.imagebind.model import build_model, load_published_weights
from bindsearch.encoders.imagebind.published_weights import random_checkpoint
from bindsearch.encoders.model_store.installed import ModelFile, ModelManifest, model_folder, write_manifest
from bindsearch.encoders.torch_runtime.device import Runtime
from bindsearch.errors import EncoderError, UsageError
from bindsearch.hashing import hash_file
from bindsearch.media import Passage, Sound
from bindsearch.types import Modality
from helpers import closeness
from helpers.stores import connect

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
    """Convert a checkpoint as `bindsearch model pull` does, without the download."""
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
        prepared = [exact.prepare(sample_media(modality, seed)) for seed in range(closeness.MEDIA)]
        closeness.check_alike(exact.encode(modality, prepared), half.encode(modality, prepared))


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
    tower: Any = encoder._towers._loaded["text"]
    weight = tower.token_embedding.weight
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
    with connect(tmp_path / "s", encoder="imagebind-small", encoder_options={"spatial_crops": "3"}) as store:
        assert store.index(media).added == 2
    with connect(tmp_path / "s") as store:
        assert store.config.encoder_options["spatial_crops"] == 3
        assert store.search("a dog on the beach", k=1)[0].path.name == "0.txt"
    with (
        connect(tmp_path / "s", encoder="imagebind-small", encoder_options={"spatial_crops": 1}) as store,
        pytest.raises(bs.StoreError, match=r"was made with spatial_crops=3, not 1: leave"),
    ):
        store.search("a dog")
    with (
        connect(tmp_path / "t", encoder="imagebind-small", encoder_options={"crops": 3}) as store,
        pytest.raises(UsageError, match="unknown preprocessing option 'crops'"),
    ):
        store.index(media)
    (models / "imagebind-small" / "model.json").unlink()
    with connect(tmp_path / "s") as store:
        assert store.search(bs.like(str(media / "1.txt")), include_query=True)[0].path.name == "1.txt"
        with pytest.raises(EncoderError, match="the model imagebind-small is not installed: `bindsearch model list`"):
            store.search("a dog")
    write_manifest(models / "imagebind-small", replace(manifest, source_sha256="0" * 64))
    with (
        connect(tmp_path / "s") as store,
        pytest.raises(bs.StoreError, match="holds vectors of other weights of imagebind-small"),
    ):
        store.search("a dog")


def test_motion_that_is_padded_is_told(models: Path, checkpoint: Path, tmp_path: Path) -> None:
    install(checkpoint, "imagebind-small", "fp32")
    media = tmp_path / "media"
    media.mkdir()
    rows = np.random.default_rng(1).standard_normal((350, 6))  # 7 s at 50 Hz: 5 s and 2 s
    rows[:, 2] += 9.8
    header = "acc_x,acc_y,acc_z,gyro_x,gyro_y,gyro_z"
    np.savetxt(media / "imu.csv", rows, delimiter=",", header=header, comments="")
    with connect(tmp_path / "s", encoder="imagebind-small") as store:
        report = store.index(media, imu_rate_hz=50.0)
        (notice,) = report.notices
        assert notice == (
            "motion segments shorter than the 5 s that imagebind-small expects: 1, each padded with its last sample"
        )
        assert store.index(media, imu_rate_hz=50.0).notices == []


def test_towers_of_a_model_that_was_replaced_are_refused(models: Path, checkpoint: Path) -> None:
    manifest = install(checkpoint, "imagebind-small", "fp32")
    encoder = ImageBindEncoder(manifest)
    text = [encoder.prepare(sample_media(Modality.TEXT, 1))]
    before = encoder.encode(Modality.TEXT, text)
    write_manifest(models / "imagebind-small", replace(manifest, source_sha256="0" * 64))
    with pytest.raises(EncoderError, match="imagebind-small was replaced meanwhile: run the same"):
        encoder.encode(Modality.IMU, [encoder.prepare(sample_media(Modality.IMU, 1))])
    assert np.array_equal(encoder.encode(Modality.TEXT, text), before)  # what is loaded goes on


def test_a_wrong_device_costs_nothing(models: Path, checkpoint: Path, tmp_path: Path) -> None:
    install(checkpoint, "imagebind-small", "fp32")
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "0.txt").write_text("a dog")
    for device, message in (
        ("cuda:99", "'cuda:99' is not available"),
        ("tpu", "unknown device"),
        ("cpu:", "unknown device"),
    ):
        with (
            connect(tmp_path / "s", encoder="imagebind-small", device=device) as store,
            pytest.raises(UsageError, match=message),
        ):
            store.index(tmp_path / "media")
    assert not (tmp_path / "s").exists()
    with pytest.raises(UsageError, match="the encoder mini cannot be compiled"):
        bs.load_encoder("mini", runtime=Runtime(compile=True))


def test_another_encoder_on_a_store_of_mini_is_named(models: Path, checkpoint: Path, tmp_path: Path) -> None:
    install(checkpoint, "imagebind-small", "fp32")
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "0.txt").write_text("a dog")
    with connect(tmp_path / "s", encoder="mini", encoder_options={"frames_per_s": "1"}) as store:
        store.index(tmp_path / "media")
    with (
        connect(tmp_path / "s", encoder="imagebind-small") as store,
        pytest.raises(bs.StoreError, match="holds vectors of encoder mini, not of imagebind-small"),
    ):
        store.search("a dog")


def test_options_given_for_a_store_lie_over_its_own(models: Path, checkpoint: Path, tmp_path: Path) -> None:
    install(checkpoint, "imagebind-small", "fp32")
    options = {"spatial_crops": 3, "view_s": 1.5}
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "0.txt").write_text("a dog")
    with connect(tmp_path / "s", encoder="imagebind-small", encoder_options=options) as store:
        store.index(tmp_path / "media")
        status = store.status()
        assert (status.encoder_options["view_s"], status.weights_digest) == (1.5, store.encoder.digest)
    with connect(tmp_path / "s", encoder_options={"spatial_crops": "3"}) as store:
        assert store.encoder.options["view_s"] == 1.5


def damaged(checkpoint: Path, place: Path, key: str, value: torch.Tensor) -> Path:
    torch.save({**torch.load(checkpoint, weights_only=True), key: value}, place)
    return place


BIAS = "modality_trunks.imu.blocks.0.mlp.fc1.bias"


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (torch.full((256,), torch.nan), "fp32", f"{BIAS} holds NaN or infinity"),
        (torch.full((256,), 1e6), "fp16", f"{BIAS} holds numbers too large for fp16"),
        (torch.full((256,), 1e300, dtype=torch.float64), "bf16", f"{BIAS} holds numbers too large for bf16"),
        (torch.zeros(256, dtype=torch.int32), "fp32", f"{BIAS} is torch.int32, expected a tensor of floats"),
        (torch.zeros(256).to(torch.float8_e4m3fn), "fp32", f"{BIAS} is torch.float8_e4m3fn, expected"),
    ],
)
def test_values_that_cannot_be_weights_are_refused_by_name(
    checkpoint: Path, tmp_path: Path, value: torch.Tensor, dtype: str, message: str
) -> None:
    path = damaged(checkpoint, tmp_path / "bad.pth", BIAS, value)
    with pytest.raises(EncoderError, match=message):
        convert(path, tmp_path, SMALL, dtype, lambda _done, _total: None)
    assert not (tmp_path / "imu.safetensors").exists()


def test_a_huge_temperature_is_clipped(checkpoint: Path, tmp_path: Path) -> None:
    key = "modality_postprocessors.text.1.log_logit_scale"
    path = damaged(checkpoint, tmp_path / "hot.pth", key, torch.tensor(1e9))
    assert convert(path, tmp_path, SMALL, "fp32", lambda _done, _total: None)["text"] == 100.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a file of torch.save"),
        (b"<html>log in</html>", "is not a file of torch.save"),
        (b'\x10\0\0\0\0\0\0\0{"a": 1}', "it is a safetensors file, expected one of torch.save"),
        (b"PK\x03\x04 and then nothing", "it is truncated or damaged; download it again"),
    ],
)
def test_files_that_are_no_checkpoint_are_told_apart(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(EncoderError, match=message):
        convert(tmp_path / "x.pth", tmp_path, SMALL, "fp32", lambda _done, _total: None)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"a": Bomb()}, tmp_path / "x.pth")
    with pytest.raises(EncoderError, match="it holds more than tensors, or is damaged; code in it is never run"):
        convert(tmp_path / "x.pth", tmp_path, SMALL, "fp32", lambda _done, _total: None)
    assert not (tmp_path / "ran").exists()


def test_whatever_byte_of_the_index_is_damaged_the_fault_is_ours_to_tell(checkpoint: Path, tmp_path: Path) -> None:
    whole = checkpoint.read_bytes()
    start = whole.index(b"data.pkl") + 64
    rng = np.random.default_rng(1)
    for place in rng.integers(start, start + 20_000, 60).tolist():
        broken = bytearray(whole[: 1 << 20])
        broken[place] ^= 0x41
        (tmp_path / "x.pth").write_bytes(broken + whole[1 << 20 :])
        with contextlib.suppress(EncoderError):  # nothing else gets out
            convert(tmp_path / "x.pth", tmp_path, SMALL, "fp32", lambda _done, _total: None)


def test_media_and_texts_are_embedded_without_a_store(models: Path, checkpoint: Path) -> None:
    install(checkpoint, "imagebind-small", "fp32")
    encoder = bs.load_encoder("imagebind-small", runtime=bs.Runtime(device="cpu"))
    vectors = bs.encode_media(encoder, [Passage("a dog barks"), Passage("rain")])
    assert vectors.shape == (2, 64)
    for wrong in (["a dog"], [], [Passage("a dog"), sample_media(Modality.IMU, 1)]):
        with pytest.raises(UsageError, match=r"cannot embed .*: give media of one kind, of bindsearch\.media: Passage"):
            bs.encode_media(encoder, wrong)  # type: ignore[arg-type]
