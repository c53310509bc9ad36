"""Settings of a collection, in `.bindsearch.toml` of its root: modalities and facts of many files, by glob.

    [as]
    depth = ["**/depth/*.png", "scan_*.tif"]
    thermal = "flir/*.jpg"

    [facts."**/imu/*.csv"]
    sample_rate_hz = 50
    units = { accelerometer = "g", gyroscope = "deg/s" }

    [zip_names]
    "from_windows/*.zip" = "cp866"

`default_ignore = false` above the tables: nothing is ignored by default (ingest/scan/default_ignores.py).

A table [options] has defaults of options for commands that are run in the folder (cli/settings); it does not change how
the folder is indexed.

The keys of facts are those of a sidecar (ingest/media/sidecar.py). As with rules, the first table that matches a file
and has a key decides, key by key. Facts apply to the files whose modality uses them, and to no others.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bindsearch.arguments import did_you_mean
from bindsearch.errors import MediaError, UsageError
from bindsearch.ingest.archives.names import parse_encoding
from bindsearch.ingest.inspect.globs import globs_below, matching_globs, parse_glob
from bindsearch.ingest.inspect.rules import Rule, make_rule
from bindsearch.ingest.media.sidecar import (
    FACT_NAMES,
    FACTS,
    Sidecar,
    decode_facts,
    is_given,
    merge_sidecars,
    parse_record,
)
from bindsearch.small_files import read_small_file
from bindsearch.types import Modality

SETTINGS_FILE = ".bindsearch.toml"
_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class FolderFacts:
    """Facts, each with its glob; the first one that matches and has a key decides."""

    globs: tuple[str, ...] = ()
    facts: tuple[Sidecar, ...] = ()
    _merged: dict[int, tuple[Sidecar, int]] = field(default_factory=dict, compare=False, repr=False)

    def at(self, rel_path: str) -> Sidecar:
        """Return the facts of the file at a path inside the collection, whatever its modality is."""
        return self._at(rel_path)[0]

    def stamp(self, rel_path: str) -> int:
        """Return a number from 0 to 2^63 - 1 that changes with the facts of a file; 0 if there are none."""
        return self._at(rel_path)[1]

    def _at(self, rel_path: str) -> tuple[Sidecar, int]:
        """Return the facts of a file and their stamp, which all files that match the same globs share."""
        matching = matching_globs(self.globs, rel_path) if self.globs else 0
        if matching not in self._merged:
            merged = merge_sidecars(*(self.facts[i] for i in _ones(matching)))
            self._merged[matching] = merged, hash_text(decode_facts(merged))
        return self._merged[matching]

    def stamp_below(self, folder: str) -> int:
        """Return a number that changes with all that may apply to files in or below a folder or archive; 0 if none."""
        may_match = _ones(globs_below(self.globs, folder)) if self.globs else ()
        return hash_text("\n".join(f"{self.globs[i]} {decode_facts(self.facts[i])}" for i in may_match))

    def unused(self, files: Iterable[tuple[str, Modality | None]]) -> list[str]:
        """Return the globs that match none of these files to which one of their facts applies.

        Args:
            files: path and modality of each file; None: unknown, it may be any.
        """
        users = [
            {modality for modality, names in FACTS.items() if any(is_given(facts, name) for name in names)}
            for facts in self.facts
        ]
        unused = {*range(len(self.globs))}
        for path, modality in files:
            if not unused:
                break
            matching = unused.intersection(_ones(matching_globs(self.globs, path)))
            unused -= {i for i in matching if modality is None or modality in users[i]}
        return [self.globs[i] for i in sorted(unused)]


NO_FACTS = FolderFacts()


@dataclass(frozen=True)
class FolderSettings:
    """Content of a `.bindsearch.toml`.

    Attributes:
        rules: classification rules, in their order.
        facts: facts by glob.
        zip_names: glob of zips, and the encoding of names in them that do not say theirs; the first match decides.
        default_ignore: files and folders of systems and programs are ignored.
    """

    rules: tuple[Rule, ...] = ()
    facts: FolderFacts = NO_FACTS
    zip_names: tuple[tuple[str, str], ...] = ()
    default_ignore: bool = True


def _ones(bits: int) -> list[int]:
    """Return the positions of the bits that are 1, the lowest first."""
    return [i for i in range(bits.bit_length()) if bits >> i & 1]


def hash_text(text: str) -> int:
    """Return a number from 1 to 2^63 - 1 for a text; 0 for an empty one."""
    import xxhash

    return int(xxhash.xxh3_64_intdigest(text.encode())) >> 1 or 1 if text else 0


def read_folder_settings(root: Path) -> FolderSettings:
    """Read `.bindsearch.toml` in a collection's root; empty settings if there is no such file.

    Raises:
        UsageError: it is not valid TOML, or contains anything but rules and facts.
    """
    file = root / SETTINGS_FILE
    try:
        raw = read_small_file(file, _MAX_BYTES)
    except FileNotFoundError:
        return FolderSettings()
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
    try:
        settings = tomllib.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file} is not valid TOML: {error}") from error
    known = ("as", "facts", "zip_names", "default_ignore", "options")
    if unknown := sorted(settings.keys() - {*known}):
        near = did_you_mean(unknown[0], known)
        expected = f"{near}expected [as], [facts.GLOB], [zip_names], [options] or default_ignore"
        raise UsageError(f"{file}: unknown key {unknown[0]!r:.80}: {expected}")
    if not isinstance(options := settings.get("options", {}), dict):
        raise UsageError(f"{file}: options is {options!r:.80}: expected a table of OPTION = VALUE")
    default_ignore = settings.get("default_ignore", True)
    if not isinstance(default_ignore, bool):
        raise UsageError(f"{file}: default_ignore is {default_ignore!r:.80}: expected true or false")
    rules, facts = _rules(settings.get("as", {}), file), _facts(settings.get("facts", {}), file)
    return FolderSettings(rules, facts, _zip_names(settings.get("zip_names", {}), file), default_ignore)


def _zip_names(table: Any, file: Path) -> tuple[tuple[str, str], ...]:
    """Return globs and encodings of the table [zip_names]."""
    if not isinstance(table, dict) or not all(isinstance(encoding, str) for encoding in table.values()):
        raise UsageError(f'{file}: zip_names is {table!r:.80}: expected a table of "GLOB" = "ENCODING"')
    where = f"{file}: [zip_names]"
    return tuple((parse_glob(glob, where), parse_encoding(encoding, where)) for glob, encoding in table.items())


def _rules(table: Any, file: Path) -> tuple[Rule, ...]:
    """Return the rules of the table [as]."""
    if not isinstance(table, dict):
        raise UsageError(f"{file}: as is {table!r}: expected a table of MODALITY = [GLOB, ...]")
    rules = []
    for name, globs in table.items():
        for glob in [globs] if isinstance(globs, str) else globs if isinstance(globs, list) else [None]:
            if not isinstance(glob, str):
                raise UsageError(f"{file}: {name} is {globs!r}: expected a glob or a list of globs")
            rules.append(make_rule(name, glob, str(file)))
    return tuple(rules)


def _facts(tables: Any, file: Path) -> FolderFacts:
    """Return the facts of the tables [facts.GLOB]."""
    if not isinstance(tables, dict) or not all(isinstance(table, Mapping) for table in tables.values()):
        raise UsageError(f'{file}: [facts] is not a table of tables: expected [facts."**/imu/*.csv"], then KEY = VALUE')
    globs, facts = [], []
    for glob, table in tables.items():
        where = f"{file}: [facts.{glob[:80]!r}]"
        globs.append(parse_glob(glob, where))
        for name in table:
            if name not in FACT_NAMES:
                near = did_you_mean(name, FACT_NAMES)
                raise UsageError(f"{where}: unknown key {name[:80]!r}: {near}expected one of {', '.join(FACT_NAMES)}")
        if not table:
            raise UsageError(f"{where} is empty: give a fact, such as sample_rate_hz = 50, or remove it")
        try:
            facts.append(parse_record(table))
        except MediaError as error:
            raise UsageError(f"{where}: {error}") from error
    return FolderFacts(tuple(globs), tuple(facts))
