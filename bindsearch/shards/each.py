"""Calls of a function for each shard, here or in other processes, and what came of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from bindsearch.errors import BindSearchError, UsageError
from bindsearch.shards.layout import ShardMap

Result = TypeVar("Result")

RunEach = Callable[[Callable[[int], Result], Sequence[int]], Mapping[int, "Result | BindSearchError"]]
"""Function that calls another one for the numbers of shards, and returns its result or its error for each.

The function that is called, and what it returns, can be sent to another process.
"""


def run_each_here(call: Callable[[int], Result], numbers: Sequence[int]) -> dict[int, Result | BindSearchError]:
    """Call a function for shards in this process, one after the other; the error of one does not end the others."""
    outcomes: dict[int, Result | BindSearchError] = {}
    for number in numbers:
        try:
            outcomes[number] = call(number)
        except BindSearchError as error:
            outcomes[number] = error
    return outcomes


def results_of(outcomes: Mapping[int, Result | BindSearchError], shards: ShardMap) -> dict[int, Result]:
    """Return the results of shards, in the order of their numbers.

    Raises:
        BindSearchError: shards have failed; it is the error of the first, with the names of the others.
    """
    errors = {number: outcome for number, outcome in outcomes.items() if isinstance(outcome, BindSearchError)}
    if not errors:
        return {number: outcomes[number] for number in sorted(outcomes)}  # type: ignore[misc]
    first = errors[min(errors)]
    if isinstance(first, UsageError) or not is_plain(first):  # an unknown option and the like is the same for all
        raise first
    if len(errors) == shards.n:
        raise type(first)(f"all {shards.n} shards failed: {first}" if shards.n > 1 else str(first))
    names = ", ".join(shards.folders[number] for number in sorted(errors)[:3]) + (", ..." if len(errors) > 3 else "")
    raise type(first)(f"{len(errors)} of {shards.n} shards failed ({names}), the others are done: {first}")


def is_plain(error: BindSearchError) -> bool:
    """Return whether an error is made of its message alone, so that it can be sent to another process."""
    return type(error).__init__ is BindSearchError.__init__
