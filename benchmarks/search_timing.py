"""Timing of several systems, one query at a time and in turn, so that other load affects all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from search_data import recall

if TYPE_CHECKING:
    from numpy.typing import NDArray

Ask = Callable[["NDArray[np.float32]"], Any]
"""Answers one query (d,) in a system's own form."""
RowsOf = Callable[[Any], Sequence[int]]
"""Returns the rows in such an answer; not timed."""

WARM_UP = 20
CHUNK = 25
"""Queries that a system answers in a row before the next one's turn."""
SLOW_MS = 20.0
"""A system slower than this many milliseconds answers each query once, regardless of the number of rounds."""


@dataclass(frozen=True)
class Contender:
    """One system at one setting, for one kind of query."""

    system: str
    setting: str
    ask: Ask
    rows: RowsOf


@dataclass(frozen=True)
class Timed:
    """Result of a contender: recall@10 and milliseconds a query (median and 95th percentile) over `n` answers.

    `first_ms`: milliseconds of the first answer.
    """

    system: str
    setting: str
    recall: float
    p50_ms: float
    p95_ms: float
    first_ms: float
    n: int


def time_in_turn(
    contenders: Sequence[Contender], queries: NDArray[np.float32], truth: NDArray[np.int64], rounds: int = 3
) -> list[Timed]:
    """Return each contender's recall over all queries (nq, d), and its time over `rounds` times as many, when warm."""
    first = []
    for contender in contenders:
        times = [_timed(contender.ask, query)[1] for query in queries[:WARM_UP]]
        first.append((times[0], rounds if np.median(times) < SLOW_MS else 1))
    answers: list[list[Sequence[int]]] = [[] for _ in contenders]
    times_ms: list[list[float]] = [[] for _ in contenders]
    for number in range(rounds):
        for start in range(0, len(queries), CHUNK):
            for which, contender in enumerate(contenders):
                if number < first[which][1]:
                    _ask_all(contender, queries[start : start + CHUNK], number == 0, answers[which], times_ms[which])
    return [
        Timed(
            system=contender.system,
            setting=contender.setting,
            recall=recall(answers[which], truth),
            p50_ms=float(np.median(times_ms[which])),
            p95_ms=float(np.percentile(times_ms[which], 95)),
            first_ms=first[which][0],
            n=len(times_ms[which]),
        )
        for which, contender in enumerate(contenders)
    ]


def _ask_all(
    contender: Contender,
    queries: NDArray[np.float32],
    keep: bool,
    answers: list[Sequence[int]],
    times_ms: list[float],
) -> None:
    for query in queries:
        answer, took_ms = _timed(contender.ask, query)
        times_ms.append(took_ms)
        if keep:
            answers.append(contender.rows(answer))


def _timed(ask: Ask, query: NDArray[np.float32]) -> tuple[Any, float]:
    started = time.perf_counter()
    answer = ask(query)
    return answer, 1000 * (time.perf_counter() - started)
