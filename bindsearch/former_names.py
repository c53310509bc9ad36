"""Former names of public attributes and keywords, so that programs written for them still run."""

from __future__ import annotations

from operator import attrgetter


def former_attribute(current: str) -> property:
    """Return a read-only attribute that gives what the attribute `current` does."""
    return property(attrgetter(current), doc=f"The former name of `{current}`.")
