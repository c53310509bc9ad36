"""What a power cut may leave of a folder: replay of recorded system calls under several policies.

A cut after the first n calls leaves what was synced, and of the rest what the policy says. Files and folders are
objects that names refer to, as inodes are: a file that is renamed keeps what was written to it.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

HEADER = struct.Struct("<cIIQQQ")


class Call(NamedTuple):
    """A recorded call.

    Attributes:
        op: c create, w write, t truncate, z zero a range, g grow, s sync a file, d sync a folder, r rename, x exchange,
            u unlink, k remove a folder, m make a folder, l symbolic link, h link, M marker.
        path: Path of the file.
        other: Second path: target of a rename or link.
        offset: Where bytes are written, or the new size.
        size: Number of bytes.
        data: What is written.
    """

    op: str
    path: str
    other: str
    offset: int
    size: int
    data: bytes


DATA, NAMES, SYNCS = "wtzg", "crxukmlh", "sd"


def read_log(path: Path) -> list[Call]:
    content, calls, at = path.read_bytes(), [], 0
    while at < len(content):
        op, path_size, other_size, offset, size, data_size = HEADER.unpack_from(content, at)
        at += HEADER.size
        ends = [at + path_size, at + path_size + other_size, at + path_size + other_size + data_size]
        name, other, data = content[at : ends[0]], content[ends[0] : ends[1]], content[ends[1] : ends[2]]
        calls.append(Call(op.decode(), name.decode(), other.decode(), offset, size, data))
        at = ends[2]
    return calls


class Policy(StrEnum):
    """What survives of what was not synced before a power cut."""

    WRITTEN = "all"
    SYNCED = "nothing"
    JOURNAL = "names in order, the start of what was written to each file"
    BLOCKS = "all names, any blocks of 4096 bytes"
    SECTORS = "names in order, any sectors of 512 bytes"
    NAMES = "any names, all bytes"
    PREFIX = "calls in order, the last write in part"
    ANYTHING = "any names, any blocks of 4096 bytes"


@dataclass(eq=False)
class Node:
    """A file, folder or symbolic link; the calls that changed a file's content, by number."""

    names: dict[str, Node] | None = None
    content: bytes = b""
    link: str | None = None
    changes: list[tuple[int, Call]] = field(default_factory=list)
    synced: int = -1


class NameChange(NamedTuple):
    """A call that changes names: the entries (folder, name, node) that it sets, None for those that it removes."""

    number: int
    entries: tuple[tuple[Node, str, Node | None], ...]


def tree(path: Path) -> Node:
    """Return the folder at `path` with all that is below it."""
    if path.is_symlink():
        return Node(link=str(path.readlink()))
    if path.is_dir():
        return Node(names={entry.name: tree(entry) for entry in path.iterdir()})
    return Node(content=path.read_bytes())


