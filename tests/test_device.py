"""Threads of NumPy's linear algebra while a text is embedded."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from bindsearch.device import CORES_VARIABLE, one_blas_thread, usable_cores
from bindsearch.encoders.mini import text
from bindsearch.encoders.mini.bert import Bert, mean_pooled
from bindsearch.errors import UsageError


def threads() -> list[int]:
    return [library["num_threads"] for library in ThreadpoolController().select(user_api="blas").info()]


@pytest.fixture
def before() -> list[int]:
    counts = threads()
    if max(counts) == 1:
        pytest.skip("NumPy has one thread here")
    return counts


def test_a_block_runs_on_one_thread_and_the_setting_returns_after_it_and_after_an_error(before: list[int]) -> None:
    with one_blas_thread():
        assert set(threads()) == {1}
    assert threads() == before
    with pytest.raises(ZeroDivisionError), one_blas_thread():
        _ = 1 / 0
    assert threads() == before


def test_blocks_of_several_threads_do_not_leave_the_setting_at_one(before: list[int]) -> None:
    def block(_: int) -> list[int]:
        with one_blas_thread():
            return threads()

    with ThreadPoolExecutor(4) as pool:
        assert {count for counts in pool.map(block, range(40)) for count in counts} == {1}
    assert threads() == before


def test_a_short_text_is_embedded_on_one_thread(before: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def embed(network: Bert, ids: NDArray[np.int64], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        seen.extend(threads())
        return mean_pooled(network, ids, mask)

    monkeypatch.setattr(text, "mean_pooled", embed)
    text.TextTower().encode_texts(["a dog barking"])
    assert set(seen) == {1}
    assert threads() == before


def test_a_variable_limits_the_usable_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CORES_VARIABLE, raising=False)
    cores = usable_cores()
    for value, expected in (("1", 1), ("100000", cores), ("", cores)):
        monkeypatch.setenv(CORES_VARIABLE, value)
        assert usable_cores() == expected
    for value in ("0", "-1", "many", "1.5"):
        monkeypatch.setenv(CORES_VARIABLE, value)
        with pytest.raises(UsageError, match=r"BINDSEARCH_CORES is .*: give a number of cores from 1"):
            usable_cores()
