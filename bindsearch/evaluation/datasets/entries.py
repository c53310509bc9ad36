"""From the entries of a list to a data set: files are looked for, what is left out is counted with its reason."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from bindsearch.arguments import shown
from bindsearch.encoders.zero_shot import ClassNames
from bindsearch.errors import UsageError
from bindsearch.evaluation.datasets.dataset import MAX_ITEMS, DataSet, EvalItem, Metric
from bindsearch.evaluation.datasets.tables import LayoutError
from bindsearch.ingest.media.kinds import EXTENSIONS, SOUND_EXTENSIONS, VIDEO_EXTENSIONS
from bindsearch.types import Modality

MAX_FILES = 4_000_000
"""Most files of a folder that is searched for media by name."""

NO_FILE = "no file"


class LeftOut(NamedTuple):
    """An entry of a list that is not measured, with a reason in the same words for all entries that share it."""

    name: str
    reason: str = NO_FILE


Entry = EvalItem | LeftOut


def in_words(label: str) -> str:
    """Return a label as words: "Crying_baby" is "crying baby"."""
    return " ".join(label.replace("_", " ").lower().split())


def classes_of(labels: Iterable[str], texts: Mapping[str, Sequence[str]] | None = None) -> ClassNames:
    """Return classes in the order of their labels.

    Args:
        labels: Their labels, repeated ones too.
        texts: Names of labels that are not called by their own words.

    Raises:
        UsageError: as for `ClassNames`.
    """
    ordered = sorted(set(labels))
    known = texts or {}
    return ClassNames(tuple(ordered), tuple(tuple(known.get(label, (in_words(label),))) for label in ordered))


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return names once each, numbers among them by value."""
    return tuple(sorted(set(names), key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name)))


def assemble(
    name: str,
    modality: Modality,
    entries: Iterable[Entry],
    metric: Metric,
    *,
    classes: ClassNames | None = None,
    templates: str = "none",
    split: str,
    folds: tuple[str, ...] = (),
    candidates: tuple[EvalItem, ...] = (),
    notes: Sequence[str] = (),
) -> DataSet:
    """Return a data set, see `DataSet`, of the entries with files; notes on those that are left out come last.

    Raises:
        LayoutError: no entry has a file.
        UsageError: there are more than MAX_ITEMS entries.
    """
    items: list[EvalItem] = []
    names_of: dict[str, list[str]] = {}
    listed = 0
    for entry in map(_present, entries):
        listed += 1
        if listed > MAX_ITEMS:
            raise UsageError(f"{name} has more than {MAX_ITEMS} entries: measure a part of it")
        if isinstance(entry, EvalItem):
            items.append(entry)
        else:
            names_of.setdefault(entry.reason, []).append(entry.name)
    left_out = tuple(
        f"{len(names)} of {listed} left out: {reason} (the first: {shown(names[0])})"
        for reason, names in names_of.items()
    )
    if not items:
        raise LayoutError(left_out[0] if left_out else "its list has no entries")
    found, about = tuple(items), (*notes, *left_out)
    return DataSet(name, modality, found, classes, metric, templates, split, folds, candidates, listed, about)


def _present(entry: Entry) -> Entry:
    """Return an entry, left out if a file is missing."""
    if isinstance(entry, LeftOut) or entry.media is not None:
        return entry
    for path in (entry.path, *entry.others.values()):
        if not path.is_file():
            return LeftOut(path.name, NO_FILE if path == entry.path else "no file of its pair")
    return entry


def path_inside(folder: Path, name: str) -> Path:
    """Return the path of a file that a list names.

    Raises:
        UsageError: it is empty, or leads out of the folder.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or parts[0] == "/" or ".." in parts or parts[0][1:2] == ":" or "\0" in name:
        raise UsageError(f"{shown(name)} is not a path in {folder}: give paths relative to the list, without ..")
    return folder.joinpath(*parts)


def media_below(folder: Path, modality: Modality) -> dict[str, Path]:
    """Return the files of a folder and those below it that may be media of a modality, by name without extension.

    Sounds are looked for in videos too; of several files with one name counts a sound, else the first by path.

    Raises:
        UsageError: there are more than MAX_FILES.
    """
    wanted = _extensions_of(modality)
    found: dict[str, tuple[int, Path]] = {}
    for path in walk(folder):
        rank = wanted.get(path.suffix.lower())
        if rank is not None and (path.stem not in found or found[path.stem] > (rank, path)):
            found[path.stem] = (rank, path)
    return {stem: path for stem, (_, path) in found.items()}


def _extensions_of(modality: Modality) -> Mapping[str, int]:
    """Return the extensions that may be media of a modality, the better ones with the lower number."""
    if modality is Modality.AUDIO:
        return {**dict.fromkeys(VIDEO_EXTENSIONS, 1), **dict.fromkeys(SOUND_EXTENSIONS, 0)}
    kind = modality if modality in (Modality.VIDEO, Modality.TEXT) else Modality.IMAGE
    return {extension: 0 for extension, of in EXTENSIONS.items() if of is kind}


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures of a folder itself, in order of their names."""
    wanted = _extensions_of(Modality.IMAGE)
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in wanted)


def walk(folder: Path, leave_out: Collection[str] = ()) -> Iterator[Path]:
    """Yield the files of a folder and those below it; linked folders once.

    Args:
        folder: The folder.
        leave_out: Names of folders that are not entered.

    Raises:
        UsageError: there are more than MAX_FILES.
    """
    seen: set[tuple[int, int]] = set()
    count = 0
    for top, folders, names in os.walk(folder, followlinks=True):
        status = Path(top).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if name not in leave_out)
        count += len(names)
        if count > MAX_FILES:
            raise UsageError(f"{folder} has more than {MAX_FILES} files: give the folder of the data set")
        yield from (Path(top, name) for name in sorted(names))


def clip_file(files: Mapping[str, Path], clip_id: str, start_s: float, length_s: float = 10.0) -> Path | None:
    """Return the file of a clip of a video of YouTube by the names that downloaders give to it; None: there is none."""
    start, end = round(start_s), round(start_s + length_s)
    times = (
        f"_{start}_{end}", f"_{start:06d}_{end:06d}", f"_{start * 1000}_{end * 1000}",
        f"_{start_s:.3f}_{start_s + length_s:.3f}", f"_{start:06d}", f"_{start}", f"_{start * 1000}", "",
    )  # fmt: skip
    names = (f"{sign}{clip_id}{time}" for sign in ("", "Y") for time in times)
    return next((files[name] for name in names if name in files), None)
