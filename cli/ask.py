"""Answers to the queries of commands, as data."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from bindsearch.search.query import Query

if TYPE_CHECKING:
    from bindsearch.store import Store
    from bindsearch.views.located_hits import HitLocating

AUTO = "auto"

LOCATED_TERMS = 64
"""Terms whose vectors are kept while hits are located."""

Ask = Callable[[Query], dict[str, Any]]
"""Return the answer to a query as data (`bindsearch.views.answer_data`)."""


@contextmanager
def asking(
    *,
    store: str | None,
    device: str,
    imu_rate_hz: float | None,
    use_server: bool = True,
    on: str | None = None,
    require_all: bool = False,
    locating: HitLocating | None = None,
) -> Generator[Ask]:
    """Yield a function that answers queries; what it has loaded serves all of them.

    A running server that has the store open answers, if there is one; else this process. The answers are the same.

    Args:
        store: Folder of the store; None: the default.
        device: Device of models and indexes; a server answers only for AUTO.
        imu_rate_hz: Sample rate in Hz of motion files that do not contain one.
        use_server: Whether a server may answer.
        on: Cluster that has the shards of the store; None: this process.
        require_all: Whether a shard that does not answer is an error.
        locating: How hits get the places that answer their query; None: they get none.
    """
    opened: Store | None = None

    def ask(query: Query) -> dict[str, Any]:
        nonlocal opened
        if opened is None and use_server and device == AUTO and on is None and not require_all:
            from bindsearch.server.command_socket.client import ask_server
            from bindsearch.storage.config import resolve_store

            served = ask_server(resolve_store(store), query, imu_rate_hz, locate=locating is not None)
            if served is not None:
                return served
        prepare_for_few_rows()
        from bindsearch.shards.connect import connect
        from bindsearch.views.answer_data import answer_data, with_lines

        if opened is None:
            opened = stack.enter_context(connect(store, device=device, on=on, require_all=require_all))
            if locating is not None:  # which encodes the terms again for each hit
                opened.cache_terms(LOCATED_TERMS)
        answer = opened.answer(query, imu_rate_hz=imu_rate_hz)
        if locating is None:
            return with_lines(answer_data(answer))
        from bindsearch.views.located_hits import locate_hits

        return with_lines(locate_hits(opened, query, answer, locating))

    with ExitStack() as stack:
        yield ask


def prepare_for_few_rows() -> None:
    """Let NumPy start no threads for its linear algebra, unless the environment sets their number.

    A query is a matrix of few rows. To start the threads takes 60 ms, and they wait for busy cores. FAISS's own threads
    and those of torch are not affected. Without effect if NumPy is imported already.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
