"""The call queue: one call at a time, equal jobs joined, everybody gets his own answer or the error of his call."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from bindsearch.indexes.gpu.index import CallQueue
from bindsearch.indexes.types import SearchResult


class Calls:
    """What was called, and how many calls ran at the same time at most."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.running = 0
        self.most = 0


@dataclass(frozen=True)
class Doubled:
    """Finds twice the query's first number, plus `add`; slow enough for others to queue up meanwhile."""

    calls: Calls
    add: int = 0

    def __call__(self, queries: NDArray[np.float32]) -> SearchResult:
        self.calls.running += 1
        self.calls.most = max(self.calls.most, self.calls.running)
        self.calls.sizes.append(len(queries))
        time.sleep(0.02)
        self.calls.running -= 1
        if (queries < 0).any():
            raise ValueError("a negative query")
        return SearchResult((2 * queries[:, :1] + self.add).astype(np.int64), queries[:, :1])


def query(*numbers: float) -> NDArray[np.float32]:
    return np.array(numbers, np.float32)[:, None]


def test_a_single_caller_is_served_at_once() -> None:
    calls = Calls()
    found = CallQueue().run(Doubled(calls), query(3, 4))
    assert found.positions.tolist() == [[6], [8]]
    assert found.cosines.tolist() == [[3], [4]]
    assert calls.sizes == [2]


def test_waiting_callers_share_a_call_and_each_gets_his_own_answer() -> None:
    calls, queue = Calls(), CallQueue()
    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(lambda n: queue.run(Doubled(calls, n % 2), query(n, n + 100)), range(64)))
    for n, one in enumerate(found):
        assert one.positions.tolist() == [[2 * n + n % 2], [2 * n + 200 + n % 2]]
    assert calls.most == 1
    assert sum(calls.sizes) == 128
    assert len(calls.sizes) <= 24  # of 64, in two kinds that are not joined


def test_calls_are_joined_up_to_the_bound_and_a_single_caller_may_exceed_it() -> None:
    calls, queue = Calls(), CallQueue(most=8)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: queue.run(Doubled(calls), query(*range(n))), [3] * 16 + [20]))
    assert max(size for size in calls.sizes if size != 20) <= 8
    assert calls.sizes.count(20) == 1
    assert sum(calls.sizes) == 68


def test_an_error_reaches_those_of_its_call_and_the_queue_goes_on() -> None:
    calls, queue = Calls(), CallQueue()
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(queue.run, Doubled(calls, n % 2), query(-1 if n % 2 else 1)) for n in range(16)]
    for n, answer in enumerate(answers):
        if n % 2:
            assert isinstance(answer.exception(), ValueError)
        else:
            assert answer.result().positions.tolist() == [[2]]
    assert queue.run(Doubled(calls), query(5)).positions.tolist() == [[10]]


def test_whoever_waits_is_woken_as_soon_as_his_call_is_done() -> None:
    """Not only when a later call, which he has no part in, is done too."""
    queue, release = CallQueue(), threading.Event()
    first, blocking = Doubled(Calls()), threading.Event()

    def block(queries: NDArray[np.float32]) -> SearchResult:
        blocking.set()
        release.wait(10)
        return SearchResult(queries.astype(np.int64), queries)

    with ThreadPoolExecutor(4) as pool:
        leader = pool.submit(queue.run, block, query(0))
        blocking.wait(10)
        followers = [pool.submit(queue.run, first, query(n)) for n in (1, 2)]
        release.set()
        assert [future.result(10).positions.item() for future in (leader, *followers)] == [0, 2, 4]


def test_answers_of_a_query_do_not_change_with_its_company() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((500, 16)).astype(np.float32)

    def nearest(queries: NDArray[np.float32]) -> SearchResult:
        scores = queries @ rows.T
        order = np.argsort(-scores, axis=1)[:, :5]
        return SearchResult(order, np.take_along_axis(scores, order, axis=1))

    queries = rng.standard_normal((40, 16)).astype(np.float32)
    queue = CallQueue(most=7)
    with ThreadPoolExecutor(10) as pool:
        found = list(pool.map(lambda one: queue.run(nearest, one[None]), queries))
    np.testing.assert_array_equal(np.vstack([one.positions for one in found]), nearest(queries).positions)


@pytest.mark.parametrize("count", [0, 1])
def test_no_queries_are_a_call_too(count: int) -> None:
    found = CallQueue().run(Doubled(Calls()), np.zeros((count, 1), np.float32))
    assert found.positions.shape == (count, 1)
