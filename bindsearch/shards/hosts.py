"""Hosts of shards: processes that hold shards and answer requests to them. The one here is this process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bindsearch.errors import BindSearchError, UsageError
from bindsearch.shards.host import ShardHost
from bindsearch.shards.layout import TIMEOUT_S


@dataclass(frozen=True)
class Replies:
    """Replies of shards to one request each."""

    results: dict[int, Any] = field(default_factory=dict)  # result by number of the shard
    missing: dict[int, str] = field(default_factory=dict)  # why a shard did not answer, by its number


class Hosts(Protocol):
    """Access to the shards of a store, in whatever processes they are."""

    n: int
    """Number of shards."""

    def run(self, method: str, requests: Mapping[int, object], timeout_s: float = TIMEOUT_S) -> Replies:
        """Call a method of ShardHost for shards, all at the same time.

        Args:
            method: Name of the method.
            requests: Argument by number of the shard.
            timeout_s: Time in seconds after which a shard counts as missing.

        Raises:
            UsageError: a shard refused its request, which all would.
        """

    def close(self) -> None:
        """Release what the hosts hold."""


def to_replies(answers: Mapping[int, object]) -> Replies:
    """Return the replies in what a host returned.

    Raises:
        UsageError: a shard refused its request, which all would.
    """
    replies = Replies()
    for number, answer in answers.items():
        if isinstance(answer, UsageError):
            raise answer
        if isinstance(answer, BindSearchError):
            replies.missing[number] = str(answer)
        else:
            replies.results[number] = answer
    return replies


class LocalHosts:
    """All shards in this process; see `Hosts`."""

    def __init__(self, paths: Mapping[int, Path], device: str = "auto") -> None:
        """Prepare to open the shards; see `ShardHost`."""
        self.n = len(paths)
        self._host = ShardHost(paths, device)

    def run(self, method: str, requests: Mapping[int, object], timeout_s: float = TIMEOUT_S) -> Replies:  # noqa: ARG002
        """Call a method for shards; see `Hosts.run`. Files of this machine answer, or fail, without a timeout."""
        return to_replies(self._host.run(method, requests))

    def close(self) -> None:
        """Close the shards."""
        self._host.close()
