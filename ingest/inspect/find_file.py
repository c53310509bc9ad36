"""One file outside of a run, as a run on its collection would see it: for queries by file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from bindsearch.errors import BindSearchError, MediaError
from bindsearch.ingest.inspect.folder_settings import SETTINGS_FILE, read_folder_settings
from bindsearch.ingest.inspect.inspect_file import InspectOptions, SourceFile, declared_of
from bindsearch.ingest.manifests.manifest import ManifestEntry, is_manifest, read_manifest
from bindsearch.ingest.manifests.rows import DEFAULT_LIMITS, MANIFEST_NAMES, ListLimits
from bindsearch.storage.file_state import UNKNOWN_STATE
from bindsearch.types import Modality


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file with its entry in a list, and the rules and facts of its collection."""

    file: SourceFile
    options: InspectOptions


def find_file(path: Path, collections: Iterable[Path]) -> FoundFile:
    """Return a file with the settings and the lists that apply to it; nothing of it is read.

    The collection is the innermost one that contains it. A file outside of all has the settings of the nearest folder
    above it with a `.bindsearch.toml`, if there is one, and no lists. The lists of a collection are looked for in the
    file's folder and those above, up to the root; a deeper one takes precedence. A hidden file is taken as one in the
    root.

    Raises:
        MediaError: a list is damaged.
        UsageError: the settings are not valid.
    """
    path = path.absolute()
    roots = [root for root in collections if path.is_relative_to(root)]
    if roots:
        root = max(roots, key=lambda root: len(root.parts))
    else:
        root = next((folder for folder in path.parents if (folder / SETTINGS_FILE).is_file()), path.parent)
    rel_path = path.relative_to(root).as_posix()
    listed = find_listed(path, root, on_damage=_raise) if roots else None
    settings = read_folder_settings(root)
    is_hidden = any(part.startswith(".") for part in rel_path.split("/"))
    file = SourceFile(path, path.name.lstrip(".") if is_hidden else rel_path, UNKNOWN_STATE, listed=listed)
    root_name = root.name if roots else ""
    return FoundFile(file, InspectOptions(settings.rules, frozenset(Modality), root_name, settings.facts))


def declared_encoding(path: Path, collection: Path) -> str | None:
    """Return the encoding that is declared for a text of a collection; None if there is none, or it cannot be read."""
    try:
        found = find_file(path, [collection])
        return declared_of(found.file, found.options).for_modality(Modality.TEXT).encoding
    except (BindSearchError, OSError):
        return None


def find_listed(
    path: Path, root: Path, *, on_damage: Callable[[Path, Exception], None], limits: ListLimits = DEFAULT_LIMITS
) -> ManifestEntry | None:
    """Return the entry of a file in a list of its folder or one above, up to the root; None if there is none.

    As in a run, the deepest list counts, of several the last by name.

    Args:
        path: the file.
        root: root of its collection.
        on_damage: called with a list that cannot be read, and the error; the others count.
        limits: limits of lists.
    """
    rel_path = path.relative_to(root).as_posix()
    for folder in path.parents:
        if not folder.is_relative_to(root):
            break
        for name in sorted(_names(folder), reverse=True):
            file = folder / name
            try:
                if name.lower().endswith(MANIFEST_NAMES) and file != path and file.is_file() and is_manifest(file):
                    entry = read_manifest(file, root, limits, {rel_path}).entries.get(rel_path)
                    if entry is not None:
                        return entry
            except (MediaError, OSError) as error:
                on_damage(file, error)
    return None


def _raise(_: Path, error: Exception) -> None:
    raise error


def _names(folder: Path) -> list[str]:
    """Return the names in a folder; none if it cannot be read."""
    try:
        return [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError:
        return []
