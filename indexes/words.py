"""Word index: which fields (file names, captions, passages) contain a token, as one mapped file.

A field is numbered within its part of the snapshot. The file holds arrays, then 64-bit digests of their blocks, then a
sealed JSON footer and its length in 8 bytes. Blocks are compared with their digests when they are first used, so
opening a file reads little of it.
"""

from __future__ import annotations

import mmap
import os
import re
import tempfile
import unicodedata
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from bindsearch.atomic import atomic_write
from bindsearch.errors import IndexDamagedError
from bindsearch.small_files import check_seal, open_regular, parse_json_object, sealed

FORMAT = 1
"""Format of the file and of tokens; a file of another one is built again."""

BLOCK_BYTES = 1 << 18
RUN_PAIRS = 1 << 21
"""Number of pairs (token, field) that are sorted in memory at once; they take about 80 MB."""

CACHED_TOKENS = 1 << 18
MAX_LENGTH = 2**16 - 1
_ARRAYS = {"hashes": np.uint64, "starts": np.uint64, "fields": np.uint32, "lengths": np.uint16}

_ONE_EACH = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Characters that are a token each: Japanese and Chinese have no spaces between words."""
_TOKEN = re.compile(rf"[{_ONE_EACH}]|[^\W\d_{_ONE_EACH}]+|\d+")
_ACCENT = re.compile("[\u0300-\u036f]")
_CAMEL = re.compile(r"(?<=[a-zß-öø-ÿ])(?=[A-ZÀ-ÖØ-Þ])|(?<=[A-ZÀ-ÖØ-Þ])(?=[A-ZÀ-ÖØ-Þ][a-zß-öø-ÿ])")
_WHOLE = "\0"
"""First character of the token for a whole file name; no other token contains it."""


def fold(text: str) -> str:
    """Return a text in compatibility form (NFKD), case folded and without accents."""
    if text.isascii():
        return text.lower()
    return _ACCENT.sub("", unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold()))


def tokens_of(text: str) -> list[str]:
    """Return the tokens of a text in order: runs of letters and runs of digits."""
    return _TOKEN.findall(fold(text))


def tokens_of_path(path: str) -> set[str]:
    """Return the tokens of a relative path: those of the text, of words in camel case, and of the whole name.

    The whole name, with and without its extension, is a token each; see `token_of_name`.
    """
    name = path.rpartition("/")[2]
    stem = name.rpartition(".")[0] or name
    return {*tokens_of(path), *tokens_of(_CAMEL.sub(" ", path)), token_of_name(name), token_of_name(stem)}


def token_of_name(name: str) -> str:
    """Return the token for a whole file name, or for its stem."""
    return _WHOLE + fold(name.strip())


@dataclass(frozen=True, eq=False)
class Postings:
    """The fields that contain each token.

    Attributes:
        hashes: Hash of each token: uint64 (t,), ascending.
        starts: First position in `fields` of each token: uint64 (t + 1,).
        fields: Fields of each token, ascending: uint32 (p,).
        lengths: Number of tokens of each field, whole names left out: uint16 (n,).
        used: Number of fields that have tokens.
        check: Called with the name of an array and a range of its rows before they are read.
    """

    hashes: NDArray[np.uint64]
    starts: NDArray[np.uint64]
    fields: NDArray[np.uint32]
    lengths: NDArray[np.uint16]
    used: int
    check: Callable[[str, int, int], None] = lambda _name, _start, _stop: None

    def find(self, token: str) -> NDArray[np.uint32]:
        """Return the fields that contain a token, ascending: uint32 (m,); raise IndexDamagedError for damage."""
        value = np.uint64(_hash(token))
        row = int(np.searchsorted(self.hashes, value))
        if row == len(self.hashes) or self.hashes[row] != value:
            return np.zeros(0, np.uint32)
        self.check("starts", row, row + 2)
        start, stop = int(self.starts[row]), int(self.starts[row + 1])
        self.check("fields", start, stop)
        return self.fields[start:stop]

    def counts_of(self, tokens: Sequence[str]) -> NDArray[np.int64]:
        """Return the number of fields that contain each of these tokens: int64 (m,); errors as of `find`."""
        if not len(self.hashes):
            return np.zeros(len(tokens), np.int64)
        values = np.fromiter(map(_hash, tokens), np.uint64, len(tokens))
        rows = np.minimum(np.searchsorted(self.hashes, values), len(self.hashes) - 1)
        known = self.hashes[rows] == values
        for row in rows[known].tolist():
            self.check("starts", row, row + 2)
        counts = self.starts[rows + 1].astype(np.int64) - self.starts[rows].astype(np.int64)
        return np.where(known, counts, 0)

    def lengths_of(self, fields: NDArray[np.integer]) -> NDArray[np.uint16]:
        """Return the number of tokens of each field: uint16 (m,); errors as of `find`."""
        self.check("lengths", 0, len(self.lengths))
        return np.asarray(self.lengths[fields])


def postings_of(token_sets: Iterable[Collection[str]]) -> Postings:
    """Return the postings of fields, given the tokens of each, in memory."""
    runs = _Runs()
    for tokens in token_sets:
        runs.add(tokens)
    hashes, counts, fields = _group(*runs.pairs())
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint64)
    return Postings(hashes, starts, fields, np.array(runs.lengths, np.uint16), runs.used)


def write_postings(
    path: Path, source: str, token_sets: Iterable[Collection[str]], *, run_pairs: int = RUN_PAIRS
) -> None:
    """Write the postings of fields to a file, atomically; memory is bounded by `run_pairs` and the number of tokens.

    Args:
        path: The file.
        source: Digest of what the fields were read from.
        token_sets: Tokens of each field.
        run_pairs: Number of pairs that are sorted in memory at once.
    """
    with tempfile.TemporaryFile(dir=path.parent) as spill, atomic_write(path) as file:
        runs = _Runs(spill, run_pairs)
        for tokens in token_sets:
            runs.add(tokens)
        out = _BlockFile(file)
        hashes, counts = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
        for pairs in runs.sorted_pairs():
            group_hashes, group_counts, fields = _group(*pairs)
            hashes.append(group_hashes)
            counts.append(group_counts)
            out.write("fields", fields)
        out.write("lengths", np.array(runs.lengths, np.uint16))
        out.write("hashes", np.concatenate(hashes))
        out.write("starts", np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.uint64))
        out.finish({"source": source, "used": runs.used})


def open_postings(path: Path, source: str) -> Postings | None:
    """Map a file of postings; None if there is none, or if it is of another format or of other contents.

    Args:
        path: The file.
        source: Digest of what the fields should have been read from.

    Raises:
        IndexDamagedError: the file is damaged, or cannot be read.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _damaged(path, f"it cannot be read ({error.strerror or error})") from error
    try:
        length = int.from_bytes(content[-8:], "little")
        if not 0 < length <= len(content) - 8:
            raise ValueError("it is truncated")
        footer: dict[str, Any] = parse_json_object(content[-8 - length : -8])
        check_seal(footer, required=True)
        if footer["format"] != FORMAT or footer["source"] != source:
            return None
        digests = np.frombuffer(content, np.uint64, footer["blocks"], footer["end"])
        if _hash_bytes(digests.tobytes()) != footer["digests"]:
            raise ValueError("the digests of its blocks do not match their own")
        places = {name: tuple(map(int, footer["arrays"][name])) for name in _ARRAYS}
        views = {name: np.frombuffer(content, _ARRAYS[name], rows, start) for name, (start, rows) in places.items()}
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise _damaged(path, str(error)) from error
    blocks = _CheckedBlocks(path, memoryview(content)[: footer["end"]], digests)

    def check(name: str, start: int, stop: int) -> None:
        width = views[name].itemsize
        blocks.check(places[name][0] + start * width, places[name][0] + stop * width)

    check("hashes", 0, len(views["hashes"]))
    return Postings(**views, used=int(footer["used"]), check=check)


