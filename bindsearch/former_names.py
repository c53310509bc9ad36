"""Former names of keywords and fields, accepted beside the current ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from operator import attrgetter
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def former_keywords(**current_of: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Accept former names of keywords of the decorated function: `former_keywords(rank="ranking")`.

    Type checkers see the current names only.

    Args:
        **current_of: The current name of each former one.

    Returns:
        A decorator. The decorated function raises TypeError when it is given a keyword by both of its names.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for former, current in current_of.items():
                if former in kwargs:
                    if current in kwargs:
                        name = function.__qualname__
                        raise TypeError(f"{name}() got {current!r} and its former name {former!r}: give {current!r}")
                    kwargs[current] = kwargs.pop(former)
            return function(*args, **kwargs)

        return call

    return decorate


def former_fields(**current_of: str) -> Callable[[type[T]], type[T]]:
    """Accept former names of fields of the decorated data class: as keywords when it is made, and to read.

    Args:
        **current_of: The current name of each former one.

    Returns:
        A decorator, to be put above `@dataclass`.
    """

    def decorate(record: type[T]) -> type[T]:
        changed: Any = record
        changed.__init__ = former_keywords(**current_of)(changed.__init__)
        for former, current in current_of.items():
            setattr(record, former, property(attrgetter(current), doc=f"Former name of `{current}`."))
        return record

    return decorate
