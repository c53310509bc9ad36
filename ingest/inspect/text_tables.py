"""Classification of text tables: motion by layout, columns, name or sidecar; a .txt of numbers is not prose."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from bindsearch.environment import raise_installation_fault
from bindsearch.errors import BindSearchError
from bindsearch.ingest.media.imu.columns import find_columns
from bindsearch.ingest.media.imu.joining import find_recording, lone_sensor
from bindsearch.ingest.media.imu.layouts import layout_by_names
from bindsearch.ingest.media.imu.structure import Structure
from bindsearch.ingest.media.imu.text_table import text_structure
from bindsearch.ingest.media.kinds import extensions_of
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.ingest.media.sniff import HEAD_BYTES
from bindsearch.types import Modality

TEXT_TABLES = extensions_of("table")
"""Extensions of text tables, besides .txt, which may be prose."""

ReadFacts: TypeAlias = Callable[[Path], Sidecar]
"""Function that returns what is declared about a file, in its sidecar, a list or a folder's settings."""

Verdict: TypeAlias = tuple[Modality | None, str]
"""Modality (None: left out), and the reason."""


def classify_text_table(
    path: Path,
    name: str,
    extension: str,
    named: tuple[Modality, str] | None,
    read_facts: ReadFacts,
    *,
    names_itself: bool,
) -> Verdict | None:
    """Return modality and reason of a text table; None for a .txt that is prose.

    Args:
        path: the file, in an archive a copy with another name.
        name: its own name.
        extension: of its name.
        named: modality that its path names, and the part of the path.
        read_facts: returns what is declared about the file.
        names_itself: the file's own name names it.
    """
    label = extension.lstrip(".")
    try:
        recording = find_recording(path)
        if recording is not None and recording.main != path.as_posix():
            return (None, f"part of {PurePosixPath(recording.main).name}")
        if recording is not None:
            others = ", ".join(sorted({PurePosixPath(part).name for part in recording.parts.values()})[:4])
            return (Modality.IMU, f"{label}, a recording with {others}")
        structure = text_structure(path)
        if extension == ".txt" and not _is_number_table(path, structure):
            return None
        names = list((structure and structure.names) or ())
        layout = layout_by_names(names or _positions(structure), structure.preamble) if structure else None
        if layout is not None:
            return (Modality.IMU, f"{label} in the layout of {layout}")
        if find_columns(names) is not None:
            return (Modality.IMU, f"{label} with accelerometer and gyroscope columns")
        sidecar = read_facts(path)
        if sidecar.axes or sidecar.layout:
            said = "axes are" if sidecar.axes else f"layout {sidecar.layout} is"
            return (Modality.IMU, f"{label} whose {said} declared")
        if (reason := lone_sensor(name, names)) is not None:
            return (None, reason)
    except (BindSearchError, OSError) as error:
        raise_installation_fault(error)
        return (None, f"not media: {error}")
    if named is not None and named[0] is Modality.IMU and extension not in (".txt", ".dat"):
        if 0 < len(names) < 6 and not names_itself:
            return (None, f"not media: {label} of {len(names)} columns in a folder named {named[1]!r}")
        return (Modality.IMU, f"{label} named {named[1]!r}")
    if named is not None and named[0] is Modality.IMU and structure is not None and structure.width in (6, 7):
        return (Modality.IMU, f"{label} named {named[1]!r}, {structure.width} columns of numbers")
    if extension == ".txt":
        return (
            None,
            "numbers, not prose, and without accelerometer and gyroscope columns: a sidecar <file>.json with axes or "
            "layout makes it motion",
        )
    return (None, f"not media: {label} without accelerometer and gyroscope columns")


def _positions(structure: Structure | None) -> list[str]:
    """Return the names of the columns of a table without header."""
    return [f"column {i}" for i in range(structure.width)] if structure else []


def _is_number_table(path: Path, structure: Structure | None) -> bool:
    """Return whether a .txt is numbers: under a tenth of its characters below the header are letters."""
    if structure is None or structure.width < 2:
        return False
    with path.open("rb") as file:
        lines = file.read(HEAD_BYTES).decode(errors="replace").splitlines()[structure.start :]
    rows = re.sub(r"(?<=\d)[eE][+-]?(?=\d)|\bnan\b", "", "".join("".join(lines).split()), flags=re.IGNORECASE)
    return sum(map(str.isalpha, rows)) < 0.1 * len(rows) and sum(map(str.isdigit, rows)) > 0.4 * len(rows)
