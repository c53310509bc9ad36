"""Archives in a run: members are extracted a few at a time and indexed like files; then the archive is recorded."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp

from bindsearch.environment import raise_installation_fault
from bindsearch.errors import MediaError
from bindsearch.ingest.archives.samples import Skipped, delete_copy, read_members
from bindsearch.ingest.inspect.folder_settings import hash_text
from bindsearch.ingest.inspect.inspect_file import SourceFile
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.ingest.scan.default_ignores import is_in_default
from bindsearch.ingest.scan.listed_files import Declarations
from bindsearch.ingest.scan.target import IndexOptions
from bindsearch.ingest.workers.prepare import Failed, failure_of
from bindsearch.storage.file_state import FileState, IndexedFiles

SPOOLED_BYTES = 1 << 30
"""Maximum bytes of extracted members that wait; a larger member is processed alone."""


@dataclass(eq=False)
class Archive:
    """An archive that is being indexed.

    Attributes:
        rel_path: its path inside the collection.
        state: its size and times.
        missing_rows: rows of known members that were not found so far.
        skipped: members that cannot be indexed, with reasons.
        notes: what was inferred about it, such as the code page of its names.
        error: why it was not read to its end; None: it was.
        is_transient: the error, or the failure of a member, is due to the machine: the archive is read again later.
        in_flight: members that are being processed.
        read: all members were read.
    """

    rel_path: str
    state: FileState
    missing_rows: set[int]
    skipped: list[Skipped] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    error: str | None = None
    is_transient: bool = False
    in_flight: int = 0
    read: bool = False

    def note(self, text: str) -> None:
        """Add a note; of a kind on each of its members, only the first one."""
        if not any(text.partition(":")[0] == known.partition(":")[0] for known in self.notes):
            self.notes[text] = None


class Members:
    """Members of the archives of one scan. `files` runs in other threads than the other methods."""

    def __init__(
        self, root: Path, known: IndexedFiles, options: IndexOptions, declarations: Declarations, spool: Path
    ) -> None:
        """Extract members into `spool`, an empty folder that the caller removes."""
        self._root, self._known, self._options, self._declarations = root, known, options, declarations
        self._spool = spool
        self._lock = threading.Lock()
        self._archives: dict[str, Archive] = {}
        self._spooled_bytes = 0
        self.found = 0
        """Number of members found so far."""

    def has_room(self) -> bool:
        """Return whether more members may be extracted."""
        return self._spooled_bytes < SPOOLED_BYTES

    def files(self, archives: Sequence[tuple[str, FileState]]) -> Iterator[SourceFile | None]:
        """Yield all members of these archives; None if those yielded should be processed before more are requested."""
        for rel_path, state in archives:
            includes, below = self._options.narrowing.includes, self._known.rows_below(rel_path)
            archive = Archive(rel_path, state, {row for row in below if includes(self._known.rel_path(row))})
            self._archives[rel_path] = archive
            try:
                yield from self._members(archive)
            except MediaError as error:
                archive.error = str(error)
            except OSError as error:
                archive.error, archive.is_transient = error.strerror or str(error), True
            except Exception as error:  # one archive must not end the run
                raise_installation_fault(error)
                archive.error = failure_of(error).reason
            with self._lock:
                archive.read = True

    def _members(self, archive: Archive) -> Iterator[SourceFile | None]:
        """Yield the members of one archive."""
        members = read_members(
            self._root / archive.rel_path,
            self._options.archives,
            Path(mkdtemp(dir=self._spool)),  # copies are numbered from 0 in each archive
            wanted=lambda name: self._wants(archive, name),
            encoding=self._declarations.zip_encoding(archive.rel_path),
            note=archive.note,
        )
        for member in members:
            rel_path = f"{archive.rel_path}/{member.name}"
            archive.missing_rows.difference_update(self._known.rows_of([rel_path]).tolist())
            if isinstance(member, Skipped):
                archive.skipped.append(member)
                continue
            with self._lock:
                archive.in_flight += 1
                self._spooled_bytes += member.size_bytes
                self.found += 1
            sidecar_version = 0 if member.sidecar is None else hash_text(repr(member.sidecar))
            sidecar_version ^= self._declarations.stamp(rel_path)
            state = FileState(member.size_bytes, member.mtime_ns, sidecar_version)
            sidecar, listed = member.sidecar or Sidecar(), self._declarations.listed.get(rel_path)
            yield SourceFile(member.path, rel_path, state, sidecar, listed, archive.rel_path, member.subtitles)
            if not self.has_room():
                yield None

    def _wants(self, archive: Archive, name: str) -> bool:
        """Return whether a member of an archive is extracted."""
        is_ignored = self._options.settings.default_ignore and is_in_default(name)
        return not is_ignored and self._options.narrowing.includes(f"{archive.rel_path}/{name}")

    def finished(self, file: SourceFile, failure: Failed | None) -> None:
        """Record that a file is processed; if it is a member, its copy is deleted."""
        if file.archive is None:
            return
        size = 0
        with suppress(OSError):
            size = file.path.stat().st_size
            delete_copy(file.path)
        with self._lock:
            self._spooled_bytes -= size
            archive = self._archives[file.archive]
            archive.in_flight -= 1
            archive.is_transient |= failure is not None and failure.is_transient

    def settled(self) -> list[Archive]:
        """Return archives that were read and whose members are all processed; each is returned once."""
        with self._lock:
            done = [archive for archive in self._archives.values() if archive.read and not archive.in_flight]
            for archive in done:
                del self._archives[archive.rel_path]
        return done
