"""Declarations about a file: by its sidecar, else by a list, else by glob, key by key.

In a cell of a list, a fact is a value as in a sidecar, its JSON, or a short text: numbers; for `axes` six names or
numbers with spaces, commas or semicolons between them; for `units` the accelerometer's and the gyroscope's, "g, deg/s";
for `invalid` numbers, "0 65535".

Facts of a sidecar or a list that the file's modality does not use are an error: they would have no effect. Those by
glob apply to the files that use them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bindsearch.errors import MediaError
from bindsearch.ingest.manifests.manifest import ManifestEntry
from bindsearch.ingest.media.sidecar import (
    FACT_NAMES,
    FACTS,
    RECORDINGS,
    Sidecar,
    is_given,
    merge_sidecars,
    parse_record,
)
from bindsearch.ingest.media.sidecar_file import sidecar_path
from bindsearch.ingest.media.text_fields import normalize_text
from bindsearch.types import Modality

MAX_CELL = 10_000
"""Maximum characters of a fact."""

CLASSIFYING = ("axes", "layout", "depth_unit", "fx", "baseline_m")
"""Facts that can tell that a table is a motion recording, and a picture or an array a depth map."""


@dataclass(frozen=True, slots=True)
class Declared:
    """Declarations about one file.

    Attributes:
        name: its name.
        sidecar: what its sidecar says.
        listed: its entry in a list; None: no list has it.
        by_glob: facts by glob, whatever its modality is.
        has_subtitles: there are subtitle files beside it, to which the facts of a video or sound apply. Without, they
            have no effect: a column of a list is the user's own then.
    """

    name: str
    sidecar: Sidecar
    listed: ManifestEntry | None
    by_glob: Sidecar
    has_subtitles: bool = False

    def for_classification(self) -> Sidecar:
        """Return what may decide the modality of a table; raise MediaError if a value in a list is wrong."""
        return merge_sidecars(self.sidecar, self._listed_facts(CLASSIFYING), self.by_glob)

    def for_modality(self, modality: Modality) -> Sidecar:
        """Return all that is declared about the file as one of a modality.

        Raises:
            MediaError: a value in a list is wrong, or a fact in the sidecar or a list has no effect.
        """
        known = FACTS.get(modality, ())
        used = known if self.has_subtitles or modality not in RECORDINGS else ()
        for name in FACT_NAMES:
            if is_given(self.sidecar, name) and name not in known:
                raise MediaError(f"sidecar {sidecar_path(Path(self.name)).name}: {_no_effect(name, modality)}")
        listed = Sidecar()
        if self.listed is not None:
            own = dict(self.listed.columns)
            for name, _ in self.listed.facts:
                if name in used:
                    own.pop(name, None)
                elif name not in own and name not in known:
                    raise MediaError(f"{self.listed.source}: {_no_effect(name, modality)}, or rename the column")
            texts = Sidecar(captions=self.listed.captions, columns=own, metadata=self.listed.metadata)
            listed = merge_sidecars(texts, self._listed_facts(used))
        by_glob = Sidecar(**{name: getattr(self.by_glob, name) for name in used})
        sidecar = self.sidecar if used == known else replace(self.sidecar, encoding=None)
        merged = merge_sidecars(sidecar, listed, by_glob)
        return merged if merged.captions else replace(merged, captions=merged.found_captions)

    def _listed_facts(self, names: Iterable[str]) -> Sidecar:
        """Return those facts of the list that have one of these names."""
        if self.listed is None or not self.listed.facts:
            return Sidecar()
        cells = {name: cell for name, cell in self.listed.facts if name in names}
        return parse_facts(cells, self.listed.source)


def _no_effect(name: str, modality: Modality) -> str:
    *others, last = (user for user, names in FACTS.items() if name in names)
    users = f"{', '.join(others)} and {last}" if others else last
    return f"{name} has no effect on {modality}, it is for {users}: remove it, or give the file's modality by a rule"


def parse_facts(cells: Mapping[str, object], source: str) -> Sidecar:
    """Return the facts in cells, by their names; `source` names the row in errors.

    Raises:
        MediaError: a value that no sidecar can have.
    """
    try:
        return parse_record({name: _value(name, cell) for name, cell in cells.items()})
    except MediaError as error:
        raise MediaError(f"{source}: {error}") from error


def _value(name: str, cell: object) -> Any:
    """Return the value of a cell as JSON would give it."""
    if isinstance(cell, Mapping):  # of a table in Parquet, whose rows have all keys
        return {key: value for key, value in cell.items() if value is not None}
    if not isinstance(cell, str):
        return cell
    if len(cell) > MAX_CELL or "\0" in cell:
        raise MediaError(f"{name} has {len(cell)} characters, or a zero byte: expected at most {MAX_CELL}, and none")
    text = cell.strip()
    if text[:1] in ("[", "{"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise MediaError(f"{name} is {normalize_text(text[:80])}, which is not valid JSON") from None
    match name:
        case "axes":
            axes = [axis for axis in re.split(r"[\s,;]+", text) if axis]
            return [int(axis) for axis in axes] if all(re.fullmatch("[0-9]{1,9}", axis) for axis in axes) else axes
        case "units":
            return _units(text)
        case "invalid":
            return [_number(number) for number in re.split(r"[\s,;]+", text) if number]
        case "fx" | "baseline_m" | "sample_rate_hz" | "depth_unit" | "rotate":
            return _number(text)
    return text


def _units(text: str) -> dict[str, str]:
    """Return the units of the accelerometer and the gyroscope."""
    units = [unit.strip() for unit in re.split("[,;]", text)]
    if len(units) != 2 or not all(units):
        raise MediaError(
            f"units is {normalize_text(text[:80])}: expected those of accelerometer and gyroscope, such as 'g, deg/s'"
        )
    return {"accelerometer": units[0], "gyroscope": units[1]}


def _number(text: str) -> float | int | str:
    """Return a text as a number; unchanged if it is none."""
    if re.fullmatch("[+-]?[0-9]{1,18}", text):
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text
