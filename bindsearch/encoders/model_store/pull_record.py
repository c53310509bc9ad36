"""Record of a pulled model that outlives its removal: the accepted licence, the last checkpoint's digest."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from bindsearch.atomic import atomic_write
from bindsearch.encoders.model_store.installed import work_folder


@dataclass(frozen=True, slots=True)
class PullRecord:
    """`license`: the short name of the one accepted; `sha256`: of the checkpoint last converted; empty: none yet."""

    license: str = ""
    sha256: str = ""


def read_record(name: str) -> PullRecord:
    """Return what is remembered of the model; nothing, where the record is damaged."""
    try:
        return PullRecord(**json.loads(_path(name).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return PullRecord()


def write_record(name: str, record: PullRecord) -> None:
    """Remember it. The models' folder has to be there.

    Raises:
        OSError: it cannot be written.
    """
    with atomic_write(_path(name)) as file:
        file.write(json.dumps(asdict(record)).encode())


def _path(name: str) -> Path:
    work = work_folder(name)
    return work.with_name(f"{work.name}.json")
