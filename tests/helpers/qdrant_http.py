"""The part of Qdrant's HTTP interface that an export uses, answered by the local mode of its client.

No package has the server itself. Requests are parsed with the models of the client, which are made from the server's
interface description.
"""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

if TYPE_CHECKING:
    from qdrant_client import QdrantClient


class QdrantServer(ThreadingHTTPServer):
    """Server on a free port of this machine.

    Attributes:
        client: The local mode that holds the collections.
        calls: Method, path and body of each request.
        fail_after: Number of requests after which all others fail with status 500; None: none does.
    """

    def __init__(self, client: QdrantClient) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.client = client
        self.calls: list[tuple[str, str, Any]] = []
        self.fail_after: int | None = None
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: QdrantServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        assert length < 32 << 20  # the server's limit
        body = json.loads(self.rfile.read(length) or b"null")
        path = self.path.partition("?")[0]
        with self.server.lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # payload indexes have no effect in the local mode
            self.server.calls.append((self.command, path, body))
            limit = self.server.fail_after
            if limit is not None and len(self.server.calls) > limit:
                status, answer = 500, {"status": {"error": "disk full"}, "time": 0}
            else:
                status, answer = 200, {"result": _run(self.server.client, self.command, path, body), "status": "ok"}
        data = json.dumps({"time": 0, **answer}, default=_plain).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = _answer  # noqa: N815


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)


def _run(client: QdrantClient, method: str, path: str, body: Any) -> Any:
    """Carry out a request; returns the value of `result`."""
    from qdrant_client import models

    done = {"operation_id": 0, "status": "completed"}
    match method, path.strip("/").split("/"):
        case "GET", ["aliases"]:
            return client.get_aliases()
        case "GET", ["collections"]:
            return client.get_collections()
        case "GET", ["collections", name]:
            return client.get_collection(name)
        case "POST", ["collections", "aliases"]:
            return client.update_collection_aliases(models.ChangeAliasesOperation.model_validate(body).actions)
        case "PUT", ["collections", name]:
            settings = models.CreateCollection.model_validate(body)
            return client.create_collection(name, settings.vectors, metadata=settings.metadata)
        case "DELETE", ["collections", name]:
            return client.delete_collection(name)
        case "PUT", ["collections", name, "index"]:
            models.CreateFieldIndex.model_validate(body)
            return done
        case "PUT", ["collections", name, "points"]:
            client.upsert(name, models.PointsBatch.model_validate(body).batch)
            return done
        case "POST", ["collections", name, "points", "count"]:
            return client.count(name, exact=models.CountRequest.model_validate(body).exact or False)
        case "POST", ["collections", name, "points", "query"]:
            asked = models.QueryRequest.model_validate(body)
            return client.query_points(name, asked.query, query_filter=asked.filter, limit=asked.limit or 10)
    raise AssertionError((method, path))


@contextmanager
def running_qdrant() -> Iterator[QdrantServer]:
    """Run a server without collections."""
    from qdrant_client import QdrantClient

    with QdrantServer(QdrantClient(":memory:")) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
            server.client.close()
