"""Declarations about a file: by its sidecar, else by a list, else by glob, key by key.

Facts of a sidecar or a list that the file's modality does not use are an error: they would have no effect. Those by
glob apply to the files that use them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from bindsearch.errors import MediaError
from bindsearch.ingest.inspect.folder_settings import FolderFacts
from bindsearch.ingest.manifests.facts import parse_facts
from bindsearch.ingest.manifests.manifest import ManifestEntry
from bindsearch.ingest.media.sidecar import (
    FACT_NAMES,
    FACTS,
    RECORDINGS,
    Sidecar,
    is_given,
    merge_sidecars,
)
from bindsearch.ingest.media.sidecar_file import read_sidecar, sidecar_path
from bindsearch.types import Modality

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
        """Return what may decide the modality of a table.

        Raises:
            MediaError: a value in a list is wrong.
        """
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


def read_declared(
    path: Path,
    rel_path: str,
    facts: FolderFacts,
    listed: ManifestEntry | None,
    sidecar: Sidecar | None = None,
    *,
    has_subtitles: bool = False,
) -> Declared:
    """Return what is declared about a file.

    Args:
        path: where its bytes are.
        rel_path: its path inside the collection.
        facts: facts of the collection by glob.
        listed: its entry in a list.
        sidecar: its sidecar in an archive; None: that beside it is read, if there is one.
        has_subtitles: there are subtitle files beside it.

    Raises:
        MediaError: its sidecar is damaged.
    """
    name = rel_path.rsplit("/", 1)[-1]
    found = read_sidecar(path) if sidecar is None else sidecar
    return Declared(name, found, listed, facts.at(rel_path), has_subtitles)


def _no_effect(name: str, modality: Modality) -> str:
    *others, last = (user for user, names in FACTS.items() if name in names)
    users = f"{', '.join(others)} and {last}" if others else last
    return f"{name} has no effect on {modality}, it is for {users}: remove it, or give the file's modality by a rule"
