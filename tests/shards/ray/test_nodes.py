"""Shards on three nodes: lost nodes, replicas, disks of nodes, clients from elsewhere, tokens, and the service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import bindsearch as bs
from bindsearch.errors import UsageError
from bindsearch.search.query import make_query
from bindsearch.shards.store import ShardedStore
from bindsearch.views.answer_data import answer_data
from helpers.ray_nodes import Nodes, ray_nodes, seconds_until, shard_folders
from helpers.sharded import index, make_shards

pytest.importorskip("ray")

from bindsearch.server.ray_serve.deploy import ServiceSettings, running_service
from bindsearch.shards.hosts import roll
from bindsearch.shards.ray.cluster import ClusterError
from bindsearch.shards.ray.hosts import HostSettings, RayHosts, stop_hosts
from bindsearch.shards.ray.placement import look_around, reachable_nodes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Ray leaves sockets open, and warns
]

SHARDS = 6
ANSWERED_S = 15.0
ALL = dict.fromkeys(range(SHARDS))


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with ray_nodes(3, with_client=True) as nodes:
        yield nodes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "media").mkdir()
    for number in range(60):
        (tmp_path / "media" / f"{number}.txt").write_text(f"a text with the number {number}")
    index(make_shards(tmp_path / "store", SHARDS), tmp_path / "media")
    return tmp_path / "store"


def open_hosts(root: Path, **settings: Any) -> RayHosts:
    return RayHosts(root, shard_folders(root), HostSettings(**settings))


def node_to_lose(nodes: Nodes, hosts: RayHosts) -> str:
    """Return a node, not the head, that the client asks."""
    asked = {hosts.choose(number, (), None) for number in range(SHARDS)}
    return next(
        host.state.node for host in asked if host is not None and host.state.node != nodes.cluster.head_node.node_id
    )


@pytest.mark.parametrize("only_raylet", [False, True])
def test_shards_of_a_lost_node_are_answered_by_others(
    nodes: Nodes, root: Path, only_raylet: bool, record_property: Callable[[str, object], None]
) -> None:
    hosts = open_hosts(root)
    victim = node_to_lose(nodes, hosts)
    assert victim in reachable_nodes()
    nodes.kill(victim, only_raylet=only_raylet)
    started = time.monotonic()
    assert victim not in reachable_nodes()
    # Ray lets the processes of a node whose raylet has ended answer until it counts as dead
    seconds_until(hosts, lambda replies: bool(replies.missing), 60.0)
    lost = time.monotonic()
    seconds_until(hosts, lambda replies: not replies.missing, 60.0)
    record_property("missing_after_s", round(lost - started, 1))
    record_property("answered_after_s", round(time.monotonic() - lost, 1))
    assert time.monotonic() - lost < ANSWERED_S
    assert all(state.node != victim for state, _ in hosts.states())
    hosts.close()
    nodes.add()


def test_with_two_replicas_nothing_is_missing_when_a_node_is_lost(
    nodes: Nodes, root: Path, record_property: Callable[[str, object], None]
) -> None:
    hosts = open_hosts(root, replicas=2)
    of_shard: dict[int, set[str]] = {}
    for state, _ in hosts.states():
        for number in state.shards:
            of_shard.setdefault(number, set()).add(state.node)
    assert all(len(of_shard[number]) == 2 for number in range(SHARDS))
    nodes.kill(node_to_lose(nodes, hosts))
    slowest = 0.0
    for _ in range(100):
        started = time.monotonic()
        assert hosts.run("generation", ALL).missing == {}
        slowest = max(slowest, time.monotonic() - started)
        time.sleep(0.1)
    record_property("slowest_answer_s", round(slowest, 1))
    hosts.close()
    nodes.add()


def test_replicas_of_a_cluster_are_renewed_one_after_the_other(nodes: Nodes, root: Path) -> None:
    hosts = open_hosts(root, replicas=2)
    before = hosts.run("generation", ALL).results

    def change() -> dict[int, int]:
        for number in range(60):
            (root.parent / "media" / f"{number}.txt").write_text(f"another text with the number {number}")
        index(root, root.parent / "media")
        found: dict[int, int] = hosts.run("generation", ALL).results
        return found

    assert roll(hosts, change) == before
    for replica in range(2):
        after = hosts.run_replica(replica, "generation", ALL).results
        assert all(after[number] > before[number] for number in range(SHARDS))
    hosts.close()


def test_kept_hosts_outlive_their_client_until_they_are_stopped(nodes: Nodes, root: Path) -> None:
    first = open_hosts(root, keep=True)
    processes = {state.process for state, _ in first.states()}
    first.close()
    second = open_hosts(root, keep=True)
    assert {state.process for state, _ in second.states()} == processes
    second.close()
    assert stop_hosts(root) == len(processes)


def test_a_folder_that_no_node_has_is_an_error(nodes: Nodes, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"^no node of the cluster can hold a shard of .*: the folder .* is on none"):
        RayHosts(tmp_path, {0: tmp_path / "shard-0000"})
    found, problems = look_around({0: tmp_path}, 20.0)
    assert len(found) >= 3
    assert problems == []


def test_a_shard_without_folder_is_missing_and_found_when_it_is_there(nodes: Nodes, root: Path) -> None:
    folder = shard_folders(root)[2]
    folder.rename(folder.with_name("away"))
    hosts = open_hosts(root)
    assert hosts.run("generation", ALL).missing == {2: f"no node of the cluster sees its folder {folder}"}
    hosts.close()
    folder.with_name("away").rename(folder)
    hosts = open_hosts(root)
    assert hosts.run("generation", ALL).missing == {}
    hosts.close()


CONNECT = """
import sys
from bindsearch.errors import BindSearchError
from bindsearch.shards.ray.cluster import connect_cluster
from bindsearch.shards.ray.hosts import RayHosts
from helpers.ray_nodes import shard_folders
from pathlib import Path
try:
    with connect_cluster(sys.argv[1]) as cluster:
        root = Path(sys.argv[2])
        hosts = RayHosts(root, shard_folders(root))
        print(sorted(hosts.run("generation", dict.fromkeys(range(hosts.n))).results))
        hosts.close()
