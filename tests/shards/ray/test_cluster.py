"""Addresses of clusters, errors of connections, and the choice of nodes; no cluster is started."""

from __future__ import annotations

import pickle
import socket
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindsearch import errors
from bindsearch.errors import BindSearchError, QuerySyntaxError, UsageError
from bindsearch.shards.ray.cluster import ClusterError, check_address, connect_cluster, split_location
from bindsearch.shards.ray.placement import place
from helpers.ray_nodes import free_port

pytest.importorskip("ray")

pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries that Ray imports


@pytest.mark.parametrize(
    ("text", "on", "folder"),
    [
        ("ray://head:10001/data/store", "ray://head:10001", Path("/data/store")),
        ("ray://[fe80::1]:10001/a b/ü%20", "ray://[fe80::1]:10001", Path("/a b/ü%20")),
        ("ray://head:10001/./store", "ray://head:10001", Path.cwd() / "store"),
        ("ray://local/data/store", "local", Path("/data/store")),
        ("ray://auto/./a/b", "auto", Path.cwd() / "a/b"),
    ],
)
def test_a_location_is_an_address_and_a_folder(text: str, on: str, folder: Path) -> None:
    assert split_location(text) == (on, folder)


def test_other_texts_are_paths() -> None:
    assert split_location("data/store") is None
    assert split_location("/ray:/x") is None


@pytest.mark.parametrize(
    "text", ["ray://head:10001", "ray://head:10001/", "ray:///data", "ray://head/data", "ray://h:0/d"]
)
def test_a_location_without_address_or_folder_is_an_error(text: str) -> None:
    with pytest.raises(UsageError, match=r"names no folder|is not an address"):
        split_location(text)


@pytest.mark.parametrize(
    "on", ["", "head", "ray://head", "head:99999", "http://head:80", "ray://head:10001/x", "a b:1"]
)
def test_what_is_no_address_is_named(on: str) -> None:
    with pytest.raises(UsageError, match=r"is not an address of a cluster: give local, auto, ray://HOST:10001"):
        check_address(on)


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_port_that_nothing_listens_on_is_an_error_at_once(scheme: str) -> None:
    started = time.monotonic()
    with pytest.raises(ClusterError, match=r"^no Ray cluster answers at .*: start it with `ray start --head`"):
        connect_cluster(f"{scheme}127.0.0.1:{free_port()}")
    assert time.monotonic() - started < 8


def test_a_server_that_does_not_answer_is_an_error_after_some_seconds(listening: int) -> None:
    started = time.monotonic()
    with pytest.raises(ClusterError, match=r"^no Ray cluster answers at"):
        connect_cluster(f"127.0.0.1:{listening}")
    assert time.monotonic() - started < 12


def test_without_ray_the_error_names_the_extra() -> None:
    code = """
        import sys
        sys.modules["ray"] = None
        from importlib.machinery import PathFinder
        class Finder(PathFinder):
            @classmethod
            def find_spec(cls, name, path=None, target=None):
                return None if name == "ray" else super().find_spec(name, path, target)
        sys.meta_path = [one for one in sys.meta_path if one is not PathFinder] + [Finder]
        del sys.modules["ray"]
        from bindsearch.shards.ray.cluster import connect_cluster
        try:
            connect_cluster("local")
        except Exception as error:
            print(error)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout == "shards on a cluster need the extra [ray]: pip install 'bindsearch[ray]'\n"


def test_importing_the_package_does_not_load_ray() -> None:
    code = (
        "import sys, bindsearch.shards.ray.hosts, bindsearch.shards.ray.encoders, bindsearch.server.ray_serve.deploy\n"
        "assert 'ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@given(
    seen=st.dictionaries(st.sampled_from("abcd"), st.frozensets(st.integers(0, 9))),
    taken=st.dictionaries(st.integers(0, 9), st.frozensets(st.sampled_from("abcd"))),
)
def test_each_shard_is_placed_on_a_node_that_sees_it(
    seen: dict[str, frozenset[int]], taken: dict[int, frozenset[str]]
) -> None:
    placed = place(range(10), seen, taken, Counter())
    nodes = {number: node for node, numbers in placed.items() for number in numbers}
    assert sum(map(len, placed.values())) == len(nodes)
    for number in range(10):
        choices = {node for node in seen if number in seen[node]}
        assert (number in nodes) == bool(choices)
        if choices:
            assert nodes[number] in (choices - taken.get(number, frozenset()) or choices)


def test_shards_are_spread_evenly_if_all_nodes_see_all() -> None:
    load: Counter[str] = Counter()
    place(range(10), dict.fromkeys("abc", frozenset(range(10))), {}, load)
    assert sorted(load.values()) == [3, 3, 4]


def kinds(kind: type[BindSearchError] = BindSearchError) -> list[type[BindSearchError]]:
    return [kind, *(below for one in kind.__subclasses__() for below in kinds(one))]


def test_errors_cross_processes_unchanged() -> None:
    for kind in kinds():
        error = errors._restored(kind, "the message: the way out", {"number": 3})
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), copy.number) == (kind, "the message: the way out", 3)
    syntax = pickle.loads(pickle.dumps(QuerySyntaxError("a word is missing", "a +", 3)))
    assert str(syntax) == "a word is missing at character 4 of 'a +'"
    assert (syntax.expression, syntax.position) == ("a +", 3)
    library = pickle.loads(pickle.dumps(errors.InstallationError("it is missing", "install it")))
    assert (str(library), library.fault, library.remedy) == ("it is missing: install it", "it is missing", "install it")
