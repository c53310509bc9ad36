"""Connection to a Ray cluster, and one that is started on this machine."""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bindsearch.arguments import shown
from bindsearch.errors import BindSearchError, InstallationError, UsageError

logger = logging.getLogger("bindsearch.shards")

LOCAL = "local"
AUTO = "auto"
CLIENT = "ray://"
NAMESPACE = "bindsearch"
"""Namespace of the names of actors."""

CONNECT_S = 5.0
"""Time in seconds in which a cluster must answer a first call."""

PROBES = {False: "/ray.rpc.NodeInfoGcsService/GetClusterId", True: "/ray.rpc.RayletDriver/ClusterInfo"}
"""A call of gRPC that every head node, and every server of Ray Client (True), answers or refuses at once."""

STORE_BYTES = 256 << 20
"""Size of the object store of a local cluster, which holds large arguments and results."""

LOOPBACK = "127.0.0.1"
FORMS = "local, auto, ray://HOST:10001, or HOST:6379 on a machine of the cluster"
TOKEN_HELP = "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, as on the head node"

_ADDRESS = re.compile(r"(?:ray://)?(?P<host>\[[0-9a-fA-F:.]+\]|[\w.-]+):(?P<port>\d{1,5})")
_LOCATION = re.compile(r"ray://(?P<address>[^/]+)(?P<folder>/.*)")


class ClusterError(BindSearchError):
    """A Ray cluster that cannot be used: unreachable, of another version, or with another token."""


def check_ray() -> None:
    """Check that Ray is installed, without loading it; else raise InstallationError, which names the extra."""
    if find_spec("ray") is None:
        raise InstallationError("shards on a cluster need the extra [ray]", "pip install 'bindsearch[ray]'")


def split_location(text: str) -> tuple[str, Path] | None:
    """Return the address of a cluster and the folder of a store on it; None: the text is a path.

    Args:
        text: `ray://HOST:10001/data/store`: the folder is the part from the slash on, an absolute path; one relative to
            the current folder is written `ray://HOST:10001/./store`. In place of `HOST:10001` there may be `local` or
            `auto`. Characters of the folder are taken as they are written.

    Returns:
        Address as `connect_cluster` takes it, and absolute folder.

    Raises:
        UsageError: the text begins with ray:// but has no address or no folder.
    """
    if not text.startswith(CLIENT):
        return None
    parts = _LOCATION.fullmatch(text)
    if parts is None or parts["folder"] == "/":
        raise UsageError(f"{shown(text)} names no folder: write ray://HOST:10001/DIR, or ray://HOST:10001/./DIR")
    address, folder = parts["address"], parts["folder"]
    on = address if address in (LOCAL, AUTO) else f"{CLIENT}{address}"
    check_address(on)
    return on, Path.cwd() / folder.removeprefix("/./") if folder.startswith("/./") else Path(folder)


def check_address(on: str) -> None:
    """Check the form of an address; raise UsageError if it is none that `connect_cluster` takes."""
    if on not in (LOCAL, AUTO):
        _host_and_port(on)


def _host_and_port(on: str) -> tuple[str, int]:
    parts = _ADDRESS.fullmatch(on)
    if parts is None or not 0 < int(parts["port"]) < 65536:
        raise UsageError(f"{shown(on)} is not an address of a cluster: give {FORMS}")
    return parts["host"].strip("[]"), int(parts["port"])


