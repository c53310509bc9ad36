"""Devices, number formats, and batches that shrink when memory runs out."""

from __future__ import annotations

import weakref

import pytest
import torch

from bindsearch.encoders.torch_runtime.device import compute_dtype, has_fast_bf16, resolve_device, run_in_batches
from bindsearch.errors import EncoderError, UsageError

TOO_MUCH = 1 << 55
"""Bytes that no machine has: asking for them fails as running out of memory does."""


def test_auto_is_the_gpu_where_there_is_one() -> None:
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "mps", "", "cpu:0:1", "cpu:", "cpu:5", "cuda:", "CPU"])
def test_unknown_devices_are_refused(device: str) -> None:
    with pytest.raises(UsageError, match=f"device '{device}' is not known: choose auto, cpu, cuda or cuda:N"):
        resolve_device(device)


def test_a_gpu_that_is_not_there_is_an_error() -> None:
    with pytest.raises(UsageError, match="device 'cuda:99' is not available: torch sees no such GPU"):
        resolve_device("cuda:99")


def test_a_cpu_multiplies_in_what_it_is_quick_at() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    quick = torch.bfloat16 if has_fast_bf16() else torch.float32
    assert compute_dtype(torch.float32, cpu) == torch.float32
    assert compute_dtype(torch.float16, cpu) == quick
    assert compute_dtype(torch.bfloat16, cpu) == quick
    assert compute_dtype(torch.float16, gpu) == torch.float16


@pytest.mark.parametrize("fits", [1, 3, 16, 100])
def test_a_batch_shrinks_until_it_fits_and_nothing_is_lost_or_doubled(fits: int) -> None:
    tried = []

    def run(start: int, stop: int) -> torch.Tensor:
        tried.append(stop - start)
        if stop - start > fits:
            torch.empty(TOO_MUCH, dtype=torch.uint8)
        return torch.arange(start, stop)

    parts, fitted = run_in_batches(run, 50, 16)
    assert torch.cat(parts).tolist() == list(range(50))
    assert max(tried) == 16
    assert fitted == max(size for size in (16, 8, 4, 2, 1) if size <= fits)
    assert sum(size > fits for size in tried) <= 4  # each size fails once, and stays shrunk


def test_what_a_failed_step_had_made_is_free_before_the_next_try() -> None:
    alive: list[weakref.ref[torch.Tensor]] = []

    def run(start: int, stop: int) -> torch.Tensor:
        assert all(made() is None for made in alive)
        activations = torch.zeros(stop - start)
        alive.append(weakref.ref(activations))
        if stop - start > 1:
            torch.empty(TOO_MUCH, dtype=torch.uint8)
        return torch.arange(start, stop)

    run_in_batches(run, 3, 4)
    assert len(alive) == 5


def test_not_even_one_fits() -> None:
    with pytest.raises(EncoderError, match="not enough memory to embed even one at a time"):
        run_in_batches(lambda _start, _stop: torch.empty(TOO_MUCH, dtype=torch.uint8), 3, 2)


def test_other_errors_pass_through_at_once() -> None:
    def run(_start: int, _stop: int) -> torch.Tensor:
        return torch.zeros(2) @ torch.zeros(3)

    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        run_in_batches(run, 3, 2)
