"""Jobs of shards as tasks of a Ray cluster, to which this process is connected."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

from bindsearch.device import CORES_VARIABLE
from bindsearch.encoders.torch_runtime.device import Runtime
from bindsearch.errors import BindSearchError, UsageError, first_line
from bindsearch.reports import IndexReport, OnProgress, Progress
from bindsearch.shards.each import is_plain
from bindsearch.shards.index import OnShardProgress, ShardJob, index_shard, open_tools
from bindsearch.storage.config import load_store_encoder

if TYPE_CHECKING:
    from pathlib import Path

    from bindsearch.encoders.base import Encoder

Result = TypeVar("Result")

PROGRESS_S = 0.5
"""Interval in seconds in which tasks send their progress, and in which it is shown."""

CANCEL_S = 60.0
"""Time in seconds in which tasks that are interrupted commit what they have done, before they are ended."""

LOCK_WAIT_S = 60.0
"""Time in seconds that a task waits for the writer of its shard: a lost worker may still be ending."""

BOARD_S = 10.0
"""Time in seconds after which the progress is not waited for any longer."""


@dataclass(frozen=True)
class TaskShare:
    """Share of a machine that each task gets.

    Attributes:
        num_cpus: Number of cores; the task decodes with as many workers.
        num_gpus: Number of GPUs; may be a fraction.
        max_retries: How often a task is run again if its worker is lost.
    """

    num_cpus: float = 1.0
    num_gpus: float = 0.0
    max_retries: int = 5

    @property
    def cores(self) -> int:
        """Number of whole cores, at least 1."""
        return max(1, math.floor(self.num_cpus))

    def __post_init__(self) -> None:
        if not 0 < self.num_cpus < math.inf or not 0 <= self.num_gpus < math.inf or self.max_retries < 0:
            given = f"{self.num_cpus:g} cores, {self.num_gpus:g} GPUs and {self.max_retries} retries"
            raise UsageError(f"a task with {given}: give numbers of cores above 0, and others of at least 0")


class Board:
    """Latest progress of each shard; an actor, to which the tasks send it."""

    def __init__(self) -> None:
        self._new: dict[int, Progress] = {}

    def put(self, number: int, progress: Progress) -> None:
        """Keep the progress of a shard."""
        self._new[number] = progress

    def take(self) -> dict[int, Progress]:
        """Return what is new since the last call."""
        new, self._new = self._new, {}
        return new


def run_on_ray(
    share: TaskShare, jobs: Sequence[ShardJob], progress_of: OnShardProgress
) -> dict[int, IndexReport | BindSearchError]:
    """Run jobs as tasks; return the report of each shard, or its error.

    Those whose worker is lost run again, as an indexing run that was interrupted. If this process is interrupted, so
    are the tasks: each commits what it has done.

    Raises:
        UsageError: no machine of the cluster has what a task needs.
    """
    import ray

    board: Any = ray.remote(num_cpus=0)(Board).remote()
    tasks = {job.number: (_run_job, job, share, board) for job in jobs}
    try:
        return _run_tasks(share, tasks, lambda: _show(board, progress_of))
    finally:
        with suppress(Exception):
            ray.kill(board)


def run_each_on_ray(
    share: TaskShare, call: Callable[[int], Result], numbers: Sequence[int]
) -> dict[int, Result | BindSearchError]:
    """Call a function for shards in tasks; see `bindsearch.shards.each.RunEach`.

    Raises:
        UsageError: no machine of the cluster has what a task needs.
    """
    return _run_tasks(share, {number: (_call, share, call, number) for number in numbers}, lambda: None)


def _run_tasks(share: TaskShare, tasks: Mapping[int, tuple[Any, ...]], show: Callable[[], None]) -> dict[int, Any]:
    """Run functions, each with its arguments, as tasks; return what each returned, or why its worker was lost."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(node.get("CPU", 0) >= share.num_cpus and node.get("GPU", 0) >= share.num_gpus for node in nodes):
        most = {kind: max((node.get(kind, 0) for node in nodes), default=0) for kind in ("CPU", "GPU")}
        needed = f"{share.num_cpus:g} cores and {share.num_gpus:g} GPUs"
        way_out = f"the most are {most['CPU']:g} and {most['GPU']:g}; give fewer (--workers)"
        raise UsageError(f"no machine of the cluster has {needed} for a task: {way_out}")
    options = {**asdict(share), "retry_exceptions": False}
    pending: dict[Any, int] = {}
    outcomes: dict[int, Any] = {}
    try:
        for number, (function, *arguments) in tasks.items():
            remote = ray.remote(function).options(**options)
            pending[remote.remote(*arguments)] = number
        while pending:
            done, _ = ray.wait(list(pending), num_returns=len(pending), timeout=PROGRESS_S)
            for ref in done:
                outcomes[pending[ref]] = _outcome(ref)
                del pending[ref]
            show()
    finally:
        _cancel(list(pending))
    return outcomes


