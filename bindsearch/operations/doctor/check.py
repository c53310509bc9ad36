"""Findings about an installation."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """Severity of a finding: nothing to do, an optional part is missing, or something is broken."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Check:
    """Finding about one part of an installation.

    Attributes:
        topic: Group of the finding, such as "libraries".
        name: Part that was checked.
        level: Severity.
        message: Result.
        remedy: What to do, "" if there is nothing to do.
    """

    topic: str
    name: str
    level: Level
    message: str
    remedy: str = ""
