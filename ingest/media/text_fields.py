"""Normal form of facts about a file: a text on one line, a time without a zone."""

from __future__ import annotations

from datetime import UTC, datetime

MAX_TEXT = 500
"""Characters of a text of metadata."""
_MAX_READ = 8 * MAX_TEXT


def normalize_text(text: str) -> str | None:
    """`text` on one line, printable and storable, of at most 500 characters; None where nothing is left."""
    shown = text[:_MAX_READ]
    if not (shown.isascii() and shown.isprintable()):
        storable = shown.encode(errors="replace").decode()
        shown = "".join(letter if letter.isprintable() else " " for letter in storable)
    return " ".join(shown.split())[:MAX_TEXT].rstrip() or None


def without_zone(moment: datetime) -> datetime | None:
    """A time as a column `taken` has it: in UTC where it names a zone, else as it stands; None where UTC has none."""
    try:
        return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
    except OverflowError:
        return None
