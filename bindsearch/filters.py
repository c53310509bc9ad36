"""Filters: which segments may be found. Data here; `where` evaluates expressions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions that all must hold; one that is empty lets everything pass.

    `where`: an expression over the documented columns. `folders`: absolute folders, one of which must hold the item.
    `collections`: roots (absolute, or their last name), one of which must be the item's. `since_ns`, `until_ns`: bounds
    of the file's modification time in nanoseconds since 1970, the second one excluded.
    """

    where: str | None = None
    folders: tuple[str, ...] = ()
    collections: tuple[str, ...] = ()
    since_ns: int | None = None
    until_ns: int | None = None

    def __bool__(self) -> bool:
        return self != Filter()


EVERYTHING = Filter()
