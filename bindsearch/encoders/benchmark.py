"""Speed of an encoder for one modality, compared with a matrix product of the same machine in the same run."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bindsearch.encoders.base import Encoder
from bindsearch.encoders.model_store.installed import is_installed, read_model
from bindsearch.encoders.model_store.source import HUGE_NAME
from bindsearch.encoders.registry import load_encoder, supports_device
from bindsearch.encoders.torch_runtime.device import (
    BATCHES,
    DTYPES,
    Runtime,
    compute_dtype,
    default_dtype,
    resolve_device,
    torch_dtype,
)
from bindsearch.errors import EncoderError, UsageError
from bindsearch.media import DepthMap, Frames, Media, Motion, Passage, Picture, Sound, ThermalPicture
from bindsearch.types import Modality

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

MATMUL_SIDE = 4096
MATMUL_REPEATS = 5
GPU_BATCHES = 4
MAX_SECONDS = 3600.0
SAMPLE_WORDS = (
    "dog",
    "beach",
    "sun",
    "child",
    "car",
    "rain",
    "red",
    "old",
    "small",
    "runs",
    "sings",
    "and",
    "of",
    "in",
)


@dataclass(frozen=True, slots=True)
class EncodeSpeed:
    """`items_per_s`: media of one view each (a picture, 2 s of sound or video, 5 s of motion, a sentence), prepared
    before the clock starts. `mfu`: share of the matmul rate, measured in between, that the tower's multiplications
    reach; None where operations cannot be counted, as in `mini`, which runs towers in threads of their own.
    `load_s`: from asking for the tower to its first result. `peak_memory_bytes`: on the GPU, else resident.
    """

    encoder: str
    modality: str
    device: str
    dtype: str
    batch: int
    items_per_s: float
    gflop_per_item: float | None
    gflop_per_s: float | None
    matmul_gflop_per_s: float
    mfu: float | None
    load_s: float
    peak_memory_bytes: int


def bench_encoder(
    name: str,
    modality: Modality,
    *,
    runtime: Runtime,
    random_weights: bool = False,
    dtype: str | None = None,
    batch: int | None = None,
    seconds: float = 10.0,
) -> EncodeSpeed:
    """Time one modality of the encoder `name`; see `measure_speed`.

    `random_weights`: of imagebind-huge, in `dtype` (default: what the machine runs fastest); nothing is pulled.

    Raises:
        EncoderError: the encoder is unknown, its model not here, or no random weights can be made for it.
        UsageError: a value is out of range, or `dtype` is given for weights that have one.
    """

    if batch is not None and batch < 1:
        raise UsageError(f"batch is {batch}: expected 1 or more")
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"dtype {dtype!r} is not known: choose from {', '.join(DTYPES)}")
    if not (math.isfinite(seconds) and 0 < seconds <= MAX_SECONDS):
        raise UsageError(f"seconds is {seconds:g}: expected more than 0, at most {MAX_SECONDS:g}")
    runtime = replace(runtime, batch=batch)
    device = resolve_device(runtime.device if supports_device(name) else "cpu")
    if random_weights:
        chosen = dtype or default_dtype()
        if compute_dtype(torch_dtype(chosen), device) != torch_dtype(chosen):
            raise UsageError(f"{chosen} is not what {device} multiplies in: choose another --dtype, or leave it out")
        encoder = _random_encoder(name, chosen, runtime)
    elif dtype is not None:
        raise UsageError("--dtype goes with --random-weights: an installed model has the format it was pulled in")
    else:
        encoder = load_encoder(name, runtime=runtime)
        chosen = read_model(name).dtype if is_installed(name) else default_dtype()
    number_format = compute_dtype(torch_dtype(chosen), device)
    return measure_speed(
        encoder, modality, device=device, dtype=number_format, batch=batch or BATCHES[device.type], seconds=seconds
    )


def _random_encoder(name: str, dtype: str, runtime: Runtime) -> Encoder:
    from bindsearch.encoders.imagebind.encoder import random_encoder

    if name != HUGE_NAME:
        raise EncoderError(f"random weights are made for {HUGE_NAME}, not for {name}: leave --random-weights out")
    return random_encoder(dtype, runtime)


def measure_speed(
    encoder: Encoder, modality: Modality, *, device: torch.device, dtype: torch.dtype, batch: int, seconds: float
) -> EncodeSpeed:
    """Embed made-up media in batches of `batch` for about `seconds`, at least three times; medians.

    `device` and `dtype` are what the matmul is measured in: those the tower runs in.
    """
    # A GPU gets several batches a call, as in an indexing run: one is put together while another is computed.
    n = batch if device.type == "cpu" else GPU_BATCHES * batch
    prepared = [encoder.prepare(sample_media(modality, seed)) for seed in range(n)]
    load_s = _seconds(lambda: encoder.features(modality, prepared[:1]))
    gflop = _count_flop(lambda: encoder.features(modality, prepared[:1])) / 1e9 or None
    encoder.features(modality, prepared)
    times: list[float] = []
    matmuls: list[float] = []
    started = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - started < seconds:
        times.append(_seconds(lambda: encoder.features(modality, prepared)))
        matmuls.append(_matmul_gflop_per_s(device, dtype))
    items_per_s, matmul = n / statistics.median(times), statistics.median(matmuls)
    return EncodeSpeed(
        encoder=encoder.name,
        modality=modality.value,
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
        batch=batch,
        items_per_s=items_per_s,
        gflop_per_item=gflop,
        gflop_per_s=gflop and gflop * items_per_s,
        matmul_gflop_per_s=matmul,
        mfu=gflop and gflop * items_per_s / matmul,
        load_s=load_s,
        peak_memory_bytes=_peak_memory(device),
    )


def sample_media(modality: Modality, seed: int) -> Media:
    """A made-up medium of one view: stripes, tones or words, unlike those of other seeds."""
    rng = np.random.default_rng(seed)
    match modality:
        case Modality.TEXT:
            return Passage(" ".join(rng.choice(SAMPLE_WORDS, 12)))
        case Modality.IMAGE:
            return Picture(_as_bytes(_stripes(rng, 3)))
        case Modality.VIDEO:
            return Frames(_as_bytes(np.stack([_stripes(rng, 3), _stripes(rng, 3)])), np.array([0.5, 1.5]))
        case Modality.AUDIO:
            return Sound(_tones(rng, 2.0, 16_000, (50.0, 6_000.0)), 16_000)
        case Modality.DEPTH:
            depth_m = (0.5 + 3 * _stripes(rng, 1)[:, :, 0]).astype(np.float32)
            return DepthMap(depth_m, np.ones(depth_m.shape, np.bool_), fx_px=260.0, baseline_m=0.075)
        case Modality.THERMAL:
            return ThermalPicture(_stripes(rng, 1)[:, :, 0].astype(np.float32))
        case Modality.IMU:
            axes = [20 * _tones(rng, 5.0, 100, (0.5, 20.0)) + rng.uniform(-5, 5) for _ in range(6)]
            return Motion(np.stack(axes, axis=1), 100.0)


def _stripes(rng: np.random.Generator, channels: int) -> NDArray[np.floating]:
    """A picture of stripes, of another width, slant and strength in each channel: (256, 320, channels) in 0..1."""
    y, x = np.arange(256.0)[:, None, None], np.arange(320.0)[None, :, None]
    slant, wave_px, phase = rng.uniform(0, np.pi, channels), rng.uniform(6, 60, channels), rng.uniform(0, 6, channels)
    waves = np.sin(2 * np.pi * (x * np.cos(slant) + y * np.sin(slant)) / wave_px + phase)
    return np.asarray(0.5 + rng.uniform(0.1, 0.5, channels) * waves)


def _as_bytes(pixels: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.asarray(255 * pixels, np.uint8)


def _tones(
    rng: np.random.Generator, length_s: float, rate_hz: int, band_hz: tuple[float, float]
) -> NDArray[np.float32]:
    """Three sines within a band, float32 (n,), at most 0.5 loud."""
    times_s = np.arange(round(length_s * rate_hz)) / rate_hz
    tones = [np.sin(2 * np.pi * rng.uniform(*band_hz) * times_s + rng.uniform(0, 6)) for _ in range(3)]
    return np.asarray(rng.uniform(0.05, 0.5) / 3 * np.sum(tones, axis=0), np.float32)


def _seconds(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()  # ends with numbers on the CPU, so a GPU has finished too
    return time.perf_counter() - started


def _count_flop(run: Callable[[], Any]) -> int:
    """Floating-point operations of matrix products and convolutions, a multiply-add as two."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # Neither every fused attention kernel nor a compiled tower is seen by the counter: products one by one are.
    eager = torch.compiler.set_stance("force_eager")
    with eager, FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        run()
    total: int = counter.get_total_flops()
    return total


def _matmul_gflop_per_s(device: torch.device, dtype: torch.dtype) -> float:
    """The best rate of a large square product."""
    import torch

    side = MATMUL_SIDE if device.type == "cuda" else MATMUL_SIDE // 2
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))

    def run() -> None:
        for _ in range(MATMUL_REPEATS):
            torch.mm(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    run()
    return MATMUL_REPEATS * 2 * side**3 / min(_seconds(run) for _ in range(3)) / 1e9


def _peak_memory(device: torch.device) -> int:
    import torch

    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
