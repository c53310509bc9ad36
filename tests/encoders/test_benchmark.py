"""`bindsearch bench encode`: counted operations, a matmul beside them, and clear refusals."""

from __future__ import annotations

import json

import pytest
import torch

from bindsearch.encoders import benchmark
from bindsearch.encoders.benchmark import bench_encoder
from bindsearch.encoders.imagebind.config import HUGE
from bindsearch.encoders.torch_runtime.device import Runtime
from bindsearch.types import Modality
from helpers import closeness
from helpers.command import Run


@pytest.fixture(autouse=True)
def small_matmul(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """On a CPU, multiply matrices of 1024 x 1024 instead of 2048 x 2048: they run at nearly the same rate."""
    if "gpu" not in request.keywords:
        monkeypatch.setattr(benchmark, "MATMUL_SIDE", 2 * 1024)  # a CPU multiplies half of it


def test_operations_are_those_of_the_tower(bindsearch_command: Run) -> None:
    arguments = ["bench", "encode", "--random-weights", "--modality", "depth", "--device", "cpu"]
    done = bindsearch_command([*arguments, "--batch", "2", "--seconds", "0.1", "--dtype", "fp32", "--json"])
    assert done.returncode == 0, done.stderr
    speed = json.loads(done.stdout)
    width, tokens, blocks = HUGE.depth_embed_dim, 14 * 14 + 1, HUGE.depth_num_blocks
    matrices = 2 * tokens * 12 * width**2 * blocks  # qkv 3, out 1, mlp 8
    attention = 2 * 2 * tokens * (tokens + 1) * width * blocks  # one more key, learned
    stem_and_head = 2 * 14 * 14 * 16 * 16 * width + 2 * width * HUGE.out_embed_dim
    assert speed["gflop_per_item"] == pytest.approx((matrices + attention + stem_and_head) / 1e9, rel=1e-6)
    assert speed["dtype"] == "float32"
    assert 0 < speed["mfu"] < 1.5
    assert speed["gflop_per_s"] == pytest.approx(speed["gflop_per_item"] * speed["items_per_s"])
    assert speed["peak_memory_bytes"] > 80_000_000


@pytest.mark.parametrize("modality", [Modality.IMAGE, Modality.TEXT])
def test_mini_is_timed_without_operations(modality: Modality) -> None:
    speed = bench_encoder("mini", modality, runtime=Runtime(), batch=2, seconds=0.1)
    assert speed.items_per_s > 1
    assert (speed.gflop_per_item, speed.gflop_per_s, speed.mfu) == (None, None, None)
    assert speed.device == "cpu"


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--modality", "smell"], 2, "unknown modality 'smell': choose from text, image"),
        (
            ["--modality", "text", "--encoder", "mini", "--random-weights"],
            4,
            "random weights are available for imagebind",
        ),
        (["--modality", "text", "--encoder", "mini", "--dtype", "fp16"], 2, "--dtype needs --random-weights"),
        (["--modality", "text", "--random-weights", "--dtype", "int4"], 2, "dtype 'int4' is not known"),
        (["--modality", "text", "--random-weights", "--batch", "0"], 2, "batch is 0: expected 1 or more"),
        (["--modality", "text", "--random-weights", "--seconds", "nan"], 2, "seconds is nan: expected more than 0"),
        (["--modality", "text", "--random-weights", "--seconds", "-1"], 2, "seconds is -1: expected more than 0"),
        (["--modality", "text", "--device", "tpu", "--random-weights"], 2, "unknown device 'tpu'"),
    ],
)
def test_refusals(bindsearch_command: Run, options: list[str], code: int, message: str) -> None:
    done = bindsearch_command(["bench", "encode", *options])
    assert done.returncode == code
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("modality", list(Modality))
def test_every_tower_runs_on_the_gpu_and_agrees_with_fp32(modality: Modality) -> None:
    from bindsearch.encoders.benchmark import sample_media
    from bindsearch.encoders.imagebind.encoder import random_encoder

    exact, quick = (random_encoder(dtype, Runtime("cuda")) for dtype in ("fp32", "bf16"))
    prepared = [exact.prepare(sample_media(modality, seed)) for seed in range(closeness.MEDIA)]
    closeness.check_alike(exact.encode(modality, prepared), quick.encode(modality, prepared))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_the_image_tower_reaches_the_matmul_rate_on_the_gpu() -> None:
    speed = bench_encoder(
        "imagebind-huge", Modality.IMAGE, runtime=Runtime("cuda"), random_weights=True, dtype="bf16", seconds=5.0
    )
    assert speed.mfu is not None
    assert speed.mfu >= 0.55