@dataclass
class Cluster(AbstractContextManager["Cluster"]):
    """Connection of this process to a cluster; use it as a context manager, or call `close`.

    Attributes:
        address: The address as it was found: local, ray://HOST:PORT or HOST:PORT.
        is_shared: Whether the process was connected before; closing then changes nothing.
    """

    address: str
    is_shared: bool = False
    _held: ExitStack = field(default_factory=ExitStack)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect; a cluster that was started here ends."""
        self._held.close()


def connect_cluster(on: str) -> Cluster:
    """Connect this process to a Ray cluster.

    A process has one connection. If there is one already, it is shared, and stays open when what is returned is closed.

    Args:
        on: `local`: a cluster is started on this machine, reachable from it alone, and ends with the connection;
            `auto`: that of RAY_ADDRESS, or one that runs on this machine, else a local one; `ray://HOST:PORT`: one that
            is elsewhere (port of Ray Client, usually 10001); `HOST:PORT`: one that this machine is part of (port of the
            head node, usually 6379).

    Raises:
        InstallationError: Ray is not installed.
        UsageError: it is no address, or this process is connected to another cluster.
        ClusterError: the cluster does not answer, has another version of Ray or Python, or another token.
    """
    check_address(on)
    check_ray()
    if on == AUTO:
        on = os.environ.get("RAY_ADDRESS") or AUTO
        check_address(on)
    with _quiet():
        import ray

        if ray.is_initialized():
            connected = _connected_to()
            if on in (LOCAL, AUTO) or _place_of(on) == _place_of(connected):
                return Cluster(connected, is_shared=True)
            fault = f"this process is connected to the Ray cluster {connected}, not {on}"
            raise UsageError(f"{fault}: disconnect, or use auto")
        if on == LOCAL:
            return _start_local()
        if on == AUTO:
            try:
                return _join(AUTO)
            except ClusterError as error:
                if not isinstance(error.__cause__, ConnectionError) or "running" not in str(error.__cause__):
                    raise
                return _start_local()
        _check_reachable(on)
        return _join(on)


def _connected_to() -> str:
    """Return the address of the cluster that this process is connected to."""
    import ray

    if ray.util.client.ray.is_connected():
        return f"{CLIENT}{ray.util.client.ray.get_context().client_worker._conn_str}"
    return str(ray.get_runtime_context().gcs_address)


def _place_of(on: str) -> tuple[bool, str, int]:
    """Return whether an address is one of Ray Client, its host as a number if that is known, and its port."""
    host, port = _host_and_port(on)
    with suppress(OSError):
        host = socket.gethostbyname(host)
    return on.startswith(CLIENT), host, port


def _check_reachable(on: str) -> None:
    """Check that a cluster answers and takes our token, else raise ClusterError; Ray tries for up to two minutes."""
    import grpc
    from ray._private.grpc_utils import init_grpc_channel
    from ray.exceptions import AuthenticationError

    host, port = _host_and_port(on)
    channel = None
    try:
        channel = init_grpc_channel(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        channel.unary_unary(PROBES[on.startswith(CLIENT)])(b"", timeout=CONNECT_S)
    except AuthenticationError:
        raise ClusterError(f"there is no token for the Ray cluster {on}: {TOKEN_HELP}") from None
    except grpc.RpcError as error:
        status = error.code()
        if status is grpc.StatusCode.UNAUTHENTICATED:
            raise ClusterError(f"the Ray cluster {on} has another token: {TOKEN_HELP}") from None
        if status is grpc.StatusCode.UNIMPLEMENTED:
            raise ClusterError(f"{on} is another port of a Ray cluster: give {FORMS}") from None
        if status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            advice = "start it with `ray start --head`, or correct the address"
            raise ClusterError(f"no Ray cluster answers at {on}: {advice}") from None
    finally:
        if channel is not None:
            channel.close()


def _join(on: str) -> Cluster:
    """Connect to a cluster that runs. Raises ClusterError: it cannot be used."""
    import ray

    cluster = Cluster(on)
    options = {} if on.startswith(CLIENT) else {"configure_logging": False}
    try:
        ray.init(address=on, namespace=NAMESPACE, logging_level=logging.ERROR, log_to_driver=False, **options)
    except Exception as error:
        with suppress(Exception):
            ray.shutdown()
        logger.debug("connecting to %s: %s", on, error)
        raise ClusterError(f"cannot use the Ray cluster {on}: {_reason(error)}") from error
    cluster._held.callback(_disconnect)
    cluster._held.enter_context(_no_printing())
    if on == AUTO:
        cluster.address = _connected_to()
    return cluster


def _reason(error: Exception) -> str:
    """Return why a cluster refused, and the way out."""
    text = " ".join(str(error).split())
    is_refused = isinstance(error, ConnectionAbortedError)
    if "client server failed" in text:
        return "its server of Ray Client could not start a process for this client: look at its log, or try again"
    if ("ersion" in text and "Python" in text) or is_refused:
        import ray

        theirs = re.findall(r"(?:Ray|Python): (\d[\w.]*)", text)[:2]
        there = f", Ray {theirs[0]} and Python {theirs[1]}" if len(theirs) == 2 else ""
        here = f"Ray {ray.__version__} and Python {sys.version.split()[0]}"
        other = f"{'seems to have' if is_refused else 'has'} another version of Ray or Python{there}"
        return f"it {other}; here is {here}: install the same here as on its nodes"
    return text[:300] or type(error).__name__


def _start_local() -> Cluster:
    """Start a cluster that only this machine, and who knows its token, can reach; raise ClusterError if it fails."""
    import ray

    cluster = Cluster(LOCAL)
    with ExitStack() as held:
        folder = tempfile.mkdtemp(prefix="bs-ray-")
        held.callback(shutil.rmtree, folder, ignore_errors=True)
        held.enter_context(loopback_only())
        held.callback(_disconnect)
        try:
            ray.init(
                address="local",
                namespace=NAMESPACE,
                include_dashboard=False,
                object_store_memory=STORE_BYTES,
                logging_level=logging.ERROR,
                configure_logging=False,
                log_to_driver=False,
                _node_ip_address=LOOPBACK,
                _temp_dir=folder,
            )
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise ClusterError(f"a local Ray cluster does not start ({reason}): use --on ray://HOST:10001") from error
        listening = {node["NodeManagerAddress"] for node in ray.nodes()}
        if listening != {LOOPBACK}:
            way_out = "install a version of Ray that this BindSearch is tested with"
            fault = f"Ray listens on {', '.join(sorted(listening))}, not on {LOOPBACK} alone, and was stopped"
            raise ClusterError(f"{fault}: {way_out}")
        held.enter_context(_no_printing())
        cluster._held = held.pop_all()
    return cluster


def _disconnect() -> None:
    import ray

    with _quiet():
        ray.shutdown()


def _reload_token() -> None:
    """Let Ray read its token from the environment again; it keeps the first one it has read."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    AuthenticationTokenLoader.instance().reset_cache()
    Config.initialize("")


