"""One finding about an installation."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """Severity of a finding: nothing to do, something is missing that not everybody needs, or something is broken."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: subject, result, and what to do about it ("" where there is nothing to do)."""

    topic: str
    name: str
    level: Level
    message: str
    remedy: str = ""
