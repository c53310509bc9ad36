"""A search service on a cluster: the application that each process runs, and its deployment with Ray Serve."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from bindsearch import __version__
from bindsearch.errors import BindSearchError, UsageError
from bindsearch.results import Status
from bindsearch.search.explain import explain_plan, plan_json
from bindsearch.server.access import Access, choose_token
from bindsearch.server.app import add_faults, json_body
from bindsearch.server.guard import App, Guard, Receive, Send
from bindsearch.server.limits import RUN_S, STOP_S, WAIT_S, Lane, search_threads
from bindsearch.server.page_query import PageQuery, read_page_query
from bindsearch.server.uploads import Upload
from bindsearch.shards.connect import connect
from bindsearch.views.answer_data import answer_data

if TYPE_CHECKING:
    from bindsearch.store import Store

APPLICATION = "bindsearch"
START_S = 120.0
"""Time in seconds that the processes have to start."""

MAX_WAITING = 64
"""Searches of one process that may wait."""

STATUS_S = 5.0
"""Age in seconds up to which a status is answered again."""

OpenStore = Callable[[], "Store"]


@dataclass(frozen=True)
class ServiceSettings:
    """Settings of a service, and of the cluster besides the processes that answer.

    Attributes:
        host: Address that the head node listens on; one that other machines reach needs a token.
        port: Port; 0: a free one of this machine.
        token_file: File of the token, made if it is missing; None: one is made if the address needs it.
        processes: Number of processes that answer.
        num_cpus: Cores of each.
        num_gpus: GPUs of each; a fraction shares one.
        shown_store: Store of command lines in answers; None: the default.
        on: Address of the cluster, as in `connect`.
        replicas: Number of processes that hold each shard.
        encoders: Number of processes that encode queries.
        encoder_gpus: GPUs of each encoder.
    """

    host: str = "127.0.0.1"
    port: int = 8642
    token_file: Path | None = None
    processes: int = 2
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    shown_store: str | None = None
    on: str = "auto"
    replicas: int = 1
    encoders: int = 1
    encoder_gpus: float = 0.0


@contextmanager
def running_service(open_store: OpenStore, settings: ServiceSettings) -> Iterator[Access]:
    """Start a service and stop it at the end; see `serve_store`. Yields its address and token."""
    import ray
    from ray import serve

    if settings.processes < 1:
        raise UsageError(f"{settings.processes} processes: give a number of at least 1")
    with contextlib.suppress(ValueError):
        ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
        raise UsageError("Ray Serve runs on this cluster already: stop it with `serve shutdown`")
    open_store().close()  # what is wrong with its arguments is said here, not in the log of another process
    port = settings.port or _free_port(settings.host)
    access = Access(settings.host, port, choose_token(settings.host, settings.token_file))
    quiet = serve.schema.LoggingConfig(log_level="ERROR", enable_access_log=False)
    for name in ("ray.serve", "ray"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": settings.host, "port": port, "request_timeout_s": WAIT_S + RUN_S + 10},
            logging_config=quiet,
        )
        application = SearchApplication(open_store, access, settings.shown_store)
        _deploy(serve, application, settings, quiet)
        yield access
    finally:
        with contextlib.suppress(Exception):
            serve.shutdown()


def _deploy(serve: Any, application: SearchApplication, settings: ServiceSettings, quiet: Any) -> None:
    """Start the processes and wait for them. Raises BindSearchError: they do not start."""
    waiting = MAX_WAITING + 64  # more than a process accepts: it refuses with JSON, Ray Serve without
    deployment = serve.deployment(
        serve.ingress(application)(Service),
        name="search",
        num_replicas=settings.processes,
        max_ongoing_requests=waiting,
        max_queued_requests=waiting,
        health_check_period_s=5,
        health_check_timeout_s=10,
        graceful_shutdown_timeout_s=STOP_S,
        ray_actor_options={"num_cpus": settings.num_cpus, "num_gpus": settings.num_gpus},
        logging_config=quiet,
        max_constructor_retry_count=2,
    )
    # `serve.run` waits without end for cores that the cluster does not have
    serve.api._run(deployment.bind(), name=APPLICATION, route_prefix="/", _blocking=False)
    pause = threading.Event()
    for _ in range(int(2 * START_S)):
        status = serve.status().applications.get(APPLICATION)
        state = "" if status is None else getattr(status.status, "value", status.status)
        if state == "RUNNING":
            return
        if state in ("DEPLOY_FAILED", "UNHEALTHY"):
            messages = [one.message for one in status.deployments.values()] + [status.message]
            lines = [line.strip() for text in messages for line in text.splitlines() if line.strip()]
            ours = [line for line in lines if "bindsearch.errors." in line or "Error:" in line]
            reason = (ours or lines or ["no reason is given"])[-1 if ours else 0]
            raise BindSearchError(f"the service does not start: {reason[:300]}")
        pause.wait(0.5)
    raise BindSearchError(
        f"the service does not start in {START_S:g} s: the cluster may lack free cores or GPUs (--processes)"
    )


class Service:
    """A process of the service; the application answers its requests."""


def _free_port(host: str) -> int:
    try:
        with socket.create_server((host, 0)) as listening:
            port: int = listening.getsockname()[1]
            return port
    except OSError as error:
        raise UsageError(f"cannot listen on {host} ({error.strerror or error}): give another --host") from None


def serve_store(folder: Path, settings: ServiceSettings, on_start: Callable[[str], None]) -> None:
    """Serve a sharded store until SIGINT or SIGTERM.

    Args:
        folder: Folder of the sharded store, as the nodes see it.
        settings: Settings of the service.
        on_start: Called with the address when the service answers.

    Raises:
        StoreNotFoundError: there is no sharded store.
        UsageError: the address or the token cannot be used, or Ray Serve runs on the cluster already.
        BindSearchError: the cluster cannot be used, or the service does not start.
    """
    from bindsearch.shards.ray.encoders import PoolSettings, RayEncoder

    with ExitStack() as held:
        store = held.enter_context(connect(folder, on=settings.on, replicas=settings.replicas))
        store.status()  # starts the hosts, which the processes of the service find
        pool = PoolSettings(actors=settings.encoders, num_cpus=0.0, num_gpus=settings.encoder_gpus)
        encoder = RayEncoder(store.encoder, pool)
        held.callback(encoder.close)
        open_store = partial(connect, folder, on="auto", replicas=settings.replicas, encoder=encoder)
        access = held.enter_context(running_service(open_store, settings))
        stop = threading.Event()
        held.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, lambda *_: stop.set()))
        on_start(access.url)
        with contextlib.suppress(KeyboardInterrupt):  # the way to end it
            while not stop.wait(1.0):
                pass


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
        found = await files.run(status)
        data = {
            "version": __version__,
            "store": str(found.path),
            "encoder": found.encoder,
            "dim": found.dim,
            "items": dict(found.items),
            "segments": dict(found.segments),
            "collections": [{"name": root.name or str(root), "root": str(root)} for root in found.collections],
        }
        return JSONResponse(data)

    add_faults(app)
    return app


def _no_upload(_: object) -> Upload:
    raise UsageError("a service on a cluster takes no uploads: search by text, or by the id of an indexed item")