def check_postings(path: Path, source: str) -> bool:
    """Read a whole file and compare it with its digests; return whether it is there and up to date.

    Raises:
        IndexDamagedError: the file is damaged.
    """
    opened = open_postings(path, source)
    if opened is None:
        return False
    for name in _ARRAYS:
        opened.check(name, 0, len(getattr(opened, name)))
    return True


class _Runs:
    """Pairs of token and field, as sorted runs: all in memory, or with a file, all but the last in the file."""

    def __init__(self, spill: BinaryIO | None = None, run_pairs: int = RUN_PAIRS) -> None:
        self.lengths = array("H")
        self.used = 0
        self._hashes, self._fields = array("Q"), array("I")
        self._known: dict[str, int] = {}
        self._spill, self._run_pairs = spill, run_pairs
        self._runs: list[int] = []

    def add(self, tokens: Collection[str]) -> None:
        """Add the next field, given its distinct tokens."""
        field, known = len(self.lengths), self._known
        for token in tokens:
            value = known.get(token)
            if value is None:
                value = known[token] = _hash(token)
            self._hashes.append(value)
        self._fields.extend([field] * len(tokens))
        self.lengths.append(min(sum(not token.startswith(_WHOLE) for token in tokens), MAX_LENGTH))
        self.used += bool(tokens)
        if len(known) > CACHED_TOKENS:
            known.clear()
        if self._spill is not None and len(self._hashes) >= self._run_pairs:
            hashes, fields = self.pairs()
            self._spill.write(hashes.tobytes())
            self._spill.write(fields.tobytes())
            self._runs.append(len(hashes))
            del self._hashes[:], self._fields[:]

    def pairs(self) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
        """Return the pairs in memory, sorted by token, then by field."""
        hashes, fields = np.array(self._hashes, np.uint64), np.array(self._fields, np.uint32)
        order = np.argsort(hashes, kind="stable")
        return hashes[order], fields[order]

    def sorted_pairs(self) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.uint32]]]:
        """Yield all pairs, sorted by token, then by field, in groups of whole tokens."""
        runs = [self.pairs()]
        if self._spill is not None and self._runs:
            self._spill.flush()
            mapped = mmap.mmap(self._spill.fileno(), 0, access=mmap.ACCESS_READ)
            start = 0
            for number, n in enumerate(self._runs):
                arrays = np.frombuffer(mapped, np.uint64, n, start), np.frombuffer(mapped, np.uint32, n, start + 8 * n)
                runs.insert(number, arrays)
                start += 12 * n
        groups = len(runs)
        bounds = (np.arange(1, groups, dtype=np.float64) * (2.0**64 / groups)).astype(np.uint64)
        cuts = [[0, *np.searchsorted(hashes, bounds).tolist(), len(hashes)] for hashes, _ in runs]
        for group in range(groups):
            slices = [slice(cut[group], cut[group + 1]) for cut in cuts]
            hashes = np.concatenate([run[0][part] for run, part in zip(runs, slices, strict=True)])
            fields = np.concatenate([run[1][part] for run, part in zip(runs, slices, strict=True)])
            order = np.argsort(hashes, kind="stable")
            yield hashes[order], fields[order]


