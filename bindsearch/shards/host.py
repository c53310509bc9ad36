"""Host of shards: opens ordinary stores, and answers the requests of a router to each of them."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from bindsearch.errors import BindSearchError
from bindsearch.store import Store

MAX_THREADS = 16


class ShardHost:
    """Open shards of one process; thread-safe.

    Every method that `run` calls takes the number of a shard and a request, and returns plain data and arrays, so that
    both can be sent between processes.
    """

    def __init__(self, paths: Mapping[int, Path], device: str = "auto") -> None:
        """Prepare to open shards; files are opened on first use.

        Args:
            paths: Folder of each shard by its number.
            device: Device to search on, as in `connect`.
        """
        self._stores = {number: Store(path, device=device) for number, path in paths.items()}
        self._pool = ThreadPoolExecutor(min(MAX_THREADS, max(1, len(self._stores))), "shard")

    def close(self) -> None:
        """Close the shards."""
        self._pool.shutdown(cancel_futures=True)
        for store in self._stores.values():
            store.close()

    def run(self, method: str, requests: Mapping[int, object]) -> dict[int, object]:
        """Call a method for shards, all at the same time.

        Returns:
            The result by number of the shard, or the BindSearchError that it raised.
        """
        call = getattr(self, method)
        running = {number: self._pool.submit(partial(call, number, request)) for number, request in requests.items()}
        answers: dict[int, object] = {}
        for number, future in running.items():
            try:
                answers[number] = future.result()
            except BindSearchError as error:
                answers[number] = error
        return answers

    def generation(self, number: int, _: Any) -> int:
        """Return the number of the newest generation of a shard."""
        return self._stores[number].generation().manifest.generation
