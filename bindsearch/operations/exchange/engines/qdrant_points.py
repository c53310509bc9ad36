"""Points of Qdrant: payload of segments, and the payload indexes of columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from bindsearch.operations.exchange.engines.source import EngineBlock

INDEX_KINDS: Mapping[str, str] = {
    "VARCHAR": "keyword",
    "BIGINT": "integer",
    "UBIGINT": "float",
    "DOUBLE": "float",
    "TIMESTAMP": "datetime",
    "BOOLEAN": "bool",
}
"""Payload index of each SQL type; integer indexes hold signed numbers of 64 bits."""

NOT_INDEXED = "text"
"""Column without a payload index: passages are long, and no filter asks for a whole one."""


def payload_indexes(kinds: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the name and the kind of index of each column.

    Args:
        kinds: SQL type of each column by name.
    """
    for name, kind in kinds.items():
        if name != NOT_INDEXED:
            yield name, INDEX_KINDS[kind]


def payloads(block: EngineBlock) -> list[dict[str, Any]]:
    """Return the payload of each segment of a block: the known values by column name."""
    names = tuple(block.values)
    return [
        {name: _to_json(value) for name, value in zip(names, row, strict=True) if _is_known(value)}
        for row in zip(*block.values.values(), strict=True)
    ]


def _is_known(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


def _to_json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
