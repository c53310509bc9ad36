"""Run commands that write, with their system calls recorded; started with the library of system_calls.c preloaded.

python writing.py PLACE

Each line of standard input is a name in WRITING; it is answered by a line: "" or what went wrong. Each command gets a
folder below PLACE: `before` is a copy of its disk before the command, `log` what was recorded.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from bindsearch.encoders import model_catalog
from helpers import vector_store
from helpers.bound_world import make_scenes, write_pairs, write_scenes
from helpers.children.pull import install_converter, make_source
from helpers.scenarios import (
    AT_STORE,
    IMPORT,
    INDEX,
    MERGE,
    REINDEX,
    Scenario,
    World,
    changed,
    connect,
    indexed,
    indexed_twice,
    many_texts,
    only_media,
    run,
    settings,
    with_dead_rows,
    with_export,
    with_sources,
    without_catalog,
)
from helpers.system_calls import SystemCalls

MODEL, DECODER = "stub:small/one", "unclip:org/small"
IMAGINE = (
    *("imagine", "a dog", "--out", "{disk}/a.png", "--any-space", "--model", DECODER, "--steps", "1"),
    *("--size", "32x32", "--encoder", "mini"),
)
SHARDED = (*INDEX, "--shards", "2", "--workers", "1")
CODES = ("optimize", *AT_STORE, "--index", "ivfpq", "--index-option", "lists=2")
LABELS = ("classify", "--labels", "text number,picture", *AT_STORE)


def with_failures(world: World) -> None:
    """Mend a file that failed."""
    indexed(world)
    shutil.copy(world.media / "b" / "0.png", world.media / "broken.png")


def with_column(world: World) -> None:
    indexed(world)
    run(world, (*LABELS, "--write-column", "kind"))


def moved(world: World) -> None:
    indexed(world)
    world.media.rename(world.place / "moved")


def paired(world: World) -> None:
    """Make a store whose n-th text and n-th picture share their content, and a list of these pairs."""
    n = 200
    with connect(world.store) as store:
        vectors = vector_store.gap_vectors(np.random.default_rng(5), {"text": n, "image": n})
        vector_store.write_items(store.path, vectors)
    rows = [f"like:{vector_store.ROOT}/text/{i},{vector_store.ROOT}/image/{i}" for i in range(n)]
    (world.place / "pairs.csv").write_text("\n".join(["query,answer", *rows]))


def with_scenes(world: World) -> None:
    write_scenes(world.place, make_scenes(10, 1), ["image", "thermal"])
    write_pairs(world.place / "pairs.csv", "thermal", "image", 10, validation=4, labels=("day", "night"))


def with_weights(world: World) -> None:
    (world.place / "weights.pth").write_bytes(bytes(range(256)) * 400)


def with_model(world: World) -> None:
    with_weights(world)
    run(world, PULL)


def with_decoder(world: World) -> None:
    from helpers.unclip_models import save_unclip

    save_unclip(world.place / "pipeline", 384)
    run(world, ("model", "pull", DECODER, "--from", "{place}/pipeline", "--accept-license", "--offline"))


def with_default(world: World) -> None:
    run(world, ("config", "set", "k", "20"))


def sharded(world: World) -> None:
    only_media(world)
    run(world, SHARDED)


def sharded_twice(world: World) -> None:
    sharded(world)
    for n in range(3):
        (world.media / "b" / f"{n}.txt").unlink()
    run(world, SHARDED)


def nothing(world: World) -> None:
    """Begin with an empty disk."""


PULL = ("model", "pull", MODEL, "--from", "{place}/weights.pth", "--accept-license", "--offline")
SMALL = (
    *("--modality", "thermal", "--set", "network=vit-nano", "--set", "side_px=32", "--set", "patch_px=8"),
    *("--set", "batch=4", "--set", "replication=1", "--set", "epochs=2", "--out", "night"),
)

WRITING: Mapping[str, tuple[Callable[[World], None], Sequence[str]]] = {
    "index": (only_media, INDEX),
    "index again": (changed, INDEX),
    "index shards": (only_media, SHARDED),
    "watch": (changed, ("watch", "{media}", *AT_STORE)),
    "retry": (with_failures, ("retry", *AT_STORE)),
    "reindex": (indexed_twice, REINDEX),
    "optimize": (many_texts, CODES),
    "optimize shards": (sharded, ("optimize", *AT_STORE)),
    "compact": (with_dead_rows, ("compact", *AT_STORE)),
    "compact shards": (sharded_twice, ("compact", *AT_STORE)),
    "forget": (indexed_twice, ("forget", "{media}/a", *AT_STORE)),
    "forget shards": (sharded, ("forget", "{media}/a", *AT_STORE)),
    "relocate": (moved, ("relocate", "{media}", "{place}/moved", *AT_STORE)),
    "recover": (without_catalog, ("recover", *AT_STORE)),
    "import": (with_export, IMPORT),
    "merge": (with_sources, MERGE),
    "classify": (indexed, (*LABELS, "--write-column", "kind")),
    "classify column away": (with_column, ("classify", "--remove-column", "kind", *AT_STORE)),
    "calibrate": (paired, ("calibrate", "{place}/pairs.csv", *AT_STORE)),
    "export": (indexed, ("export", "{disk}/export", *AT_STORE)),
    "reshard": (sharded, ("reshard", "--shards", "3", *AT_STORE)),
    "bind": (with_scenes, ("bind", "--pairs", "{place}/pairs.csv", *SMALL)),
    "model pull": (with_weights, PULL),
    "model remove": (with_model, ("model", "remove", MODEL)),
    "config unset": (with_default, ("config", "unset", "k")),
    "config set": (nothing, ("config", "set", "k", "20")),
    "imagine": (with_decoder, IMAGINE),
    "locate": (only_media, ("locate", "a pattern", "{media}/b/0.png", "--out", "{disk}/boxes.json")),
    "show": (only_media, ("show", "{media}/b/0.png", "--png", "{disk}/seen.png", "--encoder", "null")),
    "report": (indexed, ("report", "{place}/queries.txt", "--html", "{disk}/report.html", *AT_STORE)),
    "search": (indexed, ("search", "text number 3", "--html", "{disk}/hits.html", *AT_STORE)),
}
"""What is done before each command, and its words; the name begins with the command."""

READING: Mapping[str, str] = {
    "explain": "prints",
    "serve": "its uploads end with it",
    "status": "prints",
    "verify": "changes nothing",
    "doctor": "changes nothing",
    "duplicates": "prints",
    "encoders": "prints",
    "eval": "prints; --html writes as `report` does, and --cache a cache",
    "bench encode": "prints",
    "config show": "prints",
    "config path": "prints",
    "model list": "prints",
    "model info": "prints",
}
"""Why a command has no order of writes of its own."""


def record(name: str, place: Path) -> None:
    """Record a command."""
    prepare, command = WRITING[name]
    world, calls = World(place, place / "disk"), SystemCalls()
    world.disk.mkdir(parents=True)
    (place / "queries.txt").write_text("text number 3\n")
    os.environ["BINDSEARCH_MODELS"] = str(world.disk / "models")
    os.environ["BINDSEARCH_CONFIG"] = str(world.disk / "config" / "config.toml")
    commits = 0

    def committed() -> None:
        nonlocal commits
        commits += 1
        if name == "watch" and commits == 2:
            os.kill(os.getpid(), signal.SIGINT)  # it runs until it is interrupted

    scenario = Scenario(prepare, command, ())
    with settings(scenario):
        prepare(world)
    shutil.copytree(world.disk, place / "before")
    with settings(scenario, committed):
        calls.watch(world.disk, place / "log")
        done = run(world, command)
        calls.unwatch()
    assert done.code in (0, 1, 3, 130), (name, done)


def main() -> None:
    """Record all commands that are given."""
    install_converter()
    source, found = make_source(MODEL), model_catalog.find_model_source
    model_catalog.find_model_source = lambda name: source if name == MODEL else found(name)
    for line in sys.stdin:
        name = line.removesuffix("\n")
        problem = ""
        try:
            record(name, Path(sys.argv[1]) / name)
        except Exception as error:
            problem = repr(error)
        sys.stdout.write(f"{problem}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
