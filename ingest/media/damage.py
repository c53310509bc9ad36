"""The rule for damaged files of every kind: what decodes is used if it is most of the file, and a note tells it."""

from __future__ import annotations

from bindsearch.errors import MediaError
from bindsearch.media import Note

LEAST_SHARE = 0.5
"""Least share of a damaged file that has to decode."""

_WHOLE = 0.999
"""A share from which nothing is missing: headers round lengths."""


def check_damage(share: float, decoded: str, note: Note) -> None:
    """Note how much of a file decodes if not all of it does.

    Args:
        share: the share of the content that decodes, 0 to 1.
        decoded: the same for people, such as "6.2 of 8.0 s of sound" or "300 of 480 rows of pixels".
        note: takes the note.

    Raises:
        MediaError: it is less than `LEAST_SHARE`.
    """
    if share >= _WHOLE:
        return
    if share < LEAST_SHARE:
        raise MediaError(f"damaged or truncated: {decoded} can be decoded")
    note(f"damaged or truncated: {decoded} can be decoded, the rest is missing")
