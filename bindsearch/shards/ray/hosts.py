"""Hosts of shards on a Ray cluster: one actor a node and replica, which holds all of its shards."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from bindsearch.errors import BindSearchError, UsageError
from bindsearch.shards.hosts import Replies, ShardHost
from bindsearch.shards.layout import TIMEOUT_S
from bindsearch.shards.ray.cluster import NAMESPACE, ClusterError
from bindsearch.shards.ray.placement import Sight, look_around, one_line, place, reachable_nodes, seen_shards

MAX_CONCURRENT = 16
"""Requests that a host answers at once."""

STATE_GROUP = "state"
"""Threads of a host for requests of its state."""

MAX_PENDING = 256
"""Requests of one client that may wait for a host."""

LOOK_S = 30.0
"""Time in seconds that a node has to say which shards it sees, at the start."""

LOOK_AGAIN_S = 8.0
"""Time in seconds that nodes which take connections have to say it again, when a host is lost."""

START_S = 60.0
"""Time in seconds that hosts have to start; those that need longer are used when they have."""

CHECK_S = 2.0
"""Time in seconds that a host or node has to answer when it is suspected to be dead."""

RESTART_S = 30.0
"""Time in seconds in which Ray must have restarted a host whose node is alive; then a new one is started."""

LATE = 0.25
"""Share of the timeout after which another replica is asked, too."""


@dataclass(frozen=True)
class HostSettings:
    """Settings of the hosts of a store.

    Attributes:
        replicas: Number of hosts that hold each shard, on different nodes if possible.
        device: Device to search on, as in `connect`.
        num_gpus: GPUs of each host; a fraction shares one.
        keep: Whether hosts outlive the client that started them, until `stop_hosts`; else they end with it.
    """

    replicas: int = 1
    device: str = "auto"
    num_gpus: float = 0.0
    keep: bool = False


@dataclass(frozen=True)
class HostState:
    """State of a host, as it says itself."""

    replica: int
    node: str  # id of the node that it runs on
    address: str
    process: int  # id of its process there; 0: it has not answered yet
    shards: frozenset[int]  # numbers of its shards whose folders it sees


class ShardActor:
    """A ShardHost as an actor."""

    def __init__(self, replica: int, paths: Mapping[int, Path], device: str) -> None:
        self._replica, self._paths = replica, paths
        self._host = ShardHost(paths, device)

    def run(self, method: str, requests: Mapping[int, object]) -> dict[int, object]:
        """Call a method for shards; see `ShardHost.run`."""
        return self._host.run(method, requests)

    def state(self) -> HostState:
        """Return where the host is and what it sees."""
        import ray

        node = ray.get_runtime_context().get_node_id()
        return HostState(self._replica, node, ray.util.get_node_ip_address(), os.getpid(), seen_shards(self._paths))


# what ray.method(concurrency_group=...) does: a busy host says its state at once; Ray is not loaded here
ShardActor.state.__ray_concurrency_group__ = STATE_GROUP  # type: ignore[attr-defined]


@dataclass(eq=False)
class _Host:
    """A host as a client knows it: the shards that it should hold, and why it is down since a monotonic time."""

    actor: Any
    wanted: frozenset[int]
    state: HostState
    down: str | None = None
    since: float = 0.0


class RayHosts:
    """Shards in actors of a Ray cluster; see `Hosts`. Thread-safe.

    A client sends all requests to one replica, chosen at random, as long as it answers, so that the generations of its
    answers do not alternate while replicas are renewed one after the other.
    """

    def __init__(self, root: Path, paths: Mapping[int, Path], settings: HostSettings = HostSettings()) -> None:
        """Find the hosts of a store, or start them; the process must be connected to the cluster.

        Args:
            root: Folder of the sharded store, which names its hosts.
            paths: Folder of each shard by its number, as the nodes see them.
            settings: Settings of hosts that are started.

        Raises:
            UsageError: the number of replicas is less than 1.
            ClusterError: no node sees a shard.
        """
        if settings.replicas < 1:
            raise UsageError(f"{settings.replicas} replicas: give a number of at least 1")
        self.n = len(paths)
        self.replicas = settings.replicas
        self._root, self._paths, self._settings = root, dict(paths), settings
        self._preferred = secrets.randbelow(settings.replicas)
        self._resting: set[int] = set()
        self._lock = threading.Lock()
        self._started: list[_Host] = []
        self._hosts = _find_hosts(root)
        self._closed, self._wake = threading.Event(), threading.Event()
        problems: list[str] = []
        if self._lacking():
            found, problems = look_around(self._paths, LOOK_S)
            self._start_missing(found)
        if not self._hosts:
            why = "; ".join(problems) or f"the folder {next(iter(paths.values()))} is on none of them"
            raise ClusterError(f"no node of the cluster can hold a shard of {root}: {why}")
        self._await_start()
        self._healer = threading.Thread(target=self._heal_all, name="shard-hosts", daemon=True)
        self._healer.start()

    def run(self, method: str, requests: Mapping[int, object], timeout_s: float = TIMEOUT_S) -> Replies:
        """Call a method for shards; see `Hosts.run`. A replica that fails or is late is replaced by another one."""
        return _Run(self, method, requests, timeout_s).replies()

    def run_replica(
        self, replica: int, method: str, requests: Mapping[int, object], timeout_s: float = TIMEOUT_S
    ) -> Replies:
        """Call a method for shards in one replica only."""
        return _Run(self, method, requests, timeout_s, replica).replies()

    @contextmanager
    def resting(self, replica: int) -> Iterator[None]:
        """Ask a replica only for shards that no other one answers for."""
        self._resting.add(replica)
        try:
            yield
        finally:
            self._resting.discard(replica)

    def states(self) -> list[tuple[HostState, str | None]]:
        """Return the state of each host, and why it does not answer (None: it does)."""
        with self._lock:
            return [(host.state, host.down) for host in self._hosts]

    def close(self) -> None:
        """Release the hosts; those that this client started end unless they are kept."""
        import ray

        self._closed.set()
        self._wake.set()
        self._healer.join(timeout=2 * CHECK_S)
        if not self._settings.keep:
            for host in self._started:
                with suppress(Exception):
                    ray.kill(host.actor, no_restart=True)
        self._hosts = []

    def choose(self, number: int, tried: Iterable[_Host], replica: int | None) -> _Host | None:
        """Return the host to ask for a shard next; None: there is none."""
        with self._lock:
            holding = [host for host in self._hosts if number in host.state.shards and host.down is None]
        fitting = [host for host in holding if host not in tried and replica in (None, host.state.replica)]

        def order(host: _Host) -> tuple[bool, int]:
            number = host.state.replica
            return number in self._resting, (number - self._preferred) % max(self.replicas, 1)

        return min(fitting, key=order, default=None)

    def why_down(self, number: int) -> str:
        """Return why no host answers for a shard."""
        with self._lock:
            reasons = [host.down for host in self._hosts if number in host.wanted and host.down is not None]
        return reasons[0] if reasons else f"no node of the cluster sees its folder {self._paths[number]}"

    def mark_down(self, host: _Host, reason: str) -> None:
        """Ask a host no more until it answers again."""
        with self._lock:
            if host.down is None:
                host.down = f"its host on node {host.state.address} does not answer ({reason}); it is started again"
                host.since = time.monotonic()
        self._wake.set()

    def _lacking(self) -> dict[int, set[int]]:
        """Return the shards without a host, by replica; replicas that have all are left out."""
        lacking = {replica: {*self._paths} for replica in range(self.replicas)}
        with self._lock:
            for host in self._hosts:
                lacking.get(host.state.replica, set()).difference_update(host.wanted)
        return {replica: numbers for replica, numbers in lacking.items() if numbers}

    def _start_missing(self, found: Mapping[str, Sight]) -> None:
        """Start hosts for the shards that have none, on nodes that see them."""
        seen = {node: sight.shards for node, sight in found.items()}
        with self._lock:
            known = list(self._hosts)
        load: Counter[str] = Counter()
        taken: defaultdict[int, set[str]] = defaultdict(set)
        for host in known:
            load[host.state.node] += len(host.wanted)
            for number in host.wanted:
                taken[number].add(host.state.node)
        for replica, numbers in self._lacking().items():
            for node, shards in place(sorted(numbers), seen, taken, load).items():
                host = self._start(replica, node, found[node].address, shards)
                with self._lock:
                    self._hosts.append(host)
                self._started.append(host)
                for number in shards:
                    taken[number].add(node)

    def _start(self, replica: int, node: str, address: str, shards: list[int]) -> _Host:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as OnNode

        paths = {number: self._paths[number] for number in shards}
        name = f"{_store_key(self._root)}/{replica}/{node}/{_digest(repr(sorted(shards)))}"
        actor = (
            ray.remote(concurrency_groups={STATE_GROUP: 1})(ShardActor)
            .options(
                name=name,
                namespace=NAMESPACE,
                get_if_exists=True,
                lifetime="detached" if self._settings.keep else None,
                max_restarts=-1,
                max_task_retries=0,
                max_concurrency=MAX_CONCURRENT,
                max_pending_calls=MAX_PENDING,
                num_cpus=0,
                num_gpus=self._settings.num_gpus,
                scheduling_strategy=OnNode(node, soft=False),
            )
            .remote(replica, paths, self._settings.device)
        )
        return _Host(actor, frozenset(shards), HostState(replica, node, address, 0, frozenset(shards)))

    def _await_start(self) -> None:
        """Wait until the new hosts answer; those that do not are down."""
        import ray

        asked = {host.actor.state.remote(): host for host in self._started}
        ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=START_S) if asked else ([], [])
        for reference in ready:
            try:
                asked[reference].state = ray.get(reference, timeout=CHECK_S)
            except Exception as error:
                self.mark_down(asked[reference], one_line(error))
        for reference in late:
            self.mark_down(asked[reference], f"not started in {START_S:g} s")

    def _heal_all(self) -> None:
        """Bring back hosts that are down, until the client is closed."""
        while not self._closed.is_set():
            self._wake.wait(timeout=CHECK_S)
            self._wake.clear()
            with self._lock:
                down = [host for host in self._hosts if host.down is not None]
            for host in down:
                if self._closed.is_set():
                    return
                with suppress(Exception):  # tried again after a moment; nothing may end this thread
                    self._heal(host)
            if down:
                self._closed.wait(0.2)
                self._wake.set()

    def _heal(self, host: _Host) -> None:
        import ray
        from ray.exceptions import ActorUnavailableError, GetTimeoutError

        is_lost = False
        try:
            state = ray.get(host.actor.state.remote(), timeout=CHECK_S)
            if state.shards >= host.wanted:
                with self._lock:
                    host.state, host.down = state, None
                return
            is_lost = True  # restarted where not all of its shards are
        except (GetTimeoutError, ActorUnavailableError):
            pass  # it may be starting
        except Exception:
            is_lost = True
        reached = reachable_nodes()
        is_due = is_lost or time.monotonic() - host.since >= RESTART_S
        if not is_due and host.state.node in reached:
            return  # a process that is late on a busy node is not lost: a new one would be later
        found, _ = look_around(self._paths, LOOK_AGAIN_S if reached else CHECK_S, reached)
        if not is_due and not reached and host.state.node in found:
            return
        if not any(sight.shards & host.wanted for sight in found.values()):
            return  # no other node can hold them: wait for this one, or for one that can
        with suppress(Exception):
            ray.kill(host.actor, no_restart=True)  # frees its name, and keeps Ray from restarting it elsewhere
        with self._lock:
            self._hosts.remove(host)
        before = len(self._started)
        self._start_missing(found)
        for new in self._started[before:]:
            self.mark_down(new, "it is starting")


@dataclass
class _Run:
    """One call of a method for several shards; `requests`: argument by shard; `replica`: the only one to ask."""

    hosts: RayHosts
    method: str
    requests: Mapping[int, object]
    timeout_s: float
    replica: int | None = None
    _sent: dict[Any, tuple[_Host, list[int]]] = field(default_factory=dict)
    _tried: dict[int, list[_Host]] = field(default_factory=dict)
    _reasons: dict[int, str] = field(default_factory=dict)
    _found: Replies = field(default_factory=Replies)

    def replies(self) -> Replies:
        """Send the requests, and return what is answered in time; raise the UsageError of a shard, which all would."""
        import ray

        started = time.monotonic()
        end, late = started + self.timeout_s, started + LATE * self.timeout_s
        self._tried = {number: [] for number in self.requests}
        self._send(self.requests)
        while self._sent and self._open():
            now = time.monotonic()
            if now >= end:
                break
            if now >= late:
                late = end
                self._send(self._open())
            ready, _ = ray.wait(list(self._sent), num_returns=1, timeout=max(0.0, min(late, end) - time.monotonic()))
            for reference in ready:
                self._receive(reference, end)
        for host, numbers in self._sent.values():
            if not self._found.results.keys() >= set(numbers):
                self.hosts.mark_down(host, f"no answer in {self.timeout_s:g} s")
        for number in self._open():
            self._found.missing[number] = self._reasons.get(number) or f"no answer in {self.timeout_s:g} s"
        return self._found

    def _open(self) -> list[int]:
        return [number for number in self.requests if number not in self._found.results]

    def _send(self, numbers: Iterable[int]) -> None:
        """Send requests to hosts that were not asked for these shards yet, one call each."""
        waiting = list(numbers)
        while waiting:
            of_host: dict[_Host, list[int]] = {}
            for number in waiting:
                host = self.hosts.choose(number, self._tried[number], self.replica)
                if host is not None:
                    of_host.setdefault(host, []).append(number)
                elif not self._tried[number]:
                    self._reasons[number] = self.hosts.why_down(number)
            waiting = []
            for host, shards in of_host.items():
                for number in shards:
                    self._tried[number].append(host)
                try:
                    reference = host.actor.run.remote(self.method, {number: self.requests[number] for number in shards})
                except Exception as error:
                    waiting += self._failed(host, shards, error)
                else:
                    self._sent[reference] = (host, shards)

    def _receive(self, reference: Any, end: float) -> None:
        """Take the answers of a host; ask others for the shards without one."""
        import ray

        host, shards = self._sent.pop(reference)
        try:
            answers = ray.get(reference, timeout=max(0.1, end - time.monotonic()))
        except Exception as error:
            self._send(self._failed(host, shards, error))
            return
        again = []
        for number, answer in answers.items():
            if isinstance(answer, UsageError):
                raise answer
            if isinstance(answer, BindSearchError):
                self._reasons[number] = str(answer)
                again.append(number)
            else:
                self._found.results.setdefault(number, answer)
        self._send(again)

    def _failed(self, host: _Host, shards: list[int], error: Exception) -> list[int]:
        """Note why a call failed, and return the shards that have no answer."""
        from ray.exceptions import PendingCallsLimitExceeded, RayTaskError

        is_alive = isinstance(error, PendingCallsLimitExceeded | RayTaskError)
        reason = "too many requests wait" if isinstance(error, PendingCallsLimitExceeded) else one_line(error)
        if not is_alive:
            self.hosts.mark_down(host, reason)
        for number in shards:
            self._reasons[number] = f"its host on node {host.state.address} failed: {reason}"
        return [number for number in shards if number not in self._found.results]


def stop_hosts(root: Path) -> int:
    """End all hosts of a store, and return their number; the process must be connected to the cluster."""
    import ray

    handles = _handles(root)
    for actor in handles.values():
        ray.kill(actor, no_restart=True)
    return len(handles)


def replicas_of(root: Path) -> int:
    """Return the number of replicas of a store's hosts that run; the process must be connected to the cluster."""
    return max((host.state.replica + 1 for host in _find_hosts(root)), default=0)


def _find_hosts(root: Path) -> list[_Host]:
    """Return the hosts of a store that answer, whoever started them."""
    import ray

    found = []
    asked = {actor.state.remote(): actor for actor in _handles(root).values()}
    ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=CHECK_S) if asked else ([], [])
    for reference in ready:
        actor = asked[reference]
        with suppress(Exception):
            state = ray.get(reference, timeout=CHECK_S)
            found.append(_Host(actor, state.shards, state))
    return found


def _handles(root: Path) -> dict[str, Any]:
    import ray

    prefix = f"{_store_key(root)}/"
    handles = {}
    for entry in ray.util.list_named_actors(all_namespaces=True):
        if entry["namespace"] == NAMESPACE and entry["name"].startswith(prefix):
            with suppress(ValueError):  # ended meanwhile
                handles[entry["name"]] = ray.get_actor(entry["name"], namespace=NAMESPACE)
    return handles


def _store_key(root: Path) -> str:
    return f"store-{_digest(str(root))}"


def _digest(text: str) -> str:
    return blake2b(text.encode(errors="surrogateescape"), digest_size=8).hexdigest()