def _group(
    hashes: NDArray[np.uint64], fields: NDArray[np.uint32]
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.uint32]]:
    """Return distinct hashes, the number of fields of each, and the fields, given sorted pairs."""
    firsts = np.flatnonzero(np.concatenate([np.ones(min(len(hashes), 1), np.bool_), hashes[1:] != hashes[:-1]]))
    return hashes[firsts], np.diff(firsts, append=len(hashes)), fields


class _BlockFile:
    """A file that is written in arrays, with a digest of each block."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._arrays: dict[str, list[int]] = {}
        self._digests: list[int] = []
        self._pending = bytearray()
        self._size = 0

    def write(self, name: str, values: NDArray[Any]) -> None:
        """Write an array, or the next rows of the last one."""
        if name not in self._arrays:
            self._put(bytes(-self._size % 8))
            self._arrays[name] = [self._size, 0]
        self._arrays[name][1] += len(values)
        self._put(np.ascontiguousarray(values).tobytes())

    def finish(self, record: Mapping[str, object]) -> None:
        """Write the digests and the footer, which contains `record`."""
        self._put(bytes(-self._size % 8))
        self._flush(1)
        digests = np.array(self._digests, np.uint64).tobytes()
        places = {"end": self._size, "blocks": len(self._digests), "digests": _hash_bytes(digests)}
        footer = sealed({"format": FORMAT, **record, **places, "arrays": self._arrays})
        self._file.write(digests + footer + len(footer).to_bytes(8, "little"))

    def _put(self, content: bytes) -> None:
        self._pending += content
        self._size += len(content)
        self._flush(BLOCK_BYTES)

    def _flush(self, least: int) -> None:
        """Write pending blocks while there are at least this many bytes."""
        done = 0
        while len(self._pending) - done >= least:
            block = bytes(self._pending[done : done + BLOCK_BYTES])
            self._digests.append(_hash_bytes(block))
            self._file.write(block)
            done += len(block)
        del self._pending[:done]


class _CheckedBlocks:
    """Blocks of a mapped file that are compared with their digests once, before they are used."""

    def __init__(self, path: Path, content: memoryview, digests: NDArray[np.uint64]) -> None:
        self._path, self._content, self._digests = path, content, digests
        self._done = np.zeros(len(digests), np.bool_)

    def check(self, start: int, stop: int) -> None:
        """Check the blocks with these bytes; raise IndexDamagedError if one has changed."""
        first, last = start // BLOCK_BYTES, -(-stop // BLOCK_BYTES)
        if self._done[first:last].all():
            return
        for number in range(first, last):
            block = self._content[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES]
            if not self._done[number] and _hash_bytes(block) != self._digests[number]:
                raise _damaged(self._path, "its content does not match its digest")
            self._done[number] = True


def _damaged(path: Path, problem: str) -> IndexDamagedError:
    return IndexDamagedError(f"word index {path}: {problem}; run `bindsearch optimize` to rebuild it")


def _hash(token: str) -> int:
    import xxhash  # a call of `_hash_bytes` would make the words of a store a quarter slower

    return int(xxhash.xxh3_64_intdigest(token.encode("utf-8", "surrogatepass")))


def _hash_bytes(content: bytes | memoryview) -> int:
    import xxhash

    return int(xxhash.xxh3_64_intdigest(content))
