"""Events of a store as server-sent events (WHATWG HTML, 9.2): new generations, runs of other processes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from bindsearch.errors import BindSearchError
from bindsearch.server.limits import Lane, Refusal
from bindsearch.server.open_store import OpenStore
from bindsearch.storage.session import is_being_written
from bindsearch.store import Store

PAUSE_S = 1.0
"""Pause between two looks at the store."""
SILENCE_S = 15.0
"""Pause after which a comment is sent, so that a connection that is gone is noticed."""


def counts(store: Store) -> dict[str, Any]:
    """Return the numbers of items and segments by modality in the newest generation, and its number."""
    snapshot = store.generation().snapshot
    return {
        "generation": snapshot.manifest.generation,
        "items": {modality.value: n for modality, n in snapshot.counts("items").items()},
        "segments": {modality.value: n for modality, n in snapshot.counts("segments").items()},
    }


async def events(opened: OpenStore, lane: Lane, stopping: asyncio.Event) -> AsyncIterator[str]:
    """Yield events: what is now, then what changes, until the server stops."""
    before: dict[str, object] = {}
    silent_s = 0.0
    yield "retry: 2000\n\n"
    while not stopping.is_set():
        try:
            found = await lane.run(lambda: _look(opened))
        except (BindSearchError, Refusal) as error:
            found = {"problem": {"error": str(error)}}
        for name, data in found.items():
            if before.get(name) != data:
                before[name] = data
                silent_s = 0.0
                yield f"event: {name}\ndata: {json.dumps(data)}\n\n"
        if "problem" not in found:
            before.pop("problem", None)
        if silent_s >= SILENCE_S:
            silent_s = 0.0
            yield ": still here\n\n"
        silent_s += PAUSE_S
        try:
            await asyncio.wait_for(stopping.wait(), PAUSE_S)
        except TimeoutError:
            continue


def _look(opened: OpenStore) -> dict[str, dict[str, Any]]:
    now = opened.value("counts", counts)
    config = opened.current().config
    return {
        "store": {"encoder": config.encoder, "dim": config.dim, "replaced": opened.replaced},
        "generation": now,
        "indexing": {"running": is_being_written(opened.path), "items": sum(now["items"].values())},
    }
