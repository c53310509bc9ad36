"""Deployment of a search service with Ray Serve."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bindsearch.errors import BindSearchError, UsageError
from bindsearch.server.access import Access, choose_token
from bindsearch.server.limits import RUN_S, STOP_S, WAIT_S
from bindsearch.server.ray_serve.application import MAX_WAITING, OpenStore, SearchApplication
from bindsearch.shards.connect import connect

if TYPE_CHECKING:
    from bindsearch.encoders.base import Encoder
    from bindsearch.store import Store


APPLICATION = "bindsearch"
START_S = 120.0
"""Time in seconds that the processes have to start."""


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
    _await(serve)


def _await(serve: Any) -> None:
    waiting = threading.Event()
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
        waiting.wait(0.5)
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
        open_store = partial(_open, folder, settings.replicas, encoder)
        access = held.enter_context(running_service(open_store, settings))
        stop = threading.Event()
        held.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, lambda *_: stop.set()))
        on_start(access.url)
        with contextlib.suppress(KeyboardInterrupt):  # the way to end it
            while not stop.wait(1.0):
                pass


def _open(folder: Path, replicas: int, encoder: Encoder) -> Store:
    """Open the store in a process of the service, which is part of the cluster."""
    return connect(folder, on="auto", replicas=replicas, encoder=encoder)
