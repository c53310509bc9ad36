"""Export to Qdrant: to a folder of Qdrant Edge, the engine in the reader's own process, or to a server over HTTP."""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from bindsearch.arguments import to_absolute
from bindsearch.atomic import atomic_write, is_there, sync_folder
from bindsearch.errors import StoreError, UsageError
from bindsearch.operations.exchange.engines.engine import (
    EngineBlock,
    EngineResult,
    EngineSource,
    EngineTarget,
    engine_faults,
    is_description,
    read_engine_blocks,
)
from bindsearch.reports import OnRows, OnStage

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models


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
    """Return the name and the kind of index of each column, given their SQL types by name."""
    return ((name, INDEX_KINDS[kind]) for name, kind in kinds.items() if name != NOT_INDEXED)


def payloads(block: EngineBlock) -> list[dict[str, Any]]:
    """Return the payload of each segment of a block: the known values by column name."""

    def is_known(value: Any) -> bool:
        return value is not None and not (isinstance(value, float) and not math.isfinite(value))

    columns = {
        name: [value.isoformat() if isinstance(value, datetime) else value for value in values]
        for name, values in block.values.items()
    }
    rows = zip(*columns.values(), strict=True)
    return [{name: value for name, value in zip(columns, row, strict=True) if is_known(value)} for row in rows]


DESCRIPTION = "bindsearch.json"
"""File beside Qdrant's own: the embedding space, and the number of vectors."""


def write_qdrant_edge(
    target: EngineTarget, source: EngineSource, on_progress: OnRows, on_stage: OnStage
) -> EngineResult:
    """Write a shard of Qdrant Edge; the folder appears once it is complete and indexed.

    Args:
        target: The folder; it must be missing, empty, or an earlier export that is to be replaced.
        source: The segments.
        on_progress: Called with the number of vectors written so far and the total.
        on_stage: Called with the name of the current stage.

    Raises:
        UsageError: the folder holds something else, or another process exports to it.
        StoreError: the folder cannot be written.
    """
    folder = to_absolute(target.address)
    with engine_faults(str(folder)):
        _check_folder(folder, replace=target.replace)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _incomplete_folder(folder) as incomplete:
            new = incomplete / "shard"
            _write_shard(new, source, on_progress, on_stage)
            if is_there(folder):
                folder.rename(incomplete / "replaced")
            new.rename(folder)
            sync_folder(folder.parent)
    size_bytes = sum(512 * path.stat().st_blocks for path in folder.rglob("*") if path.is_file())  # sparse files
    return EngineResult(f"qdrant:{folder}", size_bytes)


def _check_folder(folder: Path, *, replace: bool) -> None:
    """Raise UsageError if a folder may not be written."""
    if not is_there(folder) or (folder.is_dir() and not any(folder.iterdir())):
        return
    file = folder / DESCRIPTION
    if not (file.is_file() and is_description(file.read_text("utf-8", errors="replace"))):
        raise UsageError(f"{folder} is not an empty folder: choose another folder to export into")
    if not replace:
        raise UsageError(f"{folder} holds an export already: add --replace, or choose another folder")


