"""Processes that train one tower together: each embeds its rows of a batch, and all have the loss of the whole one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bindsearch.errors import UsageError


@dataclass(frozen=True, slots=True)
class Workers:
    """The processes of a run.

    Attributes:
        rank: Number of this process.
        count: Number of processes.
        on_gpus: Whether each has a GPU of its own, and tensors go from one to another without the CPU.
    """

    rank: int = 0
    count: int = 1
    on_gpus: bool = False

    @property
    def is_first(self) -> bool:
        """Return whether this process writes files and shows progress."""
        return self.rank == 0

    def rows(self, batch: int) -> range:
        """Return the rows of a batch that this process embeds.

        Raises:
            UsageError: the batch cannot be divided evenly.
        """
        if batch % self.count:
            raise UsageError(f"a batch of {batch} cannot be divided among {self.count} processes: change batch=")
        share = batch // self.count
        return range(self.rank * share, (self.rank + 1) * share)

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows (b, ...) of all processes, in their order: (b * count, ...)."""
        if self.count == 1:
            return rows
        own = rows.contiguous() if self.on_gpus else rows.cpu().contiguous()
        parts = [torch.empty_like(own) for _ in range(self.count)]
        torch.distributed.all_gather(parts, own)
        return torch.cat(parts).to(rows.device)

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its sum over all processes."""
        if self.count == 1:
            return
        for parameter in parameters:
            if parameter.grad is not None:
                gradient = parameter.grad if self.on_gpus else parameter.grad.cpu()
                torch.distributed.all_reduce(gradient)
                parameter.grad.copy_(gradient)

    def agree(self, value: bool) -> bool:
        """Return the first process's answer to a question."""
        if self.count == 1:
            return value
        answer = torch.tensor([int(value)])
        torch.distributed.broadcast(answer, 0)
        return bool(answer.item())

    def device(self, chosen: torch.device) -> torch.device:
        """Return the device of this process: where a GPU was chosen without its number, one of its own if there are."""
        if self.count == 1 or str(chosen) != "cuda":
            return chosen
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            torch.distributed.barrier()


def join_workers() -> Workers:
    """Return the processes that torchrun started; this one alone if it started none.

    Raises:
        UsageError: torchrun's variables are damaged.
    """
    try:
        count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    except ValueError:
        raise UsageError("WORLD_SIZE or RANK is not a number: start the processes with torchrun") from None
    if count == 1:
        return Workers()
    if not torch.distributed.is_initialized():
        # Vectors and gradients are gathered on the CPU where there is no GPU for each process.
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.device_count() >= count else "gloo")
    return Workers(rank, count, torch.cuda.device_count() >= count)