except BindSearchError as error:
    print(error)
"""


def connect_elsewhere(on: str, root: Path, **environment: str) -> tuple[list[str], float]:
    """Return what another process prints that connects and asks all shards, and its seconds."""
    started = time.monotonic()
    values = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment}
    run = subprocess.run(
        [sys.executable, "-c", CONNECT, on, root], env=values, capture_output=True, text=True, timeout=120, check=False
    )
    assert "Traceback" not in run.stderr, run.stderr
    return run.stdout.splitlines(), time.monotonic() - started


@pytest.mark.parametrize("is_client", [False, True])
def test_other_processes_connect_with_the_token_only(nodes: Nodes, root: Path, is_client: bool) -> None:
    on = nodes.client if is_client else nodes.address
    assert connect_elsewhere(on, root)[0] == [str([*range(SHARDS)])]
    for wrong in ({"RAY_AUTH_TOKEN": "another-token-of-some-length"}, {"RAY_AUTH_MODE": "disabled"}):
        lines, seconds = connect_elsewhere(on, root, **wrong)
        assert lines == [
            f"the Ray cluster {on} has another token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or "
            "RAY_AUTH_TOKEN_PATH, as on the head node"
        ]
        assert seconds < 20
    without = {"RAY_AUTH_TOKEN": "", "HOME": str(root)}
    assert connect_elsewhere(on, root, **without)[0][0].startswith(f"there is no token for the Ray cluster {on}: ")
    other_port = nodes.address if is_client else nodes.client.removeprefix("ray://")
    lines, _ = connect_elsewhere(f"ray://{other_port}" if is_client else other_port, root)
    assert lines[0].startswith(f"{'ray://' if is_client else ''}{other_port} is another port of a Ray cluster: ")


def ask(url: str, data: object = None, **headers: str) -> tuple[int, Any]:
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def query(text: str, k: int = 5) -> dict[str, Any]:
    return {"terms": [{"kind": "text", "source": text}], "k": k}


@pytest.mark.parametrize("has_shards", [False, True])
def test_a_service_answers_as_the_store(nodes: Nodes, root: Path, tmp_path: Path, has_shards: bool) -> None:
    token_file = tmp_path / "token"
    settings = ServiceSettings(port=0, processes=2, num_cpus=0.2, token_file=token_file)
    open_store = partial(ShardedStore, root) if has_shards else partial(bs.connect, shard_folders(root)[0])
    with running_service(open_store, settings) as access:
        token = {"Authorization": f"Bearer {token_file.read_text().strip()}"}
        url = f"http://127.0.0.1:{access.port}"
        assert ask(f"{url}/api/status") == (
            401,
            {"error": "the request needs the token: open the address that `bindsearch serve` printed"},
        )
        with open_store() as store:
            items = sum(store.status().items.values())
            for number in range(8):
                text = f"a text with the number {number}"
                status, data = ask(f"{url}/api/search", query(text), **token)
                expected = json.loads(json.dumps(answer_data(store.answer(make_query(text, k=5)))))
                assert status == 200
                assert data["command"].startswith("bindsearch search 'a text with the number")
                assert {**data, "took_ms": 0} == {**expected, "took_ms": 0, "command": data["command"]}
        status, data = ask(f"{url}/api/status", **token)
        assert (status, sum(data["items"].values())) == (200, items)
        assert ask(f"{url}/api/explain", query("a text"), **token)[0] == 200
        assert ask(f"{url}/api/search", {"terms": []}, **token)[0] == 400
        assert ask(f"{url}/api/search", query("a text", k=10**6), **token)[0] == 400
        assert ask(f"{url}/api/nothing", **token)[0] == 404
        assert ask(f"{url}/api/status", **token, Host="evil.example")[0] == 421
        with pytest.raises(UsageError, match="Ray Serve runs on this cluster already"):
            running_service(open_store, settings).__enter__()
        assert ask(f"{url}/api/status", **token)[0] == 200
    with pytest.raises(urllib.error.URLError):
        ask(f"{url}/api/status", **token)


def test_a_service_that_cannot_start_says_why(nodes: Nodes, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'nonsense' is not an address"):
        running_service(
            partial(bs.connect, tmp_path, on="nonsense"), ServiceSettings(port=0, processes=1, num_cpus=0.2)
        ).__enter__()
