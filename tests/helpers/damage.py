"""Damage of the files of a store: bits, blocks, ends, swaps, folders in place of files, values of JSON."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Damage(NamedTuple):
    """Something done to a file of a store."""

    path: Path
    kind: str


def flip_bit(path: Path, random: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    path.write_bytes(content)


def zero_block(path: Path, random: random.Random) -> None:
    content = bytearray(path.read_bytes())
    start = random.randrange(len(content)) // 512 * 512
    content[start : start + 512] = bytes(len(content[start : start + 512]))
    path.write_bytes(content)


def garble_block(path: Path, random: random.Random) -> None:
    content = bytearray(path.read_bytes())
    start = random.randrange(len(content))
    content[start : start + 64] = random.randbytes(len(content[start : start + 64]))
    path.write_bytes(content)


def truncate(path: Path, random: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: random.randrange(len(content))])


def extend(path: Path, random: random.Random) -> None:
    path.write_bytes(path.read_bytes() + random.randbytes(random.randrange(1, 5000)))


def remove(path: Path, _random: random.Random) -> None:
    path.unlink()


def make_folder(path: Path, _random: random.Random) -> None:
    path.unlink()
    path.mkdir()


def swap(path: Path, random: random.Random) -> None:
    """Exchange the file with another one of the same suffix."""
    store = next(parent for parent in path.parents if (parent / "writer.lock").exists())
    others = sorted(other for other in store.rglob(f"*{path.suffix}") if other.is_file() and other != path)
    others = [other for other in others if other.read_bytes() != path.read_bytes()]
    if others:
        other = random.choice(others)
        first, second = path.read_bytes(), other.read_bytes()
        path.write_bytes(second)
        other.write_bytes(first)


def change_json(path: Path, random: random.Random) -> None:
    """Replace one value of a JSON document by another kind or number."""
    data = json.loads(path.read_text())
    places: list[tuple[dict[str, object] | list[object], str | int]] = []

    def walk(value: object) -> None:
        if isinstance(value, dict):
            places.extend((value, key) for key in value)
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            places.extend((value, number) for number in range(len(value)))
            for inner in value:
                walk(inner)

    walk(data)
    holder, key = random.choice(places)
    values: list[object] = [None, -1, 0, 7, 1e300, 2**70, "x", "", [], {}, [[[]]], True, "../../x", "\ud800"]
    holder[key] = random.choice(values)  # type: ignore[index]
    path.write_text(json.dumps(data))


KINDS: dict[str, Callable[[Path, random.Random], None]] = {
    "flip bit": flip_bit,
    "zero block": zero_block,
    "garble block": garble_block,
    "truncate": truncate,
    "extend": extend,
    "remove": remove,
    "folder": make_folder,
    "swap": swap,
}
WEIGHTS = (8, 2, 2, 2, 1, 1, 1, 2)


def nest_deeply(path: Path, _random: random.Random) -> None:
    path.write_text("[" * 200_000)


JSON_KINDS = {**KINDS, "json": change_json, "deep json": nest_deeply}


def files_of(store: Path) -> list[Path]:
    """Return the files that the store uses."""
    current = json.loads((store / "CURRENT").read_text())
    parts = {str(number) for number in current["parts"]}
    failures = {f"snapshots/{current['failures']}/{name}" for name in ("failures.arrow", "digests.json")}
    indexes = {folder for folder, _ in current["indexes"].values()}
    used = []
    for path in store.rglob("*"):
        top, *below = path.relative_to(store).parts
        name = path.relative_to(store).as_posix()
        is_unused = (top == "snapshots" and below and below[0] not in parts and name not in failures) or (
            top == "indexes" and len(below) == 3 and below[1] not in indexes
        )
        if path.is_file() and path.name not in ("writer.lock", "writer.json") and not is_unused:
            used.append(path)
    return sorted(used)


def file_kind(store: Path, path: Path) -> str:
    """Return the kind of a store's file: its name for most, its folder for vectors and indexes."""
    top = path.relative_to(store).parts[0]
    return top if top == "vectors" else path.name


def damage(store: Path, seed: int) -> Damage:
    """Damage one file of a store; the same seed does the same to the same store."""
    chance = random.Random(seed)
    by_kind: dict[str, list[Path]] = {}
    for path in files_of(store):
        by_kind.setdefault(file_kind(store, path), []).append(path)
    path = chance.choice(by_kind[chance.choice(sorted(by_kind))])
    return Damage(path.relative_to(store), damage_file(path, chance))


def damage_file(path: Path, chance: random.Random) -> str:
    """Damage a file of a store in a way that suits its format, and return what was done."""
    if path.suffix == ".json" or path.name == "CURRENT":
        kind = chance.choice(sorted(JSON_KINDS))
        JSON_KINDS[kind](path, chance)
    else:
        (kind,) = chance.choices(list(KINDS), WEIGHTS)
        KINDS[kind](path, chance)
    return kind


def copy_store(store: Path, target: Path) -> Path:
    shutil.copytree(store, target)
    return target