@contextmanager
def _incomplete_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder`, removed at the end; one that a killed process has left is emptied."""
    incomplete = folder.with_name(f"{folder.name}.incomplete")
    incomplete.mkdir(exist_ok=True)
    lock = FileLock(incomplete / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(f"another process exports to {folder}: wait for it, or choose another folder") from None
    try:
        for name in ("shard", "replaced"):
            shutil.rmtree(incomplete / name, ignore_errors=True)
        yield incomplete
    finally:
        shutil.rmtree(incomplete, ignore_errors=True)
        lock.release()


def _write_shard(folder: Path, source: EngineSource, on_progress: OnRows, on_stage: OnStage) -> None:
    """Create a shard with all points, its payload indexes first: the graph has links for each of their values."""
    import qdrant_edge as qdrant

    folder.mkdir()
    half = qdrant.VectorStorageDatatype.Float16
    vectors = qdrant.EdgeVectorParams(size=source.config.dim, distance=qdrant.Distance.Cosine, datatype=half)
    shard = qdrant.EdgeShard.create(str(folder), qdrant.EdgeConfig(vectors=vectors))
    try:
        for key, kind in payload_indexes(source.known_kinds):
            index = getattr(qdrant.PayloadSchemaType, kind.capitalize())
            shard.update(qdrant.UpdateOperation.create_field_index(key, index))
        for block in read_engine_blocks(source, on_progress):
            rows = zip(block.ids, block.vectors.tolist(), payloads(block), strict=True)
            shard.update(qdrant.UpdateOperation.upsert_points([qdrant.Point(*row) for row in rows]))
        on_stage("building the index")
        shard.optimize()
        shard.flush()
    finally:
        shard.close()
    with atomic_write(folder / DESCRIPTION) as file:
        file.write(json.dumps(source.describe(), indent=2).encode())


API_KEY = "QDRANT_API_KEY"
"""Environment variable with the key of a server that asks for one; on a command line others could read it."""

TIMEOUT_S = 60
RETRY_AFTER_S = (1.0, 5.0)
"""Waits before a request that failed is sent again; points have ids, so that none is doubled."""


def write_qdrant(target: EngineTarget, source: EngineSource, on_progress: OnRows, on_stage: OnStage) -> EngineResult:
    """Write a collection of a Qdrant server, and point the alias `target.name` at it once it is complete.

    The collection has a name of its own, such as `bindsearch-20261130T120000-3f2a`. Searches for the alias see the
    earlier export until then. Collections that interrupted exports have left are removed.

    Args:
        target: The server.
        source: The segments.
        on_progress: Called with the number of vectors written so far and the total.
        on_stage: Called with the name of the current stage.

    Raises:
        UsageError: the name is taken.
        StoreError: the server cannot be reached or refuses the export.
    """
    from qdrant_client import QdrantClient

    address = urlsplit(target.address)
    place = f"{address.scheme}://{address.hostname}:{address.port or 6333}"
    options: dict[str, Any] = {"timeout": TIMEOUT_S, "check_compatibility": False}
    with (
        engine_faults(place),
        closing(QdrantClient(url=target.address, api_key=os.environ.get(API_KEY), **options)) as client,
    ):
        write_collection(client, target, source, on_progress, on_stage)
    return EngineResult(f"qdrant:{place}", None)


def write_collection(
    client: QdrantClient, target: EngineTarget, source: EngineSource, on_progress: OnRows, on_stage: OnStage
) -> None:
    """Write a collection with an opened client; see `write_qdrant`."""
    from qdrant_client import models

    aliases = {alias.alias_name: alias.collection_name for alias in client.get_aliases().aliases}
    collections = [collection.name for collection in client.get_collections().collections]
    earlier = aliases.get(target.name)
    is_ours = re.compile(re.escape(target.name) + r"-\d{8}T\d{6}-[0-9a-f]{4}").fullmatch
    if target.name in collections or (earlier is not None and not is_ours(earlier)):
        raise UsageError(f"the collection {target.name} is not an export of BindSearch: choose another --name")
    if earlier is not None and not target.replace:
        raise UsageError(f"the collection {target.name} holds an export already: add --replace, or another --name")
    for name in collections:
        if is_ours(name) and name not in aliases.values():
            client.delete_collection(name)
    new = f"{target.name}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"
    half, dim = models.Datatype.FLOAT16, source.config.dim
    vectors = models.VectorParams(size=dim, distance=models.Distance.COSINE, datatype=half)
    client.create_collection(new, vectors_config=vectors, metadata=source.describe())
    try:
        _fill(client, new, source, on_progress)
        on_stage("publishing")
        switch: list[models.AliasOperations] = [
            models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=new, alias_name=target.name))
        ]
        if earlier is not None:
            switch.insert(0, models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=target.name)))
        client.update_collection_aliases(switch)
    except BaseException:
        with suppress(Exception):  # the first error is reported; the next export removes the rest
            client.delete_collection(new)
        raise
    if earlier is not None:
        client.delete_collection(earlier)


def _fill(client: QdrantClient, collection: str, source: EngineSource, on_progress: OnRows) -> None:
    """Write the payload indexes, so that the graph gets links for their values, then the points; count them."""
    from qdrant_client import models

    for key, kind in payload_indexes(source.known_kinds):
        client.create_payload_index(collection, key, models.PayloadSchemaType(kind))
    for block in read_engine_blocks(source, on_progress):
        batch = models.Batch(ids=[*block.ids], vectors=block.vectors.tolist(), payloads=payloads(block))
        _upsert(client, collection, batch)
    found = client.count(collection, exact=True).count
    if found != source.total:
        raise StoreError(f"the collection {collection} holds {found} points after {source.total} were written")


def _upsert(client: QdrantClient, collection: str, batch: models.Batch) -> None:
    """Write points, again after a pause if the server could not be reached or failed."""
    from qdrant_client.http.exceptions import ApiException, UnexpectedResponse

    for wait_s in (*RETRY_AFTER_S, None):
        try:
            client.upsert(collection, batch, wait=True)
        except ApiException as error:
            is_refused = isinstance(error, UnexpectedResponse) and (error.status_code or 0) < 500
            if wait_s is None or is_refused:
                raise
            time.sleep(wait_s)
        else:
            return
