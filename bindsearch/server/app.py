"""The application: the page, its files, and the JSON API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles

from bindsearch import __version__
from bindsearch.arguments import shown
from bindsearch.errors import BindSearchError, UsageError, first_line
from bindsearch.ingest.media.options import decode_options
from bindsearch.operations.locate.located import located_data
from bindsearch.operations.locate.words import place_in_words
from bindsearch.operations.segment_media import Place
from bindsearch.search.explain import explain_plan, plan_json
from bindsearch.search.query import Composition
from bindsearch.search.query_encoding import modality_of_file
from bindsearch.server import api_schema as api
from bindsearch.server import item_data as items
from bindsearch.server import limits
from bindsearch.server.limits import Lane, Refusal
from bindsearch.server.media_response import HeldResponse, media_response, open_item
from bindsearch.server.open_store import OpenStore, counts, events
from bindsearch.server.page_query import PageQuery, read_page_query
from bindsearch.server.uploads import Uploads
from bindsearch.storage.session import is_being_written
from bindsearch.store import Store
from bindsearch.types import Modality
from bindsearch.views import thumbnails
from bindsearch.views.answer_data import answer_data
from bindsearch.views.collection_map import collection_map as map_of
from bindsearch.views.located_figure import places_in_words
from bindsearch.views.located_hits import hit_at
from bindsearch.views.picture_cache import Draw, cached_picture, webp

WEB = Path(__file__).parent / "web"
POLL_S = 0.25
"""Time between two looks at whether the client of a slow request is there."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Service:
    """Parts that the requests of a server share: the store, its name in command lines, uploads and threads.

    One medium is located at a time. `stopping` is set when the server stops.
    """

    opened: OpenStore
    shown_store: str | None
    uploads: Uploads = field(default_factory=Uploads)
    searches: Lane = field(default_factory=lambda: Lane("search", limits.search_threads(), 64))
    pictures: Lane = field(default_factory=lambda: Lane("picture", 2, 256))
    files: Lane = field(default_factory=lambda: Lane("file", 8, 256))
    locating: Lane = field(default_factory=lambda: Lane("locate", 1, 16))
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """All threads."""
        return self.searches, self.pictures, self.files, self.locating


def make_app(service: Service) -> FastAPI:
    """Return the application that answers from a store; a `Guard` must be around it."""
    app = FastAPI(
        title="BindSearch",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        responses=api.ERRORS,
    )
    _add_page(app)
    _add_searches(app, service)
    _add_store(app, service)
    _add_places(app, service)
    _add_uploads(app, service)
    _add_items(app, service)
    add_faults(app)
    return app


def _add_page(app: FastAPI) -> None:
    page = (WEB / "index.html").read_bytes()

    @app.head("/", include_in_schema=False)
    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return Response(page, media_type="text/html", headers={"Cache-Control": "no-cache"})

    app.mount("/static", _StaticFiles(directory=WEB, follow_symlink=False))


