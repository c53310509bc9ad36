"""Every exception BindSearch raises on purpose.

BindSearchError                 exit code 5
├── UsageError                  2   a wrong option, query, file or value from the caller
│   ├── QuerySyntaxError        2   a query expression that does not parse (points at the character)
│   └── MediaError              2   a file that cannot be decoded (as a query; while indexing it is recorded)
├── StoreNotFoundError          4   no store there, or nothing indexed yet
├── EncoderError                4   an encoder or its weights are missing
├── InstallationError           5   a library is missing, cannot be loaded or does not fit another
├── StoreError                  5   the store is damaged or of another format or encoder
│   ├── StoreLockedError        5   another process is writing
│   └── IndexDamagedError       5   an index file is missing or damaged; derived data, so it can be rebuilt
└── VectorError                 5   a vector that must not be stored: NaN, wrong size, not unit length
"""

from __future__ import annotations


class BindSearchError(Exception):
    """Base of all BindSearch errors; the message is one line: what, the value, the way out."""

    exit_code = 5


class UsageError(BindSearchError):
    """The caller asked for something that cannot be."""

    exit_code = 2


class QuerySyntaxError(UsageError):
    """A query expression does not parse; `position` is the index of the offending character."""

    def __init__(self, message: str, expression: str, position: int) -> None:
        super().__init__(f"{message} at character {position + 1} of {expression!r}")
        self.expression = expression
        self.position = position


class MediaError(UsageError):
    """A media file cannot be decoded; the message says why and, where there is one, the way out."""


class StoreNotFoundError(BindSearchError):
    """There is no store at the given place."""

    exit_code = 4


class EncoderError(BindSearchError):
    """An encoder is unknown, or its weights or packages are missing."""

    exit_code = 4


class InstallationError(BindSearchError):
    """A library is missing, cannot be loaded or does not fit another; no file and no store is at fault.

    `fault` and `remedy` (a command, mostly) together are the message.
    """

    def __init__(self, fault: str, remedy: str = "") -> None:
        super().__init__(f"{fault}: {remedy}" if remedy else fault)
        self.fault = fault
        self.remedy = remedy


class StoreError(BindSearchError):
    """The store is damaged, of another format version, or made with another encoder."""


class StoreLockedError(StoreError):
    """Another process holds the writer's lock."""


class IndexDamagedError(StoreError):
    """A file of an index is missing, truncated, altered or of another format; building the index anew mends it."""


class VectorError(BindSearchError):
    """A vector must not enter the store."""
