"""Answers to the queries of commands, as data."""

from __future__ import annotations

from typing import Any

from bindsearch.search.query import Query

AUTO = "auto"


def ask(
    query: Query, *, store: str | None, device: str, imu_rate_hz: float | None, use_server: bool = True
) -> dict[str, Any]:
    """Return the answer to a query as data (`bindsearch.views.answer_data`).

    A running server that has the store open answers, if there is one; else this process. The answers are the same.

    Args:
        query: The query.
        store: Folder of the store; None: the default.
        device: Device of models and indexes; a server answers only for AUTO.
        imu_rate_hz: Sample rate in Hz of motion files that do not contain one.
        use_server: Whether a server may answer.

    Raises:
        BindSearchError: the query is wrong, or the store cannot be searched.
    """
    if use_server and device == AUTO:
        from bindsearch.server.command_socket.client import ask_server
        from bindsearch.storage.config import resolve_store

        answer = ask_server(resolve_store(store), query, imu_rate_hz)
        if answer is not None:
            return answer
    from bindsearch.store import connect
    from bindsearch.views.answer_data import answer_data

    with connect(store, device=device) as opened:
        return answer_data(opened.answer(query, imu_rate_hz=imu_rate_hz))
