"""Exceptions that BindSearch raises, with their exit codes.

BindSearchError                 exit code 5
├── UsageError                  2   an invalid option, query, file or value from the caller
│   ├── QuerySyntaxError        2   a query expression that does not parse (with the position)
│   └── MediaError              2   a file that cannot be decoded (in a query; while indexing it is recorded)
├── StoreNotFoundError          4   no store at that path, or nothing indexed yet
├── EncoderError                4   an encoder or its weights are missing
├── InstallationError           5   a library is missing, cannot be loaded or is incompatible
├── StoreError                  5   the store is damaged or has another format or encoder
│   ├── StoreLockedError        5   another process is writing
│   ├── StoreUnwritableError    5   the store's folder cannot be written to, or cannot be locked
│   ├── SchemaOutdatedError     5   the catalog is of an older version, and may not be upgraded by a reader
│   ├── SchemaNewerError        5   the catalog is of a newer version
│   ├── SnapshotDamagedError    5   what readers map is missing or damaged; it is derived from the catalog
│   ├── VectorFileLostError     5   a vector file is missing or damaged; its items must be embedded again
│   └── IndexDamagedError       5   an index file is missing or damaged; it can be rebuilt
└── VectorError                 5   a vector that must not be stored: NaN, wrong shape, not unit length
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

EXIT_SOME_FAILED = 3
"""Exit code of a command that is done but for some files."""


class BindSearchError(Exception):
    """Base of all BindSearch errors; the message is one line: the value, what was expected, what to do."""

    exit_code = 5

    def __reduce__(self) -> tuple[Callable[..., BindSearchError], tuple[Any, ...]]:
        """Return what other processes restore it from: constructors take other arguments than the message."""
        return _restored, (type(self), str(self), vars(self))


def _restored(kind: type[BindSearchError], message: str, attributes: Mapping[str, Any]) -> BindSearchError:
    error = kind.__new__(kind)
    error.args = (message,)
    vars(error).update(attributes)
    return error


class UsageError(BindSearchError):
    """An invalid option, query, file or value from the caller."""

    exit_code = 2


class QuerySyntaxError(UsageError):
    """A query expression that does not parse.

    Attributes:
        expression: The whole expression.
        position: Index of the offending character, from 0.
    """

    def __init__(self, message: str, expression: str, position: int) -> None:
        super().__init__(f"{message} at character {position + 1} of {expression!r}")
        self.expression = expression
        self.position = position


class MediaError(UsageError):
    """A media file that cannot be decoded; the message gives the reason and, if there is one, a remedy."""


class StoreNotFoundError(BindSearchError):
    """A path without a store, or a store in which nothing is indexed yet."""

    exit_code = 4


class EncoderError(BindSearchError):
    """An unknown encoder, or one whose weights or packages are missing."""

    exit_code = 4


class InstallationError(BindSearchError):
    """A library that is missing, cannot be loaded or is incompatible with another; files and store are not the cause.

    Attributes:
        fault: First part of the message: what is wrong.
        remedy: Second part of the message: what to do, mostly a command; may be empty.
    """

    def __init__(self, fault: str, remedy: str = "") -> None:
        super().__init__(f"{fault}: {remedy}" if remedy else fault)
        self.fault = fault
        self.remedy = remedy


class StoreError(BindSearchError):
    """A store that is damaged, has another format version, or was created with another encoder."""


class StoreLockedError(StoreError):
    """A store whose writer lock is held by another process."""


class StoreUnwritableError(StoreError):
    """A store whose folder cannot be written to, or whose file system has no locks."""


class SchemaOutdatedError(StoreError):
    """A catalog of an older version that was to be read without changing it."""


class SchemaNewerError(StoreError):
    """A catalog of a newer version; it is not damaged."""


class SnapshotDamagedError(StoreError):
    """CURRENT or a file of a snapshot that is missing, damaged or of another format; it can be rebuilt."""


class VectorFileLostError(StoreError):
    """A vector file that is missing, or whose content is proven to be damaged; not one that only cannot be read now."""


class IndexDamagedError(StoreError):
    """An index file that is missing, truncated, altered or of another format; rebuilding the index repairs it."""


class VectorError(BindSearchError):
    """A vector that must not be stored: NaN or infinity, wrong shape, or not of unit length."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its kind if the message is empty."""
    return (str(error).splitlines() or [type(error).__name__])[0]