def _call(share: TaskShare, call: Callable[[int], Result], number: int) -> Result | BindSearchError:
    """Call a function in a worker; an error of ours is returned, as it must not be retried."""
    os.environ[CORES_VARIABLE] = str(share.cores)
    return sendable(partial(call, number))


def sendable(call: Callable[[], Result]) -> Result | BindSearchError:
    """Return the result of a call, or its error in a form that can be sent to another process."""
    try:
        return call()
    except BindSearchError as error:
        return error if is_plain(error) else BindSearchError(str(error))


def _outcome(ref: Any) -> Any:
    """Return what a task has returned, or why it was lost."""
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        return ray.get(ref)
    except RayTaskError:  # a fault of the program
        raise
    except RayError as error:
        return BindSearchError(f"its worker was lost, also when it was tried again: {first_line(error)}")


def _show(board: Any, progress_of: OnShardProgress) -> None:
    """Report the latest progress; a board that is lost costs nothing but the display."""
    import ray
    from ray.exceptions import RayError

    with suppress(RayError):
        for number, progress in ray.get(board.take.remote(), timeout=BOARD_S).items():
            progress_of(number)(progress)


def _cancel(refs: Sequence[Any]) -> None:
    """Interrupt tasks, and wait until they have ended."""
    import ray

    if not refs:
        return
    for ref in refs:
        ray.cancel(ref, force=False)
    _, running = ray.wait(list(refs), num_returns=len(refs), timeout=CANCEL_S)
    for ref in running:
        with suppress(Exception):  # it has ended meanwhile
            ray.cancel(ref, force=True)


def _run_job(job: ShardJob, share: TaskShare, board: Any) -> IndexReport | BindSearchError:
    """Index a shard in a worker; an error of ours is returned, as it must not be retried."""
    os.environ[CORES_VARIABLE] = str(share.cores)
    options = replace(job.options, workers=job.options.workers or share.cores, lock_wait_s=LOCK_WAIT_S)
    job = replace(job, options=options)

    def run() -> IndexReport:
        with open_tools(job, _load_encoder) as tools:
            return index_shard(job, tools, _sender(board, job.number))

    return sendable(run)


def _sender(board: Any, number: int) -> OnProgress:
    """Return a callback that sends the progress of a shard, not too often."""
    due = 0.0

    def send(progress: Progress) -> None:
        nonlocal due
        if time.monotonic() >= due or progress.done == progress.total:
            due = time.monotonic() + PROGRESS_S
            board.put.remote(number, progress)

    return send


def _load_encoder(
    path: Path, encoder: str | Encoder | None, options: Mapping[str, str | int | float | bool], runtime: Runtime
) -> Encoder:
    """Return the encoder of a store; the last one is kept, as a worker does one task after the other."""
    if encoder is not None and not isinstance(encoder, str):
        return load_store_encoder(path, encoder, options, runtime)
    return _kept_encoder(path, encoder, tuple(sorted(options.items())), runtime)


@lru_cache(maxsize=1)
def _kept_encoder(
    path: Path, encoder: str | None, options: tuple[tuple[str, str | int | float | bool], ...], runtime: Runtime
) -> Encoder:
    return load_store_encoder(path, encoder, dict(options), runtime)
