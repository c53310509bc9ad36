"""Record of a pulled model, kept after its removal: the accepted licence and the digest of the last checkpoint."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from bindsearch.atomic import atomic_write
from bindsearch.encoders.model_store.installed import work_folder


@dataclass(frozen=True, slots=True)
class PullRecord:
    """Record of a pulled model.

    Attributes:
        license: Short name of the accepted licence, "" if none was accepted.
        sha256: SHA-256 of the last converted checkpoint, "" if there is none.
    """

    license: str = ""
    sha256: str = ""


def read_record(name: str) -> PullRecord:
    """Return the record of a model; an empty one if it is missing or damaged."""
    try:
        return PullRecord(**json.loads(_path(name).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return PullRecord()


def write_record(name: str, record: PullRecord) -> None:
    """Write the record of a model; the folder of the models must exist.

    Raises:
        OSError: the record cannot be written.
    """
    with atomic_write(_path(name)) as file:
        file.write(json.dumps(asdict(record)).encode())


def _path(name: str) -> Path:
    """Return the path of a record, next to the work folder."""
    work = work_folder(name)
    return work.with_name(f"{work.name}.json")
