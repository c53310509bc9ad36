"""Reading and normalization of metadata: a JSON object, a text on one line, a time without a time zone."""

from __future__ import annotations

from datetime import UTC, datetime

from bindsearch.errors import MediaError
from bindsearch.small_files import parse_json_object

MAX_TEXT = 500
"""Maximum characters of a text of metadata."""

_MAX_READ = 8 * MAX_TEXT


def normalize_text(text: str) -> str | None:
    """Return `text` on one line, printable and storable, at most 500 characters; None if nothing is left."""
    shown = text[:_MAX_READ]
    if not (shown.isascii() and shown.isprintable()):
        storable = shown.encode(errors="replace").decode()
        shown = "".join(letter if letter.isprintable() else " " for letter in storable)
    return " ".join(shown.split())[:MAX_TEXT].rstrip() or None


def without_zone(moment: datetime) -> datetime | None:
    """Return the value of a column `taken`: UTC for a time with a zone, else unchanged; None if UTC is out of range."""
    try:
        return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
    except OverflowError:
        return None


def valid_place(latitude: float | None, longitude: float | None) -> tuple[float, float] | None:
    """Return both coordinates to 1 cm; None if they are out of range, or 0, 0, which receivers write without a fix."""
    if latitude is None or longitude is None or not (abs(latitude) <= 90 and abs(longitude) <= 180):
        return None
    return (round(latitude, 7), round(longitude, 7)) if latitude or longitude else None


def parse_user_object(raw: str | bytes) -> dict[str, object]:
    """Return the JSON object in a user's text, or in its UTF-8 bytes.

    Raises:
        MediaError: it is not JSON, or not an object.
    """
    try:
        return parse_json_object(raw, finite=False)
    except ValueError as error:
        raise MediaError(f"no JSON object: {normalize_text(str(error))}") from error