@contextmanager
def loopback_only() -> Iterator[None]:
    """Let clusters that this process starts listen on 127.0.0.1 alone, with a token of their own, without reports."""
    from ray._private import ray_constants

    values = {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # else Ray replaces 127.0.0.1 by the outer address, and binds to all
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # 15 by default: whatever else runs here would delay searches and indexing
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
    before = {name: os.environ.get(name) for name in values}
    is_networked = ray_constants.ENABLE_RAY_CLUSTER  # read from the first variable when Ray was imported
    os.environ.update(values)
    ray_constants.ENABLE_RAY_CLUSTER = False
    _reload_token()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        ray_constants.ENABLE_RAY_CLUSTER = is_networked
        _reload_token()


@contextmanager
def _no_printing() -> Iterator[None]:
    """Log what Ray prints about workers that end: it writes to the standard output, which may be JSON."""
    from ray._private import worker

    def log(data: Mapping[str, Any], ignore_prefix: bool) -> None:  # noqa: ARG001  (as Ray calls it)
        for line in data["lines"]:
            logger.info("%.300s", line.splitlines()[0] if line else "")

    printing = worker.print_to_stdstream
    worker.print_to_stdstream = log
    try:
        yield
    finally:
        worker.print_to_stdstream = printing


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray from replacing the handler of SIGTERM, and from warning."""
    import warnings

    handler = signal.getsignal(signal.SIGTERM)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            if threading.current_thread() is threading.main_thread() and handler is not None:
                signal.signal(signal.SIGTERM, handler)