class Replay:
    """The first n calls of a log, applied to the folder as it was before them."""

    def __init__(self, before: Path, root: str, calls: Sequence[Call]) -> None:
        """Apply all calls.

        Args:
            before: A copy of the folder as it was before the first call.
            root: Path of the folder in the log.
            calls: The calls before the cut.
        """
        self.root = tree(before)
        self._prefix = root
        self._files: list[Node] = []
        self._changes: list[NameChange] = []
        self._synced_names: dict[int, int] = {}
        self._last_sync = -1
        self._originals = _copy_names(self.root)
        self._n = len(calls)
        for number, call in enumerate(calls):
            self._apply(number, call)

    def state(self, policy: Policy, chance: random.Random) -> Node:
        """Return what the cut leaves."""
        barrier = chance.randint(self._last_sync, self._n)
        keeps: Callable[[NameChange], bool]
        match policy:
            case Policy.WRITTEN | Policy.BLOCKS:
                keeps = lambda _: True  # noqa: E731
            case Policy.SYNCED:
                keeps = self._is_synced
            case Policy.JOURNAL | Policy.SECTORS | Policy.PREFIX:
                keeps = lambda change: change.number < barrier  # noqa: E731
            case Policy.NAMES | Policy.ANYTHING:
                keeps = lambda change: self._is_synced(change) or chance.random() < 0.5  # noqa: E731
        names = {folder: dict(entries) for folder, entries in self._originals.items()}
        for change in self._changes:
            if keeps(change):
                for folder, name, node in change.entries:
                    entries = names.setdefault(folder, {})
                    if node is None:
                        entries.pop(name, None)
                    else:
                        entries[name] = node
        return self._surviving(self.root, names, policy, barrier, chance)

    def _surviving(
        self,
        node: Node,
        names: Mapping[Node, dict[str, Node]],
        policy: Policy,
        barrier: int,
        chance: random.Random,
    ) -> Node:
        """Return a copy of what survives of a node and all below it."""
        if node.link is not None:
            return node
        if node.names is not None:
            below = names.get(node, {})
            return Node(
                names={name: self._surviving(below[name], names, policy, barrier, chance) for name in sorted(below)}
            )
        synced = [call for number, call in node.changes if number < node.synced]
        rest = [(number, call) for number, call in node.changes if number >= node.synced]
        loose = [call for _, call in rest]
        match policy:
            case Policy.WRITTEN | Policy.NAMES:
                content = _content(node, [*synced, *loose])
            case Policy.SYNCED:
                content = _content(node, synced)
            case Policy.JOURNAL:
                content = _content(node, [*synced, *_start(loose, chance, chance.randint(0, len(loose)))])
            case Policy.PREFIX:
                before = [call for number, call in rest if number < barrier]
                content = _content(node, [*synced, *before])
                if rest[len(before) :] and rest[len(before)][0] == barrier:
                    content = _content(node, [*synced, *_start(loose, chance, len(before))])
            case Policy.BLOCKS | Policy.SECTORS | Policy.ANYTHING:
                size = 512 if policy is Policy.SECTORS else 4096
                content = _torn(_content(node, synced), _content(node, [*synced, *loose]), size, chance)
        return Node(content=content)

    def _is_synced(self, change: NameChange) -> bool:
        return any(self._synced_names.get(id(folder), -1) > change.number for folder, _, _ in change.entries)

    def _apply(self, number: int, call: Call) -> None:
        if call.op in DATA + "s":
            node = self._find(call.path)
            if node is None:  # a file without a name
                return
            if call.op == "s":
                node.synced, self._last_sync = number, number
            else:
                node.changes.append((number, call))
        elif call.op == "d":
            folder = self._find(call.path)
            if folder is not None:
                self._synced_names[id(folder)] = self._last_sync = number
        elif call.op in NAMES:
            change = NameChange(number, self._entries(call))
            for folder, name, node in change.entries:
                assert folder.names is not None
                if node is None:
                    del folder.names[name]
                else:
                    folder.names[name] = node
            self._changes.append(change)

    def _entries(self, call: Call) -> tuple[tuple[Node, str, Node | None], ...]:
        """Return what a call that changes names does."""
        folder, name = self._parent(call.path)
        match call.op:
            case "c":
                return ((folder, name, Node()),)
            case "m":
                return ((folder, name, Node(names={})),)
            case "l":
                return ((folder, name, Node(link=call.other)),)
            case "h":
                return ((folder, name, self._known(call.other)),)
            case "u" | "k":
                return ((folder, name, None),)
        other, other_name = self._parent(call.other)
        node = self._known(call.path)
        if call.op == "x":
            return ((folder, name, self._known(call.other)), (other, other_name, node))
        return ((folder, name, None), (other, other_name, node))

    def _known(self, path: str) -> Node:
        node = self._find(path)
        assert node is not None, path
        return node

    def _parent(self, path: str) -> tuple[Node, str]:
        folder, _, name = path.rpartition("/")
        return self._known(folder), name

    def _find(self, path: str) -> Node | None:
        node: Node | None = self.root
        for part in path.removeprefix(self._prefix).split("/"):
            if part:
                node = None if node is None or node.names is None else node.names.get(part)
        return node


def write_tree(node: Node, path: Path) -> None:
    """Create what a node describes."""
    if node.link is not None:
        path.symlink_to(node.link)
    elif node.names is None:
        path.write_bytes(node.content)
    else:
        path.mkdir()
        for name, below in node.names.items():
            write_tree(below, path / name)


def files_of(node: Node, path: str = "") -> dict[str, bytes | str | None]:
    """Return the content of each file by path; that of a folder is None, that of a link its target."""
    if node.names is None:
        return {path: node.link if node.link is not None else node.content}
    found: dict[str, bytes | str | None] = {path: None}
    for name, below in node.names.items():
        found |= files_of(below, f"{path}/{name}")
    return found


def markers(calls: Iterable[Call]) -> list[tuple[int, str]]:
    """Return number and text of each marker."""
    return [(number, call.data.decode()) for number, call in enumerate(calls) if call.op == "M"]


def _copy_names(node: Node) -> dict[Node, dict[str, Node]]:
    """Return the entries of a folder and of all below it."""
    found: dict[Node, dict[str, Node]] = {}
    if node.names is not None:
        found[node] = dict(node.names)
        for below in node.names.values():
            found |= _copy_names(below)
    return found


def _content(node: Node, calls: Iterable[Call]) -> bytes:
    """Return what is in a file after some of its changes."""
    content = bytearray(node.content)
    for call in calls:
        end = call.offset + call.size
        match call.op:
            case "t":
                del content[call.offset :]
                content.extend(bytes(call.offset - len(content)))
            case "w":
                content.extend(bytes(max(0, end - len(content))))
                content[call.offset : end] = call.data
            case "g":
                content.extend(bytes(max(0, end - len(content))))
            case "z":
                stop = min(end, len(content))
                content[call.offset : stop] = bytes(max(0, stop - call.offset))
    return bytes(content)


def _start(calls: Sequence[Call], chance: random.Random, n: int) -> list[Call]:
    """Return the first n calls, and the start of the next one if it writes."""
    started = list(calls[:n])
    if n < len(calls) and calls[n].op == "w":
        call = calls[n]
        size = chance.randint(0, call.size)
        started.append(call._replace(size=size, data=call.data[:size]))
    return started


def _torn(before: bytes, after: bytes, size: int, chance: random.Random) -> bytes:
    """Return the content before with some blocks of the content after; the size is that before or after."""
    if before == after:
        return after
    share = chance.choice((0.1, 0.5, 0.9))
    length = len(after) if chance.random() < 0.8 else len(before)
    old, new = before.ljust(length, b"\0")[:length], after.ljust(length, b"\0")[:length]
    starts = range(0, length, size)
    return b"".join((new if chance.random() < share else old)[start : start + size] for start in starts)
