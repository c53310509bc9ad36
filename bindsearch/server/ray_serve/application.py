"""The application that each process of a search service runs: the JSON API of searches."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from bindsearch import __version__
from bindsearch.errors import UsageError
from bindsearch.results import Status
from bindsearch.search.explain import explain_plan, plan_json
from bindsearch.server.access import Access
from bindsearch.server.app import add_faults, json_body
from bindsearch.server.guard import App, Guard, Receive, Send
from bindsearch.server.limits import Lane, search_threads
from bindsearch.server.page_query import PageQuery, read_page_query
from bindsearch.server.uploads import Upload
from bindsearch.views.answer_data import answer_data

if TYPE_CHECKING:
    from bindsearch.store import Store

MAX_WAITING = 64
"""Searches of one process that may wait."""

STATUS_S = 5.0
"""Age in seconds up to which a status is answered again."""


OpenStore = Callable[[], "Store"]


@dataclass(eq=False)
class SearchApplication:
    """An ASGI application that opens a store when its process starts; it can be sent to other processes.

    Attributes:
        open_store: Opens the store; called once in each process, which must be able to import it.
        access: Conditions of a request.
        shown_store: Store of command lines; None: the default.
    """

    open_store: OpenStore
    access: Access
    shown_store: str | None
    _app: App | None = field(default=None, init=False)

    def __reduce__(self) -> tuple[type[SearchApplication], tuple[Any, ...]]:
        return SearchApplication, (self.open_store, self.access, self.shown_store)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if self._app is None:
            self._app = Guard(make_search_app(self.open_store, self.shown_store), self.access)
        await self._app(scope, receive, send)


def make_search_app(open_store: OpenStore, shown_store: str | None) -> FastAPI:
    """Return the application; a `Guard` must be around it."""
    app = FastAPI(title="BindSearch", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    searches = Lane("search", search_threads(), MAX_WAITING)
    files = Lane("file", 2, MAX_WAITING)
    store = open_store()
    kept: list[tuple[float, Status]] = []  # until when, and the status

    def status() -> Status:
        if not kept or kept[0][0] < time.monotonic():
            found = store.status()
            kept[:] = [(time.monotonic() + STATUS_S, found)]
        return kept[0][1]

    async def asked_query(request: Request) -> PageQuery:
        data = await json_body(request)
        known = await files.run(status)
        return read_page_query(data, _no_upload, [str(root) for root in known.collections], shown_store)

    @app.post("/api/search")
    async def search(request: Request) -> Response:
        """Answer a query."""
        asked = await asked_query(request)
        data = await searches.run(lambda: answer_data(store.answer(asked.query)))
        return JSONResponse({**data, "command": asked.command})

    @app.post("/api/explain")
    async def explain(request: Request) -> Response:
        """Return the plan of a query."""
        asked = await asked_query(request)
        plan = await searches.run(lambda: store.explain(asked.query))
        return JSONResponse({"text": explain_plan(plan), "plan": plan_json(plan)})

    @app.get("/api/status")
    async def show_status() -> Response:
        """Return what the store holds."""
        return JSONResponse(_status_data(await files.run(status)))

    add_faults(app)
    return app


def _no_upload(_: object) -> Upload:
    raise UsageError("a service on a cluster takes no uploads: search by text, or by the id of an indexed item")


def _status_data(status: Status) -> dict[str, Any]:
    return {
        "version": __version__,
        "store": str(status.path),
        "encoder": status.encoder,
        "dim": status.dim,
        "items": {modality.value: n for modality, n in status.items.items()},
        "segments": {modality.value: n for modality, n in status.segments.items()},
        "collections": [{"name": root.name or str(root), "root": str(root)} for root in status.collections],
    }
