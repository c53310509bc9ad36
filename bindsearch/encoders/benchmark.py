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

from bindsearch.arguments import did_you_mean
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
"""Side of the square matrices that are multiplied on a GPU; half of it on a CPU."""

MATMUL_REPEATS = 5
GPU_BATCHES = 4
"""Batches per call on a GPU."""

MAX_SECONDS = 3600.0
SAMPLE_WORDS = "dog beach sun child car rain red old small runs sings and of in"


@dataclass(frozen=True, slots=True)
class EncodeSpeed:
    """Speed of an encoder for one modality.

    Attributes:
        encoder: Name of the encoder.
        modality: Modality of the media.
        device: Device that the tower ran on.
        dtype: Number format of the tower's multiplications, as torch names it.
        batch: Number of views in a batch.
        items_per_s: Media per second, of one view each (a picture, 2 s of sound or video, 5 s of motion, a sentence).
            They are prepared before the clock starts.
        gflop_per_item: Floating-point operations per medium, in units of 1e9; None: unknown.
        gflop_per_s: Floating-point operations per second, in units of 1e9; None: unknown.
        matmul_gflop_per_s: Rate of a large matrix product on the same device, measured between the batches.
        mfu: Share of the matmul rate that the tower reaches. None if operations cannot be counted, as for `mini`, which
            runs its towers in its own threads.
        load_s: Seconds from the first call of the tower to its result, including the loading.
        peak_memory_bytes: Peak memory on the GPU, else peak resident memory of the process.
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
    """Measure the speed of one modality of an encoder; see `measure_speed`.

    Args:
        name: Name of the encoder.
        modality: Modality to embed.
        runtime: Device and settings that towers run with.
        random_weights: Use random weights, for imagebind-huge only; nothing is downloaded.
        dtype: Format of random weights, "fp32", "bf16" or "fp16"; None: the fastest one on this machine.
        batch: Number of views in a batch; None: the default of the device.
        seconds: Duration of the measurement.

    Raises:
        EncoderError: the encoder is unknown, its model is not installed, or random weights are not available for it.
        UsageError: a value is out of range, or `dtype` is given for weights that have a format.
    """
    if batch is not None and batch < 1:
        raise UsageError(f"batch is {batch}: expected 1 or more")
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"dtype {dtype!r} is not known: {did_you_mean(dtype, DTYPES)}choose from {', '.join(DTYPES)}")
    if not (math.isfinite(seconds) and 0 < seconds <= MAX_SECONDS):
        raise UsageError(f"seconds is {seconds:g}: expected more than 0, at most {MAX_SECONDS:g}")
    runtime = replace(runtime, batch=batch)
    device = resolve_device(runtime.device if supports_device(name) else "cpu")
    if random_weights:
        chosen_dtype = dtype or default_dtype()
        if compute_dtype(torch_dtype(chosen_dtype), device) != torch_dtype(chosen_dtype):
            raise UsageError(f"{device} does not compute in {chosen_dtype}: choose another --dtype, or omit it")
        if name != HUGE_NAME:
            raise EncoderError(f"random weights are available for {HUGE_NAME}, not for {name}: omit --random-weights")
        from bindsearch.encoders.imagebind.encoder import random_encoder

        encoder: Encoder = random_encoder(chosen_dtype, runtime)
    elif dtype is not None:
        raise UsageError("--dtype needs --random-weights: an installed model has the format it was pulled in")
    else:
        encoder = load_encoder(name, runtime=runtime)
        own_dtype = getattr(encoder, "dtype", lambda _modality: "fp32")  # of `mini`, which has no model
        chosen_dtype = read_model(name).dtype if is_installed(name) else own_dtype(modality)
    number_format = compute_dtype(torch_dtype(chosen_dtype), device)
    return measure_speed(
        encoder, modality, device=device, dtype=number_format, batch=batch or BATCHES[device.type], seconds=seconds
    )


def measure_speed(
    encoder: Encoder, modality: Modality, *, device: torch.device, dtype: torch.dtype, batch: int, seconds: float
) -> EncodeSpeed:
    """Embed synthetic media repeatedly, and return medians of the measured rates.

    Args:
        encoder: Encoder to measure.
        modality: Modality to embed.
        device: Device that the tower runs on; the matmul is measured there too.
        dtype: Number format that the tower runs in; the matmul is measured in it too.
        batch: Number of views in a batch.
        seconds: Duration of the measurement; there are at least three repetitions.
    """
    # A GPU gets several batches per call, as in an indexing run: one is assembled while another is computed.
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
    """Return a synthetic medium of one view: stripes, tones or words that depend on the seed."""
    rng = np.random.default_rng(seed)
    match modality:
        case Modality.TEXT:
            return Passage(" ".join(rng.choice(SAMPLE_WORDS.split(), 12)))
        case Modality.IMAGE:
            return Picture((255 * _stripes(rng, 3)).astype(np.uint8))
        case Modality.VIDEO:
            frames = np.stack([_stripes(rng, 3), _stripes(rng, 3)])
            return Frames((255 * frames).astype(np.uint8), np.array([0.5, 1.5]))
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
    """Return a picture of stripes, different in each channel: float64 (256, 320, channels) in 0..1."""
    y, x = np.arange(256.0)[:, None, None], np.arange(320.0)[None, :, None]
    slant, wave_px, phase = rng.uniform(0, np.pi, channels), rng.uniform(6, 60, channels), rng.uniform(0, 6, channels)
    waves = np.sin(2 * np.pi * (x * np.cos(slant) + y * np.sin(slant)) / wave_px + phase)
    return np.asarray(0.5 + rng.uniform(0.1, 0.5, channels) * waves)


def _tones(rng: np.random.Generator, length_s: float, rate_hz: int, band_hz: tuple[float, float]) -> NDArray[Any]:
    """Return the sum of three sines within a band, float32 (n,), with a peak of at most 0.5."""
    times_s = np.arange(round(length_s * rate_hz)) / rate_hz
    tones = [np.sin(2 * np.pi * rng.uniform(*band_hz) * times_s + rng.uniform(0, 6)) for _ in range(3)]
    return np.asarray(rng.uniform(0.05, 0.5) / 3 * np.sum(tones, axis=0), np.float32)


def _seconds(run: Callable[[], Any]) -> float:
    """Return the duration of a call in seconds."""
    started = time.perf_counter()
    run()  # returns numbers on the CPU, so a GPU has finished too
    return time.perf_counter() - started


def _count_flop(run: Callable[[], Any]) -> int:
    """Return the floating-point operations of matrix products and convolutions, a multiply-add counted as two."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # The counter misses some fused attention kernels and compiled towers, but sees separate products.
    eager = torch.compiler.set_stance("force_eager")
    with eager, FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        run()
    total: int = counter.get_total_flops()
    return total


def _matmul_gflop_per_s(device: torch.device, dtype: torch.dtype) -> float:
    """Return the best rate of a large square matrix product, in units of 1e9 operations per second."""
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
    """Return the peak memory in bytes: that of the GPU, else the resident memory of the process."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
