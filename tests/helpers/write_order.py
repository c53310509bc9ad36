"""The order of recorded writes: what is wrong with it, so that a power cut could lose what was committed.

Bytes are durable if their file was synced after its last write, and a name if its folder was synced after its last
change.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from helpers.power_loss import Call, Node, files_of

LOG = "catalog.duckdb.wal"
CURRENT, STORE_FILE = "CURRENT", "store.json"
UNIMPORTANT = re.compile(
    r"\.lock$|/writer\.json$"  # locks and who holds them
    r"|/spool(/|$)"  # copies of what is being decoded
    r"|/cache(/|$)|/\.pulls(/|$)"  # drawings, and work that begins again: compared with digests when they are read
)
"""What may be lost."""


class WriteOrder:
    """The state of a folder while recorded calls are applied, and what was wrong with their order."""

    def __init__(self, before: Node) -> None:
        """Start with a folder as it was before the first call; all of it is durable."""
        self.problems: list[str] = []
        self._there = {*files_of(before)}
        self._unsynced: set[str] = set()
        self._loose: set[str] = set()
        self._content: dict[str, bytes] = {}
        self._used = {
            str(PurePosixPath(path).parent).rstrip("/"): _references(content)
            for path, content in files_of(before).items()
            if path.endswith(f"/{CURRENT}") and isinstance(content, bytes)
        }
        self._uncommitted: set[str] = set()
        self._is_committed = False

    def apply(self, call: Call) -> None:
        """Apply a call, and note what should have been durable before it."""
        path = call.path
        match call.op:
            case "w" | "t" | "z" | "g":
                if PurePosixPath(path).name == LOG and call.op == "w":
                    self._require_all(f"a commit in {path}", but=path)
                    self._is_committed = True
                    self._uncommitted.clear()
                self._unsynced.add(path)
                if call.op == "w" and CURRENT in path:
                    self._content[path] = self._content.get(path, b"") + call.data
            case "c" | "m" | "l" | "h":
                if call.op == "m" and PurePosixPath(path).parent.name == "snapshots" and not self._is_committed:
                    self.problems.append(f"{path} was begun before the commit in the catalog")
                self._there.add(path)
                self._loose.add(path)
                if call.op == "c":
                    self._content.pop(path, None)
            case "s":
                self._unsynced.discard(path)
            case "d":
                self._loose = {name for name in self._loose if str(PurePosixPath(name).parent) != (path or "/")}
            case "r":
                self._rename(path, call.other)
            case "x":
                self._require_all(f"the exchange of {path} and {call.other}")
                self._exchange(path, call.other)
            case "u" | "k":
                self._remove(path)

    def end(self) -> list[str]:
        """Return all problems, with what was not durable in the end."""
        self._require_all("the end")
        return self.problems

    def _rename(self, path: str, target: str) -> None:
        if not _is_temporary(target):
            self._require_all(f"{path} became {target}", within=path)
            if PurePosixPath(target).name in (CURRENT, STORE_FILE) or target in self._there:
                self._require_all(f"the replacement of {target}", but=path)
        if target.endswith(".arrow") and "/vectors/" in target:
            self._uncommitted.add(target)
        self._there.discard(target)
        self._move(path, target)
        self._loose.add(target)
        if PurePosixPath(target).name == CURRENT:
            store = str(PurePosixPath(target).parent).rstrip("/")
            used = _references(self._content.get(target, b"{}"))
            files = {f"{store}/{name}" for name in used}
            missing, late = sorted(files - self._there_below()), sorted(files & self._uncommitted)
            self.problems += [f"{file} is in {target} before it is there" for file in missing]
            self.problems += [f"{file} is in {target} without a commit in the catalog after it" for file in late]
            self._used[store] = used
            self._is_committed = False

    def _remove(self, path: str) -> None:
        if not (_is_temporary(path) or _is_unimportant(path)):
            self._require_all(f"the removal of {path}")
            for store, used in self._used.items():
                if path.startswith(f"{store}/") and f"{store}/{STORE_FILE}" in self._there:
                    name = path.removeprefix(f"{store}/")
                    if name in used:
                        self.problems.append(f"{path} was removed while {store}/{CURRENT} refers to it")
        self._there.discard(path)
        self._unsynced.discard(path)
        self._loose.discard(path)

    def _exchange(self, one: str, other: str) -> None:
        between = f"{one}.exchanged"
        self._move(one, between)
        self._move(other, one)
        self._move(between, other)
        self._loose |= {one, other}

    def _move(self, path: str, target: str) -> None:
        def moved(name: str) -> str:
            is_below = name == path or name.startswith(f"{path}/")
            return target + name.removeprefix(path) if is_below else name

        self._there = {*map(moved, self._there)}
        self._unsynced = {*map(moved, self._unsynced)}
        self._loose = {*map(moved, self._loose)}
        self._content = {moved(name): content for name, content in self._content.items()}
        self._used = {moved(name): used for name, used in self._used.items()}

    def _there_below(self) -> set[str]:
        """Return what is there, with all folders above."""
        return self._there | {str(parent) for path in self._there for parent in PurePosixPath(path).parents}

    def _require_all(self, moment: str, *, but: str = "", within: str = "") -> None:
        """Note what is not durable at a moment: of all, or below `within`; not of `but`, or of what is temporary."""
        for what, names in (("bytes", self._unsynced), ("name", self._loose)):
            for name in sorted(names):
                if within:
                    # the name that is given up need not be durable
                    is_wanted = name.startswith(f"{within}/") or (what == "bytes" and name == within)
                else:
                    is_wanted = not _is_temporary(name) and name != but
                if is_wanted and not _is_unimportant(name):
                    self.problems.append(f"{moment}: the {what} of {name} may be lost")


def problems_of(before: Node, root: str, calls: Iterable[Call]) -> list[str]:
    """Return what is wrong with the order of recorded calls on a folder."""
    order = WriteOrder(before)
    for call in calls:
        if call.op != "M":
            order.apply(call._replace(path=call.path.removeprefix(root), other=call.other.removeprefix(root)))
    return order.end()


def _references(content: bytes) -> frozenset[str]:
    """Return the files and folders of a store that a CURRENT refers to."""
    try:
        manifest = json.loads(content)
    except ValueError:
        return frozenset()
    vectors = (f"vectors/{modality}/{name}" for modality, files in manifest["vectors"].items() for name, *_ in files)
    folders = {*manifest["parts"], manifest.get("failures"), manifest.get("class_columns")} - {None}
    indexes = (f"indexes/{modality}/{folder}" for modality, (folder, _) in manifest["indexes"].items())
    return frozenset([*vectors, *(f"snapshots/{number}" for number in folders), *indexes])


def _is_temporary(path: str) -> bool:
    return any(part.startswith(".") and ".tmp" in part for part in PurePosixPath(path).parts)


def _is_unimportant(path: str) -> bool:
    return UNIMPORTANT.search(path) is not None
