"""Aliases for former names of public attributes, for backward compatibility."""

from __future__ import annotations

from operator import attrgetter


def former_attribute(current: str) -> property:
    """Return a read-only property that is an alias of the attribute `current`."""
    return property(attrgetter(current), doc=f"The former name of `{current}`.")