class _StaticFiles(StaticFiles):
    """The files of the page, which a browser asks for again each time, so that a new version is used at once."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers["Cache-Control"] = "no-cache"
        return response


def _add_searches(app: FastAPI, service: Service) -> None:
    @app.post("/api/search", responses=api.ANSWER, openapi_extra=api.QUERY_BODY)
    async def search(request: Request) -> Response:
        """Answer a query."""
        asked = await _page_query(await json_body(request), service)

        def answer() -> dict[str, Any]:
            data = answer_data(service.opened.current().answer(asked.query))
            for term in data["query"]["terms"]:
                term["source"] = asked.names.get(term["source"], term["source"])
            data["notices"] = [asked.with_names(notice) for notice in data["notices"]]
            for hit in data["hits"]:
                hit |= items.hit_links(hit)
            return {**data, "command": asked.command}

        return JSONResponse(await _named(asked, service.searches.run(answer)))

    @app.post("/api/explain", responses=api.PLAN, openapi_extra=api.QUERY_BODY)
    async def explain(request: Request) -> Response:
        """Return the plan of a query."""
        asked = await _page_query(await json_body(request), service)

        def make_plan() -> dict[str, Any]:
            made = service.opened.current().explain(asked.query)
            steps = tuple(replace(step, label=asked.with_names(step.label)) for step in made.terms)
            plan = replace(made, terms=steps)
            data = json.loads(asked.with_names(json.dumps(plan_json(plan))))
            return {"text": asked.with_names(explain_plan(plan)), "plan": data}

        return JSONResponse(await _named(asked, service.searches.run(make_plan)))


def _add_places(app: FastAPI, service: Service) -> None:
    @app.post("/api/locate", responses=api.LOCATED, openapi_extra=api.LOCATING_BODY)
    async def locate(request: Request) -> Response:
        """Return where a hit answers a query; one medium is located at a time."""
        data = await json_body(request)
        item_id, modality, start_s = items.segment_of(data)
        asked = await _page_query(data["query"], service)

        def find() -> dict[str, Any]:
            store = service.opened.current()
            snapshot = store.generation().snapshot
            place = items.find_place(snapshot, items.find_item(snapshot, item_id), modality, start_s)
            located = store.locate(Composition(asked.query.terms), hit_at(place, item_id))
            pictures = items.located_pictures(place, located, decode_options(store.config, None))
            found = located_data(located)
            found["notices"] = [asked.with_names(notice) for notice in found["notices"]]
            return {**found, "words": place_in_words(found), "places": places_in_words(found), **pictures}

        return JSONResponse(await _named(asked, _while_connected(request, service.locating.run(find))))


def _add_store(app: FastAPI, service: Service) -> None:
    opened = service.opened
    streams = BoundedSemaphore(limits.MAX_EVENT_STREAMS)

    @app.get("/api/status", responses=api.STATUS)
    async def status() -> Response:
        """Return what the store holds."""

        def look() -> dict[str, Any]:
            store = opened.current()
            config = store.config
            return {
                "version": __version__,
                "store": str(opened.path),
                "encoder": config.encoder,
                "dim": config.dim,
                **opened.value("counts", counts),
                "collections": [{"name": Path(root).name or root, "root": root} for root in _roots(store)],
                "is_indexing": is_being_written(opened.path),
                "uploads_max_bytes": limits.MAX_UPLOAD_BYTES,
            }

        return JSONResponse(await service.searches.run(look))

    @app.get("/api/columns", responses=api.COLUMNS)
    async def columns() -> Response:
        """Return the columns of filters, with their most frequent values."""
        return JSONResponse({"columns": await service.pictures.run(lambda: opened.value("columns", items.column_data))})

    @app.get("/api/map", responses=api.MAP)
    async def collection_map() -> Response:
        """Return the map of the collection."""
        make = partial(map_of, max_points=limits.MAX_MAP_POINTS)
        return JSONResponse(await service.pictures.run(lambda: opened.value("map", make)))

    @app.get("/api/events", response_class=StreamingResponse)
    async def stream_events() -> Response:
        """Stream events: store, generation, indexing, problem."""
        stream = events(opened, service.files, service.stopping)
        return HeldResponse(stream, _take(streams), media_type="text/event-stream")


def _add_uploads(app: FastAPI, service: Service) -> None:
    uploads = service.uploads

    @app.post("/api/uploads", responses=api.UPLOAD, openapi_extra=api.UPLOAD_BODY)
    async def upload(request: Request, name: str = "upload") -> Response:
        """Take a file, the raw body, as a term of queries."""
        key, path = await uploads.receive(name, request.stream())
        try:
            modality = await service.pictures.run(
                lambda: modality_of_file(path, service.opened.current().generation().snapshot.roots)
            )
        except BaseException as error:
            uploads.discard(key)
            if isinstance(error, BindSearchError):
                raise Refusal(422, str(error).replace(str(path), shown(name))) from error
            raise
        kept = uploads.keep(key, name, path, modality)
        data = {"upload": key, "name": name, "modality": modality.value, "size_bytes": kept.size_bytes}
        return JSONResponse({**data, "thumbnail": f"/api/uploads/{key}/thumbnail"})

    @app.head("/api/uploads/{key}/thumbnail", include_in_schema=False)
    @app.get("/api/uploads/{key}/thumbnail", responses=api.PICTURE)
    async def upload_thumbnail(key: str, side_px: int = items.SIDES_PX[2]) -> Response:
        """Return a small picture of an upload."""
        kept = uploads.find(key)
        size_px = items.nearest_size(side_px, items.SIDES_PX)
        place = Place(kept.path, kept.path.parent, kept.modality)
        content = await service.pictures.run(lambda: webp(thumbnails.thumbnail(place, size_px)))
        return Response(content, media_type="image/webp")


def _add_items(app: FastAPI, service: Service) -> None:
    opened = service.opened
    streams = BoundedSemaphore(limits.MAX_MEDIA_STREAMS)

    @app.get("/api/items/{item_id}", responses=api.ITEM)
    async def item(item_id: int) -> Response:
        """Return an item with its columns and segments."""
        data = await service.searches.run(lambda: items.item_data(opened.current().generation().snapshot, item_id))
        return JSONResponse(data)

    @app.head("/api/items/{item_id}/media", include_in_schema=False)
    @app.get("/api/items/{item_id}/media")
    async def media(request: Request, item_id: int) -> Response:
        """Return the file of an item, or the range of it that is asked for."""
        held = _take(streams)
        try:
            found = await service.files.run(lambda: items.find_item(opened.current().generation().snapshot, item_id))
            file = held.enter_context(await service.files.run(lambda: open_item(found)))
            response = media_response(found, file, request, files=service.files, held=held)
        except BaseException:
            held.close()
            raise
        if not isinstance(response, HeldResponse):
            held.close()
        return response

    async def show(
        request: Request, item_id: int, modality: Modality | None, start_s: float | None, size_px: int, draw: Draw
    ) -> Response:
        def find() -> tuple[str, Place]:
            snapshot = opened.current().generation().snapshot
            item = items.find_item(snapshot, item_id)
            return item.content_hash, items.find_place(snapshot, item, modality, start_s)

        content_hash, place = await service.files.run(find)
        tag = f'"{content_hash}-{place.modality}-{place.start_s}-{size_px}-{__version__}"'
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        content = await service.pictures.run(lambda: cached_picture(opened.path, place, size_px, draw))
        return Response(content, media_type="image/webp", headers=headers)

    @app.head("/api/items/{item_id}/thumbnail", include_in_schema=False)
    @app.get("/api/items/{item_id}/thumbnail", responses=api.PICTURE)
    async def thumbnail(
        request: Request,
        item_id: int,
        side_px: int = items.SIDES_PX[2],
        modality: Modality | None = None,
        start_s: float | None = None,
    ) -> Response:
        """Return a small picture of a segment."""
        size_px = items.nearest_size(side_px, items.SIDES_PX)
        return await show(request, item_id, modality, start_s, size_px, thumbnails.thumbnail)

    @app.head("/api/items/{item_id}/figure", include_in_schema=False)
    @app.get("/api/items/{item_id}/figure", responses=api.PICTURE)
    async def figure(
        request: Request,
        item_id: int,
        width_px: int = items.WIDTHS_PX[2],
        modality: Modality | None = None,
        start_s: float | None = None,
    ) -> Response:
        """Return a large picture of a segment, with scales and units."""
        size_px = items.nearest_size(width_px, items.WIDTHS_PX)
        return await show(request, item_id, modality, start_s, size_px, thumbnails.figure)


def add_faults(app: FastAPI) -> None:
    """Let an application answer errors as JSON, one line each."""

    @app.exception_handler(Refusal)
    async def refuse(_: Request, refusal: Refusal) -> Response:
        return JSONResponse({"error": refusal.message}, refusal.status, dict(refusal.headers))

    @app.exception_handler(BindSearchError)
    async def explain_fault(_: Request, error: BindSearchError) -> Response:
        return JSONResponse({"error": first_line(error)}, 400 if isinstance(error, UsageError) else 503)

    @app.exception_handler(HTTPException)
    async def name_status(request: Request, error: HTTPException) -> Response:
        message = f"{shown(request.url.path)}: {error.detail}: /api/openapi.json lists what there is"
        return JSONResponse({"error": message}, error.status_code)

    @app.exception_handler(RequestValidationError)
    async def name_parameter(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        message = f"the parameter {first['loc'][-1]} is {shown(first.get('input'))}: {first['msg']}"
        return JSONResponse({"error": message}, 422)


def _take(streams: BoundedSemaphore) -> ExitStack:
    """Take a place of a bounded number of streams; closing what is returned gives it back. Raises Refusal if full."""
    if not streams.acquire(blocking=False):
        raise limits.busy()
    held = ExitStack()
    held.callback(streams.release)
    return held


async def json_body(request: Request) -> Any:
    """Return the JSON in the body of a request. Raises Refusal: there is none."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(415, f"the body is {shown(kind)}: send a query with Content-Type: application/json")
    body = await request.body()
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is not JSON: {first_line(error)}") from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


async def _page_query(data: object, service: Service) -> PageQuery:
    """Return a query as a page sends it. Raises UsageError: it is no query."""
    roots = await service.files.run(lambda: _roots(service.opened.current()))
    return read_page_query(data, service.uploads.find, roots, service.shown_store)


async def _while_connected(request: Request, running: Awaitable[Result]) -> Result:
    """Return what is awaited; what waits for a thread is given up when the client is gone (ClientDisconnect)."""
    task = asyncio.ensure_future(running)
    while not (await asyncio.wait([task], timeout=POLL_S))[0]:
        if await request.is_disconnected():
            task.cancel()
            raise ClientDisconnect
    return await task


async def _named(asked: PageQuery, running: Awaitable[Result]) -> Result:
    """Return what is awaited; errors have the names of uploads."""
    try:
        return await running
    except BindSearchError as error:
        message = asked.with_names(first_line(error))
        if isinstance(error, UsageError):
            raise UsageError(message) from error
        raise


def _roots(store: Store) -> list[str]:
    return [*store.generation().snapshot.manifest.collections.values()]
