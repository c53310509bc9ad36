"""Answers to the queries of commands, as data."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from bindsearch.search.query import Query

Ask = Callable[[Query], dict[str, Any]]
"""Return the answer to a query as data (`bindsearch.views.answer_data`)."""


@contextmanager
def asking(*, store: str | None, device: str, imu_rate_hz: float | None) -> Generator[Ask]:
    """Yield a function that answers queries; what it has loaded serves all of them."""
    from bindsearch.store import connect
    from bindsearch.views.answer_data import answer_data

    with connect(store, device=device) as opened:
        yield lambda query: answer_data(opened.answer(query, imu_rate_hz=imu_rate_hz))
