"""One finding about an installation."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad a finding is: nothing to do, something is missing that not everybody needs, or something is broken."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, what was found, and what to do about it ("" where there is nothing to do)."""

    topic: str
    name: str
    level: Level
    message: str
    remedy: str = ""
