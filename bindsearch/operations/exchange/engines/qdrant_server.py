"""Export to a Qdrant server over HTTP."""

from __future__ import annotations

import os
import re
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bindsearch.errors import StoreError, UsageError
from bindsearch.operations.exchange.engines.qdrant_points import payload_indexes, payloads
from bindsearch.operations.exchange.engines.source import EngineSource, read_engine_blocks
from bindsearch.operations.exchange.engines.target import EngineResult, EngineTarget, engine_faults
from bindsearch.reports import OnRows, OnStage

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

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
    with engine_faults(place):
        client = QdrantClient(
            url=target.address, api_key=os.environ.get(API_KEY), timeout=TIMEOUT_S, check_compatibility=False
        )
        try:
            write_collection(client, target, source, on_progress, on_stage)
        finally:
            client.close()
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
    client.create_collection(
        new,
        vectors_config=models.VectorParams(
            size=source.config.dim, distance=models.Distance.COSINE, datatype=models.Datatype.FLOAT16
        ),
        metadata=source.describe(),
    )
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
    done, total = 0, source.total
    on_progress(done, total)
    for block in read_engine_blocks(source):
        batch = models.Batch(ids=[*block.ids], vectors=block.vectors.tolist(), payloads=payloads(block))
        _upsert(client, collection, batch)
        done += len(block.ids)
        on_progress(done, total)
    found = client.count(collection, exact=True).count
    if found != total:
        raise StoreError(f"the collection {collection} holds {found} points after {total} were written")


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
