"""Answers to the queries of commands, as data."""

from __future__ import annotations

from typing import Any

from bindsearch.search.query import Query


def ask(query: Query, *, store: str | None, device: str, imu_rate_hz: float | None) -> dict[str, Any]:
    """Return the answer to a query as data (`bindsearch.views.answer_data`)."""
    from bindsearch.store import connect
    from bindsearch.views.answer_data import answer_data

    with connect(store, device=device) as opened:
        return answer_data(opened.answer(query, imu_rate_hz=imu_rate_hz))
